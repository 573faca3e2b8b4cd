//! What happened to a task, in order: the record that people and programs follow.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::id::{EventSeq, TaskId};
use crate::text::preview;
use crate::time::Timestamp;

macro_rules! event_types {
    ($( $(#[$doc:meta])* $variant:ident = $wire:literal; )+) => {
        /// What kind of thing happened. Wire names are the reference platform's (`behaviour.md` 9.3); the rest follow its form.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum EventType { $( $(#[$doc])* #[serde(rename = $wire)] $variant, )+ }

        impl EventType {
            /// Every kind.
            pub const ALL: &'static [Self] = &[ $( Self::$variant, )+ ];

            /// The name on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $wire, )+ }
            }
        }
    };
}

event_types! {
    /// The task was accepted: `repo, issue_number?, channel_source`.
    TaskCreated = "task_created";
    /// A concurrency cap was hit; the task waits: `reason, scope, admission_attempts`.
    AdmissionQueued = "admission_queued";
    /// A waiting task got its slots: `queued_for_s, admission_attempts`.
    QueuePickup = "queue_pickup";
    /// Slots are held; preparation begins.
    TaskAdmitted = "task_admitted";
    /// A pre-flight check failed: `reason, detail, checks`.
    PreflightFailed = "preflight_failed";
    /// Context assembly began.
    HydrationStarted = "hydration_started";
    /// Context is assembled: `sources, token_estimate, truncated`.
    HydrationComplete = "hydration_complete";
    /// A guardrail stopped the text: `reason`.
    GuardrailBlocked = "guardrail_blocked";
    /// A start of a session is owed: `session_id, attempt`.
    SessionStarting = "session_starting";
    /// The session registered: `session_id, attempt, compute_type`.
    SessionStarted = "session_started";
    /// A session was lost and another attempt will follow: `reason, attempt, not_before`.
    SessionStartRetry = "session_start_retry";
    /// A session is to be stopped: `session_id, reason`.
    SessionStopping = "session_stopping";
    /// The session reported its result; the task is being ended.
    TaskFinalizing = "task_finalizing";
    /// Somebody asked to cancel: `cancelled_by`.
    CancelRequested = "cancel_requested";
    /// Terminal: the work is done. This and every terminal event has `stop_unconfirmed` where the backend never confirmed
    /// a stop, so that something of the session may still run.
    TaskCompleted = "task_completed";
    /// Terminal: `reason, error, classification`, the last being [`crate::classify::Classification::code`].
    TaskFailed = "task_failed";
    /// Terminal, after the process tree was gone: `cancelled_by`.
    TaskCancelled = "task_cancelled";
    /// Terminal: a deadline passed: `reason`.
    TaskTimedOut = "task_timed_out";
    /// An upload window closed.
    PendingUploadExpired = "pending_upload_expired";
    /// Attachments arrived.
    UploadsConfirmed = "uploads_confirmed";
    /// No program can carry on with the task; it is put aside until an operator revives or discards it: `reason`.
    TaskDeadLettered = "task_dead_lettered";
    /// An operator made a dead letter due again.
    TaskRevived = "task_revived";
    /// A guard said anything but a plain yes: the fields of [`PolicyDecisionEvent`](crate::policy::PolicyDecisionEvent).
    PolicyDecision = "policy_decision";
    /// A gate was decided.
    ApprovalDecisionRecorded = "approval_decision_recorded";
    /// The first event of every session: which walls hold: `walls`.
    SessionWalls = "session_walls";
    /// The model answered: `turn, model, thinking_preview, text_preview, tool_calls_count`.
    AgentTurn = "agent_turn";
    /// A tool is about to run: `tool_name, tool_input_preview, turn`.
    AgentToolCall = "agent_tool_call";
    /// A tool ended: `tool_name, is_error, content_preview, turn, duration_ms`.
    AgentToolResult = "agent_tool_result";
    /// A named point was reached: `milestone, details`.
    AgentMilestone = "agent_milestone";
    /// Money was spent: `cost_usd, input_tokens, output_tokens, turn`.
    AgentCostUpdate = "agent_cost_update";
    /// The agent met an error: `error_type, message_preview`.
    AgentError = "agent_error";
    /// The agent cannot go on by itself: `kind, detail, resource?`.
    AgentBlocked = "agent_blocked";
    /// A running tool printed: `tool_name, chunk`.
    AgentToolOutput = "agent_tool_output";
}

impl EventType {
    /// Whether this event ends its task. At most one such event exists per task, and nothing after it.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::TaskCompleted | Self::TaskFailed | Self::TaskCancelled | Self::TaskTimedOut)
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An event before the store has given it its number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewEvent {
    /// What happened.
    pub event_type: EventType,
    /// When, as the writer saw it.
    pub timestamp: Timestamp,
    /// Details; the keys of each type are listed at [`EventType`].
    #[serde(default)]
    pub metadata: Map<String, Value>,
}

impl NewEvent {
    /// An event without details.
    pub fn new(event_type: EventType, timestamp: Timestamp) -> Self {
        Self { event_type, timestamp, metadata: Map::new() }
    }

    /// Adds a detail.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.metadata.insert(key.to_owned(), value.into());
        self
    }
}

/// An event as stored: immutable, numbered without gaps within its task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Whose event.
    pub task_id: TaskId,
    /// Its place, from 1.
    pub seq: EventSeq,
    /// What happened.
    pub event_type: EventType,
    /// When.
    pub timestamp: Timestamp,
    /// Details.
    #[serde(default)]
    pub metadata: Map<String, Value>,
}

impl fmt::Display for Event {
    /// One line: number, time, name, details. Line breaks and control characters are shown as escapes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>4} {} {}", self.seq.0, self.timestamp, self.event_type)?;
        for (k, v) in &self.metadata {
            match v {
                Value::String(s) => write!(f, " {k}={}", preview(s, usize::MAX))?,
                other => write!(f, " {k}={other}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_shown_on_one_line() {
        let event = Event {
            task_id: crate::TaskId::from_parts(Timestamp::from_millis(0), 0),
            seq: EventSeq(7),
            event_type: EventType::AgentToolOutput,
            timestamp: Timestamp::from_millis(0),
            metadata: NewEvent::new(EventType::AgentToolOutput, Timestamp::from_millis(0))
                .with("chunk", "one\ntwo \u{1b}[2J\n")
                .with("turn", 3)
                .metadata,
        };
        assert_eq!(
            event.to_string(),
            r"   7 1970-01-01T00:00:00.000Z agent_tool_output chunk=one\ntwo \u{1b}[2J turn=3"
        );
    }

    #[test]
    fn every_wire_name_is_its_own_serde_name() {
        for t in EventType::ALL {
            assert_eq!(serde_json::to_value(t).unwrap(), Value::String(t.as_str().to_owned()));
        }
    }
}
