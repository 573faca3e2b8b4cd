//! A model client of one's own: an engine inside this program. Bind llama.cpp or a company's gateway just so.

use std::sync::Arc;

use abca::abca_core::model::{
    Content, ModelCapabilities, ModelClient, ModelError, ModelErrorKind, ModelEvent, ModelReply, ModelRequest,
    ModelStream, Price, StopReason, TokenCount, ToolCall, ToolInput, Usage,
};
use async_trait::async_trait;

/// The one model that the engine has.
pub const MODEL: &str = "house-1";

/// What the engine says, piece by piece.
pub enum Piece {
    Text(String),
    Thinking {
        text: String,
        signature: Option<String>,
    },
    /// The arguments as the engine wrote them: JSON, it is hoped.
    Call {
        id: String,
        name: String,
        arguments: String,
    },
    /// The answer is whole. Without it, it was cut.
    End {
        stop: StopReason,
        usage: Usage,
    },
}

/// Where answers come from.
pub trait Engine: std::fmt::Debug + Send + Sync + 'static {
    fn answer(&self, request: &ModelRequest) -> Result<Vec<Piece>, ModelError>;
}

#[derive(Debug)]
pub struct HouseModel(pub Arc<dyn Engine>);

#[async_trait]
impl ModelClient for HouseModel {
    fn name(&self) -> &'static str {
        "house"
    }

    fn capabilities(&self, model: &str) -> ModelCapabilities {
        ModelCapabilities {
            context_window_tokens: 32_000,
            max_output_tokens: 4_000,
            images: false,
            caching: false,
            counts_tokens: false,
            // Without a price no budget can be kept, and a task that has one is refused. Ours is free.
            price: (model == MODEL).then(Price::default),
        }
    }

    async fn stream(&self, request: &ModelRequest) -> Result<ModelStream, ModelError> {
        let pieces = self.0.answer(request)?;
        Ok(Box::pin(futures_util::stream::iter(events(pieces, &request.model))))
    }

    async fn count_tokens(&self, request: &ModelRequest) -> Result<TokenCount, ModelError> {
        let bytes = serde_json::to_vec(request).map_or(0, |json| json.len() as u64);
        Ok(TokenCount { input_tokens: bytes.div_ceil(3), exact: false })
    }
}

/// Deltas for whoever watches, then the whole answer or an error: a cut stream is never a short answer.
fn events(pieces: Vec<Piece>, model: &str) -> Vec<Result<ModelEvent, ModelError>> {
    let (mut events, mut content) = (Vec::new(), Vec::new());
    for piece in pieces {
        match piece {
            Piece::Text(text) => {
                events.push(Ok(ModelEvent::TextDelta(text.clone())));
                content.push(Content::Text { text });
            }
            Piece::Thinking { text, signature } => {
                events.push(Ok(ModelEvent::ThinkingDelta(text.clone())));
                content.push(Content::Thinking { text, signature });
            }
            Piece::Call { id, name, arguments } => {
                events.push(Ok(ModelEvent::ToolUseStarted { name: name.clone() }));
                // Arguments that are no JSON are an answer too: the model is told what was wrong with it.
                let input = match serde_json::from_str(&arguments) {
                    Ok(json) => ToolInput::Json(json),
                    Err(error) => ToolInput::Invalid { raw: arguments, error: error.to_string() },
                };
                content.push(Content::ToolUse(ToolCall { id, name, input }));
            }
            Piece::End { stop, usage } => {
                let reply = ModelReply { content, stop, usage, model: model.to_owned() };
                events.push(Ok(ModelEvent::Done(Box::new(reply))));
                return events;
            }
        }
    }
    events.push(Err(ModelError::new(ModelErrorKind::Network, "stream", "the engine stopped in the middle")));
    events
}

/// An engine of three answers, enough to correct a spelling.
#[derive(Debug)]
pub struct Speller;

impl Engine for Speller {
    fn answer(&self, request: &ModelRequest) -> Result<Vec<Piece>, ModelError> {
        let call = |name: &str, arguments: &str| Piece::Call {
            id: format!("call-{}", request.messages.len()),
            name: name.to_owned(),
            arguments: arguments.to_owned(),
        };
        let (piece, stop) = match request.messages.len() {
            1 => (call("Read", r#"{"file_path": "README.md"}"#), StopReason::ToolUse),
            3 => {
                let edit = r#"{"file_path": "README.md", "old_string": "teh", "new_string": "the"}"#;
                (call("Edit", edit), StopReason::ToolUse)
            }
            _ => (Piece::Text("I corrected the spelling of `the`.".to_owned()), StopReason::EndTurn),
        };
        Ok(vec![piece, Piece::End { stop, usage: Usage { input_tokens: 500, output_tokens: 40, ..Usage::default() } }])
    }
}
