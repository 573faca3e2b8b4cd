//! A model that answers by a script.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll};

use async_trait::async_trait;
use futures_core::Stream;

use super::check_request;
use crate::model::{
    Content, ModelCapabilities, ModelClient, ModelError, ModelErrorKind, ModelEvent, ModelReply, ModelRequest,
    ModelStream, Price, StopReason, TokenCount, ToolCall, ToolInput, Usage,
};
use crate::time::Millis;

/// What the provider does in one call.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// It answers. [`ToolInput::Invalid`] stands for arguments that are sent raw.
    Reply(ModelReply),
    /// It sends this text, and then the connection is cut.
    Cut(String),
    /// It refuses the call, and may say how long to wait.
    Fail(ModelErrorKind, Option<Millis>),
    /// It accepts the call and never says a word.
    Silent,
}

impl Step {
    /// An answer of text that ends the turn.
    pub fn text(text: impl Into<String>) -> Self {
        Self::reply(vec![Content::text(text)], StopReason::EndTurn)
    }

    /// An answer of one tool call.
    pub fn tool(id: impl Into<String>, name: impl Into<String>, input: serde_json::Value) -> Self {
        let call = ToolCall { id: id.into(), name: name.into(), input: ToolInput::Json(input) };
        Self::reply(vec![Content::ToolUse(call)], StopReason::ToolUse)
    }

    /// An answer of these parts, of 100 input and 10 output tokens, by model `fake`.
    pub fn reply(content: Vec<Content>, stop: StopReason) -> Self {
        let usage = Usage { input_tokens: 100, output_tokens: 10, ..Usage::default() };
        Self::Reply(ModelReply { content, stop, usage, model: "fake".into() })
    }
}

type Brain = Box<dyn FnMut(&ModelRequest) -> Step + Send>;

/// A [`ModelClient`] that answers by a script or a function, and remembers what it was asked.
///
/// Every request is checked with [`check_request`]; a request that breaks a rule is refused with
/// [`ModelErrorKind::BadRequest`], as a provider would. A script that has run out answers
/// [`ModelErrorKind::ReplayDeparted`].
pub struct FakeModel {
    capabilities: ModelCapabilities,
    state: Mutex<State>,
}

struct State {
    brain: Brain,
    requests: Vec<ModelRequest>,
}

impl fmt::Debug for FakeModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeModel").field("calls", &self.state().requests.len()).finish_non_exhaustive()
    }
}

impl FakeModel {
    /// Answers with these steps, one a call.
    pub fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        let mut steps: VecDeque<Step> = steps.into_iter().collect();
        Self::answering(move |_| steps.pop_front().unwrap_or(Step::Fail(ModelErrorKind::ReplayDeparted, None)))
    }

    /// Answers with what the function says.
    pub fn answering(brain: impl FnMut(&ModelRequest) -> Step + Send + 'static) -> Self {
        let price = Price { input: 3_000_000, output: 15_000_000, cache_read: 300_000, cache_write: 3_750_000 };
        Self {
            capabilities: ModelCapabilities {
                context_window_tokens: 200_000,
                max_output_tokens: 64_000,
                images: true,
                caching: true,
                counts_tokens: true,
                price: Some(price),
            },
            state: Mutex::new(State { brain: Box::new(brain), requests: Vec::new() }),
        }
    }

    /// The same with other capabilities. The default: a window of 200 000, answers of 64 000, images, cache, 3 and 15
    /// dollars per million tokens.
    #[must_use]
    pub fn with_capabilities(mut self, capabilities: ModelCapabilities) -> Self {
        self.capabilities = capabilities;
        self
    }

    /// Every request so far, in order, refused ones included.
    pub fn requests(&self) -> Vec<ModelRequest> {
        self.state().requests.clone()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[async_trait]
impl ModelClient for FakeModel {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn capabilities(&self, _model: &str) -> ModelCapabilities {
        self.capabilities.clone()
    }

    async fn stream(&self, request: &ModelRequest) -> Result<ModelStream, ModelError> {
        let step = {
            let mut state = self.state();
            state.requests.push(request.clone());
            if let Err(rule) = check_request(request) {
                return Err(ModelError::new(ModelErrorKind::BadRequest, "stream", rule));
            }
            (state.brain)(request)
        };
        let events = match step {
            Step::Reply(reply) => events_of(reply),
            Step::Cut(text) => [
                Ok(ModelEvent::TextDelta(text)),
                Err(ModelError::new(ModelErrorKind::Network, "stream", "the connection was cut")),
            ]
            .into(),
            Step::Fail(kind, wait) => {
                return Err(ModelError::new(kind, "stream", "as scripted").with_retry_after(wait));
            }
            Step::Silent => return Ok(Box::pin(Never)),
        };
        Ok(Box::pin(Events(events)))
    }

    async fn count_tokens(&self, request: &ModelRequest) -> Result<TokenCount, ModelError> {
        let bytes = serde_json::to_vec(request).map_or(0, |v| v.len());
        Ok(TokenCount { input_tokens: u64::try_from(bytes).unwrap_or(u64::MAX).div_ceil(4), exact: true })
    }
}

fn events_of(reply: ModelReply) -> VecDeque<Result<ModelEvent, ModelError>> {
    let mut out = VecDeque::new();
    for content in &reply.content {
        match content {
            Content::Text { text } => out.push_back(Ok(ModelEvent::TextDelta(text.clone()))),
            Content::Thinking { text, .. } => out.push_back(Ok(ModelEvent::ThinkingDelta(text.clone()))),
            Content::ToolUse(call) => out.push_back(Ok(ModelEvent::ToolUseStarted { name: call.name.clone() })),
            Content::Image { .. } | Content::ToolResult(_) => {}
        }
    }
    out.push_back(Ok(ModelEvent::Done(Box::new(reply))));
    out
}

struct Events(VecDeque<Result<ModelEvent, ModelError>>);

impl Stream for Events {
    type Item = Result<ModelEvent, ModelError>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.0.pop_front())
    }
}

struct Never;

impl Stream for Never {
    type Item = Result<ModelEvent, ModelError>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Pending
    }
}
