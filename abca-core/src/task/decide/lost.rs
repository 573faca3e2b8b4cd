//! A session that is no more: another attempt, or the end.

use serde_json::Value;

use super::super::{
    Cause, Decision, Ending, Failure, FailureReason, ResolvedLimits, SessionPhase, SignalKind, TaskStatus,
};
use super::Facts;
use crate::event::{EventType, NewEvent};
use crate::time::Millis;

/// The wait between attempts never grows beyond this.
pub(super) const MAX_BACKOFF: Millis = Millis::secs(300);

impl<'a> Facts<'a> {
    /// The session is over without a usable report.
    pub(super) fn lost(&self, detail: &str) -> Decision {
        let ending = if self.was_let_in() { Ending::Silent } else { Ending::NeverBegan };
        self.conclude(ending, detail)
    }

    /// Whether the session of this attempt has registered.
    fn was_let_in(&self) -> bool {
        match self.task.status {
            TaskStatus::Running | TaskStatus::AwaitingApproval | TaskStatus::Finalizing => true,
            TaskStatus::PendingUploads
            | TaskStatus::Queued
            | TaskStatus::Submitted
            | TaskStatus::Hydrating
            | TaskStatus::Completed
            | TaskStatus::Failed
            | TaskStatus::Cancelled
            | TaskStatus::TimedOut => false,
        }
    }

    /// Fails the task whose session is lost, or could not be started.
    pub(super) fn lost_for_good(&self, detail: &str) -> Decision {
        if self.refused() {
            return self.draft().fail(Cause::StartFailed, Failure::new(FailureReason::SessionStart, detail)).done();
        }
        let registered = self.was_let_in();
        let text = if registered { format!("Agent session lost: {detail}") } else { detail.to_owned() };
        let (cause, reason) = match (self.task.status, registered) {
            (TaskStatus::Finalizing, _) => (Cause::SessionEnded, FailureReason::SessionLost),
            (_, true) => (Cause::SessionLost, FailureReason::SessionLost),
            (_, false) => (Cause::StartFailed, FailureReason::SessionStart),
        };
        let text = format!("{text} (attempt {} of {})", self.task.attempt, self.limits().max_attempts);
        self.draft().fail(cause, Failure::new(reason, text)).done()
    }

    /// Another attempt, a little later.
    pub(super) fn again(&self, detail: &str) -> Decision {
        let limits = self.limits();
        let attempt = self.task.attempt;
        let not_before = self.now.after(backoff(limits, attempt));
        let details = [
            ("reason", Value::from(detail)),
            ("attempt", Value::from(attempt)),
            ("not_before", Value::from(not_before.to_string())),
        ];
        let draft = self
            .draft()
            .consume_where(|k| {
                matches!(
                    k,
                    SignalKind::SessionRegistered { .. }
                        | SignalKind::SessionExited { .. }
                        | SignalKind::SessionResult { .. }
                        | SignalKind::ApprovalRequested { .. }
                )
            })
            .settle_all()
            .set(|t| {
                t.not_before = Some(not_before);
                t.awaiting = None;
                t.unanswered = None;
                if let Some(s) = &mut t.session {
                    s.phase = SessionPhase::Over;
                }
            });
        if self.was_let_in() {
            draft.go(TaskStatus::Hydrating, Cause::SessionLostRetry, &details).done()
        } else {
            let event = details
                .iter()
                .fold(NewEvent::new(EventType::SessionStartRetry, self.now), |e, (k, v)| e.with(k, v.clone()));
            draft.tell(event).done()
        }
    }
}

/// The wait before the attempt after this one: doubles, up to five minutes.
fn backoff(limits: &ResolvedLimits, attempt: u32) -> Millis {
    let factor = 1u64.checked_shl(attempt.saturating_sub(1)).unwrap_or(u64::MAX);
    Millis(limits.retry_backoff_ms.0.saturating_mul(factor)).min(MAX_BACKOFF)
}
