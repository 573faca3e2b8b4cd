//! Bad days at some size: what many at once ask of one store.

use std::sync::Arc;

use abca_core::store::{ClaimQuery, CommitOutcome, LeaseChange, Release, SignalOutcome, TaskStore};
use abca_core::task::{Cause, SignalKind, TaskStatus};
use abca_core::testing::fixtures::{
    admit, at, cancelled, claim, commit, limit, signal, step, submit, task, task_id, task_with_slots, user,
};
use abca_core::testing::store::join_all;

fn cancel() -> SignalKind {
    SignalKind::Cancel { by: "ann".to_owned() }
}

/// One signal is sent a thousand times at once.
async fn the_same_signal_many_times(store: &Arc<dyn TaskStore>) {
    store.submit(&[submit(task(1))]).await.unwrap();
    let word = [signal(task_id(1), "cancel", cancel(), at(10))];
    let outcomes = join_all((0..1_000).map(|_| store.signal(&word))).await;
    let accepted = outcomes.iter().filter(|o| o.as_ref().unwrap()[..] == [SignalOutcome::Accepted]).count();
    let known = outcomes.iter().filter(|o| o.as_ref().unwrap()[..] == [SignalOutcome::Duplicate]).count();
    assert_eq!((accepted, known), (1, 999));
    assert_eq!(store.load(&[task_id(1)]).await.unwrap()[0].as_ref().unwrap().signals.len(), 1);
}

/// A thousand tasks are cancelled at once, while two workers look for what was signalled.
async fn many_cancels(store: &Arc<dyn TaskStore>) {
    let slots = vec![limit("user:ann", 10, true), limit("system", 500, false)];
    for n in (1..=1_000).collect::<Vec<u64>>().chunks(250) {
        let batch: Vec<_> = n.iter().map(|n| submit(task_with_slots(*n, slots.clone()))).collect();
        store.submit(&batch).await.unwrap();
    }
    for s in store.claim(&claim(1, at(5_000), 10)).await.unwrap() {
        let mut inside = commit(&s, admit(&s, at(5_000)), 1);
        inside.lease = LeaseChange::Release { due: None };
        assert!(matches!(store.commit(&[inside]).await.unwrap()[..], [CommitOutcome::Applied(_)]));
    }
    let words: Vec<_> = (1..=1_000).map(|n| [signal(task_id(n), "cancel", cancel(), at(6_000))]).collect();
    let told = join_all(words.iter().map(|word| store.signal(word)));
    let ended = join_all((1..=2).map(|worker| async move {
        let mut ended = 0;
        // Whoever finds nothing may only have come too early.
        for _ in 0..1_000 {
            let query = ClaimQuery { signalled: true, ..claim(worker, at(7_000), 50) };
            let mine = store.claim(&query).await.unwrap();
            let ends: Vec<_> = mine.iter().map(|s| commit(s, cancelled(s, at(7_000)), 1)).collect();
            for outcome in store.commit(&ends).await.unwrap() {
                assert!(matches!(outcome, CommitOutcome::Applied(_)), "{outcome:?}");
                ended += 1;
            }
            tokio::task::yield_now().await;
        }
        ended
    }));
    let (told, ended) = tokio::join!(told, ended);
    assert!(told.iter().all(|o| o.as_ref().unwrap()[..] == [SignalOutcome::Accepted]));
    assert_eq!(ended.iter().sum::<usize>(), 1_000, "each once: {ended:?}");
    assert_eq!(store.slots().await.unwrap(), []);
}

/// One user's two thousand tasks wait for one slot; another user's only task is not held up, and room goes to the first.
async fn a_long_queue(store: &Arc<dyn TaskStore>) {
    let slots = vec![limit("user:ann", 1, true), limit("system", 500, false)];
    for n in (1..=2_000).collect::<Vec<u64>>().chunks(250) {
        let batch: Vec<_> = n.iter().map(|n| submit(task_with_slots(*n, slots.clone()))).collect();
        store.submit(&batch).await.unwrap();
    }
    let mut holder = None;
    loop {
        let mine = store.claim(&claim(1, at(10_000), 100)).await.unwrap();
        if mine.is_empty() {
            break;
        }
        let tries: Vec<_> = mine.iter().map(|s| commit(s, admit(s, at(10_000)), 1)).collect();
        let outcomes = store.commit(&tries).await.unwrap();
        let mut queued = Vec::new();
        for (s, outcome) in mine.iter().zip(outcomes) {
            match outcome {
                CommitOutcome::Applied(s) => assert!(holder.replace(s).is_none(), "one at a time"),
                CommitOutcome::SlotDenied(_) => {
                    let mut c = commit(s, step(s, TaskStatus::Queued, Cause::SlotDenied, at(10_000)), 2);
                    c.lease = LeaseChange::Release { due: None };
                    queued.push(c);
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(store.commit(&queued).await.unwrap().iter().all(|o| matches!(o, CommitOutcome::Applied(_))));
    }
    let mut other = task_with_slots(3_000, vec![limit("user:bob", 1, true), limit("system", 500, false)]);
    other.user = user("bob");
    store.submit(&[submit(other)]).await.unwrap();
    let due = store.claim(&claim(2, at(20_000), 100)).await.unwrap();
    assert_eq!(due.iter().map(|s| s.id()).collect::<Vec<_>>(), [task_id(3_000)]);
    let admitted = store.commit(&[commit(&due[0], admit(&due[0], at(20_000)), 1)]).await.unwrap();
    assert!(matches!(admitted[..], [CommitOutcome::Applied(_)]));
    let holder = holder.expect("one is inside");
    let away = Release { task: holder.id(), epoch: holder.epoch, expect_revision: holder.revision, due: None };
    assert_eq!(store.release(&[away]).await.unwrap(), [true]);
    let again = store.claim(&ClaimQuery { task: Some(holder.id()), ..claim(1, at(20_000), 1) }).await.unwrap();
    store.commit(&[commit(&again[0], cancelled(&again[0], at(20_001)), 3)]).await.unwrap();
    let next = store.claim(&claim(3, at(20_002), 100)).await.unwrap();
    assert_eq!(next.iter().map(|s| s.id()).collect::<Vec<_>>(), [task_id(2)], "the first that waits, and nobody else");
}

/// Each on an empty store.
async fn all([a, b, c]: [Arc<dyn TaskStore>; 3]) {
    the_same_signal_many_times(&a).await;
    many_cancels(&b).await;
    a_long_queue(&c).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_process_stands_bad_days() {
    all([(); 3].map(|()| Arc::new(abca_store::InProcess::new()) as Arc<dyn TaskStore>)).await;
}

#[cfg(feature = "sqlite")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_stands_bad_days() {
    let folder = tempfile::TempDir::new().unwrap();
    let open = async |name| Arc::new(abca_store::Sqlite::open(folder.path().join(name)).await.unwrap());
    all([open("a").await, open("b").await, open("c").await]).await;
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_stands_bad_days() {
    use crate::postgres::Schema;

    let schemas = [Schema::new().await, Schema::new().await, Schema::new().await];
    let open = async |n: usize| Arc::new(schemas[n].open().await);
    all([open(0).await, open(1).await, open(2).await]).await;
}
