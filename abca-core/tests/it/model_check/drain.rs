//! From any state, with all workers gone but one and nobody saying a word: does time alone end every task?

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use abca_core::compute::SessionView;
use abca_core::store::{CommitVerdict, LeaseChange, TaskRow};
use abca_core::task::{Decision, Delivery, EffectKind, Failure, FailureReason, Observation, Query, decide};

use super::fixtures::{at, backend, prepared, task_id};
use super::machine::Race;
use super::print;
use super::rows::{Others, Row, Taken};
use super::sessions::session;
use super::world::{ATTEMPTS, Process, Session, World};

/// Decisions in a row without waiting: more is a circle.
const FUSE: usize = 40;

/// Remembers what it has seen come to its end.
#[derive(Debug, Default)]
pub struct Drain {
    seen: Mutex<HashSet<u64>>,
}

impl Drain {
    /// Whether every task comes to its end, with a backend that works, and with one that answers nothing but errors.
    pub fn ends(&self, model: &Race, w: &World) -> bool {
        let gone = Gone::of(w);
        let key = key(&w.rows, &gone, w.now, None);
        let seen = || self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen().contains(&key) {
            return true;
        }
        let ends = self.end(model, w, &gone, true) && self.end(model, w, &gone, false);
        if ends {
            seen().insert(key);
        }
        ends
    }

    fn end(&self, model: &Race, w: &World, gone: &Gone, kind: bool) -> bool {
        let seen = || self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rows = w.rows.clone();
        let mut way = Vec::new();
        for now in w.now..w.now + 20 {
            let key = key(&rows, gone, now, Some(kind));
            if rows.iter().all(Row::is_terminal) || seen().contains(&key) {
                seen().extend(way);
                return true;
            }
            way.push(key);
            for t in 0..rows.len() {
                let (row, gone, others) = (rows[t].print(), gone.0[t], Others::of(&rows, t));
                let task = Drive { task: t, row, now, kind, gone, others };
                match model.memory.drives.get(task, || task.drive(model, &rows[t].row)) {
                    Some(row) => rows[t] = row,
                    None => return false,
                }
            }
        }
        false
    }
}

/// What it depends on how far time alone brings a task, whose row is told by its fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Drive {
    task: usize,
    row: u64,
    now: u64,
    /// The backend works.
    kind: bool,
    /// Which sessions are over.
    gone: u8,
    others: Others,
}

/// Which sessions are over, by task: bits by attempt.
struct Gone(Vec<u8>);

impl Gone {
    fn of(w: &World) -> Self {
        let bits = |s: &[Session]| {
            s.iter().enumerate().fold(0, |bits, (a, s)| bits | u8::from(s.process == Process::Gone) << a)
        };
        Self(w.sessions.iter().map(|s| bits(s)).collect())
    }
}

/// All that the end depends on; of which kind of backend, or of both.
fn key(rows: &[Row], gone: &Gone, now: u64, kind: Option<bool>) -> u64 {
    print::of(|h| {
        (kind, now, &gone.0).hash(h);
        rows.iter().for_each(|r| r.print().hash(h));
    })
}

impl Drive {
    /// Drives a task until it waits; nothing when it runs in a circle, waits for nothing, or wants what may not be.
    fn drive(self, model: &Race, row: &TaskRow) -> Option<Row> {
        let Self { task: t, now, kind, gone, others, .. } = self;
        let mut row = row.clone();
        let mut seen = Vec::new();
        for _ in 0..FUSE {
            match decide(&row.snapshot, &seen, &backend(), at(now)) {
                Decision::Wait { until } => {
                    let waits = until.map_or_else(|| row.is_terminal(), |until| until > at(now) && !row.is_terminal());
                    return waits.then(|| model.detail().row(row));
                }
                Decision::Ask(Query::Prepare) => seen.push(if kind {
                    Observation::Prepared(Box::new(prepared()))
                } else {
                    let failure = Failure::new(FailureReason::Preflight, "no");
                    Observation::PrepareFailed { failure, retryable: true }
                }),
                Decision::Ask(Query::Observe(id)) => {
                    let over = (0..ATTEMPTS).any(|a| session(t, a) == id && gone >> a & 1 != 0);
                    seen.push(match (kind, over) {
                        (false, _) => Observation::Unseen { session: id, message: "no".to_owned() },
                        (true, false) => {
                            Observation::Seen { session: id, view: SessionView::Running { active_at: None } }
                        }
                        (true, true) => Observation::Seen {
                            session: id,
                            view: SessionView::Exited { code: None, signal: None, detail: None },
                        },
                    });
                }
                // The forge is away: nobody waits for it for ever.
                Decision::Ask(Query::Delivered(session)) => {
                    seen.push(Observation::Delivered {
                        session,
                        delivery: Delivery::NoAnswer { message: "no".to_owned() },
                    });
                }
                Decision::Run(effect) => seen.push(match (effect.kind, kind) {
                    (EffectKind::StartSession { session, .. }, true) => Observation::Started(session),
                    (EffectKind::StartSession { session, .. }, false) => {
                        Observation::StartFailed { session, message: "no".to_owned(), retryable: true }
                    }
                    (EffectKind::StopSession { session, .. }, true) => Observation::Stopped(session),
                    (EffectKind::StopSession { session, .. }, false) => {
                        Observation::StopFailed { session, message: "no".to_owned() }
                    }
                }),
                Decision::Commit(change) => {
                    let commit = abca_core::store::Commit {
                        task: task_id(t),
                        expect_revision: row.snapshot.revision,
                        epoch: row.snapshot.epoch,
                        commit_id: u128::from(row.snapshot.revision) << 64,
                        change: *change,
                        lease: LeaseChange::Keep,
                        now: at(now),
                    };
                    let slots = Taken::new(others, &row, model.guards.cap);
                    match row.commit(&commit, &slots) {
                        Ok(CommitVerdict::Applied(_)) => seen.clear(),
                        Ok(CommitVerdict::SlotDenied(scope)) => seen.push(Observation::SlotDenied(scope)),
                        Ok(CommitVerdict::AlreadyApplied | CommitVerdict::Stale | CommitVerdict::Fenced) | Err(_) => {
                            return None;
                        }
                    }
                }
            }
        }
        None
    }
}
