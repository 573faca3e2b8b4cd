//! The machine's clock and random numbers, as the core's seams [`Clock`] and [`IdSource`].

use std::time::{SystemTime, UNIX_EPOCH};

use abca_core::{Clock, IdSource, Timestamp};

/// The system's wall clock, in whole milliseconds. A clock before 1970 reads as 1970.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

/// Randomness of the operating system.
#[derive(Debug, Default, Clone, Copy)]
pub struct OsRandom;

impl IdSource for OsRandom {
    /// # Panics
    /// When the operating system has no randomness to give: nothing that needs ids can go on then.
    fn random(&self) -> u128 {
        let mut bytes = [0u8; 16];
        getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
        u128::from_le_bytes(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_tells_this_century_and_ids_differ() {
        assert!(SystemClock.now() > Timestamp::from_millis(1_700_000_000_000));
        assert_ne!(OsRandom.random(), OsRandom.random());
    }
}
