//! Cancels, and stops that are under way: both come before anything else that a task could do.

use serde_json::Value;

use super::super::{
    CancelRequest, Cause, Decision, EffectKind, Ending, Failure, FailureReason, SessionPhase, SessionRecord,
    SignalKind, StopCause, Stopping, TaskStatus, Verdict,
};
use super::{ASK_AGAIN, Facts};
use crate::Shared;
use crate::event::{EventType, NewEvent};

impl<'a> Facts<'a> {
    /// A cancel is written down as soon as it is seen, and confirmed once nothing of the task can run any more.
    pub(super) fn cancel(&self) -> Option<Decision> {
        let (by, at) = self.inbox.cancel.filter(|_| self.task.cancel.is_none())?;
        let request = CancelRequest { by: by.to_owned(), at };
        let draft = self
            .draft()
            .consume_where(|k| matches!(k, SignalKind::Cancel { .. }))
            .tell(NewEvent::new(EventType::CancelRequested, self.now).with("cancelled_by", by))
            .set(|t| t.cancel = Some(request));
        Some(match self.current() {
            None => draft.go(TaskStatus::Cancelled, Cause::Cancelled, &[("cancelled_by", Value::from(by))]).done(),
            Some(session) => match session.phase {
                SessionPhase::Starting | SessionPhase::Live => {
                    draft.stop_session(StopCause::Cancelled, &format!("cancelled by {by}")).done()
                }
                // A stop is owed already: the cancel only changes what follows it.
                SessionPhase::Stopping | SessionPhase::Over => draft.done(),
            },
        })
    }

    pub(super) fn stopping(&self) -> Option<(&'a SessionRecord, &'a Stopping)> {
        let session = self.task.session.as_ref()?;
        match session.phase {
            SessionPhase::Stopping => session.stopping.as_ref().map(|s| (session, s)),
            SessionPhase::Starting | SessionPhase::Live | SessionPhase::Over => None,
        }
    }

    pub(super) fn finish_stop(&self, session: &SessionRecord, stopping: &Stopping) -> Decision {
        let owed = self.s.owed.iter().find(|o| match &o.effect.kind {
            EffectKind::StopSession { session: id, .. } => *id == session.id,
            EffectKind::StartSession { .. } => false,
        });
        let give_up = stopping.at.after(self.limits().finalize_timeout_ms);
        let foreign = self.foreign();
        match (self.found.stopped, self.found.stop_failed.or(foreign.as_deref()), owed) {
            (true, _, _) | (false, _, None) => self.after_stop(stopping),
            (false, Some(why), Some(_)) if self.now >= give_up => {
                let given_up = Facts { unconfirmed: Some(why), ..*self };
                given_up.after_stop(stopping)
            }
            (false, Some(_), Some(_)) => Decision::Wait { until: Some(self.now.after(ASK_AGAIN).min(give_up)) },
            (false, None, Some(owed)) => Decision::Run(owed.effect.clone()),
        }
    }

    /// What follows a stop, confirmed or not.
    fn after_stop(&self, stopping: &Stopping) -> Decision {
        let detail = match self.unconfirmed {
            None => stopping.detail.clone(),
            Some(why) => format!("{}; the backend did not confirm the stop: {why}", stopping.detail),
        };
        if self.task.cancel.is_some() {
            return self.conclude(Ending::Cancelled, &detail);
        }
        // A session that was never let in has nothing to report.
        if let Some(report) = self.result()
            && report.verdict != Verdict::Cancelled
            && self.task.status != TaskStatus::Hydrating
        {
            return self.end(report);
        }
        match stopping.cause {
            StopCause::Deadline => self.conclude(Ending::OutOfTime, &detail),
            StopCause::StartRefused
            | StopCause::Cancelled
            | StopCause::Lost
            | StopCause::StartFailed
            | StopCause::Lingering => self.lost(&detail),
        }
    }

    /// Confirms the cancel.
    pub(super) fn cancelled(&self, detail: &str) -> Decision {
        let by = self.task.cancel.as_ref().map_or(Value::Null, |c| Value::from(c.by.clone()));
        let mut draft = self.draft().set(|t| t.report = self.result().cloned().map(Shared::new));
        if self.unconfirmed.is_some() {
            draft = draft.set(|t| t.failure = Some(Failure::new(FailureReason::Infrastructure, detail)));
        }
        draft.go(TaskStatus::Cancelled, Cause::Cancelled, &[("cancelled_by", by)]).done()
    }
}

#[cfg(test)]
mod tests {
    use super::super::walk::World;
    use super::*;
    use crate::testing::fixtures::report;

    #[test]
    fn a_cancel_beats_a_result_that_came_first() {
        let mut world = World::new();
        world.drive(&mut std::iter::empty());
        let id = world.starts.last().cloned().unwrap();
        world.signal(SignalKind::SessionRegistered { session: id.clone() });
        world.drive(&mut std::iter::empty());
        assert_eq!(world.snap.task.status, TaskStatus::Running);
        world.signal(SignalKind::SessionResult { session: id, report: Box::new(report(Verdict::Succeeded)) });
        world.signal(SignalKind::Cancel { by: "ann".to_owned() });
        world.drive(&mut std::iter::empty());
        assert_eq!(world.snap.task.status, TaskStatus::Cancelled);
        assert!(world.snap.task.report.is_some(), "what was reported is kept");
        assert!(world.live.is_empty());
    }
}
