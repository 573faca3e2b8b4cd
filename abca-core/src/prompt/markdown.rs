//! Text from elsewhere inside Markdown: it stays what it is, and reaches nobody and nothing outside its place.

use std::collections::BTreeMap;

use crate::text::preview;

/// Invisible, and no letter: between `@` and a name it keeps a forge from notifying anybody.
const BREAK: char = '\u{200b}';

/// Words by which forges close issues when a pull request is merged.
const CLOSING: [&str; 9] = ["close", "closes", "closed", "fix", "fixes", "fixed", "resolve", "resolves", "resolved"];

/// One line as a code span, at most `chars` characters of it, whatever backticks it holds.
pub(super) fn code(text: &str, chars: usize) -> String {
    let text = preview(text, chars);
    let ticks = "`".repeat(longest_run(&text, '`').saturating_add(1));
    let pad = if text.starts_with('`') || text.ends_with('`') || text.is_empty() { " " } else { "" };
    format!("{ticks}{pad}{text}{pad}{ticks}")
}

/// A fenced block; the fence is longer than any run of backticks inside.
pub(super) fn fenced(text: &str, info: &str) -> String {
    let ticks = "`".repeat(longest_run(text, '`').saturating_add(1).max(3));
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    format!("{ticks}{info}\n{text}{end}{ticks}\n")
}

/// Breaks what a forge would take for a mention of a person or a team.
pub(super) fn without_mentions(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut before = ' ';
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        out.push(c);
        let in_word = before.is_alphanumeric() || before == '_';
        if c == '@' && !in_word && chars.peek().is_some_and(|n| n.is_alphanumeric() || *n == '_') {
            out.push(BREAK);
        }
        before = c;
    }
    out
}

/// Somebody's Markdown as a quotation of at most about `chars` characters.
///
/// Being a quotation, it cannot run into what follows, with open fences and lists or without. HTML is shown rather than
/// obeyed, mentions notify nobody, and words that would close an issue at merge do not; code stays as it is.
pub(super) fn quoted(text: &str, chars: usize) -> String {
    let mut out = String::new();
    let mut left = chars;
    let mut fence: Option<(char, usize)> = None;
    let mut lines = text.trim().lines();
    while let Some(line) = lines.next() {
        let shown = match (fence, fence_of(line)) {
            (Some((mark, len)), Some((m, n))) if m == mark && n >= len && line.trim_matches([' ', m]).is_empty() => {
                fence = None;
                line.to_owned()
            }
            (Some(_), _) => line.to_owned(),
            (None, Some(opening)) => {
                fence = Some(opening);
                line.to_owned()
            }
            (None, None) => inert(line),
        };
        // Whatever reads the platform's own marker must not find another one.
        let shown: String =
            shown.replace("<!--", "<!\u{200b}--").chars().filter(|c| !c.is_control() || *c == '\t').collect();
        let cost = shown.chars().count().saturating_add(3);
        match left.checked_sub(cost) {
            Some(rest) => left = rest,
            None => {
                let rest =
                    lines.fold(line.chars().count(), |n, l| n.saturating_add(l.chars().count()).saturating_add(1));
                out.push_str(&format!(">\n> […{rest} characters left out]\n"));
                break;
            }
        }
        out.push_str(if shown.is_empty() { ">" } else { "> " });
        out.push_str(&shown);
        out.push('\n');
    }
    out
}

fn longest_run(text: &str, mark: char) -> usize {
    let mut longest = 0usize;
    let mut run = 0usize;
    for c in text.chars() {
        run = if c == mark { run.saturating_add(1) } else { 0 };
        longest = longest.max(run);
    }
    longest
}

/// The mark and length of a fence, when a line begins with one.
fn fence_of(line: &str) -> Option<(char, usize)> {
    let line = line.trim_start();
    let mark = line.chars().next().filter(|c| matches!(c, '`' | '~'))?;
    let len = line.chars().take_while(|c| *c == mark).count();
    let info = line.trim_start_matches(mark);
    (len >= 3 && !(mark == '`' && info.contains('`'))).then_some((mark, len))
}

/// A line outside of fences: code spans as they are, the rest without effects.
fn inert(line: &str) -> String {
    // Where the last run of backticks of each length begins: a run is a span's start only if another one follows.
    let mut last = BTreeMap::new();
    let mut at = 0usize;
    let pieces = runs(line);
    for piece in &pieces {
        if piece.starts_with('`') {
            last.insert(piece.len(), at);
        }
        at = at.saturating_add(piece.len());
    }
    let mut out = String::with_capacity(line.len());
    let mut plain = String::new();
    let mut at = 0usize;
    let mut open: Option<&str> = None;
    for piece in pieces {
        match open {
            Some(ticks) => {
                out.push_str(piece);
                if piece == ticks {
                    open = None;
                }
            }
            None if piece.starts_with('`') && last.get(&piece.len()).is_some_and(|l| *l > at) => {
                out.push_str(&without_effects(&std::mem::take(&mut plain)));
                out.push_str(piece);
                open = Some(piece);
            }
            None => plain.push_str(piece),
        }
        at = at.saturating_add(piece.len());
    }
    out.push_str(&without_effects(&plain));
    out
}

/// A line as alternating runs of backticks and of other characters.
fn runs(line: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let ticks = first == '`';
        let end = rest.find(|c: char| (c == '`') != ticks).unwrap_or(rest.len());
        let Some((run, tail)) = rest.split_at_checked(end) else { break };
        out.push(run);
        rest = tail;
    }
    out
}

fn without_effects(text: &str) -> String {
    let text = without_closing_words(&without_mentions(text));
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let is_tag = c == '<' && chars.peek().is_some_and(|n| n.is_ascii_alphabetic() || matches!(n, '/' | '!' | '?'));
        if is_tag {
            out.push_str("&lt;");
        } else {
            out.push(c);
        }
    }
    out
}

/// Breaks a closing word that stands before a reference, and leaves the reference a link.
fn without_closing_words(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    for piece in text.split_inclusive(|c: char| !c.is_alphanumeric()) {
        rest = rest.strip_prefix(piece).unwrap_or_default();
        let word = piece.trim_end_matches(|c: char| !c.is_alphanumeric());
        let separator = piece.strip_prefix(word).unwrap_or_default();
        let mut letters = piece.chars();
        let closes = CLOSING.iter().any(|k| k.eq_ignore_ascii_case(word)) && begins_reference(separator, rest);
        match letters.next() {
            Some(first) if closes => {
                out.push(first);
                out.push(BREAK);
                out.push_str(letters.as_str());
            }
            Some(_) | None => out.push_str(piece),
        }
    }
    out
}

/// Whether a colon or blanks and then `#1`, `owner/repo#1`, `GH-1` or an address follow.
fn begins_reference(separator: &str, rest: &str) -> bool {
    if !separator.starts_with([':', ' ', '\t']) {
        return false;
    }
    let rest = rest.trim_start_matches([':', ' ', '\t']);
    // Longer references there are none; a bound keeps the whole linear.
    let reference: String = rest.chars().take(200).take_while(|c| !c.is_whitespace()).collect();
    let lower = reference.to_ascii_lowercase();
    reference.contains('#') || lower.starts_with("gh-") || lower.starts_with("http")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_fences_outgrow_what_is_inside() {
        assert_eq!(code("make test", 80), "`make test`");
        assert_eq!(code("echo `date`\nrm", 80), r"``echo `date`\nrm``");
        assert_eq!(code("`x`", 80), "`` `x` ``");
        assert_eq!(fenced("a\n````\nb", ""), "`````\na\n````\nb\n`````\n");
    }

    #[test]
    fn mentions_reach_nobody_and_addresses_stay() {
        assert_eq!(without_mentions("cc @octo/team, a@b.c, @ x"), "cc @\u{200b}octo/team, a@b.c, @ x");
    }

    #[test]
    fn a_quotation_has_no_effects_outside_of_code() {
        let text = "<!-- x --> by @me `Vec<String> @x` closes: o/r#5\n```html\n<b> @me\n```\n\nthe fix is <b>good</b>";
        let want = "> &lt;!-- x --> by @\u{200b}me `Vec<String> @x` c\u{200b}loses: o/r#5\n> ```html\n> <b> @me\n> ```\n>\n\
                    > the fix is &lt;b>good&lt;/b>\n";
        assert_eq!(quoted(text, 1_000), want);
    }

    #[test]
    fn a_long_quotation_says_what_is_missing() {
        assert_eq!(quoted("one\ntwo\nthree\nfour", 14), "> one\n> two\n>\n> […10 characters left out]\n");
    }
}
