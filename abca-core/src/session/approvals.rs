//! What humans were asked in a session and what they answered: part of the fold of the log, so that it survives restarts.

use std::collections::BTreeMap;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::model::{ToolCall, ToolInput};
use crate::task::{Gate, GateDecision, InitialScope};

/// A question that has no answer yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenGate {
    /// The call that it is about.
    pub call: String,
    /// The question.
    pub gate: Gate,
}

/// Questions and answers so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Approvals {
    /// The question that waits; at most one does.
    pub open: Option<OpenGate>,
    /// How many were asked, the one that waits included.
    pub asked: u32,
    /// Scopes that were approved, in order.
    pub granted: Vec<InitialScope>,
    /// The call that was approved and has not begun yet, with the rules that had asked.
    once: Option<(String, Vec<String>)>,
    /// Calls that a human denied, by [`key`], with the reason.
    denied: BTreeMap<[u8; 32], Option<String>>,
}

impl Approvals {
    /// Whether a human approved just this call, as far as these rules are concerned: what one guard asked about says nothing
    /// of another's question.
    pub fn is_approved<'a>(&self, call: &ToolCall, mut rules: impl Iterator<Item = &'a str>) -> bool {
        self.once.as_ref().is_some_and(|(id, asked)| *id == call.id && rules.all(|r| asked.iter().any(|a| a == r)))
    }

    /// Whether a human denied the very same call before, and why.
    pub fn denial(&self, call: &ToolCall) -> Option<Option<&str>> {
        self.denied.get(&key(call)).map(Option::as_deref)
    }

    pub(super) fn ask(&mut self, call: &str, gate: &Gate) {
        let again = self.open.as_ref().is_some_and(|open| open.gate.request == gate.request);
        if !again {
            self.asked = self.asked.saturating_add(1);
        }
        self.open = Some(OpenGate { call: call.to_owned(), gate: gate.clone() });
    }

    /// Takes the answer in; `call` is the one that was asked about, while it is still known.
    pub(super) fn settle(&mut self, request: &str, decision: &GateDecision, call: Option<&ToolCall>) {
        let Some(open) = self.open.take_if(|open| open.gate.request == request) else { return };
        if decision.approved {
            match decision.scope.lasting(&open.gate.tool) {
                Some(scope) if self.granted.contains(&scope) => {}
                Some(scope) => self.granted.push(scope),
                None => {}
            }
            // Also beside a scope: it may turn out narrower than the call, and the human said yes to the call.
            self.once = Some((open.call, open.gate.rules));
        } else if decision.by.is_some()
            && let Some(call) = call
        {
            self.denied.insert(key(call), decision.reason.clone());
        }
    }

    /// The call begins, or is over.
    pub(super) fn used(&mut self, call: &str) {
        self.once.take_if(|(once, _)| once == call);
        self.open.take_if(|open| open.call == call);
    }
}

/// Tool and arguments, whatever the order of keys.
fn key(call: &ToolCall) -> [u8; 32] {
    let mut hash = Sha256::new();
    feed(&mut hash, &call.name);
    match &call.input {
        ToolInput::Json(value) => feed_value(&mut hash, value),
        ToolInput::Invalid { raw, .. } => feed(&mut hash, raw),
    }
    hash.finalize().into()
}

/// Length before text, so that no two calls look alike.
fn feed(hash: &mut Sha256, text: &str) {
    hash.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_le_bytes());
    hash.update(text);
}

/// Nesting is bounded by the parser of the model's answer.
fn feed_value(hash: &mut Sha256, value: &Value) {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => feed(hash, &value.to_string()),
        Value::Array(items) => {
            hash.update(b"[");
            items.iter().for_each(|item| feed_value(hash, item));
            hash.update(b"]");
        }
        Value::Object(map) => {
            hash.update(b"{");
            let sorted: BTreeMap<&String, &Value> = map.iter().collect();
            for (name, item) in sorted {
                feed(hash, name);
                feed_value(hash, item);
            }
            hash.update(b"}");
        }
    }
}
