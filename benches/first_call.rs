//! Submit → first model call, warm, on a small repository: how long, and where the time goes.
//!
//! `cargo bench -p abca --features bench --bench first_call [-- --runs N]`. Everything is real but the model: SQLite at full
//! durability, orchestrator, a session process of its own, two repositories, sandboxed hands, and an OpenAI-compatible
//! server on loopback, which stops the clock when the request's first bytes arrive and then answers `done`. The
//! stations between are the times that events and log records carry, in whole milliseconds. Runs follow each other in
//! one state folder; the first one warms up and is not counted.

mod common;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use abca::{Abca, EventSeq, ModelSettings, NewTask};
use abca_core::session::LogEntry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use common::{at, cpu, headline, ms, option, repository, syncs};

fn main() {
    abca::init();
    headline("first_call");
    let runs = option("--runs", 40);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(measure(runs));
    runtime.shutdown_background();
    println!("load afterwards: {}", common::load());
}

async fn measure(runs: u64) {
    let folder = tempfile::TempDir::new().unwrap();
    let repo = folder.path().join("repo");
    repository(&repo);
    println!("bare fdatasync of 4 KiB: {:.0}/s", syncs(folder.path()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let arrived: Arrived = Arc::default();
    tokio::spawn(serve(listener, arrived.clone()));
    let mut models = ModelSettings::new("openai:fake");
    models.openai_base_url = Some(url);
    let mut builder = Abca::builder().state_dir(folder.path().join("state")).models(models);
    if let Some(home) = std::env::home_dir() {
        builder = builder.home(home);
    }
    let abca = builder.build().await.unwrap();
    let mut whole = Vec::new();
    let mut stations: BTreeMap<String, Vec<Duration>> = BTreeMap::new();
    let mut order: Vec<String> = Vec::new();
    for n in 0..=runs {
        arrived.lock().unwrap().take();
        let (begun, wall) = (Instant::now(), SystemTime::now().duration_since(UNIX_EPOCH).unwrap());
        let task = abca.submit(NewTask::new(repo.to_str().unwrap(), format!("say done, {n}"))).await.unwrap();
        let submitted = begun.elapsed();
        let outcome = task.outcome().await.unwrap();
        assert!(outcome.is_success(), "{outcome:?}");
        let first = arrived.lock().unwrap().take().expect("the model was called").duration_since(begun);
        if n == 0 {
            continue;
        }
        let mut note = |name: String, time: Duration| {
            if !order.contains(&name) {
                order.push(name.clone());
            }
            stations.entry(name).or_default().push(time);
        };
        note("submit answered".to_owned(), submitted);
        let since = |at: abca_core::Timestamp| {
            Duration::from_millis(u64::try_from(at.as_millis()).unwrap_or(0)).saturating_sub(wall)
        };
        let mut seen: Vec<(Duration, String)> = Vec::new();
        for event in task.events_so_far(EventSeq::ZERO).await.unwrap() {
            let name = event.event_type.as_str();
            if !name.starts_with("agent_") {
                seen.push((since(event.timestamp), format!("event {name}")));
            }
        }
        for (_, record) in task.log().await.unwrap() {
            if let Some(name) = station(&record.entry) {
                seen.push((since(record.at), format!("log {name}")));
            }
        }
        seen.sort_by_key(|s| s.0);
        for (time, name) in seen.into_iter().filter(|(time, _)| *time <= first) {
            note(name, time);
        }
        note("first bytes at the model".to_owned(), first);
        whole.push(first);
    }
    println!("{:<42} {:>10} {:>10} {:>10}", "station, since submit", "median ms", "p95 ms", "step ms");
    let mut before = 0.0;
    for name in order {
        let times = stations.get_mut(&name).unwrap();
        // Rounded to milliseconds, a later one may now and then seem to come before the call.
        if times.len() * 2 < whole.len() {
            continue;
        }
        let (p50, p95) = (at(times, 0.5), at(times, 0.95));
        println!("{name:<42} {p50:>10.1} {p95:>10.1} {:>10.1}", p50 - before);
        before = p50;
    }
    println!();
    println!(
        "submit to first model call, {} runs: median {:.1} ms, p95 {:.1} ms, least {:.1} ms; this process used {:.0} ms CPU in all",
        whole.len(),
        at(&mut whole, 0.5),
        at(&mut whole, 0.95),
        at(&mut whole, 0.0),
        ms(cpu())
    );
    abca.shutdown().await;
}

fn station(entry: &LogEntry) -> Option<String> {
    Some(match entry {
        LogEntry::SessionStarted { .. } => "session behind its walls".to_owned(),
        LogEntry::StepStarted { step } => format!("{} begins", step.as_str()),
        LogEntry::StepEnded { step, .. } => format!("{} ends", step.as_str()),
        LogEntry::ModelReserved { .. } => "model call reserved".to_owned(),
        _ => return None,
    })
}

type Arrived = Arc<Mutex<Option<Instant>>>;

async fn serve(listener: TcpListener, arrived: Arrived) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(answer(stream, arrived.clone()));
    }
}

/// Answers chat completions until the client goes away.
async fn answer(mut stream: TcpStream, arrived: Arrived) -> std::io::Result<()> {
    const CHUNKS: [&str; 4] = [
        r#"{"id":"1","model":"fake","choices":[{"index":0,"delta":{"role":"assistant","content":"done"},"finish_reason":null}]}"#,
        r#"{"id":"1","model":"fake","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
        r#"{"id":"1","model":"fake","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":1,"total_tokens":11}}"#,
        "[DONE]",
    ];
    let mut bytes = Vec::new();
    loop {
        let mut part = [0; 16 << 10];
        let n = stream.read(&mut part).await?;
        if n == 0 {
            return Ok(());
        }
        arrived.lock().unwrap().get_or_insert_with(Instant::now);
        bytes.extend_from_slice(&part[..n]);
        let Some(head) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else { continue };
        let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
        let length = text.lines().find_map(|l| l.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
        if bytes.len() < head + 4 + length.unwrap_or(0) {
            continue;
        }
        bytes.clear();
        let body: String = CHUNKS.iter().map(|c| format!("data: {c}\n\n")).collect();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: ";
        stream.write_all(format!("{head}{}\r\n\r\n{body}", body.len()).as_bytes()).await?;
    }
}
