//! Plays a trajectory.

use std::fmt;
use std::path::Path;

use abca_core::model::{
    Content, ModelCapabilities, ModelClient, ModelError, ModelErrorKind, ModelEvent, ModelReply, ModelRequest,
    ModelStream, Price, Role, TokenCount, Usage,
};
use async_trait::async_trait;
use futures_util::stream;

use super::fingerprint::{Fingerprint, texts};
use super::trajectory::{Condition, Step, Trajectory};
use crate::clip::clip;
use crate::estimate;

/// A [`ModelClient`] that answers from a trajectory, whatever model is asked for.
///
/// The step is found by the number of assistant messages in the conversation, so a session that resumes after a
/// crash goes on where it was, and one replay serves any number of conversations at once. Each call is compared with
/// the recording first; the first that does not fit is refused with [`ModelErrorKind::ReplayDeparted`], which says
/// what is different and where. Steps that are left over at the end are no error.
///
/// It costs nothing (a price of zero, not an unknown one), takes images, and estimates tokens.
pub struct Replay {
    trajectory: Trajectory,
    origin: String,
}

impl fmt::Debug for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replay")
            .field("origin", &self.origin)
            .field("steps", &self.trajectory.steps.len())
            .finish_non_exhaustive()
    }
}

impl Replay {
    /// Reads a trajectory from a file.
    ///
    /// # Errors
    /// [`ModelErrorKind::Config`]: the file cannot be read or is no trajectory; says which line.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ModelError> {
        let path = path.as_ref();
        let origin = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|e| {
            ModelError::new(ModelErrorKind::Config, "open", format!("cannot read the trajectory `{origin}`: {e}"))
        })?;
        Self::parse(&text, origin)
    }

    fn parse(text: &str, origin: String) -> Result<Self, ModelError> {
        match Trajectory::parse(text) {
            Ok(trajectory) => Ok(Self { trajectory, origin }),
            Err(e) => Err(ModelError::new(ModelErrorKind::Config, "open", format!("trajectory `{origin}`: {e}"))),
        }
    }

    /// How many calls it can answer.
    pub fn steps(&self) -> usize {
        self.trajectory.steps.len()
    }

    fn answer(&self, request: &ModelRequest) -> Result<ModelReply, ModelError> {
        let call = request.messages.iter().filter(|m| m.role == Role::Assistant).count() + 1;
        let departed = |what: String| {
            let message = format!("call {call} of `{}`: {what}", self.origin);
            ModelError::new(ModelErrorKind::ReplayDeparted, "stream", message)
        };
        let Some(step) = self.trajectory.steps.get(&call) else {
            return Err(departed(format!("the recording ends after call {}", self.trajectory.steps.len())));
        };
        self.past_fits(request).map_err(departed)?;
        self.fits(step, request).map_err(departed)?;
        let mut reply = step.reply.clone();
        if step.estimate {
            reply.usage = Usage {
                input_tokens: estimate::request_tokens(request).input_tokens,
                output_tokens: estimate::content_tokens(&reply.content),
                ..Usage::default()
            };
        }
        Ok(reply)
    }

    /// Every answer that the conversation holds must be the recorded one, by its calls.
    fn past_fits(&self, request: &ModelRequest) -> Result<(), String> {
        let assistant = request.messages.iter().enumerate().filter(|(_, m)| m.role == Role::Assistant);
        for ((i, message), step) in assistant.zip(self.trajectory.steps.values()) {
            let (then, now) = (calls(&step.reply.content), calls(&message.content));
            if then != now {
                return Err(format!("messages[{i}] (assistant): recorded calls {then:?}, now {now:?}"));
            }
        }
        Ok(())
    }

    fn fits(&self, step: &Step, request: &ModelRequest) -> Result<(), String> {
        match &step.condition {
            Condition::Fits(recorded) => {
                recorded.departs(&Fingerprint::of(request, self.trajectory.mode)).map_or(Ok(()), Err)
            }
            Condition::Says(expected) if expected.is_empty() => Ok(()),
            Condition::Says(expected) => {
                let at = request.messages.len().saturating_sub(1);
                let said = request.messages.last().map_or_else(String::new, |m| texts(&m.content));
                match expected.iter().find(|e| !said.contains(e.as_str())) {
                    None => Ok(()),
                    Some(missing) => Err(format!(
                        "messages[{at}] (user): expected `{}`, now `{}`",
                        clip(missing, 200),
                        clip(said.trim(), 400)
                    )),
                }
            }
        }
    }
}

impl std::str::FromStr for Replay {
    type Err = ModelError;

    /// Reads a trajectory from a text.
    fn from_str(text: &str) -> Result<Self, ModelError> {
        Self::parse(text, "trajectory".into())
    }
}

fn calls(content: &[Content]) -> Vec<(&str, &str)> {
    let calls = content.iter().filter_map(|c| match c {
        Content::ToolUse(call) => Some((call.name.as_str(), call.id.as_str())),
        Content::Text { .. } | Content::Image { .. } | Content::Thinking { .. } | Content::ToolResult(_) => None,
    });
    calls.collect()
}

#[async_trait]
impl ModelClient for Replay {
    fn name(&self) -> &'static str {
        "replay"
    }

    fn capabilities(&self, _model: &str) -> ModelCapabilities {
        ModelCapabilities {
            context_window_tokens: 1_000_000,
            max_output_tokens: 128_000,
            images: true,
            caching: false,
            counts_tokens: false,
            price: Some(Price::default()),
        }
    }

    async fn stream(&self, request: &ModelRequest) -> Result<ModelStream, ModelError> {
        let reply = self.answer(request)?;
        let mut events = Vec::with_capacity(reply.content.len() + 1);
        for content in &reply.content {
            match content {
                Content::Text { text } => events.push(Ok(ModelEvent::TextDelta(text.clone()))),
                Content::Thinking { text, .. } if text.is_empty() => {}
                Content::Thinking { text, .. } => events.push(Ok(ModelEvent::ThinkingDelta(text.clone()))),
                Content::ToolUse(call) => events.push(Ok(ModelEvent::ToolUseStarted { name: call.name.clone() })),
                Content::Image { .. } | Content::ToolResult(_) => {}
            }
        }
        events.push(Ok(ModelEvent::Done(Box::new(reply))));
        Ok(Box::pin(stream::iter(events)))
    }

    async fn count_tokens(&self, request: &ModelRequest) -> Result<TokenCount, ModelError> {
        Ok(estimate::request_tokens(request))
    }
}
