//! What operators ask: the feed, counts, places, retention, dead letters.

use std::collections::BTreeMap;

use super::super::fixtures::{
    admit, at, claim, commit as make, complete, limit, note, nudge, record, task, task_id, task_with_slots, user,
};
use super::{Store, StoreHarness, add, applied, commit, events, live, load, take};
use crate::event::EventType;
use crate::id::{EventSeq, IdempotencyKey};
use crate::store::{
    Append, AppendOutcome, Burial, ClaimQuery, CommitOutcome, Counts, DeadLetter, EventQuery, FeedCursor, FeedQuery,
    LogQuery, SignalOutcome, StoreErrorKind,
};
use crate::task::{SlotScope, Snapshot, TaskStatus};
use crate::time::Timestamp;

async fn feed(store: &Store, after: &FeedCursor, limit: usize) -> (Vec<(crate::id::TaskId, u64)>, FeedCursor) {
    let page = store.operator().feed(&FeedQuery { after: after.clone(), limit }).await.unwrap();
    (page.events.into_iter().map(|e| (e.task_id, e.seq.0)).collect(), page.next)
}

fn burial(s: &Snapshot, now: u64) -> Burial {
    Burial { task: s.id(), epoch: s.epoch, reason: "it makes no sense".to_owned(), now: at(now) }
}

async fn buried(store: &Store, s: &Snapshot, now: u64) {
    assert_eq!(store.operator().bury(&[burial(s, now)]).await.unwrap(), [true]);
}

pub(super) async fn every_event_is_fed_once(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    assert_eq!(feed(&store, &FeedCursor::START, 9).await, (vec![], FeedCursor::START));
    let s = live(&store, task(1)).await;
    let other = live(&store, task(2)).await;
    applied(&store, &s, complete(&s, at(20))).await;
    applied(&store, &other, note(&other, at(30))).await;
    let mut fed: BTreeMap<_, Vec<u64>> = BTreeMap::new();
    let mut cursor = FeedCursor::START;
    loop {
        let (events, next) = feed(&store, &cursor, 3).await;
        if events.is_empty() {
            assert_eq!(next, cursor, "the end is where it was");
            break;
        }
        assert!(events.len() <= 3);
        for (id, seq) in events {
            fed.entry(id).or_default().push(seq);
        }
        cursor = next;
    }
    for n in 1..=2 {
        let numbers: Vec<u64> = events(&store, task_id(n)).await.into_iter().map(|(seq, _)| seq).collect();
        assert_eq!(fed[&task_id(n)], numbers, "task {n}");
    }
    let s = add(&store, task(3)).await;
    let seqs: Vec<_> = events(&store, s.id()).await.into_iter().map(|(seq, _)| (s.id(), seq)).collect();
    assert_eq!(feed(&store, &cursor, 9).await.0, seqs, "only what is new");
}

pub(super) async fn a_foreign_cursor_is_refused(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    let query = FeedQuery { after: FeedCursor("'; nonsense".to_owned()), limit: 1 };
    let error = store.operator().feed(&query).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Invalid);
}

pub(super) async fn tasks_are_counted(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    assert_eq!(store.operator().counts(at(0)).await.unwrap(), Counts::default());
    for n in 1..=3 {
        add(&store, task(n)).await;
    }
    let s = live(&store, task(4)).await;
    applied(&store, &s, complete(&s, at(20))).await;
    let s = take(&store, task_id(2), 2, at(5)).await;
    buried(&store, &s, 6).await;
    let counts = store.operator().counts(at(1_000_000)).await.unwrap();
    assert_eq!(counts.by_status, BTreeMap::from([(TaskStatus::Submitted, 3), (TaskStatus::Completed, 1)]));
    assert_eq!((counts.dead, counts.due), (1, 2));
    assert_eq!(counts.oldest_due, store.next_due().await.unwrap());
}

pub(super) async fn a_waiting_task_has_a_place_among_its_users(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    for n in 1..=5 {
        let mut t = task(n);
        t.user = user(if n == 3 { "bob" } else { "ann" });
        add(&store, t).await;
    }
    let places = async || {
        let mut places = Vec::new();
        for n in 1..=6 {
            places.push(store.operator().place(task_id(n)).await.unwrap());
        }
        places
    };
    assert_eq!(places().await, [Some(0), Some(1), Some(0), Some(2), Some(3), None]);
    let s = take(&store, task_id(2), 1, at(5)).await;
    applied(&store, &s, admit(&s, at(6))).await;
    let s = take(&store, task_id(4), 1, at(5)).await;
    buried(&store, &s, 6).await;
    assert_eq!(places().await, [Some(0), None, Some(0), None, Some(1), None]);
}

pub(super) async fn ended_tasks_are_purged_whole(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    let key = IdempotencyKey::new("k").unwrap();
    for n in 1..=3 {
        let mut t = task(n);
        t.idempotency_key = (n == 1).then(|| key.clone());
        let s = live(&store, t).await;
        let session = s.task.session.clone().unwrap().id;
        let records = vec![record(&session, 1)];
        let append = Append { task: s.id(), session, expect_seq: 1, records, events: vec![], now: at(10) };
        store.append(&[append]).await.unwrap();
        if n < 3 {
            applied(&store, &s, complete(&s, at(10 * n))).await;
        }
    }
    add(&store, task(4)).await;
    // A dead letter older than they are has not ended, and takes the place of none.
    add(&store, task(5)).await;
    buried(&store, &take(&store, task_id(5), 1, at(1)).await, 2).await;
    let desk = store.operator();
    assert_eq!(desk.purge(at(10), 9).await.unwrap(), 0, "not before its time");
    assert_eq!(desk.purge(at(1_000), 1).await.unwrap(), 1);
    assert_eq!(store.load(&[task_id(1)]).await.unwrap(), [None], "the first accepted first");
    assert_eq!(desk.purge(at(1_000), 9).await.unwrap(), 1);
    assert_eq!(desk.purge(at(1_000_000), 9).await.unwrap(), 0, "only what has ended");
    assert_eq!(store.find(&user("ann"), &key).await.unwrap(), None);
    assert_eq!(events(&store, task_id(1)).await, []);
    assert_eq!(store.log(&LogQuery { task: task_id(1), after: 0, limit: 9 }).await.unwrap(), []);
    assert_eq!(desk.counts(at(0)).await.unwrap().by_status.values().sum::<u64>(), 3);
    let mut again = task(1);
    again.idempotency_key = Some(key);
    add(&store, again).await;
}

pub(super) async fn a_buried_task_is_nobodys(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    let s = live(&store, task(1)).await;
    let session = s.task.session.clone().unwrap().id;
    buried(&store, &s, 50).await;
    let letter = DeadLetter { task: s.id(), reason: "it makes no sense".to_owned(), since: at(50) };
    assert_eq!(store.operator().dead_letters(9).await.unwrap(), [letter]);
    assert_eq!(events(&store, s.id()).await.last().unwrap().1, EventType::TaskDeadLettered);
    assert_eq!(commit(&store, make(&s, note(&s, at(51)), 1)).await, CommitOutcome::Fenced);
    assert_eq!(store.signal(&[nudge(s.id(), "n", at(52))]).await.unwrap(), [SignalOutcome::Accepted]);
    assert_eq!(store.claim(&claim(2, at(9_000_000), 9)).await.unwrap(), []);
    assert_eq!(store.claim(&ClaimQuery { task: Some(s.id()), ..claim(2, at(9_000_000), 9) }).await.unwrap(), []);
    assert_eq!(store.next_due().await.unwrap(), None);
    let records = vec![record(&session, 1)];
    let append = Append { task: s.id(), session: session.clone(), expect_seq: 1, records, events: vec![], now: at(53) };
    assert_eq!(store.append(&[append]).await.unwrap(), [AppendOutcome::Refused]);
    assert!(!store.heartbeat(s.id(), &session, at(54)).await.unwrap());
    assert_eq!(load(&store, s.id()).await.held, s.held, "it keeps its slots");
}

pub(super) async fn only_the_holder_buries(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    add(&store, task(1)).await;
    let old = take(&store, task_id(1), 1, at(1)).await;
    let query = ClaimQuery { task: Some(task_id(1)), ..claim(2, at(9_000_000), 1) };
    let new = store.claim(&query).await.unwrap().pop().unwrap();
    let desk = store.operator();
    let unknown = Burial { task: task_id(9), ..burial(&new, 5) };
    assert_eq!(desk.bury(&[burial(&old, 5), unknown, burial(&new, 5)]).await.unwrap(), [false, false, true]);
    let again = Burial { epoch: new.epoch + 1, ..burial(&new, 6) };
    assert_eq!(desk.bury(&[again]).await.unwrap(), [false], "it is aside already");
    let s = live(&store, task(2)).await;
    let ended = applied(&store, &s, complete(&s, at(9))).await;
    assert_eq!(desk.bury(&[burial(&ended, 10)]).await.unwrap(), [false], "it has ended");
}

pub(super) async fn a_buried_task_lets_the_next_pass(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    let slots = vec![limit("user:ann", 1, true)];
    for n in 1..=2 {
        add(&store, task_with_slots(n, slots.clone())).await;
    }
    let first = take(&store, task_id(1), 1, at(1)).await;
    let second = take(&store, task_id(2), 2, at(1)).await;
    let denied = CommitOutcome::SlotDenied(SlotScope("user:ann".to_owned()));
    assert_eq!(commit(&store, make(&second, admit(&second, at(2)), 1)).await, denied);
    buried(&store, &first, 3).await;
    assert_eq!(store.next_due().await.unwrap(), Some(at(3)), "the next is woken");
    let second = take(&store, task_id(2), 2, at(4)).await;
    assert!(matches!(commit(&store, make(&second, admit(&second, at(4)), 1)).await, CommitOutcome::Applied(_)));
}

pub(super) async fn a_revived_task_goes_on_where_it_was(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    let s = live(&store, task_with_slots(1, vec![limit("system", 1, false)])).await;
    assert!(!store.operator().revive(s.id(), at(1)).await.unwrap(), "it is no dead letter");
    assert!(!store.operator().revive(task_id(9), at(1)).await.unwrap());
    buried(&store, &s, 50).await;
    store.signal(&[nudge(s.id(), "n", at(52))]).await.unwrap();
    assert!(store.operator().revive(s.id(), at(60)).await.unwrap());
    assert_eq!(store.operator().dead_letters(9).await.unwrap(), []);
    let claimed = store.claim(&claim(2, at(60), 9)).await.unwrap();
    assert_eq!(claimed.len(), 1);
    assert_eq!((&claimed[0].task, &claimed[0].held), (&s.task, &s.held));
    assert_eq!(claimed[0].signals.len(), 1, "the inbox was kept");
    assert_eq!(events(&store, s.id()).await.last().unwrap().1, EventType::TaskRevived);
    applied(&store, &claimed[0], note(&claimed[0], at(61))).await;
    let query = EventQuery { task: s.id(), after: EventSeq::ZERO, limit: 99 };
    let numbers: Vec<u64> = store.events(&query).await.unwrap().into_iter().map(|e| e.seq.0).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
}

pub(super) async fn a_discarded_task_is_gone_and_its_slots_are_free(h: &dyn StoreHarness) {
    let store = h.fresh().await;
    let slots = vec![limit("system", 1, false)];
    let s = live(&store, task_with_slots(1, slots.clone())).await;
    add(&store, task_with_slots(2, slots)).await;
    let next = take(&store, task_id(2), 2, at(9)).await;
    let denied = CommitOutcome::SlotDenied(SlotScope("system".to_owned()));
    assert_eq!(commit(&store, make(&next, admit(&next, at(9)), 1)).await, denied);
    assert!(!store.operator().discard(s.id(), at(10)).await.unwrap(), "only a dead letter");
    buried(&store, &s, 11).await;
    assert!(store.operator().discard(s.id(), at(12)).await.unwrap());
    assert!(!store.operator().discard(s.id(), at(13)).await.unwrap());
    assert_eq!(store.load(&[s.id()]).await.unwrap(), [None]);
    assert_eq!(store.slots().await.unwrap(), []);
    assert_eq!(store.next_due().await.unwrap(), Some(at(12)), "who was denied is woken");
    let woken: Timestamp = at(12);
    let next = take(&store, task_id(2), 2, woken).await;
    assert!(matches!(commit(&store, make(&next, admit(&next, at(14)), 2)).await, CommitOutcome::Applied(_)));
}
