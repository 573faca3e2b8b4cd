//! Characters that nobody sees but a model reads, and codes for terminals.

use super::Edit;
use super::trace::ChangeKind;

/// Longest code for a terminal.
const CODE_BYTES: usize = 256;

/// What to cut, in order. Tab, line feed and carriage return stay.
pub(super) fn edits(text: &str) -> Vec<Edit> {
    let mut edits: Vec<Edit> = Vec::new();
    let bytes = text.as_bytes();
    let mut at = 0usize;
    // Most of most texts is plain: it is passed over in blocks.
    while let Some(next) = next_odd(bytes, at) {
        let Some(c) = text.get(next..).and_then(|rest| rest.chars().next()) else { break };
        let len = if c == '\u{1b}' { code(bytes.get(next..).unwrap_or_default()) } else { c.len_utf8() };
        at = next.saturating_add(len);
        let last_cut = edits.last().map_or(0, |e| e.range.end);
        let before = || {
            let kept = match edits.last() {
                Some(cut) if cut.range.end == next => text.get(..cut.range.start),
                Some(_) | None => text.get(..next),
            };
            kept.and_then(|kept| kept.chars().next_back()).unwrap_or('\n')
        };
        if stays(before, c) {
            continue;
        }
        match edits.last_mut().filter(|_| last_cut == next && next > 0) {
            Some(cut) => cut.range.end = at,
            None => edits.push(Edit { range: next..at, with: "", kind: Some(ChangeKind::Invisible) }),
        }
    }
    edits
}

/// The next byte that is neither plain ASCII nor white space.
fn next_odd(bytes: &[u8], from: usize) -> Option<usize> {
    const BLOCK: usize = 64;
    let is_odd = |b: &u8| !(matches!(b, b' '..=b'~' | b'\t' | b'\n' | b'\r'));
    let mut at = from;
    for block in bytes.get(from..)?.chunks(BLOCK) {
        // Without a branch for each byte.
        if block.iter().fold(false, |odd, b| odd | is_odd(b)) {
            return block.iter().position(is_odd).map(|n| at.saturating_add(n));
        }
        at = at.saturating_add(block.len());
    }
    None
}

/// The length of a code for a terminal: `ESC [ … letter`, `ESC ] … BEL`, `ESC ( B`; else of the escape alone.
fn code(bytes: &[u8]) -> usize {
    let part = bytes.get(..CODE_BYTES).unwrap_or(bytes);
    let rest = part.get(2..).unwrap_or_default();
    let end = match part.get(1) {
        Some(b'[') => {
            let is_parameter = |b: &u8| matches!(b, b' '..=b'?');
            let last = rest.iter().position(|b| !is_parameter(b));
            last.filter(|at| rest.get(*at).is_some_and(|b| matches!(b, b'@'..=b'~')))
        }
        Some(b']' | b'P' | b'_' | b'^') => {
            let last = rest.iter().position(|b| matches!(b, 7 | 0x1b | b'\n'));
            match last.and_then(|at| rest.get(at)) {
                Some(7) => last,
                Some(0x1b) if last.and_then(|at| rest.get(at.saturating_add(1))) == Some(&b'\\') => {
                    last.map(|at| at.saturating_add(1))
                }
                Some(_) | None => None,
            }
        }
        Some(b'(' | b')') => rest.first().filter(|b| b.is_ascii_alphanumeric()).map(|_| 0),
        Some(_) | None => None,
    };
    end.map_or(1, |end| end.saturating_add(3))
}

fn stays(before: impl Fn() -> char, c: char) -> bool {
    match c {
        '\t' | '\n' | '\r' | ' '..='~' => true,
        // The look of an emoji or a number on a key; anywhere else, and several in a row, they carry hidden bytes.
        '\u{fe00}'..='\u{fe0f}' => {
            let before = before();
            !before.is_ascii_alphabetic() && !before.is_whitespace() && !is_selector(before)
        }
        c => !is_hidden(c),
    }
}

fn is_selector(c: char) -> bool {
    matches!(c, '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}')
}

/// Control characters, and what Unicode lets a renderer leave out: marks of direction, zero-width characters, fillers,
/// byte-order marks, annotation marks, tags, and the second block of variation selectors.
pub(super) fn is_hidden(c: char) -> bool {
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
