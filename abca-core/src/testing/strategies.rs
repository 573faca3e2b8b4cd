//! Proptest strategies: tasks, signals, faults, and whole histories of calls.
//!
//! Needs the feature `proptest` of `abca-core`. Everything generated is valid: what a store must refuse is for the
//! conformance suite ([`super::store`]) to try.
//!
//! A history is data ([`Step`]), so that proptest shortens a failing one; [`play`] carries it out on a store and answers
//! what was answered, step by step, for comparison with another store's answers.

use proptest::prelude::*;

use super::faults::{Mishap, Rates};
use super::fixtures;
use crate::id::TaskId;
use crate::store::{Append, ClaimQuery, LeaseChange, Release, Renewal, Submit, TaskStore};
use crate::task::{Cause, SessionPhase, SignalKind, SlotLimit, Snapshot, Task, TaskStatus, Transition, Verdict};
use crate::time::{Millis, Timestamp};

/// Tasks `1..=most` of two users, with none, one or two slots, at caps from 1 to 3.
pub fn task(most: u64) -> impl Strategy<Value = Task> {
    (1..=most, prop::bool::ANY, slots()).prop_map(|(n, bob, slots)| {
        let mut task = fixtures::task_with_slots(n, slots);
        task.user = fixtures::user(if bob { "bob" } else { "ann" });
        task
    })
}

/// Slots that a task needs: of its user, first in first out; of the system, without order.
pub fn slots() -> impl Strategy<Value = Vec<SlotLimit>> {
    let user = (1u32..=3).prop_map(|cap| fixtures::limit("user", cap, true));
    let system = (1u32..=3).prop_map(|cap| fixtures::limit("system", cap, false));
    (prop::option::weighted(0.7, user), prop::option::weighted(0.3, system))
        .prop_map(|(user, system)| user.into_iter().chain(system).collect())
}

/// Whatever people may say to a task.
pub fn signal() -> impl Strategy<Value = SignalKind> {
    prop_oneof![
        2 => "[a-z]{1,8}".prop_map(|by| SignalKind::Cancel { by }),
        3 => "\\PC{1,40}".prop_map(|message| SignalKind::Nudge { message }),
        1 => Just(SignalKind::UploadsConfirmed),
        1 => prop::bool::ANY.prop_map(|approved| fixtures::decided("gate", approved)),
    ]
}

/// What a session reports.
pub fn verdict() -> impl Strategy<Value = Verdict> {
    prop::sample::select(vec![Verdict::Succeeded, Verdict::NothingToDo, Verdict::Failed, Verdict::Cancelled])
}

/// Rates of mishaps, each up to `most` of a thousand calls, some of them never.
pub fn rates(most: u64) -> impl Strategy<Value = Rates> {
    prop::collection::vec(prop::option::of(0..=most), Mishap::ALL.len()).prop_map(|rates| {
        let each = Mishap::ALL.into_iter().zip(rates);
        each.fold(Rates::none(), |all, (mishap, rate)| rate.map_or(all.clone(), |rate| all.with(mishap, rate)))
    })
}

/// One call of a history. What it acts on is named by number, and resolved when it is played.
#[derive(Debug, Clone)]
pub enum Step {
    /// A task is submitted; again, where it was before.
    Submit(Box<Task>),
    /// A worker claims, its clock showing so many milliseconds after [`fixtures::at`]`(0)`.
    Claim {
        /// Which worker.
        worker: u64,
        /// What its clock shows.
        now_ms: u64,
        /// At most so many.
        limit: usize,
    },
    /// Whoever holds the task takes its next step along the table; with an older snapshot or an older lease, where so said.
    Commit {
        /// Which task.
        task: u64,
        /// Which of the possible steps.
        way: usize,
        /// How many revisions ago the snapshot was taken.
        stale: u64,
        /// How many claims ago the lease was given.
        expired: u64,
        /// The lease is given back, due after so long.
        release_ms: Option<u64>,
    },
    /// The last commit of the task is sent again.
    Again {
        /// Which task.
        task: u64,
    },
    /// A signal arrives; the same number twice is the same signal.
    Signal {
        /// Which task.
        task: u64,
        /// Names the signal.
        id: u8,
        /// What it says.
        kind: SignalKind,
    },
    /// The task's session writes to the log, or one that is not its own.
    Append {
        /// Which task.
        task: u64,
        /// The attempt that the session says it is of.
        attempt: u32,
    },
    /// The lease is extended.
    Renew {
        /// Which task.
        task: u64,
        /// How many claims ago the lease was given.
        expired: u64,
    },
    /// The lease is given back.
    Release {
        /// Which task.
        task: u64,
        /// How many claims ago the lease was given.
        expired: u64,
        /// When it is due next.
        due_ms: Option<u64>,
    },
}

/// Histories of at most `length` steps over at most `tasks` tasks.
pub fn history(tasks: u64, length: usize) -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(tasks), 1..=length)
}

fn step(tasks: u64) -> impl Strategy<Value = Step> {
    let n = 1..=tasks;
    let seldom = || prop_oneof![6 => Just(0u64), 1 => 1u64..3];
    let later = || prop::option::of(0u64..100_000);
    prop_oneof![
        3 => task(tasks).prop_map(|task| Step::Submit(Box::new(task))),
        4 => (1u64..4, 0u64..200_000, 1usize..5).prop_map(|(worker, now_ms, limit)| Step::Claim { worker, now_ms, limit }),
        8 => (n.clone(), 0usize..8, seldom(), seldom(), later())
            .prop_map(|(task, way, stale, expired, release_ms)| Step::Commit { task, way, stale, expired, release_ms }),
        1 => n.clone().prop_map(|task| Step::Again { task }),
        3 => (n.clone(), 0u8..6, signal()).prop_map(|(task, id, kind)| Step::Signal { task, id, kind }),
        2 => (n.clone(), 0u32..3).prop_map(|(task, attempt)| Step::Append { task, attempt }),
        1 => (n.clone(), seldom()).prop_map(|(task, expired)| Step::Renew { task, expired }),
        2 => (n, seldom(), later()).prop_map(|(task, expired, due_ms)| Step::Release { task, expired, due_ms }),
    ]
}

/// Plays a history on an empty store; answers each step's outcome in words, and at the end every task as it is.
///
/// Two stores that keep the contract of [`TaskStore`] answer the same to the same history: play one on yours and one on
/// [`crate::store::StoreModel`] (`abca_store::InProcess` is that as a store), and compare.
pub async fn play(store: &dyn TaskStore, history: &[Step]) -> Vec<String> {
    let mut answers = Vec::new();
    let mut last = std::collections::BTreeMap::new();
    for step in history {
        answers.push(one(store, step, &mut last).await);
    }
    for n in 0..=u64::from(u8::MAX) {
        if let Some(snapshot) = current(store, n).await {
            answers.push(format!("{snapshot:?}"));
        }
    }
    answers.push(format!("{:?} {:?}", store.slots().await, store.next_due().await));
    answers
}

async fn current(store: &dyn TaskStore, n: u64) -> Option<Snapshot> {
    store.load(&[fixtures::task_id(n)]).await.ok()?.pop().flatten()
}

async fn one(
    store: &dyn TaskStore,
    step: &Step,
    last: &mut std::collections::BTreeMap<TaskId, crate::store::Commit>,
) -> String {
    let id = fixtures::task_id;
    match step {
        Step::Submit(task) => {
            let submit =
                Submit { payload_hash: format!("{:?}", task.spec.limits.slots), ..fixtures::submit((**task).clone()) };
            format!("{:?}", store.submit(&[submit]).await)
        }
        Step::Claim { worker, now_ms, limit } => {
            let now = fixtures::at(*now_ms);
            let query =
                ClaimQuery { lease_until: now.after(Millis::secs(30)), ..fixtures::claim(*worker, now, *limit) };
            format!("{:?}", store.claim(&query).await)
        }
        Step::Commit { task, way, stale, expired, release_ms } => {
            let Some(snapshot) = current(store, *task).await else { return "no task".to_owned() };
            let now = snapshot.task.updated_at.after(Millis(1));
            let Some(change) = way_of(&snapshot, *way, now) else { return "no way".to_owned() };
            let mut commit = fixtures::commit(&snapshot, change, *way as u64);
            commit.expect_revision = commit.expect_revision.saturating_sub(*stale);
            commit.epoch = commit.epoch.saturating_sub(*expired);
            if let Some(ms) = release_ms {
                commit.lease = LeaseChange::Release { due: Some(now.after(Millis(*ms))) };
            }
            let answer = store.commit(std::slice::from_ref(&commit)).await;
            last.insert(commit.task, commit);
            format!("{answer:?}")
        }
        Step::Again { task } => match last.get(&id(*task)) {
            Some(commit) => format!("{:?}", store.commit(std::slice::from_ref(commit)).await),
            None => "no commit".to_owned(),
        },
        Step::Signal { task, id: name, kind } => {
            let signal = fixtures::signal(id(*task), &format!("s{name}"), kind.clone(), fixtures::at(u64::from(*name)));
            format!("{:?}", store.signal(&[signal]).await)
        }
        Step::Append { task, attempt } => {
            let session = crate::id::SessionId::of(id(*task), *attempt);
            let len = store
                .log(&crate::store::LogQuery { task: id(*task), after: 0, limit: 1_000 })
                .await
                .map_or(0, |l| l.len());
            let append = Append {
                task: id(*task),
                records: vec![fixtures::record(&session, len as u64)],
                session,
                expect_seq: len as u64 + 1,
                events: Vec::new(),
                now: fixtures::at(len as u64),
            };
            format!("{:?}", store.append(&[append]).await)
        }
        Step::Renew { task, expired } => {
            let epoch = current(store, *task).await.map_or(0, |s| s.epoch).saturating_sub(*expired);
            let lease_until = fixtures::at(150_000);
            format!("{:?}", store.renew(&[Renewal { task: id(*task), epoch, lease_until }]).await)
        }
        Step::Release { task, expired, due_ms } => {
            let snapshot = current(store, *task).await;
            let (epoch, expect_revision) = snapshot.map_or((0, 0), |s| (s.epoch, s.revision));
            let due = due_ms.map(fixtures::at);
            let release = Release { task: id(*task), epoch: epoch.saturating_sub(*expired), expect_revision, due };
            format!("{:?}", store.release(&[release]).await)
        }
    }
}

/// One of the changes that are possible from here: a note, the start of a session, or a row of the table.
fn way_of(snapshot: &Snapshot, way: usize, now: Timestamp) -> Option<crate::task::Change> {
    let status = snapshot.task.status;
    if status.is_terminal() {
        return None;
    }
    let live = snapshot.task.session.as_ref().is_some_and(|s| s.phase == SessionPhase::Live);
    let starting = snapshot.task.session.as_ref().is_some_and(|s| s.phase == SessionPhase::Starting);
    let mut ways = vec![fixtures::note(snapshot, now)];
    if status == TaskStatus::Hydrating && !starting && !live {
        ways.push(fixtures::start_intent(snapshot, now));
    }
    if status == TaskStatus::Hydrating && starting {
        ways.push(fixtures::running(snapshot, now));
    }
    let rows = crate::task::TRANSITIONS.iter().filter(|t: &&Transition| t.from == status);
    // A session's own steps are those above; nobody goes back to an earlier attempt here.
    let rows = rows.filter(|t| t.to != TaskStatus::Running && t.cause != Cause::SessionLostRetry);
    for row in rows {
        let mut change = fixtures::step(snapshot, row.to, row.cause, now);
        if row.to.is_terminal() {
            change.consumed = snapshot.signals.iter().map(|s| s.id.clone()).collect();
        }
        ways.push(change);
    }
    let at = way % ways.len();
    Some(ways.swap_remove(at))
}
