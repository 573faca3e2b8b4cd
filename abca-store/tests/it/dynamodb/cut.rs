//! Scopes that are cut into parts.

use std::collections::BTreeMap;
use std::sync::Arc;

use abca_core::store::{CommitOutcome, TaskStore};
use abca_core::task::{SlotChange, SlotScope};
use abca_core::testing::fixtures::{admit, at, cancelled, commit, limit, submit, task_id, task_with_slots};
use abca_store::DynamoDb;

use super::days::{applied, parked, take};
use super::races::dies_after;
use super::{config, raw, unused};

async fn held(store: &DynamoDb) -> usize {
    let system = SlotScope("system".to_owned());
    store.slots().await.unwrap().into_iter().find(|u| u.scope == system).map_or(0, |u| u.holders.len())
}

async fn tries(store: &DynamoDb, n: u64, cap: u32) -> bool {
    let s = take(store, n).await;
    let mut change = admit(&s, at(100));
    change.slots = SlotChange::Acquire(vec![limit("system", cap, false)]);
    match store.commit(&[commit(&s, change, 1)]).await.unwrap().pop() {
        Some(CommitOutcome::Applied(_)) => true,
        Some(CommitOutcome::SlotDenied(_)) => false,
        other => panic!("task {n}: {other:?}"),
    }
}

async fn accept(store: &DynamoDb, tasks: std::ops::RangeInclusive<u64>, cap: u32) {
    for n in tasks {
        store.submit(&[submit(task_with_slots(n, vec![limit("system", cap, false)]))]).await.unwrap();
    }
}

async fn end(store: &DynamoDb, n: u64) {
    let s = store.load(&[task_id(n)]).await.unwrap().pop().flatten().unwrap();
    applied(store, &s, cancelled(&s, at(200))).await;
}

/// In parts of two slots from a cap of four on.
async fn opened(table: &str) -> DynamoDb {
    let mut config = config(table);
    (config.cut_from, config.slots_a_part) = (4, 2);
    DynamoDb::init(config).await.unwrap()
}

#[tokio::test]
async fn a_cap_is_raised_above_what_one_item_was_for_and_lowered_below_what_is_held() {
    let table = unused();
    let store = opened(&table).await;
    accept(&store, 1..=40, 12).await;
    for n in 1..=3 {
        assert!(tries(&store, n, 3).await, "in one item");
    }
    assert!(!tries(&store, 4, 3).await);
    for n in 5..=13 {
        assert!(tries(&store, n, 12).await, "in parts, those who were there among them: task {n}");
    }
    assert!(!tries(&store, 14, 12).await);
    let parts = raw("Scan", &format!(r#"{{"TableName":"{table}","ProjectionExpression":"pk"}}"#));
    assert_eq!(parts.matches("S#system").count(), 6);
    // Lowered: nobody ends, nobody comes in before enough have ended by themselves.
    assert!(!tries(&store, 15, 5).await);
    for n in 5..=11 {
        end(&store, n).await;
        assert!(!tries(&store, 11 + n, 5).await || held(&store).await <= 5, "{} hold", held(&store).await);
    }
    assert_eq!(held(&store).await, 5);
    for n in [12, 1] {
        end(&store, n).await;
    }
    assert_eq!(held(&store).await, 3);
    assert!(tries(&store, 30, 5).await);
    assert!(tries(&store, 31, 5).await);
    assert!(!tries(&store, 32, 5).await);
    // And raised again; an order that asks for less is kept too.
    for n in 33..=39 {
        assert!(tries(&store, n, 12).await, "task {n}");
    }
    assert!(!tries(&store, 40, 11).await);
    assert_eq!(held(&store).await, 12);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_know_different_caps_stay_below_their_own() {
    let table = unused();
    opened(&table).await;
    let mut racing = Vec::new();
    for (i, cap) in [(0, 5), (1, 9), (2, 9), (3, 5)] {
        let store = Arc::new(opened(&table).await);
        racing.push(tokio::spawn(async move {
            let mut inside = 0;
            for n in i * 10 + 1..=i * 10 + 8 {
                accept(&store, n..=n, cap).await;
                inside += usize::from(tries(&store, n, cap).await);
                assert!(held(&store).await <= 9);
            }
            inside
        }));
    }
    let mut inside = 0;
    for one in racing {
        inside += one.await.unwrap();
    }
    let store = opened(&table).await;
    assert_eq!((inside, held(&store).await), (9, 9), "whoever may come in up to nine finds the last room");
}

#[tokio::test]
async fn whoever_dies_while_it_cuts_leaves_the_rest_to_the_next() {
    for polls in (0..42).step_by(3) {
        let table = unused();
        let store = opened(&table).await;
        accept(&store, 1..=9, 6).await;
        for n in 1..=3 {
            assert!(tries(&store, n, 3).await);
        }
        let dying = opened(&table).await;
        let s = take(&store, 4).await;
        let batch = [commit(&s, admit(&s, at(100)), 1)];
        dies_after(polls, dying.commit(&batch)).await;
        // The cap is another one yet for whoever comes next.
        let cap = if polls % 2 == 0 { 6 } else { 7 };
        let mut inside = held(&store).await;
        for n in 5..=9 {
            inside += usize::from(tries(&store, n, cap).await);
        }
        assert_eq!((inside, held(&store).await), (cap as usize, cap as usize), "after {polls} polls");
    }
}

#[tokio::test]
async fn who_is_held_up_by_a_scope_in_parts_after_all_is_woken_by_any_part() {
    let table = unused();
    let store = opened(&table).await;
    let slots = |name: &str| vec![limit(&format!("repo:{name}"), 1, false), limit("system", 4, false)];
    for n in 1..=6 {
        let name = BTreeMap::from([(1, "a"), (2, "a")]).get(&n).map_or_else(|| n.to_string(), ToString::to_string);
        store.submit(&[submit(task_with_slots(n, slots(&name)))]).await.unwrap();
    }
    for n in [1, 3, 4, 5] {
        let s = take(&store, n).await;
        applied(&store, &s, admit(&s, at(50))).await;
    }
    // Task 2 waits for the repository of task 1; when that ends, task 6 has taken the system's last slot.
    parked(&store, take(&store, 2).await).await;
    let waiting = take(&store, 6).await;
    let ends = store.load(&[task_id(1)]).await.unwrap().pop().flatten().unwrap();
    let batch = [commit(&ends, cancelled(&ends, at(60)), 1), commit(&waiting, admit(&waiting, at(60)), 1)];
    let outcomes = store.commit(&batch).await.unwrap();
    assert!(outcomes.iter().all(|o| matches!(o, CommitOutcome::Applied(_))), "{outcomes:?}");
    assert_eq!(store.claim(&abca_core::testing::fixtures::claim(7, at(900), 9)).await.unwrap(), []);
    end(&store, 4).await;
    let woken = store.claim(&abca_core::testing::fixtures::claim(7, at(901), 9)).await.unwrap();
    assert_eq!(woken.iter().map(abca_core::task::Snapshot::id).collect::<Vec<_>>(), [task_id(2)]);
}
