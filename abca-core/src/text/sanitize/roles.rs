//! Headers that claim a role, and marks of chat templates.

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickBuilder, AhoCorasickKind};

use super::Edit;
use super::code::Region;
use super::fold::Folded;
use super::trace::ChangeKind;

const PREFIX: &str = "[SANITIZED_PREFIX] ";

/// Roles at the beginning of a line.
const ROLES: &[&str] = &["system", "assistant", "human"];
/// What may follow `system` in such a header.
const KINDS: &[&str] = &["prompt", "message", "instructions", "instruction", "override", "notice", "reminder"];
/// Marks of chat templates, wherever they stand outside code.
const MARKS: &[&str] = &[
    "<|im_start|>",
    "<|im_end|>",
    "<|im_sep|>",
    "<|endoftext|>",
    "<|endofprompt|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<|start|>",
    "<|channel|>",
    "<|message|>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<<sys>>",
    "<</sys>>",
    "[inst]",
    "[/inst]",
    "[system_prompt]",
    "[/system_prompt]",
    "<function_calls>",
    "</function_calls>",
    "<function_results>",
    "</function_results>",
];

static WORDS: LazyLock<Option<AhoCorasick>> =
    LazyLock::new(|| AhoCorasickBuilder::new().kind(Some(AhoCorasickKind::DFA)).build(ROLES.iter().chain(MARKS)).ok());

/// Marks the headers, and takes the template marks out.
///
/// In a fence a role in lower case is a key (`system: linux`), and stays; template marks stay in code of any kind.
pub(super) fn edits(folded: &Folded<'_>, code: &[Region]) -> Vec<Edit> {
    let mut edits: Vec<Edit> = Vec::new();
    let text = folded.text();
    let bytes = text.as_bytes();
    let mut code = code.iter().peekable();
    let mut from = 0usize;
    for hit in WORDS.iter().flat_map(|words| words.find_iter(text)) {
        let (start, end) = (hit.start(), hit.end());
        while code.peek().is_some_and(|region| region.range.end <= start) {
            code.next();
        }
        let inside = code.peek().filter(|region| region.range.start <= start);
        if start < from {
            continue;
        }
        if hit.pattern().as_usize() >= ROLES.len() {
            if inside.is_none() {
                edits.push(Edit { range: folded.origin(start..end), with: "", kind: Some(ChangeKind::RoleHeader) });
                from = end;
            }
            continue;
        }
        let Some(header) = Header::at(bytes, start, end) else { continue };
        if inside.is_some_and(|region| region.fence)
            && folded.original(start..end) == text.get(start..end).unwrap_or_default()
        {
            continue;
        }
        let at = folded.origin(start..end).start;
        edits.push(Edit { range: at..at, with: PREFIX, kind: Some(ChangeKind::RoleHeader) });
        if !header.space.is_empty() {
            edits.push(Edit { range: folded.origin(header.space), with: "", kind: None });
        }
        from = header.end;
    }
    edits
}

struct Header {
    /// The space before its colon.
    space: std::ops::Range<usize>,
    end: usize,
}

impl Header {
    /// A role at the start of a line, after marks of quotes, lists, headings, tables and emphasis, with its colon behind it; or such a
    /// role as a tag.
    fn at(bytes: &[u8], start: usize, end: usize) -> Option<Self> {
        let byte = |at: usize| bytes.get(at).copied();
        let mut at = end;
        if let Some(kind) = KINDS.iter().find(|kind| {
            let is_gap = byte(end).is_some_and(|b| matches!(b, b' ' | b'_' | b'-'));
            is_gap && bytes.get(end.saturating_add(1)..).is_some_and(|rest| rest.starts_with(kind.as_bytes()))
        }) {
            at = end.saturating_add(1).saturating_add(kind.len());
        }
        let tag = matches!(start.checked_sub(1).and_then(byte), Some(b'<' | b'/')) && byte(at) == Some(b'>');
        while byte(at).is_some_and(|b| b"*_~\"'`)]".contains(&b)) {
            at = at.saturating_add(1);
        }
        let space = at;
        while byte(at).is_some_and(|b| matches!(b, b' ' | b'\t')) {
            at = at.saturating_add(1);
        }
        // `system::run` is a path.
        let colon = byte(at) == Some(b':') && byte(at.saturating_add(1)) != Some(b':');
        if !(tag || colon) || !begins_line(bytes, start) {
            return None;
        }
        let space = if tag { space..space } else { space..at };
        Some(Self { space, end: at.saturating_add(1) })
    }
}

/// Whether only marks stand between a place and the beginning of its line.
fn begins_line(bytes: &[u8], at: usize) -> bool {
    let mut at = at;
    loop {
        let Some(before) = at.checked_sub(1) else { return true };
        let Some(byte) = bytes.get(before) else { return true };
        match byte {
            b'\n' => return true,
            b' ' | b'\t' | b'>' | b'<' | b'/' | b'*' | b'+' | b'#' | b'_' | b'~' | b'"' | b'\'' | b'`' | b'|'
            | b'(' | b')' | b'[' | b']' | b'-' => at = before,
            b'.' => {
                let digits =
                    bytes.get(..before).map_or(0, |b| b.iter().rev().take_while(|b| b.is_ascii_digit()).count());
                if digits == 0 {
                    return false;
                }
                at = before.saturating_sub(digits);
            }
            b'0'..=b'9' if bytes.get(at) == Some(&b')') => at = before,
            b'0'..=b'9' if bytes.get(at).is_some_and(u8::is_ascii_digit) => at = before,
            b'x' if bytes.get(at) == Some(&b']') => at = before,
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_compile() {
        assert!(WORDS.is_some());
    }
}
