//! Whole lives of tasks that do nothing, per second, at full durability: what the store alone costs.
//!
//! `cargo bench -p abca-store [-- seconds [in flight...]]`. A life is what the driver does: submit, claim, commit the admission (two
//! slots), commit the start intent, signal the registration, claim, commit running and give the lease back, signal the
//! result, claim, commit the end: 10 calls, 4 of them commits. `TMPDIR` says which disk. With `--features postgres` and a server's
//! URL in `ABCA_TEST_POSTGRES` also on PostgreSQL, in a schema of its own; `postgres`, `sqlite` or `in-process` as an argument is that alone.
//! `writers=N` sets PostgreSQL's writers, `cache_kib=N` SQLite's page cache. `before=N` lets N tasks end first (says how long that took), `waiting=N` submits N more
//! that wait for good, `running=N` has N that run for good: what a full store costs. The processor time is this process's, and behind `+` that of the server's
//! processes on this machine. Bytes are those of the log: what SQLite's process wrote to disk, or PostgreSQL's WAL. At the end
//! of a run stands the most memory that this process had.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use abca_core::store::{ClaimQuery, CommitOutcome, LeaseChange, SignalOutcome, SubmitOutcome, TaskStore};
use abca_core::task::{Change, SignalKind, Snapshot};
use abca_core::testing::fixtures::{self, admit, at, complete, limit, running, start_intent};
use abca_core::time::Millis;
use abca_core::{SessionId, TaskId, UserId};
use abca_store::{InProcess, Sqlite, SqliteConfig};

const CALLS: u64 = 10;

/// The numbers of tasks that fill the store begin here, those of tasks that wait at twice as much.
const FIRST: u64 = 1_000_000_000;

fn main() {
    let numbers: Vec<u64> = std::env::args().filter_map(|a| a.parse().ok()).collect();
    let seconds = numbers.first().copied().unwrap_or(5);
    let only = |in_flight: u64| numbers.len() < 2 || numbers[1..].contains(&in_flight);
    let words: Vec<String> =
        std::env::args().skip(1).filter(|a| ["sqlite", "postgres", "in-process"].contains(&a.as_str())).collect();
    let asked = |name: &str| words.is_empty() || words.iter().any(|w| w == name);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let folder = tempfile::TempDir::new().unwrap();
    println!("bare fdatasync of 4 KiB appended: {:.0}/s", syncs(folder.path(), Duration::from_secs(1)));
    println!(
        "store       in flight   lives/s   calls/s  syncs/life  KiB/life  cpu us/life     p50 ms     p95 ms     p99 ms   RSS MiB"
    );
    for in_flight in [1, 16, 64, 256, 1024].into_iter().filter(|n| only(*n) && asked("sqlite")) {
        let folder = tempfile::TempDir::new().unwrap();
        runtime.block_on(async {
            let mut config = SqliteConfig::new(folder.path());
            config.cache_kib = argument("cache_kib").unwrap_or(config.cache_kib);
            let store = Arc::new(Sqlite::open_with(config).await.unwrap());
            fill(store.clone()).await;
            let (syncs, bytes) = (store.transactions(), written());
            let run = lives(store.clone(), in_flight, Duration::from_secs(seconds)).await;
            report("sqlite", in_flight, &run, store.transactions() - syncs, written() - bytes);
            store.close().await.unwrap();
        });
    }
    #[cfg(feature = "postgres")]
    if let Some(url) = std::env::var("ABCA_TEST_POSTGRES").ok().filter(|_| asked("postgres")) {
        for in_flight in [1, 16, 64, 256, 1024].into_iter().filter(|n| only(*n)) {
            runtime.block_on(postgres(&url, in_flight, seconds));
        }
    }
    for in_flight in [1, 256].into_iter().filter(|n| only(*n) && asked("in-process")) {
        let store = Arc::new(InProcess::new());
        runtime.block_on(fill(store.clone()));
        let run = runtime.block_on(lives(store, in_flight, Duration::from_secs(1)));
        report("in-process", in_flight, &run, 0, 0);
    }
}

#[cfg(feature = "postgres")]
async fn postgres(url: &str, in_flight: u64, seconds: u64) {
    use sqlx::{AssertSqlSafe, Connection};

    let name = format!("bench_{}_{in_flight}", std::process::id());
    let mut config = abca_store::PostgresConfig::new(&format!("{url}?schema={name}")).unwrap();
    config.writers = argument("writers").unwrap_or(config.writers);
    abca_store::Postgres::init(&config).await.unwrap();
    let store = Arc::new(abca_store::Postgres::open_with(config).await.unwrap());
    fill(store.clone()).await;
    let mut conn = sqlx::PgConnection::connect(url).await.unwrap();
    let wal = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint";
    let bytes: i64 = sqlx::query_scalar(wal).fetch_one(&mut conn).await.unwrap();
    let syncs = store.transactions();
    let run = lives(store.clone(), in_flight, Duration::from_secs(seconds)).await;
    let bytes = sqlx::query_scalar::<_, i64>(wal).fetch_one(&mut conn).await.unwrap() - bytes;
    report("postgres", in_flight, &run, store.transactions() - syncs, bytes.unsigned_abs());
    store.close().await.unwrap();
    let drop = format!("SET client_min_messages = error; DROP SCHEMA {name} CASCADE");
    sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut conn).await.unwrap();
}

/// Processor time of every process of this name so far, in seconds.
fn processor_of(name: &str) -> f64 {
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let of = |stat: String| {
        let (head, rest) = stat.rsplit_once(')')?;
        let ticks = rest.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<f64>().ok());
        head.ends_with(&format!("({name}")).then(|| ticks.sum::<f64>())
    };
    all.filter_map(|p| of(std::fs::read_to_string(p.path().join("stat")).ok()?)).sum::<f64>() / 100.0
}

/// What the argument `name=` says.
fn argument<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::args().find_map(|a| a.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
}

/// Lets tasks end, and others wait, as the arguments say.
async fn fill(store: Arc<dyn TaskStore>) {
    let number = |name| argument::<u64>(name).unwrap_or(0);
    let (before, waiting, began) = (number("before"), number("waiting"), Instant::now());
    each(before, store.clone(), |store, n| async move { life(store.as_ref(), FIRST + n).await }).await;
    let ids: Vec<u64> = (1..=waiting).map(|n| 2 * FIRST + n).collect();
    for ids in ids.chunks(256) {
        let new = |n: &u64| {
            let mut task = fixtures::task(*n);
            task.user = UserId::new("user-of-many").unwrap();
            task.spec.limits.slots = vec![limit("user:user-of-many", 1, true), limit("system", 1_000_000, false)];
            fixtures::submit(task)
        };
        store.submit(&ids.iter().map(new).collect::<Vec<_>>()).await.unwrap();
    }
    let running = number("running");
    each(running, store, |store, n| async move { drop(begin(store.as_ref(), 3 * FIRST + n).await) }).await;
    if before + waiting + running > 0 {
        let took = began.elapsed().as_secs_f64();
        println!("filled: {before} ended, {waiting} waiting, {running} running, in {took:.0} s; {:.0} MiB", memory());
    }
}

/// Does this for each number from 1 on, 256 at a time.
async fn each<F: Future<Output = ()> + Send + 'static>(
    count: u64,
    store: Arc<dyn TaskStore>,
    work: impl Fn(Arc<dyn TaskStore>, u64) -> F + Copy + Send + 'static,
) {
    let next = Arc::new(AtomicU64::new(1));
    let workers = (0..256).map(|_| {
        let (store, next) = (store.clone(), next.clone());
        tokio::spawn(async move {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n > count {
                    return;
                }
                work(store.clone(), n).await;
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await.unwrap();
    }
}

/// What this process wrote to disk so far, in bytes.
fn written() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    io.lines().find_map(|l| l.strip_prefix("write_bytes: ")?.parse().ok()).unwrap_or(0)
}

/// The most memory that this process had, in MiB.
fn memory() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse::<f64>().ok());
    peak.unwrap_or(0.0) / 1024.0
}

fn report(name: &str, in_flight: u64, run: &Run, syncs: u64, bytes: u64) {
    let (syncs, bytes) = (syncs as f64 / run.lives as f64, bytes as f64 / 1024.0 / run.lives as f64);
    let rate = run.lives as f64 / run.took.as_secs_f64();
    let ms = |q: f64| run.latencies[((run.latencies.len() - 1) as f64 * q) as usize].as_secs_f64() * 1e3;
    let calls = rate * CALLS as f64;
    let cpu = |seconds: f64| seconds * 1e6 / run.lives as f64;
    let cpu = format!("{:.0}+{:.0}", cpu(run.processor), cpu(run.server));
    println!(
        "{name:<11} {in_flight:>9} {rate:>9.0} {calls:>9.0} {syncs:>11.3} {bytes:>9.1} {cpu:>12} {:>10.2} {:>10.2} {:>10.2} {:>9.0}",
        ms(0.5),
        ms(0.95),
        ms(0.99),
        memory()
    );
}

fn syncs(folder: &Path, time: Duration) -> f64 {
    let mut file = std::fs::File::create(folder.join("syncs")).unwrap();
    let (start, mut n) = (Instant::now(), 0.0);
    while start.elapsed() < time {
        file.write_all(&[7; 4096]).unwrap();
        file.sync_data().unwrap();
        n += 1.0;
    }
    n / start.elapsed().as_secs_f64()
}

/// Processor time of this process so far, user and system, in seconds; Linux only, with 10 ms grain.
fn processor() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: f64 = after_name.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<f64>().ok()).sum();
    ticks / 100.0
}

struct Run {
    lives: u64,
    processor: f64,
    server: f64,
    took: Duration,
    latencies: Vec<Duration>,
}

async fn lives(store: Arc<dyn TaskStore>, in_flight: u64, time: Duration) -> Run {
    let next = Arc::new(AtomicU64::new(1));
    let (start, before, server) = (Instant::now(), processor(), processor_of("postgres"));
    let workers: Vec<_> = (0..in_flight)
        .map(|_| {
            let (store, next) = (store.clone(), next.clone());
            tokio::spawn(async move {
                let mut latencies = Vec::new();
                while start.elapsed() < time {
                    let begun = Instant::now();
                    life(store.as_ref(), next.fetch_add(1, Ordering::Relaxed)).await;
                    latencies.push(begun.elapsed());
                }
                latencies
            })
        })
        .collect();
    let mut latencies = Vec::new();
    for worker in workers {
        latencies.extend(worker.await.unwrap());
    }
    let took = start.elapsed();
    latencies.sort();
    let server = processor_of("postgres") - server;
    Run { lives: latencies.len() as u64, processor: processor() - before, server, took, latencies }
}

/// Submits a task and sees it run.
async fn begin(store: &dyn TaskStore, n: u64) -> (TaskId, SessionId) {
    let mut task = fixtures::task(n);
    let user = format!("user-{}", n % 10_000);
    task.user = UserId::new(&user).unwrap();
    task.spec.limits.slots = vec![limit(&format!("user:{user}"), 100, true), limit("system", 1_000_000, false)];
    let id = task.id;
    let session = SessionId::of(id, 1);
    let submit = [fixtures::submit(task)];
    let made = store.submit(&submit).await.unwrap();
    assert!(matches!(made.as_slice(), [SubmitOutcome::Created(_)]));
    let s = claim(store, id, n).await;
    let s = commit(store, &s, admit(&s, at(n)), LeaseChange::Keep).await;
    let s = commit(store, &s, start_intent(&s, at(n)), LeaseChange::Keep).await;
    let word = [fixtures::registration(&session, id, at(n))];
    assert_eq!(store.signal(&word).await.unwrap(), [SignalOutcome::Accepted]);
    drop(s);
    let s = claim(store, id, n).await;
    let away = LeaseChange::Release { due: Some(at(n).after(Millis::secs(30))) };
    commit(store, &s, running(&s, at(n)), away).await;
    (id, session)
}

async fn life(store: &dyn TaskStore, n: u64) {
    let (id, session) = begin(store, n).await;
    let last = [fixtures::signal(id, "exited", SignalKind::SessionExited { session }, at(n))];
    assert_eq!(store.signal(&last).await.unwrap(), [SignalOutcome::Accepted]);
    let s = claim(store, id, n).await;
    commit(store, &s, complete(&s, at(n)), LeaseChange::Keep).await;
}

async fn claim(store: &dyn TaskStore, id: TaskId, n: u64) -> Snapshot {
    let query = ClaimQuery { task: Some(id), ..fixtures::claim(1, at(n), 1) };
    store.claim(&query).await.unwrap().pop().expect("due")
}

async fn commit(store: &dyn TaskStore, s: &Snapshot, change: Change, lease: LeaseChange) -> Snapshot {
    let mut commit = fixtures::commit(s, change, 0);
    commit.lease = lease;
    match store.commit(&[commit]).await.unwrap().pop() {
        Some(CommitOutcome::Applied(s)) => *s,
        other => panic!("want the commit applied, got {other:?}"),
    }
}
