//! Parts of one's own in the builder: a `ComputeStrategy` that gives every session a thread, and a `ModelClient` over an
//! engine inside this program. They carry a small repository to a pull request, with no key and no network:
//!
//! ```sh
//! cargo run --example custom_backend
//! cargo run --example custom_backend -- --conformance    # what both promise, checked by the public suites
//! ```

mod conformance;
mod house_model;
mod threads;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use abca::{Abca, NewTask};

use house_model::{HouseModel, MODEL, Speller};
use threads::Threads;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    abca::init(); // First: the tools of sessions are sandboxed processes of this very program.
    let runtime = tokio::runtime::Runtime::new()?;
    if std::env::args().any(|arg| arg == "--conformance") {
        runtime.block_on(conformance::run());
        return Ok(());
    }
    runtime.block_on(carry())
}

async fn carry() -> Result<(), Failure> {
    let dir = tempfile::tempdir()?;
    let repo = dir.path().join("sample");
    sample(&repo)?;

    let abca = Abca::builder()
        .state_dir(dir.path().join("state"))
        .model(Arc::new(HouseModel(Arc::new(Speller))), MODEL)
        .compute_with(|platform| Ok(Arc::new(Threads::new(platform.sessions()?))))
        .build()
        .await?;
    let new = NewTask::new(repo.to_string_lossy(), "Correct the spelling in README.md").test("! grep -w teh README.md");
    let task = abca.submit(new).await?;
    let mut events = task.events();
    while let Some(event) = events.next().await {
        println!("{}", event?);
    }
    let outcome = task.outcome().await?;
    println!("{} after {} turns: {:?}", outcome.status, outcome.turns, outcome.pull_request);
    abca.shutdown().await;
    if outcome.is_success() { Ok(()) } else { Err(format!("{:?}", outcome.failure).into()) }
}

/// A repository with a spelling mistake.
fn sample(repo: &Path) -> Result<(), Failure> {
    std::fs::create_dir(repo)?;
    std::fs::write(repo.join("README.md"), "# Sample\n\nThis is teh sample.\n")?;
    for args in [&["init", "-q", "-b", "main"][..], &["add", "-A"], &["commit", "-q", "-m", "A sample"]] {
        let mut git = Command::new("git");
        git.current_dir(repo).args(["-c", "user.name=Ann", "-c", "user.email=ann@example.com"]).args(args);
        if !git.status()?.success() {
            return Err(format!("`git {}` failed", args.join(" ")).into());
        }
    }
    Ok(())
}
