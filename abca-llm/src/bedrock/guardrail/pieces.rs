//! Where a text is cut, in bytes between characters.

/// The end of a piece of at most so many characters.
pub(super) fn end(text: &str, from: usize, chars: usize) -> usize {
    text[from..].char_indices().nth(chars).map_or(text.len(), |(at, _)| from + at)
}

/// So many characters before a place.
pub(super) fn back(text: &str, from: usize, chars: usize) -> usize {
    match chars.checked_sub(1) {
        None => from,
        Some(nth) => text[..from].char_indices().rev().nth(nth).map_or(0, |(at, _)| at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_never_cut() {
        let text = "é🧪aé";
        assert_eq!([0, 1, 2, 3, 4, 9].map(|chars| end(text, 0, chars)), [0, 2, 6, 7, 9, 9]);
        assert_eq!([0, 1, 2, 3, 4, 9].map(|chars| back(text, 9, chars)), [9, 7, 6, 2, 0, 0]);
    }
}
