//! Cutting texts to a length, at character boundaries, and saying so.
//!
//! Lengths are in characters (Unicode scalar values). Every answer, with the note of what was left out, is at most as
//! long as asked for. Where there is no room for a note the text is cut without one.

/// Keeps the beginning.
pub fn clip_head(text: &str, chars: usize) -> String {
    clip(text, chars, Keep::Head)
}

/// Keeps the end, which is where programs say why they failed.
pub fn clip_tail(text: &str, chars: usize) -> String {
    clip(text, chars, Keep::Tail)
}

/// Keeps beginning and end.
pub fn clip_middle(text: &str, chars: usize) -> String {
    clip(text, chars, Keep::Both)
}

/// One line of at most `chars` characters for logs, events and tables.
///
/// Control characters, and those that are invisible or turn the direction of writing, are shown as escapes (`\n`,
/// `\u{202e}`), never passed on, so that no text can take over a terminal or hide in a log. What is cut ends in `…`.
pub fn preview(text: &str, chars: usize) -> String {
    let mut out = String::new();
    let mut len = 0usize;
    // Where the text may end so that `…` still fits.
    let mut cut = 0usize;
    for c in text.trim().chars() {
        let escaped = is_hidden(c).then(|| shown(c));
        let width = escaped.as_ref().map_or(1, String::len);
        len = len.saturating_add(width);
        if len > chars {
            out.truncate(cut);
            if chars > 0 {
                out.push('…');
            }
            return out;
        }
        match escaped {
            Some(escaped) => out.push_str(&escaped),
            None => out.push(c),
        }
        if len < chars {
            cut = out.len();
        }
    }
    out
}

#[derive(Clone, Copy)]
enum Keep {
    Head,
    Tail,
    Both,
}

fn clip(text: &str, chars: usize, keep: Keep) -> String {
    // Every character has at least one byte: most texts are short, and need no count.
    if text.len() <= chars {
        return text.to_owned();
    }
    let total = text.chars().count();
    if total <= chars {
        return text.to_owned();
    }
    // The note for the whole text is the longest that can be needed; two more for the line breaks around it.
    let reserve = note(total, lines(text)).chars().count().saturating_add(2);
    let (room, noted) = match chars.checked_sub(reserve) {
        Some(room) if room > 0 => (room, true),
        Some(_) | None => (chars, false),
    };
    let (head, tail) = match keep {
        Keep::Head => (room, 0),
        Keep::Tail => (0, room),
        Keep::Both => (room.div_ceil(2), room / 2),
    };
    let (kept, rest) = text.split_at_checked(offset(text, head)).unwrap_or((text, ""));
    let end = offset(text, total.saturating_sub(tail)).saturating_sub(kept.len());
    let (left_out, end) = rest.split_at_checked(end).unwrap_or((rest, ""));
    let mut out = String::with_capacity(kept.len().saturating_add(end.len()).saturating_add(reserve));
    out.push_str(kept);
    if noted {
        if !kept.is_empty() && !kept.ends_with('\n') {
            out.push('\n');
        }
        out.push_str(&note(total.saturating_sub(room), lines(left_out)));
        if !end.is_empty() {
            out.push('\n');
        }
    }
    out.push_str(end);
    out
}

fn note(chars: usize, lines: usize) -> String {
    format!("[{chars} characters, {lines} lines left out]")
}

fn lines(text: &str) -> usize {
    text.bytes().filter(|b| *b == b'\n').count()
}

/// Where the character with that index begins, or the end.
fn offset(text: &str, index: usize) -> usize {
    text.char_indices().nth(index).map_or(text.len(), |(at, _)| at)
}

fn shown(c: char) -> String {
    match c {
        '\n' | '\r' | '\t' => c.escape_default().to_string(),
        _ => c.escape_unicode().to_string(),
    }
}

/// Control characters, line separators, zero-width characters and everything that changes the direction of writing.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn clips_say_what_was_left_out() {
        let text: String = (0..100).map(|n| format!("line {n:02}\n")).collect();
        assert_eq!(clip_tail(&text, 60), "[778 characters, 97 lines left out]\nne 97\nline 98\nline 99\n");
        assert_eq!(clip_head(&text, 60), "line 00\nline 01\nline 0\n[778 characters, 98 lines left out]");
        assert_eq!(clip_middle(&text, 60), "line 00\nlin\n[778 characters, 97 lines left out]\n98\nline 99\n");
        assert_eq!(clip_middle(&text, 800), text);
    }

    #[test]
    fn what_has_no_room_for_a_note_is_cut_without_one() {
        let text = "aé日👀".repeat(20);
        assert_eq!(clip_head(&text, 5), "aé日👀a");
        assert_eq!(clip_tail(&text, 5), "👀aé日👀");
        assert_eq!(clip_middle(&text, 5), "aé日日👀");
        assert_eq!(clip_middle(&text, 0), "");
    }

    #[test]
    fn previews_show_what_would_hide() {
        assert_eq!(preview("  a\r\n\tb\u{1b}[31m\u{202e}x  ", 99), r"a\r\n\tb\u{1b}[31m\u{202e}x");
        assert_eq!(preview("héllo wörld", 6), "héllo…");
        assert_eq!(preview("ab\ncd", 4), "ab…");
        assert_eq!(preview("abc", 3), "abc");
        assert_eq!(preview("abc", 0), "");
        assert_eq!(preview("", 0), "");
    }

    proptest! {
        #[test]
        fn no_answer_is_longer_than_asked_for(text in "(?s).{0,300}", chars in 0usize..200) {
            for out in [clip_head(&text, chars), clip_tail(&text, chars), clip_middle(&text, chars), preview(&text, chars)] {
                prop_assert!(out.chars().count() <= chars, "{out:?}");
            }
            prop_assert!(!preview(&text, chars).chars().any(char::is_control));
        }
    }
}
