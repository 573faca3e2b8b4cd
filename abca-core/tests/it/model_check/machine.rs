//! What may happen next, and what comes of it: the driver's loop around the real `decide`, cut at every point where
//! somebody else may come in between.

use std::sync::Arc;

use abca_core::compute::SessionView;
use abca_core::id::{SignalId, WorkerId};
use abca_core::store::{Commit, CommitVerdict, LeaseChange, NewSignal, SignalOutcome};
use abca_core::task::{
    Change, Decision, Effect, EffectKind, Failure, FailureReason, Observation, Query, SessionPhase, Signal, SignalKind,
    SlotChange, Snapshot, Verdict, apply, decide,
};
use abca_core::{SessionId, Timestamp};
use stateright::{Model, Property};

use super::drain::Drain;
use super::fixtures::{at, backend, prepared, report, task_id};
use super::world::{Bounds, Breach, Guards, Job, Process, Taken, World};
use super::{print, properties};

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
    /// A report that comes past the gate.
    LateReport(usize, usize),
    /// A session ends without a word.
    Die(usize, usize),
    /// Somebody tells that it ended.
    Ring(usize, usize),
    Cancel(usize),
    AskHuman(usize, usize),
    Answer(usize),
    Tick,
}

#[derive(Debug, Clone)]
pub struct Race {
    pub bounds: Bounds,
    pub guards: Guards,
    pub drain: Arc<Drain>,
}

impl Race {
    pub fn new(bounds: Bounds, guards: Guards) -> Self {
        Self { bounds, guards, drain: Arc::default() }
    }
}

impl Model for Race {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(&self.bounds, self.guards)]
    }

    fn actions(&self, w: &World, actions: &mut Vec<Action>) {
        if w.breach.is_some() {
            return;
        }
        // Workers are alike: the first idle one claims.
        if w.jobs.iter().any(Option::is_none) {
            let busy = |t| w.jobs.iter().flatten().any(|j| j.task == t);
            let claimable = |t: &usize| {
                let s = w.rows[*t].snapshot();
                // Whoever would only wait changes nothing but fences others, which allows less, not more.
                let idle = || matches!(decide(s, &[], &backend(), at(w.now)), Decision::Wait { .. });
                !s.task.status.is_terminal() && (w.steals > 0 || !busy(*t)) && !idle()
            };
            actions.extend((0..w.rows.len()).filter(claimable).map(Action::Claim));
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
            let cancels = w.cancels.iter().filter(|c| **c).count();
            if !row.snapshot().task.status.is_terminal() && !w.cancels[t] && cancels < usize::from(self.bounds.cancels)
            {
                actions.push(Action::Cancel(t));
            }
            if w.gates[t] == (true, false) {
                actions.push(Action::Answer(t));
            }
        }
        if w.now < self.bounds.ticks && w.rows.iter().any(|r| !r.row.is_terminal()) {
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
                let outcome = signal(&mut w, t, &format!("result/{a}"), result(t, a, verdict), Some(session(t, a)));
                w.sessions[t][a].reported = true;
                if outcome != SignalOutcome::Accepted {
                    w.sessions[t][a].process = Process::Gone;
                }
            }
            Action::LateReport(t, a) => {
                w.late -= 1;
                w.sessions[t][a].reported = true;
                signal(&mut w, t, &format!("result/{a}"), result(t, a, Verdict::Succeeded), None);
            }
            Action::Die(t, a) => w.sessions[t][a].process = Process::Gone,
            Action::Ring(t, a) => {
                self.count_late(&mut w, t, a, true);
                w.sessions[t][a].rang = true;
                signal(&mut w, t, &format!("exited/{a}"), SignalKind::SessionExited { session: session(t, a) }, None);
            }
            Action::Cancel(t) => {
                let outcome = signal(&mut w, t, "cancel", SignalKind::Cancel { by: "ann".to_owned() }, None);
                w.cancels[t] = outcome == SignalOutcome::Accepted;
            }
            Action::AskHuman(t, a) => {
                w.gates[t].0 = true;
                let kind = SignalKind::ApprovalRequested { request: "g".to_owned(), deadline: at(w.now) };
                signal(&mut w, t, "ask", kind, Some(session(t, a)));
            }
            Action::Answer(t) => {
                w.gates[t].1 = true;
                let kind = SignalKind::ApprovalDecided { request: "g".to_owned(), approved: true, reason: None };
                signal(&mut w, t, "answer", kind, None);
            }
            Action::Tick => w.now += 1,
        }
        self.let_in(&mut w);
        // Workers are alike: order them by what they are at.
        w.jobs.sort_by_key(|j| {
            j.as_ref().map_or((u64::MAX, false), |j| (j.print, w.rows[j.task].snapshot().epoch == j.snapshot.epoch))
        });
        Some(w)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}

fn session(t: usize, a: usize) -> SessionId {
    SessionId::of(task_id(t), a as u32 + 1)
}

fn result(t: usize, a: usize, verdict: Verdict) -> SignalKind {
    SignalKind::SessionResult { session: session(t, a), report: Box::new(report(verdict)) }
}

fn signal(w: &mut World, t: usize, id: &str, kind: SignalKind, expect_session: Option<SessionId>) -> SignalOutcome {
    let signal = Signal { id: SignalId::new(id).unwrap(), at: at(w.now), kind };
    let new = NewSignal { task: task_id(t), signal, expect_session };
    w.rows[t].change(|row| row.signal(&new))
}

/// How else than well a step may go.
fn mishaps(next: &Decision) -> &'static [Luck] {
    match next {
        Decision::Wait { .. } => &[],
        Decision::Ask(Query::Prepare) => &[Luck::Bad, Luck::Worse],
        Decision::Ask(Query::Observe(_)) => &[Luck::Bad],
        Decision::Run(Effect { kind: EffectKind::StartSession { .. }, .. }) => &[Luck::Bad, Luck::Worse, Luck::Lost],
        Decision::Run(Effect { kind: EffectKind::StopSession { .. }, .. }) => &[Luck::Bad],
        Decision::Commit(_) => &[Luck::Lost],
    }
}

impl Race {
    fn session_actions(&self, w: &World, t: usize, actions: &mut Vec<Action>) {
        let ended = w.rows[t].row.is_terminal();
        let attempt = w.rows[t].snapshot().task.attempt as usize;
        for (a, s) in w.sessions[t].iter().enumerate() {
            if s.runs() {
                actions.push(Action::Die(t, a));
            }
            // Words may be under way for as long as they like, and arrive after the session is gone.
            let says = if s.runs() { !ended || s.process == Process::Up } else { w.late > 0 && !ended };
            if s.starts > 0 && !s.registered && says {
                actions.push(Action::Register(t, a));
            }
            if s.worked && !s.reported && says {
                actions.extend(self.verdicts().iter().map(|v| Action::Report(t, a, *v)));
            }
            if s.registered && !s.reported && w.late > 0 && !ended {
                actions.push(Action::LateReport(t, a));
            }
            if s.process == Process::Gone && !s.rang && !ended && (a + 1 == attempt || w.late > 0) {
                actions.push(Action::Ring(t, a));
            }
            if self.bounds.gates && s.process == Process::Working && !w.gates[t].0 && !ended {
                actions.push(Action::AskHuman(t, a));
            }
        }
    }

    fn verdicts(&self) -> &'static [Verdict] {
        if self.bounds.verdicts {
            &[Verdict::Succeeded, Verdict::Failed, Verdict::Cancelled]
        } else {
            &[Verdict::Succeeded]
        }
    }

    /// Counts a word that comes from a session that is gone, or about an old one.
    fn count_late(&self, w: &mut World, t: usize, a: usize, ring: bool) {
        let attempt = w.rows[t].snapshot().task.attempt as usize;
        let late = if ring { a + 1 != attempt } else { !w.sessions[t][a].runs() };
        w.late -= u8::from(late);
    }

    fn register(&self, w: &mut World, t: usize, a: usize) {
        let id = session(t, a);
        let expected = w.rows[t]
            .snapshot()
            .task
            .session
            .as_ref()
            .is_some_and(|s| s.id == id && matches!(s.phase, SessionPhase::Starting | SessionPhase::Live));
        let kind = SignalKind::SessionRegistered { session: id.clone() };
        let expect = self.guards.gate.then_some(id);
        let outcome = signal(w, t, &format!("registered/{a}"), kind, expect);
        w.sessions[t][a].registered = true;
        if outcome == SignalOutcome::Accepted {
            if !expected {
                w.note(Breach::StrangeRegistration);
                w.sessions[t][a].process = Process::Working;
            }
        } else {
            w.sessions[t][a].process = Process::Gone;
        }
    }

    /// A session that registered works as soon as its task says that it lives, and ends when it hears that it does not.
    fn let_in(&self, w: &mut World) {
        for t in 0..w.rows.len() {
            let task = &w.rows[t].row.snapshot.task;
            let live = task.session.as_ref().filter(|s| s.phase == SessionPhase::Live && !task.status.is_terminal());
            let Some(live) = live.map(|s| s.attempt as usize - 1) else { continue };
            let s = &mut w.sessions[t][live];
            if s.process == Process::Up && s.registered {
                (s.process, s.worked) = (Process::Working, true);
            }
        }
    }

    // -- workers -------------------------------------------------------------------------------------------------

    fn claim(&self, w: &mut World, t: usize) {
        if w.jobs.iter().flatten().any(|j| j.task == t) {
            w.steals -= 1;
        }
        w.rows[t].change(|row| row.claim(WorkerId::from_parts(at(0), 1), at(w.now + 1)));
        let snapshot = Arc::new(w.rows[t].snapshot().clone());
        let idle = w.jobs.iter().position(Option::is_none).expect("a worker is idle");
        w.jobs[idle] = decided(t, snapshot, Vec::new(), w.now);
    }

    fn act(&self, w: &mut World, k: usize, luck: Luck) {
        if luck != Luck::Good {
            w.faults -= 1;
        }
        let job = Job::clone(&w.jobs[k].take().expect("only busy workers act"));
        let next = match job.next.clone() {
            Decision::Wait { .. } => None,
            Decision::Commit(change) => self.commit(w, job, *change, luck),
            Decision::Ask(Query::Prepare) => Some((job, prepare(luck))),
            Decision::Ask(Query::Observe(id)) => {
                let seen = observe(w, id, luck);
                Some((job, seen))
            }
            Decision::Run(effect) => {
                let seen = self.run(w, &effect, luck);
                Some((job, seen))
            }
        }
        .map(|(mut job, seen)| {
            job.observations.extend(seen);
            (job.task, job.snapshot, job.observations)
        });
        if let Some((task, snapshot, observations)) = next {
            w.jobs[k] = decided(task, snapshot, observations, w.now);
        }
    }

    fn run(&self, w: &mut World, effect: &Effect, luck: Luck) -> Option<Observation> {
        let id = print::target(&effect.kind).clone();
        let (t, a) = w.find(&id);
        let s = &mut w.sessions[t][a];
        let failed =
            |retryable| Some(Observation::StartFailed { session: id.clone(), message: "no".to_owned(), retryable });
        match (&effect.kind, luck) {
            (EffectKind::StartSession { .. }, Luck::Bad) => failed(true),
            (EffectKind::StartSession { .. }, Luck::Worse) => failed(false),
            (EffectKind::StartSession { .. }, Luck::Good | Luck::Lost) => {
                if s.tomb && self.bounds.tombstones {
                    return failed(true);
                }
                if s.process == Process::No || (s.tomb && s.process == Process::Gone) {
                    s.process = Process::Up;
                    s.starts += 1;
                }
                if luck == Luck::Lost { failed(true) } else { Some(Observation::Started(id.clone())) }
            }
            (EffectKind::StopSession { .. }, Luck::Good) => {
                if self.guards.stop {
                    s.tomb = true;
                    s.process = Process::Gone;
                }
                Some(Observation::Stopped(id))
            }
            (EffectKind::StopSession { .. }, Luck::Bad | Luck::Worse | Luck::Lost) => {
                Some(Observation::StopFailed { session: id, message: "no".to_owned() })
            }
        }
    }

    fn commit(&self, w: &mut World, mut job: Job, change: Change, luck: Luck) -> Option<(Job, Option<Observation>)> {
        let t = job.task;
        let before = w.rows[t].clone();
        let expired = job.snapshot.epoch != before.snapshot().epoch;
        let stale = job.snapshot.revision != before.snapshot().revision;
        let epoch = if self.guards.fence { job.snapshot.epoch } else { before.snapshot().epoch };
        let expect_revision = if self.guards.cas { job.snapshot.revision } else { before.snapshot().revision };
        let commit_id = print::of(|h| {
            use std::hash::Hash;
            (job.snapshot.revision, job.snapshot.epoch).hash(h);
            print::decision(&job.next, h);
        });
        let now: Timestamp = at(job.decided);
        let commit = Commit {
            task: task_id(t),
            expect_revision,
            epoch,
            commit_id: u128::from(commit_id),
            change,
            lease: LeaseChange::Keep,
            now,
        };
        let others = w.rows.clone();
        let slots = Taken { rows: &others, cap: self.guards.cap };
        let verdict = w.rows[t].change(|row| {
            if !self.guards.idempotence {
                row.commits.clear();
            }
            row.commit(&commit, &slots)
        });
        let change = commit.change;
        match verdict {
            Err(_) => {
                w.note(Breach::RefusedChange);
                None
            }
            Ok(CommitVerdict::Fenced) => None,
            Ok(CommitVerdict::SlotDenied(scope)) => Some((job, Some(Observation::SlotDenied(scope)))),
            Ok(CommitVerdict::Stale) => {
                if job.applied {
                    w.note(Breach::OwnWordForgotten);
                }
                // As the driver: the same lease goes on from what is there now.
                job.observations.retain(keeps);
                job.snapshot = Arc::new(w.rows[t].snapshot().clone());
                Some((job, None))
            }
            Ok(CommitVerdict::AlreadyApplied) => {
                job.observations.clear();
                job.snapshot = Arc::new(w.rows[t].snapshot().clone());
                Some((job, None))
            }
            Ok(CommitVerdict::Applied(_)) => {
                self.applied(w, t, &before.row.snapshot, &change, (expired, stale));
                if luck == Luck::Lost {
                    job.applied = true;
                    job.seal();
                    let idle = w.jobs.iter().position(Option::is_none).expect("its own place is free");
                    w.jobs[idle] = Some(Arc::new(job));
                    return None;
                }
                job.observations.clear();
                job.snapshot = Arc::new(w.rows[t].snapshot().clone());
                Some((job, None))
            }
        }
    }

    fn applied(&self, w: &mut World, t: usize, before: &Snapshot, change: &Change, (expired, stale): (bool, bool)) {
        if expired {
            w.note(Breach::ExpiredWord);
        }
        if stale {
            w.note(Breach::StaleWord);
        }
        if before.task.status.is_terminal() {
            w.note(Breach::ChangedAfterEnd);
        }
        if apply(before, change) != *w.rows[t].snapshot() {
            w.note(Breach::LookedAheadWrongly);
        }
        if matches!(change.slots, SlotChange::Acquire(_)) {
            let order = w.rows[t].row.order;
            if w.rows.iter().any(|r| r.row.order < order && r.snapshot().task.status.is_waiting()) {
                w.note(Breach::Overtaken);
            }
        }
        if change.slots == SlotChange::Release && !self.guards.release {
            let held = before.held.clone();
            w.rows[t].change(|row| row.snapshot.held = held);
        }
        w.unconfirmed[t] |= change.events.iter().any(|e| e.metadata.contains_key("stop_unconfirmed"));
        w.ends[t] += change.events.iter().filter(|e| e.event_type.is_terminal()).count() as u8;
    }
}

fn keeps(o: &Observation) -> bool {
    match o {
        Observation::SlotDenied(_) | Observation::Seen { .. } | Observation::Unseen { .. } => false,
        Observation::Prepared(_)
        | Observation::PrepareFailed { .. }
        | Observation::Started(_)
        | Observation::StartFailed { .. }
        | Observation::Stopped(_)
        | Observation::StopFailed { .. } => true,
    }
}

/// What a worker does next; nothing when it waits.
fn decided(task: usize, snapshot: Arc<Snapshot>, observations: Vec<Observation>, now: u64) -> Option<Arc<Job>> {
    let next = decide(&snapshot, &observations, &backend(), at(now));
    if matches!(next, Decision::Wait { .. }) {
        return None;
    }
    let mut job = Job { task, snapshot, observations, next, decided: now, applied: false, print: 0 };
    job.seal();
    Some(Arc::new(job))
}

fn prepare(luck: Luck) -> Option<Observation> {
    let failure = || Failure::new(FailureReason::Preflight, "no");
    Some(match luck {
        Luck::Good => Observation::Prepared(Box::new(prepared())),
        Luck::Bad | Luck::Lost => Observation::PrepareFailed { failure: failure(), retryable: true },
        Luck::Worse => Observation::PrepareFailed { failure: failure(), retryable: false },
    })
}

fn observe(w: &World, id: SessionId, luck: Luck) -> Option<Observation> {
    let (t, a) = w.find(&id);
    if luck != Luck::Good {
        return Some(Observation::Unseen { session: id, message: "no".to_owned() });
    }
    let view = match w.sessions[t][a].process {
        Process::No => SessionView::Unknown,
        Process::Up | Process::Working => SessionView::Running { active_at: None },
        Process::Gone => SessionView::Exited { code: Some(0), signal: None, detail: None },
    };
    Some(Observation::Seen { session: id, view })
}
