//! Characters that nobody sees, written out.

use std::borrow::Cow;

use super::sanitize::invisible_ranges;

/// The text with what a reader does not see and a model reads written as escapes, and how many characters that were: codes for
/// terminals, marks of direction, zero-width characters, tags, variation selectors that carry bytes. What writing needs stays: tabs,
/// line ends, a byte-order mark at the beginning, a single joiner or mark after a letter that is not ASCII or an emoji.
///
/// Where [`super::sanitize`] cuts, this shows: for text that must not lose anything, such as a file's. Shown again, it stays as it is.
///
/// ```
/// use abca_core::text::reveal;
///
/// let (shown, hidden) = reveal("if admin {\u{202e} // }");
/// assert_eq!((shown.as_ref(), hidden), (r"if admin {\u{202e} // }", 1));
/// assert_eq!(reveal("👩\u{200d}💻 می\u{200c}خواهم").1, 0);
/// ```
pub fn reveal(text: &str) -> (Cow<'_, str>, usize) {
    let mut out = String::new();
    let (mut from, mut count) = (0usize, 0usize);
    for range in invisible_ranges(text) {
        let part = text.get(range.clone()).unwrap_or_default();
        let before = text.get(..range.start).and_then(|before| before.chars().next_back());
        if is_needed(before, part) {
            continue;
        }
        out.push_str(text.get(from..range.start).unwrap_or_default());
        part.chars().for_each(|c| out.extend(c.escape_default()));
        count = count.saturating_add(part.chars().filter(|c| !matches!(c, ' '..='~')).count());
        from = range.end;
    }
    if count == 0 {
        return (Cow::Borrowed(text), 0);
    }
    out.push_str(text.get(from..).unwrap_or_default());
    (Cow::Owned(out), count)
}

fn is_needed(before: Option<char>, part: &str) -> bool {
    let mut chars = part.chars();
    match (before, chars.next(), chars.next()) {
        (None, Some('\u{feff}'), None) => true,
        (Some(before), Some('\u{200c}'..='\u{200f}'), None) => !before.is_ascii(),
        (None | Some(_), _, _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hides_is_shown_and_what_writing_needs_stays() {
        for (text, shown) in [
            ("a\u{1b}[2Jb", "a\\u{1b}[2Jb"),
            ("x\u{e0049}\u{e0067}", "x\\u{e0049}\\u{e0067}"),
            ("a\u{200b}b\u{2066}c", "a\\u{200b}b\\u{2066}c"),
            ("bell\u{7}\0", "bell\\u{7}\\u{0}"),
            ("a\u{200d}b", "a\\u{200d}b"),
            ("é\u{200d}\u{200d}", "é\\u{200d}\\u{200d}"),
        ] {
            assert_eq!(reveal(text).0, shown);
            assert_eq!(reveal(shown).1, 0, "shown again");
        }
        for text in
            ["", "\tlet x = \"é\";\r\n", "\u{feff}using System;", "❤\u{fe0f} 1\u{fe0f}⃣ 👩\u{200d}💻", "שלום\u{200f}!"]
        {
            assert_eq!(reveal(text), (Cow::Borrowed(text), 0));
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_that_is_seen_is_changed(text in "[ -~\\n\u{1b}\u{200b}-\u{200f}\u{202a}-\u{202e}\u{e0020}-\u{e0030}é]{0,60}") {
            let (shown, count) = reveal(&text);
            let again = reveal(&shown).1;
            proptest::prop_assert_eq!(again, 0);
            if count == 0 {
                proptest::prop_assert_eq!(shown.as_ref(), text.as_str());
            }
        }
    }
}
