//! Until when a task may stay where it is, and what comes then.

use serde_json::Value;

use super::super::{Cause, Decision, Ending, Failure, FailureReason, StopCause, TaskStatus};
use super::Facts;
use crate::time::{Millis, Timestamp};

/// What a human gate's own deadline is given on top before the platform steps in.
const GATE_MARGIN: Millis = Millis::secs(120);

impl<'a> Facts<'a> {
    /// Until when the task may stay in its state; the earliest of all that apply.
    pub(super) fn deadline_at(&self) -> Timestamp {
        let l = self.limits();
        let whole = self.task.admitted_at.map(|t| t.after(l.task_timeout_ms));
        // Both are moments of acceptance, but only one of them can be set right after a clock was wrong.
        let accepted_at = self.task.created_at.min(self.task.status_at);
        let of_state = match self.task.status {
            TaskStatus::PendingUploads => accepted_at.after(l.upload_window_ms),
            TaskStatus::Submitted | TaskStatus::Queued => accepted_at.after(l.queue_timeout_ms),
            TaskStatus::Hydrating => {
                let intent_at = self.current().map(|s| s.intent_at);
                let attempt_at = self.task.not_before.into_iter().chain(intent_at).fold(self.task.status_at, Ord::max);
                attempt_at.after(l.hydration_timeout_ms)
            }
            TaskStatus::Running => self.task.status_at.after(l.task_timeout_ms),
            TaskStatus::AwaitingApproval => self.task.status_at.after(l.approval_timeout_ms).after(GATE_MARGIN),
            TaskStatus::Finalizing => self.task.status_at.after(l.finalize_timeout_ms),
            TaskStatus::Completed | TaskStatus::Failed | TaskStatus::Cancelled | TaskStatus::TimedOut => self.now,
        };
        whole.map_or(of_state, |w| w.min(of_state))
    }

    /// Times the task out, and says what its deadline found.
    pub(super) fn timed_out(&self, detail: &str) -> Decision {
        self.draft().time_out(Failure::new(FailureReason::Deadline, detail)).done()
    }

    pub(super) fn deadline(&self) -> Option<Decision> {
        if self.now < self.deadline_at() {
            return None;
        }
        let message = format!("{} for {}: its deadline passed", self.task.status, self.now.since(self.task.status_at));
        let message = match self.why_unprepared() {
            Some(why) => format!("{message}; {why}"),
            None => message,
        };
        if self.current().is_some() {
            return Some(self.draft().stop_session(StopCause::Deadline, &message).done());
        }
        Some(match self.task.status {
            TaskStatus::PendingUploads => self
                .draft()
                .set(|t| t.failure = Some(Failure::new(FailureReason::Deadline, "Upload window expired")))
                .go(
                    TaskStatus::Cancelled,
                    Cause::UploadWindowExpired,
                    &[("reason", Value::from("upload_window_expired"))],
                )
                .done(),
            TaskStatus::Submitted | TaskStatus::Queued => {
                let waited = self.now.since(self.task.created_at.min(self.task.status_at));
                let text = format!("Admission queue timeout: task waited {waited}");
                self.draft().time_out(Failure::new(FailureReason::Deadline, text)).done()
            }
            TaskStatus::Hydrating | TaskStatus::Running | TaskStatus::AwaitingApproval | TaskStatus::Finalizing => {
                self.conclude(Ending::OutOfTime, &message)
            }
            TaskStatus::Completed | TaskStatus::Failed | TaskStatus::Cancelled | TaskStatus::TimedOut => {
                Decision::Wait { until: None }
            }
        })
    }
}
