//! Whole lives of tasks whose sessions do nothing, through the real orchestrator on SQLite at full durability.
//!
//! `cargo bench -p abca --features bench --bench lives [-- --seconds N --in-flight N]`. A life is what a user's is:
//! `submit`, then `outcome`; in between the worker claims, prepares, admits (two slots), starts a session of this
//! process, which registers over the link and reports at once. Only preparation and session do nothing. The store counts
//! its transactions, each of which is one sync; a commit is an atomic change of a task, counted at the store's door.
//! `TMPDIR` says which disk.

mod common;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use abca::{Abca, NewTask, UserId};
use abca_compute::{InProcess as InProcessCompute, SessionRunner};
use abca_core::blueprint::PlatformDefaults;
use abca_core::compute::StartSession;
use abca_core::event::Event;
use abca_core::id::{IdempotencyKey, WorkerId};
use abca_core::link::SessionLink;
use abca_core::session::LogRecord;
use abca_core::store::{
    Append, AppendOutcome, ClaimQuery, Commit, CommitOutcome, EventQuery, ListQuery, LogQuery, NewSignal,
    OperatorStore, Release, Renewal, SignalOutcome, SlotUsage, StoreCapabilities, StoreError, Submit, SubmitOutcome,
    TaskStore,
};
use abca_core::task::{Snapshot, Task};
use abca_core::{SessionId, TaskId, Timestamp};
use abca_store::Sqlite;
use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use common::{Ready, at, cpu, headline, option, report, syncs};

fn main() {
    headline("lives");
    let seconds = Duration::from_secs(option("--seconds", 5));
    let only = option("--in-flight", 0);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    println!(
        "{:>9} {:>8} {:>9} {:>13} {:>11} {:>12} {:>8} {:>8} {:>8} {:>12}",
        "in flight",
        "lives/s",
        "fsync/s",
        "commits/life",
        "calls/life",
        "syncs/life",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        "cpu ms/life"
    );
    for in_flight in [1, 16, 256].into_iter().filter(|n| only == 0 || *n == only) {
        let folder = tempfile::TempDir::new().unwrap();
        let bare = syncs(folder.path());
        runtime.block_on(measure(folder.path(), in_flight, seconds, bare));
    }
    println!("load afterwards: {}", common::load());
}

async fn measure(folder: &Path, in_flight: u64, time: Duration, bare: f64) {
    let sqlite = Arc::new(Sqlite::open(folder).await.unwrap());
    let counted = Arc::new(Counted { inner: sqlite.clone(), counts: Counts::default() });
    let mut platform = PlatformDefaults::default();
    platform.max_concurrent_tasks = 100_000;
    platform.max_concurrent_tasks_per_user = 1_000;
    let abca = Abca::builder()
        .store(counted.clone())
        .compute_with(|platform| Ok(Arc::new(InProcessCompute::new(Arc::new(Nothing(platform.link.clone()))))))
        .preparer(Arc::new(Ready))
        .platform(platform)
        .build()
        .await
        .unwrap();
    life(&abca, 0).await;
    let next = Arc::new(AtomicU64::new(1));
    let (calls, commits, transactions, busy) =
        (counted.counts.calls(), counted.counts.commits(), sqlite.transactions(), cpu());
    let start = Instant::now();
    let clients: Vec<_> = (0..in_flight)
        .map(|_| {
            let (abca, next) = (abca.clone(), next.clone());
            tokio::spawn(async move {
                let mut took = Vec::new();
                while start.elapsed() < time {
                    let begun = Instant::now();
                    life(&abca, next.fetch_add(1, Ordering::Relaxed)).await;
                    took.push(begun.elapsed());
                }
                took
            })
        })
        .collect();
    let mut took = Vec::new();
    for client in clients {
        took.extend(client.await.unwrap());
    }
    let lives = took.len() as f64;
    let rate = lives / start.elapsed().as_secs_f64();
    let each = |now: u64, before: u64| (now - before) as f64 / lives;
    let (p50, p95, p99) = (at(&mut took, 0.5), at(&mut took, 0.95), at(&mut took, 0.99));
    println!(
        "{in_flight:>9} {rate:>8.0} {bare:>9.0} {:>13.2} {:>11.2} {:>12.3} {p50:>8.2} {p95:>8.2} {p99:>8.2} {:>12.3}",
        each(counted.counts.commits(), commits),
        each(counted.counts.calls(), calls),
        each(sqlite.transactions(), transactions),
        (cpu() - busy).as_secs_f64() * 1e3 / lives,
    );
    if std::env::var_os("DETAIL").is_some() {
        counted.counts.print(lives + 1.0);
    }
    abca.shutdown().await;
    drop(abca);
    sqlite.close().await.unwrap();
}

async fn life(abca: &Abca, n: u64) {
    let user = UserId::new(format!("user-{}", n % 1_000)).unwrap();
    let task = abca.submit_as(&user, NewTask::new("acme/web", "nothing")).await.unwrap();
    assert!(task.outcome().await.unwrap().is_success());
}

/// A session that registers and reports.
#[derive(Debug)]
struct Nothing(Arc<dyn SessionLink>);

#[async_trait]
impl SessionRunner for Nothing {
    async fn run(&self, request: StartSession, _stop: CancellationToken) -> i32 {
        self.0.register(request.task, &request.session).await.unwrap();
        self.0.report(request.task, &request.session, &report()).await.unwrap();
        0
    }
}

const NAMES: [&str; 14] = [
    "submit",
    "commit",
    "claim",
    "claim(empty)",
    "renew",
    "release",
    "signal",
    "append",
    "heartbeat",
    "load",
    "events",
    "log",
    "next_due",
    "other",
];

#[derive(Debug, Default)]
struct Counts([AtomicU64; NAMES.len()]);

impl Counts {
    fn add(&self, name: &str) {
        let place = NAMES.iter().position(|n| *n == name).unwrap();
        self.0[place].fetch_add(1, Ordering::Relaxed);
    }

    fn calls(&self) -> u64 {
        self.0.iter().map(|n| n.load(Ordering::Relaxed)).sum()
    }

    /// Atomic changes of a task: submissions and commits.
    fn commits(&self) -> u64 {
        self.0[..2].iter().map(|n| n.load(Ordering::Relaxed)).sum()
    }

    fn print(&self, lives: f64) {
        for (name, n) in NAMES.iter().zip(&self.0) {
            println!("    {name:<14} {:.2}", n.load(Ordering::Relaxed) as f64 / lives);
        }
    }
}

/// A store that counts what is asked of it.
#[derive(Debug)]
struct Counted {
    inner: Arc<Sqlite>,
    counts: Counts,
}

#[async_trait]
impl TaskStore for Counted {
    fn name(&self) -> &'static str {
        self.inner.name()
    }
    fn capabilities(&self) -> StoreCapabilities {
        self.inner.capabilities()
    }
    async fn submit(&self, batch: &[Submit]) -> Result<Vec<SubmitOutcome>, StoreError> {
        self.counts.add("submit");
        self.inner.submit(batch).await
    }
    async fn commit(&self, batch: &[Commit]) -> Result<Vec<CommitOutcome>, StoreError> {
        self.counts.add("commit");
        let outcomes = self.inner.commit(batch).await?;
        if self.counts.commits() < 20 && std::env::var_os("DETAIL").is_some() {
            for (commit, outcome) in batch.iter().zip(&outcomes) {
                let told: Vec<&str> = commit.change.events.iter().map(|e| e.event_type.as_str()).collect();
                let status = commit.change.task.status;
                println!("    {status} tells {told:?}, lease {:?}: {:.12}", commit.lease, format!("{outcome:?}"));
            }
        }
        Ok(outcomes)
    }
    async fn claim(&self, query: &ClaimQuery) -> Result<Vec<Snapshot>, StoreError> {
        let claimed = self.inner.claim(query).await?;
        self.counts.add(if claimed.is_empty() { "claim(empty)" } else { "claim" });
        Ok(claimed)
    }
    async fn renew(&self, batch: &[Renewal]) -> Result<Vec<bool>, StoreError> {
        self.counts.add("renew");
        self.inner.renew(batch).await
    }
    async fn expire(&self, workers: &[WorkerId], now: Timestamp) -> Result<u64, StoreError> {
        self.counts.add("other");
        self.inner.expire(workers, now).await
    }
    async fn release(&self, batch: &[Release]) -> Result<Vec<bool>, StoreError> {
        self.counts.add("release");
        self.inner.release(batch).await
    }
    async fn signal(&self, batch: &[NewSignal]) -> Result<Vec<SignalOutcome>, StoreError> {
        self.counts.add("signal");
        self.inner.signal(batch).await
    }
    async fn append(&self, batch: &[Append]) -> Result<Vec<AppendOutcome>, StoreError> {
        self.counts.add("append");
        self.inner.append(batch).await
    }
    async fn heartbeat(&self, task: TaskId, session: &SessionId, now: Timestamp) -> Result<bool, StoreError> {
        self.counts.add("heartbeat");
        self.inner.heartbeat(task, session, now).await
    }
    async fn load(&self, ids: &[TaskId]) -> Result<Vec<Option<Snapshot>>, StoreError> {
        self.counts.add("load");
        self.inner.load(ids).await
    }
    async fn find(&self, user: &UserId, key: &IdempotencyKey) -> Result<Option<TaskId>, StoreError> {
        self.counts.add("other");
        self.inner.find(user, key).await
    }
    async fn events(&self, query: &EventQuery) -> Result<Vec<Event>, StoreError> {
        self.counts.add("events");
        self.inner.events(query).await
    }
    async fn log(&self, query: &LogQuery) -> Result<Vec<(u64, LogRecord)>, StoreError> {
        self.counts.add("log");
        self.inner.log(query).await
    }
    async fn list(&self, query: &ListQuery) -> Result<Vec<Task>, StoreError> {
        self.counts.add("other");
        self.inner.list(query).await
    }
    async fn slots(&self) -> Result<Vec<SlotUsage>, StoreError> {
        self.counts.add("other");
        self.inner.slots().await
    }
    async fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        self.counts.add("next_due");
        self.inner.next_due().await
    }

    async fn rung(&self) {
        self.inner.rung().await;
    }

    fn operator(&self) -> &dyn OperatorStore {
        self.inner.operator()
    }
}
