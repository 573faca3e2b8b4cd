//! The start of a session: from the intent to its registration.

use serde_json::Value;

use super::super::{
    Cause, Decision, Effect, EffectKind, Liveness, Query, SessionPhase, SessionRecord, SignalKind, StopCause,
    TaskStatus, judge,
};
use super::found::Start;
use super::{ASK_AGAIN, Facts};
use crate::compute::SessionView;
use crate::event::{EventType, NewEvent};
use crate::id::{EffectKey, SessionId};
use crate::task::change::Draft;

impl<'a> Facts<'a> {
    pub(super) fn start_intent(&self, draft: Draft<'_>) -> Decision {
        let attempt = self.task.attempt.saturating_add(1);
        let id = SessionId::of(self.task.id, attempt);
        let record = SessionRecord {
            id: id.clone(),
            attempt,
            phase: SessionPhase::Starting,
            compute: self.backend.name.clone(),
            intent_at: self.now,
            registered_at: None,
            stopping: None,
        };
        let event = NewEvent::new(EventType::SessionStarting, self.now)
            .with("session_id", id.as_str())
            .with("attempt", attempt);
        let effect = Effect {
            key: EffectKey::of(self.task.id, attempt, "start"),
            kind: EffectKind::StartSession { session: id, attempt },
        };
        draft
            .set(|t| {
                t.attempt = attempt;
                t.not_before = None;
                t.session = Some(record);
            })
            .tell(event)
            .owe(effect)
            .done()
    }

    /// A start is owed; the session has not registered.
    pub(super) fn starting(&self, session: &SessionRecord) -> Decision {
        if self.inbox.registered {
            return self.registered(session);
        }
        let register_by = session.intent_at.after(self.limits().registration_timeout_ms);
        if self.now >= register_by {
            let waited = self.limits().registration_timeout_ms;
            let detail = format!("Session never started: no registration within {waited}");
            return self.draft().stop_session(StopCause::Lost, &detail).done();
        }
        if self.inbox.exited {
            match self.view() {
                None => return Decision::Ask(Query::Observe(session.id.clone())),
                Some(Ok(SessionView::Exited { .. } | SessionView::Unknown)) => {
                    return self.draft().stop_session(StopCause::Lost, &self.exit_detail()).done();
                }
                Some(Ok(SessionView::Running { .. } | SessionView::Suspended) | Err(_)) => {}
            }
        }
        let until = register_by.min(self.deadline_at());
        match self.found.start {
            Some(Start::Done) => return Decision::Wait { until: Some(until) },
            Some(Start::Failed { message, retryable }) => {
                let cause = if retryable { StopCause::StartFailed } else { StopCause::StartRefused };
                let detail = format!("Session start failed: {message}");
                return self.draft().stop_session(cause, &detail).done();
            }
            None => {}
        }
        let owed = self.s.owed.iter().find(|o| match &o.effect.kind {
            EffectKind::StartSession { session: id, .. } => *id == session.id,
            EffectKind::StopSession { .. } => false,
        });
        match owed {
            Some(_) if self.foreign().is_some() => Decision::Wait { until: Some(self.now.after(ASK_AGAIN).min(until)) },
            Some(owed) => Decision::Run(owed.effect.clone()),
            None => Decision::Wait { until: Some(until) },
        }
    }

    pub(super) fn registered(&self, session: &SessionRecord) -> Decision {
        let now = self.now;
        let details = [
            ("session_id", Value::from(session.id.as_str())),
            ("attempt", Value::from(session.attempt)),
            ("compute_type", Value::from(session.compute.split_once('@').map_or(&*session.compute, |(kind, _)| kind))),
        ];
        self.draft()
            .consume_where(|k| matches!(k, SignalKind::SessionRegistered { .. }))
            .settle_all()
            .set(|t| {
                t.started_at = Some(t.started_at.unwrap_or(now));
                if let Some(s) = &mut t.session {
                    s.phase = SessionPhase::Live;
                    s.registered_at = Some(now);
                }
            })
            .go(TaskStatus::Running, Cause::SessionRegistered, &details)
            .done()
    }

    fn exit_detail(&self) -> String {
        let never = "Session never started";
        match self.view() {
            Some(Ok(view)) => {
                match judge(view, self.backend.capabilities, self.task.status, self.now, self.limits(), self.now) {
                    Liveness::Gone { detail } | Liveness::Lost { detail } => format!("{never}: {detail}"),
                    Liveness::Alive { .. } => never.to_owned(),
                }
            }
            Some(Err(())) | None => never.to_owned(),
        }
    }
}
