//! Histories of racing clients on real stores, each of which must have an order that the model agrees with.
//!
//! `ABCA_LINEAR_RACES=N` sets the number of races for each store (default 25 of 8 clients, 3 tasks and 30 calls a client).

use std::sync::Arc;

use abca_core::store::TaskStore;
use abca_core::testing::linear::{check, race};
use abca_store::InProcess;

const CLIENTS: usize = 8;
const TASKS: u64 = 3;
const STEPS: usize = 30;

fn races() -> u64 {
    std::env::var("ABCA_LINEAR_RACES").ok().and_then(|n| n.parse().ok()).unwrap_or(25)
}

/// Races clients over these handles, in turn.
pub async fn in_order(handles: &[Arc<dyn TaskStore>]) {
    let mut calls = 0;
    for seed in 0..races() {
        let stores: Vec<_> = handles.iter().cycle().take(CLIENTS).cloned().collect();
        let (submitted, history) = race(&stores, seed, TASKS, STEPS).await;
        assert_eq!(history.len(), CLIENTS * STEPS);
        calls += history.len();
        if let Err(disorder) = check(&submitted, &history) {
            panic!("{}, seed {seed}: {disorder}", handles[0].name());
        }
    }
    println!("{}: {calls} calls in order", handles[0].name());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_process_does_one_thing_at_a_time() {
    in_order(&[Arc::new(InProcess::new())]).await;
}

#[cfg(feature = "sqlite")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_does_one_thing_at_a_time() {
    let folder = tempfile::TempDir::new().unwrap();
    let (one, two) = (abca_store::Sqlite::open(folder.path()).await, abca_store::Sqlite::open(folder.path()).await);
    in_order(&[Arc::new(one.unwrap()), Arc::new(two.unwrap())]).await;
}
