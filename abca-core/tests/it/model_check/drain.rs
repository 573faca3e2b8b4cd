//! From any state, with all workers gone but one and nobody saying a word: does time alone end every task?

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use abca_core::compute::SessionView;
use abca_core::store::{CommitVerdict, LeaseChange};
use abca_core::task::{Decision, Delivery, EffectKind, Failure, FailureReason, Observation, Query, decide};

use super::fixtures::{at, backend, prepared, task_id};
use super::machine::Race;
use super::print;
use super::world::{Process, Row, Taken, World};

/// Decisions in a row without waiting: more is a circle.
const FUSE: usize = 40;

/// Remembers which rows it has seen come to their end.
#[derive(Debug, Default)]
pub struct Drain {
    seen: Mutex<HashSet<u64>>,
}

impl Drain {
    /// Whether every task comes to its end, with a backend that works, and with one that answers nothing but errors.
    pub fn ends(&self, model: &Race, w: &World) -> bool {
        self.end(model, w, true) && self.end(model, w, false)
    }

    fn end(&self, model: &Race, w: &World, kind: bool) -> bool {
        let seen = || self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rows = w.rows.clone();
        let mut way = Vec::new();
        for now in w.now..w.now + 20 {
            let key = print::of(|h| {
                (kind, now).hash(h);
                rows.iter().for_each(|r| r.print().hash(h));
                w.sessions.iter().flatten().for_each(|s| s.process.hash(h));
            });
            if rows.iter().all(|r| r.row.is_terminal()) || seen().contains(&key) {
                seen().extend(way);
                return true;
            }
            way.push(key);
            if !(0..rows.len()).all(|t| drive(model, w, &mut rows, t, now, kind)) {
                return false;
            }
        }
        false
    }
}

/// Drives a task until it waits; `false` when it runs in a circle, waits for nothing, or wants what may not be.
fn drive(model: &Race, w: &World, rows: &mut [Row], t: usize, now: u64, kind: bool) -> bool {
    let mut seen = Vec::new();
    for _ in 0..FUSE {
        match decide(rows[t].snapshot(), &seen, &backend(), at(now)) {
            Decision::Wait { until: None } => return rows[t].row.is_terminal(),
            Decision::Wait { until: Some(until) } => return until > at(now) && !rows[t].row.is_terminal(),
            Decision::Ask(Query::Prepare) => seen.push(if kind {
                Observation::Prepared(Box::new(prepared()))
            } else {
                let failure = Failure::new(FailureReason::Preflight, "no");
                Observation::PrepareFailed { failure, retryable: true }
            }),
            Decision::Ask(Query::Observe(session)) => {
                let (t, a) = w.find(&session);
                let gone = w.sessions[t][a].process == Process::Gone;
                seen.push(match (kind, gone) {
                    (false, _) => Observation::Unseen { session, message: "no".to_owned() },
                    (true, false) => Observation::Seen { session, view: SessionView::Running { active_at: None } },
                    (true, true) => Observation::Seen {
                        session,
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
                let s = rows[t].snapshot();
                let commit = abca_core::store::Commit {
                    task: task_id(t),
                    expect_revision: s.revision,
                    epoch: s.epoch,
                    commit_id: u128::from(s.revision) << 64,
                    change: *change,
                    lease: LeaseChange::Keep,
                    now: at(now),
                };
                let others = rows.to_vec();
                let slots = Taken { rows: &others, cap: model.guards.cap };
                match rows[t].change(|row| row.commit(&commit, &slots)) {
                    Ok(CommitVerdict::Applied(_)) => seen.clear(),
                    Ok(CommitVerdict::SlotDenied(scope)) => seen.push(Observation::SlotDenied(scope)),
                    Ok(CommitVerdict::AlreadyApplied | CommitVerdict::Stale | CommitVerdict::Fenced) | Err(_) => {
                        return false;
                    }
                }
            }
        }
    }
    false
}
