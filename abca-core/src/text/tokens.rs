//! How long a text is: in UTF-16 units, as the limits count it, and in tokens, as prompts are budgeted.

/// UTF-16 code units per token in an estimate (`behaviour.md` 0.3).
const UNITS_PER_TOKEN: usize = 4;

/// The length in UTF-16 code units: the unit of every limit that the reference states in characters.
pub fn utf16_len(text: &str) -> usize {
    text.encode_utf16().count()
}

/// The estimated number of tokens: UTF-16 units by four, rounded up. Saturates.
///
/// Good for budgets that the reference defines; a provider's own count, where one is to be had, is what money is
/// reserved by.
pub fn estimate(text: &str) -> u32 {
    u32::try_from(utf16_len(text).div_ceil(UNITS_PER_TOKEN)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_utf16_and_estimates_round_up() {
        assert_eq!((utf16_len("é"), utf16_len("日本"), utf16_len("👀")), (1, 2, 2));
        assert_eq!([0, 1, 4, 5].map(|n| estimate(&"x".repeat(n))), [0, 1, 1, 2]);
        assert_eq!(estimate("👀👀a"), 2);
    }
}
