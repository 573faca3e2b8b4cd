//! The rules of a conversation that every provider enforces.

use std::collections::BTreeSet;

use crate::model::{Content, ModelRequest, Role};

/// Checks a request against the rules that every provider enforces, so that a test fails here and not in production:
/// the user begins and ends, roles alternate, no message is empty, every tool use is answered in the very next
/// message and nothing else is, ids are unique, results hold text and images only, tool names are unique.
///
/// # Errors
/// The first rule that is broken, with the message's index.
pub fn check_request(request: &ModelRequest) -> Result<(), String> {
    if request.model.is_empty() {
        return Err("the model id is empty".into());
    }
    if request.max_output_tokens == 0 {
        return Err("max_output_tokens is zero".into());
    }
    let mut names = BTreeSet::new();
    for tool in &request.tools {
        if !names.insert(tool.name.as_str()) {
            return Err(format!("tool `{}` is listed twice", tool.name));
        }
        if !tool.input_schema.is_object() {
            return Err(format!("the schema of tool `{}` is not an object", tool.name));
        }
    }
    match (request.messages.first(), request.messages.last()) {
        (Some(first), Some(last)) if first.role == Role::User && last.role == Role::User => {}
        (Some(_), Some(_)) => return Err("the conversation does not begin and end with the user".into()),
        (None, _) | (_, None) => return Err("the conversation is empty".into()),
    }
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    let mut open: BTreeSet<&str> = BTreeSet::new();
    let mut previous = None;
    for (i, message) in request.messages.iter().enumerate() {
        if previous == Some(message.role) {
            return Err(format!("messages[{i}]: two messages of one role in a row"));
        }
        previous = Some(message.role);
        if message.content.is_empty() {
            return Err(format!("messages[{i}]: no content"));
        }
        for content in &message.content {
            match (message.role, content) {
                (Role::Assistant, Content::ToolUse(call)) => {
                    if !seen.insert(&call.id) {
                        return Err(format!("messages[{i}]: tool use id `{}` occurs twice", call.id));
                    }
                    open.insert(&call.id);
                }
                (Role::User, Content::ToolResult(result)) => {
                    if !open.remove(result.tool_use_id.as_str()) {
                        return Err(format!(
                            "messages[{i}]: result for `{}`, which the message before does not ask for",
                            result.tool_use_id
                        ));
                    }
                    for part in &result.content {
                        match part {
                            Content::Text { .. } | Content::Image { .. } => {}
                            Content::Thinking { .. } | Content::ToolUse(_) | Content::ToolResult(_) => {
                                return Err(format!("messages[{i}]: a tool result holds more than text and images"));
                            }
                        }
                    }
                }
                (Role::User, Content::ToolUse(_) | Content::Thinking { .. })
                | (Role::Assistant, Content::ToolResult(_) | Content::Image { .. }) => {
                    return Err(format!("messages[{i}]: content of the other role"));
                }
                (Role::User | Role::Assistant, Content::Text { .. })
                | (Role::User, Content::Image { .. })
                | (Role::Assistant, Content::Thinking { .. }) => {}
            }
        }
        if message.role == Role::User && !open.is_empty() {
            return Err(format!("messages[{i}]: tool uses without a result: {open:?}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Message, ToolCall, ToolInput, ToolResult};

    fn request(messages: Vec<Message>) -> ModelRequest {
        ModelRequest {
            model: "m".into(),
            system: String::new(),
            messages,
            tools: vec![],
            max_output_tokens: 1,
            cache: false,
        }
    }

    #[test]
    fn an_unanswered_tool_use_is_found() {
        let call = Content::ToolUse(ToolCall {
            id: "a".into(),
            name: "Bash".into(),
            input: ToolInput::Json(serde_json::json!({})),
        });
        let asks = Message { role: Role::Assistant, content: vec![call] };
        let answer = |id: &str| Message {
            role: Role::User,
            content: vec![Content::ToolResult(ToolResult { tool_use_id: id.into(), content: vec![], is_error: false })],
        };
        let user = Message::text(Role::User, "go");
        assert_eq!(check_request(&request(vec![user.clone(), asks.clone(), answer("a")])), Ok(()));
        assert!(check_request(&request(vec![user.clone(), asks.clone(), answer("b")])).is_err());
        assert!(check_request(&request(vec![user.clone(), asks, Message::text(Role::User, "and?")])).is_err());
        assert!(check_request(&request(vec![user.clone(), user])).is_err());
    }
}
