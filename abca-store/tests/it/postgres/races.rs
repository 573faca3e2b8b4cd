//! Several handles on one schema, as several processes have them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use abca_core::TaskId;
use abca_core::store::{
    ClaimQuery, Commit, CommitOutcome, FeedCursor, FeedQuery, LeaseChange, Release, SignalOutcome, SubmitOutcome,
    TaskStore,
};
use abca_core::task::Snapshot;
use abca_core::testing::fixtures::{
    admit, at, cancelled, claim, commit, limit, note, nudge, submit, task, task_id, user,
};
use abca_core::testing::store::join_all;
use abca_store::Postgres;

use super::Schema;

async fn handles(schema: &Schema, n: usize) -> Vec<Arc<Postgres>> {
    let mut all = Vec::new();
    for _ in 0..n {
        all.push(Arc::new(schema.open().await));
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_handles_claim_each_task_once() {
    let schema = Schema::new().await;
    let stores = handles(&schema, 4).await;
    let batch: Vec<_> = (1..=200).map(|n| submit(task(n))).collect();
    stores[0].submit(&batch).await.unwrap();
    let claims = stores.iter().enumerate().map(|(i, store)| async move {
        let mut mine: Vec<TaskId> = Vec::new();
        // Others may hold what is due for a moment: ask until nothing is.
        while store.next_due().await.unwrap().is_some_and(|t| t <= at(1_000)) {
            let got = store.claim(&claim(i as u64, at(1_000), 7)).await.unwrap();
            mine.extend(got.iter().map(Snapshot::id));
        }
        mine
    });
    let mut all: Vec<TaskId> = join_all(claims).await.into_iter().flatten().collect();
    all.sort();
    assert_eq!(all, (1..=200).map(task_id).collect::<Vec<_>>());
}

async fn made(store: &Postgres, commit: Commit) -> CommitOutcome {
    store.commit(&[commit]).await.unwrap().remove(0)
}

/// Claims, admits and ends tasks until none is left; whoever is denied sleeps until it is woken.
async fn work(store: &Postgres, worker: u64) -> u64 {
    let (mut ended, mut idle) = (0, 0);
    while idle < 400 {
        let mine = store.claim(&claim(worker, at(2_000), 2)).await.unwrap();
        if mine.is_empty() {
            let open = store.operator().counts(at(2_000)).await.unwrap();
            let left: u64 = open.by_status.iter().filter(|(s, _)| !s.is_terminal()).map(|(_, n)| n).sum();
            if left == 0 {
                return ended;
            }
            idle += 1;
            tokio::task::yield_now().await;
        }
        for s in mine {
            idle = 0;
            match made(store, commit(&s, admit(&s, at(2_000)), worker)).await {
                CommitOutcome::Applied(s) => {
                    let last = Commit { lease: LeaseChange::Keep, ..commit(&s, cancelled(&s, at(2_000)), worker) };
                    assert!(matches!(made(store, last).await, CommitOutcome::Applied(_)));
                    ended += 1;
                }
                CommitOutcome::SlotDenied(_) => {
                    let nap = Release { task: s.id(), epoch: s.epoch, expect_revision: s.revision, due: None };
                    store.release(&[nap]).await.unwrap();
                }
                // Woken meanwhile, so another has it: allowed.
                CommitOutcome::Fenced => {}
                other => panic!("{other:?}"),
            }
        }
    }
    panic!("tasks are left, and nobody is woken: {:?}", store.operator().counts(at(2_000)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caps_hold_and_nobody_sleeps_for_ever_whatever_races() {
    let schema = Schema::new().await;
    let stores = handles(&schema, 3).await;
    let batch = (1..=60).map(|n| {
        let mut t = task(n);
        let name = ["ann", "bob", "cid"][(n % 3) as usize];
        t.user = user(name);
        t.spec.limits.slots = vec![limit(&format!("user:{name}"), 2, true), limit("system", 3, false)];
        submit(t)
    });
    stores[0].submit(&batch.collect::<Vec<_>>()).await.unwrap();
    let done = AtomicBool::new(false);
    let watch = async {
        let mut most = BTreeMap::new();
        while !done.load(Ordering::Relaxed) {
            for usage in stores[0].slots().await.unwrap() {
                let n = most.entry(usage.scope.0).or_insert(0);
                *n = usage.holders.len().max(*n);
            }
        }
        most
    };
    let race = async {
        let ended = join_all(stores.iter().enumerate().map(|(i, s)| work(s, i as u64))).await;
        done.store(true, Ordering::Relaxed);
        ended.into_iter().sum::<u64>()
    };
    let (most, ended) = tokio::join!(watch, race);
    assert_eq!(ended, 60, "each ended once");
    assert!(most.iter().all(|(scope, n)| *n <= if scope == "system" { 3 } else { 2 }), "{most:?}");
    assert_eq!(stores[0].slots().await.unwrap(), []);
    assert_eq!(stores[0].next_due().await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_key_raced_by_handles_makes_one_task() {
    let schema = Schema::new().await;
    let stores = handles(&schema, 4).await;
    for round in 0..20u64 {
        let racers = stores.iter().enumerate().map(|(i, store)| async move {
            let mut t = task(1 + round * 4 + i as u64);
            t.idempotency_key = Some(abca_core::id::IdempotencyKey::new(format!("k{round}")).unwrap());
            match store.submit(&[submit(t)]).await.unwrap().remove(0) {
                SubmitOutcome::Created(s) => (true, s.id()),
                SubmitOutcome::Existing(s) => (false, s.id()),
                SubmitOutcome::Conflict { task } => panic!("{task} has another payload"),
            }
        });
        let outcomes = join_all(racers).await;
        assert_eq!(outcomes.iter().filter(|(created, _)| *created).count(), 1, "round {round}");
        assert!(outcomes.iter().all(|(_, id)| *id == outcomes[0].1), "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_of_the_feed_misses_nothing_of_racing_handles() {
    let schema = Schema::new().await;
    let stores = handles(&schema, 3).await;
    let done = AtomicBool::new(false);
    let follow = async {
        let (mut fed, mut query) = (Vec::new(), FeedQuery { after: FeedCursor::START, limit: 5 });
        loop {
            let last = done.load(Ordering::Relaxed);
            let page = stores[0].operator().feed(&query).await.unwrap();
            if page.events.is_empty() && last {
                return fed;
            }
            fed.extend(page.events.iter().map(|e| (e.task_id, e.seq.0)));
            query.after = page.next;
        }
    };
    let write = async {
        let writes = stores.iter().enumerate().map(|(i, store)| async move {
            for k in 0..40u64 {
                let n = 1 + k * 3 + i as u64;
                store.submit(&[submit(task(n))]).await.unwrap();
                for s in store.claim(&claim(i as u64, at(1_000), 3)).await.unwrap() {
                    made(store, commit(&s, cancelled(&s, at(1_001)), 1)).await;
                }
            }
        });
        join_all(writes).await;
        done.store(true, Ordering::Relaxed);
    };
    let (fed, ()) = tokio::join!(follow, write);
    let mut by_task: BTreeMap<TaskId, Vec<u64>> = BTreeMap::new();
    fed.into_iter().for_each(|(id, seq)| by_task.entry(id).or_default().push(seq));
    for n in 1..=120 {
        let query = abca_core::store::EventQuery { task: task_id(n), after: abca_core::EventSeq::ZERO, limit: 99 };
        let told: Vec<u64> = stores[0].events(&query).await.unwrap().iter().map(|e| e.seq.0).collect();
        assert_eq!(by_task.get(&task_id(n)), Some(&told), "task {n}: each once, in order");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bell_of_one_handle_is_heard_by_another() {
    let schema = Schema::new().await;
    let stores = handles(&schema, 2).await;
    // Listening begins some time after opening: whoever is not heard yet submits again.
    let heard = stores[1].rung();
    tokio::pin!(heard);
    let mut n = 0;
    loop {
        n += 1;
        stores[0].submit(&[submit(task(n))]).await.unwrap();
        tokio::select! {
            () = &mut heard => break,
            () = tokio::task::yield_now() => assert!(n < 5_000, "not heard"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_handle_remembers_is_never_answered_when_another_has_written() {
    let schema = Schema::new().await;
    let stores = handles(&schema, 2).await;
    stores[0].submit(&[submit(task(1))]).await.unwrap();
    let query = ClaimQuery { task: Some(task_id(1)), ..claim(0, at(1_000), 1) };
    let s = stores[0].claim(&query).await.unwrap().remove(0);
    let CommitOutcome::Applied(mut s) = made(&stores[0], commit(&s, admit(&s, at(1_001)), 0)).await else {
        panic!("nobody else is there")
    };
    for round in 0..20u64 {
        let (one, other) = (&stores[(round % 2) as usize], &stores[((round + 1) % 2) as usize]);
        let word = [nudge(task_id(1), &format!("n{round}"), at(1_002))];
        // A handle that remembers an older task must hear of what the other one has written since.
        assert_eq!(one.signal(&word).await.unwrap(), [SignalOutcome::Accepted]);
        assert_eq!(other.signal(&word).await.unwrap(), [SignalOutcome::Duplicate]);
        let stale = made(other, commit(&s, note(&s, at(1_003)), round)).await;
        let CommitOutcome::Stale(now) = stale else { panic!("{stale:?}") };
        assert_eq!((now.revision, now.signals.len()), (s.revision + 1, 1));
        let mut change = note(&now, at(1_004));
        change.consumed = now.signals.iter().map(|x| x.id.clone()).collect();
        let applied = made(one, commit(&now, change, 100 + round)).await;
        let CommitOutcome::Applied(now) = applied else { panic!("{applied:?}") };
        s = now;
        assert_eq!(other.load(&[task_id(1)]).await.unwrap(), [Some(s.as_ref().clone())]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_does_one_thing_at_a_time() {
    let schema = Schema::new().await;
    let handles = handles(&schema, 3).await;
    let handles: Vec<Arc<dyn TaskStore>> = handles.into_iter().map(|h| h as Arc<dyn TaskStore>).collect();
    crate::linear::in_order(&handles).await;
}

#[tokio::test]
async fn the_feed_never_turns_the_events_of_a_task_around() {
    let schema = Schema::new().await;
    let store = schema.open().await;
    store.submit(&[submit(task(1))]).await.unwrap();
    // As after a transaction with a higher number that was quicker to hold the task.
    schema.raw("UPDATE state SET told = told + 1000, v = v + 1").await;
    let s = store.claim(&claim(1, at(10), 1)).await.unwrap().pop().unwrap();
    assert!(matches!(made(&store, commit(&s, admit(&s, at(1)), 1)).await, CommitOutcome::Applied(_)));
    let ahead = "SELECT count(*) = 2 AND max(told) - min(told) >= 1000 FROM event";
    assert!(sqlx::query_scalar::<_, bool>(ahead).fetch_one(&mut schema.connect().await).await.unwrap());
}
