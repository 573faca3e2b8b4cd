//! What may happen next. What comes of it, workers and sessions say.

use std::sync::Arc;

use abca_core::store::{SignalOutcome, TaskRow};
use abca_core::task::{Decision, Verdict, decide};
use stateright::{Model, Property};

use super::drain::Drain;
use super::fixtures::{at, backend};
use super::memory::Memory;
use super::properties;
use super::rows::{Detail, Row};
use super::workers::mishaps;
use super::world::{Bounds, Guards, Process, World};

/// How a call goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Luck {
    Good,
    /// It fails, and may succeed later.
    Bad,
    /// It fails for good.
    Worse,
    /// It is done, but its answer gets lost.
    Lost,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A worker takes a task, perhaps from another one.
    Claim(usize),
    /// A worker does what it decided, however long ago that was.
    Act(usize, Luck),
    /// A worker dies.
    Crash(usize),
    Register(usize, usize),
    Report(usize, usize, Verdict),
    /// A session opens its pull request.
    Propose(usize, usize),
    /// A report that comes past the gate.
    LateReport(usize, usize),
    /// A session ends without a word.
    Die(usize, usize),
    /// Somebody tells that it ended.
    Ring(usize, usize),
    Cancel(usize),
    AskHuman(usize, usize),
    Answer(usize),
    /// A word is sent again, because the answer to it got lost.
    Repeat(usize, Word),
    Tick,
}

/// What a task is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Word {
    Registered(usize),
    Result(usize, Verdict),
    /// A report that comes past the gate.
    LateResult(usize),
    Exited(usize),
    Cancel,
    Ask(usize),
    Answer,
}

#[derive(Debug, Clone)]
pub struct Race {
    pub bounds: Bounds,
    pub guards: Guards,
    pub drain: Arc<Drain>,
    pub memory: Arc<Memory>,
}

impl Race {
    pub fn new(bounds: Bounds, guards: Guards) -> Self {
        Self { bounds, guards, drain: Arc::default(), memory: Arc::default() }
    }

    /// The row, as it is known.
    pub fn row(&self, row: TaskRow) -> Row {
        self.memory.row(row, self.detail())
    }

    pub const fn detail(&self) -> Detail {
        Detail { timers: self.bounds.timers, words: self.bounds.repeats > 0 }
    }

    /// Whether whoever took it now would only wait.
    fn is_idle(&self, row: &Row, now: u64) -> bool {
        let waits = || matches!(decide(row.snapshot(), &[], &backend(), at(now)), Decision::Wait { .. });
        self.memory.idle.get((row.id(), now), waits)
    }

    fn claimable(&self, w: &World, t: usize) -> bool {
        if w.rows[t].is_terminal() {
            return false;
        }
        if self.bounds.timers {
            let row = &w.rows[t].row;
            return row.is_due(at(w.now)) || (row.lease.is_some() && (w.steals > 0 || !w.is_held(t)));
        }
        // Whoever would only wait changes nothing but fences others, which allows less, not more.
        (w.steals > 0 || !w.is_driven(t)) && !self.is_idle(&w.rows[t], w.now)
    }
}

impl Model for Race {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(&self.bounds, self.guards, |row| self.row(row))]
    }

    fn actions(&self, w: &World, actions: &mut Vec<Action>) {
        if w.breach.is_some() {
            return;
        }
        // Workers are alike: the first idle one claims.
        if w.jobs.iter().any(Option::is_none) {
            actions.extend((0..w.rows.len()).filter(|t| self.claimable(w, *t)).map(Action::Claim));
        }
        for (k, job) in w.jobs.iter().enumerate() {
            let Some(job) = job else { continue };
            actions.push(Action::Act(k, Luck::Good));
            if w.faults > 0 {
                actions.push(Action::Crash(k));
                actions.extend(mishaps(&job.next).iter().map(|luck| Action::Act(k, *luck)));
            }
        }
        for (t, row) in w.rows.iter().enumerate() {
            self.session_actions(w, t, actions);
            let cancels = w.told.iter().filter(|t| t.cancelled).count();
            if !row.is_terminal() && !w.told[t].cancelled && cancels < usize::from(self.bounds.cancels) {
                actions.push(Action::Cancel(t));
            }
            if w.told[t].gate == (true, false) {
                actions.push(Action::Answer(t));
            }
        }
        if w.now < self.bounds.ticks && w.rows.iter().any(|r| !r.is_terminal()) {
            actions.push(Action::Tick);
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut w = last.clone();
        match action {
            Action::Claim(t) => self.claim(&mut w, t),
            Action::Act(k, luck) => self.act(&mut w, k, luck),
            Action::Crash(k) => {
                w.faults -= 1;
                w.jobs[k] = None;
            }
            Action::Register(t, a) => {
                self.count_late(&mut w, t, a, false);
                self.register(&mut w, t, a);
            }
            Action::Report(t, a, verdict) => {
                self.count_late(&mut w, t, a, false);
                let outcome = self.signal(&mut w, t, Word::Result(a, verdict));
                w.sessions[t][a].reported = true;
                if outcome != SignalOutcome::Accepted {
                    w.sessions[t][a].process = Process::Gone;
                }
            }
            Action::LateReport(t, a) => {
                w.late -= 1;
                w.sessions[t][a].reported = true;
                self.signal(&mut w, t, Word::LateResult(a));
            }
            Action::Propose(t, a) => w.sessions[t][a].proposed = true,
            Action::Die(t, a) => w.sessions[t][a].process = Process::Gone,
            Action::Ring(t, a) => {
                self.count_late(&mut w, t, a, true);
                w.sessions[t][a].rang = true;
                self.signal(&mut w, t, Word::Exited(a));
            }
            Action::Cancel(t) => {
                let outcome = self.signal(&mut w, t, Word::Cancel);
                w.told[t].cancelled = outcome == SignalOutcome::Accepted;
            }
            Action::AskHuman(t, a) => {
                w.told[t].gate.0 = true;
                self.signal(&mut w, t, Word::Ask(a));
            }
            Action::Answer(t) => {
                w.told[t].gate.1 = true;
                self.signal(&mut w, t, Word::Answer);
            }
            Action::Repeat(t, word) => {
                w.repeats -= 1;
                self.signal(&mut w, t, word);
            }
            Action::Tick => w.now += 1,
        }
        self.let_in(&mut w);
        // Workers are alike: order them by what they are at.
        w.jobs.sort_by_key(|j| {
            j.as_ref().map_or((u64::MAX, false), |j| (j.print, w.rows[j.task].epoch() == j.row.epoch()))
        });
        Some(w)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}
