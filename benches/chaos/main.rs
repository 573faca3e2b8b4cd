//! Real processes on a real PostgreSQL, and everything that can go wrong with both.
//!
//! `cargo bench -p abca --features bench,postgres --bench chaos [-- --seconds N --rate N --workers N]`. A server of its own is
//! started by `scripts/postgres` on a small tmpfs (root) or a folder. Worker processes, which are this very program, drive
//! tasks whose sessions live in the parent, as in a backend elsewhere: they outlive workers, and die by themselves now and
//! then. The parent submits at a steady rate, kills and stops workers, stops the server at once, ends its connections, fills
//! its disk, and slows its syncs; then it waits for quiet and counts: every submitted task has ended, once, by one report,
//! with gapless events, and no task ever had two live sessions.

#[path = "../common/mod.rs"]
mod common;
mod host;
mod monkey;
mod server;
mod verify;
mod worker;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use abca::Abca;
use abca_core::store::TaskStore;
use abca_store::{Postgres, PostgresConfig};

use common::{headline, option};
use host::Host;
use monkey::Monkey;
use server::Server;

/// How long workers hold a lease: short, so that ten minutes hold many take-overs.
const LEASE_MS: u64 = 5_000;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if let Ok(url) = std::env::var("ABCA_CHAOS_WORKER") {
        runtime.block_on(worker::work(&url, Path::new(&std::env::var("ABCA_CHAOS_SPOOL").unwrap())));
        return;
    }
    headline("chaos");
    let seconds = Duration::from_secs(option("--seconds", 60));
    runtime.block_on(all(seconds, option("--rate", 100), option("--workers", 3)));
    println!("load afterwards: {}", common::load());
}

async fn open(url: &str) -> Arc<dyn TaskStore> {
    let began = Instant::now();
    loop {
        match Postgres::open(url).await {
            Ok(store) => return Arc::new(store),
            Err(error) if error.is_retryable() && began.elapsed() < Duration::from_secs(60) => {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

async fn all(time: Duration, rate: u64, workers: u64) {
    let folder = tempfile::TempDir::new().unwrap();
    let server = Server::start(folder.path());
    Postgres::init(&PostgresConfig::new(server.url()).unwrap()).await.unwrap();
    let store = open(server.url()).await;
    let abca = Abca::builder().store(store.clone()).platform(worker::platform()).worker(false).build().await.unwrap();
    let host = Host::start(&folder.path().join("spool"), store.clone());
    let mut monkey = Monkey::new(server, host.clone(), workers);
    let submitting = tokio::spawn(host::submit(abca, host.clone(), rate, time));
    monkey.play(time, rate).await;
    let submitted = submitting.await.unwrap();
    println!("submitted {} tasks; waiting for quiet", submitted.len());
    monkey.calm();
    let quiet = verify::quiet(&store, Duration::from_secs(300)).await;
    println!("quiet after {:.1} s", quiet.as_secs_f64());
    monkey.print();
    let sound = verify::all(&store, &host, &submitted).await;
    monkey.end();
    assert!(sound, "something was lost or doubled: see above");
}
