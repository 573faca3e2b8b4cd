//! Time and randomness under the test's control.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::time::{Clock, IdSource, Millis, Timestamp};

/// A clock that stands still until the test moves it. Share it by `Arc`.
#[derive(Debug)]
pub struct VirtualClock(AtomicI64);

impl VirtualClock {
    /// A moment to begin at: 2023-11-14T22:13:20Z.
    pub const EPOCH: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    /// A clock that shows `start`.
    pub const fn starting_at(start: Timestamp) -> Self {
        Self(AtomicI64::new(start.as_millis()))
    }

    /// A clock that shows [`Self::EPOCH`].
    pub const fn new() -> Self {
        Self::starting_at(Self::EPOCH)
    }

    /// Moves on by `by`, saturating; answers the new time.
    pub fn advance(&self, by: Millis) -> Timestamp {
        let ms = i64::try_from(by.0).unwrap_or(i64::MAX);
        let step = |now: i64| Some(now.saturating_add(ms));
        let before = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, step).unwrap_or_else(|now| now);
        Timestamp::from_millis(before.saturating_add(ms))
    }

    /// Shows `now` from here on; backwards too, as real clocks do.
    pub fn set(&self, now: Timestamp) {
        self.0.store(now.as_millis(), Ordering::SeqCst);
    }
}

impl Default for VirtualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}

/// Ids from a seed: the same seed gives the same sequence (SplitMix64, two draws an id). Share it by `Arc`.
#[derive(Debug)]
pub struct SeededIds(AtomicU64);

impl SeededIds {
    /// A source that begins at `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// 64 bits.
    pub fn next_u64(&self) -> u64 {
        const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;
        let mut z = self.0.fetch_add(GAMMA, Ordering::SeqCst).wrapping_add(GAMMA);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

impl IdSource for SeededIds {
    fn random(&self) -> u128 {
        (u128::from(self.next_u64()) << 64) | u128::from(self.next_u64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_moves_only_when_told() {
        let clock = VirtualClock::new();
        assert_eq!(clock.now(), VirtualClock::EPOCH);
        assert_eq!(clock.advance(Millis::secs(2)), VirtualClock::EPOCH.after(Millis::secs(2)));
        assert_eq!(clock.now(), VirtualClock::EPOCH.after(Millis::secs(2)));
        clock.set(VirtualClock::EPOCH);
        assert_eq!(clock.now(), VirtualClock::EPOCH);
    }

    #[test]
    fn a_seed_is_a_sequence() {
        let draw = |seed| {
            let ids = SeededIds::new(seed);
            [ids.random(), ids.random(), ids.random()]
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        // The reference implementation of SplitMix64 gives these from seed 1234567.
        let ids = SeededIds::new(1_234_567);
        assert_eq!([ids.next_u64(), ids.next_u64()], [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
    }
}
