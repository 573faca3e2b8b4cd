//! A session that lives: its gates, and whether it still does.

use serde_json::Value;

use super::super::{Cause, Decision, Liveness, Query, SessionRecord, SignalKind, StopCause, TaskStatus, judge};
use super::{ASK_AGAIN, Facts};
use crate::compute::{ComputeCapabilities, SessionView};
use crate::time::Timestamp;

impl<'a> Facts<'a> {
    /// A registered session without a report: gates first, then its liveness.
    pub(super) fn alive(&self, session: &SessionRecord) -> Decision {
        if let Some(decision) = self.gate() {
            return decision;
        }
        // A sign that is further ahead than silence may last came by a clock that was wrong: it says nothing.
        let believed = self.now.after(self.limits().heartbeat_timeout_ms);
        let last_sign = self
            .s
            .heartbeat_at
            .filter(|h| *h <= believed)
            .into_iter()
            .chain(session.registered_at)
            .fold(session.intent_at, Timestamp::max);
        let soon = self.now.after(ASK_AGAIN);
        match self.view() {
            None => Decision::Ask(Query::Observe(session.id.clone())),
            // A worker of its own place sees more; this one goes by what the session itself says, if it ever has.
            Some(Err(())) if self.foreign().is_some() && self.s.heartbeat_at.is_some() => {
                let running = SessionView::Running { active_at: None };
                let mut capabilities = ComputeCapabilities::none();
                capabilities.heartbeats = true;
                match judge(&running, capabilities, self.task.status, last_sign, self.limits(), self.now) {
                    Liveness::Alive { .. } => Decision::Wait { until: Some(soon.min(self.deadline_at())) },
                    Liveness::Gone { detail } | Liveness::Lost { detail } => {
                        self.draft().stop_session(StopCause::Lost, &detail).done()
                    }
                }
            }
            Some(Err(())) => Decision::Wait { until: Some(soon.min(self.deadline_at())) },
            Some(Ok(view)) => {
                let capabilities = self.backend.capabilities;
                match judge(view, capabilities, self.task.status, last_sign, self.limits(), self.now) {
                    Liveness::Alive { look_again } => {
                        Decision::Wait { until: Some(look_again.min(self.deadline_at())) }
                    }
                    Liveness::Gone { detail } => self.lost(&detail),
                    Liveness::Lost { detail } => self.draft().stop_session(StopCause::Lost, &detail).done(),
                }
            }
        }
    }

    fn gate(&self) -> Option<Decision> {
        for signal in &self.s.signals {
            match (&signal.kind, self.task.status) {
                (SignalKind::ApprovalRequested { gate }, TaskStatus::Running) => {
                    let details = [
                        ("milestone", Value::from("approval_requested")),
                        ("request_id", Value::from(gate.request.clone())),
                        ("tool_name", Value::from(gate.tool.clone())),
                        ("tool_input_preview", Value::from(gate.preview.clone())),
                        ("rules", Value::from(gate.rules.clone())),
                        ("reason", Value::from(gate.reason.clone())),
                        ("severity", Value::from(gate.severity.as_str())),
                        ("deadline", Value::from(gate.deadline.to_string())),
                    ];
                    let gate = gate.clone();
                    return Some(
                        self.draft()
                            .consume(&signal.id)
                            .set(|t| t.awaiting = Some(gate))
                            .go(TaskStatus::AwaitingApproval, Cause::ApprovalRequested, &details)
                            .done(),
                    );
                }
                // Not consumed: the session still has to hear it.
                (SignalKind::ApprovalDecided { request, decision }, TaskStatus::AwaitingApproval)
                    if self.task.awaiting.as_ref().is_some_and(|gate| gate.request == *request) =>
                {
                    let details = [
                        ("request_id", Value::from(request.clone())),
                        ("decision", Value::from(decision.word())),
                        ("scope", Value::from(decision.scope.to_string())),
                        ("decided_by", Value::from(decision.by.clone())),
                        ("reason", Value::from(decision.reason.clone())),
                    ];
                    return Some(
                        self.draft()
                            .set(|t| t.awaiting = None)
                            .go(TaskStatus::Running, Cause::ApprovalDecided, &details)
                            .done(),
                    );
                }
                (
                    SignalKind::ApprovalRequested { .. }
                    | SignalKind::ApprovalDecided { .. }
                    | SignalKind::Cancel { .. }
                    | SignalKind::UploadsConfirmed
                    | SignalKind::SessionRegistered { .. }
                    | SignalKind::SessionResult { .. }
                    | SignalKind::SessionExited { .. }
                    | SignalKind::Nudge { .. },
                    _,
                ) => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::walk::World;
    use super::super::*;
    use crate::task::{EffectKind, SignalKind};

    /// A task whose session lives, as a worker of another place sees it.
    fn elsewhere(heartbeat: Option<Timestamp>) -> World {
        let mut world = World::new();
        world.drive(&mut std::iter::empty());
        let id = world.starts.last().cloned().unwrap();
        world.signal(SignalKind::SessionRegistered { session: id });
        world.drive(&mut std::iter::empty());
        world.snap.task.session.as_mut().unwrap().compute = "fake@elsewhere".to_owned();
        world.snap.heartbeat_at = heartbeat;
        world
    }

    #[test]
    fn a_session_of_another_place_is_judged_by_its_heartbeats() {
        let now = Timestamp::from_millis(1_000_000_000);
        let silence = elsewhere(None).snap.task.spec.limits.heartbeat_timeout_ms;
        let backend = World::backend();
        let after = |silent: Millis| {
            let mut snap = elsewhere(Some(now)).snap;
            snap.task.session.as_mut().unwrap().registered_at = Some(now);
            snap.task.spec.limits.task_timeout_ms = Millis(2_000_000_000);
            decide(&snap, &[], &backend, now.after(silent))
        };
        assert!(matches!(after(Millis(silence.0 - 1)), Decision::Wait { until: Some(_) }));
        let Decision::Commit(change) = after(silence) else { panic!("it is silent: {:?}", after(silence)) };
        assert!(matches!(change.effects[0].kind, EffectKind::StopSession { .. }));
    }
}
