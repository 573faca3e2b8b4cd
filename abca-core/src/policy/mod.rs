//! May this tool call happen: the trait [`PolicyEngine`], what it is asked and what it answers.
//!
//! | answer | what the session does |
//! | --- | --- |
//! | [`PolicyDecision::Allow`] | runs the call |
//! | [`PolicyDecision::Deny`] | does not, and tells the model which rule and why |
//! | [`PolicyDecision::Ask`] | asks a human, unless what was approved before covers it ([`Ask::left`]) |
//!
//! Whatever a guard says that is no plain yes becomes a [`PolicyDecisionEvent`], of one form for every guard.

#[cfg(feature = "cedar")]
pub mod cedar;
mod decision;
mod event;
pub mod facts;
mod grant;
mod paths;
mod settings;
pub mod shell;

use std::fmt;

use async_trait::async_trait;
use serde_json::Value;

pub use decision::{Ask, Because, Judgement, PolicyDecision, RuleMatch, RuleMode, Severity, Tier};
pub use event::{GuardOutcome, GuardStage, PolicyDecisionEvent};
pub use paths::{LexicalPaths, PathResolver, ResolvedPath, lexical};
pub use settings::{PolicyOrigin, PolicySettings, PolicySource};

use crate::error::adapter_error;
use crate::id::TaskId;

adapter_error! {
    /// Why a policy engine could not decide. The call is then denied.
    PolicyError,
    /// Classes of policy errors.
    PolicyErrorKind {
        /// A policy's evaluation failed.
        Evaluation = "evaluation failed", false;
        /// The engine, or what it needs to know, is not reachable.
        Unavailable = "unavailable", true;
        /// The policies cannot be used: the message says which, and where.
        Policies = "policies refused", false;
    }
}

/// A tool call to be judged.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyRequest {
    /// Whose.
    pub task: TaskId,
    /// The workflow's id.
    pub workflow: String,
    /// The repository, as `owner/name`; empty where there is none.
    pub repo: String,
    /// The branch that the task works on; empty where there is none.
    pub branch: String,
    /// The branch that its work is proposed to; empty where there is none.
    pub base_branch: String,
    /// The tool.
    pub tool: String,
    /// Its arguments.
    pub input: Value,
    /// The workflow may change nothing.
    pub read_only: bool,
    /// The conversation holds text from outside: issues, pull requests, the web.
    pub tainted: bool,
}

/// Judges tool calls.
///
/// # Contract
/// Deterministic for equal requests, equal answers of `paths` and equal policies; fails closed: whoever calls it treats an
/// error as a denial. Knows nothing of what humans approved: whoever calls it asks [`Ask::left`].
///
/// # Cancel safety
/// Judging changes nothing: the future may be dropped.
#[async_trait]
pub trait PolicyEngine: fmt::Debug + Send + Sync + 'static {
    /// Short lower-case name for logs and events.
    fn name(&self) -> &'static str;

    /// Judges one call. `paths` says where the paths in it lead, on the machine where the call would run.
    async fn judge(&self, request: &PolicyRequest, paths: &dyn PathResolver) -> Result<Judgement, PolicyError>;
}
