//! Models: the conversation's types, prices, and the trait [`ModelClient`].

use std::fmt;
use std::pin::Pin;

use async_trait::async_trait;
use futures_core::Stream;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::adapter_error;
use crate::money::MicroUsd;
use crate::time::Millis;

adapter_error! {
    /// Why a model did not answer. `retry_after` travels in [`ModelError`].
    ModelFault,
    /// Classes of model errors.
    ModelErrorKind {
        /// The caller's rate or quota is used up (429).
        Throttled = "throttled", true;
        /// The provider is overloaded or broken (529, 5xx).
        Overloaded = "overloaded", true;
        /// The conversation is longer than the model's window.
        ContextTooLong = "context too long", false;
        /// The provider rejects the request as it is.
        BadRequest = "bad request", false;
        /// The credential is missing, wrong or too weak, or the model is not available to it.
        Access = "access denied", false;
        /// The connection failed or was cut.
        Network = "network", true;
        /// The answer is not of the provider's wire format.
        Malformed = "malformed answer", true;
        /// No answer in time.
        TimedOut = "timed out", true;
        /// A replay does not fit the conversation any more.
        ReplayDeparted = "replay departed", false;
        /// The client lacks something to work at all, e.g. an endpoint.
        Config = "not configured", false;
    }
}

/// A [`ModelFault`], and how long the provider asks to wait before a repeat.
#[derive(Debug, thiserror::Error)]
#[error("{fault}")]
pub struct ModelError {
    /// What went wrong.
    #[source]
    pub fault: ModelFault,
    /// The provider's `retry-after`.
    pub retry_after: Option<Millis>,
}

impl ModelError {
    /// An error of a kind.
    pub fn new(kind: ModelErrorKind, op: &'static str, message: impl Into<String>) -> Self {
        Self { fault: ModelFault::new(kind, op, message), retry_after: None }
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<crate::error::BoxError>) -> Self {
        self.fault = self.fault.with_source(source);
        self
    }

    /// Adds the provider's wish to wait.
    #[must_use]
    pub const fn with_retry_after(mut self, wait: Option<Millis>) -> Self {
        self.retry_after = wait;
        self
    }

    /// What callers branch on.
    pub const fn kind(&self) -> ModelErrorKind {
        self.fault.kind()
    }

    /// Whether repeating the very same call may succeed.
    pub fn is_retryable(&self) -> bool {
        self.fault.is_retryable()
    }
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The platform: the task, tool results, nudges.
    User,
    /// The model.
    Assistant,
}

/// The arguments of a tool call: JSON, or the text that should have been.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolInput {
    /// A JSON value; tools take objects.
    Json(Value),
    /// What the model wrote instead of JSON, and the parser's complaint.
    Invalid {
        /// The text as it came.
        raw: String,
        /// Why it is not JSON.
        error: String,
    },
}

/// A call that the model wants made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    /// The provider's id; unique within the conversation.
    pub id: String,
    /// The tool.
    pub name: String,
    /// Its arguments.
    pub input: ToolInput,
}

/// A part of a message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Content {
    /// Text.
    Text {
        /// The text.
        text: String,
    },
    /// A picture.
    Image {
        /// `image/png`, `image/jpeg`, `image/gif` or `image/webp`.
        media_type: String,
        /// The bytes in standard base64.
        data: String,
    },
    /// Thinking that the provider wants back unchanged.
    Thinking {
        /// The text.
        text: String,
        /// The provider's signature over it.
        signature: Option<String>,
    },
    /// A tool call, by the assistant.
    ToolUse(ToolCall),
    /// A tool's result, by the user.
    ToolResult(ToolResult),
}

impl Content {
    /// A text part.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text { text: text.into() }
    }
}

/// A tool's result, as the model sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolResult {
    /// The call that it answers.
    pub tool_use_id: String,
    /// Text and images only.
    pub content: Vec<Content>,
    /// Whether the tool failed.
    pub is_error: bool,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: Vec<Content>,
}

impl Message {
    /// A message of one text.
    pub fn text(role: Role, text: impl Into<String>) -> Self {
        Self { role, content: vec![Content::text(text)] }
    }
}

/// A tool as the model is told of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolSpec {
    /// Its name.
    pub name: String,
    /// What it does, for the model.
    pub description: String,
    /// JSON schema of its arguments.
    pub input_schema: Value,
}

/// One call of a model: the whole conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelRequest {
    /// The provider's model id.
    pub model: String,
    /// The system prompt.
    pub system: String,
    /// The conversation; starts with the user, roles alternate, every tool use is answered in the next message.
    pub messages: Vec<Message>,
    /// Tools.
    pub tools: Vec<ToolSpec>,
    /// Most tokens to answer with.
    pub max_output_tokens: u32,
    /// Mark system prompt, tools and conversation for the provider's prompt cache, where it has one.
    pub cache: bool,
}

/// Tokens of one call, or of many. `input_tokens` counts what was neither read from nor written to the cache.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Fresh input.
    pub input_tokens: u64,
    /// Output.
    pub output_tokens: u64,
    /// Input read from the cache.
    pub cache_read_tokens: u64,
    /// Input written to the cache.
    pub cache_write_tokens: u64,
}

impl Usage {
    /// Sum, saturating.
    #[must_use]
    pub const fn plus(self, o: Self) -> Self {
        Self {
            input_tokens: self.input_tokens.saturating_add(o.input_tokens),
            output_tokens: self.output_tokens.saturating_add(o.output_tokens),
            cache_read_tokens: self.cache_read_tokens.saturating_add(o.cache_read_tokens),
            cache_write_tokens: self.cache_write_tokens.saturating_add(o.cache_write_tokens),
        }
    }
}

/// Prices in micro-dollars per million tokens.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// Fresh input.
    pub input: u64,
    /// Output.
    pub output: u64,
    /// Cache reads.
    pub cache_read: u64,
    /// Cache writes.
    pub cache_write: u64,
}

impl Price {
    /// What the tokens cost, rounded up.
    pub fn of(&self, u: Usage) -> MicroUsd {
        let part = |tokens: u64, price: u64| u128::from(tokens).saturating_mul(u128::from(price));
        let total = part(u.input_tokens, self.input)
            .saturating_add(part(u.output_tokens, self.output))
            .saturating_add(part(u.cache_read_tokens, self.cache_read))
            .saturating_add(part(u.cache_write_tokens, self.cache_write));
        MicroUsd(u64::try_from(total.div_ceil(1_000_000)).unwrap_or(u64::MAX))
    }

    /// The worst case of a call: every input token at the dearest input price, and the whole output.
    pub fn worst_case(&self, input_tokens: u64, max_output_tokens: u64) -> MicroUsd {
        let input = self.input.max(self.cache_write).max(self.cache_read);
        Self { input, ..*self }.of(Usage { input_tokens, output_tokens: max_output_tokens, ..Usage::default() })
    }
}

/// What a model can do, and what it costs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelCapabilities {
    /// Input and output together.
    pub context_window_tokens: u32,
    /// Most tokens of one answer.
    pub max_output_tokens: u32,
    /// Takes pictures.
    pub images: bool,
    /// Has a prompt cache.
    pub caching: bool,
    /// [`ModelClient::count_tokens`] asks the provider rather than estimating.
    pub counts_tokens: bool,
    /// What it costs; `None` when nobody has said, and then a budget cannot be kept and is refused.
    pub price: Option<Price>,
}

/// Why the model stopped.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// It is done.
    EndTurn,
    /// It waits for tool results.
    ToolUse,
    /// The answer reached its token limit.
    MaxTokens,
    /// A stop sequence.
    StopSequence,
    /// It refuses.
    Refusal,
    /// The window is full.
    ContextFull,
    /// Something else, in the provider's word.
    Other(String),
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelReply {
    /// Text, thinking and tool calls in order.
    pub content: Vec<Content>,
    /// Why it stopped.
    pub stop: StopReason,
    /// What it used.
    pub usage: Usage,
    /// The model that answered, in the provider's word.
    pub model: String,
}

impl ModelReply {
    /// The tool calls in order.
    pub fn tool_calls(&self) -> impl Iterator<Item = &ToolCall> {
        self.content.iter().filter_map(|c| match c {
            Content::ToolUse(call) => Some(call),
            Content::Text { .. } | Content::Image { .. } | Content::Thinking { .. } | Content::ToolResult(_) => None,
        })
    }

    /// All text parts, joined.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for c in &self.content {
            if let Content::Text { text } = c {
                out.push_str(text);
            }
        }
        out
    }
}

/// A piece of an answer while it streams. The last one is `Done`.
#[derive(Debug, Clone, PartialEq)]
pub enum ModelEvent {
    /// More text, for showing.
    TextDelta(String),
    /// More thinking, for showing.
    ThinkingDelta(String),
    /// A tool call began, for showing.
    ToolUseStarted {
        /// The tool.
        name: String,
    },
    /// The whole answer. Nothing follows.
    Done(Box<ModelReply>),
}

/// Events of one answer: any number of deltas, then `Done` or an error, then the end.
pub type ModelStream = Pin<Box<dyn Stream<Item = Result<ModelEvent, ModelError>> + Send>>;

/// A token count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenCount {
    /// Input tokens of the request.
    pub input_tokens: u64,
    /// The provider counted; otherwise it is an estimate that is meant to be too high rather than too low.
    pub exact: bool,
}

/// Talks to one provider.
///
/// # Contract
/// * `stream` answers once the provider has accepted the request; everything after arrives in the stream.
///   A stream that ends without `Done` is an error ([`ModelErrorKind::Network`]), never a short answer.
/// * A tool call's arguments that are not JSON are an answer ([`ToolInput::Invalid`]), not an error.
/// * No retries inside: the retry layer does that, and what was spent is known.
/// * Keys appear in no error, log or Debug output.
/// * **Cancel safety.** Dropping future or stream closes the connection; the provider may still bill the call.
#[async_trait]
pub trait ModelClient: fmt::Debug + Send + Sync + 'static {
    /// Short lower-case name of the provider, e.g. `anthropic`.
    fn name(&self) -> &'static str;

    /// What a model can do. For an unknown id: careful defaults and no price.
    fn capabilities(&self, model: &str) -> ModelCapabilities;

    /// Begins a call.
    async fn stream(&self, request: &ModelRequest) -> Result<ModelStream, ModelError>;

    /// Counts the input tokens of a request, by the provider where it can, else by an estimate.
    async fn count_tokens(&self, request: &ModelRequest) -> Result<TokenCount, ModelError>;
}

#[async_trait]
impl<T: ModelClient + ?Sized> ModelClient for std::sync::Arc<T> {
    fn name(&self) -> &'static str {
        (**self).name()
    }

    fn capabilities(&self, model: &str) -> ModelCapabilities {
        (**self).capabilities(model)
    }

    async fn stream(&self, request: &ModelRequest) -> Result<ModelStream, ModelError> {
        (**self).stream(request).await
    }

    async fn count_tokens(&self, request: &ModelRequest) -> Result<TokenCount, ModelError> {
        (**self).count_tokens(request).await
    }
}

/// Conveniences over any [`ModelClient`].
#[async_trait]
pub trait ModelClientExt: ModelClient {
    /// Waits for the whole answer.
    async fn complete(&self, request: &ModelRequest) -> Result<ModelReply, ModelError> {
        let mut stream = self.stream(request).await?;
        loop {
            match std::future::poll_fn(|cx| stream.as_mut().poll_next(cx)).await {
                Some(Ok(ModelEvent::Done(reply))) => return Ok(*reply),
                Some(Ok(
                    ModelEvent::TextDelta(_) | ModelEvent::ThinkingDelta(_) | ModelEvent::ToolUseStarted { .. },
                )) => {}
                Some(Err(e)) => return Err(e),
                None => {
                    return Err(ModelError::new(
                        ModelErrorKind::Network,
                        "stream",
                        "the answer ended before it was whole",
                    ));
                }
            }
        }
    }
}

impl<T: ModelClient + ?Sized> ModelClientExt for T {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_round_up_and_the_worst_case_covers_the_real_one() {
        let p = Price { input: 3_000_000, output: 15_000_000, cache_read: 300_000, cache_write: 3_750_000 };
        let u = Usage { input_tokens: 1, output_tokens: 1, cache_read_tokens: 1, cache_write_tokens: 1 };
        assert_eq!(p.of(u), MicroUsd(23)); // 3 + 15 + 0.3 + 3.75
        assert!(p.worst_case(3, 1) >= p.of(u));
    }
}
