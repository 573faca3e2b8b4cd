//! A request as chat completions take it.

use std::borrow::Cow;

use abca_core::model::{Content, Message, ModelRequest, Role, ToolResult};
use serde::Serialize;
use serde_json::Value;

use crate::assemble::object_of;

/// What servers differ in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Options {
    pub(super) max_completion_tokens: bool,
    pub(super) include_usage: bool,
    pub(super) send_reasoning: bool,
}

/// The body of `/chat/completions`.
#[derive(Debug, Serialize)]
pub(super) struct Body<'a> {
    model: &'a str,
    messages: Vec<WireMessage<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<WireTool<'a>>,
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<StreamOptions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
}

#[derive(Debug, Serialize)]
struct StreamOptions {
    include_usage: bool,
}

#[derive(Debug, Serialize)]
#[serde(tag = "role", rename_all = "lowercase")]
enum WireMessage<'a> {
    System {
        content: &'a str,
    },
    User {
        content: UserContent<'a>,
    },
    Assistant {
        content: Option<Cow<'a, str>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        reasoning_content: Option<String>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<WireCall<'a>>,
    },
    Tool {
        tool_call_id: &'a str,
        content: Cow<'a, str>,
    },
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum UserContent<'a> {
    Text(Cow<'a, str>),
    Parts(Vec<Part<'a>>),
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Part<'a> {
    Text { text: Cow<'a, str> },
    ImageUrl { image_url: Url },
}

#[derive(Debug, Serialize)]
struct Url {
    url: String,
}

#[derive(Debug, Serialize)]
struct WireCall<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    function: WireFunctionCall<'a>,
}

#[derive(Debug, Serialize)]
struct WireFunctionCall<'a> {
    name: &'a str,
    arguments: String,
}

#[derive(Debug, Serialize)]
struct WireTool<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    function: WireFunction<'a>,
}

#[derive(Debug, Serialize)]
struct WireFunction<'a> {
    name: &'a str,
    description: &'a str,
    parameters: &'a Value,
}

impl<'a> Body<'a> {
    pub(super) fn new(request: &'a ModelRequest, options: Options) -> Self {
        let mut messages = Vec::with_capacity(request.messages.len() + 1);
        if !request.system.trim().is_empty() {
            messages.push(WireMessage::System { content: &request.system });
        }
        for message in &request.messages {
            match message.role {
                Role::User => user(message, &mut messages),
                Role::Assistant => messages.push(assistant(message, options.send_reasoning)),
            }
        }
        let tools = request
            .tools
            .iter()
            .map(|t| WireTool {
                kind: "function",
                function: WireFunction { name: &t.name, description: &t.description, parameters: &t.input_schema },
            })
            .collect();
        let limit = Some(request.max_output_tokens);
        Self {
            model: &request.model,
            messages,
            tools,
            stream: true,
            stream_options: options.include_usage.then_some(StreamOptions { include_usage: true }),
            max_completion_tokens: limit.filter(|_| options.max_completion_tokens),
            max_tokens: limit.filter(|_| !options.max_completion_tokens),
        }
    }
}

/// Results become messages of their own, first; then one message of all else. A result takes text only, so its
/// images move into that message.
fn user<'a>(message: &'a Message, out: &mut Vec<WireMessage<'a>>) {
    let mut parts = Vec::new();
    for content in &message.content {
        if let Content::ToolResult(result) = content {
            out.push(WireMessage::Tool { tool_call_id: &result.tool_use_id, content: result_text(result) });
            let images = result.content.iter().filter_map(image);
            let before = parts.len();
            parts.extend(images);
            if parts.len() > before {
                let text = format!("The image in the result of tool call {}:", result.tool_use_id);
                parts.insert(before, Part::Text { text: text.into() });
            }
        }
    }
    for content in &message.content {
        match content {
            Content::Text { text } if !text.is_empty() => parts.push(Part::Text { text: text.into() }),
            Content::Image { .. } => parts.extend(image(content)),
            Content::Text { .. } | Content::Thinking { .. } | Content::ToolUse(_) | Content::ToolResult(_) => {}
        }
    }
    let content = match parts.len() {
        0 if message.content.iter().any(|c| matches!(c, Content::ToolResult(_))) => return,
        0 => UserContent::Text("(no content)".into()),
        // Older servers know a plain text only; most of our messages are one.
        1 => match parts.remove(0) {
            Part::Text { text } => UserContent::Text(text),
            part @ Part::ImageUrl { .. } => UserContent::Parts(vec![part]),
        },
        _ => UserContent::Parts(parts),
    };
    out.push(WireMessage::User { content });
}

fn image(content: &Content) -> Option<Part<'_>> {
    match content {
        Content::Image { media_type, data } => {
            Some(Part::ImageUrl { image_url: Url { url: format!("data:{media_type};base64,{data}") } })
        }
        Content::Text { .. } | Content::Thinking { .. } | Content::ToolUse(_) | Content::ToolResult(_) => None,
    }
}

/// The wire has no flag for a failed tool, so the text says it.
fn result_text(result: &ToolResult) -> Cow<'_, str> {
    let mut texts = result.content.iter().filter_map(|c| match c {
        Content::Text { text } => Some(text.as_str()),
        Content::Image { .. } | Content::Thinking { .. } | Content::ToolUse(_) | Content::ToolResult(_) => None,
    });
    let first = texts.next().unwrap_or("");
    let rest: Vec<&str> = texts.collect();
    match (result.is_error, rest.is_empty()) {
        (false, true) => Cow::Borrowed(first),
        (is_error, _) => {
            let mut text = String::from(if is_error { "error: " } else { "" });
            text.push_str(first);
            for more in rest {
                text.push('\n');
                text.push_str(more);
            }
            Cow::Owned(text)
        }
    }
}

fn assistant(message: &Message, send_reasoning: bool) -> WireMessage<'_> {
    let mut text: Option<Cow<'_, str>> = None;
    let mut reasoning = String::new();
    let mut tool_calls = Vec::new();
    for content in &message.content {
        match content {
            Content::Text { text: piece } => match &mut text {
                Some(text) => text.to_mut().push_str(piece),
                None => text = Some(Cow::Borrowed(piece)),
            },
            Content::Thinking { text, .. } => reasoning.push_str(text),
            Content::ToolUse(call) => tool_calls.push(WireCall {
                id: &call.id,
                kind: "function",
                function: WireFunctionCall { name: &call.name, arguments: object_of(&call.input).to_string() },
            }),
            Content::Image { .. } | Content::ToolResult(_) => {}
        }
    }
    if text.is_none() && tool_calls.is_empty() {
        text = Some("(no content)".into());
    }
    let reasoning_content = (send_reasoning && !reasoning.is_empty()).then_some(reasoning);
    WireMessage::Assistant { content: text, reasoning_content, tool_calls }
}

#[cfg(test)]
mod tests {
    use abca_core::model::{ToolCall, ToolInput, ToolSpec};
    use serde_json::json;

    use super::*;

    #[test]
    fn a_whole_request() {
        let call = |id: &str, input| Content::ToolUse(ToolCall { id: id.into(), name: "Read".into(), input });
        let result =
            |id: &str, content, is_error| Content::ToolResult(ToolResult { tool_use_id: id.into(), content, is_error });
        let image = Content::Image { media_type: "image/png".into(), data: "AAAA".into() };
        let request = ModelRequest {
            model: "m".into(),
            system: "be good".into(),
            messages: vec![
                Message::text(Role::User, "fix"),
                Message {
                    role: Role::Assistant,
                    content: vec![
                        Content::Thinking { text: "hm".into(), signature: None },
                        call("a", ToolInput::Json(json!({"path": "x"}))),
                        call("b", ToolInput::Invalid { raw: "{".into(), error: "eof".into() }),
                    ],
                },
                Message {
                    role: Role::User,
                    content: vec![
                        result("a", vec![Content::text("1x1"), image], false),
                        result("b", vec![Content::text("bad")], true),
                        Content::text("nudge"),
                    ],
                },
            ],
            tools: vec![ToolSpec {
                name: "Read".into(),
                description: "reads".into(),
                input_schema: json!({"type": "object"}),
            }],
            max_output_tokens: 99,
            cache: true,
        };
        let options = Options { max_completion_tokens: true, include_usage: true, send_reasoning: false };
        let got = serde_json::to_value(Body::new(&request, options)).unwrap();
        let call = |id: &str, arguments: &str| json!({"id": id, "type": "function", "function": {"name": "Read", "arguments": arguments}});
        assert_eq!(
            got,
            json!({
                "model": "m", "stream": true, "stream_options": {"include_usage": true}, "max_completion_tokens": 99,
                "tools": [{"type": "function", "function":
                    {"name": "Read", "description": "reads", "parameters": {"type": "object"}}}],
                "messages": [
                    {"role": "system", "content": "be good"},
                    {"role": "user", "content": "fix"},
                    {"role": "assistant", "content": null, "tool_calls": [
                        call("a", "{\"path\":\"x\"}"), call("b", "{\"error\":\"eof\",\"invalid_json\":\"{\"}")]},
                    {"role": "tool", "tool_call_id": "a", "content": "1x1"},
                    {"role": "tool", "tool_call_id": "b", "content": "error: bad"},
                    {"role": "user", "content": [
                        {"type": "text", "text": "The image in the result of tool call a:"},
                        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                        {"type": "text", "text": "nudge"},
                    ]},
                ],
            })
        );
        let old = Options { max_completion_tokens: false, include_usage: false, send_reasoning: true };
        let got = serde_json::to_value(Body::new(&request, old)).unwrap();
        assert_eq!((&got["max_tokens"], got.get("stream_options")), (&json!(99), None));
        assert_eq!(got["messages"][2]["reasoning_content"], "hm");
    }
}
