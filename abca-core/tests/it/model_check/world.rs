//! The state that is explored: the real rows of a store, workers with stale snapshots, sessions, a clock of few ticks.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use abca_core::UserId;
use abca_core::store::{Submit, TaskRow};
use abca_core::task::{Change, SlotLimit, SlotScope, Task, TaskSpec, TaskStatus};

use super::fixtures::{at, limits, task};
use super::jobs::Job;
use super::print;
use super::rows::Row;

/// What keeps the promises. Each is switched off once, to see that the checker misses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guards {
    /// A commit applies only on the revision that it was decided on.
    pub cas: bool,
    /// A commit applies only under the lease that it was decided under.
    pub fence: bool,
    /// A repeated commit is recognised.
    pub idempotence: bool,
    /// A registration is refused unless the task expects that session.
    pub gate: bool,
    /// A stop is carried out, not only decided.
    pub stop: bool,
    /// The end gives the slots back.
    pub release: bool,
    /// A slot is denied while an earlier task waits.
    pub fifo: bool,
    /// A slot is denied when all are taken.
    pub cap: bool,
    /// The stop of a session that never began leaves a tombstone.
    pub tombstone: bool,
    /// A word that was accepted once is not accepted again.
    pub dedup: bool,
    /// A lease that is given back on another revision leaves its task due.
    pub timer: bool,
    /// The forge is asked before a task is given up.
    pub asks: bool,
}

impl Guards {
    pub const ALL: Self = Self {
        cas: true,
        fence: true,
        idempotence: true,
        gate: true,
        stop: true,
        release: true,
        fifo: true,
        cap: true,
        tombstone: true,
        dedup: true,
        timer: true,
        asks: true,
    };
}

/// How much may happen.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    pub tasks: usize,
    pub workers: usize,
    pub attempts: u32,
    /// Users, whose tasks come in turns.
    pub users: usize,
    /// Holders per user.
    pub cap: u32,
    /// Holders in all.
    pub system: u32,
    /// How far the clock goes.
    pub ticks: u64,
    /// Claims of a task that somebody still works on.
    pub steals: u8,
    /// Crashes of workers, lost answers, and calls that fail.
    pub faults: u8,
    /// Words of sessions that are gone or not current any more, and reports that come past the gate.
    pub late: u8,
    /// Cancels, over all tasks.
    pub cancels: u8,
    /// Sessions report failures and interruptions too, not only successes.
    pub verdicts: bool,
    /// Sessions open pull requests, and may die before they say so.
    pub proposals: bool,
    /// Sessions ask humans.
    pub gates: bool,
    /// The backend refuses a start after a stop.
    pub tombstones: bool,
    /// Words that are sent again.
    pub repeats: u8,
    /// Leases and due times are looked at: who is not due is not claimed, who waits gives its lease back.
    pub timers: bool,
}

/// A promise that a step broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Breach {
    /// A commit of an expired lease was applied.
    ExpiredWord,
    /// A commit was applied on a revision other than its own.
    StaleWord,
    /// A commit that was applied is told to be stale.
    OwnWordForgotten,
    /// The store refuses what `decide` wants.
    RefusedChange,
    /// `apply` looks ahead to something else than the store does.
    LookedAheadWrongly,
    /// A registration was accepted from a session that the task does not expect.
    StrangeRegistration,
    /// A task was admitted before an earlier one.
    Overtaken,
    /// A task that has ended was changed.
    ChangedAfterEnd,
}

/// How the process of a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Process {
    /// Never started.
    No,
    /// Started, not let in yet: it does nothing but ask.
    Up,
    /// Let in: it calls models, runs tools, pushes.
    Working,
    /// Over, by itself or stopped.
    Gone,
}

/// A session, of one attempt of one task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Session {
    pub process: Process,
    /// It was stopped: a start is refused.
    pub tomb: bool,
    /// How often a process of it began.
    pub starts: u8,
    /// Its registration was accepted.
    pub registered: bool,
    /// It was let in once.
    pub worked: bool,
    /// It opened its pull request: the last thing that it did with its work.
    pub proposed: bool,
    /// Its report was accepted.
    pub reported: bool,
    /// Its end was rung.
    pub rang: bool,
}

impl Session {
    const NEW: Self = Self {
        process: Process::No,
        tomb: false,
        starts: 0,
        registered: false,
        worked: false,
        proposed: false,
        reported: false,
        rang: false,
    };

    pub fn runs(self) -> bool {
        matches!(self.process, Process::Up | Process::Working)
    }
}

/// What the world was told of a task, and told it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Told {
    /// Terminal events.
    pub ends: u8,
    /// Its end says that the backend never confirmed a stop.
    pub unconfirmed: bool,
    /// A cancel was accepted.
    pub cancelled: bool,
    /// Its end was told by no session.
    pub inferred: bool,
    /// The forge did not answer once.
    pub unanswered: bool,
    /// How often a human was asked.
    pub asks: u8,
    /// A question and its answer.
    pub gate: (bool, bool),
}

impl Told {
    /// What a change tells.
    pub fn by(before: &Task, change: &Change) -> Self {
        let asks = change.task.status == TaskStatus::AwaitingApproval && before.status != change.task.status;
        Self {
            ends: change.events.iter().filter(|e| e.event_type.is_terminal()).count() as u8,
            unconfirmed: change.events.iter().any(|e| e.metadata.contains_key("stop_unconfirmed")),
            inferred: change.task.inferred.is_some(),
            asks: u8::from(asks),
            ..Self::default()
        }
    }

    /// Adds what a change told.
    pub fn add(&mut self, news: Self) {
        self.ends += news.ends;
        self.unconfirmed |= news.unconfirmed;
        self.inferred |= news.inferred;
        self.asks += news.asks;
    }
}

/// Most attempts of a task.
pub const ATTEMPTS: usize = 2;

#[derive(Debug, Clone)]
pub struct World {
    pub rows: Vec<Row>,
    /// By task, then attempt.
    pub sessions: Vec<[Session; ATTEMPTS]>,
    /// By task.
    pub told: Vec<Told>,
    pub jobs: Vec<Option<Arc<Job>>>,
    pub now: u64,
    pub steals: u8,
    pub faults: u8,
    pub late: u8,
    pub repeats: u8,
    pub breach: Option<Breach>,
}

impl Hash for World {
    fn hash<H: Hasher>(&self, h: &mut H) {
        self.rows.iter().for_each(|r| r.print().hash(h));
        (&self.sessions, &self.told).hash(h);
        for job in &self.jobs {
            let facts = job.as_ref().map(|j| {
                let now = &self.rows[j.task];
                (j.print, j.row.revision() == now.revision(), j.row.epoch() == now.epoch())
            });
            facts.hash(h);
        }
        (self.now, self.steals, self.faults, self.late, self.repeats, self.breach).hash(h);
    }
}

impl World {
    pub fn new(bounds: &Bounds, guards: Guards, known: impl Fn(TaskRow) -> Row) -> Self {
        let rows = (0..bounds.tasks).map(|n| {
            let user = UserId::new(["ann", "bob", "cat"][n % bounds.users]).unwrap();
            let mut slot = TaskSpec::user_slot(&user, bounds.cap);
            slot.fifo = guards.fifo;
            let system = SlotLimit { scope: SlotScope("system".to_owned()), cap: bounds.system, fifo: false };
            let mut task = task(n, limits(vec![slot, system], bounds.attempts));
            task.user = user;
            let submit = Submit { task, payload_hash: String::new(), events: Vec::new(), due_at: at(0) };
            known(TaskRow::new(&submit, n as u64 + 1))
        });
        Self {
            rows: rows.collect(),
            sessions: vec![[Session::NEW; ATTEMPTS]; bounds.tasks],
            told: vec![Told::default(); bounds.tasks],
            jobs: vec![None; bounds.workers],
            now: 0,
            steals: bounds.steals,
            faults: bounds.faults,
            late: bounds.late,
            repeats: bounds.repeats,
            breach: None,
        }
    }

    /// Whether a worker is at a task, under whatever lease.
    pub fn is_driven(&self, t: usize) -> bool {
        self.jobs.iter().flatten().any(|j| j.task == t)
    }

    /// Whether whoever has the lease of a task lives.
    pub fn is_held(&self, t: usize) -> bool {
        let epoch = self.rows[t].epoch();
        self.jobs.iter().flatten().any(|j| j.task == t && j.row.epoch() == epoch)
    }

    /// Notes the first broken promise.
    pub fn note(&mut self, breach: Breach) {
        self.breach.get_or_insert(breach);
    }
}

/// States that behave alike are equal.
impl PartialEq for World {
    fn eq(&self, other: &Self) -> bool {
        print::of(|h| self.hash(h)) == print::of(|h| other.hash(h))
    }
}
