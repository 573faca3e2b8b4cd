//! Time as data: timestamps and durations in milliseconds, and the seams for clock and ids.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A moment: milliseconds since the Unix epoch inside, RFC 3339 UTC with milliseconds on the wire.
#[derive(Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From milliseconds since the Unix epoch.
    pub const fn from_millis(ms: i64) -> Self {
        Self(ms)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// The moment `d` later, saturating.
    #[must_use]
    pub fn after(self, d: Millis) -> Self {
        Self(self.0.saturating_add(i64::try_from(d.0).unwrap_or(i64::MAX)))
    }

    /// How long after `earlier` this is; zero when it is not after it.
    pub fn since(self, earlier: Self) -> Millis {
        Millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(t) => write!(f, "{t:.3}"),
            Err(_) => write!(f, "{}ms", self.0),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for Timestamp {
    type Err = jiff::Error;

    /// Accepts RFC 3339 with any precision; keeps milliseconds.
    fn from_str(s: &str) -> Result<Self, jiff::Error> {
        s.parse::<jiff::Timestamp>().map(|t| Self(t.as_millisecond()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A duration in milliseconds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl Millis {
    /// A duration of whole seconds.
    pub const fn secs(s: u64) -> Self {
        Self(s.saturating_mul(1000))
    }

    /// The same duration for `std`.
    pub const fn to_std(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0)
    }
}

impl fmt::Display for Millis {
    /// For people: `850 ms`, `12.3 s`, `4 m 05 s`, `2 h 07 m`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0;
        let s = ms / 1000;
        match ms {
            0..=999 => write!(f, "{ms} ms"),
            1000..=59_999 => write!(f, "{s}.{} s", ms % 1000 / 100),
            60_000..=3_599_999 => write!(f, "{} m {:02} s", s / 60, s % 60),
            _ => write!(f, "{} h {:02} m", s / 3600, s / 60 % 60),
        }
    }
}

/// Where drivers take the time from. The core never calls it.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The present moment.
    fn now(&self) -> Timestamp;
}

/// Where drivers take randomness for ids and jitter from. The core never calls it.
pub trait IdSource: fmt::Debug + Send + Sync + 'static {
    /// 128 fresh random bits.
    fn random(&self) -> u128;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wire_form_is_rfc3339_with_milliseconds() {
        let t = Timestamp::from_millis(1_700_000_000_120);
        assert_eq!(t.to_string(), "2023-11-14T22:13:20.120Z");
        assert_eq!("2023-11-14T22:13:20Z".parse::<Timestamp>().unwrap(), Timestamp::from_millis(1_700_000_000_000));
        assert_eq!(serde_json::from_str::<Timestamp>("\"2023-11-14T22:13:20.120Z\"").unwrap(), t);
    }

    #[test]
    fn durations_read_well() {
        let all: Vec<String> = [850, 12_345, 245_000, 7_620_000].into_iter().map(|ms| Millis(ms).to_string()).collect();
        assert_eq!(all, ["850 ms", "12.3 s", "4 m 05 s", "2 h 07 m"]);
    }
}
