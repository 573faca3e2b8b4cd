//! The state that is explored: the real rows of a store, workers with stale snapshots, sessions, a clock of few ticks.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use abca_core::store::{Slots, Submit, TaskRow};
use abca_core::task::{Decision, Observation, SlotLimit, SlotScope, Snapshot, TaskSpec};
use abca_core::{SessionId, UserId};

use super::fixtures::{at, limits, task, task_id};
use super::print;

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

/// A row with the fingerprint of what matters of it.
#[derive(Clone)]
pub struct Row {
    pub row: Arc<TaskRow>,
    /// What else of it matters, as the bounds say.
    detail: Detail,
    print: u64,
}

/// What of a row matters only in some worlds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Detail {
    timers: bool,
    words: bool,
}

impl Row {
    fn new(row: TaskRow, detail: Detail) -> Self {
        let print = print::of(|h| {
            print::snapshot(&row.snapshot, h);
            if detail.timers {
                (row.due, row.lease.map(|l| l.until), row.woken, row.denied).hash(h);
            }
            if detail.words {
                row.seen.hash(h);
            }
        });
        Self { row: Arc::new(row), detail, print }
    }

    pub fn change<T>(&mut self, f: impl FnOnce(&mut TaskRow) -> T) -> T {
        let mut row = TaskRow::clone(&self.row);
        let answer = f(&mut row);
        *self = Self::new(row, self.detail);
        answer
    }

    pub fn snapshot(&self) -> &Snapshot {
        &self.row.snapshot
    }

    /// Equal for rows that behave alike.
    pub const fn print(&self) -> u64 {
        self.print
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = self.snapshot();
        let session = s.task.session.as_ref().map(|s| (s.attempt, s.phase));
        let inbox: Vec<_> = s.signals.iter().map(|x| x.id.as_str()).collect();
        let owed: Vec<_> = s.owed.iter().map(|o| &o.effect.kind).map(kind).collect();
        write!(f, "{} rev {} {session:?} inbox {inbox:?} owed {owed:?}", s.task.status, s.revision)
    }
}

fn kind(effect: &abca_core::task::EffectKind) -> &'static str {
    match effect {
        abca_core::task::EffectKind::StartSession { .. } => "start",
        abca_core::task::EffectKind::StopSession { .. } => "stop",
    }
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

/// A worker's work on a task: what it read, what it found out, and what it is about to do, decided when it was.
#[derive(Clone)]
pub struct Job {
    pub task: usize,
    pub snapshot: Arc<Snapshot>,
    pub observations: Vec<Observation>,
    pub next: Decision,
    /// When that was decided, in ticks.
    pub decided: u64,
    /// The commit in `next` was applied, and its answer lost.
    pub applied: bool,
    pub print: u64,
}

impl Job {
    pub fn seal(&mut self) {
        self.print = print::of(|h| {
            (self.task, self.applied).hash(h);
            print::snapshot(&self.snapshot, h);
            self.observations.iter().for_each(|o| print::observation(o, h));
            print::decision(&self.next, h);
        });
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
        write!(f, "task {} rev {} epoch {}: {next}", self.task, self.snapshot.revision, self.snapshot.epoch)
    }
}

#[derive(Debug, Clone)]
pub struct World {
    pub rows: Vec<Row>,
    /// By task, then attempt.
    pub sessions: Vec<Vec<Session>>,
    /// Terminal events told, by task.
    pub ends: Vec<u8>,
    /// Ends that say that the backend never confirmed a stop, by task.
    pub unconfirmed: Vec<bool>,
    /// Ends that no session told, by task.
    pub inferred: Vec<bool>,
    /// The forge did not answer once, by task.
    pub unanswered: Vec<bool>,
    /// Cancels accepted, by task.
    pub cancels: Vec<bool>,
    /// How often a human was asked, by task.
    pub asks: Vec<u8>,
    /// Gate questions and answers told, by task.
    pub gates: Vec<(bool, bool)>,
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
        self.rows.iter().for_each(|r| r.print.hash(h));
        (&self.inferred, &self.unanswered).hash(h);
        (&self.sessions, &self.ends, &self.unconfirmed, &self.cancels, &self.asks, &self.gates).hash(h);
        for job in &self.jobs {
            let facts = job.as_ref().map(|j| {
                let now = self.rows[j.task].snapshot();
                (j.print, j.snapshot.revision == now.revision, j.snapshot.epoch == now.epoch)
            });
            facts.hash(h);
        }
        (self.now, self.steals, self.faults, self.late, self.repeats, self.breach).hash(h);
    }
}

impl World {
    pub fn new(bounds: &Bounds, guards: Guards) -> Self {
        let detail = Detail { timers: bounds.timers, words: bounds.repeats > 0 };
        let rows = (0..bounds.tasks).map(|n| {
            let user = UserId::new(["ann", "bob"][n % bounds.users]).unwrap();
            let mut slot = TaskSpec::user_slot(&user, bounds.cap);
            slot.fifo = guards.fifo;
            let system = SlotLimit { scope: SlotScope("system".to_owned()), cap: bounds.system, fifo: false };
            let mut task = task(n, limits(vec![slot, system], bounds.attempts));
            task.user = user;
            let submit = Submit { task, payload_hash: String::new(), events: Vec::new(), due_at: at(0) };
            Row::new(TaskRow::new(&submit, n as u64 + 1), detail)
        });
        Self {
            rows: rows.collect(),
            sessions: vec![vec![Session::NEW; bounds.attempts as usize]; bounds.tasks],
            ends: vec![0; bounds.tasks],
            unconfirmed: vec![false; bounds.tasks],
            inferred: vec![false; bounds.tasks],
            unanswered: vec![false; bounds.tasks],
            cancels: vec![false; bounds.tasks],
            asks: vec![0; bounds.tasks],
            gates: vec![(false, false); bounds.tasks],
            jobs: vec![None; bounds.workers],
            now: 0,
            steals: bounds.steals,
            faults: bounds.faults,
            late: bounds.late,
            repeats: bounds.repeats,
            breach: None,
        }
    }

    /// Which session an id names: its task, and its place.
    pub fn find(&self, id: &SessionId) -> (usize, usize) {
        let named = |t: usize, a: usize| SessionId::of(task_id(t), a as u32 + 1) == *id;
        (0..self.rows.len())
            .flat_map(|t| (0..self.sessions[t].len()).map(move |a| (t, a)))
            .find(|(t, a)| named(*t, *a))
            .expect("every session is of a task and an attempt")
    }

    /// Whether a worker is at a task, under whatever lease.
    pub fn is_driven(&self, t: usize) -> bool {
        self.jobs.iter().flatten().any(|j| j.task == t)
    }

    /// Whether whoever has the lease of a task lives.
    pub fn is_held(&self, t: usize) -> bool {
        let epoch = self.rows[t].snapshot().epoch;
        self.jobs.iter().flatten().any(|j| j.task == t && j.snapshot.epoch == epoch)
    }

    /// Notes the first broken promise.
    pub fn note(&mut self, breach: Breach) {
        self.breach.get_or_insert(breach);
    }
}

/// The slots as the rows say.
pub struct Taken<'a> {
    pub rows: &'a [Row],
    pub cap: bool,
}

impl Slots for Taken<'_> {
    fn holders(&self, scope: &SlotScope) -> usize {
        if self.cap { self.rows.iter().filter(|r| r.snapshot().held.contains(scope)).count() } else { 0 }
    }

    fn earlier_waits(&self, scope: &SlotScope, order: u64) -> bool {
        let waits = |r: &Row| r.row.order < order && r.snapshot().task.status.is_waiting();
        self.rows.iter().any(|r| waits(r) && r.row.limits().iter().any(|l| l.scope == *scope))
    }
}

/// States that behave alike are equal.
impl PartialEq for World {
    fn eq(&self, other: &Self) -> bool {
        print::of(|h| self.hash(h)) == print::of(|h| other.hash(h))
    }
}
