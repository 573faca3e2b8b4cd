//! What the peers' drivers share: so many tasks at a time for so long, and the line that says how it went.

pub mod door;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The steps of a life, each durable before the next.
pub const STEPS: [&str; 7] = ["submit", "admit", "hydrate", "start_session", "observe", "finalize", "release"];

/// The result that hydration and the end leave: 1 KB.
pub fn kilobyte() -> String {
    "0123456789abcdef".repeat(64)
}

/// The number after the program's name at this place.
pub fn number(at: usize, default: u64) -> u64 {
    std::env::args().nth(at).and_then(|n| n.parse().ok()).unwrap_or(default)
}

/// Processor time of a process and its ended children so far, in seconds.
pub fn cpu(pid: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: f64 = after.split_whitespace().skip(11).take(4).filter_map(|t| t.parse::<f64>().ok()).sum();
    ticks / 100.0
}

/// Runs `in_flight` clients for `seconds`, each doing one life after the other.
pub async fn lives<F, Fut>(name: &str, seconds: u64, in_flight: u64, life: F)
where
    F: Fn(u64) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send,
{
    let (life, next) = (Arc::new(life), Arc::new(AtomicU64::new(0)));
    let start = Instant::now();
    let clients: Vec<_> = (0..in_flight)
        .map(|_| {
            let (life, next) = (life.clone(), next.clone());
            tokio::spawn(async move {
                let mut took = Vec::new();
                while start.elapsed() < Duration::from_secs(seconds) {
                    let began = Instant::now();
                    life(next.fetch_add(1, Ordering::Relaxed)).await;
                    took.push(began.elapsed().as_secs_f64() * 1e3);
                }
                took
            })
        })
        .collect();
    let mut took = Vec::new();
    for client in clients {
        took.extend(client.await.unwrap());
    }
    let rate = took.len() as f64 / start.elapsed().as_secs_f64();
    took.sort_by(f64::total_cmp);
    let q = |p: f64| took.get((took.len().saturating_sub(1) as f64 * p) as usize).copied().unwrap_or(f64::NAN);
    println!(
        "{name:<18} {in_flight:>9} {rate:>9.0} {:>9.0} {:>10.2} {:>10.2} {:>10.2}",
        rate * STEPS.len() as f64,
        q(0.5),
        q(0.95),
        q(0.99)
    );
}
