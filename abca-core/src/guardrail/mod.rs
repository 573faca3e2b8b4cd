//! May this text come in: the trait [`Guardrail`], what it is asked and what it answers.
//!
//! | where | what is judged | answered with a block, or by a failure |
//! | --- | --- | --- |
//! | submission | description and commands | the submission is refused |
//! | hydration | the assembled prompt | the task fails; a failure that may pass is tried again until the deadline |
//! | nudge | what somebody says to a running agent | it is not said |
//! | memory write | what is to be remembered | it is not remembered ([`GuardedMemory`]) |
//!
//! [`LocalGuardrail`] needs nothing; [`InTurn`] asks several, one after the other. What a guardrail says that is no plain
//! yes becomes one [`PolicyDecisionEvent`](crate::policy::PolicyDecisionEvent) by [`decision_of`].

mod in_turn;
mod local;
mod memory;
mod verdict;

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

pub use in_turn::InTurn;
pub use local::{LocalGuardrail, LocalGuardrailConfig, TextAction, TextRules};
pub use memory::{DecisionSink, GuardedMemory};
pub use verdict::{Assessment, Confidence, GuardrailAction, GuardrailOutcome, GuardrailVerdict, decision_of};

use crate::error::adapter_error;
use crate::id::TaskId;
use crate::policy::GuardStage;
use crate::text::ScreenConfig;

adapter_error! {
    /// Why a guardrail gave no verdict. Whoever asked it treats that as a block.
    GuardrailError,
    /// Classes of guardrail errors.
    GuardrailErrorKind {
        /// It does not answer, answers too late, or its answer makes no sense; the same may succeed later.
        Unavailable = "unavailable", true;
        /// It is asked too often, also after waiting; the same may succeed later.
        Throttled = "throttled", true;
        /// It does not take what it was given: a form of image, a size.
        Refused = "input refused", false;
        /// It cannot work as it is set up: no permission, no such guardrail, a setting that makes no sense.
        Misconfigured = "misconfigured", false;
    }
}

/// Where text comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuardrailStage {
    /// A task is submitted: a person waits for the answer and can act on it.
    Submission,
    /// The prompt of a task is assembled: nobody is there.
    Hydration,
    /// Somebody speaks to a running task.
    Nudge,
    /// Something is to be remembered across tasks.
    MemoryWrite,
}

impl GuardrailStage {
    /// Every stage.
    pub const ALL: [Self; 4] = [Self::Submission, Self::Hydration, Self::Nudge, Self::MemoryWrite];

    /// The row of the table of guards.
    pub const fn row(self) -> GuardStage {
        match self {
            Self::Submission => GuardStage::Submit,
            Self::Hydration => GuardStage::Hydration,
            Self::Nudge => GuardStage::Nudge,
            Self::MemoryWrite => GuardStage::MemoryWrite,
        }
    }
}

/// A text to be judged. Its `Debug` shows no word of it.
#[derive(Clone, PartialEq, Eq)]
pub struct GuardrailText {
    /// What it is, for whoever reads the verdict: `task_description`, `prompt`.
    pub name: String,
    /// The text.
    pub text: String,
}

impl fmt::Debug for GuardrailText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardrailText").field("name", &self.name).field("bytes", &self.text.len()).finish()
    }
}

/// The form of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ImageFormat {
    /// PNG.
    Png,
    /// JPEG.
    Jpeg,
    /// GIF.
    Gif,
    /// WebP.
    Webp,
}

impl ImageFormat {
    /// Its usual name, in lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg => "jpeg",
            Self::Gif => "gif",
            Self::Webp => "webp",
        }
    }
}

/// An image to be judged.
#[derive(Clone, PartialEq, Eq)]
pub struct GuardrailImage {
    /// What it is, e.g. its file name.
    pub name: String,
    /// Its form.
    pub format: ImageFormat,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl fmt::Debug for GuardrailImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, format, bytes } = self;
        f.debug_struct("GuardrailImage")
            .field("name", name)
            .field("format", format)
            .field("bytes", &bytes.len())
            .finish()
    }
}

/// What is to be judged, all at once.
#[derive(Debug, Clone, PartialEq)]
pub struct GuardrailInput {
    /// Where it comes in.
    pub stage: GuardrailStage,
    /// Whose; `None` while there is no task yet.
    pub task: Option<TaskId>,
    /// Texts, of any length.
    pub texts: Vec<GuardrailText>,
    /// Images.
    pub images: Vec<GuardrailImage>,
    /// What the operator screens for in this task besides, for guardrails that know the scanner's rules.
    pub screening: ScreenConfig,
}

impl GuardrailInput {
    /// Nothing yet.
    pub fn new(stage: GuardrailStage) -> Self {
        Self { stage, task: None, texts: Vec::new(), images: Vec::new(), screening: ScreenConfig::default() }
    }

    /// With what the operator screens for in this task.
    #[must_use]
    pub fn screening(mut self, screening: ScreenConfig) -> Self {
        self.screening = screening;
        self
    }

    /// Of this task.
    #[must_use]
    pub fn of_task(mut self, task: TaskId) -> Self {
        self.task = Some(task);
        self
    }

    /// With another text.
    #[must_use]
    pub fn text(mut self, name: impl Into<String>, text: impl Into<String>) -> Self {
        self.texts.push(GuardrailText { name: name.into(), text: text.into() });
        self
    }

    /// With another image.
    #[must_use]
    pub fn image(mut self, name: impl Into<String>, format: ImageFormat, bytes: Vec<u8>) -> Self {
        self.images.push(GuardrailImage { name: name.into(), format, bytes });
        self
    }
}

/// Judges text and images before they come in.
///
/// # Contract
/// * A verdict covers every character of every text and every image, however long; what cannot be judged whole is an error.
/// * It fails closed: whoever calls it treats an error as a block.
/// * [`GuardrailOutcome::Mask`] gives as many texts as there were, in their order; outside of what was masked they are the
///   same to the byte.
/// * Neither verdict nor error holds what was found: no secret, no word of a text.
/// * What is empty is allowed.
///
/// `abca_core::testing::guardrail` (feature `testing`) checks all of it.
///
/// # Cancel safety
/// Judging changes nothing: the future may be dropped.
#[async_trait]
pub trait Guardrail: fmt::Debug + Send + Sync + 'static {
    /// Short lower-case name for logs and events.
    fn name(&self) -> &'static str;

    /// Judges all of it.
    async fn check(&self, input: &GuardrailInput) -> Result<GuardrailVerdict, GuardrailError>;
}
