//! What the session reported, and how the task ends by it.

use serde_json::Value;

use super::super::{
    Cause, Decision, Failure, FailureReason, Query, SessionReport, SignalKind, StopCause, TaskStatus, Verdict,
};
use super::Facts;
use super::delivered::ending_of;
use crate::compute::SessionView;
use crate::time::{Millis, Timestamp};

/// How long a session that has reported may take to end before that is written down.
const EXIT_PATIENCE: Millis = Millis::secs(2);

impl<'a> Facts<'a> {
    /// What the current session reported, if it has.
    pub(super) fn result(&self) -> Option<&'a SessionReport> {
        self.inbox
            .result
            .map(|(report, _)| report)
            .or_else(|| self.task.session.as_ref().and(self.task.report.as_deref()))
    }

    pub(super) fn outcome(&self) -> Option<Decision> {
        let session = self.current()?;
        let report = self.result()?;
        if self.task.status == TaskStatus::Hydrating {
            return Some(self.registered(session));
        }
        let over = match self.view() {
            None => return Some(Decision::Ask(Query::Observe(session.id.clone()))),
            Some(Ok(SessionView::Exited { .. } | SessionView::Unknown)) => true,
            Some(Ok(SessionView::Running { .. } | SessionView::Suspended)) => false,
            Some(Err(_)) => false,
        };
        if over {
            return Some(self.end(report));
        }
        Some(self.lingering(report))
    }

    /// The session has reported but is still there: wait a little, write it down, and in the end stop it.
    fn lingering(&self, report: &SessionReport) -> Decision {
        // A moment to come is a clock that was wrong: nobody waits for it.
        let waits = |since: Timestamp, until: Timestamp| {
            self.backend.capabilities.exit_status && since <= self.now && self.now < until
        };
        if self.task.status == TaskStatus::Finalizing {
            let until = self.task.status_at.after(self.limits().stop_grace_ms);
            if waits(self.task.status_at, until) {
                return Decision::Wait { until: Some(until) };
            }
            return self.draft().stop_session(StopCause::Lingering, "the session reported but did not end").done();
        }
        let reported_at = self.inbox.result.map_or(self.task.updated_at, |(_, at)| at);
        let patience = reported_at.after(EXIT_PATIENCE);
        if waits(reported_at, patience) {
            return Decision::Wait { until: Some(patience) };
        }
        // What was interrupted is not final: once it is gone, another attempt may follow.
        if report.verdict == Verdict::Cancelled {
            let detail = "the session was interrupted from outside and did not end";
            return self.draft().stop_session(StopCause::Lost, detail).done();
        }
        let report = report.clone();
        self.draft()
            .consume_where(|k| matches!(k, SignalKind::SessionResult { .. }))
            .set(|t| t.report = Some(report.into()))
            .go(TaskStatus::Finalizing, Cause::SessionReported, &[])
            .done()
    }

    /// Goes on from a session that is over and has reported.
    pub(super) fn end(&self, report: &SessionReport) -> Decision {
        match (report.verdict, &report.failure) {
            (Verdict::Cancelled, _) => self.lost("the session was interrupted from outside"),
            (Verdict::Succeeded | Verdict::NothingToDo | Verdict::Failed, None) => {
                self.conclude(ending_of(report), "the session reported a failure without a reason")
            }
            (Verdict::Succeeded | Verdict::NothingToDo | Verdict::Failed, Some(failure)) => {
                self.conclude(ending_of(report), &format!("the session reported `{}`", failure.message))
            }
        }
    }

    /// What an end tells of the work.
    pub(super) fn end_details(report: &SessionReport) -> [(&'static str, Value); 4] {
        let pr = report.pull_request.as_ref().map_or(Value::Null, |p| Value::from(p.url.clone()));
        [
            ("pr_url", pr),
            ("code_changed", Value::from(report.code_changed)),
            ("cost_micro_usd", Value::from(report.cost.0)),
            ("turns", Value::from(report.turns_completed)),
        ]
    }

    /// Ends the task as its session judged.
    pub(super) fn as_reported(&self, report: &SessionReport) -> Decision {
        let stored = report.clone();
        let draft = self.draft().set(|t| t.report = Some(stored.into()));
        let details = Self::end_details(report);
        match report.verdict {
            Verdict::Succeeded | Verdict::NothingToDo => {
                draft.go(TaskStatus::Completed, Cause::SessionEnded, &details).done()
            }
            Verdict::Failed | Verdict::Cancelled => {
                let failure = report.failure.clone().unwrap_or_else(|| {
                    Failure::new(FailureReason::Infrastructure, "the session reported a failure without a reason")
                });
                draft.fail(Cause::SessionEnded, failure).done()
            }
        }
    }
}
