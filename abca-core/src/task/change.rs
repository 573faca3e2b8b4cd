//! Builds changes along the transition table, and applies them to a snapshot without a store.

use serde_json::Value;

use super::{
    Cause, Change, Effect, EffectKind, Failure, FailureReason, OwedEffect, SessionPhase, SignalKind, SlotChange,
    Snapshot, StopCause, Stopping, Task, TaskStatus, Transition,
};
use crate::classify::classify_failure;
use crate::event::{EventType, NewEvent};
use crate::id::{EffectKey, SignalId};
use crate::time::Timestamp;

/// What a snapshot becomes when the change is committed: for looking ahead, and for tests.
pub fn apply(snapshot: &Snapshot, change: &Change) -> Snapshot {
    let mut next = snapshot.clone();
    let since = change.task.updated_at;
    let session = |t: &Task| t.session.as_ref().map(|s| s.id.clone());
    if session(&next.task) != session(&change.task) {
        next.heartbeat_at = None;
    }
    next.task = change.task.clone();
    next.revision = next.revision.saturating_add(1);
    next.signals.retain(|s| !change.consumed.contains(&s.id));
    next.owed.retain(|o| !change.settled.contains(&o.effect.key));
    next.owed.extend(change.effects.iter().map(|effect| OwedEffect { effect: effect.clone(), since }));
    match &change.slots {
        SlotChange::Keep => {}
        SlotChange::Acquire(limits) => {
            for limit in limits {
                if !next.held.contains(&limit.scope) {
                    next.held.push(limit.scope.clone());
                }
            }
        }
        SlotChange::Release => next.held.clear(),
    }
    next
}

/// Ends a task that an operator has given up, wherever it stands: whatever was owed is given up too, its slots are free.
///
/// Nobody asks its backend: the terminal event says `stop_unconfirmed` where a session may still run. That session is
/// refused at its next word, and ends.
pub fn fail_dead_letter(snapshot: &Snapshot, reason: &str, now: Timestamp) -> Change {
    let runs = snapshot.task.session.as_ref().is_some_and(|s| s.phase != SessionPhase::Over);
    let failure = Failure::new(FailureReason::Infrastructure, format!("given up by an operator: {reason}"));
    Draft::new(snapshot, now)
        .unconfirmed(runs.then_some("nobody asked the backend"))
        .fail(Cause::FailedByOperator, failure)
        .change
}

/// A change in the making.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    from: &'a Snapshot,
    now: Timestamp,
    unconfirmed: Option<&'a str>,
    change: Change,
}

impl<'a> Draft<'a> {
    /// Nothing changed yet.
    pub(super) fn new(from: &'a Snapshot, now: Timestamp) -> Self {
        let mut task = from.task.clone();
        task.updated_at = now;
        Self {
            from,
            now,
            unconfirmed: None,
            change: Change {
                task,
                transition: None,
                events: Vec::new(),
                effects: Vec::new(),
                settled: Vec::new(),
                consumed: Vec::new(),
                slots: SlotChange::Keep,
            },
        }
    }

    /// Says in the terminal event, should there be one, that a stop was never confirmed, and why.
    pub(super) fn unconfirmed(mut self, why: Option<&'a str>) -> Self {
        self.unconfirmed = why;
        self
    }

    /// Tells something.
    pub(super) fn tell(mut self, event: NewEvent) -> Self {
        self.change.events.push(event);
        self
    }

    /// Changes the record.
    pub(super) fn set(mut self, f: impl FnOnce(&mut Task)) -> Self {
        f(&mut self.change.task);
        self
    }

    /// Reads a signal.
    pub(super) fn consume(mut self, id: &SignalId) -> Self {
        if !self.change.consumed.contains(id) {
            self.change.consumed.push(id.clone());
        }
        self
    }

    /// Reads every signal that a predicate names.
    pub(super) fn consume_where(self, f: impl Fn(&SignalKind) -> bool) -> Self {
        let ids: Vec<SignalId> = self.from.signals.iter().filter(|s| f(&s.kind)).map(|s| s.id.clone()).collect();
        ids.iter().fold(self, |d, id| d.consume(id))
    }

    /// Owes an effect.
    pub(super) fn owe(mut self, effect: Effect) -> Self {
        self.change.effects.push(effect);
        self
    }

    /// Settles every owed effect.
    pub(super) fn settle_all(mut self) -> Self {
        self.change.settled = self.from.owed.iter().map(|o| o.effect.key.clone()).collect();
        self
    }

    /// Takes the slots that the task's limits list.
    pub(super) fn acquire(mut self) -> Self {
        self.change.slots = SlotChange::Acquire(self.from.task.spec.limits.slots.clone());
        self
    }

    /// Moves the status along the table; the row's event is told with these details.
    ///
    /// A step outside the table leaves the draft unmoved: the table test over `decide` shows that none is made.
    pub(super) fn go(mut self, to: TaskStatus, cause: Cause, details: &[(&str, Value)]) -> Self {
        let from = self.from.task.status;
        let Some(row) = Transition::find(from, to, cause) else { return self };
        self.change.transition = Some(row);
        self.change.task.status = to;
        self.change.task.status_at = self.now;
        if from.holds_slots() && !to.holds_slots() {
            self.change.slots = SlotChange::Release;
        }
        let unconfirmed =
            self.unconfirmed.filter(|_| to.is_terminal()).map(|why| ("stop_unconfirmed", Value::from(why)));
        let details = details.iter().chain(&unconfirmed);
        let event = details.fold(NewEvent::new(row.event, self.now), |e, (k, v)| e.with(k, v.clone()));
        self.change.events.push(event);
        if to.is_terminal() {
            self.change.task.completed_at = Some(self.now);
            self.change.task.awaiting = None;
            if let Some(session) = &mut self.change.task.session {
                session.phase = SessionPhase::Over;
            }
            return self.settle_all().consume_where(|_| true);
        }
        self
    }

    /// Fails the task.
    pub(super) fn fail(self, cause: Cause, failure: Failure) -> Self {
        let details = [
            ("reason", reason_value(&failure)),
            ("error", Value::from(failure.message.clone())),
            ("classification", Value::from(classify_failure(&failure).code)),
        ];
        self.set(|t| t.failure = Some(failure)).go(TaskStatus::Failed, cause, &details)
    }

    /// Times the task out.
    pub(super) fn time_out(self, failure: Failure) -> Self {
        let details = [("reason", Value::from("deadline")), ("error", Value::from(failure.message.clone()))];
        self.set(|t| t.failure = Some(failure)).go(TaskStatus::TimedOut, Cause::DeadlinePassed, &details)
    }

    /// Owes a stop of the current session; whatever else was owed for it is settled by that.
    pub(super) fn stop_session(self, cause: StopCause, detail: &str) -> Self {
        let now = self.now;
        let grace_ms = match cause {
            StopCause::Cancelled | StopCause::Deadline | StopCause::Lost => self.from.task.spec.limits.stop_grace_ms,
            StopCause::StartFailed | StopCause::StartRefused | StopCause::Lingering => crate::time::Millis(0),
        };
        let id = self.from.task.id;
        let Some(session) = self.from.task.session.clone() else { return self };
        let event = NewEvent::new(EventType::SessionStopping, now)
            .with("session_id", session.id.as_str())
            .with("reason", serde_json::to_value(cause).unwrap_or_default())
            .with("detail", detail);
        let effect = Effect {
            key: EffectKey::of(id, session.attempt, "stop"),
            kind: EffectKind::StopSession { session: session.id, grace_ms },
        };
        self.settle_all()
            .set(|t| {
                if let Some(s) = &mut t.session {
                    s.phase = SessionPhase::Stopping;
                    s.stopping = Some(Stopping { at: now, cause, detail: detail.to_owned() });
                }
            })
            .tell(event)
            .owe(effect)
    }

    /// The change.
    pub(super) fn done(self) -> super::Decision {
        super::Decision::Commit(Box::new(self.change))
    }
}

/// A failure's reason as it is on the wire.
pub(super) fn reason_value(failure: &Failure) -> Value {
    serde_json::to_value(failure.reason).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::check_change;
    use crate::task::SessionPhase;
    use crate::testing::fixtures;

    #[test]
    fn a_dead_letter_can_be_failed_wherever_it_stands() {
        let now = Timestamp::from_millis(9);
        for status in TaskStatus::ALL.into_iter().filter(|s| !s.is_terminal()) {
            let mut s = fixtures::claimed(fixtures::task(1));
            let started = fixtures::start_intent(&s, now);
            s = apply(&s, &started);
            s.task.status = status;
            let change = fail_dead_letter(&s, "its row makes no sense", now);
            assert_eq!(check_change(&s, &change).map_err(|e| e.to_string()), Ok(()), "{status}");
            let after = apply(&s, &change);
            assert_eq!((after.task.status, after.owed.len()), (TaskStatus::Failed, 0));
            assert_eq!(after.task.session.map(|s| s.phase), Some(SessionPhase::Over));
            assert!(
                change.events.iter().any(|e| e.metadata.contains_key("stop_unconfirmed")),
                "a session may still run"
            );
        }
    }
}
