//! What of a request must fit a recording, and where it does not.

use std::borrow::Cow;
use std::sync::LazyLock;

use abca_core::model::{Content, ModelRequest, Role, ToolCall};
use regex::Regex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::trajectory::Match;
use crate::clip::clip;

/// Characters of a text that a recording keeps, so that a person sees what was different.
const EXCERPT_CHARS: usize = 300;

/// What a request looked like.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fingerprint {
    /// How many messages.
    messages: usize,
    /// Absent in `shape`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    system: Option<Print>,
    /// Names, and in `strict` a hash of the schema.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tools: Vec<String>,
    /// The assistant's messages: one list of calls for each, as `name#id`.
    asked: Vec<Vec<String>>,
    /// The newest user message.
    newest: Vec<Part>,
}

/// A part of the newest user message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    /// `text`, `image`, or `result#id`, with `!` when the tool failed.
    kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    print: Option<Print>,
}

/// A text by its hash and beginning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Print {
    sha256: String,
    chars: usize,
    excerpt: String,
}

impl Fingerprint {
    pub(super) fn of(request: &ModelRequest, mode: Match) -> Self {
        let print = |text: &str| match mode {
            Match::Shape => None,
            Match::Normalised => Some(Print::of(&normalise(text))),
            Match::Strict => Some(Print::of(text)),
        };
        let tools = request.tools.iter().map(|t| match mode {
            Match::Shape | Match::Normalised => t.name.clone(),
            Match::Strict => format!("{} {}", t.name, short_hash(&format!("{}{}", t.description, t.input_schema))),
        });
        let newest = request.messages.iter().rev().find(|m| m.role == Role::User);
        Self {
            messages: request.messages.len(),
            system: print(&request.system),
            tools: if mode == Match::Shape { vec![] } else { tools.collect() },
            asked: asked(request),
            newest: newest.map_or_else(Vec::new, |m| m.content.iter().map(|c| part(c, &print)).collect()),
        }
    }

    /// Where `self`, the recording, departs from what is asked now: `None` when it fits.
    pub(super) fn departs(&self, now: &Self) -> Option<String> {
        for (i, (then, now)) in self.asked.iter().zip(&now.asked).enumerate() {
            if then != now {
                return Some(format!("messages[{}] (assistant): recorded calls {then:?}, now {now:?}", 2 * i + 1));
            }
        }
        if self.messages != now.messages {
            return Some(format!("number of messages: recorded {}, now {}", self.messages, now.messages));
        }
        if let (Some(then), Some(now)) = (&self.system, &now.system)
            && then.sha256 != now.sha256
        {
            return Some(format!("system prompt: {}", difference(then, now)));
        }
        if self.tools != now.tools {
            return Some(format!("tools: recorded {:?}, now {:?}", self.tools, now.tools));
        }
        let at = now.messages.saturating_sub(1);
        let kinds = |f: &Self| f.newest.iter().map(|p| p.kind.clone()).collect::<Vec<_>>();
        if kinds(self) != kinds(now) {
            let (then, now) = (in_words(&kinds(self)), in_words(&kinds(now)));
            return Some(format!("messages[{at}] (user): recorded were {then}; now there are {now}"));
        }
        for (i, (then, now)) in self.newest.iter().zip(&now.newest).enumerate() {
            if let (Some(a), Some(b)) = (&then.print, &now.print)
                && a.sha256 != b.sha256
            {
                return Some(format!("messages[{at}].content[{i}] ({}): {}", then.kind, difference(a, b)));
            }
        }
        None
    }
}

impl Print {
    fn of(text: &str) -> Self {
        Self { sha256: short_hash(text), chars: text.chars().count(), excerpt: clip(text, EXCERPT_CHARS) }
    }
}

/// The calls of each assistant message.
fn asked(request: &ModelRequest) -> Vec<Vec<String>> {
    let name = |call: &ToolCall| format!("{}#{}", call.name, call.id);
    let assistant = request.messages.iter().filter(|m| m.role == Role::Assistant);
    assistant
        .map(|m| {
            let calls = m.content.iter().filter_map(|c| match c {
                Content::ToolUse(call) => Some(name(call)),
                Content::Text { .. } | Content::Image { .. } | Content::Thinking { .. } | Content::ToolResult(_) => {
                    None
                }
            });
            calls.collect()
        })
        .collect()
}

fn part(content: &Content, print: &impl Fn(&str) -> Option<Print>) -> Part {
    match content {
        Content::Text { text } | Content::Thinking { text, .. } => Part { kind: "text".into(), print: print(text) },
        Content::Image { data, .. } => Part { kind: "image".into(), print: print(data) },
        Content::ToolUse(call) => Part { kind: format!("call#{}", call.id), print: None },
        Content::ToolResult(result) => {
            let failed = if result.is_error { "!" } else { "" };
            Part { kind: format!("result#{}{failed}", result.tool_use_id), print: print(&texts(&result.content)) }
        }
    }
}

/// All texts of contents, results included, for `expect` and for prints.
pub(super) fn texts(content: &[Content]) -> String {
    let mut out = String::new();
    for c in content {
        match c {
            Content::Text { text } => out.push_str(text),
            Content::Image { data, .. } => out.push_str(&short_hash(data)),
            Content::ToolResult(result) => out.push_str(&texts(&result.content)),
            Content::Thinking { .. } | Content::ToolUse(_) => {}
        }
        out.push('\n');
    }
    out
}

fn short_hash(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(12).map(|b| format!("{b:02x}")).collect()
}

/// Two texts from where they part, as far as the excerpts reach.
fn difference(then: &Print, now: &Print) -> String {
    let same = then.excerpt.chars().zip(now.excerpt.chars()).take_while(|(a, b)| a == b).count();
    if same >= EXCERPT_CHARS.min(then.chars).min(now.chars) {
        return format!(
            "recorded {} characters, now {}; the first {same} are the same: `{}`",
            then.chars,
            now.chars,
            clip(&now.excerpt, 60)
        );
    }
    let from = |p: &Print| p.excerpt.chars().skip(same.saturating_sub(20)).take(80).collect::<String>();
    format!("at character {same}: recorded `{}`, now `{}`", from(then), from(now))
}

/// The text with what differs from machine to machine and run to run masked.
pub(super) fn normalise(text: &str) -> Cow<'_, str> {
    /// In this order: what is inside a later one is found by an earlier one.
    const MASKS: &[(&str, &str)] = &[
        (r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?: ?(?:Z|[+-]\d\d:?\d\d))?)?", "<time>"),
        (r"\b\d\d:\d\d:\d\d(?:[.,]\d+)?\b", "<time>"),
        (r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b", "<id>"),
        (r"(?i:\b[0-7][0-9A-HJKMNP-TV-Z]{25}\b)", "<id>"),
        (
            r#"(^|[^\w.-])(?:/private)?(?:/tmp|/var/tmp|/var/folders|/dev/shm|/run/user/\d+|/home/[^/\s"'`:]+|/Users/[^/\s"'`:]+|/root)(?:/[^\s"'`:,;)\]}>]*)?"#,
            "$1<path>",
        ),
        (r"(?i:\b(pid|process)([ =:#]+)\d+)", "$1$2<pid>"),
        (r"\b\d+(?:\.\d+)? ?(?:ns|µs|us|ms|s|secs?|seconds?|m|mins?|minutes?|h|hours?)\b", "<duration>"),
        (r"\b[0-9a-f]{7,40}\b", "<hash>"),
    ];
    static COMPILED: LazyLock<Vec<(Regex, &str)>> =
        LazyLock::new(|| MASKS.iter().filter_map(|(pattern, mask)| Some((Regex::new(pattern).ok()?, *mask))).collect());
    let mut text = Cow::Borrowed(text);
    for (pattern, mask) in COMPILED.iter() {
        if let Cow::Owned(masked) = pattern.replace_all(&text, *mask) {
            text = Cow::Owned(masked);
        }
    }
    text
}

/// Kinds of parts, for people.
fn in_words(kinds: &[String]) -> String {
    let words = kinds.iter().map(|kind| match (kind.strip_prefix("result#"), kind.strip_suffix('!')) {
        (Some(id), Some(_)) => format!("a failed result of `{}`", id.trim_end_matches('!')),
        (Some(id), None) => format!("a result of `{id}`"),
        (None, _) => format!("a part `{kind}`"),
    });
    let words: Vec<String> = words.collect();
    if words.is_empty() { "no parts".to_owned() } else { words.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_named_for_people() {
        let kinds = ["result#c1".to_owned(), "result#c2!".to_owned(), "text".to_owned()];
        assert_eq!(in_words(&kinds), "a result of `c1`, a failed result of `c2`, a part `text`");
        assert_eq!(in_words(&[]), "no parts");
    }

    #[test]
    fn volatile_parts_are_masked_and_the_rest_is_not() {
        let table = [
            ("task 01JD8Y0K3QZ5V9T7W2X4R6S8AB done", "task <id> done"),
            ("commit 1a2b3c4 on main", "commit <hash> on main"),
            ("[main 8f3c2d1] fix", "[main <hash>] fix"),
            ("in /tmp/abca-x1/work/src/lib.rs:12: oops", "in <path>:12: oops"),
            ("HOME=/home/ada and '/root/.cargo/bin'", "HOME=<path> and '<path>'"),
            ("src/tmp/x and /usr/bin/git stay", "src/tmp/x and /usr/bin/git stay"),
            ("finished in 0.03s, took 12 ms", "finished in <duration>, took <duration>"),
            ("at 2026-11-23T05:18:00.123Z and 2026-11-23 05:18", "at <time> and <time>"),
            ("Ran 3 tests; pid 4711", "Ran 3 tests; pid <pid>"),
            ("deps/calc-0123456789abcdef)", "deps/calc-<hash>)"),
            ("550e8400-e29b-41d4-a716-446655440000", "<id>"),
            ("test result: FAILED. 1 passed; 1 failed", "test result: FAILED. 1 passed; 1 failed"),
        ];
        for (text, want) in table {
            assert_eq!(normalise(text), want);
        }
    }

    #[test]
    fn every_mask_is_a_pattern() {
        // `normalise` would drop a broken one in silence; each of the table above needs its own.
        assert_eq!(normalise("/private/tmp/x 11:22:33 process 5"), "<path> <time> process <pid>");
    }
}
