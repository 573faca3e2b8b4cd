//! Text from elsewhere inside Markdown: it stays what it is, and reaches nobody and nothing outside its place.

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

/// Somebody's Markdown as a quotation of at most `chars` characters and a note.
///
/// Being a quotation, it cannot run into what follows, with open fences and lists or without. Outside of fenced code,
/// HTML is shown rather than obeyed, mentions notify nobody, and words that would close an issue at merge do not: each is
/// broken by an invisible character. Only a fence at the very beginning of a line counts as one, for only there does every
/// reader of Markdown agree; so nothing can pretend to be code.
pub(super) fn quoted(text: &str, chars: usize) -> String {
    let mut out = String::new();
    let mut left = chars;
    let mut fence: Option<(char, usize)> = None;
    let mut lines = text.trim().lines();
    while let Some(line) = lines.next() {
        // A lone carriage return would end a line for a reader of Markdown, and not here.
        let line: String = line.chars().filter(|c| !c.is_control() || *c == '\t').collect();
        let in_fence = fence.is_some();
        match fence {
            Some(open) if closes(&line, open) => fence = None,
            Some(_) => {}
            None => fence = fence_of(&line),
        }
        let as_code = in_fence || fence.is_some();
        let mut shown = if as_code { line.clone() } else { without_effects(&line) };
        if shown.chars().count().saturating_add(3) > left {
            let total = line.chars().count();
            // No character of a line takes more than two here.
            let kept: String = line.chars().take(if as_code { 0 } else { left.saturating_sub(3) / 2 }).collect();
            let rest = lines.fold(total.saturating_sub(kept.chars().count()), |n, l| {
                n.saturating_add(l.chars().count()).saturating_add(1)
            });
            if !kept.is_empty() {
                out.push_str(&format!("> {}\n", without_effects(&kept)));
            }
            out.push_str(&format!(">\n> […{rest} characters left out]\n"));
            break;
        }
        // Whatever looks for the platform's own marker must not find another one, in code neither.
        if as_code && shown.contains("<!--") {
            shown = shown.replace("<!--", "<!\u{200b}--");
        }
        left = left.saturating_sub(shown.chars().count()).saturating_sub(3);
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

/// The mark and length of the fence that a line opens.
fn fence_of(line: &str) -> Option<(char, usize)> {
    let mark = line.chars().next().filter(|c| matches!(c, '`' | '~'))?;
    let len = line.chars().take_while(|c| *c == mark).count();
    let info = line.trim_start_matches(mark);
    (len >= 3 && !(mark == '`' && info.contains('`'))).then_some((mark, len))
}

/// Whether a line closes that fence: at most three blanks, no fewer marks, nothing more.
fn closes(line: &str, (mark, len): (char, usize)) -> bool {
    let rest = line.trim_start_matches(' ');
    let indent = line.len().saturating_sub(rest.len());
    let marks = rest.chars().take_while(|c| *c == mark).count();
    indent <= 3 && marks >= len && rest.trim_start_matches(mark).trim().is_empty()
}

/// Mentions, closing words and tags, broken by an invisible character: visible as they were, in code spans too.
fn without_effects(text: &str) -> String {
    let text = without_closing_words(&without_mentions(text));
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        out.push(c);
        if c == '<' && chars.peek().is_some_and(|n| n.is_ascii_alphabetic() || matches!(n, '/' | '!' | '?')) {
            out.push(BREAK);
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
        let want = "> <\u{200b}!-- x --> by @\u{200b}me `Vec<\u{200b}String> @\u{200b}x` c\u{200b}loses: o/r#5\n\
                    > ```html\n> <b> @me\n> ```\n>\n> the fix is <\u{200b}b>good<\u{200b}/b>\n";
        assert_eq!(quoted(text, 1_000), want);
    }

    #[test]
    fn nothing_can_pretend_to_be_code() {
        for cover in [
            "1. a\n\n   ```\nX",
            "a\n\n    ```\nX",
            "a ` b\nc ` X ` d",
            r"\` X `",
            "```\n```\t\nX",
            "```\r\n```\nX",
            "```a`b\nX",
            "- ~~~\nX",
        ] {
            let got = quoted(&cover.replace('X', "<img> @me fixes #1"), 1_000);
            assert!(got.contains("<\u{200b}img> @\u{200b}me f\u{200b}ixes #1"), "{got}");
        }
        let got = quoted("~~~\n@me <!-- abca:task=\n   ```\n    ~~~\n@me\n   ~~~~ \n@me", 1_000);
        assert_eq!(got.matches("@me").count(), 2, "{got}");
        assert!(!got.contains("<!--"), "{got}");
    }

    #[test]
    fn a_long_quotation_says_what_is_missing() {
        assert_eq!(quoted("one\ntwo\nthree\nfour", 14), "> one\n> two\n>\n> […10 characters left out]\n");
        assert_eq!(quoted(&"x".repeat(100), 23), format!("> {}\n>\n> […90 characters left out]\n", "x".repeat(10)));
    }
}
