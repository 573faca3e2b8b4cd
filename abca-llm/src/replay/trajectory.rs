//! The file format.

use std::collections::BTreeMap;

use abca_core::model::{Content, ModelReply, StopReason, ToolCall, ToolInput, Usage};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::fingerprint::Fingerprint;

/// The version of the format that we write; older ones are read, newer ones refused.
pub(super) const VERSION: u32 = 1;

/// How closely a conversation must fit the recording.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Match {
    /// Every text as it was.
    Strict,
    /// Every text, with volatile parts masked.
    #[default]
    Normalised,
    /// No texts: only who said what kind of thing.
    Shape,
}

/// The first line.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    pub(super) abca_trajectory: u32,
    #[serde(default, rename = "match")]
    pub(super) mode: Match,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) note: String,
}

/// A recorded step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Recorded {
    /// The call, from 1: one more than the conversation has assistant messages.
    pub(super) call: usize,
    pub(super) request: Fingerprint,
    pub(super) reply: ModelReply,
}

/// A step written by hand.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Written {
    say: String,
    calls: Vec<WrittenCall>,
    expect: Vec<String>,
    stop: Option<StopReason>,
    usage: Option<Usage>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenCall {
    name: String,
    #[serde(default)]
    input: Value,
    id: Option<String>,
}

/// What must hold before a step is played.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Condition {
    Fits(Fingerprint),
    Says(Vec<String>),
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Step {
    pub(super) condition: Condition,
    pub(super) reply: ModelReply,
    /// The usage is to be estimated.
    pub(super) estimate: bool,
}

/// A whole trajectory: steps by call number, from 1.
#[derive(Debug, Clone)]
pub(super) struct Trajectory {
    pub(super) mode: Match,
    pub(super) steps: BTreeMap<usize, Step>,
}

impl Trajectory {
    /// Reads a trajectory. Of two recorded steps for one call the later counts: a recording that went on after a
    /// crash repeats the call that was cut.
    ///
    /// # Errors
    /// What is wrong, with the line's number.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut lines = text.strip_prefix('\u{feff}').unwrap_or(text).lines().enumerate().filter(|(_, l)| {
            let l = l.trim();
            !l.is_empty() && !l.starts_with("//")
        });
        let Some((n, first)) = lines.next() else {
            return Err("the trajectory is empty".into());
        };
        let version = serde_json::from_str::<Value>(first).ok().and_then(|v| v.get("abca_trajectory")?.as_u64());
        match version {
            None => return Err(format!("line {}: want `{{\"abca_trajectory\": {VERSION}}}` first", n + 1)),
            Some(v) if v > u64::from(VERSION) => {
                return Err(format!("the trajectory has format {v}, this program knows up to {VERSION}"));
            }
            Some(_) => {}
        }
        let header: Header = serde_json::from_str(first).map_err(|e| format!("line {}: {e}", n + 1))?;
        let mut steps = BTreeMap::new();
        for (n, line) in lines {
            let at = |e: &dyn std::fmt::Display| format!("line {}: {e}", n + 1);
            let value: Value = serde_json::from_str(line).map_err(|e| at(&e))?;
            if value.get("reply").is_some() {
                let recorded: Recorded = serde_json::from_value(value).map_err(|e| at(&e))?;
                if recorded.call == 0 || recorded.call > steps.len() + 1 {
                    return Err(at(&format_args!("call {} does not follow call {}", recorded.call, steps.len())));
                }
                // What came after the repeated call belongs to the attempt that was given up.
                let _ = steps.split_off(&recorded.call);
                let condition = Condition::Fits(recorded.request);
                steps.insert(recorded.call, Step { condition, reply: recorded.reply, estimate: false });
            } else {
                let written: Written = serde_json::from_value(value).map_err(|e| at(&e))?;
                let call = steps.len() + 1;
                steps.insert(call, written.step(call).map_err(|e| at(&e))?);
            }
        }
        if steps.is_empty() { Err("the trajectory has no steps".into()) } else { Ok(Self { mode: header.mode, steps }) }
    }
}

impl Written {
    fn step(self, call: usize) -> Result<Step, &'static str> {
        if self.say.is_empty() && self.calls.is_empty() && self.stop.is_none() {
            return Err("a step wants `say`, `calls` or `stop`");
        }
        let stop = self.stop.unwrap_or(if self.calls.is_empty() { StopReason::EndTurn } else { StopReason::ToolUse });
        let mut content = Vec::new();
        if !self.say.is_empty() {
            content.push(Content::Text { text: self.say });
        }
        for (i, c) in self.calls.into_iter().enumerate() {
            let input = if c.input.is_null() { Value::Object(serde_json::Map::new()) } else { c.input };
            content.push(Content::ToolUse(ToolCall {
                id: c.id.unwrap_or_else(|| format!("call_{call}_{}", i + 1)),
                name: c.name,
                input: ToolInput::Json(input),
            }));
        }
        let reply = ModelReply { content, stop, usage: self.usage.unwrap_or_default(), model: "replay".into() };
        Ok(Step { condition: Condition::Says(self.expect), reply, estimate: self.usage.is_none() })
    }
}

/// The header as a line.
pub(super) fn header_line(mode: Match) -> String {
    let header = Header { abca_trajectory: VERSION, mode, note: String::new() };
    line(&header)
}

/// Any of ours as a line with its end.
pub(super) fn line(value: &impl Serialize) -> String {
    let mut text = serde_json::to_string(value).unwrap_or_default();
    text.push('\n');
    text
}
