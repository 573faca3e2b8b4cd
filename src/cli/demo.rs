//! `demo`: a sample repository with a real bug, carried the whole real way. Only the model is a recording.

use std::path::{Path, PathBuf};
use std::process::Command;

use abca_core::task::NewTask;

use super::args::DemoArgs;
use super::common::{Failed, Interrupts, Output, Place, absolute, builder, session_limits, state_dir};
use super::{is_json, run};
use crate::models::ModelSettings;
use crate::tell::tell;

/// The sample repository, file by file.
const SAMPLE: &[(&str, &str)] = &[
    ("Cargo.toml", include_str!("demo/sample/Cargo.toml.txt")),
    ("Cargo.lock", include_str!("demo/sample/Cargo.lock.txt")),
    (".gitignore", include_str!("demo/sample/gitignore.txt")),
    ("README.md", include_str!("demo/sample/README.md")),
    ("AGENTS.md", include_str!("demo/sample/AGENTS.md")),
    ("src/lib.rs", include_str!("demo/sample/src/lib.rs.txt")),
    ("tests/stats.rs", include_str!("demo/sample/tests/stats.rs.txt")),
];
/// The recording that plays the model.
const TRAJECTORY: &str = include_str!("demo/trajectory.jsonl");
/// What the task is.
const TASK: &str = "The median of an even number of values is wrong: `cargo test` fails. Find out why and fix it.";

pub(super) async fn demo(state: Place, output: Output, args: DemoArgs) -> Result<u8, Failed> {
    let dir = state_dir(state.state.clone())?;
    let cargo_abca = match &state.state {
        Some(_) => format!("cargo abca --state {}", dir.display()),
        None => "cargo abca".to_owned(),
    };
    // The facade first: it makes the state folder and refuses one that is not ours.
    let demo = match &args.dir {
        Some(dir) => absolute(dir)?,
        None => dir.join("demo"),
    };
    let trajectory = demo.join("trajectory.jsonl");
    let mut settings = ModelSettings::new(format!("replay:{}", trajectory.display()));
    settings.max_output_tokens = 4_096;
    let builder = builder(state)?.models(settings).session_limits(session_limits(&args.hands)?);
    let abca = super::credential::with_credentials(builder, &args.hands.credential)?.build().await?;
    std::fs::create_dir_all(&demo).map_err(|e| cannot("make", &demo, &e))?;
    std::fs::write(&trajectory, TRAJECTORY).map_err(|e| cannot("write", &trajectory, &e))?;
    let repo = sample(&demo)?;
    if !is_json(output) {
        tell(format_args!("A sample repository with a bug is at {}", repo.display()));
        tell(format_args!(
            "The model is a recording; everything else is real: store, orchestrator, sandbox, tools, tests, git."
        ));
    }
    let name = repo
        .to_str()
        .ok_or_else(|| Failed::new(2, "the state folder's path is not UTF-8: name another with --state"))?;
    let mut interrupts = Interrupts::listen()?;
    let handle = abca.submit(NewTask::new(name, TASK).test("cargo test --quiet").budget_usd("1.00")).await?;
    let code = run::attend(&abca, &handle, output, &mut interrupts).await?;
    if !is_json(output) && code == 0 {
        tell(format_args!(""));
        tell(format_args!("Look around:"));
        tell(format_args!("  git -C {} log --stat --all", repo.display()));
        tell(format_args!("  {cargo_abca} pr show {}", handle.id()));
        tell(format_args!("  {cargo_abca} log {}", handle.id()));
    }
    Ok(code)
}

fn cannot(what: &str, path: &Path, error: &std::io::Error) -> Failed {
    Failed::new(1, format!("cannot {what} `{}`: {error}", path.display()))
}

/// Makes a new sample repository: `sample-1`, `sample-2` and so on.
fn sample(demo: &Path) -> Result<PathBuf, Failed> {
    let repo = (1..=9_999)
        .map(|n| demo.join(format!("sample-{n}")))
        .find_map(|dir| match std::fs::create_dir(&dir) {
            Ok(()) => Some(Ok(dir)),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => None,
            Err(e) => Some(Err(cannot("make", &dir, &e))),
        })
        .unwrap_or_else(|| Err(Failed::new(1, format!("`{}` is full of samples: remove some", demo.display()))))?;
    for (name, text) in SAMPLE {
        let path = repo.join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(|e| cannot("make", parent, &e))?;
        }
        std::fs::write(&path, text).map_err(|e| cannot("write", &path, &e))?;
    }
    for args in [
        &["init", "--quiet", "--initial-branch=main"][..],
        &["add", "--all"],
        &["commit", "--quiet", "--no-gpg-sign", "-m", "Small statistics over slices"],
    ] {
        git(&repo, args)?;
    }
    Ok(repo)
}

/// Runs git without the user's configuration: a demo does not depend on it.
fn git(repo: &Path, args: &[&str]) -> Result<(), Failed> {
    let done = Command::new("git")
        .arg("-C")
        .arg(repo)
        .args(["-c", "user.name=Ann", "-c", "user.email=ann@example.com", "-c", "core.hooksPath=/dev/null"])
        .args(args)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .map_err(|e| Failed::new(1, format!("the git program cannot be run: {e}; install git 2.38 or newer")))?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    Err(Failed::new(1, format!("`git {}` failed: {}", args.join(" "), said.trim())))
}
