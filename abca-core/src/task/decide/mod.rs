//! The task machine: what to do next with a task, decided from frozen data alone.
//!
//! This file says which cause comes first; each of the others says what one cause leads to.

mod admission;
mod alive;
mod clock;
mod deadlines;
mod delivered;
mod found;
mod inbox;
mod lost;
mod outcome;
mod prepare;
mod start;
mod stop;
#[cfg(test)]
mod walk;

use super::change::Draft;
use super::{Decision, Observation, ResolvedLimits, SessionPhase, SessionRecord, Snapshot, Task, TaskStatus};
use crate::compute::{ComputeCapabilities, SessionView};
use crate::time::{Millis, Timestamp};
use found::Found;
use inbox::Inbox;

/// How long an unreachable backend is left alone before it is asked again.
const ASK_AGAIN: Millis = Millis::secs(5);

/// The compute strategy that a worker drives tasks with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// Its name.
    pub name: String,
    /// What it can tell.
    pub capabilities: ComputeCapabilities,
}

/// Decides the next step for one task.
///
/// Precedence, highest first: terminal, cancel, session outcome, deadline, liveness, progress. A stop that is under
/// way is finished before anything else but the recording of a cancel. Total and deterministic: equal inputs give
/// equal outputs. `observations` are what the driver found out since it loaded the snapshot. A record that a clock wrote
/// which was more than five minutes ahead is set right first, and no wait is longer than an hour: were the clock set
/// back, nothing would wait for the time that it once showed.
pub fn decide(snapshot: &Snapshot, observations: &[Observation], backend: &Backend, now: Timestamp) -> Decision {
    let session = snapshot.task.session.as_ref().map(|s| &s.id);
    let facts = Facts {
        s: snapshot,
        task: &snapshot.task,
        inbox: Inbox::read(&snapshot.signals, session),
        found: Found::read(observations, session),
        backend,
        now,
        unconfirmed: None,
    };
    clock::bounded(facts.decide(), now)
}

/// Everything a decision looks at.
#[derive(Clone, Copy)]
struct Facts<'a> {
    s: &'a Snapshot,
    task: &'a Task,
    inbox: Inbox<'a>,
    found: Found<'a>,
    backend: &'a Backend,
    now: Timestamp,
    /// Why the backend never confirmed a stop, once nobody waits for it any longer.
    unconfirmed: Option<&'a str>,
}

impl<'a> Facts<'a> {
    /// The precedence of causes.
    fn decide(&self) -> Decision {
        if self.task.status.is_terminal() {
            return Decision::Wait { until: None };
        }
        if let Some(decision) = self.set_clock_right() {
            return decision;
        }
        if let Some(decision) = self.cancel() {
            return decision;
        }
        if let Some((session, stopping)) = self.stopping() {
            return self.finish_stop(session, stopping);
        }
        if let Some(decision) = self.outcome() {
            return decision;
        }
        if let Some(decision) = self.deadline() {
            return decision;
        }
        match self.task.status {
            TaskStatus::PendingUploads => self.uploads(),
            TaskStatus::Submitted | TaskStatus::Queued => self.admission(),
            TaskStatus::Hydrating => match self.current() {
                Some(session) => self.starting(session),
                None => self.preparation(),
            },
            TaskStatus::Running | TaskStatus::AwaitingApproval | TaskStatus::Finalizing => match self.current() {
                Some(session) => self.alive(session),
                // A record that says running without a session was written by nobody: end it rather than keep it.
                None => self.lost("the record names no session"),
            },
            TaskStatus::Completed | TaskStatus::Failed | TaskStatus::Cancelled | TaskStatus::TimedOut => {
                Decision::Wait { until: None }
            }
        }
    }

    // -- what every cause looks at ---------------------------------------------------------------------------------

    fn draft(&self) -> Draft<'a> {
        Draft::new(self.s, self.now).unconfirmed(self.unconfirmed)
    }

    fn limits(&self) -> &'a ResolvedLimits {
        &self.task.spec.limits
    }

    /// The session that may run, if any.
    fn current(&self) -> Option<&'a SessionRecord> {
        self.task.session.as_ref().filter(|s| match s.phase {
            SessionPhase::Starting | SessionPhase::Live | SessionPhase::Stopping => true,
            SessionPhase::Over => false,
        })
    }

    /// Why this worker can neither see nor stop the current session: it runs on another backend, which does not know
    /// a session of this one, and would call it gone or stopped. A worker of that backend, or time, settles it.
    fn foreign(&self) -> Option<String> {
        let theirs = &self.current()?.compute;
        let ours = &self.backend.name;
        (theirs != ours).then(|| format!("the session runs on `{theirs}`, this worker drives `{ours}`"))
    }

    /// What the backend says of the session; `Err` when it could not be asked.
    fn view(&self) -> Option<Result<&'a SessionView, ()>> {
        if self.foreign().is_some() { Some(Err(())) } else { self.found.view }
    }
}

#[cfg(test)]
mod tests {
    use super::walk::World;
    use super::*;
    use crate::task::{SignalKind, Verdict};
    use crate::testing::fixtures::report;

    #[test]
    fn the_ordinary_life_takes_three_commits_after_the_submission() {
        let mut world = World::new();
        let first = world.snap.revision;
        world.drive(&mut std::iter::empty());
        let id = world.starts.last().cloned().unwrap();
        world.signal(SignalKind::SessionRegistered { session: id.clone() });
        world.drive(&mut std::iter::empty());
        world.live.clear();
        world.signal(SignalKind::SessionResult { session: id, report: Box::new(report(Verdict::Succeeded)) });
        world.drive(&mut std::iter::empty());
        assert_eq!(world.snap.task.status, TaskStatus::Completed);
        // admit with start intent, running, end; and the two signals.
        assert_eq!(world.snap.revision - first, 3 + 2);
    }
}
