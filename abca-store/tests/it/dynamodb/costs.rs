//! What a life costs in request units, by the kind of call.

use std::future::Future;

use abca_core::store::{
    Append, ClaimQuery, CommitOutcome, FeedCursor, FeedQuery, LeaseChange, SignalOutcome, SubmitOutcome, TaskStore,
};
use abca_core::task::{Change, SignalKind, SlotLimit, Snapshot};
use abca_core::testing::fixtures::{
    self, admit, at, complete, limit, record, registration, running, signal, start_intent, task_id, task_with_slots,
    user,
};
use abca_core::time::Millis;
use abca_core::{SessionId, TaskId};
use abca_store::DynamoDb;
use abca_store::dynamodb::Units;

use super::{config, fresh, unused};

/// What `abca-store/benches/store.rs` lives: 10 calls, 4 of them commits.
async fn life(store: &DynamoDb, n: u64, slots: Vec<SlotLimit>) {
    let task = task_with_slots(n, slots);
    let id = task.id;
    let session = SessionId::of(id, 1);
    let made = store.submit(&[fixtures::submit(task)]).await.unwrap();
    assert!(matches!(made.as_slice(), [SubmitOutcome::Created(_)]));
    let s = claim(store, id, n).await;
    let s = commit(store, &s, admit(&s, at(n)), LeaseChange::Keep).await;
    commit(store, &s, start_intent(&s, at(n)), LeaseChange::Keep).await;
    let word = [registration(&session, id, at(n))];
    assert_eq!(store.signal(&word).await.unwrap(), [SignalOutcome::Accepted]);
    let s = claim(store, id, n).await;
    let away = LeaseChange::Release { due: Some(at(n).after(Millis::secs(30))) };
    commit(store, &s, running(&s, at(n)), away).await;
    let last = [signal(id, "exited", SignalKind::SessionExited { session }, at(n))];
    assert_eq!(store.signal(&last).await.unwrap(), [SignalOutcome::Accepted]);
    let s = claim(store, id, n).await;
    commit(store, &s, complete(&s, at(n)), LeaseChange::Keep).await;
}

async fn claim(store: &DynamoDb, id: TaskId, n: u64) -> Snapshot {
    let query = ClaimQuery { task: Some(id), ..fixtures::claim(1, at(n), 1) };
    store.claim(&query).await.unwrap().pop().expect("due")
}

async fn commit(store: &DynamoDb, s: &Snapshot, change: Change, lease: LeaseChange) -> Snapshot {
    let mut commit = fixtures::commit(s, change, 0);
    commit.lease = lease;
    match store.commit(&[commit]).await.unwrap().pop() {
        Some(CommitOutcome::Applied(s)) => *s,
        other => panic!("want the commit applied, got {other:?}"),
    }
}

const LIVES: u64 = 10;

async fn follow(store: &DynamoDb, cursor: &mut FeedCursor) {
    let page = store.operator().feed(&FeedQuery { after: cursor.clone(), limit: 100 }).await.unwrap();
    *cursor = page.next;
}

/// A new handle on a table in which so many tasks hold slots has lived so many lives.
async fn lives(slots: &[SlotLimit], holders: u64, cut_from: u32) -> DynamoDb {
    let table = unused();
    let mut config = config(&table);
    config.cut_from = cut_from;
    let store = DynamoDb::init(config.clone()).await.unwrap();
    for n in 1_000..1_000 + holders {
        let mut task = task_with_slots(n, slots.iter().filter(|l| l.scope.0 == "system").cloned().collect());
        task.user = user("bob");
        store.submit(&[fixtures::submit(task)]).await.unwrap();
        let s = claim(&store, task_id(n), n).await;
        commit(&store, &s, admit(&s, at(n)), LeaseChange::Keep).await;
    }
    // What is made once, is.
    life(&store, LIVES + 1, slots.to_vec()).await;
    let store = DynamoDb::open(config).await.unwrap();
    for n in 1..=LIVES {
        life(&store, n, slots.to_vec()).await;
    }
    store
}

fn per_life(store: &DynamoDb) -> (f64, f64) {
    let units = store.units();
    let sum = Units::sum(units.iter().filter(|(op, _)| !["init", "feed"].contains(op)).map(|(_, u)| u));
    (sum.writes as f64 / LIVES as f64, sum.index_writes as f64 / LIVES as f64)
}

/// `cargo nextest run -p abca-store --features dynamodb --run-ignored all -E 'test(costs)' --no-capture`
#[tokio::test]
#[ignore = "prints a table: nothing to assert"]
async fn table_of_costs() {
    let user = limit("user:ann", 100, true);
    let both = |cap| vec![user.clone(), limit("system", cap, false)];
    for (what, slots, holders, cut_from) in [
        ("no slots", vec![], 0, 100),
        ("one scope, first in first out", vec![user.clone()], 0, 100),
        ("a user's and the system's scope", both(400), 0, u32::MAX),
        ("a user's and the system's scope in parts", both(400), 0, 100),
        ("a user's and the system's scope, beside 200", both(400), 200, u32::MAX),
        ("a user's and the system's scope in parts, beside 200", both(400), 200, 100),
    ] {
        let store = lives(&slots, holders, cut_from).await;
        let (writes, index) = per_life(&store);
        println!("\na life with {what}: {writes} write units, {index} more on indexes");
        println!("{:<12} {:>9} {:>8} {:>8} {:>8}", "call", "requests", "writes", "index", "reads");
        for (op, u) in store.units().iter().filter(|(op, _)| **op != "init") {
            let per = |n: u64| n as f64 / LIVES as f64;
            let reads = u.reads / LIVES as f64;
            println!(
                "{op:<12} {:>9.1} {:>8.1} {:>8.1} {reads:>8.1}",
                per(u.requests),
                per(u.writes),
                per(u.index_writes)
            );
        }
    }
    let (_, store) = fresh().await;
    let s = fixtures::task(1);
    let made = store.submit(&[fixtures::submit(s)]).await.unwrap();
    assert!(matches!(made.as_slice(), [SubmitOutcome::Created(_)]));
    let s = claim(&store, task_id(1), 1).await;
    let s = commit(&store, &s, admit(&s, at(1)), LeaseChange::Keep).await;
    let s = commit(&store, &s, start_intent(&s, at(1)), LeaseChange::Keep).await;
    let session = SessionId::of(s.id(), 1);
    let append = |n| Append {
        task: s.id(),
        session: session.clone(),
        expect_seq: n,
        records: vec![record(&session, n)],
        events: vec![],
        now: at(n),
    };
    for n in 1..=LIVES {
        store.append(&[append(n)]).await.unwrap();
        store.heartbeat(s.id(), &session, at(100 + n)).await.unwrap();
    }
    for (what, every) in [("at its end", false), ("after each call", true)] {
        let (_, store) = fresh().await;
        let mut cursor = FeedCursor::START;
        for n in 1..=LIVES {
            if every {
                let mut calls = std::pin::pin!(life(&store, n, Vec::new()));
                // As often as its future rests: at every request.
                while std::future::poll_fn(|c| std::task::Poll::Ready(calls.as_mut().poll(c))).await.is_pending() {
                    tokio::task::yield_now().await;
                    follow(&store, &mut cursor).await;
                }
            } else {
                life(&store, n, Vec::new()).await;
            }
            follow(&store, &mut cursor).await;
        }
        let feed = store.units()["feed"];
        let per = |n: u64| n as f64 / LIVES as f64;
        let (writes, index, reads) = (per(feed.writes), per(feed.index_writes), feed.reads / LIVES as f64);
        println!("a feed that is read {what} of a life: {writes} write units, {index} on indexes, {reads} read units");
        println!("and the life itself then: {:?}", per_life(&store));
    }
    for op in ["append", "heartbeat"] {
        println!("a small {op}: {} write units", store.units()[op].writes as f64 / LIVES as f64);
    }
}

#[tokio::test]
async fn a_life_costs_no_more_than_it_should() {
    let store = lives(&[limit("user:ann", 100, true)], 0, 100).await;
    let (writes, index) = per_life(&store);
    assert!(writes <= 21.0, "{writes} write units a life: {:?}", store.units());
    assert!(index <= 14.0, "{index} index write units a life: {:?}", store.units());
}

#[tokio::test]
async fn a_life_in_a_scope_in_parts_costs_the_same_however_many_hold_a_slot() {
    let store = lives(&[limit("user:ann", 100, true), limit("system", 400, false)], 80, 100).await;
    let (writes, index) = per_life(&store);
    assert!(writes <= 28.0, "{writes} write units a life: {:?}", store.units());
    assert!(index <= 14.0, "{index} index write units a life: {:?}", store.units());
}
