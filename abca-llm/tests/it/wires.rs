//! Each provider's wire, from the provider's side: answers and refusals as bytes, and the rules for requests.

use abca_core::Millis;
use abca_core::model::{Content, ModelErrorKind, ModelReply, StopReason, ToolInput};
use abca_core::testing::model::Step;
use serde_json::{Value, json};

use crate::server::{Answer, Captured, plain, streamed};

pub const KEY: &str = "the-secret-key-of-this-test";

/// A provider.
pub trait Wire: Send + Sync + 'static {
    fn step(&self, step: &Step) -> Option<Answer>;
    fn aside(&self, request: &Captured) -> Option<Answer>;
    /// Panics when the request breaks a rule of the provider.
    fn check(&self, request: &Captured);
}

fn raw(input: &ToolInput) -> String {
    match input {
        ToolInput::Json(Value::Object(map)) if map.is_empty() => String::new(),
        ToolInput::Json(value) => value.to_string(),
        ToolInput::Invalid { raw, .. } => raw.clone(),
    }
}

fn pieces(text: &str, size: usize) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    chars.chunks(size).map(|c| c.iter().collect()).collect()
}

/// Size of the pieces in which a text of a length is streamed.
fn size_for(text: &str) -> usize {
    if text.len() > 10_000 { 50_000 } else { 3 }
}

fn refusal(kind: ModelErrorKind) -> (u16, &'static str, &'static str) {
    match kind {
        ModelErrorKind::Throttled => (429, "rate_limit_error", "slow down"),
        ModelErrorKind::Overloaded => (529, "overloaded_error", "Overloaded"),
        ModelErrorKind::ContextTooLong => {
            (400, "invalid_request_error", "prompt is too long: 200001 tokens > 200000 maximum")
        }
        ModelErrorKind::BadRequest => (400, "invalid_request_error", "tools.0: bad schema"),
        ModelErrorKind::Access => (401, "authentication_error", "invalid x-api-key"),
        other => panic!("no status for {other:?}"),
    }
}

fn wait_header(wait: Option<Millis>) -> Vec<(&'static str, String)> {
    wait.map(|w| ("retry-after", (w.0 / 1000).to_string())).into_iter().collect()
}

fn refused(kind: ModelErrorKind, wait: Option<Millis>, body: Value) -> Answer {
    let headers = wait_header(wait);
    let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
    plain(refusal(kind).0, "application/json", &headers, body.to_string().as_bytes())
}

fn no_key(request: &Captured) {
    let body = String::from_utf8_lossy(&request.body);
    assert!(!body.contains(KEY) && !request.path.contains(KEY), "the key is in {} or its body", request.path);
}

/// Roles alternate from the user on, and every call is answered in the next message.
fn check_turns(messages: &[Value], calls: impl Fn(&Value) -> Vec<String>, results: impl Fn(&Value) -> Vec<String>) {
    let mut open: Vec<String> = Vec::new();
    for (i, m) in messages.iter().enumerate() {
        assert_eq!(m["role"], if i % 2 == 0 { "user" } else { "assistant" }, "messages[{i}]");
        assert!(m["content"].as_array().is_some_and(|c| !c.is_empty()), "messages[{i}] is empty");
        assert_eq!(results(m), open, "messages[{i}] answers the calls before");
        open = calls(m);
    }
    assert!(open.is_empty(), "calls without results: {open:?}");
}

fn list(message: &Value, pick: impl Fn(&Value) -> Option<&Value>) -> Vec<String> {
    let parts = message["content"].as_array().unwrap();
    parts.iter().filter_map(|p| Some(pick(p)?.as_str()?.to_owned())).collect()
}

/// Anthropic's Messages API.
pub struct Messages;

/// Server-sent events of these documents, each with the name that its `type` says.
pub fn sse(events: &[Value]) -> Vec<u8> {
    let mut out = String::new();
    for e in events {
        if let Some(name) = e["type"].as_str() {
            out.push_str(&format!("event: {name}\n"));
        }
        out.push_str(&format!("data: {e}\n\n"));
    }
    out.into_bytes()
}

pub fn message_events(reply: &ModelReply) -> Vec<Value> {
    let u = reply.usage;
    let mut events = vec![json!({"type": "message_start", "message": {
        "id": "msg_1", "type": "message", "role": "assistant", "model": reply.model, "content": [], "usage": {
        "input_tokens": u.input_tokens, "output_tokens": 1,
        "cache_read_input_tokens": u.cache_read_tokens, "cache_creation_input_tokens": u.cache_write_tokens}}})];
    for (i, c) in reply.content.iter().enumerate() {
        let (start, deltas): (Value, Vec<Value>) = match c {
            Content::Text { text } => (
                json!({"type": "text", "text": ""}),
                pieces(text, size_for(text)).iter().map(|p| json!({"type": "text_delta", "text": p})).collect(),
            ),
            Content::Thinking { text, signature } => (
                json!({"type": "thinking", "thinking": "", "signature": ""}),
                vec![
                    json!({"type": "thinking_delta", "thinking": text}),
                    json!({"type": "signature_delta", "signature": signature}),
                ],
            ),
            Content::ToolUse(call) => {
                let raw = raw(&call.input);
                let piece = |p: &String| json!({"type": "input_json_delta", "partial_json": p});
                let deltas = pieces(&raw, size_for(&raw)).iter().map(piece).collect();
                (json!({"type": "tool_use", "id": call.id, "name": call.name, "input": {}}), deltas)
            }
            Content::Image { .. } | Content::ToolResult(_) => panic!("not of an answer"),
        };
        events.push(json!({"type": "content_block_start", "index": i, "content_block": start}));
        events.push(json!({"type": "ping"}));
        events.extend(deltas.into_iter().map(|d| json!({"type": "content_block_delta", "index": i, "delta": d})));
        events.push(json!({"type": "content_block_stop", "index": i}));
    }
    let stop = match reply.stop {
        StopReason::EndTurn => "end_turn",
        StopReason::ToolUse => "tool_use",
        StopReason::MaxTokens => "max_tokens",
        StopReason::StopSequence => "stop_sequence",
        StopReason::Refusal => "refusal",
        StopReason::ContextFull => "model_context_window_exceeded",
        StopReason::Other(ref other) => other,
    };
    events.push(json!({"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": null},
        "usage": {"output_tokens": u.output_tokens}}));
    events.push(json!({"type": "message_stop"}));
    events
}

impl Wire for Messages {
    fn step(&self, step: &Step) -> Option<Answer> {
        let kind = "text/event-stream; charset=utf-8";
        Some(match step {
            Step::Reply(reply) => streamed(kind, &sse(&message_events(reply)), 1_000, false),
            Step::Cut(text) => {
                let whole = message_events(&ModelReply {
                    content: vec![Content::text(text)],
                    stop: StopReason::EndTurn,
                    usage: Default::default(),
                    model: "m".into(),
                });
                streamed(kind, &sse(&whole[..whole.len() - 2]), 1_000, true)
            }
            Step::Fail(ModelErrorKind::Malformed, _) => streamed(kind, b"data: {\"type\": oops\n\n", 1_000, false),
            Step::Fail(k, wait) => {
                let (_, class, message) = refusal(*k);
                refused(*k, *wait, json!({"type": "error", "error": {"type": class, "message": message}}))
            }
            Step::Silent => Answer::Silence,
        })
    }

    fn aside(&self, request: &Captured) -> Option<Answer> {
        (request.path == "/v1/messages/count_tokens")
            .then(|| plain(200, "application/json", &[], br#"{"input_tokens": 42}"#))
    }

    fn check(&self, request: &Captured) {
        no_key(request);
        assert_eq!(request.header("x-api-key"), Some(KEY));
        assert_eq!(request.header("anthropic-version"), Some("2023-06-01"));
        let body = request.json();
        let messages = body["messages"].as_array().unwrap();
        let of = |kind: &'static str, field: &'static str| {
            move |m: &Value| list(m, |p| (p["type"] == kind).then(|| &p[field]))
        };
        check_turns(messages, of("tool_use", "id"), of("tool_result", "tool_use_id"));
        let marks = String::from_utf8_lossy(&request.body).matches("cache_control").count();
        assert!((1..=4).contains(&marks), "{marks} cache marks");
        assert!(request.path != "/v1/messages" || (body["stream"] == true && body["max_tokens"].as_u64() > Some(0)));
    }
}

/// OpenAI's chat completions.
pub struct Chat;

fn chunk(model: &str, delta: Value, finish: Value) -> Value {
    json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": model,
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], "usage": null})
}

pub fn chat_body(reply: &ModelReply) -> Option<Vec<u8>> {
    let m = &reply.model;
    let mut events = vec![chunk(m, json!({"role": "assistant", "content": ""}), Value::Null)];
    let mut calls = 0;
    for c in &reply.content {
        match c {
            Content::Text { text } => {
                let field = if reply.stop == StopReason::Refusal { "refusal" } else { "content" };
                events.extend(pieces(text, 3).iter().map(|p| chunk(m, json!({field: p}), Value::Null)));
            }
            Content::ToolUse(call) => {
                let start = json!({"tool_calls": [{"index": calls, "id": call.id, "type": "function",
                    "function": {"name": call.name, "arguments": ""}}]});
                events.push(chunk(m, start, Value::Null));
                // Large ones in one event, as some servers do.
                let raw = raw(&call.input);
                let size = if raw.len() > 10_000 { usize::MAX } else { 3 };
                for p in pieces(&raw, size) {
                    let piece = json!({"tool_calls": [{"index": calls, "function": {"arguments": p}}]});
                    events.push(chunk(m, piece, Value::Null));
                }
                calls += 1;
            }
            Content::Thinking { .. } => return None,
            Content::Image { .. } | Content::ToolResult(_) => panic!("not of an answer"),
        }
    }
    let finish = match reply.stop {
        StopReason::EndTurn | StopReason::Refusal => "stop",
        StopReason::ToolUse => "tool_calls",
        StopReason::MaxTokens => "length",
        StopReason::StopSequence | StopReason::ContextFull | StopReason::Other(_) => return None,
    };
    let u = reply.usage;
    if u.cache_write_tokens > 0 {
        return None;
    }
    events.push(chunk(m, json!({}), finish.into()));
    events.push(json!({"id": "chatcmpl-1", "model": m, "choices": [], "usage": {
        "prompt_tokens": u.input_tokens + u.cache_read_tokens, "completion_tokens": u.output_tokens,
        "prompt_tokens_details": {"cached_tokens": u.cache_read_tokens}}}));
    let mut body = sse(&events);
    body.extend(b"data: [DONE]\n\n");
    Some(body)
}

impl Wire for Chat {
    fn step(&self, step: &Step) -> Option<Answer> {
        let kind = "text/event-stream";
        Some(match step {
            Step::Reply(reply) => streamed(kind, &chat_body(reply)?, 1_000, false),
            Step::Cut(text) => streamed(kind, &sse(&[chunk("m", json!({"content": text}), Value::Null)]), 1_000, true),
            Step::Fail(ModelErrorKind::Malformed, _) => streamed(kind, b"data: <html>\n\n", 1_000, false),
            Step::Fail(k, wait) => {
                let (_, class, message) = refusal(*k);
                let code = (*k == ModelErrorKind::ContextTooLong).then_some("context_length_exceeded");
                refused(*k, *wait, json!({"error": {"type": class, "code": code, "param": null, "message": message}}))
            }
            Step::Silent => Answer::Silence,
        })
    }

    fn aside(&self, _: &Captured) -> Option<Answer> {
        None
    }

    fn check(&self, request: &Captured) {
        no_key(request);
        assert_eq!(request.header("authorization"), Some(format!("Bearer {KEY}").as_str()));
        assert_eq!(request.path, "/v1/chat/completions");
        let body = request.json();
        assert_eq!(body["stream_options"]["include_usage"], true);
        let mut open: Vec<&str> = Vec::new();
        for m in body["messages"].as_array().unwrap() {
            if m["role"] == "tool" {
                assert_eq!(Some(open.remove(0)), m["tool_call_id"].as_str(), "results in the order of the calls");
                assert!(m["content"].is_string());
            } else {
                assert!(open.is_empty(), "calls without results: {open:?}");
            }
            for call in m["tool_calls"].as_array().into_iter().flatten() {
                open.push(call["id"].as_str().unwrap());
                let arguments = call["function"]["arguments"].as_str().unwrap();
                assert!(serde_json::from_str::<Value>(arguments).unwrap().is_object());
            }
        }
        assert!(open.is_empty());
    }
}

/// Bedrock's ConverseStream in AWS event-stream frames.
#[cfg(feature = "bedrock")]
pub struct Converse;

#[cfg(feature = "bedrock")]
fn frame(headers: &[(&'static str, &str)], body: &Value) -> Vec<u8> {
    use aws_smithy_types::event_stream::{Header, HeaderValue, Message};
    let mut message = Message::new(body.to_string().into_bytes());
    for (name, value) in headers {
        message = message.add_header(Header::new(*name, HeaderValue::String((*value).to_owned().into())));
    }
    let mut out = Vec::new();
    aws_smithy_eventstream::frame::write_message_to(&message, &mut out).unwrap();
    out
}

#[cfg(feature = "bedrock")]
fn converse_frames(reply: &ModelReply) -> Vec<u8> {
    let event = |kind: &str, body: Value| {
        frame(&[(":message-type", "event"), (":event-type", kind), (":content-type", "application/json")], &body)
    };
    let mut out = event("messageStart", json!({"role": "assistant"}));
    for (i, c) in reply.content.iter().enumerate() {
        let mut delta = |d: Value| out.extend(event("contentBlockDelta", json!({"contentBlockIndex": i, "delta": d})));
        match c {
            Content::Text { text } => pieces(text, size_for(text)).iter().for_each(|p| delta(json!({"text": p}))),
            Content::Thinking { text, signature } => {
                delta(json!({"reasoningContent": {"text": text}}));
                delta(json!({"reasoningContent": {"signature": signature}}));
            }
            Content::ToolUse(call) => {
                let start = json!({"toolUse": {"toolUseId": call.id, "name": call.name}});
                out.extend(event("contentBlockStart", json!({"contentBlockIndex": i, "start": start})));
                let raw = raw(&call.input);
                for p in pieces(&raw, size_for(&raw)) {
                    let d = json!({"toolUse": {"input": p}});
                    out.extend(event("contentBlockDelta", json!({"contentBlockIndex": i, "delta": d})));
                }
            }
            Content::Image { .. } | Content::ToolResult(_) => panic!("not of an answer"),
        }
        out.extend(event("contentBlockStop", json!({"contentBlockIndex": i})));
    }
    let stop = match &reply.stop {
        StopReason::EndTurn => "end_turn",
        StopReason::ToolUse => "tool_use",
        StopReason::MaxTokens => "max_tokens",
        StopReason::StopSequence => "stop_sequence",
        StopReason::Refusal => "content_filtered",
        StopReason::ContextFull => "model_context_window_exceeded",
        StopReason::Other(other) => other,
    };
    out.extend(event("messageStop", json!({"stopReason": stop})));
    let u = reply.usage;
    out.extend(event(
        "metadata",
        json!({"metrics": {"latencyMs": 1}, "usage": {
        "inputTokens": u.input_tokens, "outputTokens": u.output_tokens,
        "totalTokens": u.input_tokens + u.output_tokens,
        "cacheReadInputTokens": u.cache_read_tokens, "cacheWriteInputTokens": u.cache_write_tokens}}),
    ));
    out
}

#[cfg(feature = "bedrock")]
impl Wire for Converse {
    fn step(&self, step: &Step) -> Option<Answer> {
        let kind = "application/vnd.amazon.eventstream";
        Some(match step {
            Step::Reply(reply) => streamed(kind, &converse_frames(reply), 1_000, false),
            Step::Cut(text) => {
                let whole = converse_frames(&ModelReply {
                    content: vec![Content::text(text)],
                    stop: StopReason::EndTurn,
                    usage: Default::default(),
                    model: String::new(),
                });
                streamed(kind, &whole[..whole.len() / 2], 1_000, true)
            }
            Step::Fail(ModelErrorKind::Malformed, _) => {
                let mut bytes = frame(&[(":message-type", "event"), (":event-type", "messageStart")], &json!({}));
                *bytes.last_mut().unwrap() ^= 1; // The checksum.
                streamed(kind, &bytes, 1_000, false)
            }
            Step::Fail(k, wait) => {
                let (status, class, message) = match k {
                    ModelErrorKind::Throttled => (429, "ThrottlingException", "Too many tokens, please wait"),
                    ModelErrorKind::Overloaded => (503, "ServiceUnavailableException", "busy"),
                    ModelErrorKind::ContextTooLong => {
                        (400, "ValidationException", "Input is too long for requested model.")
                    }
                    ModelErrorKind::BadRequest => (400, "ValidationException", "The provided model is invalid"),
                    ModelErrorKind::Access => (403, "AccessDeniedException", "You don't have access to the model"),
                    other => panic!("no exception for {other:?}"),
                };
                let mut headers = wait_header(*wait);
                headers.push(("x-amzn-errortype", class.to_owned()));
                let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
                plain(status, "application/json", &headers, json!({"message": message}).to_string().as_bytes())
            }
            Step::Silent => Answer::Silence,
        })
    }

    fn aside(&self, request: &Captured) -> Option<Answer> {
        request.path.ends_with("/count-tokens").then(|| plain(200, "application/json", &[], br#"{"inputTokens": 42}"#))
    }

    fn check(&self, request: &Captured) {
        no_key(request);
        assert!(request.header("authorization").unwrap().starts_with("AWS4-HMAC-SHA256 "));
        assert!(!request.headers.iter().any(|(_, v)| v.contains(KEY)), "the secret is in a header");
        let body = request.json();
        let conversation = if request.path.ends_with("/count-tokens") { &body["input"]["converse"] } else { &body };
        let messages = conversation["messages"].as_array().unwrap();
        let of = |kind: &'static str| move |m: &Value| list(m, |p| p.get(kind).map(|t| &t["toolUseId"]));
        check_turns(messages, of("toolUse"), of("toolResult"));
        let points = String::from_utf8_lossy(&request.body).matches("cachePoint").count();
        assert!((1..=4).contains(&points), "{points} cache points");
    }
}
