//! What outlives a process, and what several share.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::fixtures::{
    admit, at, claim, commit as make, limit, note, nudge, record, registration, start_intent, task, task_id,
    task_with_slots,
};
use super::{Store, StoreHarness, add, applied, commit, events, join_all, load, take};
use crate::id::{IdempotencyKey, SessionId};
use crate::store::{Append, CommitOutcome, LogQuery, SignalOutcome, TaskStore};
use crate::task::{SlotScope, Snapshot};

pub(super) async fn everything_survives_reopening(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    let session = SessionId::of(task_id(1), 1);
    let mut t = task_with_slots(1, vec![limit("user:ann", 1, true), limit("system", 5, false)]);
    t.idempotency_key = Some(IdempotencyKey::new("k").unwrap());
    let id = add(&store, t.clone()).await.id();
    let s = take(&store, id, 1, at(1)).await;
    let s = applied(&store, &s, admit(&s, at(2))).await;
    let last = make(&s, start_intent(&s, at(3)), 7);
    commit(&store, last.clone()).await;
    let word = registration(&session, id, at(4));
    store.signal(&[word.clone(), nudge(id, "n", at(5))]).await.unwrap();
    store.heartbeat(id, &session, at(6)).await.unwrap();
    let records = vec![record(&session, 1), record(&session, 2)];
    let append = Append { task: id, session, expect_seq: 1, records, events: vec![], now: at(7) };
    store.append(std::slice::from_ref(&append)).await.unwrap();
    let snapshot = load(&store, id).await;
    let (told, due, slots) = (events(&store, id).await, store.next_due().await.unwrap(), store.slots().await.unwrap());

    let store = h.reopen(store).await;
    assert_eq!(load(&store, id).await, snapshot);
    assert_eq!(events(&store, id).await, told);
    assert_eq!(store.next_due().await.unwrap(), due);
    assert_eq!(store.slots().await.unwrap(), slots);
    assert_eq!(store.log(&LogQuery { task: id, after: 0, limit: 9 }).await.unwrap().len(), 2);
    assert_eq!(store.find(&t.user, &IdempotencyKey::new("k").unwrap()).await.unwrap(), Some(id));
    assert_eq!(store.signal(&[word]).await.unwrap(), [SignalOutcome::Duplicate]);
    assert_eq!(commit(&store, last).await, CommitOutcome::AlreadyApplied(Box::new(snapshot.clone())));
    assert_eq!(snapshot.held, [SlotScope("user:ann".to_owned()), SlotScope("system".to_owned())]);
    assert_eq!((snapshot.owed.len(), snapshot.signals.len()), (1, 2));
}

pub(super) async fn order_survives_reopening(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    let slots = vec![limit("user:ann", 2, true)];
    for n in 1..=2 {
        add(&store, task_with_slots(n, slots.clone())).await;
    }
    let store = h.reopen(store).await;
    add(&store, task_with_slots(3, slots)).await;
    let denied = SlotScope("user:ann".to_owned());
    let attempt = async |n: u64| {
        let s = take(&store, task_id(n), n, at(n * 1_000_000)).await;
        commit(&store, make(&s, admit(&s, at(9)), 1)).await
    };
    assert_eq!(attempt(3).await, CommitOutcome::SlotDenied(denied.clone()));
    assert_eq!(attempt(2).await, CommitOutcome::SlotDenied(denied));
    assert!(matches!(attempt(1).await, CommitOutcome::Applied(_)));
}

pub(super) async fn two_handles_see_each_other(h: &dyn StoreHarness) {
    let one = h.fresh().await;
    let two = h.second(&one).await;
    add(&one, task(1)).await;
    let s = take(&two, task_id(1), 1, at(1)).await;
    let s = applied(&one, &s, note(&s, at(2))).await;
    let s = applied(&two, &s, note(&s, at(3))).await;
    one.signal(&[nudge(task_id(1), "n", at(4))]).await.unwrap();
    assert!(matches!(commit(&two, make(&s, note(&s, at(5)), 0)).await, CommitOutcome::Stale(_)));
    assert_eq!(load(&one, task_id(1)).await, load(&two, task_id(1)).await);
    assert_eq!(events(&two, task_id(1)).await.len(), 3);
}

pub(super) async fn two_handles_race_for_claims_and_commits(h: &dyn StoreHarness) {
    let one = h.fresh().await;
    let two = h.second(&one).await;
    for n in 1..=20 {
        add(&one, task_with_slots(n, vec![limit("system", 7, false)])).await;
    }
    let claims: Vec<_> = (0..8).map(|n| (if n % 2 == 0 { &one } else { &two }, claim(n, at(100), 3))).collect();
    let mine = join_all(claims.iter().map(async |(store, query)| {
        let claimed = store.claim(query).await.unwrap();
        claimed.into_iter().map(|s| (Arc::clone(store), s)).collect::<Vec<(Arc<dyn TaskStore>, Snapshot)>>()
    }))
    .await;
    let mine: Vec<(Store, Snapshot)> = mine.into_iter().flatten().collect();
    assert_eq!(mine.iter().map(|(_, s)| s.id()).collect::<BTreeSet<_>>().len(), 20);
    assert_eq!(mine.len(), 20, "no task twice");
    let outcomes = join_all(mine.iter().map(|(store, s)| commit(store, make(s, admit(s, at(101)), 1)))).await;
    let inside = outcomes.iter().filter(|o| matches!(o, CommitOutcome::Applied(_))).count();
    assert_eq!(inside, 7, "the cap holds across handles");
}
