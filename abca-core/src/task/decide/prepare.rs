//! Pre-flight and hydration: what must be known before a session can start.

use super::super::{Cause, Decision, Failure, FailureReason, Prepared, Query, Unprepared};
use super::{ASK_AGAIN, Facts};
use crate::event::{EventType, NewEvent};
use crate::task::change::{Draft, reason_value};
use crate::time::{Millis, Timestamp};

/// The wait before preparation is tried again doubles, but never grows beyond this.
const PREPARE_PAUSE: Millis = Millis::secs(60);

/// How preparation stands, as far as the driver has looked.
#[derive(Clone, Copy)]
pub(super) enum Preparing<'a> {
    /// Nobody has looked.
    Ask,
    /// It is done.
    Done(&'a Prepared),
    /// It failed for good.
    Failed(&'a Failure),
    /// It failed, and may succeed later.
    Later(&'a Failure),
}

impl Preparing<'_> {
    /// The first word counts.
    pub(super) const fn or(self, later: Self) -> Self {
        match self {
            Self::Ask => later,
            Self::Done(_) | Self::Failed(_) | Self::Later(_) => self,
        }
    }
}

impl<'a> Facts<'a> {
    /// Admitted, no session under way: prepare, then decide a start.
    pub(super) fn preparation(&self) -> Decision {
        if let Some(not_before) = self.task.not_before
            && self.now < not_before
        {
            return Decision::Wait { until: Some(not_before.min(self.deadline_at())) };
        }
        if self.task.prepared.is_some() {
            return self.start_intent(self.draft());
        }
        match self.found.preparing {
            Preparing::Ask => match self.prepare_again_at() {
                Some(again) => Decision::Wait { until: Some(again.min(self.deadline_at())) },
                None => Decision::Ask(Query::Prepare),
            },
            Preparing::Done(prepared) => self.start_intent(self.prepared(self.draft(), prepared)),
            Preparing::Failed(failure) => self.preparation_failed(failure),
            Preparing::Later(failure) => self.unprepared(self.draft(), failure).done(),
        }
    }

    /// Freezes what preparation found.
    pub(super) fn prepared(&self, draft: Draft<'a>, prepared: &Prepared) -> Draft<'a> {
        let event = NewEvent::new(EventType::HydrationComplete, self.now)
            .with("sources", prepared.sources.clone())
            .with("token_estimate", prepared.token_estimate)
            .with("truncated", prepared.truncated);
        let prepared = prepared.clone();
        self.guarded(draft)
            .set(|t| {
                t.prepared = Some(prepared.into());
                t.unprepared = None;
            })
            .tell(event)
    }

    /// Tells what guards said of it.
    fn guarded(&self, draft: Draft<'a>) -> Draft<'a> {
        self.found.guarded.iter().fold(draft, |draft, event| draft.tell(event.clone()))
    }

    /// Writes down that preparation failed, so that it is tried again later, and said should it never succeed.
    pub(super) fn unprepared(&self, draft: Draft<'a>, failure: &Failure) -> Draft<'a> {
        let (at, last) = (self.now, failure.clone());
        let times = self.task.unprepared.as_ref().map_or(1, |u| u.times.saturating_add(1));
        // Once: a guard that does not answer says the same again and again.
        let draft = if times == 1 { self.guarded(draft) } else { draft };
        draft.set(|t| t.unprepared = Some(Unprepared { times, at, last }))
    }

    /// When to prepare again after a failure; `None` for now.
    fn prepare_again_at(&self) -> Option<Timestamp> {
        let failed = self.task.unprepared.as_ref()?;
        let factor = 1u64.checked_shl(failed.times.saturating_sub(1)).unwrap_or(u64::MAX);
        let again = failed.at.after(Millis(ASK_AGAIN.0.saturating_mul(factor)).min(PREPARE_PAUSE));
        // A failure to come is a clock that was wrong: nobody waits for it.
        (failed.at <= self.now && self.now < again).then_some(again)
    }

    /// How preparation has failed until now, for people; `None` when it has not.
    pub(super) fn why_unprepared(&self) -> Option<String> {
        let before = self.task.unprepared.as_ref().map_or(0, |u| u.times);
        let (times, last) = match self.found.preparing {
            Preparing::Later(failure) | Preparing::Failed(failure) => (before.saturating_add(1), failure),
            Preparing::Ask | Preparing::Done(_) => (before, &self.task.unprepared.as_ref()?.last),
        };
        let often = if times == 1 { "once".to_owned() } else { format!("{times} times") };
        Some(format!("preparation failed {often}, the last time with: {}", last.message))
    }

    pub(super) fn preparation_failed(&self, failure: &Failure) -> Decision {
        let kind = match failure.reason {
            FailureReason::Guardrail => EventType::GuardrailBlocked,
            FailureReason::Preflight
            | FailureReason::Hydration
            | FailureReason::SessionStart
            | FailureReason::SessionLost
            | FailureReason::RepoSetup
            | FailureReason::MaxTurns
            | FailureReason::Budget
            | FailureReason::CircuitBreaker
            | FailureReason::Model
            | FailureReason::Refusal
            | FailureReason::Verification
            | FailureReason::Delivery
            | FailureReason::Infrastructure
            | FailureReason::Blocked
            | FailureReason::Deadline => EventType::PreflightFailed,
        };
        let event =
            NewEvent::new(kind, self.now).with("reason", reason_value(failure)).with("detail", failure.message.clone());
        self.guarded(self.draft()).tell(event).fail(Cause::PreparationFailed, failure.clone()).done()
    }
}

#[cfg(test)]
mod tests {
    use super::super::decide;
    use super::*;
    use crate::compute::ComputeCapabilities;
    use crate::task::{Backend, Observation, Snapshot, TaskStatus, apply};
    use crate::testing::fixtures::{at, claimed, prepared, task};

    const HYDRATION: Millis = Millis::secs(100);

    fn backend() -> Backend {
        Backend { name: "fake".to_owned(), capabilities: ComputeCapabilities::none() }
    }

    fn unreachable() -> Observation {
        let failure = Failure::new(FailureReason::Preflight, "the forge answered 503");
        Observation::PrepareFailed { failure, retryable: true }
    }

    fn submitted() -> Snapshot {
        let mut task = task(0);
        task.spec.limits.hydration_timeout_ms = HYDRATION;
        claimed(task)
    }

    /// The snapshot after what is decided at a moment; the observation counts for the first decision alone.
    fn committed(snapshot: &Snapshot, seen: &[Observation], now: Timestamp) -> Snapshot {
        match decide(snapshot, seen, &backend(), now) {
            Decision::Commit(change) => apply(snapshot, &change),
            other => panic!("expected a commit, not {other:?}"),
        }
    }

    #[test]
    fn what_fails_and_may_pass_is_tried_less_and_less_often() {
        let mut snapshot = submitted();
        let (mut now, mut waits) = (at(0), Vec::new());
        for _ in 0..5 {
            assert_eq!(decide(&snapshot, &[], &backend(), now), Decision::Ask(Query::Prepare));
            snapshot = committed(&snapshot, &[unreachable()], now);
            assert_eq!(snapshot.task.status, TaskStatus::Hydrating);
            let Decision::Wait { until: Some(until) } = decide(&snapshot, &[], &backend(), now) else { panic!() };
            waits.push(until.since(now).0 / 1_000);
            now = until;
        }
        // The last one only until the deadline.
        assert_eq!(waits, [5, 10, 20, 40, 25]);
    }

    #[test]
    fn what_guards_said_is_told_with_what_came_of_it_and_once_while_it_is_tried_again() {
        let said = NewEvent::new(EventType::PolicyDecision, at(0)).with("outcome", "changed");
        let told = |snapshot: &Snapshot, seen: Observation, now| {
            let seen = [Observation::Guarded(vec![said.clone()]), seen];
            match decide(snapshot, &seen, &backend(), now) {
                Decision::Commit(change) => {
                    let events = change.events.iter().map(|e| e.event_type).collect::<Vec<_>>();
                    (events.contains(&EventType::PolicyDecision), apply(snapshot, &change))
                }
                other => panic!("expected a commit, not {other:?}"),
            }
        };
        let first = submitted();
        assert!(told(&first, Observation::Prepared(Box::new(prepared())), at(0)).0);
        let failure = Failure::new(FailureReason::Guardrail, "blocked");
        let (events, failed) = told(&first, Observation::PrepareFailed { failure, retryable: false }, at(0));
        assert_eq!((events, failed.task.status), (true, TaskStatus::Failed));
        let (events, later) = told(&first, unreachable(), at(0));
        assert_eq!((events, later.task.status), (true, TaskStatus::Hydrating));
        assert!(!told(&later, unreachable(), at(5_000)).0);
    }

    #[test]
    fn a_deadline_that_passes_says_what_failed_last_and_how_often() {
        let first = committed(&submitted(), &[unreachable()], at(0));
        let second = committed(&first, &[unreachable()], at(5_000));
        let late = at(0).after(HYDRATION);
        let failure = |s: &Snapshot, seen: &[Observation]| committed(s, seen, late).task.failure.unwrap();
        let said = |often| {
            let text = format!(
                "HYDRATING for 1 m 40 s: its deadline passed; preparation failed {often}, the last time with: the forge answered 503"
            );
            Failure::new(FailureReason::Deadline, text)
        };
        assert_eq!(failure(&first, &[]), said("once"));
        assert_eq!(failure(&second, &[]), said("2 times"));
        // It failed once more while the deadline passed.
        assert_eq!(failure(&second, &[unreachable()]), said("3 times"));
        assert_eq!(committed(&second, &[], late).task.status, TaskStatus::TimedOut);
    }

    #[test]
    fn what_has_failed_is_forgotten_once_it_succeeds() {
        let failed = committed(&submitted(), &[unreachable()], at(0));
        let prepared = committed(&failed, &[Observation::Prepared(Box::new(prepared()))], at(5_000));
        assert_eq!((prepared.task.unprepared, prepared.task.attempt), (None, 1));
    }

    #[test]
    fn a_failure_noted_by_a_clock_that_was_ahead_is_not_waited_for() {
        let failed = committed(&submitted(), &[unreachable()], at(60_000));
        assert_eq!(decide(&failed, &[], &backend(), at(1_000)), Decision::Ask(Query::Prepare));
    }
}
