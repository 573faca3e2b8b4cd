//! What a model says, before it is kept or carried out: the platform's secrets taken out.

use abca_core::model::{Content, ModelReply, ToolInput};
use abca_core::text::{Finding, Screen};
use serde_json::Value;

/// The reply without secrets, and what they were. Text is screened as a tool's output is. In tool calls only values that the platform
/// knows are looked for: code that has the form of a key has to arrive as it was written. Thinking stays: its provider signs it.
pub(super) fn screened(mut reply: ModelReply, screen: &Screen, known: &Screen) -> (ModelReply, Vec<Finding>) {
    let mut findings = Vec::new();
    for part in &mut reply.content {
        match part {
            Content::Text { text } => scrub(text, screen, &mut findings),
            Content::ToolUse(call) => match &mut call.input {
                ToolInput::Json(value) => scrub_all(value, known, &mut findings),
                ToolInput::Invalid { raw, .. } => scrub(raw, known, &mut findings),
            },
            Content::Thinking { .. } | Content::Image { .. } | Content::ToolResult(_) => {}
        }
    }
    (reply, findings)
}

fn scrub(text: &mut String, screen: &Screen, findings: &mut Vec<Finding>) {
    let screened = screen.scrub(text);
    if !screened.findings.is_empty() {
        *text = screened.text;
        findings.extend(screened.findings);
    }
}

/// Values and names, however deep: a parser has bounded that.
fn scrub_all(value: &mut Value, screen: &Screen, findings: &mut Vec<Finding>) {
    match value {
        Value::String(text) => scrub(text, screen, findings),
        Value::Array(items) => items.iter_mut().for_each(|item| scrub_all(item, screen, findings)),
        Value::Object(fields) => {
            for (mut name, mut value) in std::mem::take(fields) {
                scrub(&mut name, screen, findings);
                scrub_all(&mut value, screen, findings);
                fields.insert(name, value);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use abca_core::model::{StopReason, ToolCall, Usage};
    use serde_json::json;

    use super::*;

    /// Fabricated.
    const KEY: &str = "correct horse battery";
    const TOKEN: &str = "ghp_0123456789abcdefghijklmnopqrstuvwxyz";

    #[test]
    fn known_values_go_everywhere_and_forms_of_keys_go_in_text() {
        let screen = Screen::default().with_known([KEY.to_owned().into()]);
        let call = |input| Content::ToolUse(ToolCall { id: "t".to_owned(), name: "Write".to_owned(), input });
        let json = json!({"content": format!("a {KEY} {TOKEN}"), KEY: [{"x": KEY}], "n": 1});
        let invalid = ToolInput::Invalid { raw: format!("{{{KEY}"), error: "x".to_owned() };
        let reply = ModelReply {
            content: vec![Content::text(format!("{KEY}, {TOKEN}")), call(ToolInput::Json(json)), call(invalid)],
            stop: StopReason::ToolUse,
            usage: Usage::default(),
            model: "m".to_owned(),
        };
        let (reply, findings) = screened(reply, &screen, &screen.only_known());
        assert_eq!(findings.len(), 6);
        let json = json!({
            "content": format!("a [REDACTED-KNOWN_SECRET] {TOKEN}"),
            "[REDACTED-KNOWN_SECRET]": [{"x": "[REDACTED-KNOWN_SECRET]"}],
            "n": 1,
        });
        let invalid = ToolInput::Invalid { raw: "{[REDACTED-KNOWN_SECRET]".to_owned(), error: "x".to_owned() };
        let text = Content::text("[REDACTED-KNOWN_SECRET], [REDACTED-GITHUB_TOKEN]");
        assert_eq!(reply.content, [text, call(ToolInput::Json(json)), call(invalid)]);
    }
}
