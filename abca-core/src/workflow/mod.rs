//! Kinds of task as data: the workflow file, its rules, the workflows that ship, and how a check's result gates a task.
//!
//! A workflow file is JSON in the reference platform's format, whose names are the interop contract. [`validate`]
//! judges one, on the raw JSON, so that every fault of a file is found at once. [`resolve`] turns the reference in a
//! submission into a shipped workflow. [`gate`] says whether a build, a test or a lint lets the task succeed.

mod gate;
mod model;
mod names;
mod prompt;
mod registry;
mod rules;
mod schema;
mod tier;

use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::Value;

pub use gate::{Check, GateResult, gate};
pub use model::{
    AgentConfig, Hydration, MissingInputs, ModelPreference, PromotionGate, Prompt, RepoConfig, RequiredInputs, Step,
    SuppliedInputs, TerminalOutcomes, Workflow, WorkflowLimits,
};
pub use names::{
    DeliverTarget, DiscoveredConfig, Domain, GateMode, HydrationSource, InputName, LifeCycle, OnFailure, Outcome,
    PrStrategy, StepKind, Tier, VcsProvider,
};
pub use prompt::{PromptError, render};
pub use registry::{ResolveError, WorkflowRef, check_lineages, resolve, shipped};
pub use tier::MCP_PREFIX;
pub(crate) use tier::standard;

/// The first line of an agent's last message when it asks the user instead of changing anything.
pub const NEEDS_INPUT_MARKER: &str = "[[ABCA_NEEDS_INPUT]]";

/// Tools of agent programs that no workflow grants: they start further agents, or outlive the session.
pub const DISALLOWED_TOOLS: [&str; 8] =
    ["Workflow", "Task", "Agent", "Monitor", "SendMessage", "CronCreate", "CronDelete", "CronList"];

macro_rules! violation_codes {
    ($( $(#[$doc:meta])* $variant:ident = $wire:literal; )+) => {
        /// Which rule a workflow file breaks. The codes are stable, and the reference platform's.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum ViolationCode { $( $(#[$doc])* $variant, )+ }

        impl ViolationCode {
            /// Every code.
            pub const ALL: &'static [Self] = &[ $( Self::$variant, )+ ];

            /// The code on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $wire, )+ }
            }
        }
    };
}

violation_codes! {
    /// A field is missing, unknown, of another type, or out of its range.
    Schema = "schema";
    /// The id's `-vN` is the version's major number.
    IdVersion = "rule-1";
    /// Exactly one `run_agent` step.
    OneAgentRun = "rule-2";
    /// No repository: no step and no source that needs one.
    RepoLess = "rule-3";
    /// Read-only: no tool that writes files, no step that pushes.
    ReadOnly = "rule-4";
    /// Not read-only: the policy module `builtin/soft_deny` is a floor.
    PolicyFloor = "rule-5";
    /// Nothing beyond what the tier allows.
    TierCeiling = "rule-6";
    /// No repository: no discovery, no provider.
    RepoConfig = "rule-7";
    /// Every reference resolves, every step has a handler, every target a deliverer.
    References = "rule-8";
    /// The required inputs come from declared sources.
    RequiredInputs = "rule-9";
    /// One version in production for each id; judged over a set of workflows by [`check_lineages`].
    OneProduction = "rule-10";
    /// A step produces the primary outcome.
    Outcome = "rule-11";
    /// A step that the world sees may not fail unnoticed.
    SideEffect = "rule-12";
    /// The preferred model is one that the platform allows; judged at submission by [`Workflow::check_model`].
    Model = "rule-13";
    /// The provider is one that exists.
    Provider = "rule-14";
}

impl fmt::Display for ViolationCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for ViolationCode {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.as_str())
    }
}

/// One fault of a workflow file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Which rule.
    pub code: ViolationCode,
    /// Where, e.g. `steps[3].on_failure`; empty for the whole file.
    pub path: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl Violation {
    fn new(code: ViolationCode, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code, path: path.into(), message: message.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => write!(f, "{}: {}", self.code, self.message),
            path => write!(f, "{} at {path}: {}", self.code, self.message),
        }
    }
}

/// Judges a workflow file: violations of its shape, then of the rules across fields; empty when it is valid.
///
/// Total: any JSON value has a verdict. A rule reads what is there, so a file that lacks its steps breaks `schema` and
/// also the rules that count on steps. Rules 10 and 13 need more than the file, and are judged elsewhere.
pub fn validate(file: &Value) -> Vec<Violation> {
    let mut found = schema::check(file);
    found.extend(rules::check(file));
    found
}

impl Workflow {
    /// Validates a workflow file and reads it.
    ///
    /// # Errors
    /// Every violation that [`validate`] finds.
    pub fn from_value(file: &Value) -> Result<Self, Vec<Violation>> {
        let found = validate(file);
        if !found.is_empty() {
            return Err(found);
        }
        // The shape was checked above; should the two ever disagree, the file is refused.
        serde_json::from_value(file.clone())
            .map_err(|e| vec![Violation::new(ViolationCode::Schema, "", format!("cannot be read: {e}"))])
    }
}

/// User input as it may stand in a message: at most 80 characters, controls replaced.
pub(crate) fn excerpt(text: &str) -> String {
    let mut out: String = text.chars().take(80).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(80).is_some() {
        out.push('…');
    }
    out
}
