//! A request as Converse takes it.

use abca_core::model::{Content, Message, ModelError, ModelErrorKind, ModelRequest, Role, ToolSpec};
use aws_sdk_bedrockruntime::error::BuildError;
use aws_sdk_bedrockruntime::primitives::Blob;
use aws_sdk_bedrockruntime::types as aws;
use base64::Engine;

use super::document::document;
use crate::assemble::{REDACTED, object_of};

/// The parts that ConverseStream and CountTokens share.
pub(super) struct Conversation {
    pub(super) messages: Vec<aws::Message>,
    pub(super) system: Option<Vec<aws::SystemContentBlock>>,
    pub(super) tools: Option<aws::ToolConfiguration>,
}

impl Conversation {
    pub(super) fn of(request: &ModelRequest) -> Result<Self, ModelError> {
        let mut messages = Vec::with_capacity(request.messages.len());
        // As with the Messages API: the newest user message and the one before end a cached prefix.
        let users: Vec<usize> =
            request.messages.iter().enumerate().filter(|(_, m)| m.role == Role::User).map(|(i, _)| i).collect();
        for (i, m) in request.messages.iter().enumerate() {
            let cache = request.cache && users.iter().rev().take(2).any(|u| *u == i);
            messages.push(message(m, cache)?);
        }
        let mut system = Vec::new();
        if !request.system.trim().is_empty() {
            system.push(aws::SystemContentBlock::Text(request.system.clone()));
            if request.cache {
                system.push(aws::SystemContentBlock::CachePoint(cache_point()?));
            }
        }
        let mut tools = Vec::new();
        for t in &request.tools {
            tools.push(tool(t)?);
        }
        if request.cache && !tools.is_empty() {
            tools.push(aws::Tool::CachePoint(cache_point()?));
        }
        let tools = if tools.is_empty() {
            None
        } else {
            Some(aws::ToolConfiguration::builder().set_tools(Some(tools)).build().map_err(unbuilt)?)
        };
        Ok(Self { messages, system: (!system.is_empty()).then_some(system), tools })
    }
}

/// The limit of the answer.
pub(super) fn inference(request: &ModelRequest) -> aws::InferenceConfiguration {
    let max = i32::try_from(request.max_output_tokens).unwrap_or(i32::MAX);
    aws::InferenceConfiguration::builder().max_tokens(max).build()
}

/// The input of CountTokens.
pub(super) fn counting(c: Conversation) -> aws::CountTokensInput {
    aws::CountTokensInput::Converse(
        aws::ConverseTokensRequest::builder()
            .set_messages(Some(c.messages))
            .set_system(c.system)
            .set_tool_config(c.tools)
            .build(),
    )
}

/// CountTokens takes a model, not the inference profile over it.
pub(super) fn base_model(id: &str) -> &str {
    match id.find("anthropic.") {
        Some(at) if !id.starts_with("arn:") => &id[at..],
        Some(_) | None => id,
    }
}

fn unbuilt(e: BuildError) -> ModelError {
    ModelError::new(ModelErrorKind::BadRequest, "stream", "cannot make the request").with_source(e)
}

fn cache_point() -> Result<aws::CachePointBlock, ModelError> {
    aws::CachePointBlock::builder().r#type(aws::CachePointType::Default).build().map_err(unbuilt)
}

fn tool(t: &ToolSpec) -> Result<aws::Tool, ModelError> {
    let spec = aws::ToolSpecification::builder()
        .name(&t.name)
        .set_description((!t.description.is_empty()).then(|| t.description.clone()))
        .input_schema(aws::ToolInputSchema::Json(document(&t.input_schema)))
        .build()
        .map_err(unbuilt)?;
    Ok(aws::Tool::ToolSpec(spec))
}

fn message(m: &Message, cache: bool) -> Result<aws::Message, ModelError> {
    let mut content = Vec::with_capacity(m.content.len() + 1);
    let results = |c: &&Content| matches!(c, Content::ToolResult(_));
    for c in m.content.iter().filter(results).chain(m.content.iter().filter(|c| !results(c))) {
        content.extend(block(c)?);
    }
    if content.is_empty() {
        content.push(aws::ContentBlock::Text("(no content)".into()));
    }
    if cache {
        content.push(aws::ContentBlock::CachePoint(cache_point()?));
    }
    let role = match m.role {
        Role::User => aws::ConversationRole::User,
        Role::Assistant => aws::ConversationRole::Assistant,
    };
    aws::Message::builder().role(role).set_content(Some(content)).build().map_err(unbuilt)
}

fn block(c: &Content) -> Result<Option<aws::ContentBlock>, ModelError> {
    use aws::ContentBlock as B;
    let block = match c {
        Content::Text { text } if text.trim().is_empty() => return Ok(None),
        Content::Text { text } => B::Text(text.clone()),
        Content::Image { media_type, data } => B::Image(image(media_type, data)?),
        Content::Thinking { signature: None, .. } => return Ok(None),
        Content::Thinking { text, signature: Some(signature) } => {
            B::ReasoningContent(match signature.strip_prefix(REDACTED) {
                Some(data) => aws::ReasoningContentBlock::RedactedContent(blob(data)?),
                None => aws::ReasoningContentBlock::ReasoningText(
                    aws::ReasoningTextBlock::builder().text(text).signature(signature).build().map_err(unbuilt)?,
                ),
            })
        }
        Content::ToolUse(call) => B::ToolUse(
            aws::ToolUseBlock::builder()
                .tool_use_id(&call.id)
                .name(&call.name)
                .input(document(&object_of(&call.input)))
                .build()
                .map_err(unbuilt)?,
        ),
        Content::ToolResult(result) => {
            let mut content = Vec::with_capacity(result.content.len());
            for c in &result.content {
                match c {
                    Content::Text { text } if text.is_empty() => {}
                    Content::Text { text } => content.push(aws::ToolResultContentBlock::Text(text.clone())),
                    Content::Image { media_type, data } => {
                        content.push(aws::ToolResultContentBlock::Image(image(media_type, data)?));
                    }
                    Content::Thinking { .. } | Content::ToolUse(_) | Content::ToolResult(_) => {}
                }
            }
            if content.is_empty() {
                content.push(aws::ToolResultContentBlock::Text("(no output)".into()));
            }
            let status = if result.is_error { aws::ToolResultStatus::Error } else { aws::ToolResultStatus::Success };
            B::ToolResult(
                aws::ToolResultBlock::builder()
                    .tool_use_id(&result.tool_use_id)
                    .set_content(Some(content))
                    .status(status)
                    .build()
                    .map_err(unbuilt)?,
            )
        }
    };
    Ok(Some(block))
}

fn blob(base64: &str) -> Result<Blob, ModelError> {
    base64::engine::general_purpose::STANDARD.decode(base64).map(Blob::new).map_err(|e| {
        ModelError::new(ModelErrorKind::BadRequest, "stream", "a picture or thinking block is not base64")
            .with_source(e)
    })
}

fn image(media_type: &str, data: &str) -> Result<aws::ImageBlock, ModelError> {
    let format = match media_type {
        "image/png" => aws::ImageFormat::Png,
        "image/jpeg" => aws::ImageFormat::Jpeg,
        "image/gif" => aws::ImageFormat::Gif,
        "image/webp" => aws::ImageFormat::Webp,
        other => {
            let what = format!("pictures of type `{other}` are not possible; use png, jpeg, gif or webp");
            return Err(ModelError::new(ModelErrorKind::BadRequest, "stream", what));
        }
    };
    aws::ImageBlock::builder().format(format).source(aws::ImageSource::Bytes(blob(data)?)).build().map_err(unbuilt)
}
