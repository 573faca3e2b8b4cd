//! States of a task and the closed table of what may follow what, for which cause, with which event.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::event::EventType;

/// Where a task stands. Wire names are the reference platform's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TaskStatus {
    /// Created with attachments that the client has yet to upload.
    PendingUploads,
    /// Over a concurrency cap: waits, first in, first out per user.
    Queued,
    /// Accepted; waits for a worker.
    Submitted,
    /// Admitted, slots held: pre-flight, context assembly, session start.
    Hydrating,
    /// The session is live.
    Running,
    /// The session waits for a human.
    AwaitingApproval,
    /// The session has reported; what is left of it is being ended.
    Finalizing,
    /// Terminal: done.
    Completed,
    /// Terminal: failed, with a reason.
    Failed,
    /// Terminal: cancelled, and nothing of it runs any more.
    Cancelled,
    /// Terminal: a deadline passed.
    TimedOut,
}

impl TaskStatus {
    /// Every state.
    pub const ALL: [Self; 11] = [
        Self::PendingUploads,
        Self::Queued,
        Self::Submitted,
        Self::Hydrating,
        Self::Running,
        Self::AwaitingApproval,
        Self::Finalizing,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
        Self::TimedOut,
    ];

    /// Nothing follows a terminal state.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled | Self::TimedOut)
    }

    /// A slot is held exactly while the task is in one of these.
    pub const fn holds_slots(self) -> bool {
        matches!(self, Self::Hydrating | Self::Running | Self::AwaitingApproval | Self::Finalizing)
    }

    /// Accepted and waiting for slots.
    pub const fn is_waiting(self) -> bool {
        matches!(self, Self::Queued | Self::Submitted)
    }

    /// The wire name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PendingUploads => "PENDING_UPLOADS",
            Self::Queued => "QUEUED",
            Self::Submitted => "SUBMITTED",
            Self::Hydrating => "HYDRATING",
            Self::Running => "RUNNING",
            Self::AwaitingApproval => "AWAITING_APPROVAL",
            Self::Finalizing => "FINALIZING",
            Self::Completed => "COMPLETED",
            Self::Failed => "FAILED",
            Self::Cancelled => "CANCELLED",
            Self::TimedOut => "TIMED_OUT",
        }
    }
}

impl fmt::Display for TaskStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Text is not the name of a state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a task status: use one of PENDING_UPLOADS, QUEUED, SUBMITTED, HYDRATING, RUNNING, AWAITING_APPROVAL, FINALIZING, COMPLETED, FAILED, CANCELLED, TIMED_OUT"
)]
pub struct InvalidStatus(String);

impl FromStr for TaskStatus {
    type Err = InvalidStatus;

    fn from_str(s: &str) -> Result<Self, InvalidStatus> {
        let upper = s.to_ascii_uppercase();
        Self::ALL.into_iter().find(|t| t.as_str() == upper).ok_or_else(|| InvalidStatus(s.chars().take(40).collect()))
    }
}

/// Why a task moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Attachments are complete.
    UploadsConfirmed,
    /// Slots were free.
    Admitted,
    /// A cap was hit.
    SlotDenied,
    /// The session registered.
    SessionRegistered,
    /// The session asked a human.
    ApprovalRequested,
    /// A human answered, or the gate's deadline did.
    ApprovalDecided,
    /// The session reported its result but has not gone yet.
    SessionReported,
    /// The session is over and its report stands.
    SessionEnded,
    /// The session is over without a report; another attempt follows.
    SessionLostRetry,
    /// The session is over without a report, and no attempt is left.
    SessionLost,
    /// The session is over without a report that counts, and its pull request stands: the end is inferred.
    DeliveryFound,
    /// Preparation failed for good.
    PreparationFailed,
    /// The session could not be started, and no attempt is left.
    StartFailed,
    /// The state's or the task's deadline passed.
    DeadlinePassed,
    /// The upload window closed.
    UploadWindowExpired,
    /// Somebody cancelled, and nothing of the task runs any more.
    Cancelled,
    /// An operator ended a dead letter: [`super::fail_dead_letter`].
    FailedByOperator,
}

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Transition {
    /// Before.
    pub from: TaskStatus,
    /// After.
    pub to: TaskStatus,
    /// Why.
    pub cause: Cause,
    /// What is told to the world in the same commit.
    pub event: EventType,
}

impl Transition {
    /// The row for a step from `from` to `to` for `cause`; `None` when the table has no such row.
    pub fn find(from: TaskStatus, to: TaskStatus, cause: Cause) -> Option<Self> {
        TRANSITIONS.iter().copied().find(|t| t.from == from && t.to == to && t.cause == cause)
    }
}

macro_rules! table {
    ($( $from:ident => $to:ident, $cause:ident, $event:ident; )+) => {
        &[ $( Transition { from: TaskStatus::$from, to: TaskStatus::$to, cause: Cause::$cause, event: EventType::$event }, )+ ]
    };
}

/// Every transition that any code performs. `decide` is the only writer, but for [`Cause::FailedByOperator`]; the store refuses
/// what is not here.
pub const TRANSITIONS: &[Transition] = table! {
    PendingUploads => Submitted, UploadsConfirmed, UploadsConfirmed;
    PendingUploads => Cancelled, UploadWindowExpired, TaskCancelled;
    PendingUploads => Cancelled, Cancelled, TaskCancelled;
    PendingUploads => Failed, FailedByOperator, TaskFailed;
    Submitted => Hydrating, Admitted, TaskAdmitted;
    Submitted => Queued, SlotDenied, AdmissionQueued;
    Submitted => Failed, PreparationFailed, TaskFailed;
    Submitted => TimedOut, DeadlinePassed, TaskTimedOut;
    Submitted => Cancelled, Cancelled, TaskCancelled;
    Submitted => Failed, FailedByOperator, TaskFailed;
    Queued => Hydrating, Admitted, QueuePickup;
    Queued => TimedOut, DeadlinePassed, TaskTimedOut;
    Queued => Cancelled, Cancelled, TaskCancelled;
    Queued => Failed, FailedByOperator, TaskFailed;
    Hydrating => Running, SessionRegistered, SessionStarted;
    Hydrating => Failed, PreparationFailed, TaskFailed;
    Hydrating => Failed, StartFailed, TaskFailed;
    Hydrating => Completed, DeliveryFound, TaskCompleted;
    Hydrating => TimedOut, DeadlinePassed, TaskTimedOut;
    Hydrating => Cancelled, Cancelled, TaskCancelled;
    Hydrating => Failed, FailedByOperator, TaskFailed;
    Running => AwaitingApproval, ApprovalRequested, AgentMilestone;
    Running => Finalizing, SessionReported, TaskFinalizing;
    Running => Hydrating, SessionLostRetry, SessionStartRetry;
    Running => Completed, SessionEnded, TaskCompleted;
    Running => Completed, DeliveryFound, TaskCompleted;
    Running => Failed, SessionEnded, TaskFailed;
    Running => Failed, SessionLost, TaskFailed;
    Running => TimedOut, DeadlinePassed, TaskTimedOut;
    Running => Cancelled, Cancelled, TaskCancelled;
    Running => Failed, FailedByOperator, TaskFailed;
    AwaitingApproval => Running, ApprovalDecided, ApprovalDecisionRecorded;
    AwaitingApproval => Finalizing, SessionReported, TaskFinalizing;
    AwaitingApproval => Hydrating, SessionLostRetry, SessionStartRetry;
    AwaitingApproval => Completed, SessionEnded, TaskCompleted;
    AwaitingApproval => Completed, DeliveryFound, TaskCompleted;
    AwaitingApproval => Failed, SessionEnded, TaskFailed;
    AwaitingApproval => Failed, SessionLost, TaskFailed;
    AwaitingApproval => TimedOut, DeadlinePassed, TaskTimedOut;
    AwaitingApproval => Cancelled, Cancelled, TaskCancelled;
    AwaitingApproval => Failed, FailedByOperator, TaskFailed;
    Finalizing => Completed, SessionEnded, TaskCompleted;
    Finalizing => Completed, DeliveryFound, TaskCompleted;
    Finalizing => Failed, SessionEnded, TaskFailed;
    Finalizing => TimedOut, DeadlinePassed, TaskTimedOut;
    Finalizing => Cancelled, Cancelled, TaskCancelled;
    Finalizing => Failed, FailedByOperator, TaskFailed;
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_ended_cannot_be_left_and_every_row_is_reachable_by_name() {
        for row in TRANSITIONS {
            assert!(!row.from.is_terminal(), "{row:?} leaves a terminal state");
            assert_eq!(row.event.is_terminal(), row.to.is_terminal(), "{row:?}");
            assert_eq!(Transition::find(row.from, row.to, row.cause), Some(*row), "{row:?} stands twice");
        }
        for status in TaskStatus::ALL {
            let exits = TRANSITIONS.iter().filter(|t| t.from == status).count();
            assert_eq!(exits == 0, status.is_terminal(), "{status}");
        }
    }
}
