//! A task's record in two parts: what never changes after submission, and the rest, so that a store writes the first once.

use serde::{Deserialize, Serialize};

use super::record::{CancelRequest, Failure, Prepared, SessionRecord, SessionReport, Unanswered, Unprepared};
use super::{Gate, Task, TaskSpec, TaskStatus};
use crate::id::{IdempotencyKey, TaskId, UserId};
use crate::shared::Shared;
use crate::store::format::{first, is_first};
use crate::time::Timestamp;

/// What of a task is fixed at submission; [`crate::store::check_change`] refuses a change of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FixedPart {
    id: TaskId,
    user: UserId,
    spec: Shared<TaskSpec>,
    idempotency_key: Option<IdempotencyKey>,
    created_at: Timestamp,
}

/// What of a task changes: some 600 bytes as JSON in the middle of its life, whatever was submitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MovingPart {
    #[serde(default = "first", skip_serializing_if = "is_first")]
    format: u32,
    status: TaskStatus,
    status_at: Timestamp,
    updated_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    admitted_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    queued_at: Option<Timestamp>,
    admission_attempts: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    started_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    completed_at: Option<Timestamp>,
    attempt: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    not_before: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prepared: Option<Shared<Prepared>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unprepared: Option<Unprepared>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    session: Option<SessionRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    awaiting: Option<Box<Gate>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cancel: Option<CancelRequest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    report: Option<Shared<SessionReport>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failure: Option<Failure>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unanswered: Option<Unanswered>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    inferred: Option<String>,
}

impl MovingPart {
    /// The form that it was written in: [`crate::store::check_format`] says whether this program may write it back.
    pub const fn format(&self) -> u32 {
        self.format
    }
}

impl Task {
    /// Its two parts. Cheap: what is wide is shared.
    pub fn parts(&self) -> (FixedPart, MovingPart) {
        let Self {
            id,
            user,
            spec,
            idempotency_key,
            status,
            status_at,
            created_at,
            updated_at,
            admitted_at,
            queued_at,
            admission_attempts,
            started_at,
            completed_at,
            attempt,
            not_before,
            prepared,
            unprepared,
            session,
            awaiting,
            cancel,
            report,
            failure,
            unanswered,
            inferred,
        } = self.clone();
        let fixed = FixedPart { id, user, spec, idempotency_key, created_at };
        let moving = MovingPart {
            format: first(),
            status,
            status_at,
            updated_at,
            admitted_at,
            queued_at,
            admission_attempts,
            started_at,
            completed_at,
            attempt,
            not_before,
            prepared,
            unprepared,
            session,
            awaiting,
            cancel,
            report,
            failure,
            unanswered,
            inferred,
        };
        (fixed, moving)
    }

    /// The whole from its parts.
    pub fn from_parts(fixed: FixedPart, moving: MovingPart) -> Self {
        let FixedPart { id, user, spec, idempotency_key, created_at } = fixed;
        let MovingPart {
            format: _,
            status,
            status_at,
            updated_at,
            admitted_at,
            queued_at,
            admission_attempts,
            started_at,
            completed_at,
            attempt,
            not_before,
            prepared,
            unprepared,
            session,
            awaiting,
            cancel,
            report,
            failure,
            unanswered,
            inferred,
        } = moving;
        Self {
            id,
            user,
            spec,
            idempotency_key,
            status,
            status_at,
            created_at,
            updated_at,
            admitted_at,
            queued_at,
            admission_attempts,
            started_at,
            completed_at,
            attempt,
            not_before,
            prepared,
            unprepared,
            session,
            awaiting,
            cancel,
            report,
            failure,
            unanswered,
            inferred,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::task::Verdict;
    use crate::task::{FixedPart, MovingPart, Task, TaskStatus};
    use crate::testing::fixtures::{self, report};
    use crate::time::Timestamp;

    fn through_json(task: &Task) -> (Task, String) {
        let (fixed, moving) = task.parts();
        let (fixed, moving) = (serde_json::to_string(&fixed).unwrap(), serde_json::to_string(&moving).unwrap());
        let whole = Task::from_parts(
            serde_json::from_str::<FixedPart>(&fixed).unwrap(),
            serde_json::from_str::<MovingPart>(&moving).unwrap(),
        );
        (whole, moving)
    }

    #[test]
    fn the_parts_make_the_whole() {
        let mut task = fixtures::task(1);
        assert_eq!(through_json(&task).0, task);
        task.status = TaskStatus::Running;
        task.attempt = 2;
        task.report = Some(report(Verdict::Succeeded).into());
        task.awaiting = Some(Box::new(fixtures::gate("gate-1", Timestamp::from_millis(9))));
        task.unanswered = Some(fixtures::unanswered());
        task.inferred = Some("seen".to_owned());
        assert_eq!(through_json(&task).0, task);
    }

    #[test]
    fn the_moving_part_does_not_grow_with_the_description() {
        let mut task = fixtures::task(1);
        let before = through_json(&task).1.len();
        task.spec.task_description = Some("x".repeat(9_000));
        assert_eq!(through_json(&task).1.len(), before);
    }
}
