//! What workers do: the driver's loop around the real `decide`, cut at every point where somebody else may come in
//! between.

use std::hash::Hash;
use std::sync::Arc;

use abca_core::compute::SessionView;
use abca_core::id::WorkerId;
use abca_core::store::{Commit, CommitVerdict, LeaseChange, Release};
use abca_core::task::{
    Change, Decision, Delivery, Effect, EffectKind, Failure, FailureReason, Observation, Query, SlotChange, Snapshot,
    TaskStatus, Verdict, apply, decide,
};
use abca_core::{SessionId, Timestamp};

use super::fixtures::{at, backend, prepared, report, task_id};
use super::machine::{Luck, Race};
use super::print;
use super::world::{Breach, Job, Process, Row, Taken, World};

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

impl Race {
    pub fn claim(&self, w: &mut World, t: usize) {
        let stolen = if self.bounds.timers { w.is_held(t) && !w.rows[t].row.is_due(at(w.now)) } else { w.is_driven(t) };
        w.steals -= u8::from(stolen);
        w.rows[t].change(|row| row.claim(WorkerId::from_parts(at(0), 1), at(w.now + 1)));
        let snapshot = Arc::new(w.rows[t].snapshot().clone());
        let idle = w.jobs.iter().position(Option::is_none).expect("a worker is idle");
        w.jobs[idle] = self.decided(t, snapshot, Vec::new(), w.now);
    }

    pub fn act(&self, w: &mut World, k: usize, luck: Luck) {
        if luck != Luck::Good {
            w.faults -= 1;
        }
        let job = Job::clone(&w.jobs[k].take().expect("only busy workers act"));
        let next = match job.next.clone() {
            Decision::Wait { until } => {
                self.release(w, &job, until);
                None
            }
            Decision::Commit(change) => self.commit(w, job, *change, luck),
            Decision::Ask(Query::Prepare) => Some((job, prepare(luck))),
            Decision::Ask(Query::Observe(id)) => {
                let seen = observe(w, id, luck);
                Some((job, seen))
            }
            Decision::Ask(Query::Delivered(id)) => {
                let seen = self.delivered(w, id, luck);
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
            w.jobs[k] = self.decided(task, snapshot, observations, w.now);
        }
    }

    /// What a worker does next; nothing when it waits, and giving a lease back is not looked at.
    fn decided(
        &self,
        task: usize,
        snapshot: Arc<Snapshot>,
        observations: Vec<Observation>,
        now: u64,
    ) -> Option<Arc<Job>> {
        let next = decide(&snapshot, &observations, &backend(), at(now));
        if matches!(next, Decision::Wait { .. }) && !self.bounds.timers {
            return None;
        }
        let mut job = Job { task, snapshot, observations, next, decided: now, applied: false, print: 0 };
        job.seal();
        Some(Arc::new(job))
    }

    /// A worker that waits gives its lease back, with the moment that it waits for.
    fn release(&self, w: &mut World, job: &Job, due: Option<Timestamp>) {
        let now = w.rows[job.task].snapshot();
        let epoch = if self.guards.fence { job.snapshot.epoch } else { now.epoch };
        let expect_revision = if self.guards.timer { job.snapshot.revision } else { now.revision };
        let release = Release { task: task_id(job.task), epoch, expect_revision, due };
        w.rows[job.task].change(|row| row.release(&release));
    }

    /// As the driver: what would only wait after a commit gives the lease back with it.
    fn lease(&self, job: &Job, change: &Change) -> LeaseChange {
        let after = apply(&job.snapshot, change);
        match decide(&after, &[], &backend(), at(job.decided)) {
            Decision::Wait { until } if self.bounds.timers => LeaseChange::Release { due: until },
            Decision::Wait { .. } | Decision::Ask(_) | Decision::Run(_) | Decision::Commit(_) => LeaseChange::Keep,
        }
    }

    /// What the forge shows, when it answers.
    fn delivered(&self, w: &mut World, session: SessionId, luck: Luck) -> Option<Observation> {
        let (t, _) = w.find(&session);
        let proposed = self.guards.asks && w.sessions[t].iter().any(|s| s.proposed);
        let delivery = match luck {
            Luck::Good if proposed => Delivery::Proposed(Box::new(report(Verdict::Succeeded))),
            Luck::Good => Delivery::Nothing,
            Luck::Bad | Luck::Worse | Luck::Lost => {
                w.unanswered[t] = true;
                Delivery::NoAnswer { message: "no".to_owned() }
            }
        };
        Some(Observation::Delivered { session, delivery })
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
                if self.guards.stop && (self.guards.tombstone || s.process != Process::No) {
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
            (job.snapshot.revision, job.snapshot.epoch).hash(h);
            print::decision(&job.next, h);
        });
        let lease = self.lease(&job, &change);
        let commit = Commit {
            task: task_id(t),
            expect_revision,
            epoch,
            commit_id: u128::from(commit_id),
            change,
            lease,
            now: at(job.decided),
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
            Ok(CommitVerdict::AlreadyApplied) if lease != LeaseChange::Keep => None,
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
                if lease != LeaseChange::Keep {
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
            let shares = |r: &Row| *r.row.user() == before.task.user;
            let waits = |r: &Row| r.row.order < order && r.snapshot().task.status.is_waiting();
            if w.rows.iter().any(|r| shares(r) && waits(r)) {
                w.note(Breach::Overtaken);
            }
        }
        if change.slots == SlotChange::Release && !self.guards.release {
            let held = before.held.clone();
            w.rows[t].change(|row| row.snapshot.held = held);
        }
        let asks = change.task.status == TaskStatus::AwaitingApproval && before.task.status != change.task.status;
        w.asks[t] += u8::from(asks);
        w.inferred[t] |= change.task.inferred.is_some();
        w.unconfirmed[t] |= change.events.iter().any(|e| e.metadata.contains_key("stop_unconfirmed"));
        w.ends[t] += change.events.iter().filter(|e| e.event_type.is_terminal()).count() as u8;
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
        | Observation::Started(_)
        | Observation::StartFailed { .. }
        | Observation::Stopped(_)
        | Observation::StopFailed { .. } => true,
    }
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
