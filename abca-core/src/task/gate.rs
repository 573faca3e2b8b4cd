//! A gate: a question that a session puts to a human, and the answer.
//!
//! | step | who | where |
//! | --- | --- | --- |
//! | the policy asks | session | [`LogEntry::ApprovalRequested`](crate::session::LogEntry) in its log, then [`SignalKind::ApprovalRequested`](super::SignalKind) |
//! | the task waits | `decide` | `AWAITING_APPROVAL`, the gate in [`Task::awaiting`](super::Task) |
//! | a human answers, or nobody in time | [`SignalKind::ApprovalDecided`](super::SignalKind) | one id for a gate's answer, so that the first one counts |
//! | the task runs again | `decide` | `RUNNING` |
//! | the session goes on | session | [`LogEntry::ApprovalSettled`](crate::session::LogEntry) in its log |

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{InitialScope, InvalidScope};
use crate::id::SignalId;
use crate::policy::Severity;
use crate::store::signal_id;
use crate::time::Timestamp;

/// Longest preview of a call in a gate, in characters (`behaviour.md` 6.6).
pub const GATE_PREVIEW_CHARS: usize = 256;
/// Longest reason of a decision, in characters.
pub const GATE_REASON_CHARS: usize = 2_000;

/// A question to a human: may this call run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gate {
    /// Its name within the task: `gate-1`, `gate-2`. The same for all attempts that wait at it.
    pub request: String,
    /// The tool.
    pub tool: String,
    /// What the call would do, screened, at most [`GATE_PREVIEW_CHARS`].
    pub preview: String,
    /// The rules that ask, by id.
    pub rules: Vec<String>,
    /// Why they ask, in one line.
    pub reason: String,
    /// How bad it would be: the worst of the rules.
    pub severity: Severity,
    /// Scopes beyond this call that can be approved with it, the narrowest first.
    pub scopes: Vec<String>,
    /// When it was asked first.
    pub asked_at: Timestamp,
    /// When it answers itself with no.
    pub deadline: Timestamp,
}

impl Gate {
    /// The id of the signal that answers the gate of this name: one for everybody who may answer, the deadline included, so
    /// that a store takes only the first. `None` when the name is too long for one.
    pub fn answer_id(request: &str) -> Option<SignalId> {
        signal_id(&["decided", request])
    }
}

/// What an approval covers.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ApprovalScope {
    /// `this_call`: the call that was asked about, once.
    #[default]
    ThisCall,
    /// `tool_type_session`: every further call of its tool.
    ToolTypeSession,
    /// `tool_group_session`: every further call of its tool's group; for tools without one the tool's.
    ToolGroupSession,
    /// Whatever [`InitialScope`] says, for the rest of the task.
    Lasting(InitialScope),
}

impl ApprovalScope {
    /// The scope that lasts beyond the call, for a call of this tool; `None` for [`Self::ThisCall`].
    pub fn lasting(&self, tool: &str) -> Option<InitialScope> {
        match self {
            Self::ThisCall => None,
            Self::ToolGroupSession if matches!(tool, "Write" | "Edit") => Some(InitialScope::FileWrite),
            Self::ToolTypeSession | Self::ToolGroupSession => Some(InitialScope::ToolType(tool.to_owned())),
            Self::Lasting(scope) => Some(scope.clone()),
        }
    }
}

impl FromStr for ApprovalScope {
    type Err = InvalidScope;

    fn from_str(text: &str) -> Result<Self, InvalidScope> {
        match text {
            "this_call" => Ok(Self::ThisCall),
            "tool_type_session" => Ok(Self::ToolTypeSession),
            "tool_group_session" => Ok(Self::ToolGroupSession),
            other => other.parse().map(Self::Lasting),
        }
    }
}

impl fmt::Display for ApprovalScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ThisCall => f.write_str("this_call"),
            Self::ToolTypeSession => f.write_str("tool_type_session"),
            Self::ToolGroupSession => f.write_str("tool_group_session"),
            Self::Lasting(scope) => scope.fmt(f),
        }
    }
}

impl Serialize for ApprovalScope {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ApprovalScope {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The answer to a gate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateDecision {
    /// Yes or no.
    pub approved: bool,
    /// What a yes covers; of a no it says nothing.
    #[serde(default)]
    pub scope: ApprovalScope,
    /// Why, for the model; at most [`GATE_REASON_CHARS`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who answered; `None` when nobody did before the deadline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

impl GateDecision {
    /// A yes by somebody.
    pub fn approve(by: impl Into<String>, scope: ApprovalScope) -> Self {
        Self { approved: true, scope, reason: None, by: Some(by.into()) }
    }

    /// A no by somebody.
    pub fn deny(by: impl Into<String>, reason: Option<String>) -> Self {
        Self { approved: false, scope: ApprovalScope::ThisCall, reason, by: Some(by.into()) }
    }

    /// Nobody answered in time.
    pub const fn expired() -> Self {
        Self { approved: false, scope: ApprovalScope::ThisCall, reason: None, by: None }
    }

    /// `approved`, `denied` or `timed_out`: the words of the field.
    pub const fn word(&self) -> &'static str {
        match (self.approved, &self.by) {
            (true, _) => "approved",
            (false, Some(_)) => "denied",
            (false, None) => "timed_out",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_of_a_decision_are_spelled_as_the_field_does_and_mean_what_they_say() {
        let lasting = |text: &str, tool: &str| text.parse::<ApprovalScope>().map(|s| (s.to_string(), s.lasting(tool)));
        let same = |text: &str, scope| Ok((text.to_owned(), scope));
        assert_eq!(lasting("this_call", "Bash"), same("this_call", None));
        let bash = Some(InitialScope::ToolType("Bash".to_owned()));
        assert_eq!(lasting("tool_type_session", "Bash"), same("tool_type_session", bash.clone()));
        assert_eq!(lasting("tool_group_session", "Bash"), same("tool_group_session", bash));
        assert_eq!(lasting("tool_group_session", "Edit"), same("tool_group_session", Some(InitialScope::FileWrite)));
        assert_eq!(lasting("rule:a", "Bash"), same("rule:a", Some(InitialScope::Rule("a".to_owned()))));
        assert!(lasting("bash_pattern:**", "Bash").is_err());
        assert!(lasting("everything", "Bash").is_err());
    }

    #[test]
    fn a_decision_survives_the_wire() {
        let scope: ApprovalScope = "bash_pattern:git push origin feature-*".parse().unwrap();
        for decision in [GateDecision::approve("ann", scope), GateDecision::deny("ann", None), GateDecision::expired()]
        {
            let json = serde_json::to_string(&decision).unwrap();
            assert_eq!(serde_json::from_str::<GateDecision>(&json).unwrap(), decision, "{json}");
        }
    }
}
