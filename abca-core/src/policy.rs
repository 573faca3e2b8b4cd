//! May this tool call happen: the trait [`PolicyEngine`].

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::adapter_error;
use crate::id::TaskId;

adapter_error! {
    /// Why a policy engine could not decide. The call is then denied.
    PolicyError,
    /// Classes of policy errors.
    PolicyErrorKind {
        /// A policy's evaluation failed.
        Evaluation = "evaluation failed", false;
        /// The engine is not reachable.
        Unavailable = "unavailable", true;
    }
}

/// A tool call to be judged.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyRequest {
    /// Whose.
    pub task: TaskId,
    /// The workflow's id.
    pub workflow: String,
    /// The tool.
    pub tool: String,
    /// Its arguments.
    pub input: Value,
    /// The workflow may change nothing.
    pub read_only: bool,
    /// The conversation holds text from outside: issues, pull requests, the web.
    pub tainted: bool,
}

/// What a policy says. Exhaustive on purpose: a new answer must break every caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "decision", rename_all = "snake_case")]
pub enum PolicyDecision {
    /// Go on.
    Allow,
    /// No, and the model is told why.
    Deny {
        /// Which rule.
        rule: String,
        /// Why, for the model.
        reason: String,
    },
    /// A human must say.
    Ask {
        /// Which rule.
        rule: String,
        /// Why, for the human.
        reason: String,
    },
}

/// Judges tool calls.
///
/// # Contract
/// Deterministic for equal requests and policies; fails closed: whoever calls it treats an error as a denial.
#[async_trait]
pub trait PolicyEngine: fmt::Debug + Send + Sync + 'static {
    /// Short lower-case name for logs.
    fn name(&self) -> &'static str;

    /// Judges one call.
    async fn judge(&self, request: &PolicyRequest) -> Result<PolicyDecision, PolicyError>;
}
