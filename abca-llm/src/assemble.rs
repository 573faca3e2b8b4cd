//! Puts an answer together from its pieces; shared by the three wires.

use std::collections::VecDeque;

use abca_core::model::{Content, ModelError, ModelEvent, ModelReply, StopReason, ToolCall, ToolInput, Usage};
use serde_json::{Map, Value};

use crate::fault::malformed;

/// Largest whole answer. A provider that sends more is not answering us.
pub(crate) const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// Begins the signature of a thinking block that the provider sent encrypted ("redacted"): the data follows. It
/// travels so because [`Content::Thinking`] has a text and a signature only, and the block must go back unchanged.
pub(crate) const REDACTED: &str = "redacted_thinking:";

#[derive(Debug)]
enum Block {
    Text(String),
    Thinking {
        text: String,
        signature: String,
    },
    Tool {
        id: String,
        name: String,
        arguments: String,
    },
    /// Something that we do not know. Its pieces are dropped.
    Unknown,
}

/// An answer in the making. Blocks have the provider's index and end up in the order in which they began.
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    blocks: Vec<(u64, Block)>,
    bytes: usize,
    pub(crate) usage: Usage,
    pub(crate) stop: Option<StopReason>,
    pub(crate) model: String,
}

impl Assembly {
    /// For a wire that does not say which model answers.
    #[cfg(feature = "bedrock")]
    pub(crate) fn of_model(model: String) -> Self {
        Self { model, ..Self::default() }
    }

    fn grow(&mut self, provider: &str, by: usize) -> Result<(), ModelError> {
        self.bytes = self.bytes.saturating_add(by);
        if self.bytes > MAX_ANSWER_BYTES {
            return Err(malformed(provider, format_args!("the answer is larger than {MAX_ANSWER_BYTES} bytes")));
        }
        Ok(())
    }

    fn block(&mut self, index: u64) -> Option<&mut Block> {
        // The newest is nearly always the one.
        self.blocks.iter_mut().rev().find(|(i, _)| *i == index).map(|(_, b)| b)
    }

    pub(crate) fn has(&self, index: u64) -> bool {
        self.blocks.iter().any(|(i, _)| *i == index)
    }

    #[cfg(feature = "openai")]
    pub(crate) fn has_tools(&self) -> bool {
        self.blocks.iter().any(|(_, b)| matches!(b, Block::Tool { .. }))
    }

    pub(crate) fn begin_tool(&mut self, index: u64, id: String, name: String, out: &mut VecDeque<ModelEvent>) {
        out.push_back(ModelEvent::ToolUseStarted { name: name.clone() });
        self.blocks.push((index, Block::Tool { id, name, arguments: String::new() }));
    }

    pub(crate) fn begin_unknown(&mut self, index: u64) {
        self.blocks.push((index, Block::Unknown));
    }

    /// Appends text to the block, which begins here if it has not.
    pub(crate) fn text(
        &mut self,
        provider: &str,
        index: u64,
        piece: String,
        out: &mut VecDeque<ModelEvent>,
    ) -> Result<(), ModelError> {
        self.grow(provider, piece.len())?;
        match self.block(index) {
            Some(Block::Text(text)) => text.push_str(&piece),
            Some(Block::Unknown) => return Ok(()),
            Some(Block::Thinking { .. } | Block::Tool { .. }) => {
                return Err(malformed(provider, "text in a block that is not text"));
            }
            None => self.blocks.push((index, Block::Text(piece.clone()))),
        }
        if !piece.is_empty() {
            out.push_back(ModelEvent::TextDelta(piece));
        }
        Ok(())
    }

    /// Appends to the thinking of a block, which begins here if it has not.
    pub(crate) fn thinking(
        &mut self,
        provider: &str,
        index: u64,
        piece: String,
        signature: &str,
        out: &mut VecDeque<ModelEvent>,
    ) -> Result<(), ModelError> {
        self.grow(provider, piece.len().saturating_add(signature.len()))?;
        match self.block(index) {
            Some(Block::Thinking { text, signature: s }) => {
                text.push_str(&piece);
                s.push_str(signature);
            }
            Some(Block::Unknown) => return Ok(()),
            Some(Block::Text(_) | Block::Tool { .. }) => {
                return Err(malformed(provider, "thinking in a block that is not thinking"));
            }
            None => {
                let block = Block::Thinking { text: piece.clone(), signature: signature.to_owned() };
                self.blocks.push((index, block));
            }
        }
        if !piece.is_empty() {
            out.push_back(ModelEvent::ThinkingDelta(piece));
        }
        Ok(())
    }

    /// Appends to the arguments of a tool call.
    pub(crate) fn arguments(&mut self, provider: &str, index: u64, piece: &str) -> Result<(), ModelError> {
        self.grow(provider, piece.len())?;
        match self.block(index) {
            Some(Block::Tool { arguments, .. }) => arguments.push_str(piece),
            Some(Block::Unknown) => {}
            Some(Block::Text(_) | Block::Thinking { .. }) | None => {
                return Err(malformed(provider, "arguments of a tool call that has not begun"));
            }
        }
        Ok(())
    }

    /// The whole answer, or `None` when the provider has not said why it stopped.
    pub(crate) fn finish(&mut self) -> Option<ModelReply> {
        let stop = self.stop.take()?;
        let content = self.blocks.drain(..).filter_map(|(_, block)| content(block)).collect();
        Some(ModelReply { content, stop, usage: self.usage, model: std::mem::take(&mut self.model) })
    }
}

fn content(block: Block) -> Option<Content> {
    match block {
        Block::Text(text) if text.is_empty() => None,
        Block::Text(text) => Some(Content::Text { text }),
        Block::Thinking { text, signature } if text.is_empty() && signature.is_empty() => None,
        Block::Thinking { text, signature } => {
            Some(Content::Thinking { text, signature: (!signature.is_empty()).then_some(signature) })
        }
        Block::Tool { id, name, arguments } => {
            Some(Content::ToolUse(ToolCall { id, name, input: parse_arguments(arguments) }))
        }
        Block::Unknown => None,
    }
}

/// Arguments as a model wrote them: nothing at all is an empty object.
pub(crate) fn parse_arguments(raw: String) -> ToolInput {
    if raw.trim().is_empty() {
        return ToolInput::Json(Value::Object(Map::new()));
    }
    match serde_json::from_str(&raw) {
        Ok(value) => ToolInput::Json(value),
        Err(e) => ToolInput::Invalid { error: e.to_string(), raw },
    }
}

/// Arguments as a provider takes them back: an object, whatever the model wrote.
pub(crate) fn object_of(input: &ToolInput) -> std::borrow::Cow<'_, Value> {
    use std::borrow::Cow;
    match input {
        ToolInput::Json(value @ Value::Object(_)) => Cow::Borrowed(value),
        ToolInput::Json(other) => Cow::Owned(serde_json::json!({ "value": other })),
        // Keys in order, whether or not a crate elsewhere has switched `serde_json/preserve_order` on.
        ToolInput::Invalid { raw, error } => Cow::Owned(serde_json::json!({ "error": error, "invalid_json": raw })),
    }
}
