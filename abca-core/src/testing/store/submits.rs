//! Accepting tasks.

use super::super::fixtures::{admit, at, note, submit, task, task_id, user};
use super::{Store, StoreHarness, add, events, join_all, load, submitted};
use crate::event::EventType;
use crate::id::IdempotencyKey;
use crate::store::{StoreErrorKind, Submit, SubmitOutcome};
use crate::task::{Snapshot, TaskStatus};

fn keyed(n: u64, key: &str, payload: &str) -> Submit {
    let mut task = task(n);
    task.idempotency_key = Some(IdempotencyKey::new(key).unwrap());
    Submit { payload_hash: payload.to_owned(), ..submit(task) }
}

async fn one(store: &Store, submit: Submit) -> SubmitOutcome {
    store.submit(&[submit]).await.unwrap().pop().unwrap()
}

pub(super) async fn a_new_task_is_there_as_submitted(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    let made = add(&store, task(1)).await;
    let want = Snapshot {
        task: task(1),
        revision: made.revision,
        epoch: made.epoch,
        held: vec![],
        signals: vec![],
        owed: vec![],
        heartbeat_at: None,
    };
    assert_eq!(made, want);
    assert_eq!(load(&store, task_id(1)).await, want);
    assert_eq!(events(&store, task_id(1)).await, [(1, EventType::TaskCreated)]);
}

pub(super) async fn the_same_key_and_payload_is_the_same_task(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    let first = submitted(&store, keyed(1, "k", "p")).await;
    // Another id, since whoever repeats a submission mints one again.
    assert_eq!(one(&store, keyed(2, "k", "p")).await, SubmitOutcome::Existing(Box::new(first)));
    assert_eq!(store.load(&[task_id(2)]).await.unwrap(), [None]);
    assert_eq!(events(&store, task_id(1)).await.len(), 1);
}

pub(super) async fn the_same_key_with_another_payload_is_a_conflict(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    submitted(&store, keyed(1, "k", "p")).await;
    assert_eq!(one(&store, keyed(2, "k", "q")).await, SubmitOutcome::Conflict { task: task_id(1) });
    assert_eq!(store.load(&[task_id(2)]).await.unwrap(), [None]);
}

pub(super) async fn keys_belong_to_their_user(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    submitted(&store, keyed(1, "k", "p")).await;
    let mut other = keyed(2, "k", "q");
    other.task.user = user("bob");
    submitted(&store, other).await;
}

pub(super) async fn racing_submits_of_one_key_make_one_task(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    let outcomes = join_all((1..=16).map(|n| one(&store, keyed(n, "k", "p")))).await;
    let created: Vec<_> = outcomes
        .iter()
        .filter_map(|o| match o {
            SubmitOutcome::Created(s) => Some(s.id()),
            SubmitOutcome::Existing(_) | SubmitOutcome::Conflict { .. } => None,
        })
        .collect();
    let [winner] = created.as_slice() else { panic!("want one winner, got {created:?}") };
    let same = |o: &&SubmitOutcome| matches!(o, SubmitOutcome::Existing(s) if s.id() == *winner);
    assert_eq!(outcomes.iter().filter(same).count(), 15);
}

pub(super) async fn the_same_task_id_is_the_same_task(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    let first = add(&store, task(1)).await;
    assert_eq!(one(&store, submit(task(1))).await, SubmitOutcome::Existing(Box::new(first)));
    let other = Submit { payload_hash: "other".to_owned(), ..submit(task(1)) };
    assert_eq!(one(&store, other).await, SubmitOutcome::Conflict { task: task_id(1) });
}

pub(super) async fn a_batch_is_answered_in_order(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    let batch = [keyed(1, "a", "p"), keyed(2, "b", "p"), keyed(3, "a", "p"), keyed(4, "b", "q")];
    let ids: Vec<_> = store
        .submit(&batch)
        .await
        .unwrap()
        .into_iter()
        .map(|o| match o {
            SubmitOutcome::Created(s) => ("created", s.id()),
            SubmitOutcome::Existing(s) => ("existing", s.id()),
            SubmitOutcome::Conflict { task } => ("conflict", task),
        })
        .collect();
    let want = [("created", 1), ("created", 2), ("existing", 1), ("conflict", 2)].map(|(o, n)| (o, task_id(n)));
    assert_eq!(ids, want);
}

pub(super) async fn a_task_that_has_begun_is_refused(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    let mut begun = task(1);
    begun.status = TaskStatus::Running;
    let error = store.submit(&[submit(task(2)), submit(begun)]).await.unwrap_err();
    assert_eq!((error.kind(), error.op()), (StoreErrorKind::Invalid, "submit"));
    assert_eq!(store.load(&[task_id(1), task_id(2)]).await.unwrap(), [None, None]);
    // The fixtures themselves are accepted.
    let s = add(&store, task(3)).await;
    let claimed = super::take(&store, s.id(), 1, at(3)).await;
    let s = super::applied(&store, &claimed, note(&claimed, at(4))).await;
    super::applied(&store, &s, admit(&s, at(5))).await;
}
