//! The stuck guard: sees an agent go in circles, tells it once, and ends what does not listen.
//!
//! A pure fold over calls and their results, with bounded memory; time is linear in each call's size. What counts:
//!
//! * **The same call with the same result,** again and again with *nothing new in between*: three times when it
//!   fails, six times when it does not. New is every pair of call and result that was not among the last 32 different
//!   ones, so that circles of several calls are seen too, and running a failing test after each new edit is no circle.
//! * **The same error from different calls:** at least five of the last six calls.
//!
//! Each gets one word to the model. Six more of the same after that, and the agent is stuck.
//!
//! Calls are compared by tool and input: keys sorted, runs of white space as one blank, a command's `description` left
//! out. Results are compared whole; of failures, numbers are ignored, because durations and addresses differ each time.

use std::collections::{BTreeMap, VecDeque};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::state::TRIMMED;
use crate::model::{Content, ToolCall, ToolInput, ToolResult};
use crate::text::preview;

/// Equal failures before the model is told.
const FAILURES: u32 = 3;
/// Equal results that are no failures before the model is told.
const REPEATS: u32 = 6;
/// Calls that are looked back on for the same error from different calls.
const WINDOW: usize = 6;
/// How many of them must have failed the same way.
const WINDOW_FAILURES: usize = 5;
/// How many more of the same end the session once the model was told.
const AFTER_STEER: u32 = 6;
/// Different pairs of call and result that are remembered.
const SEEN: usize = 32;
/// Signatures that are remembered as told.
const TOLD: usize = 64;

/// What is to be done about an agent that goes in circles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StuckVerdict {
    /// Put this before the model, once.
    Steer(String),
    /// It was told and did not listen: why the session ends, for people. Holds nothing of inputs or outputs.
    Stuck(String),
}

/// Remembers the last calls of a session.
#[derive(Debug, Default)]
pub struct StuckGuard {
    seen: VecDeque<Pair>,
    window: VecDeque<Option<Failed>>,
    told: VecDeque<Told>,
}

impl StuckGuard {
    /// Takes in a call that has ended. Results that were taken out of the conversation to make room say nothing, and
    /// are passed over.
    pub fn observe(&mut self, call: &ToolCall, result: &ToolResult) -> Option<StuckVerdict> {
        if is_trimmed(result) {
            return None;
        }
        let signature = signature(call);
        let failed = has_failed(result);
        let tool = preview(&call.name, 64);
        let same_call = self.same_call(signature, output_key(result, failed), failed, &tool);
        let same_error = self.same_error(signature, failed.then(|| error_key(&call.name, result)).flatten(), &tool);
        match (same_call, same_error) {
            (Some(stuck @ StuckVerdict::Stuck(_)), _) | (_, Some(stuck @ StuckVerdict::Stuck(_))) => Some(stuck),
            (steer @ Some(StuckVerdict::Steer(_)), _) | (None, steer) => steer,
        }
    }

    fn same_call(&mut self, signature: Key, output: Key, failed: bool, tool: &str) -> Option<StuckVerdict> {
        let Some(pair) = self.seen.iter_mut().find(|p| p.signature == signature && p.output == output) else {
            // Something new: whatever looked like a circle was none.
            for pair in &mut self.seen {
                pair.count = 0;
            }
            for told in &mut self.told {
                if told.kind == Kind::Call {
                    told.more = 0;
                }
            }
            push(&mut self.seen, Pair { signature, output, count: 1 }, SEEN);
            return None;
        };
        pair.count = pair.count.saturating_add(1);
        let count = pair.count;
        if let Some(told) = self.told.iter_mut().find(|t| t.kind == Kind::Call && t.key == signature) {
            told.more = told.more.saturating_add(1);
            let ended = if failed { "failed the same way" } else { "gave the same result" };
            return (told.more >= AFTER_STEER).then(|| {
                StuckVerdict::Stuck(format!(
                    "the same call of `{tool}` {ended} {count} times with nothing new in between, \
                     {AFTER_STEER} of them after the agent was told"
                ))
            });
        }
        if count < if failed { FAILURES } else { REPEATS } {
            return None;
        }
        push(&mut self.told, Told { kind: Kind::Call, key: signature, more: 0 }, TOLD);
        Some(StuckVerdict::Steer(if failed {
            format!(
                "The same call of `{tool}` has failed {count} times with the same output. It will fail again. Read the \
                 error, find its cause, and try something else. If the cause is outside your reach, say so, commit what \
                 works and end."
            )
        } else {
            format!(
                "The same call of `{tool}` has given the same result {count} times. Making it again tells you nothing new. \
                 Go on with the next step of the task, or, if you are done, say so and end."
            )
        }))
    }

    fn same_error(&mut self, signature: Key, error: Option<Key>, tool: &str) -> Option<StuckVerdict> {
        push(&mut self.window, error.map(|error| Failed { signature, error }), WINDOW);
        let error = error?;
        let same = || self.window.iter().flatten().filter(|f| f.error == error);
        let count = same().count();
        let told = self.told.iter_mut().find(|t| t.kind == Kind::Error && t.key == error);
        if count < WINDOW_FAILURES {
            if let Some(told) = told {
                told.more = 0;
            }
            return None;
        }
        if let Some(told) = told {
            told.more = told.more.saturating_add(1);
            return (told.more >= AFTER_STEER).then(|| {
                StuckVerdict::Stuck(format!(
                    "calls of `{tool}` went on failing with the same error, {AFTER_STEER} of them after the agent was told"
                ))
            });
        }
        // One and the same call is the other rule's business.
        if same().all(|f| f.signature == signature) {
            return None;
        }
        push(&mut self.told, Told { kind: Kind::Error, key: error, more: 0 }, TOLD);
        Some(StuckVerdict::Steer(format!(
            "{count} of your last {WINDOW} calls failed with the same error of `{tool}`. Changing the arguments does not \
             help. Stop, look at what the error says about the cause, and take another way. If there is none, say so, \
             commit what works and end."
        )))
    }
}

/// The first half of a SHA-256.
type Key = [u8; 16];

/// A call and its result, and how often it came with nothing new in between.
#[derive(Debug)]
struct Pair {
    signature: Key,
    output: Key,
    count: u32,
}

/// A failed call in the window.
#[derive(Debug)]
struct Failed {
    signature: Key,
    error: Key,
}

/// What the model was told about, and how often it came again.
#[derive(Debug)]
struct Told {
    kind: Kind,
    key: Key,
    more: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Call,
    Error,
}

fn push<T>(queue: &mut VecDeque<T>, item: T, most: usize) {
    if queue.len() >= most {
        queue.pop_front();
    }
    queue.push_back(item);
}

fn finish(hash: Sha256) -> Key {
    let mut key = [0; 16];
    for (to, from) in key.iter_mut().zip(hash.finalize()) {
        *to = from;
    }
    key
}

fn is_trimmed(result: &ToolResult) -> bool {
    matches!(result.content.as_slice(), [Content::Text { text }] if text == TRIMMED)
}

fn signature(call: &ToolCall) -> Key {
    let mut hash = Sha256::new();
    feed(&mut hash, &call.name);
    match &call.input {
        ToolInput::Json(Value::Object(map)) => {
            let is_command = map.contains_key("command");
            for (key, value) in map.iter().filter(|(key, _)| !(is_command && *key == "description")) {
                feed(&mut hash, key);
                feed_value(&mut hash, value);
            }
        }
        ToolInput::Json(value) => feed_value(&mut hash, value),
        ToolInput::Invalid { raw, .. } => feed(&mut hash, &squeeze(raw)),
    }
    finish(hash)
}

/// What the call gave: whole, but for the numbers in a failure.
fn output_key(result: &ToolResult, failed: bool) -> Key {
    let mut hash = Sha256::new();
    hash.update([u8::from(failed)]);
    for part in &result.content {
        match part {
            Content::Text { text } if failed => feed(&mut hash, &masked(text)),
            Content::Text { text } | Content::Thinking { text, .. } => feed(&mut hash, text),
            Content::Image { data, .. } => feed(&mut hash, data),
            Content::ToolUse(_) | Content::ToolResult(_) => {}
        }
    }
    finish(hash)
}

/// What kind of failure it is; `None` when it says nothing but its exit status, as a search without a match does.
fn error_key(tool: &str, result: &ToolResult) -> Option<Key> {
    let mut hash = Sha256::new();
    feed(&mut hash, tool);
    let mut says_something = false;
    for text in texts(result) {
        for line in text.lines().filter(|line| exit_status(line).is_none()) {
            says_something |= line.chars().any(char::is_alphabetic);
            feed(&mut hash, &masked(line));
        }
    }
    says_something.then(|| finish(hash))
}

fn texts(result: &ToolResult) -> impl Iterator<Item = &str> {
    result.content.iter().filter_map(|part| match part {
        Content::Text { text } => Some(text.as_str()),
        Content::Image { .. } | Content::Thinking { .. } | Content::ToolUse(_) | Content::ToolResult(_) => None,
    })
}

/// Whether the tool says that it failed, or its first or last line gives an exit status that is not zero.
fn has_failed(result: &ToolResult) -> bool {
    let ends = |text: &str| {
        let mut lines = text.lines().filter(|line| !line.trim().is_empty());
        [lines.next(), lines.next_back()].into_iter().flatten().filter_map(exit_status).any(|ok| !ok)
    };
    result.is_error || texts(result).any(ends)
}

/// Whether a line that does nothing but give an exit status gives zero; `None` for all other lines.
fn exit_status(line: &str) -> Option<bool> {
    if line.len() > 80 {
        return None;
    }
    let line = line.to_ascii_lowercase();
    let at = ["exit code", "exit status", "exited with"].iter().find_map(|mark| line.split_once(mark))?;
    let digits: String = at.1.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
    (!digits.is_empty()).then(|| digits.bytes().all(|b| b == b'0'))
}

/// Length before text, so that no two inputs look alike.
fn feed(hash: &mut Sha256, text: &str) {
    hash.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_le_bytes());
    hash.update(text);
}

/// A value with its strings squeezed. Objects are sorted by key; nesting is bounded by the JSON parser.
fn feed_value(hash: &mut Sha256, value: &Value) {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => feed(hash, &value.to_string()),
        Value::String(text) => {
            hash.update(b"\"");
            feed(hash, &squeeze(text));
        }
        Value::Array(items) => {
            hash.update(b"[");
            items.iter().for_each(|item| feed_value(hash, item));
            hash.update(b"]");
        }
        Value::Object(map) => {
            hash.update(b"{");
            // Sorted here: a crate elsewhere may have switched `serde_json/preserve_order` on.
            let sorted: BTreeMap<&String, &Value> = map.iter().collect();
            for (key, item) in sorted {
                feed(hash, key);
                feed_value(hash, item);
            }
            hash.update(b"}");
        }
    }
}

/// White space of any length as one blank.
fn squeeze(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
    }
    out
}

/// Squeezed, and every run of digits as one zero.
fn masked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in squeeze(text).chars() {
        match c {
            '0'..='9' if out.ends_with('0') => {}
            '0'..='9' => out.push('0'),
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn bash(command: &str) -> ToolCall {
        ToolCall { id: "c".into(), name: "Bash".into(), input: ToolInput::Json(json!({ "command": command })) }
    }

    fn tool(name: &str, arg: &str) -> ToolCall {
        ToolCall { id: "c".into(), name: name.into(), input: ToolInput::Json(json!({ "arg": arg })) }
    }

    fn gave(text: &str, is_error: bool) -> ToolResult {
        ToolResult { tool_use_id: "c".into(), content: vec![Content::text(text)], is_error }
    }

    /// The verdicts of a sequence, as `.`, `s` (steer) and `X` (stuck).
    fn verdicts(calls: impl IntoIterator<Item = (ToolCall, ToolResult)>) -> String {
        let mut guard = StuckGuard::default();
        calls
            .into_iter()
            .map(|(call, result)| match guard.observe(&call, &result) {
                None => '.',
                Some(StuckVerdict::Steer(_)) => 's',
                Some(StuckVerdict::Stuck(_)) => 'X',
            })
            .collect()
    }

    #[test]
    fn the_same_failure_is_told_at_three_and_ended_six_later() {
        let calls = (0..9).map(|n| (bash("make  test"), gave(&format!("error: no rule, took {n}.{n}s"), true)));
        assert_eq!(verdicts(calls), "..s.....X");
    }

    #[test]
    fn the_same_success_is_told_at_six_and_ended_six_later() {
        assert_eq!(verdicts((0..12).map(|_| (bash("ls"), gave("a\nb", false)))), ".....s.....X");
        let moving = (0..20).map(|n| (bash("wc -l log"), gave(&n.to_string(), false)));
        assert_eq!(verdicts(moving), ".".repeat(20));
    }

    #[test]
    fn a_failing_test_after_each_new_edit_is_no_circle_but_edits_to_and_fro_are() {
        let new = (0..20).flat_map(|n| {
            [(tool("Edit", &format!("try {n}")), gave("edited", false)), (bash("make"), gave("FAILED: one test", true))]
        });
        assert_eq!(verdicts(new), ".".repeat(40));
        let circle = (0..20).flat_map(|n| {
            let to = if n % 2 == 0 { "there" } else { "back" };
            [(tool("Edit", to), gave("edited", false)), (bash("make"), gave(&format!("FAILED: {to}"), true))]
        });
        let seen = verdicts(circle);
        assert!(seen.contains('s') && seen.contains('X'), "{seen}");
    }

    #[test]
    fn the_same_error_from_different_calls_is_told_at_five_and_ended_six_later() {
        let calls =
            (0..11).map(|n| (tool("Edit", &format!("guess {n}")), gave("the old text is not in the file", true)));
        assert_eq!(verdicts(calls), "....s.....X");
        let silent = (0..20).map(|n| (bash(&format!("grep x{n} .")), gave("\nexit code 1", true)));
        assert_eq!(verdicts(silent), ".".repeat(20));
        let mixed = (0..20).map(|n| (tool("Edit", &n.to_string()), gave("no", n % 3 != 0)));
        assert_eq!(verdicts(mixed), ".".repeat(20));
    }

    #[test]
    fn one_word_per_signature_and_a_success_in_between_starts_anew() {
        let fail = || (bash("make"), gave("boom", true));
        let mut calls: Vec<_> = (0..5).map(|_| fail()).collect();
        calls.push((bash("ls"), gave("new", false)));
        calls.extend((0..6).map(|_| fail()));
        assert_eq!(verdicts(calls), "..s........X");
    }

    #[test]
    fn the_words_name_the_tool_and_nothing_of_input_or_output() {
        let mut guard = StuckGuard::default();
        let said: Vec<_> =
            (0..9).filter_map(|_| guard.observe(&bash("curl -H key=hunter2"), &gave("denied hunter2", true))).collect();
        let [StuckVerdict::Steer(steer), StuckVerdict::Stuck(why)] = said.as_slice() else { panic!("{said:?}") };
        assert!(steer.contains("`Bash` has failed 3 times"), "{steer}");
        assert_eq!(
            why,
            "the same call of `Bash` failed the same way 9 times with nothing new in between, 6 of them after the agent was told"
        );
        assert!(!steer.contains("hunter2"), "{steer}");
    }

    #[test]
    fn a_command_is_the_same_whatever_it_is_described_as_and_failure_shows_in_its_last_line() {
        let calls = (0..3).map(|n| {
            let input = json!({ "description": format!("try {n}"), "command": "make" });
            let call = ToolCall { id: n.to_string(), name: "Bash".into(), input: ToolInput::Json(input) };
            (call, gave("boom\nexit status: 2\n", false))
        });
        assert_eq!(verdicts(calls), "..s");
        assert_eq!(
            [exit_status("Exit code 0"), exit_status("exited with 137"), exit_status("exit code")],
            [Some(true), Some(false), None]
        );
    }

    #[test]
    fn trimmed_results_say_nothing_and_memory_is_bounded() {
        assert_eq!(verdicts((0..20).map(|_| (bash("ls"), gave(TRIMMED, false)))), ".".repeat(20));
        let mut guard = StuckGuard::default();
        for n in 0..1_000 {
            for _ in 0..3 {
                guard.observe(&bash(&format!("make {n}")), &gave("boom", true));
            }
        }
        assert_eq!((guard.seen.len(), guard.window.len(), guard.told.len()), (SEEN, WINDOW, TOLD));
    }
}
