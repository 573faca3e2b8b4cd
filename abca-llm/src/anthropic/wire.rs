//! A request as the Messages API takes it. Borrows everything: a long conversation is written once, not copied first.

use std::borrow::Cow;

use abca_core::model::{Content, Message, ModelRequest, Role, ToolSpec};
use serde::Serialize;
use serde_json::Value;

use crate::assemble::{REDACTED, object_of};

/// The body of `/v1/messages` or `/v1/messages/count_tokens`.
#[derive(Debug, Serialize)]
pub(super) struct Body<'a> {
    model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    system: Vec<Block<'a>>,
    messages: Vec<WireMessage<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<WireTool<'a>>,
}

#[derive(Debug, Serialize)]
struct WireMessage<'a> {
    role: &'static str,
    content: Vec<Block<'a>>,
}

#[derive(Debug, Serialize)]
struct WireTool<'a> {
    name: &'a str,
    description: &'a str,
    input_schema: &'a Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<CacheControl>,
}

/// A block, and whether the cache's prefix ends with it.
#[derive(Debug, Serialize)]
struct Block<'a> {
    #[serde(flatten)]
    kind: Kind<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<CacheControl>,
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Kind<'a> {
    Text {
        text: &'a str,
    },
    Image {
        source: Source<'a>,
    },
    Thinking {
        thinking: &'a str,
        signature: &'a str,
    },
    RedactedThinking {
        data: &'a str,
    },
    ToolUse {
        id: &'a str,
        name: &'a str,
        input: Cow<'a, Value>,
    },
    ToolResult {
        tool_use_id: &'a str,
        content: Vec<Block<'a>>,
        #[serde(skip_serializing_if = "is_false")]
        is_error: bool,
    },
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Source<'a> {
    Base64 { media_type: &'a str, data: &'a str },
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum CacheControl {
    /// Five minutes.
    Ephemeral,
}

fn is_false(b: &bool) -> bool {
    !b
}

impl<'a> Body<'a> {
    pub(super) fn streaming(request: &'a ModelRequest) -> Self {
        let mut body = Self::counting(request);
        body.max_tokens = Some(request.max_output_tokens);
        body.stream = Some(true);
        body
    }

    pub(super) fn counting(request: &'a ModelRequest) -> Self {
        let system = if request.system.trim().is_empty() { vec![] } else { vec![text(&request.system)] };
        let messages = request.messages.iter().map(message).collect();
        let tools = request.tools.iter().map(tool).collect();
        let mut body = Self { model: &request.model, max_tokens: None, stream: None, system, messages, tools };
        if request.cache {
            body.mark();
        }
        body
    }

    /// The four marks that the API allows: tools, system, the newest user message and the one before. The last one
    /// finds what the previous call wrote even when a turn has more blocks than the API looks back over (20).
    fn mark(&mut self) {
        let mark = Some(CacheControl::Ephemeral);
        if let Some(tool) = self.tools.last_mut() {
            tool.cache_control = mark;
        }
        if let Some(block) = self.system.last_mut() {
            block.cache_control = mark;
        }
        for message in self.messages.iter_mut().rev().filter(|m| m.role == "user").take(2) {
            if let Some(block) = message.content.last_mut() {
                block.cache_control = mark;
            }
        }
    }
}

fn tool(spec: &ToolSpec) -> WireTool<'_> {
    WireTool { name: &spec.name, description: &spec.description, input_schema: &spec.input_schema, cache_control: None }
}

fn message(message: &Message) -> WireMessage<'_> {
    let mut content: Vec<Block<'_>> = message.content.iter().filter_map(block).collect();
    // The API wants results before anything else of the message.
    content.sort_by_key(|b| !matches!(b.kind, Kind::ToolResult { .. }));
    if content.is_empty() {
        // It rejects a message without content, and a text without characters.
        content.push(text("(no content)"));
    }
    WireMessage {
        role: match message.role {
            Role::User => "user",
            Role::Assistant => "assistant",
        },
        content,
    }
}

fn text(text: &str) -> Block<'_> {
    Block { kind: Kind::Text { text }, cache_control: None }
}

fn block(content: &Content) -> Option<Block<'_>> {
    let kind = match content {
        Content::Text { text } if text.trim().is_empty() => return None,
        Content::Text { text } => Kind::Text { text },
        Content::Image { media_type, data } => Kind::Image { source: Source::Base64 { media_type, data } },
        // Thinking of another provider, unsigned: this one would reject it.
        Content::Thinking { signature: None, .. } => return None,
        Content::Thinking { text, signature: Some(signature) } => match signature.strip_prefix(REDACTED) {
            Some(data) => Kind::RedactedThinking { data },
            None => Kind::Thinking { thinking: text, signature },
        },
        Content::ToolUse(call) => Kind::ToolUse { id: &call.id, name: &call.name, input: object_of(&call.input) },
        Content::ToolResult(result) => Kind::ToolResult {
            tool_use_id: &result.tool_use_id,
            content: result.content.iter().filter_map(block).collect(),
            is_error: result.is_error,
        },
    };
    Some(Block { kind, cache_control: None })
}

#[cfg(test)]
mod tests {
    use abca_core::model::{ToolCall, ToolInput, ToolResult};
    use serde_json::json;

    use super::*;

    #[test]
    fn a_whole_request() {
        let thinking = |text: &str, s: &str| Content::Thinking { text: text.into(), signature: Some(s.into()) };
        let call = |id: &str, input| Content::ToolUse(ToolCall { id: id.into(), name: "Bash".into(), input });
        let result =
            |id: &str, content, is_error| Content::ToolResult(ToolResult { tool_use_id: id.into(), content, is_error });
        let image = || Content::Image { media_type: "image/png".into(), data: "AAAA".into() };
        let request = ModelRequest {
            model: "claude-x".into(),
            system: "be good".into(),
            messages: vec![
                Message { role: Role::User, content: vec![Content::text("fix"), image()] },
                Message {
                    role: Role::Assistant,
                    content: vec![
                        thinking("hm", "sig"),
                        thinking("", "redacted_thinking:blob"),
                        Content::Thinking { text: "foreign".into(), signature: None },
                        Content::text(""),
                        call("a", ToolInput::Json(json!({"command": "ls"}))),
                        call("b", ToolInput::Invalid { raw: "{".into(), error: "eof".into() }),
                    ],
                },
                Message {
                    role: Role::User,
                    content: vec![
                        Content::text("nudge"),
                        result("a", vec![Content::text("x"), image()], false),
                        result("b", vec![], true),
                    ],
                },
            ],
            tools: vec![
                ToolSpec { name: "Bash".into(), description: "runs".into(), input_schema: json!({"type": "object"}) },
                ToolSpec { name: "Read".into(), description: "reads".into(), input_schema: json!({"type": "object"}) },
            ],
            max_output_tokens: 99,
            cache: true,
        };
        let mark = json!({"type": "ephemeral"});
        let png = json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}});
        let mut marked_png = png.clone();
        marked_png["cache_control"] = mark.clone();
        assert_eq!(
            serde_json::to_value(Body::streaming(&request)).unwrap(),
            json!({
                "model": "claude-x", "max_tokens": 99, "stream": true,
                "system": [{"type": "text", "text": "be good", "cache_control": mark}],
                "tools": [
                    {"name": "Bash", "description": "runs", "input_schema": {"type": "object"}},
                    {"name": "Read", "description": "reads", "input_schema": {"type": "object"}, "cache_control": mark},
                ],
                "messages": [
                    {"role": "user", "content": [{"type": "text", "text": "fix"}, marked_png]},
                    {"role": "assistant", "content": [
                        {"type": "thinking", "thinking": "hm", "signature": "sig"},
                        {"type": "redacted_thinking", "data": "blob"},
                        {"type": "tool_use", "id": "a", "name": "Bash", "input": {"command": "ls"}},
                        {"type": "tool_use", "id": "b", "name": "Bash", "input": {"invalid_json": "{", "error": "eof"}},
                    ]},
                    {"role": "user", "content": [
                        {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": "x"}, png]},
                        {"type": "tool_result", "tool_use_id": "b", "content": [], "is_error": true},
                        {"type": "text", "text": "nudge", "cache_control": mark},
                    ]},
                ],
            })
        );
        let counting = serde_json::to_value(Body::counting(&request)).unwrap();
        assert_eq!((counting.get("stream"), counting.get("max_tokens")), (None, None));
    }
}
