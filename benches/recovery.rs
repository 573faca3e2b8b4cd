//! How long a session needs to find itself again in its log: the store's read, the fold, and the machine that goes on.
//!
//! `cargo bench -p abca --features bench --bench recovery [-- --entries N --bytes N --runs N]`. Tool results are of `--bytes`.

mod common;

use std::hint::black_box;
use std::time::{Duration, Instant};

use abca_core::model::{Content, ModelCapabilities, ModelReply, StopReason, ToolCall, ToolInput, ToolResult, Usage};
use abca_core::session::{LogEntry, LogRecord, Machine, MachineConfig, SessionState};
use abca_core::store::{Append, AppendOutcome, ClaimQuery, Commit, LeaseChange, LogQuery, TaskStore};
use abca_core::testing::fixtures::{self, admit, at as moment, running, start_intent};
use abca_core::{MicroUsd, Millis, SessionId, TaskId};
use abca_store::Sqlite;
use serde_json::json;

use common::{at, headline, option};

/// What the link reads at once.
const PAGE: usize = 512;

fn main() {
    headline("recovery");
    let (entries, bytes, runs) = (option("--entries", 1_000), option("--bytes", 2_000), option("--runs", 100));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let folder = tempfile::TempDir::new().unwrap();
        let store = Sqlite::open(folder.path()).await.unwrap();
        let task = fill(&store, entries, bytes).await;
        let (mut reads, mut folds, mut machines, mut wholes) = (vec![], vec![], vec![], vec![]);
        for n in 0..=runs {
            let begun = Instant::now();
            let log = read(&store, task).await;
            let read = begun.elapsed();
            let state = SessionState::fold(&log);
            let folded = begun.elapsed();
            let machine = black_box(Machine::resume(config(), state));
            let whole = begun.elapsed();
            assert_eq!(machine.state().len, entries);
            if n > 0 {
                reads.push(read);
                folds.push(folded - read);
                machines.push(whole - folded);
                wholes.push(whole);
            }
        }
        println!("a log of {entries} entries, tool results of {bytes} bytes, {runs} runs");
        println!("{:<34} {:>9} {:>9} {:>9}", "step", "p50 ms", "p95 ms", "min ms");
        line("read and decode from SQLite", &mut reads);
        line("fold", &mut folds);
        line("machine", &mut machines);
        line("together", &mut wholes);
        store.close().await.unwrap();
    });
    println!("load afterwards: {}", common::load());
}

fn line(what: &str, times: &mut [Duration]) {
    println!("{what:<34} {:>9.3} {:>9.3} {:>9.3}", at(times, 0.5), at(times, 0.95), at(times, 0.0));
}

async fn read(store: &Sqlite, task: TaskId) -> Vec<LogRecord> {
    let mut log = Vec::new();
    loop {
        let page = store.log(&LogQuery { task, after: log.len() as u64, limit: PAGE }).await.unwrap();
        let full = page.len() >= PAGE;
        log.extend(page.into_iter().map(|(_, record)| record));
        if !full {
            return log;
        }
    }
}

/// A task whose session has written so many entries.
async fn fill(store: &Sqlite, entries: u64, bytes: u64) -> TaskId {
    let task = fixtures::task(1);
    let id = task.id;
    let session = SessionId::of(id, 1);
    store.submit(&[fixtures::submit(task)]).await.unwrap();
    let mut snapshot = claim(store, id).await;
    for change in [admit, start_intent] {
        let commit = fixtures::commit(&snapshot, change(&snapshot, moment(1)), 0);
        snapshot = applied(store, commit).await;
    }
    store.signal(&[fixtures::registration(&session, id, moment(1))]).await.unwrap();
    let snapshot = claim(store, id).await;
    let mut commit = fixtures::commit(&snapshot, running(&snapshot, moment(1)), 0);
    commit.lease = LeaseChange::Release { due: Some(moment(1).after(Millis::secs(30))) };
    applied(store, commit).await;
    let log: Vec<LogRecord> = log(entries, bytes)
        .into_iter()
        .map(|entry| LogRecord { session: session.clone(), at: moment(2), entry })
        .collect();
    for (n, records) in log.chunks(4).enumerate() {
        let append = Append {
            task: id,
            session: session.clone(),
            expect_seq: n as u64 * 4 + 1,
            records: records.to_vec(),
            events: Vec::new(),
            now: moment(2),
        };
        let answer = store.append(&[append]).await.unwrap();
        assert!(matches!(answer[0], AppendOutcome::Appended { .. }), "{answer:?}");
    }
    id
}

async fn claim(store: &Sqlite, id: TaskId) -> abca_core::task::Snapshot {
    let query = ClaimQuery { task: Some(id), ..fixtures::claim(1, moment(1), 1) };
    store.claim(&query).await.unwrap().pop().expect("due")
}

async fn applied(store: &Sqlite, commit: Commit) -> abca_core::task::Snapshot {
    match store.commit(&[commit]).await.unwrap().pop() {
        Some(abca_core::store::CommitOutcome::Applied(snapshot)) => *snapshot,
        other => panic!("want the commit applied, got {other:?}"),
    }
}

fn log(entries: u64, bytes: u64) -> Vec<LogEntry> {
    let mut log = vec![LogEntry::ConversationStarted {
        model: "fake:m".to_owned(),
        system: "You are careful. ".repeat(200),
        user_prompt: "Fix it. ".repeat(100),
        prompt_version: "0".repeat(12),
    }];
    let usage = Usage { input_tokens: 100, output_tokens: 10, ..Usage::default() };
    let text = "fn main() { println!(\"hello\"); } // and more\n".repeat(usize::try_from(bytes / 46).unwrap_or(1));
    let mut turn = 0;
    while (log.len() as u64) < entries {
        turn += 1;
        let id = format!("call-{turn}");
        let input = ToolInput::Json(json!({ "file_path": format!("/workspace/src/file-{turn}.rs"), "limit": 50 }));
        let call = ToolCall { id: id.clone(), name: "Read".to_owned(), input };
        let content = vec![Content::text("I look at the next file."), Content::ToolUse(call)];
        let reply = Box::new(ModelReply { content, stop: StopReason::ToolUse, usage, model: "m".to_owned() });
        let result = ToolResult { tool_use_id: id.clone(), content: vec![Content::text(&text)], is_error: false };
        log.extend([
            LogEntry::ModelReserved { turn, reserved: MicroUsd(10) },
            LogEntry::ModelReplied { turn, reply, cost: MicroUsd(5), duration_ms: Millis(900) },
            LogEntry::ToolStarted { turn, call: id, name: "Read".to_owned() },
            LogEntry::ToolEnded { turn, result, duration_ms: Millis(5) },
        ]);
    }
    log.truncate(usize::try_from(entries).unwrap_or(usize::MAX));
    log
}

fn config() -> MachineConfig {
    MachineConfig {
        model: "fake:m".to_owned(),
        model_id: "m".to_owned(),
        capabilities: ModelCapabilities {
            context_window_tokens: 200_000,
            max_output_tokens: 64_000,
            images: true,
            caching: true,
            counts_tokens: true,
            price: None,
        },
        tools: Vec::new(),
        max_turns: 500,
        max_budget: None,
        max_output_tokens: 16_384,
        max_gates: 50,
    }
}
