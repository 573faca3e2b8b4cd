//! The events of a streamed message.

use std::collections::VecDeque;

use abca_core::model::{ModelError, ModelEvent, StopReason, Usage};
use serde::Deserialize;
use serde_json::Value;

use super::NAME;
use crate::assemble::{Assembly, REDACTED};
use crate::fault::{Scrub, malformed};
use crate::http::{Decode, error_object};
use crate::sse::SseEvent;

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Event {
    MessageStart {
        message: Start,
    },
    ContentBlockStart {
        index: u64,
        content_block: BlockStart,
    },
    ContentBlockDelta {
        index: u64,
        delta: Delta,
    },
    ContentBlockStop {},
    MessageDelta {
        delta: MessageDelta,
        #[serde(default)]
        usage: WireUsage,
    },
    MessageStop {},
    Ping {},
    Error {
        error: Value,
    },
    /// New events may come at any time, says the API's versioning.
    #[serde(other)]
    Unknown,
}

#[derive(Debug, Deserialize)]
struct Start {
    #[serde(default)]
    model: String,
    #[serde(default)]
    usage: WireUsage,
}

#[derive(Debug, Default, Deserialize)]
struct WireUsage {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum BlockStart {
    Text {
        #[serde(default)]
        text: String,
    },
    Thinking {
        #[serde(default)]
        thinking: String,
        #[serde(default)]
        signature: String,
    },
    RedactedThinking {
        data: String,
    },
    ToolUse {
        id: String,
        name: String,
        #[serde(default)]
        input: Value,
    },
    #[serde(other)]
    Unknown,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type")]
enum Delta {
    #[serde(rename = "text_delta")]
    Text { text: String },
    #[serde(rename = "input_json_delta")]
    InputJson { partial_json: String },
    #[serde(rename = "thinking_delta")]
    Thinking { thinking: String },
    #[serde(rename = "signature_delta")]
    Signature { signature: String },
    #[serde(other)]
    Unknown,
}

#[derive(Debug, Deserialize)]
struct MessageDelta {
    stop_reason: Option<String>,
}

/// Decodes one answer.
#[derive(Debug)]
pub(super) struct MessagesDecoder {
    answer: Assembly,
    started: bool,
    scrub: Scrub,
}

impl MessagesDecoder {
    pub(super) fn new(scrub: Scrub) -> Self {
        Self { answer: Assembly::default(), started: false, scrub }
    }

    fn begin(&mut self, index: u64, block: BlockStart, out: &mut VecDeque<ModelEvent>) -> Result<(), ModelError> {
        if self.answer.has(index) {
            return Err(malformed(NAME, format_args!("block {index} begins twice")));
        }
        match block {
            BlockStart::Text { text } => self.answer.text(NAME, index, text, out),
            BlockStart::Thinking { thinking, signature } => {
                self.answer.thinking(NAME, index, thinking, &signature, out)
            }
            BlockStart::RedactedThinking { data } => {
                self.answer.thinking(NAME, index, String::new(), &format!("{REDACTED}{data}"), out)
            }
            BlockStart::ToolUse { id, name, input } => {
                self.answer.begin_tool(index, id, name, out);
                // Empty where the arguments stream; whole where a server does not stream them.
                match input.as_object() {
                    Some(map) if !map.is_empty() => self.answer.arguments(NAME, index, &input.to_string()),
                    Some(_) | None => Ok(()),
                }
            }
            BlockStart::Unknown => {
                self.answer.begin_unknown(index);
                Ok(())
            }
        }
    }

    fn delta(&mut self, index: u64, delta: Delta, out: &mut VecDeque<ModelEvent>) -> Result<(), ModelError> {
        if !self.answer.has(index) {
            return Err(malformed(NAME, format_args!("a piece of block {index}, which has not begun")));
        }
        match delta {
            Delta::Text { text } => self.answer.text(NAME, index, text, out),
            Delta::InputJson { partial_json } => self.answer.arguments(NAME, index, &partial_json),
            Delta::Thinking { thinking } => self.answer.thinking(NAME, index, thinking, "", out),
            Delta::Signature { signature } => self.answer.thinking(NAME, index, String::new(), &signature, out),
            Delta::Unknown => Ok(()),
        }
    }

    fn count(&mut self, u: WireUsage) {
        let usage: &mut Usage = &mut self.answer.usage;
        // Every report is of the whole message so far.
        for (field, value) in [
            (&mut usage.input_tokens, u.input_tokens),
            (&mut usage.output_tokens, u.output_tokens),
            (&mut usage.cache_write_tokens, u.cache_creation_input_tokens),
            (&mut usage.cache_read_tokens, u.cache_read_input_tokens),
        ] {
            *field = value.unwrap_or(*field);
        }
    }
}

impl Decode for MessagesDecoder {
    fn event(&mut self, event: SseEvent, out: &mut VecDeque<ModelEvent>) -> Result<(), ModelError> {
        let parsed: Event = serde_json::from_str(&event.data)
            .map_err(|e| malformed(NAME, format_args!("an event is not what it should be: {e}")))?;
        match parsed {
            Event::MessageStart { message } => {
                if std::mem::replace(&mut self.started, true) {
                    return Err(malformed(NAME, "the message begins twice"));
                }
                self.answer.model = message.model;
                self.count(message.usage);
                Ok(())
            }
            Event::Error { error } => Err(error_object(NAME, None, &error, &self.scrub, None)),
            Event::Ping {} | Event::Unknown | Event::ContentBlockStop {} => Ok(()),
            _ if !self.started => Err(malformed(NAME, "an event before the message begins")),
            Event::ContentBlockStart { index, content_block } => self.begin(index, content_block, out),
            Event::ContentBlockDelta { index, delta } => self.delta(index, delta, out),
            Event::MessageDelta { delta, usage } => {
                self.count(usage);
                if let Some(reason) = delta.stop_reason {
                    self.answer.stop = Some(stop(reason));
                }
                Ok(())
            }
            Event::MessageStop {} => match self.answer.finish() {
                Some(reply) => {
                    out.push_back(ModelEvent::Done(Box::new(reply)));
                    Ok(())
                }
                None => Err(malformed(NAME, "the message stops without a reason")),
            },
        }
    }

    fn end(&mut self, _: &mut VecDeque<ModelEvent>) {} // Only `message_stop` ends a message.
}

fn stop(reason: String) -> StopReason {
    match reason.as_str() {
        "end_turn" => StopReason::EndTurn,
        "tool_use" => StopReason::ToolUse,
        "max_tokens" => StopReason::MaxTokens,
        "stop_sequence" => StopReason::StopSequence,
        "refusal" => StopReason::Refusal,
        "model_context_window_exceeded" => StopReason::ContextFull,
        _ => StopReason::Other(reason),
    }
}

#[cfg(test)]
mod tests {
    use abca_core::model::{Content, ModelErrorKind, ModelReply, ToolCall, ToolInput};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn decode(events: &[Value]) -> Result<Vec<ModelEvent>, ModelError> {
        let mut decoder = MessagesDecoder::new(Scrub::default());
        let mut out = VecDeque::new();
        for e in events {
            decoder.event(SseEvent { name: String::new(), data: e.to_string() }, &mut out)?;
        }
        Ok(out.into())
    }

    fn start() -> Value {
        json!({"type": "message_start", "message": {"model": "claude-x", "content": [], "usage":
            {"input_tokens": 9, "output_tokens": 1, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 7}}})
    }

    #[test]
    fn a_whole_answer_with_everything() {
        let got = decode(&[
            start(),
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}}),
            json!({"type": "ping"}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hm"}}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "sig"}}),
            json!({"type": "content_block_stop", "index": 0}),
            json!({"type": "content_block_start", "index": 1, "content_block": {"type": "redacted_thinking", "data": "blob"}}),
            json!({"type": "content_block_start", "index": 2, "content_block": {"type": "server_tool_use", "id": "s", "name": "web"}}),
            json!({"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": "{"}}),
            json!({"type": "content_block_start", "index": 3, "content_block": {"type": "text", "text": ""}}),
            json!({"type": "content_block_delta", "index": 3, "delta": {"type": "citations_delta", "citation": {}}}),
            json!({"type": "content_block_delta", "index": 3, "delta": {"type": "text_delta", "text": "so"}}),
            json!({"type": "from_the_future"}),
            json!({"type": "content_block_start", "index": 4, "content_block": {"type": "tool_use", "id": "t", "name": "Bash", "input": {}}}),
            json!({"type": "content_block_delta", "index": 4, "delta": {"type": "input_json_delta", "partial_json": ""}}),
            json!({"type": "content_block_delta", "index": 4, "delta": {"type": "input_json_delta", "partial_json": "{\"a\":"}}),
            json!({"type": "content_block_delta", "index": 4, "delta": {"type": "input_json_delta", "partial_json": "1}"}}),
            json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 33}}),
            json!({"type": "message_stop"}),
        ])
        .unwrap();
        let reply = ModelReply {
            content: vec![
                Content::Thinking { text: "hm".into(), signature: Some("sig".into()) },
                Content::Thinking { text: String::new(), signature: Some("redacted_thinking:blob".into()) },
                Content::text("so"),
                Content::ToolUse(ToolCall {
                    id: "t".into(),
                    name: "Bash".into(),
                    input: ToolInput::Json(json!({"a": 1})),
                }),
            ],
            stop: StopReason::ToolUse,
            usage: Usage { input_tokens: 9, output_tokens: 33, cache_read_tokens: 5, cache_write_tokens: 7 },
            model: "claude-x".into(),
        };
        assert_eq!(
            got,
            [
                ModelEvent::ThinkingDelta("hm".into()),
                ModelEvent::TextDelta("so".into()),
                ModelEvent::ToolUseStarted { name: "Bash".into() },
                ModelEvent::Done(Box::new(reply)),
            ]
        );
    }

    #[test]
    fn stop_reasons() {
        let of = |s: &str| stop(s.to_owned());
        assert_eq!(of("refusal"), StopReason::Refusal);
        assert_eq!(of("pause_turn"), StopReason::Other("pause_turn".into()));
        assert_eq!(of("model_context_window_exceeded"), StopReason::ContextFull);
    }

    #[test]
    fn nonsense_is_malformed_and_errors_have_their_kind() {
        let kind = |events: &[Value]| decode(events).unwrap_err().kind();
        let text = json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "x"}});
        assert_eq!(kind(std::slice::from_ref(&text)), ModelErrorKind::Malformed);
        assert_eq!(kind(&[start(), text]), ModelErrorKind::Malformed);
        assert_eq!(kind(&[start(), start()]), ModelErrorKind::Malformed);
        assert_eq!(kind(&[json!([])]), ModelErrorKind::Malformed);
        assert_eq!(kind(&[start(), json!({"type": "message_stop"})]), ModelErrorKind::Malformed);
        let error = |t: &str| json!({"type": "error", "error": {"type": t, "message": "m"}});
        assert_eq!(kind(&[error("overloaded_error")]), ModelErrorKind::Overloaded);
        assert_eq!(kind(&[start(), error("rate_limit_error")]), ModelErrorKind::Throttled);
        assert_eq!(kind(&[start(), error("invalid_request_error")]), ModelErrorKind::BadRequest);
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_or_an_error(data in prop::collection::vec(".*", 0..5)) {
            let mut decoder = MessagesDecoder::new(Scrub::default());
            let mut out = VecDeque::new();
            for data in data {
                let _ = decoder.event(SseEvent { name: "x".into(), data }, &mut out);
            }
        }
    }
}
