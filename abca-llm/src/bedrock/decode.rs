//! The events of ConverseStream.

use std::collections::VecDeque;
use std::time::Duration;

use abca_core::model::{ModelError, ModelErrorKind, ModelEvent, ModelStream, StopReason, Usage};
use aws_sdk_bedrockruntime::primitives::event_stream::EventReceiver;
use aws_sdk_bedrockruntime::types as aws;
use aws_sdk_bedrockruntime::types::error::ConverseStreamOutputError;
use base64::Engine;
use futures_util::stream;

use super::{NAME, error};
use crate::assemble::{Assembly, REDACTED};
use crate::fault::{Scrub, malformed};

type Receiver = EventReceiver<aws::ConverseStreamOutput, ConverseStreamOutputError>;

struct Reading {
    events: Receiver,
    answer: Answer,
    ready: VecDeque<ModelEvent>,
    idle: Duration,
    scrub: Scrub,
    over: bool,
}

/// The SDK's events as ours.
pub(super) fn stream(events: Receiver, model: String, idle: Duration, scrub: Scrub) -> ModelStream {
    let answer = Answer { assembly: Assembly::of_model(model), counted: false };
    let reading = Reading { events, answer, ready: VecDeque::new(), idle, scrub, over: false };
    Box::pin(stream::unfold(reading, async |mut r| {
        let item = r.next().await?;
        r.over = matches!(item, Err(_) | Ok(ModelEvent::Done(_)));
        Some((item, r))
    }))
}

impl Reading {
    async fn next(&mut self) -> Option<Result<ModelEvent, ModelError>> {
        if self.over {
            return None;
        }
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(Ok(event));
            }
            let event = match tokio::time::timeout(self.idle, self.events.recv()).await {
                Err(_) => return Some(Err(error::silent("stream", self.idle))),
                Ok(Err(e)) => return Some(Err(error::of_stream(&e, &self.scrub))),
                Ok(Ok(event)) => event,
            };
            let taken = match event {
                Some(event) => self.answer.take(event, &mut self.ready),
                None => self.answer.end(&mut self.ready),
            };
            if let Err(e) = taken {
                return Some(Err(e));
            }
        }
    }
}

struct Answer {
    assembly: Assembly,
    /// Usage has come: the last event of all.
    counted: bool,
}

impl Answer {
    fn take(&mut self, event: aws::ConverseStreamOutput, out: &mut VecDeque<ModelEvent>) -> Result<(), ModelError> {
        use aws::ConverseStreamOutput as E;
        match event {
            E::MessageStart(_) | E::ContentBlockStop(_) => Ok(()),
            E::ContentBlockStart(e) => {
                let index = index(e.content_block_index)?;
                if self.assembly.has(index) {
                    return Err(malformed(NAME, format_args!("block {index} begins twice")));
                }
                match e.start {
                    Some(aws::ContentBlockStart::ToolUse(t)) => {
                        self.assembly.begin_tool(index, t.tool_use_id, t.name, out);
                    }
                    Some(_) => self.assembly.begin_unknown(index),
                    None => {}
                }
                Ok(())
            }
            E::ContentBlockDelta(e) => {
                let index = index(e.content_block_index)?;
                match e.delta {
                    Some(aws::ContentBlockDelta::Text(text)) => self.assembly.text(NAME, index, text, out),
                    Some(aws::ContentBlockDelta::ToolUse(t)) => self.assembly.arguments(NAME, index, &t.input),
                    Some(aws::ContentBlockDelta::ReasoningContent(r)) => self.reasoning(index, r, out),
                    Some(_) | None => Ok(()),
                }
            }
            E::MessageStop(e) => {
                self.assembly.stop = Some(stop(&e.stop_reason));
                Ok(())
            }
            E::Metadata(e) => {
                if let Some(u) = e.usage {
                    let tokens = |n: i32| u64::try_from(n).unwrap_or(0);
                    self.assembly.usage = Usage {
                        input_tokens: tokens(u.input_tokens),
                        output_tokens: tokens(u.output_tokens),
                        cache_read_tokens: tokens(u.cache_read_input_tokens.unwrap_or(0)),
                        cache_write_tokens: tokens(u.cache_write_input_tokens.unwrap_or(0)),
                    };
                    self.counted = true;
                }
                self.finish(out)
            }
            _ => Ok(()), // An event of a newer API.
        }
    }

    fn reasoning(
        &mut self,
        index: u64,
        delta: aws::ReasoningContentBlockDelta,
        out: &mut VecDeque<ModelEvent>,
    ) -> Result<(), ModelError> {
        use aws::ReasoningContentBlockDelta as R;
        match delta {
            R::Text(text) => self.assembly.thinking(NAME, index, text, "", out),
            R::Signature(signature) => self.assembly.thinking(NAME, index, String::new(), &signature, out),
            R::RedactedContent(blob) => {
                let data = base64::engine::general_purpose::STANDARD.encode(blob.as_ref());
                self.assembly.thinking(NAME, index, String::new(), &format!("{REDACTED}{data}"), out)
            }
            _ => Ok(()),
        }
    }

    /// The end of the connection. Without usage what was spent is unknown: the answer is not whole.
    fn end(&mut self, out: &mut VecDeque<ModelEvent>) -> Result<(), ModelError> {
        if self.counted {
            self.finish(out)?;
        }
        if out.is_empty() {
            let what = format!("{NAME}: the answer ended before it was whole");
            return Err(ModelError::new(ModelErrorKind::Network, "stream", what));
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut VecDeque<ModelEvent>) -> Result<(), ModelError> {
        match self.assembly.finish() {
            Some(reply) => {
                out.push_back(ModelEvent::Done(Box::new(reply)));
                Ok(())
            }
            None => Err(malformed(NAME, "usage before the reason of the stop")),
        }
    }
}

fn index(i: i32) -> Result<u64, ModelError> {
    u64::try_from(i).map_err(|_| malformed(NAME, format_args!("a block with the index {i}")))
}

fn stop(reason: &aws::StopReason) -> StopReason {
    match reason {
        aws::StopReason::EndTurn => StopReason::EndTurn,
        aws::StopReason::ToolUse => StopReason::ToolUse,
        aws::StopReason::MaxTokens => StopReason::MaxTokens,
        aws::StopReason::StopSequence => StopReason::StopSequence,
        aws::StopReason::ContentFiltered | aws::StopReason::GuardrailIntervened => StopReason::Refusal,
        aws::StopReason::ModelContextWindowExceeded => StopReason::ContextFull,
        other if other.as_str() == "refusal" => StopReason::Refusal,
        other => StopReason::Other(other.as_str().to_owned()),
    }
}
