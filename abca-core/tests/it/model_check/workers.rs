//! What workers do: the driver's loop around the real `decide`, cut at every point where somebody else may come in
//! between.

use std::hash::Hash;
use std::sync::Arc;

use abca_core::id::WorkerId;
use abca_core::store::{Commit, CommitVerdict, LeaseChange, Release, TaskRow};
use abca_core::task::{Change, Decision, Effect, EffectKind, Observation, Query, SlotChange, apply, decide};

use super::fixtures::{at, backend, task_id};
use super::jobs::{Job, Seen};
use super::machine::{Luck, Race};
use super::memory::Next;
use super::print;
use super::rows::{Others, Row, Taken};
use super::world::{Breach, Process, Told, World};

/// How else than well a step may go.
pub fn mishaps(next: &Decision) -> &'static [Luck] {
    match next {
        Decision::Wait { .. } => &[],
        Decision::Ask(Query::Prepare) => &[Luck::Bad, Luck::Worse],
        Decision::Ask(Query::Observe(_) | Query::Delivered(_)) => &[Luck::Bad],
        Decision::Run(Effect { kind: EffectKind::StartSession { .. }, .. }) => &[Luck::Bad, Luck::Worse, Luck::Lost],
        Decision::Run(Effect { kind: EffectKind::StopSession { .. }, .. }) => &[Luck::Bad],
        Decision::Commit(_) => &[Luck::Lost],
    }
}

/// What came of a commit.
#[derive(Debug)]
pub struct Committed {
    row: Row,
    next: Next,
    /// What the world is told by it.
    told: Told,
    /// It was applied, and took slots.
    took: bool,
    breach: Option<Breach>,
}

impl Race {
    pub fn claim(&self, w: &mut World, t: usize) {
        let stolen = if self.bounds.timers { w.is_held(t) && !w.rows[t].row.is_due(at(w.now)) } else { w.is_driven(t) };
        w.steals -= u8::from(stolen);
        let before = &w.rows[t];
        let (row, next) = self.memory.claims.get((before.id(), w.now), || {
            let mut row = TaskRow::clone(&before.row);
            row.claim(WorkerId::from_parts(at(0), 1), at(w.now + 1));
            let row = self.row(row);
            (row.clone(), self.decided(t, row, Vec::new(), w.now))
        });
        w.rows[t] = row;
        let idle = w.jobs.iter().position(Option::is_none).expect("a worker is idle");
        w.jobs[idle] = next;
    }

    pub fn act(&self, w: &mut World, k: usize, luck: Luck) {
        if luck != Luck::Good {
            w.faults -= 1;
        }
        let job = w.jobs[k].take().expect("only busy workers act");
        w.jobs[k] = match &job.next {
            Decision::Wait { .. } => {
                self.release(w, &job);
                None
            }
            Decision::Commit(change) => self.commit(w, &job, change, luck),
            Decision::Ask(Query::Prepare) => self.answered(&job, prepare(luck), w.now),
            Decision::Ask(Query::Observe(_)) => self.answered(&job, observe(w, &job, luck), w.now),
            Decision::Ask(Query::Delivered(_)) => {
                let seen = self.delivered(w, &job, luck);
                self.answered(&job, seen, w.now)
            }
            Decision::Run(effect) => {
                let seen = self.run(w, &job, &effect.kind, luck);
                self.answered(&job, seen, w.now)
            }
        };
    }

    /// A worker that waits gives its lease back, with the moment that it waits for.
    fn release(&self, w: &mut World, job: &Job) {
        let before = &w.rows[job.task];
        w.rows[job.task] = self.memory.releases.get((before.id(), job.id), || {
            let Decision::Wait { until: due } = job.next else { return before.clone() };
            let (read, now) = (job.row.snapshot(), before.snapshot());
            let epoch = if self.guards.fence { read.epoch } else { now.epoch };
            let expect_revision = if self.guards.timer { read.revision } else { now.revision };
            let mut row = TaskRow::clone(&before.row);
            row.release(&Release { task: task_id(job.task), epoch, expect_revision, due });
            self.row(row)
        });
    }

    /// As the driver: what would only wait after a commit gives the lease back with it.
    fn lease(&self, job: &Job, change: &Change) -> LeaseChange {
        if !self.bounds.timers {
            return LeaseChange::Keep;
        }
        let after = apply(job.row.snapshot(), change);
        match decide(&after, &[], &backend(), at(job.decided)) {
            Decision::Wait { until } => LeaseChange::Release { due: until },
            Decision::Ask(_) | Decision::Run(_) | Decision::Commit(_) => LeaseChange::Keep,
        }
    }

    /// What the forge shows, when it answers.
    fn delivered(&self, w: &mut World, job: &Job, luck: Luck) -> Seen {
        match luck {
            Luck::Good if self.guards.asks && w.sessions[job.task].iter().any(|s| s.proposed) => Seen::Proposed,
            Luck::Good => Seen::NothingProposed,
            Luck::Bad | Luck::Worse | Luck::Lost => {
                w.told[job.task].unanswered = true;
                Seen::NoAnswer
            }
        }
    }

    fn run(&self, w: &mut World, job: &Job, effect: &EffectKind, luck: Luck) -> Seen {
        let s = &mut w.sessions[job.task][job.about()];
        match (effect, luck) {
            (EffectKind::StartSession { .. }, Luck::Bad) => Seen::NotStarted { retryable: true },
            (EffectKind::StartSession { .. }, Luck::Worse) => Seen::NotStarted { retryable: false },
            (EffectKind::StartSession { .. }, Luck::Good | Luck::Lost) => {
                if s.tomb && self.bounds.tombstones {
                    return Seen::NotStarted { retryable: true };
                }
                if s.process == Process::No || (s.tomb && s.process == Process::Gone) {
                    s.process = Process::Up;
                    s.starts += 1;
                }
                if luck == Luck::Lost { Seen::NotStarted { retryable: true } } else { Seen::Started }
            }
            (EffectKind::StopSession { .. }, Luck::Good) => {
                if self.guards.stop && (self.guards.tombstone || s.process != Process::No) {
                    s.tomb = true;
                    s.process = Process::Gone;
                }
                Seen::Stopped
            }
            (EffectKind::StopSession { .. }, Luck::Bad | Luck::Worse | Luck::Lost) => Seen::NotStopped,
        }
    }

    fn commit(&self, w: &mut World, job: &Arc<Job>, change: &Change, luck: Luck) -> Next {
        let t = job.task;
        // Only who takes slots looks at what others have.
        let takes = matches!(change.slots, SlotChange::Acquire(_));
        let others = if takes { Others::of(&w.rows, t) } else { Others::default() };
        let key = (w.rows[t].id(), job.id, others, luck == Luck::Lost, w.now);
        let done =
            self.memory.commits.get(key, || Arc::new(self.committed(&w.rows[t], job, change, others, luck, w.now)));
        w.rows[t] = done.row.clone();
        w.told[t].add(done.told);
        if let Some(breach) = done.breach {
            w.note(breach);
        }
        if done.took && others.overtaken_by(&done.row) {
            w.note(Breach::Overtaken);
        }
        done.next.clone()
    }

    fn committed(&self, on: &Row, job: &Job, change: &Change, others: Others, luck: Luck, now: u64) -> Committed {
        let t = job.task;
        let (read, before) = (job.row.snapshot(), on.snapshot());
        let commit_id = print::of(|h| {
            (read.revision, read.epoch).hash(h);
            print::decision(&job.next, h);
        });
        let commit = Commit {
            task: task_id(t),
            expect_revision: if self.guards.cas { read.revision } else { before.revision },
            epoch: if self.guards.fence { read.epoch } else { before.epoch },
            commit_id: u128::from(commit_id),
            change: change.clone(),
            lease: self.lease(job, change),
            now: at(job.decided),
        };
        let mut row = TaskRow::clone(&on.row);
        if !self.guards.idempotence {
            row.commits.clear();
        }
        let verdict = row.commit(&commit, &Taken::new(others, &on.row, self.guards.cap));
        let looked_ahead = apply(before, change) == row.snapshot;
        let applied = matches!(verdict, Ok(CommitVerdict::Applied(_)));
        if applied && change.slots == SlotChange::Release && !self.guards.release {
            row.snapshot.held.clone_from(&before.held);
        }
        let row = self.row(row);
        let mut done = Committed { row: row.clone(), next: None, told: Told::default(), took: false, breach: None };
        // The same lease goes on from what is there now.
        let go_on = |observations| self.decided(t, row, observations, now);
        match verdict {
            Err(_) => done.breach = Some(Breach::RefusedChange),
            Ok(CommitVerdict::Fenced) => {}
            Ok(CommitVerdict::SlotDenied(scope)) => {
                let mut observations = job.observations.clone();
                observations.push(Observation::SlotDenied(scope));
                done.next = self.decided(t, job.row.clone(), observations, now);
            }
            Ok(CommitVerdict::Stale) => {
                done.breach = job.applied.then_some(Breach::OwnWordForgotten);
                done.next = go_on(job.observations.iter().filter(|o| keeps(o)).cloned().collect());
            }
            Ok(CommitVerdict::AlreadyApplied) if commit.lease != LeaseChange::Keep => {}
            Ok(CommitVerdict::AlreadyApplied) => done.next = go_on(Vec::new()),
            Ok(CommitVerdict::Applied(_)) => {
                done.took = matches!(change.slots, SlotChange::Acquire(_));
                done.told = Told::by(&before.task, change);
                let breaches = [
                    (read.epoch != before.epoch, Breach::ExpiredWord),
                    (read.revision != before.revision, Breach::StaleWord),
                    (before.task.status.is_terminal(), Breach::ChangedAfterEnd),
                    (!looked_ahead, Breach::LookedAheadWrongly),
                ];
                done.breach = breaches.into_iter().find(|(broken, _)| *broken).map(|(_, breach)| breach);
                if luck == Luck::Lost {
                    done.next = Some(self.memory.job(Job { applied: true, ..job.clone() }.seal()));
                } else if commit.lease == LeaseChange::Keep {
                    done.next = go_on(Vec::new());
                }
            }
        }
        done
    }
}

fn keeps(o: &Observation) -> bool {
    match o {
        Observation::SlotDenied(_)
        | Observation::Seen { .. }
        | Observation::Unseen { .. }
        | Observation::Delivered { .. } => false,
        Observation::Prepared(_)
        | Observation::PrepareFailed { .. }
        | Observation::Guarded(_)
        | Observation::Started(_)
        | Observation::StartFailed { .. }
        | Observation::Stopped(_)
        | Observation::StopFailed { .. } => true,
    }
}

const fn prepare(luck: Luck) -> Seen {
    match luck {
        Luck::Good => Seen::Prepared,
        Luck::Bad | Luck::Lost => Seen::Unprepared { retryable: true },
        Luck::Worse => Seen::Unprepared { retryable: false },
    }
}

fn observe(w: &World, job: &Job, luck: Luck) -> Seen {
    if luck != Luck::Good {
        return Seen::NoSight;
    }
    match w.sessions[job.task][job.about()].process {
        Process::No => Seen::Unknown,
        Process::Up | Process::Working => Seen::Running,
        Process::Gone => Seen::Exited,
    }
}
