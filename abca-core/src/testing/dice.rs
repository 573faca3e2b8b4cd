//! Randomness of a test: everything from one seed.

use super::SeededIds;

/// Draws from a seed. The same seed and the same questions give the same answers, on every machine.
#[derive(Debug)]
pub struct Dice {
    seed: u64,
    bits: SeededIds,
}

impl Dice {
    /// Dice that begin at `seed`.
    pub const fn new(seed: u64) -> Self {
        Self { seed, bits: SeededIds::new(seed) }
    }

    /// Dice of their own for one part of the test: a function of this seed and the name, whatever was drawn so far. So one
    /// part can draw more or less without changing what the others see.
    pub fn fork(&self, name: &str) -> Self {
        Self::new(
            name.bytes().fold(self.seed ^ FNV_OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME)),
        )
    }

    /// 64 bits.
    pub fn bits(&self) -> u64 {
        self.bits.next_u64()
    }

    /// A number below `end`; 0 when `end` is 0.
    pub fn below(&self, end: u64) -> u64 {
        // The bias is below 2^-32 for every `end` that a test uses.
        if end == 0 { 0 } else { self.bits() % end }
    }

    /// A number from `first` to `last`, both included.
    pub fn between(&self, first: u64, last: u64) -> u64 {
        first + self.below(last.saturating_sub(first).saturating_add(1))
    }

    /// Yes in so many of a thousand cases.
    pub fn chance(&self, per_mille: u64) -> bool {
        self.below(1_000) < per_mille
    }

    /// One of these.
    ///
    /// # Panics
    /// When there is none.
    pub fn pick<'a, T>(&self, of: &'a [T]) -> &'a T {
        &of[usize::try_from(self.below(of.len() as u64)).expect("an index fits")]
    }

    /// One of these, each as often as its weight says.
    ///
    /// # Panics
    /// When there is none, or all weights are 0.
    pub fn weighted<'a, T>(&self, of: &'a [(u64, T)]) -> &'a T {
        let mut at = self.below(of.iter().map(|(weight, _)| weight).sum());
        for (weight, value) in of {
            match at.checked_sub(*weight) {
                None => return value,
                Some(rest) => at = rest,
            }
        }
        panic!("nothing to choose from")
    }
}

pub(super) const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
pub(super) const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_disturb_each_other() {
        let (a, b) = (Dice::new(7), Dice::new(7));
        a.bits();
        assert_eq!(a.fork("store").bits(), b.fork("store").bits());
        assert_ne!(b.fork("store").bits(), b.fork("compute").bits());
    }

    #[test]
    fn draws_stay_within_their_bounds() {
        let dice = Dice::new(1);
        assert!((0..1_000).all(|_| (3..=5).contains(&dice.between(3, 5))));
        assert!((0..1_000).all(|_| *dice.weighted(&[(0, 'a'), (1, 'b'), (3, 'c')]) != 'a'));
        assert_eq!((dice.below(0), dice.chance(0), dice.chance(1_000)), (0, false, true));
    }
}
