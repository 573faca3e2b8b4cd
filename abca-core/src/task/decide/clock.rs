//! Records of a clock that was wrong: what they say of the time to come is set right, so that every wait ends.

use super::super::{Decision, Task};
use super::Facts;
use super::lost::MAX_BACKOFF;
use crate::time::{Millis, Timestamp};

/// The clocks of workers may differ by this much; a record that is further ahead was written by a clock that was wrong.
const SKEW: Millis = Millis::secs(300);
/// Nothing is waited for longer than this at once: the record is looked at again, by the clock as it is then.
const LONGEST_WAIT: Millis = Millis::secs(3_600);

impl<'a> Facts<'a> {
    /// A clock that was set back leaves records in the time to come, and limits that are counted from there: they are
    /// counted from now instead. What is being done goes on; nobody is told.
    pub(super) fn set_clock_right(&self) -> Option<Decision> {
        // Every write says when it was made, and sets right what it found: no other moment can be further ahead.
        if self.task.updated_at <= self.now.after(SKEW) {
            return None;
        }
        let now = self.now;
        let set = |t: &mut Task| {
            moments(t).for_each(|m| *m = now.min(*m));
            t.not_before = t.not_before.map(|n| n.min(now.after(MAX_BACKOFF)));
        };
        Some(self.draft().set(set).done())
    }
}

/// Everything in a record that a limit is counted from, but the moment of acceptance, which is never altered.
fn moments(task: &mut Task) -> impl Iterator<Item = &mut Timestamp> {
    let session = task.session.as_mut().map(|s| {
        let stopping = s.stopping.as_mut().map(|s| &mut s.at);
        [Some(&mut s.intent_at), s.registered_at.as_mut(), stopping]
    });
    [
        Some(&mut task.status_at),
        task.admitted_at.as_mut(),
        task.queued_at.as_mut(),
        task.started_at.as_mut(),
        task.unprepared.as_mut().map(|u| &mut u.at),
    ]
    .into_iter()
    .chain(task.unanswered.as_mut().into_iter().flat_map(|u| [Some(&mut u.since), Some(&mut u.at)]))
    .chain(session.into_iter().flatten())
    .flatten()
}

/// A decision that waits no longer than [`LONGEST_WAIT`].
pub(super) fn bounded(decision: Decision, now: Timestamp) -> Decision {
    match decision {
        Decision::Wait { until: Some(until) } => Decision::Wait { until: Some(until.min(now.after(LONGEST_WAIT))) },
        Decision::Wait { until: None } | Decision::Ask(_) | Decision::Run(_) | Decision::Commit(_) => decision,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Backend, decide};
    use super::*;
    use crate::compute::{ComputeCapabilities, SessionView};
    use crate::task::{Delivery, Observation, Snapshot, TaskStatus, apply};
    use crate::testing::fixtures::{admit, at, claimed, running, start_intent, task};

    /// A year and a day.
    const AHEAD: Millis = Millis::secs(366 * 24 * 3_600);

    fn backend() -> Backend {
        let mut capabilities = ComputeCapabilities::none();
        capabilities.heartbeats = true;
        Backend { name: "fake".to_owned(), capabilities }
    }

    fn commit(s: &Snapshot, seen: &[Observation], now: Timestamp) -> Snapshot {
        match decide(s, seen, &backend(), now) {
            Decision::Commit(change) => apply(s, &change),
            other => panic!("expected a commit, not {other:?}"),
        }
    }

    /// Driven by a worker whose backend always sees the session run, until it has ended: the moments it was looked at.
    fn ends(mut s: Snapshot, mut now: Timestamp) -> (TaskStatus, Millis) {
        let began = now;
        for _ in 0..10_000 {
            let mut seen = Vec::new();
            loop {
                match decide(&s, &seen, &backend(), now) {
                    Decision::Wait { until: None } => return (s.task.status, now.since(began)),
                    Decision::Wait { until: Some(until) } => {
                        assert!(until > now && until.since(now) <= LONGEST_WAIT, "waits from {now} to {until}");
                        now = until;
                        break;
                    }
                    Decision::Ask(crate::task::Query::Observe(session)) => {
                        seen.push(Observation::Seen { session, view: SessionView::Running { active_at: None } });
                    }
                    Decision::Ask(crate::task::Query::Delivered(session)) => {
                        let delivery = Delivery::NoAnswer { message: "no".to_owned() };
                        seen.push(Observation::Delivered { session, delivery });
                    }
                    Decision::Run(_) => seen.push(Observation::Stopped(s.task.session.as_ref().unwrap().id.clone())),
                    Decision::Ask(crate::task::Query::Prepare) => {
                        let failure = crate::task::Failure::new(crate::task::FailureReason::Preflight, "no");
                        seen.push(Observation::PrepareFailed { failure, retryable: true });
                    }
                    Decision::Commit(change) => {
                        s = apply(&s, &change);
                        seen.clear();
                    }
                }
            }
        }
        panic!("still {} at {now}", s.task.status)
    }

    fn far() -> Timestamp {
        at(0).after(AHEAD)
    }

    fn submitted() -> Snapshot {
        let mut task = task(0);
        (task.created_at, task.status_at, task.updated_at) = (far(), far(), far());
        claimed(task)
    }

    #[test]
    fn a_clock_set_back_leaves_no_task_waiting_for_the_time_it_showed() {
        let limits = submitted().task.spec.into_inner().limits;
        let hydrating = apply(&submitted(), &admit(&submitted(), far()));
        let mut admitted = hydrating.clone();
        admitted.task.admitted_at = Some(far());
        let (status, took) = ends(admitted.clone(), at(0));
        assert_eq!((status, took), (TaskStatus::TimedOut, limits.hydration_timeout_ms));
        let starting = apply(&admitted, &start_intent(&admitted, far()));
        let live = apply(&starting, &running(&starting, far()));
        let mut beating = live.clone();
        beating.heartbeat_at = Some(far());
        for lost in [live, beating] {
            let gone = commit(&lost, &[], at(0));
            assert_eq!(gone.task.status_at, at(0));
            let (_, took) = ends(gone, at(0));
            assert!(took <= Millis(limits.task_timeout_ms.0 + SKEW.0), "{took}");
        }
        let mut queued = submitted();
        queued.task.status = TaskStatus::Queued;
        let set = commit(&queued, &[], at(0));
        assert_eq!((set.task.status_at, set.task.created_at), (at(0), far()), "acceptance is never altered");
        let late = at(0).after(limits.queue_timeout_ms);
        assert_eq!(commit(&set, &[], late).task.status, TaskStatus::TimedOut);
    }

    #[test]
    fn clocks_that_differ_a_little_are_left_alone() {
        let s = submitted();
        let near = Timestamp::from_millis(far().as_millis() - 300_000);
        assert!(matches!(decide(&s, &[], &backend(), near), Decision::Ask(_)));
        assert!(matches!(
            decide(&s, &[], &backend(), Timestamp::from_millis(near.as_millis() - 1)),
            Decision::Commit(_)
        ));
    }
}
