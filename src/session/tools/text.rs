//! Text for models: clipped, printable, honest about what is left out.

use std::fmt::Write;
use std::path::Path;

/// In backticks, on one line, cut after `max` characters.
pub(super) fn quoted(s: &str, max: usize) -> String {
    let mut out = String::from("`");
    for (i, c) in s.chars().enumerate() {
        if i == max {
            out.push('…');
            break;
        }
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out.push('`');
    out
}

/// A path as it can be shown and, when it has control characters or is not UTF-8, typed into bash: `$'a\nb\xff'`.
pub(super) fn path(p: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    let bytes = p.as_os_str().as_bytes();
    if let Ok(s) = std::str::from_utf8(bytes)
        && !s.chars().any(char::is_control)
    {
        return s.to_owned();
    }
    let mut out = String::from("$'");
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\'' | '\\' => out.extend(['\\', c]),
                c if c.is_control() => {
                    let _ = write!(out, "\\u{:04x}", u32::from(c));
                }
                c => out.push(c),
            }
        }
        for b in chunk.invalid() {
            let _ = write!(out, "\\x{b:02x}");
        }
    }
    out.push('\'');
    out
}

/// At most `max` characters: both ends, and in the middle what was left out.
pub(super) fn clip(s: String, max: usize) -> String {
    if s.len() <= max {
        return s;
    }
    let total = s.chars().count();
    if total <= max {
        return s;
    }
    let room = max.saturating_sub(MARKER_CHARS);
    let (head, tail) = (room / 2, room - room / 2);
    let at = |n: usize| s.char_indices().nth(n).map_or(s.len(), |(i, _)| i);
    let (from, to) = (at(head), at(total - tail));
    format!("{}\n[... {} of {total} characters left out ...]\n{}", &s[..from], total - room, &s[to..])
}

/// Room for the marker of [`clip`], numbers included.
const MARKER_CHARS: usize = 100;

/// A program's output: terminal escape sequences are dropped, other control characters shown, line ends kept.
pub(super) fn printable(s: &str) -> String {
    let mut out = String::with_capacity(s.len());
    let mut chars = s.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\n' | '\t' => out.push(c),
            '\r' => {
                if chars.peek() != Some(&'\n') {
                    // A progress bar starts over.
                    out.push('\n');
                }
            }
            '\x1b' => match chars.peek() {
                Some('[') => {
                    chars.next();
                    while chars.next_if(|c| matches!(c, ' '..='?')).is_some() {}
                    chars.next_if(|c| matches!(c, '@'..='~'));
                }
                Some(']') => {
                    // Ends with BEL or with ESC backslash, and never spans lines.
                    while let Some(c) = chars.next_if(|c| *c != '\n') {
                        if c == '\x07' || (c == '\x1b' && chars.next_if_eq(&'\\').is_some()) {
                            break;
                        }
                    }
                }
                _ => out.push_str("\\x1b"),
            },
            c if c.is_control() => {
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

/// A size for people.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn names_that_cannot_be_shown_become_what_bash_can_read() {
        assert_eq!(path(Path::new("a b/ü.rs")), "a b/ü.rs");
        assert_eq!(path(Path::new(OsStr::from_bytes(b"a\nb'\xff"))), r"$'a\nb\'\xff'");
    }

    #[test]
    fn a_long_text_keeps_both_ends_and_says_what_is_gone() {
        let s: String = "ab".repeat(500) + "ü";
        let got = clip(s.clone(), 300);
        assert_eq!(got, format!("{}\n[... 801 of 1001 characters left out ...]\n{}ü", "ab".repeat(50), &s[901..1000]));
        assert!(got.chars().count() <= 300);
        assert_eq!(clip(s.clone(), 1001), s);
    }

    #[test]
    fn colours_go_and_control_characters_show() {
        let s = "\x1b[1;31mred\x1b[0m \x1b]0;title\x07a\0b\r\n50%\r100%\x1b";
        assert_eq!(printable(s), "red a\\x00b\n50%\n100%\\x1b");
    }
}
