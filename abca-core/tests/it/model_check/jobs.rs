//! What a worker is at: what it read, what it found out, and what it is about to do.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use abca_core::SessionId;
use abca_core::compute::SessionView;
use abca_core::task::{Decision, Delivery, Failure, FailureReason, Observation, Query, Verdict, decide};

use super::fixtures::{at, backend, prepared, report};
use super::machine::Race;
use super::memory::Next;
use super::print;
use super::rows::{Row, kind};
use super::sessions::session;
use super::world::ATTEMPTS;

/// A worker's work on a task: what it read, what it found out, and what it is about to do, decided when it was.
#[derive(Clone)]
pub struct Job {
    /// Equal for equal jobs only.
    pub id: u32,
    pub task: usize,
    /// As it read it.
    pub row: Row,
    pub observations: Vec<Observation>,
    pub next: Decision,
    /// Which session `next` is about, from 0.
    pub about: Option<usize>,
    /// When that was decided, in ticks.
    pub decided: u64,
    /// The commit in `next` was applied, and its answer lost.
    pub applied: bool,
    pub print: u64,
}

impl Job {
    fn new(task: usize, row: Row, observations: Vec<Observation>, decided: u64) -> Self {
        let next = decide(row.snapshot(), &observations, &backend(), at(decided));
        let place = |id: &SessionId| (0..ATTEMPTS).find(|a| session(task, *a) == *id);
        let about = asked(&next).map(|id| place(id).expect("every session is of the task, and of an attempt"));
        Self { id: 0, task, row, observations, next, about, decided, applied: false, print: 0 }
    }

    pub fn seal(mut self) -> Self {
        self.print = print::of(|h| {
            (self.task, self.applied).hash(h);
            print::snapshot(self.row.snapshot(), h);
            self.observations.iter().for_each(|o| print::observation(o, h));
            print::decision(&self.next, h);
        });
        self
    }

    /// The session that it asks about, from 0.
    pub fn about(&self) -> usize {
        self.about.expect("it is about a session")
    }
}

/// The session that a decision is about.
fn asked(next: &Decision) -> Option<&SessionId> {
    match next {
        Decision::Wait { .. } | Decision::Ask(Query::Prepare) | Decision::Commit(_) => None,
        Decision::Ask(Query::Observe(id) | Query::Delivered(id)) => Some(id),
        Decision::Run(effect) => Some(print::target(&effect.kind)),
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let next = match &self.next {
            Decision::Wait { .. } => "wait".to_owned(),
            Decision::Ask(query) => format!("ask {query:?}"),
            Decision::Run(effect) => format!("run {}", kind(&effect.kind)),
            Decision::Commit(c) => format!("commit {} effects {}", c.task.status, c.effects.len()),
        };
        write!(f, "task {} rev {} epoch {}: {next}", self.task, self.row.revision(), self.row.epoch())
    }
}

/// What comes of a question or an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Seen {
    Prepared,
    Unprepared { retryable: bool },
    Started,
    NotStarted { retryable: bool },
    Stopped,
    NotStopped,
    Unknown,
    Running,
    Exited,
    NoSight,
    Proposed,
    NothingProposed,
    NoAnswer,
}

impl Seen {
    pub fn observation(self, next: &Decision) -> Observation {
        let session = || asked(next).expect("it is about a session").clone();
        let no = || "no".to_owned();
        let seen = |view| Observation::Seen { session: session(), view };
        let delivered = |delivery| Observation::Delivered { session: session(), delivery };
        match self {
            Self::Prepared => Observation::Prepared(Box::new(prepared())),
            Self::Unprepared { retryable } => {
                Observation::PrepareFailed { failure: Failure::new(FailureReason::Preflight, "no"), retryable }
            }
            Self::Started => Observation::Started(session()),
            Self::NotStarted { retryable } => Observation::StartFailed { session: session(), message: no(), retryable },
            Self::Stopped => Observation::Stopped(session()),
            Self::NotStopped => Observation::StopFailed { session: session(), message: no() },
            Self::Unknown => seen(SessionView::Unknown),
            Self::Running => seen(SessionView::Running { active_at: None }),
            Self::Exited => seen(SessionView::Exited { code: Some(0), signal: None, detail: None }),
            Self::NoSight => Observation::Unseen { session: session(), message: no() },
            Self::Proposed => delivered(Delivery::Proposed(Box::new(report(Verdict::Succeeded)))),
            Self::NothingProposed => delivered(Delivery::Nothing),
            Self::NoAnswer => delivered(Delivery::NoAnswer { message: no() }),
        }
    }
}

impl Race {
    /// What a worker does next; nothing when it waits, and giving a lease back is not looked at.
    pub fn decided(&self, task: usize, row: Row, observations: Vec<Observation>, now: u64) -> Next {
        let job = Job::new(task, row, observations, now);
        if matches!(job.next, Decision::Wait { .. }) && !self.bounds.timers {
            return None;
        }
        Some(self.memory.job(job.seal()))
    }

    /// What a worker does next, once it has been answered.
    pub fn answered(&self, job: &Arc<Job>, seen: Seen, now: u64) -> Next {
        self.memory.answers.get((job.id, seen, now), || {
            let mut observations = job.observations.clone();
            observations.push(seen.observation(&job.next));
            self.decided(job.task, job.row.clone(), observations, now)
        })
    }
}
