//! Money as an integer of micro-dollars; never a float.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An amount in millionths of a US dollar.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MicroUsd(pub u64);

impl MicroUsd {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// A whole number of cents.
    pub const fn cents(cents: u64) -> Self {
        Self(cents.saturating_mul(10_000))
    }

    /// Sum, saturating.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// Difference; zero when `other` is larger.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for MicroUsd {
    /// Dollars with four decimals, rounded up so that a cost never reads as free: `$0.0123`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ten_thousandths = self.0.div_ceil(100);
        write!(f, "${}.{:04}", ten_thousandths / 10_000, ten_thousandths % 10_000)
    }
}

/// Text is not an amount of dollars.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an amount in dollars: write digits with at most six decimals, e.g. `3` or `2.50`")]
pub struct InvalidAmount(String);

impl FromStr for MicroUsd {
    type Err = InvalidAmount;

    /// Reads decimal dollars exactly, with an optional leading `$`.
    fn from_str(s: &str) -> Result<Self, InvalidAmount> {
        let bad = || InvalidAmount(s.chars().take(32).collect());
        let text = s.trim();
        let text = text.strip_prefix('$').unwrap_or(text);
        let (whole, frac) = text.split_once('.').unwrap_or((text, ""));
        let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() && frac.is_empty() || !digits(whole) || !digits(frac) || frac.len() > 6 {
            return Err(bad());
        }
        let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| bad())? };
        let micro: u64 = format!("{frac:0<6}").parse().map_err(|_| bad())?;
        whole.checked_mul(1_000_000).and_then(|w| w.checked_add(micro)).map(Self).ok_or_else(bad)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_are_read_exactly_and_printed_rounded_up() {
        assert_eq!("3.00".parse(), Ok(MicroUsd(3_000_000)));
        assert_eq!("$0.000001".parse(), Ok(MicroUsd(1)));
        assert_eq!(".5".parse(), Ok(MicroUsd(500_000)));
        assert_eq!(MicroUsd(1).to_string(), "$0.0001");
        assert_eq!(MicroUsd(12_345_600).to_string(), "$12.3456");
        for bad in ["", ".", "1.0000001", "-1", "1e3", "99999999999999999999", "nan"] {
            assert!(bad.parse::<MicroUsd>().is_err(), "{bad}");
        }
    }
}
