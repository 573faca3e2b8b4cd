//! What goes wrong, when, and how soon all is well again.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::host::Host;
use super::server::Server;

/// How often throughput is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// Nothing is called recovered later than this.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    KillWorker,
    StopWorkerPastLease,
    DrainWorker,
    EndConnections,
    RestartServer,
    SlowSyncs,
    FullDisk,
}

/// One round of faults: mostly kills, each other kind once.
const ROUND: [Fault; 24] = {
    use Fault::{DrainWorker, EndConnections, FullDisk, KillWorker, RestartServer, SlowSyncs, StopWorkerPastLease};
    [
        KillWorker,
        KillWorker,
        KillWorker,
        EndConnections,
        KillWorker,
        KillWorker,
        KillWorker,
        RestartServer,
        KillWorker,
        KillWorker,
        KillWorker,
        StopWorkerPastLease,
        KillWorker,
        KillWorker,
        KillWorker,
        FullDisk,
        KillWorker,
        KillWorker,
        KillWorker,
        DrainWorker,
        KillWorker,
        KillWorker,
        SlowSyncs,
        KillWorker,
    ]
};

pub struct Monkey {
    server: Server,
    host: Arc<Host>,
    workers: Vec<Child>,
    /// Each fault, how long until throughput was back at nine tenths, and `None` when that was not seen.
    seen: Vec<(Fault, Option<Duration>)>,
    turn: usize,
}

impl Monkey {
    pub fn new(server: Server, host: Arc<Host>, workers: u64) -> Self {
        let mut monkey = Self { server, host, workers: Vec::new(), seen: Vec::new(), turn: 0 };
        for _ in 0..workers {
            let worker = monkey.worker();
            monkey.workers.push(worker);
        }
        monkey
    }

    fn worker(&self) -> Child {
        Command::new(std::env::current_exe().unwrap())
            .env("ABCA_CHAOS_WORKER", self.server.url())
            .env("ABCA_CHAOS_SPOOL", self.host.folder())
            .stdin(Stdio::null())
            .spawn()
            .unwrap()
    }

    pub async fn play(&mut self, time: Duration, rate: u64) {
        let began = Instant::now();
        tokio::time::sleep(Duration::from_secs(5)).await;
        let before = self.host.done.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(5)).await;
        let steady = (self.host.done.load(Ordering::Relaxed) - before) as f64 / 5.0;
        println!("steady: {steady:.0} tasks/s of {rate} submitted");
        for fault in ROUND.into_iter().cycle() {
            if began.elapsed() + Duration::from_secs(30) > time {
                break;
            }
            self.turn += 1;
            let over = self.strike(fault).await;
            let back = self.back(rate as f64 * 0.9, over).await;
            println!(
                "{:>6.1} s  {fault:?}: back after {}",
                began.elapsed().as_secs_f64(),
                back.map_or("?".to_owned(), |d| format!("{:.2} s", d.as_secs_f64()))
            );
            self.seen.push((fault, back));
            tokio::time::sleep(Duration::from_millis(700)).await;
        }
    }

    /// Does it; answers when the cause was gone.
    async fn strike(&mut self, fault: Fault) -> Instant {
        let at = self.turn % self.workers.len();
        match fault {
            Fault::KillWorker => {
                self.workers[at].kill().unwrap();
                self.workers[at].wait().unwrap();
                let killed = Instant::now();
                self.workers[at] = self.worker();
                killed
            }
            Fault::StopWorkerPastLease => {
                self.signal(at, "STOP");
                tokio::time::sleep(Duration::from_millis(super::LEASE_MS * 2)).await;
                self.signal(at, "CONT");
                Instant::now()
            }
            Fault::DrainWorker => {
                // The next version is there before the old one goes.
                let next = self.worker();
                self.signal(at, "TERM");
                let mut old = std::mem::replace(&mut self.workers[at], next);
                let now = Instant::now();
                tokio::task::spawn_blocking(move || old.wait()).await.unwrap().unwrap();
                now
            }
            Fault::EndConnections => {
                self.server.end_connections();
                Instant::now()
            }
            Fault::RestartServer => {
                self.server.stop_at_once();
                self.server.start_again(false);
                Instant::now()
            }
            Fault::SlowSyncs => {
                if self.server.can_be_slow() {
                    self.server.stop_at_once();
                    self.server.start_again(true);
                    tokio::time::sleep(Duration::from_secs(5)).await;
                    self.server.stop_at_once();
                    self.server.start_again(false);
                }
                Instant::now()
            }
            Fault::FullDisk => {
                if self.server.fill() {
                    tokio::time::sleep(Duration::from_secs(3)).await;
                    self.server.empty();
                    // A server that could not write its log has stopped itself.
                    self.server.start_again(false);
                }
                Instant::now()
            }
        }
    }

    fn signal(&self, at: usize, name: &str) {
        let pid = self.workers[at].id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Waits until a whole second's throughput is at `wanted` again.
    async fn back(&self, wanted: f64, since: Instant) -> Option<Duration> {
        let mut counts = vec![self.host.done.load(Ordering::Relaxed)];
        while since.elapsed() < PATIENCE {
            tokio::time::sleep(LOOK).await;
            counts.push(self.host.done.load(Ordering::Relaxed));
            let window = 4;
            if counts.len() > window {
                let done = counts[counts.len() - 1] - counts[counts.len() - 1 - window];
                if done as f64 >= wanted {
                    return Some(since.elapsed().saturating_sub(LOOK * window as u32));
                }
            }
        }
        None
    }

    /// Everything runs as it should, until the end.
    pub fn calm(&mut self) {
        self.server.empty();
    }

    pub fn print(&self) {
        let mut faults: Vec<Fault> = self.seen.iter().map(|(f, _)| *f).collect();
        faults.sort();
        faults.dedup();
        println!("{:<22} {:>6} {:>10} {:>10} {:>10}", "fault", "times", "median s", "worst s", "not seen");
        for fault in faults {
            let mut back: Vec<f64> =
                self.seen.iter().filter(|(f, _)| *f == fault).filter_map(|(_, b)| Some((*b)?.as_secs_f64())).collect();
            back.sort_by(f64::total_cmp);
            let times = self.seen.iter().filter(|(f, _)| *f == fault).count();
            let median = back.get(back.len() / 2).copied().unwrap_or(f64::NAN);
            let worst = back.last().copied().unwrap_or(f64::NAN);
            println!("{:<22} {times:>6} {median:>10.2} {worst:>10.2} {:>10}", format!("{fault:?}"), times - back.len());
        }
        println!(
            "sessions started {}, died {}; submissions repeated {}",
            self.host.started.load(Ordering::Relaxed),
            self.host.died.load(Ordering::Relaxed),
            self.host.submit_retries.load(Ordering::Relaxed)
        );
    }

    pub fn end(mut self) {
        for worker in &mut self.workers {
            let _ = worker.kill();
            let _ = worker.wait();
        }
        self.server.end();
    }
}
