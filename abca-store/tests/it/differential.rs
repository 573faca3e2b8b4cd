//! Random sequences of calls on a store and on the model: equal answers, and equal contents at the end.

use std::collections::BTreeMap;
use std::sync::Arc;

use abca_core::TaskId;
use abca_core::event::{EventType, NewEvent};
use abca_core::id::{EventSeq, IdempotencyKey, SessionId};
use abca_core::store::{
    Append, Burial, ClaimQuery, Commit, EventQuery, FeedCursor, FeedQuery, LeaseChange, ListQuery, LogQuery, Release,
    Renewal, StoreError, StoreModel, Submit, TaskStore,
};
use abca_core::task::{Cause, Change, SlotLimit, Snapshot, TaskStatus, Transition};
use abca_core::testing::fixtures::{
    at, claim, commit, limit, note, nudge, record, registration, running, start_intent, step, submit, task, task_id,
    user,
};
use abca_core::testing::store::StoreHarness;
use proptest::prelude::*;

const TASKS: u64 = 7;

#[derive(Debug, Clone)]
pub(super) enum Op {
    Submit { n: u64, key: Option<u8>, payload: u8, needs: u8, due: u64 },
    Claim { now: u64, limit: usize, named: Option<u64>, signalled: bool },
    Expire { worker: u64, now: u64 },
    Commit { picks: Vec<Pick> },
    Renew { n: u64, old: bool, until: u64 },
    Release { n: u64, old: bool, due: Option<u64> },
    Signal { n: u64, id: u8, guarded: bool },
    Append { n: u64, back: u64, forward: u64, count: u64, same: bool },
    Heartbeat { n: u64, attempt: u32, now: u64 },
    Bury { n: u64, old: bool, now: u64 },
    Revive { n: u64, now: u64 },
    Discard { n: u64, now: u64 },
    Purge { before: u64, limit: usize },
    Reopen,
}

#[derive(Debug, Clone)]
pub(super) struct Pick {
    n: u64,
    what: What,
    salt: u64,
    stale: bool,
    fenced: bool,
    due: Option<Option<u64>>,
    now: u64,
}

#[derive(Debug, Clone, Copy)]
enum What {
    Note,
    Greedy,
    Step(TaskStatus, Cause),
    Start,
    Run,
}

pub(super) fn op() -> impl Strategy<Value = Op> {
    let n = 1..=TASKS;
    let what = prop_oneof![
        2 => Just(What::Note),
        1 => Just(What::Greedy),
        6 => Just(What::Step(TaskStatus::Hydrating, Cause::Admitted)),
        4 => Just(What::Step(TaskStatus::Queued, Cause::SlotDenied)),
        2 => Just(What::Step(TaskStatus::Cancelled, Cause::Cancelled)),
        2 => Just(What::Step(TaskStatus::Completed, Cause::SessionEnded)),
        1 => Just(What::Step(TaskStatus::TimedOut, Cause::DeadlinePassed)),
        3 => Just(What::Start),
        3 => Just(What::Run),
    ];
    let rarely = || prop::bool::weighted(0.08);
    let due = prop::option::of(prop::option::of(0..300u64));
    let pick = (n.clone(), what, 0..3u64, rarely(), rarely(), due, 0..300u64)
        .prop_map(|(n, what, salt, stale, fenced, due, now)| Pick { n, what, salt, stale, fenced, due, now });
    prop_oneof![
        4 => (n.clone(), prop::option::of(0..3u8), 0..2u8, 0..4u8, 0..200u64)
            .prop_map(|(n, key, payload, needs, due)| Op::Submit { n, key, payload, needs, due }),
        6 => (0..400u64, 0..4usize, prop::option::of(n.clone()), prop::bool::weighted(0.2))
            .prop_map(|(now, limit, named, signalled)| Op::Claim { now, limit, named, signalled }),
        1 => (0..5u64, 0..400u64).prop_map(|(worker, now)| Op::Expire { worker, now }),
        12 => prop::collection::vec(pick, 1..4).prop_map(|picks| Op::Commit { picks }),
        1 => (n.clone(), rarely(), 0..900u64).prop_map(|(n, old, until)| Op::Renew { n, old, until }),
        3 => (n.clone(), rarely(), prop::option::of(0..300u64)).prop_map(|(n, old, due)| Op::Release { n, old, due }),
        4 => (n.clone(), 0..5u8, prop::bool::ANY).prop_map(|(n, id, guarded)| Op::Signal { n, id, guarded }),
        3 => (n.clone(), 0..3u64, 0..8u64, 0..3u64, prop::bool::ANY)
            .prop_map(|(n, back, f, count, same)| Op::Append { n, back, forward: u64::from(f == 0), count, same }),
        1 => (n, 0..3u32, 0..300u64).prop_map(|(n, attempt, now)| Op::Heartbeat { n, attempt, now }),
        1 => Just(Op::Reopen),
    ]
}

/// As [`op`], with what operators do.
pub(super) fn op_of_operators() -> impl Strategy<Value = Op> {
    let n = 1..=TASKS;
    prop_oneof![
        30 => op(),
        1 => (n.clone(), prop::bool::weighted(0.08), 0..300u64).prop_map(|(n, old, now)| Op::Bury { n, old, now }),
        1 => (n.clone(), 0..300u64).prop_map(|(n, now)| Op::Revive { n, now }),
        1 => (n, 0..300u64).prop_map(|(n, now)| Op::Discard { n, now }),
        1 => (0..300u64, 0..3usize).prop_map(|(before, limit)| Op::Purge { before, limit }),
    ]
}

fn needs(kind: u8, name: &str) -> Vec<SlotLimit> {
    match kind {
        0 => vec![],
        1 => vec![limit(&format!("user:{name}"), 1, true)],
        2 => vec![limit(&format!("user:{name}"), 2, true), limit("system", 2, false)],
        _ => vec![limit("system", 1, false), limit("repo", 1, true)],
    }
}

fn owner(n: u64) -> &'static str {
    ["ann", "bob", "cid"][(n % 3) as usize]
}

fn new_task(n: u64, key: Option<u8>, payload: u8, kind: u8, due: u64) -> Submit {
    let mut task = task(n);
    task.user = user(owner(n));
    task.idempotency_key = key.map(|k| IdempotencyKey::new(format!("k{k}")).unwrap());
    task.spec.limits.slots = needs(kind, owner(n));
    if n == 1 {
        task.status = TaskStatus::PendingUploads;
    }
    Submit { payload_hash: format!("p{payload}"), due_at: at(due), ..submit(task) }
}

/// The change that is asked for, where the table allows it.
fn change(s: &Snapshot, what: What, now: u64) -> Change {
    let now = at(now);
    let possible = |to, cause| Transition::find(s.task.status, to, cause).is_some();
    match what {
        What::Step(TaskStatus::Hydrating, _) if possible(TaskStatus::Submitted, Cause::UploadsConfirmed) => {
            step(s, TaskStatus::Submitted, Cause::UploadsConfirmed, now)
        }
        What::Step(to, cause) if possible(to, cause) => step(s, to, cause, now),
        What::Start if s.task.status == TaskStatus::Hydrating && s.owed.is_empty() => start_intent(s, now),
        What::Run if possible(TaskStatus::Running, Cause::SessionRegistered) => running(s, now),
        What::Greedy => {
            let mut change = note(s, now);
            change.slots = abca_core::task::SlotChange::Acquire(vec![limit("backend", 1, false)]);
            change
        }
        What::Step(..) | What::Start | What::Run | What::Note => note(s, now),
    }
}

/// What two stores are compared by: errors by their kind and words.
fn plain<T>(result: Result<T, StoreError>) -> Result<T, String> {
    result.map_err(|e| e.to_string())
}

struct Pair<'a> {
    model: StoreModel,
    harness: &'a dyn StoreHarness,
    store: Arc<dyn TaskStore>,
    appended: BTreeMap<TaskId, u64>,
}

impl<'a> Pair<'a> {
    async fn new(harness: &'a dyn StoreHarness) -> Self {
        Self { model: StoreModel::new(), harness, store: harness.fresh().await, appended: BTreeMap::new() }
    }

    fn snapshot(&self, n: u64) -> Option<Snapshot> {
        self.model.load(&[task_id(n)]).pop().flatten()
    }

    async fn apply(&mut self, op: &Op) {
        match op {
            Op::Submit { n, key, payload, needs, due } => {
                let batch = [new_task(*n, *key, *payload, *needs, *due)];
                assert_eq!(plain(self.store.submit(&batch).await), plain(self.model.submit(&batch)));
            }
            Op::Expire { worker, now } => {
                let dead = [abca_core::testing::fixtures::worker(*worker)];
                assert_eq!(self.store.expire(&dead, at(*now)).await.unwrap(), self.model.expire(&dead, at(*now)));
            }
            Op::Claim { now, limit, named, signalled } => {
                let query = ClaimQuery {
                    task: named.map(task_id),
                    signalled: *signalled,
                    lease_until: at(now + 100),
                    ..claim(*now % 5, at(*now), *limit)
                };
                assert_eq!(self.store.claim(&query).await.unwrap(), self.model.claim(&query));
            }
            Op::Commit { picks } => {
                let batch: Vec<Commit> = picks.iter().filter_map(|p| self.commit_of(p)).collect();
                assert_eq!(plain(self.store.commit(&batch).await), plain(self.model.commit(&batch)));
            }
            Op::Renew { n, old, until } => {
                let Some(s) = self.snapshot(*n) else { return };
                let batch = [Renewal {
                    task: s.id(),
                    epoch: s.epoch - u64::from(*old && s.epoch > 0),
                    lease_until: at(*until),
                }];
                assert_eq!(self.store.renew(&batch).await.unwrap(), self.model.renew(&batch));
            }
            Op::Release { n, old, due } => {
                let Some(s) = self.snapshot(*n) else { return };
                let expect_revision = s.revision - u64::from(*old);
                let batch = [Release { task: s.id(), epoch: s.epoch, expect_revision, due: due.map(at) }];
                assert_eq!(self.store.release(&batch).await.unwrap(), self.model.release(&batch));
            }
            Op::Signal { n, id, guarded } => {
                let new = if *guarded {
                    registration(&SessionId::of(task_id(*n), 1), task_id(*n), at(u64::from(*id)))
                } else {
                    nudge(task_id(*n), &format!("s{id}"), at(u64::from(*id) * 50))
                };
                let batch = [new];
                assert_eq!(self.store.signal(&batch).await.unwrap(), self.model.signal(&batch));
            }
            Op::Append { n, back, forward, count, same } => self.append(*n, *back, *forward, *count, *same).await,
            Op::Heartbeat { n, attempt, now } => {
                let session = SessionId::of(task_id(*n), *attempt);
                let heard = self.store.heartbeat(task_id(*n), &session, at(*now)).await.unwrap();
                assert_eq!(heard, self.model.heartbeat(task_id(*n), &session, at(*now)));
            }
            Op::Bury { n, old, now } => {
                let Some(s) = self.snapshot(*n) else { return };
                let epoch = s.epoch - u64::from(*old && s.epoch > 0);
                let batch = [Burial { task: s.id(), epoch, reason: "no sense".to_owned(), now: at(*now) }];
                assert_eq!(self.store.operator().bury(&batch).await.unwrap(), self.model.bury(&batch));
            }
            Op::Revive { n, now } => {
                let revived = self.store.operator().revive(task_id(*n), at(*now)).await.unwrap();
                assert_eq!(revived, self.model.revive(task_id(*n), at(*now)));
            }
            Op::Discard { n, now } => {
                let discarded = self.store.operator().discard(task_id(*n), at(*now)).await.unwrap();
                assert_eq!(discarded, self.model.discard(task_id(*n), at(*now)));
            }
            Op::Purge { before, limit } => {
                let purged = self.store.operator().purge(at(*before), *limit).await.unwrap();
                assert_eq!(purged, self.model.purge(at(*before), *limit));
            }
            Op::Reopen => {
                self.store = self.harness.reopen(self.store.clone()).await;
            }
        }
        assert_eq!(self.store.next_due().await.unwrap(), self.model.next_due());
    }

    fn commit_of(&self, pick: &Pick) -> Option<Commit> {
        let s = self.snapshot(pick.n)?;
        let mut commit = commit(&s, change(&s, pick.what, pick.now), pick.salt);
        commit.expect_revision -= u64::from(pick.stale);
        commit.epoch += u64::from(pick.fenced);
        if let Some(due) = pick.due {
            commit.lease = LeaseChange::Release { due: due.map(at) };
        }
        Some(commit)
    }

    async fn append(&mut self, n: u64, back: u64, forward: u64, count: u64, same: bool) {
        let session = SessionId::of(task_id(n), 1);
        let len = self.appended.entry(task_id(n)).or_default();
        let expect_seq = (*len + 1 + forward).saturating_sub(back);
        let records = (expect_seq..expect_seq + count).map(|i| record(&session, if same { i } else { i + 1_000 }));
        let batch = [Append {
            task: task_id(n),
            records: records.collect(),
            session,
            expect_seq,
            events: vec![NewEvent::new(EventType::AgentTurn, at(expect_seq)).with("turn", expect_seq)],
            now: at(expect_seq),
        }];
        let answer = plain(self.store.append(&batch).await);
        assert_eq!(answer, plain(self.model.append(&batch)));
        *len = self.model.log(&LogQuery { task: task_id(n), after: 0, limit: 10_000 }).len() as u64;
    }

    async fn compare(&self) {
        let ids: Vec<TaskId> = (1..=TASKS).map(task_id).collect();
        assert_eq!(self.store.load(&ids).await.unwrap(), self.model.load(&ids));
        assert_eq!(self.store.slots().await.unwrap(), self.model.slots());
        let list = ListQuery { limit: 100, ..ListQuery::default() };
        assert_eq!(self.store.list(&list).await.unwrap(), self.model.list(&list));
        for task in ids {
            let query = EventQuery { task, after: EventSeq::ZERO, limit: 10_000 };
            let events = self.model.events(&query);
            assert_eq!(self.store.events(&query).await.unwrap(), events);
            let numbers: Vec<u64> = events.iter().map(|e| e.seq.0).collect();
            assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
            let query = LogQuery { task, after: 0, limit: 10_000 };
            assert_eq!(self.store.log(&query).await.unwrap(), self.model.log(&query));
        }
    }
}

impl Pair<'_> {
    async fn compare_operators(&self) {
        let desk = self.store.operator();
        assert_eq!(desk.dead_letters(100).await.unwrap(), self.model.dead_letters(100));
        for now in [0, 150, 400] {
            assert_eq!(desk.counts(at(now)).await.unwrap(), self.model.counts(at(now)));
        }
        let mut fed: BTreeMap<TaskId, Vec<_>> = BTreeMap::new();
        let mut query = FeedQuery { after: FeedCursor::START, limit: 7 };
        loop {
            let page = desk.feed(&query).await.unwrap();
            if page.events.is_empty() {
                break;
            }
            page.events.into_iter().for_each(|e| fed.entry(e.task_id).or_default().push(e));
            query.after = page.next;
        }
        for task in (1..=TASKS).map(task_id) {
            assert_eq!(desk.place(task).await.unwrap(), self.model.place(task));
            let query = EventQuery { task, after: EventSeq::ZERO, limit: 10_000 };
            assert_eq!(fed.remove(&task).unwrap_or_default(), self.model.events(&query));
        }
        assert!(fed.is_empty(), "of tasks that are gone: {fed:?}");
    }
}

/// Carries out the calls on both, and looks at what operators see.
pub(super) fn compare_with_operators(harness: &dyn StoreHarness, ops: &[Op]) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut pair = Pair::new(harness).await;
        for op in ops {
            pair.apply(op).await;
        }
        pair.compare().await;
        pair.compare_operators().await;
    });
}

#[cfg(feature = "sqlite")]
proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 400, ..ProptestConfig::default() })]

    #[test]
    fn sqlite_answers_as_the_model_does(ops in prop::collection::vec(op_of_operators(), 1..70)) {
        compare_with_operators(&super::conformance::sqlite::Folders::default(), &ops);
    }
}
