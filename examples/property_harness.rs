//! A store of your own under the kit for testers: the conformance suite, random histories against the model, and a
//! worker's calls going wrong in front of it while a witness watches.
//!
//! ```text
//! cargo run --example property_harness              # a good store: everything holds
//! cargo run --example property_harness -- --bug     # one that forgets leases: all three find it
//! ```

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use abca::abca_core::Millis;
use abca::abca_core::store::{Commit, CommitOutcome, StoreError, Submit, TaskStore};
use abca::abca_core::testing::faults::{Mishap, Process, Rates, Runtime, Weather, Work};
use abca::abca_core::testing::proxy::{Proxy, StoreProxy};
use abca::abca_core::testing::store::{StoreHarness, run as conformance};
use abca::abca_core::testing::witness::Witness;
use abca::abca_core::testing::{Dice, Trace, fixtures, strategies};
use abca::abca_store::InProcess;
use async_trait::async_trait;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, TestCaseError, TestRunner};

/// The store under test. Yours would be over a database; this one keeps everything in memory, and its switch makes it
/// take commits of workers that have lost their lease.
#[derive(Debug)]
struct HouseStore {
    inner: Arc<dyn TaskStore>,
    forgets_leases: bool,
}

impl HouseStore {
    fn open(forgets_leases: bool) -> Arc<dyn TaskStore> {
        Arc::new(Proxy(Self { inner: Arc::new(InProcess::new()), forgets_leases }))
    }
}

#[async_trait]
impl StoreProxy for HouseStore {
    fn inner(&self) -> &Arc<dyn TaskStore> {
        &self.inner
    }

    async fn commit(&self, batch: &[Commit]) -> Result<Vec<CommitOutcome>, StoreError> {
        let mut batch = batch.to_vec();
        for commit in batch.iter_mut().filter(|_| self.forgets_leases) {
            let now = self.inner.load(&[commit.task]).await?.pop().flatten();
            commit.epoch = now.map_or(commit.epoch, |s| s.epoch);
        }
        self.inner.commit(&batch).await
    }
}

/// Gives the conformance suite empty stores.
struct Harness {
    bug: bool,
}

#[async_trait]
impl StoreHarness for Harness {
    async fn fresh(&self) -> Arc<dyn TaskStore> {
        HouseStore::open(self.bug)
    }
}

/// Tokio as the kit needs it. With paused time, waiting costs nothing.
#[derive(Debug)]
struct Tokio;

impl Runtime for Tokio {
    fn sleep(&self, wait: Millis) -> Work {
        Box::pin(tokio::time::sleep(Duration::from_millis(wait.0)))
    }

    fn spawn(&self, work: Work) {
        tokio::spawn(work);
    }
}

fn paused<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(work)
}

/// What every store must do, case by case. It panics at the first that fails.
fn suite(bug: bool) -> Result<String, String> {
    // Not durable, not shared: what needs that is skipped, by name.
    let skips: Vec<&str> =
        abca::abca_core::testing::store::cases().iter().copied().filter(|c| c.starts_with("keeping::")).collect();
    let run = std::thread::spawn(move || paused(conformance(&Harness { bug }, &skips)));
    match run.join() {
        Ok(report) => Ok(format!("{} cases hold, {} are skipped", report.passed.len(), report.skipped.len())),
        Err(_) => Err("a case failed, see above".to_owned()),
    }
}

/// Random histories, played on this store and on the model: the same answers. A failing one is made short.
fn histories(bug: bool) -> Result<String, String> {
    let mut runner = TestRunner::new(Config { cases: 200, failure_persistence: None, ..Config::default() });
    let played = runner.run(&strategies::history(4, 30), |history| {
        let (ours, model) = (HouseStore::open(bug), InProcess::new());
        let answers =
            paused(async { (strategies::play(&*ours, &history).await, strategies::play(&model, &history).await) });
        match answers.0.iter().zip(&answers.1).position(|(ours, model)| ours != model) {
            None => Ok(()),
            Some(at) => Err(TestCaseError::fail(format!("the answers differ at step {at}"))),
        }
    });
    played
        .map(|()| "200 histories have the model's answers".to_owned())
        .map_err(|e| e.to_string().lines().take(3).collect::<Vec<_>>().join(" "))
}

/// Two workers of which one is always too late, over calls that go wrong: the witness says what breaks.
fn faults(bug: bool) -> Result<String, String> {
    let mut runner = TestRunner::deterministic();
    let tasks = strategies::task(9).new_tree(&mut runner).map_err(|e| e.to_string())?;
    let task = tasks.current();
    for seed in 0..200u64 {
        let findings = paused(async {
            let witness = Witness::new(HouseStore::open(bug), Arc::new(Trace::hashing()));
            let rates = Rates::none().with(Mishap::Fails, 100).with(Mishap::AnswerLost, 100).with(Mishap::Twice, 100);
            let weather = Weather::new(rates);
            let worker = |name| Process::new(Dice::new(seed).fork(name), weather.clone(), Arc::new(Tokio));
            let _created =
                witness.store().submit(&[Submit { due_at: fixtures::at(0), ..fixtures::submit(task.clone()) }]).await;
            let slow = worker("slow").store(witness.store());
            let quick = worker("quick").store(witness.store());
            // The slow one claims; its lease expires; the quick one claims; now the slow one speaks.
            let first = slow.claim(&fixtures::claim(1, fixtures::at(10), 1)).await.unwrap_or_default();
            let _second = quick.claim(&fixtures::claim(2, fixtures::at(10_000_000), 1)).await;
            for snapshot in first {
                let change = fixtures::note(&snapshot, fixtures::at(11));
                let _refused = slow.commit(&[fixtures::commit(&snapshot, change, 1)]).await;
            }
            weather.calm();
            let _read_back = witness.audit(false).await;
            witness.findings()
        });
        if let Some(finding) = findings.first() {
            return Err(format!("seed {seed}: {finding}"));
        }
    }
    Ok("200 seeds broke no promise".to_owned())
}

fn main() -> ExitCode {
    let bug = std::env::args().any(|a| a == "--bug");
    let mut all_hold = true;
    let mut tell = |name: &str, result: Result<String, String>| match result {
        Ok(text) => println!("{name}: {text}"),
        Err(text) => {
            println!("{name}: FAILED: {text}");
            all_hold = false;
        }
    };
    tell("conformance", suite(bug));
    tell("histories", histories(bug));
    tell("faults", faults(bug));
    if all_hold { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
