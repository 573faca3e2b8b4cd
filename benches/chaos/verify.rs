//! What must hold when all is quiet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use abca::clock::SystemClock;
use abca_core::store::{FeedCursor, FeedQuery, TaskStore};
use abca_core::{Clock, TaskId};

use super::host::Host;

/// Waits until every task has ended.
pub async fn quiet(store: &Arc<dyn TaskStore>, patience: Duration) -> Duration {
    let began = Instant::now();
    loop {
        if let Ok(counts) = store.operator().counts(SystemClock.now()).await {
            let open: u64 = counts.by_status.iter().filter(|(s, _)| !s.is_terminal()).map(|(_, n)| n).sum();
            if open == 0 || began.elapsed() > patience {
                println!("{counts:?}");
                return began.elapsed();
            }
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Checks what the world saw and what the store says; prints what is wrong.
pub async fn all(store: &Arc<dyn TaskStore>, host: &Host, submitted: &[TaskId]) -> bool {
    let mut ends: BTreeMap<TaskId, u32> = BTreeMap::new();
    let mut last: BTreeMap<TaskId, u64> = BTreeMap::new();
    let mut gaps = 0;
    let mut events = 0u64;
    let mut query = FeedQuery { after: FeedCursor::START, limit: 5_000 };
    loop {
        let page = store.operator().feed(&query).await.unwrap();
        if page.events.is_empty() {
            break;
        }
        for event in page.events {
            events += 1;
            let seq = last.entry(event.task_id).or_default();
            gaps += u64::from(event.seq.0 != *seq + 1);
            *seq = event.seq.0;
            *ends.entry(event.task_id).or_default() += u32::from(event.event_type.is_terminal());
        }
        query.after = page.next;
    }
    let tasks: BTreeSet<TaskId> = submitted.iter().copied().collect();
    let mut statuses: BTreeMap<String, u64> = BTreeMap::new();
    let mut missing = 0;
    for batch in submitted.chunks(500) {
        for found in store.load(batch).await.unwrap() {
            match found {
                Some(snapshot) => *statuses.entry(snapshot.task.status.to_string()).or_default() += 1,
                None => missing += 1,
            }
        }
    }
    let held = store.slots().await.unwrap().len();
    let told = host.told.lock().unwrap();
    let twice = told.reports.values().filter(|n| **n > 1).count();
    let not_once = tasks.iter().filter(|t| ends.get(t).copied().unwrap_or(0) != 1).count();
    println!("tasks accepted {}, distinct {}, by status {statuses:?}", submitted.len(), tasks.len());
    println!("events {events} of {} tasks, out of order or with gaps {gaps}", last.len());
    println!("lost: {missing} gone, {not_once} without exactly one end; slots still held in {held} scopes");
    println!("doubled: {twice} with two reports accepted, {} with two live sessions at once", told.doubled.len());
    let completed = statuses.get("COMPLETED").copied().unwrap_or(0);
    println!("not completed: {}", submitted.len() as u64 - completed);
    tasks.len() == submitted.len()
        && missing == 0
        && not_once == 0
        && gaps == 0
        && twice == 0
        && told.doubled.is_empty()
        && held == 0
}
