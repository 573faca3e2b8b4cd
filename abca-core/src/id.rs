//! Identifiers: ULIDs for what the platform mints, checked strings for what others name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use ulid::Ulid;

use crate::time::Timestamp;

/// A string is not the identifier it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is not a {what}: {expected}")]
pub struct InvalidId {
    /// The kind of identifier that was expected, e.g. `task id`.
    pub what: &'static str,
    /// The rejected text, cut to 64 characters.
    pub value: String,
    /// The shape that is accepted.
    pub expected: &'static str,
}

impl InvalidId {
    fn new(what: &'static str, value: &str, expected: &'static str) -> Self {
        Self { what, value: value.chars().take(64).collect(), expected }
    }
}

macro_rules! ulid_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Ulid);

        impl $name {
            /// Mints an id from a time and 80 bits of randomness that the caller supplies.
            pub fn from_parts(now: Timestamp, random: u128) -> Self {
                Self(Ulid::from_parts(u64::try_from(now.as_millis()).unwrap_or(0), random))
            }

            /// The time that the id was minted with.
            pub fn minted_at(&self) -> Timestamp {
                Timestamp::from_millis(i64::try_from(self.0.timestamp_ms()).unwrap_or(i64::MAX))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut buf = [0u8; ulid::ULID_LEN];
                f.write_str(self.0.array_to_str(&mut buf))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(s: &str) -> Result<Self, InvalidId> {
                Ulid::from_string(s)
                    .map(Self)
                    .map_err(|_| InvalidId::new($what, s, "a ULID, 26 characters of Crockford base32"))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

ulid_id!(
    /// Names one task for ever.
    TaskId,
    "task id"
);
ulid_id!(
    /// Names one worker process for its life; a restarted worker is another incarnation.
    WorkerId,
    "worker id"
);

macro_rules! string_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:literal, $ok:expr, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Checks the text and wraps it.
            ///
            /// # Errors
            /// [`InvalidId`] when the text has another shape.
            pub fn new(text: impl Into<String>) -> Result<Self, InvalidId> {
                let text = text.into();
                let ok: fn(char) -> bool = $ok;
                if text.is_empty() || text.len() > $max || !text.chars().all(ok) {
                    return Err(InvalidId::new($what, &text, $expected));
                }
                Ok(Self(text))
            }

            /// The identifier's text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(s: &str) -> Result<Self, InvalidId> {
                Self::new(s)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = String::deserialize(d)?;
                Self::new(text).map_err(serde::de::Error::custom)
            }
        }
    };
}

string_id!(
    /// Who submitted: the identity provider's subject, or the local user's name.
    UserId,
    "user id",
    256,
    |c| !c.is_control(),
    "1 to 256 bytes, no control characters"
);
string_id!(
    /// A caller's idempotency key, unique per user: `^[A-Za-z0-9_-]{1,128}$`.
    IdempotencyKey,
    "idempotency key",
    128,
    |c| c.is_ascii_alphanumeric() || c == '_' || c == '-',
    "1 to 128 of A-Z a-z 0-9 _ -"
);
string_id!(
    /// A session of one attempt at a task. A function of both, so that whoever repeats a start names the same session.
    SessionId,
    "session id",
    64,
    |c| c.is_ascii_alphanumeric() || c == '-',
    "1 to 64 of A-Z a-z 0-9 -"
);
string_id!(
    /// De-duplicates a signal within its task's inbox.
    SignalId,
    "signal id",
    128,
    |c| c.is_ascii_graphic(),
    "1 to 128 visible ASCII characters"
);
string_id!(
    /// Names an effect for ever: a function of task, attempt and step, so that a zombie repeats the same effect.
    EffectKey,
    "effect key",
    160,
    |c| c.is_ascii_graphic(),
    "1 to 160 visible ASCII characters"
);

impl SessionId {
    /// The session of an attempt (counted from 1) at a task.
    pub fn of(task: TaskId, attempt: u32) -> Self {
        Self(format!("{task}-{attempt}"))
    }
}

impl EffectKey {
    /// The key of a step of an attempt at a task.
    pub fn of(task: TaskId, attempt: u32, step: &str) -> Self {
        Self(format!("{task}/{attempt}/{step}"))
    }
}

/// Position of an event within its task, from 1, without gaps.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventSeq(pub u64);

impl EventSeq {
    /// Before the first event.
    pub const ZERO: Self = Self(0);

    /// The position after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for EventSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_the_wire_and_reject_other_text() {
        let id = TaskId::from_parts(Timestamp::from_millis(1_700_000_000_000), 42);
        let wire = serde_json::to_string(&id).unwrap();
        assert_eq!(wire.len(), 28);
        assert_eq!(serde_json::from_str::<TaskId>(&wire).unwrap(), id);
        assert_eq!(id.minted_at(), Timestamp::from_millis(1_700_000_000_000));
        assert_eq!(
            "nope".parse::<TaskId>().unwrap_err().to_string(),
            "`nope` is not a task id: a ULID, 26 characters of Crockford base32"
        );
        assert!(IdempotencyKey::new("a b").is_err());
        assert!(IdempotencyKey::new("x".repeat(129)).is_err());
    }

    #[test]
    fn a_session_is_named_by_task_and_attempt() {
        let id = TaskId::from_parts(Timestamp::from_millis(0), 7);
        assert_eq!(SessionId::of(id, 2), SessionId::new(format!("{id}-2")).unwrap());
        assert_ne!(SessionId::of(id, 1), SessionId::of(id, 2));
    }
}
