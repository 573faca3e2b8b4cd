//! A pull request's title from what was asked for, when no commit of the agent's says what was done.

use crate::text::preview;

/// Longest title made of a description: what lists show whole.
const CHARS: usize = 72;
/// Types of conventional commits, with which a title may begin already.
const TYPES: [&str; 11] =
    ["feat", "fix", "chore", "docs", "refactor", "test", "perf", "build", "ci", "style", "revert"];

/// `chore: ` and the first sentence of the first line that says something, at most 72 characters; a line that is
/// conventional by itself (`fix(parser): ..`) is taken as it is. `None` when there is nothing to say.
pub fn title_of_task(description: &str) -> Option<String> {
    let line = description.lines().map(words).find(|line| !line.is_empty())?;
    let sentence = first_sentence(line);
    if is_conventional(sentence) {
        return Some(preview(sentence, CHARS));
    }
    Some(preview(&format!("chore: {sentence}"), CHARS))
}

/// A line without the marks of Markdown at its beginning.
fn words(line: &str) -> &str {
    let line = line.trim();
    let text = line.trim_start_matches('#').trim_start_matches(['>', '-', '*', '+']).trim_start();
    if text.chars().any(char::is_alphanumeric) { text } else { "" }
}

/// Up to the first full stop that another sentence follows; without a full stop at its end.
fn first_sentence(line: &str) -> &str {
    let end = line.match_indices(['.', '!', '?']).find_map(|(at, mark)| {
        let rest = line.get(at.saturating_add(mark.len())..)?;
        let next = rest.strip_prefix(' ')?.trim_start().chars().next()?;
        (!next.is_lowercase()).then_some(at)
    });
    let sentence = end.and_then(|at| line.get(..at)).unwrap_or(line);
    let whole = sentence.trim_end_matches('.').trim_end();
    if whole.is_empty() { line } else { whole }
}

fn is_conventional(line: &str) -> bool {
    let Some((head, rest)) = line.split_once(": ") else { return false };
    let kind = head.trim_end_matches('!');
    let kind = kind.split_once('(').map_or(kind, |(kind, scope)| if scope.ends_with(')') { kind } else { "" });
    TYPES.contains(&kind) && !rest.trim().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_sentence_is_the_title() {
        let cases = [
            ("Append lines to `ran.log`.", Some("chore: Append lines to `ran.log`")),
            ("\n\n## Fix foo.rs, e.g. its tests. Then stop.", Some("chore: Fix foo.rs, e.g. its tests")),
            ("- add x! Or not", Some("chore: add x")),
            ("fix(parser)!: keep empty lines", Some("fix(parser)!: keep empty lines")),
            ("fix: ", Some("chore: fix:")),
            ("note: this is no type", Some("chore: note: this is no type")),
            ("...", None),
            ("", None),
            ("a\u{202e}b", Some("chore: a\\u{202e}b")),
        ];
        for (description, want) in cases {
            assert_eq!(title_of_task(description).as_deref(), want, "{description:?}");
        }
        let long = title_of_task(&"word ".repeat(1_000)).unwrap();
        assert!(long.chars().count() <= CHARS && long.ends_with('\u{2026}'), "{long}");
    }
}
