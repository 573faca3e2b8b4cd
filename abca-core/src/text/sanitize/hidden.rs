//! What Markdown does not show: link definitions that are comments.

use std::sync::LazyLock;

use regex::Regex;

use super::Edit;
use super::code::Region;
use super::fold::Folded;
use super::trace::ChangeKind;

/// `[//]: # (comment)`, `[comment]: <> "text"`: a definition of a link that leads nowhere.
static COMMENT: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r#"\A\]:[ \t]{0,8}(?:#|<>|<#>)[ \t]{0,8}(?:\([^()\n]*\)|"[^"\n]*"|'[^'\n]*')?[ \t]*(?:\n|\z)"#).ok()
});

/// Longest name of such a definition.
const NAME_BYTES: usize = 64;

pub(super) fn edits(folded: &Folded<'_>, code: &[Region]) -> Vec<Edit> {
    let text = folded.text();
    let mut edits = Vec::new();
    let Some(comment) = COMMENT.as_ref() else { return edits };
    let mut code = code.iter().peekable();
    for (at, _) in text.match_indices("]:") {
        while code.peek().is_some_and(|region| region.range.end <= at) {
            code.next();
        }
        if code.peek().is_some_and(|region| region.range.start <= at) {
            continue;
        }
        let Some(rest) = text.get(at..) else { continue };
        let Some(found) = comment.find(rest) else { continue };
        let near = text.get(text.ceil_char_boundary(at.saturating_sub(NAME_BYTES))..at).unwrap_or_default();
        let line = near.rsplit('\n').next().unwrap_or_default();
        let is_whole = line.len() < near.len() || at <= NAME_BYTES;
        let marks = line.len().saturating_sub(line.trim_start_matches([' ', '\t', '>']).len());
        if !is_whole || !line.get(marks..).is_some_and(|name| name.starts_with('[') && !name.contains(']')) {
            continue;
        }
        let start = at.saturating_sub(line.len()).saturating_add(marks);
        let end = at.saturating_add(found.end());
        let end = if rest.get(..found.end()).is_some_and(|m| m.ends_with('\n')) { end.saturating_sub(1) } else { end };
        edits.push(Edit { range: folded.origin(start..end), with: "", kind: Some(ChangeKind::Comment) });
    }
    edits
}
