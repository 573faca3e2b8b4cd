//! The chunks of a streamed completion, from servers that differ.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use abca_core::model::{Content, ModelError, ModelEvent, ModelRequest, StopReason, Usage};
use serde::Deserialize;
use serde_json::Value;

use super::NAME;
use crate::assemble::Assembly;
use crate::estimate;
use crate::fault::{Scrub, malformed};
use crate::http::{Decode, error_object};
use crate::sse::SseEvent;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Chunk {
    model: Option<String>,
    choices: Option<Vec<Choice>>,
    usage: Option<WireUsage>,
    error: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Choice {
    index: u64,
    delta: Option<Delta>,
    finish_reason: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Delta {
    content: Option<String>,
    refusal: Option<String>,
    /// DeepSeek, vLLM, llama.cpp.
    reasoning_content: Option<String>,
    /// OpenRouter, newer vLLM.
    reasoning: Option<String>,
    tool_calls: Option<Vec<CallDelta>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CallDelta {
    index: Option<u64>,
    id: Option<String>,
    function: Option<FunctionDelta>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct FunctionDelta {
    name: Option<String>,
    /// A piece of JSON text; some servers send the whole object.
    arguments: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WireUsage {
    prompt_tokens: u64,
    completion_tokens: u64,
    prompt_tokens_details: Option<PromptDetails>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PromptDetails {
    cached_tokens: Option<u64>,
}

/// The blocks of an answer: its thinking, its text, then its calls by index.
const THINKING: u64 = 0;
const TEXT: u64 = 1;
const FIRST_CALL: u64 = 2;

/// Most calls of one answer: the index comes from outside.
const MAX_CALLS: u64 = 10_000;

/// Decodes one answer.
#[derive(Debug)]
pub(super) struct ChatDecoder {
    answer: Assembly,
    usage: Option<Usage>,
    refused: bool,
    /// Ids of the conversation: a provider that counts from zero in every answer would repeat them.
    ids: BTreeSet<String>,
    turn: usize,
    last_call: Option<u64>,
    /// The id that the server gave the last call: a server that sends no index starts a new call with a new id.
    last_id: String,
    input_estimate: u64,
    model: String,
    estimated: Arc<AtomicU64>,
    scrub: Scrub,
}

impl ChatDecoder {
    pub(super) fn new(request: &ModelRequest, scrub: Scrub, estimated: Arc<AtomicU64>) -> Self {
        let contents = request.messages.iter().flat_map(|m| &m.content);
        let ids = contents.filter_map(|c| match c {
            Content::ToolUse(call) => Some(call.id.clone()),
            Content::Text { .. } | Content::Image { .. } | Content::Thinking { .. } | Content::ToolResult(_) => None,
        });
        Self {
            answer: Assembly::default(),
            usage: None,
            refused: false,
            ids: ids.collect(),
            turn: request.messages.len(),
            last_call: None,
            last_id: String::new(),
            input_estimate: estimate::request_tokens(request).input_tokens,
            model: request.model.clone(),
            estimated,
            scrub,
        }
    }

    fn delta(&mut self, delta: Delta, out: &mut VecDeque<ModelEvent>) -> Result<(), ModelError> {
        if let Some(piece) = delta.reasoning_content.or(delta.reasoning).filter(|p| !p.is_empty()) {
            self.answer.thinking(NAME, THINKING, piece, "", out)?;
        }
        if let Some(piece) = delta.refusal.filter(|p| !p.is_empty()) {
            self.refused = true;
            self.answer.text(NAME, TEXT, piece, out)?;
        }
        if let Some(piece) = delta.content.filter(|p| !p.is_empty()) {
            self.answer.text(NAME, TEXT, piece, out)?;
        }
        for call in delta.tool_calls.unwrap_or_default() {
            self.call(call, out)?;
        }
        Ok(())
    }

    fn call(&mut self, call: CallDelta, out: &mut VecDeque<ModelEvent>) -> Result<(), ModelError> {
        let id = call.id.unwrap_or_default();
        let function = call.function.unwrap_or_default();
        let name = function.name.unwrap_or_default();
        let index = match (call.index, self.last_call) {
            (Some(i), _) => i,
            (None, None) => 0,
            (None, Some(last)) if id.is_empty() || id == self.last_id => last,
            (None, Some(last)) => last + 1,
        };
        if index > MAX_CALLS {
            return Err(malformed(NAME, format_args!("a tool call with the index {index}")));
        }
        self.last_call = Some(index);
        let block = FIRST_CALL + index;
        if !id.is_empty() {
            self.last_id.clone_from(&id);
        }
        if !self.answer.has(block) {
            if name.is_empty() {
                return Err(malformed(NAME, "a tool call without a name"));
            }
            let id = self.unique(id, index);
            self.answer.begin_tool(block, id, name, out);
        }
        match function.arguments {
            None | Some(Value::Null) => Ok(()),
            Some(Value::String(piece)) => self.answer.arguments(NAME, block, &piece),
            Some(whole) => self.answer.arguments(NAME, block, &whole.to_string()),
        }
    }

    /// The provider's id, or one of ours where it gives none or repeats one.
    fn unique(&mut self, id: String, index: u64) -> String {
        let id = if id.is_empty() { format!("call_{}_{index}", self.turn) } else { id };
        let mut unique = id.clone();
        let mut n = 1;
        while !self.ids.insert(unique.clone()) {
            n += 1;
            unique = format!("{id}_{}_{n}", self.turn);
        }
        unique
    }

    fn done(&mut self, out: &mut VecDeque<ModelEvent>) -> bool {
        let stop = match self.answer.stop.take() {
            Some(_) if self.refused => StopReason::Refusal,
            Some(StopReason::EndTurn) if self.answer.has_tools() => StopReason::ToolUse,
            Some(stop) => stop,
            None => return false,
        };
        self.answer.stop = Some(stop);
        if self.answer.model.is_empty() {
            self.answer.model.clone_from(&self.model);
        }
        let Some(mut reply) = self.answer.finish() else { return false };
        reply.usage = match self.usage {
            Some(usage) => usage,
            None => {
                if self.estimated.fetch_add(1, Ordering::Relaxed) == 0 {
                    tracing::warn!(model = %reply.model, "the server reports no usage: cost is estimated");
                }
                let output_tokens = estimate::content_tokens(&reply.content);
                Usage { input_tokens: self.input_estimate, output_tokens, ..Usage::default() }
            }
        };
        out.push_back(ModelEvent::Done(Box::new(reply)));
        true
    }
}

impl Decode for ChatDecoder {
    fn event(&mut self, event: SseEvent, out: &mut VecDeque<ModelEvent>) -> Result<(), ModelError> {
        if event.data.trim() == "[DONE]" {
            return if self.done(out) { Ok(()) } else { Err(malformed(NAME, "the answer ends without a reason")) };
        }
        let chunk: Chunk = serde_json::from_str(&event.data)
            .map_err(|e| malformed(NAME, format_args!("a chunk is not what it should be: {e}")))?;
        if let Some(error) = chunk.error.filter(|e| !e.is_null()) {
            return Err(error_object(NAME, None, &error, &self.scrub, None));
        }
        if let Some(model) = chunk.model.filter(|m| !m.is_empty()) {
            self.answer.model = model;
        }
        if let Some(u) = chunk.usage {
            let cached = u.prompt_tokens_details.and_then(|d| d.cached_tokens).unwrap_or(0).min(u.prompt_tokens);
            self.usage = Some(Usage {
                input_tokens: u.prompt_tokens - cached,
                output_tokens: u.completion_tokens,
                cache_read_tokens: cached,
                cache_write_tokens: 0,
            });
        }
        for choice in chunk.choices.unwrap_or_default() {
            if choice.index != 0 {
                continue; // We ask for one.
            }
            if let Some(delta) = choice.delta {
                self.delta(delta, out)?;
            }
            if let Some(reason) = choice.finish_reason.filter(|r| !r.is_empty()) {
                self.answer.stop = Some(stop(reason));
            }
        }
        Ok(())
    }

    /// Some servers end without `[DONE]`. An answer that has its reason is whole.
    fn end(&mut self, out: &mut VecDeque<ModelEvent>) {
        self.done(out);
    }
}

fn stop(reason: String) -> StopReason {
    match reason.as_str() {
        "stop" | "eos" => StopReason::EndTurn,
        "tool_calls" | "function_call" => StopReason::ToolUse,
        "length" => StopReason::MaxTokens,
        "content_filter" => StopReason::Refusal,
        _ => StopReason::Other(reason),
    }
}

#[cfg(test)]
mod tests {
    use abca_core::model::{Message, ModelErrorKind, ModelReply, Role, ToolCall, ToolInput};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn request() -> ModelRequest {
        ModelRequest {
            model: "asked".into(),
            system: String::new(),
            messages: vec![
                Message::text(Role::User, "x"),
                Message {
                    role: Role::Assistant,
                    content: vec![Content::ToolUse(ToolCall {
                        id: "call_0".into(),
                        name: "Bash".into(),
                        input: ToolInput::Json(json!({})),
                    })],
                },
            ],
            tools: vec![],
            max_output_tokens: 9,
            cache: false,
        }
    }

    fn decode(chunks: &[&str]) -> Result<Vec<ModelEvent>, ModelError> {
        let mut decoder = ChatDecoder::new(&request(), Scrub::default(), Arc::default());
        let mut out = VecDeque::new();
        for data in chunks {
            decoder.event(SseEvent { name: String::new(), data: (*data).to_owned() }, &mut out)?;
        }
        Ok(out.into())
    }

    fn reply(chunks: &[&str]) -> ModelReply {
        match decode(chunks).unwrap().pop() {
            Some(ModelEvent::Done(reply)) => *reply,
            other => panic!("no answer but {other:?}"),
        }
    }

    fn call(id: &str, input: Value) -> Content {
        Content::ToolUse(ToolCall { id: id.into(), name: "Bash".into(), input: ToolInput::Json(input) })
    }

    #[test]
    fn interleaved_calls_usage_and_thinking() {
        let got = reply(&[
            r#"{"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":null,"reasoning_content":"hm"}}]}"#,
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"Bash","arguments":""}}]}}]}"#,
            r#"{"choices":[{"delta":{"tool_calls":[{"index":1,"id":"b","function":{"name":"Bash","arguments":"{\"n\":"}}]}}]}"#,
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{}"}},{"index":1,"function":{"arguments":"2}"}}]}}]}"#,
            r#"{"choices":[{"delta":{},"finish_reason":"tool_calls"}]}"#,
            r#"{"choices":[],"usage":{"prompt_tokens":100,"completion_tokens":7,"prompt_tokens_details":{"cached_tokens":64}}}"#,
            "[DONE]",
        ]);
        let thinking = Content::Thinking { text: "hm".into(), signature: None };
        assert_eq!(got.content, [thinking, call("a", json!({})), call("b", json!({"n": 2}))]);
        let usage = Usage { input_tokens: 36, output_tokens: 7, cache_read_tokens: 64, cache_write_tokens: 0 };
        assert_eq!((got.usage, got.stop, got.model.as_str()), (usage, StopReason::ToolUse, "m"));
    }

    #[test]
    fn servers_without_index_id_or_text_arguments() {
        let got = reply(&[
            r#"{"choices":[{"delta":{"tool_calls":[{"id":"call_0","function":{"name":"Bash","arguments":{"n":1}}}]}}]}"#,
            r#"{"choices":[{"delta":{"tool_calls":[{"id":"call_1","function":{"name":"Bash","arguments":"{}"}}]}}]}"#,
            r#"{"choices":[{"delta":{"tool_calls":[{"index":7,"function":{"name":"Bash"}}]}}]}"#,
            r#"{"choices":[{"delta":{"content":""},"finish_reason":"stop"}]}"#,
            "[DONE]",
        ]);
        let want = [call("call_0_2_2", json!({"n": 1})), call("call_1", json!({})), call("call_2_7", json!({}))];
        assert_eq!(got.content, want);
        assert_eq!(got.stop, StopReason::ToolUse); // It said `stop`.
        assert_eq!(got.model, "asked");
        assert!(got.usage.input_tokens > 0 && got.usage.output_tokens > 0, "usage is estimated");
    }

    #[test]
    fn refusals_and_errors() {
        let got = reply(&[
            r#"{"choices":[{"delta":{"refusal":"no"}}]}"#,
            r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#,
            "[DONE]",
        ]);
        assert_eq!((got.text().as_str(), got.stop), ("no", StopReason::Refusal));
        let kind = |chunks: &[&str]| decode(chunks).unwrap_err().kind();
        assert_eq!(kind(&[r#"{"error":{"message":"overloaded","code":503}}"#]), ModelErrorKind::Overloaded);
        assert_eq!(kind(&[r#"{"error":"maximum context length is 8"}"#]), ModelErrorKind::ContextTooLong);
        assert_eq!(kind(&["{"]), ModelErrorKind::Malformed);
        assert_eq!(kind(&["[DONE]"]), ModelErrorKind::Malformed);
        let huge = r#"{"choices":[{"delta":{"tool_calls":[{"index":18446744073709551615,"function":{"name":"x"}}]}}]}"#;
        assert_eq!(kind(&[huge]), ModelErrorKind::Malformed);
    }

    proptest! {
        #[test]
        fn any_text_is_an_answer_or_an_error(data in prop::collection::vec(".*", 0..5)) {
            let data: Vec<&str> = data.iter().map(String::as_str).collect();
            let _ = decode(&data);
        }
    }
}
