//! Kills a system under load and counts: `crash NAME SECONDS IN_FLIGHT DOOR WORKER [process|command SERVER]`.
//!
//! So many clients do one task after the other through DOOR (`tcp:PORT` of a worker that serves, or an `http://…` address).
//! WORKER is a command line that is run, gets SIGKILL after half of the time, and is run again at once, also when it ends by
//! itself. SERVER is one that is treated so after three quarters (`process`), or one that crashes and restarts a server when
//! it is run then (`command`). A client whose task got no answer asks again with the same number, which is the task's idempotency key.
//! The steps' marks are in the file that `$EFFECTS` names.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use abca_durable_peers::number;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::sync::mpsc;

/// A task that has not ended so long after the last was submitted is lost.
const PATIENCE: Duration = Duration::from_secs(60);
/// A client asks again when it has heard nothing for so long. Restate's server answers later the earlier clients ask again.
const DEAF: Duration = Duration::from_secs(30);
/// Before it asks again after an error.
const PAUSE: Duration = Duration::from_millis(50);
/// Throughput before is that of so many seconds.
const BEFORE: f64 = 5.0;

/// A process that is there again at once whenever it is gone.
struct Kept {
    kill: mpsc::Sender<()>,
    ended: Arc<AtomicU64>,
}

impl Kept {
    fn run(line: &str) -> Self {
        let (kill, mut killed) = mpsc::channel::<()>(1);
        let ended = Arc::new(AtomicU64::new(0));
        let (line, count) = (line.to_owned(), ended.clone());
        tokio::spawn(async move {
            loop {
                let mut child = command(&line).spawn().unwrap();
                tokio::select! {
                    _ = child.wait() => {
                        count.fetch_add(1, Ordering::Relaxed);
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                    told = killed.recv() => {
                        // SIGKILL, and waits.
                        child.kill().await.unwrap();
                        if told.is_none() {
                            return;
                        }
                    }
                }
            }
        });
        Self { kill, ended }
    }
}

fn command(line: &str) -> Command {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().expect("a command"));
    // What it complains of is beside the marks.
    let log = std::env::var("EFFECTS").unwrap_or_default() + ".log";
    let log = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
    command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
    command
}

#[derive(Clone)]
enum Door {
    Lines(u16),
    Http(Client<HttpConnector, Full<Bytes>>, Arc<str>),
}

/// One client, with its connection.
struct Asks {
    door: Door,
    line: Option<BufReader<TcpStream>>,
}

impl Asks {
    fn through(door: Door) -> Self {
        Self { door, line: None }
    }

    /// The name that the task's marks have, or what was wrong.
    async fn task(&mut self, n: u64) -> Result<String, String> {
        match tokio::time::timeout(DEAF, self.ask(n)).await {
            Ok(Ok(name)) => Ok(name),
            Ok(Err(error)) => {
                self.line = None;
                Err(error)
            }
            Err(_) => {
                self.line = None;
                Err("no answer".to_owned())
            }
        }
    }

    async fn ask(&mut self, n: u64) -> Result<String, String> {
        match &self.door {
            Door::Lines(port) => {
                if self.line.is_none() {
                    let to = TcpStream::connect(("127.0.0.1", *port)).await.map_err(|e| e.to_string())?;
                    to.set_nodelay(true).map_err(|e| e.to_string())?;
                    self.line = Some(BufReader::new(to));
                }
                let line = self.line.as_mut().expect("just made");
                line.write_all(format!("{n}\n").as_bytes()).await.map_err(|e| e.to_string())?;
                let mut answer = String::new();
                match line.read_line(&mut answer).await.map_err(|e| e.to_string())? {
                    0 => Err("the worker is gone".to_owned()),
                    _ => match answer.trim_end() {
                        wrong if wrong.starts_with('!') => Err(wrong.to_owned()),
                        name => Ok(name.to_owned()),
                    },
                }
            }
            Door::Http(client, url) => {
                let request = hyper::Request::post(&**url)
                    .header("content-type", "application/json")
                    .header("idempotency-key", format!("t{n}"))
                    .body(Full::new(Bytes::from(n.to_string())))
                    .map_err(|e| e.to_string())?;
                let reply = client.request(request).await.map_err(|e| e.to_string())?;
                let status = reply.status();
                let body = reply.into_body().collect().await.map_err(|e| e.to_string())?.to_bytes();
                if status.is_success() {
                    Ok(n.to_string())
                } else {
                    Err(format!("{status}: {}", String::from_utf8_lossy(&body)))
                }
            }
        }
    }
}

/// What the clients saw.
#[derive(Default)]
struct Seen {
    /// When each task that ended did, in seconds since the start, and its name in the marks.
    ended: Vec<(f64, String)>,
    lost: Vec<u64>,
    /// Errors by their text, without numbers.
    errors: BTreeMap<String, u64>,
}

async fn client(door: Door, next: Arc<AtomicU64>, start: Instant, time: Duration) -> Seen {
    let (mut seen, mut asks) = (Seen::default(), Asks::through(door));
    while start.elapsed() < time {
        let n = next.fetch_add(1, Ordering::Relaxed);
        loop {
            match asks.task(n).await {
                Ok(name) => {
                    seen.ended.push((start.elapsed().as_secs_f64(), name));
                    break;
                }
                Err(error) => {
                    let plain: String = error.chars().filter(|c| !c.is_ascii_digit()).take(160).collect();
                    *seen.errors.entry(plain).or_default() += 1;
                    if start.elapsed() > time + PATIENCE {
                        seen.lost.push(n);
                        break;
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
    seen
}

/// How throughput went through a fault, from the moments at which tasks ended.
struct Dip {
    /// Ends a second before.
    before: f64,
    /// Seconds until a whole second began with nine tenths of that; none if that was not seen.
    back: Option<f64>,
    /// The longest time without any end, from the fault to the next or the end of all.
    silent: f64,
    /// Seconds that were looked at.
    looked: f64,
}

fn dip(ends: &[f64], fault: f64, until: f64) -> Dip {
    let within = |from: f64, to: f64| ends.partition_point(|t| *t < to) - ends.partition_point(|t| *t < from);
    let before = within(fault - BEFORE, fault) as f64 / BEFORE;
    // In steps of 10 ms.
    let steps = ((until - 1.0 - fault) * 100.0) as u64;
    let back = (0..steps).map(|s| s as f64 / 100.0).find(|s| within(fault + s, fault + s + 1.0) as f64 >= before * 0.9);
    let after = ends.iter().copied().filter(|t| *t >= fault && *t < until);
    let (mut silent, mut last) = (0.0f64, fault);
    for t in after.chain([until]) {
        silent = silent.max(t - last);
        last = t;
    }
    Dip { before, back, silent, looked: until - fault }
}

impl std::fmt::Display for Dip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let back = self.back.map_or(format!("> {:.0}", self.looked - 1.0), |s| format!("{s:.2}"));
        write!(f, "{:>9.0} {back:>7} {:>8.2}", self.before, self.silent)
    }
}

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1);
    let name = args.next().expect("a name");
    let (time, in_flight) = (Duration::from_secs(number(2, 30)), number(3, 64));
    let mut args = args.skip(2);
    let door = args.next().expect("a door");
    let door = match door.strip_prefix("tcp:") {
        Some(port) => Door::Lines(port.parse().expect("a port")),
        None => {
            Door::Http(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(2_000).build_http(), door.into())
        }
    };
    let marks = std::env::var("EFFECTS").expect("$EFFECTS names a file");
    let worker = Kept::run(&args.next().expect("a worker"));
    let (kind, server) = (args.next().unwrap_or_default(), args.next().unwrap_or_default());
    let kept = (kind == "process").then(|| Kept::run(&server));

    // All is up when one task went through; connections and statements are warm after two seconds.
    let (up, next) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let mut first = Asks::through(door.clone());
    while let Err(error) = first.task(next.fetch_add(1, Ordering::Relaxed)).await {
        assert!(up.elapsed() < PATIENCE, "{name} does not come up: {error}");
        tokio::time::sleep(PAUSE).await;
    }
    let asked_before = next.load(Ordering::Relaxed);
    let ended_before =
        worker.ended.load(Ordering::Relaxed) + kept.as_ref().map_or(0, |k| k.ended.load(Ordering::Relaxed));

    let start = Instant::now();
    let clients: Vec<_> =
        (0..in_flight).map(|_| tokio::spawn(client(door.clone(), next.clone(), start, time))).collect();
    tokio::time::sleep_until((start + time / 2).into()).await;
    let first_fault = start.elapsed().as_secs_f64();
    worker.kill.send(()).await.unwrap();
    tokio::time::sleep_until((start + time * 3 / 4).into()).await;
    let second_fault = start.elapsed().as_secs_f64();
    let mut away = None;
    if let Some(server) = &kept {
        server.kill.send(()).await.unwrap();
    } else if !server.is_empty() {
        assert!(command(&server).status().await.unwrap().success(), "{server}");
        away = Some(start.elapsed().as_secs_f64() - second_fault);
    }
    let mut seen = Seen::default();
    for client in clients {
        let one = client.await.unwrap();
        seen.ended.extend(one.ended);
        seen.lost.extend(one.lost);
        for (error, n) in one.errors {
            *seen.errors.entry(error).or_default() += n;
        }
    }
    let quiet = start.elapsed().as_secs_f64() - time.as_secs_f64();

    let mut ends: Vec<f64> = seen.ended.iter().map(|(t, _)| *t).collect();
    ends.sort_by(f64::total_cmp);
    let worker_dip = dip(&ends, first_fault, second_fault);
    let server_dip = (!server.is_empty()).then(|| dip(&ends, second_fault, time.as_secs_f64()));

    // What the steps left behind.
    let mut did: BTreeMap<String, u64> = BTreeMap::new();
    for line in std::fs::read_to_string(&marks).unwrap_or_default().lines() {
        *did.entry(line.to_owned()).or_default() += 1;
    }
    let again: u64 = did.values().map(|n| n - 1).sum();
    let mut steps: BTreeMap<&str, (BTreeSet<&str>, u64)> = BTreeMap::new();
    for (mark, n) in &did {
        let (task, step) = mark.split_once(' ').unwrap();
        let (tasks, more) = steps.entry(step).or_default();
        tasks.insert(task);
        *more += n - 1;
    }
    // A task that was called done has done each step.
    let hollow =
        seen.ended.iter().filter(|(_, t)| steps.values().any(|(tasks, _)| !tasks.contains(t.as_str()))).count();
    let submitted = next.load(Ordering::Relaxed) - asked_before;
    let server_dip = server_dip.map_or(format!("{:>9} {:>7} {:>8}", "–", "–", "–"), |d| d.to_string());
    println!("{name:<20} {worker_dip} {server_dip} {submitted:>9} {:>5} {again:>6}", seen.lost.len());

    let ended = worker.ended.load(Ordering::Relaxed) + kept.as_ref().map_or(0, |k| k.ended.load(Ordering::Relaxed))
        - ended_before;
    let by_step: Vec<String> = steps.iter().map(|(s, (_, n))| format!("{s} {n}")).collect();
    eprintln!(
        "  {name}: {} steps marked, done again: {}; called done with a step missing {hollow}; quiet {quiet:.1} s after the \
         end; server away {}; processes that ended by themselves {ended}; lost {:?}",
        did.len(),
        by_step.join(", "),
        away.map_or("–".to_owned(), |s| format!("{s:.2} s")),
        seen.lost
    );
    for (error, n) in &seen.errors {
        eprintln!("    {n} × {error}");
    }
    drop((worker, kept));
    // The keepers kill what they keep.
    tokio::time::sleep(Duration::from_millis(300)).await;
}
