//! Characters that nobody sees but a model reads.

use std::borrow::Cow;

/// The text without them. Tab, line feed and carriage return stay.
pub(super) fn strip(text: &str) -> Cow<'_, str> {
    let mut before = '\n';
    let is_clean = text.chars().all(|c| {
        let stays = stays(before, c);
        before = c;
        stays
    });
    if is_clean {
        return Cow::Borrowed(text);
    }
    let mut before = '\n';
    let kept = text.chars().filter(|&c| {
        let stays = stays(before, c);
        if stays {
            before = c;
        }
        stays
    });
    Cow::Owned(kept.collect())
}

fn stays(before: char, c: char) -> bool {
    match c {
        '\t' | '\n' | '\r' | ' '..='~' => true,
        // The look of an emoji or a number on a key; anywhere else, and several in a row, they carry hidden bytes.
        '\u{fe00}'..='\u{fe0f}' => !before.is_ascii_alphabetic() && !before.is_whitespace() && !is_selector(before),
        c => !is_hidden(c),
    }
}

fn is_selector(c: char) -> bool {
    matches!(c, '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}')
}

/// Control characters, and what Unicode lets a renderer leave out: marks of direction, zero-width characters, fillers,
/// byte-order marks, annotation marks, tags, and the second block of variation selectors.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{34f}'
                | '\u{61c}'
                | '\u{115f}'
                | '\u{1160}'
                | '\u{17b4}'
                | '\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}'
                | '\u{202a}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{3164}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}'
                | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}
