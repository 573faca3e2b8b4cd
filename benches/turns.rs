//! What the harness itself takes for a turn, beside model and tools, from the first turn to the 500th.
//!
//! `cargo bench -p abca --features bench --bench turns [-- --turns N --bytes N --model-ms N]`. A whole real task in this
//! process: orchestrator, link, session pipeline, agent loop, policy, screening, log and events; the model answers with a
//! `TodoWrite` (which needs no hands) of `--bytes`, different every turn, at once or after `--model-ms`. A turn's harness
//! time is from the model's answer to the next call of the model: one durable append lies in it
//! (`docs/design/0005-one-write-a-turn.md`), so on SQLite the disk's sync is most of it; the same on the store in memory
//! shows the harness alone. A model that takes longer than a millisecond has a second append beside it.

mod common;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use abca::{Abca, NewTask};
use abca_core::compute::{SandboxMode, SessionLimits};
use abca_core::model::{
    Content, ModelCapabilities, ModelClient, ModelError, ModelEvent, ModelReply, ModelRequest, ModelStream, Price,
    StopReason, TokenCount, ToolCall, ToolInput, Usage,
};
use abca_core::store::TaskStore;
use abca_store::{InProcess, Sqlite};
use async_trait::async_trait;
use futures_util::stream;
use serde_json::json;

use common::{at, cpu, headline, ms, option, repository, syncs};

fn main() {
    abca::init();
    headline("turns");
    let (turns, bytes) = (option("--turns", 500), option("--bytes", 1_000));
    let takes = Duration::from_millis(option("--model-ms", 0));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let folder = tempfile::TempDir::new().unwrap();
    let repo = folder.path().join("repo");
    repository(&repo);
    let rate = syncs(folder.path());
    println!("bare fdatasync of 4 KiB: {rate:.0}/s, so one takes {:.2} ms", 1e3 / rate);
    runtime.block_on(async {
        let sqlite = Sqlite::open(folder.path().join("db")).await.unwrap();
        for (name, store) in
            [("in memory", Arc::new(InProcess::new()) as Arc<dyn TaskStore>), ("sqlite", Arc::new(sqlite))]
        {
            measure(name, store, folder.path(), &repo, Busy { turns, bytes, takes, seen: Mutex::default() }).await;
        }
    });
    runtime.shutdown_background();
    println!("load afterwards: {}", common::load());
}

async fn measure(name: &str, store: Arc<dyn TaskStore>, folder: &Path, repo: &Path, model: Busy) {
    let (turns, model) = (model.turns, Arc::new(model));
    let limits = SessionLimits { sandbox: SandboxMode::Unsandboxed, ..SessionLimits::default() };
    let abca = Abca::builder()
        .state_dir(folder.join(format!("state-{}", store.name())))
        .store(store)
        .session_limits(limits)
        .model(model.clone(), "busy")
        .build()
        .await
        .unwrap();
    let task = NewTask::new(repo.to_str().unwrap(), "keep a list").max_turns(u32::try_from(turns).unwrap());
    let (begun, busy) = (Instant::now(), cpu());
    let outcome = abca.submit(task).await.unwrap().outcome().await.unwrap();
    assert!(outcome.is_success(), "{outcome:?}");
    let (whole, busy) = (begun.elapsed(), cpu() - busy);
    let seen = std::mem::take(&mut *model.seen.lock().unwrap());
    let mut gaps: Vec<Duration> = seen.windows(2).map(|w| w[1].0.duration_since(w[0].1)).collect();
    println!();
    println!("{:<12} {:>13} {:>10} {:>10} {:>10}", "store", "turns", "p50 ms", "p95 ms", "max ms");
    let step = (gaps.len() / 10).max(1);
    for (n, part) in gaps.clone().chunks_mut(step).enumerate() {
        let range = format!("{}-{}", n * step + 1, n * step + part.len());
        println!("{name:<12} {range:>13} {:>10.3} {:>10.3} {:>10.3}", at(part, 0.5), at(part, 0.95), at(part, 1.0));
    }
    println!(
        "{name:<12} {:>13} {:>10.3} {:>10.3} {:>10.3}   whole task {:.0} ms, CPU {:.3} ms per turn",
        "all",
        at(&mut gaps, 0.5),
        at(&mut gaps, 0.95),
        at(&mut gaps, 1.0),
        ms(whole),
        ms(busy) / turns as f64
    );
    abca.shutdown().await;
}

/// A model that answers at once, and notes when it was called and when it had answered.
#[derive(Debug)]
struct Busy {
    turns: u64,
    bytes: u64,
    takes: Duration,
    seen: Mutex<Vec<(Instant, Instant)>>,
}

impl Busy {
    fn answer(&self, turn: u64) -> ModelReply {
        let (content, stop) = if turn >= self.turns {
            (Content::text("nothing is left to do"), StopReason::EndTurn)
        } else {
            let filler = "lorem ipsum dolor sit amet ".repeat(usize::try_from(self.bytes / 27).unwrap_or(1));
            let todo = json!({"content": format!("step {turn}: {filler}"), "status": "pending", "activeForm": "doing"});
            let input = ToolInput::Json(json!({ "todos": [todo] }));
            (
                Content::ToolUse(ToolCall { id: format!("call-{turn}"), name: "TodoWrite".to_owned(), input }),
                StopReason::ToolUse,
            )
        };
        let usage = Usage { input_tokens: 100, output_tokens: 10, ..Usage::default() };
        ModelReply { content: vec![content], stop, usage, model: "busy".to_owned() }
    }
}

#[async_trait]
impl ModelClient for Busy {
    fn name(&self) -> &'static str {
        "busy"
    }

    fn capabilities(&self, _model: &str) -> ModelCapabilities {
        ModelCapabilities {
            context_window_tokens: 10_000_000,
            max_output_tokens: 64_000,
            images: true,
            caching: true,
            counts_tokens: true,
            price: Some(Price { input: 3_000_000, output: 15_000_000, cache_read: 300_000, cache_write: 3_750_000 }),
        }
    }

    async fn stream(&self, _request: &ModelRequest) -> Result<ModelStream, ModelError> {
        let called = Instant::now();
        let turn = self.seen.lock().unwrap().len() as u64 + 1;
        let reply = Box::new(self.answer(turn));
        if !self.takes.is_zero() {
            tokio::time::sleep(self.takes).await;
        }
        self.seen.lock().unwrap().push((called, Instant::now()));
        Ok(Box::pin(stream::iter([Ok(ModelEvent::Done(reply))])))
    }

    async fn count_tokens(&self, _request: &ModelRequest) -> Result<TokenCount, ModelError> {
        Ok(TokenCount { input_tokens: 100, exact: true })
    }
}
