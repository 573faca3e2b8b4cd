//! What the benches share: the line that says where and when, percentiles, the disk's own rate, small tasks and sessions.

#![allow(dead_code, missing_docs)]

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use abca::orchestrator::{PrepareFailure, Preparer};
use abca_core::MicroUsd;
use abca_core::model::Usage;
use abca_core::task::{DiffStat, Prepared, SessionReport, Task, Verdict};
use async_trait::async_trait;

/// Prints what every published figure needs beside it: commit, machine, load.
pub fn headline(what: &str) {
    let commit = said("git", &["rev-parse", "--short", "HEAD"]);
    let when = said("date", &["-u", "+%Y-%m-%d %H:%M UTC"]);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!("# {what}: {when}, commit {commit}, {cores} cores, load {}", load());
}

/// The load averages of 1, 5 and 15 minutes.
pub fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

pub fn said(program: &str, args: &[&str]) -> String {
    let out = Command::new(program).args(args).output();
    out.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).unwrap_or_default()
}

pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// A percentile in milliseconds; sorts.
pub fn at(times: &mut [Duration], q: f64) -> f64 {
    times.sort();
    let last = times.len().saturating_sub(1) as f64;
    times.get((last * q).round() as usize).copied().map_or(f64::NAN, ms)
}

/// How often a second the disk below a folder makes 4 KiB durable, one after the other.
pub fn syncs(folder: &Path) -> f64 {
    let path = folder.join("syncs");
    let mut file = std::fs::File::create(&path).unwrap();
    let (start, mut n) = (Instant::now(), 0.0);
    while start.elapsed() < Duration::from_secs(1) {
        file.write_all(&[7; 4096]).unwrap();
        file.sync_data().unwrap();
        n += 1.0;
    }
    let rate = n / start.elapsed().as_secs_f64();
    std::fs::remove_file(path).unwrap();
    rate
}

/// CPU time of this process so far, all threads, user and system.
pub fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 = after.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// A field of `/proc/<pid>/status` in MiB, e.g. `VmRSS`.
pub fn memory(pid: u32, field: &str) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix(field)?.strip_prefix(':')).unwrap_or_default();
    line.trim().trim_end_matches("kB").trim().parse::<f64>().map_or(f64::NAN, |kib| kib / 1024.0)
}

/// The number after `--name`, or a default. Cargo's own `--bench` is not minded.
pub fn option(name: &str, default: u64) -> u64 {
    let mut args = std::env::args().skip_while(|a| a != name);
    args.nth(1).and_then(|n| n.parse().ok()).unwrap_or(default)
}

/// Prepares at once, without a forge.
#[derive(Debug)]
pub struct Ready;

#[async_trait]
impl Preparer for Ready {
    async fn prepare(&self, task: &Task) -> Result<Prepared, PrepareFailure> {
        Ok(Prepared {
            base_branch: "main".to_owned(),
            branch: format!("bgagent/{}/x", task.id),
            user_prompt: "fix it".to_owned(),
            sources: vec!["task_description".to_owned()],
            token_estimate: 2,
            truncated: false,
        })
    }
}

/// What a session says that did nothing and did it well.
pub fn report() -> SessionReport {
    SessionReport {
        verdict: Verdict::Succeeded,
        failure: None,
        pull_request: None,
        branch: None,
        head_sha: None,
        code_changed: false,
        answer_text: None,
        cost: MicroUsd(0),
        usage: Usage::default(),
        turns_attempted: 0,
        turns_completed: 0,
        verification: Vec::new(),
        diff: DiffStat::default(),
        phases: Vec::new(),
        prompt_version: "0".repeat(12),
        model: None,
    }
}

/// A small repository: a handful of files and two commits.
pub fn repository(at: &Path) {
    std::fs::create_dir_all(at.join("src")).unwrap();
    for (name, text) in
        [("README.md", "# Small\n"), ("src/lib.rs", "pub fn one() -> u32 {\n    1\n}\n"), ("a.txt", "a\n")]
    {
        std::fs::write(at.join(name), text).unwrap();
    }
    let git = |args: &[&str]| {
        let done = Command::new("git")
            .arg("-C")
            .arg(at)
            .args(["-c", "user.name=Ann", "-c", "user.email=ann@example.com", "-c", "init.defaultBranch=main"])
            .args(args)
            .output()
            .unwrap();
        assert!(done.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&done.stderr));
    };
    git(&["init", "--quiet"]);
    git(&["add", "--all"]);
    git(&["commit", "--quiet", "-m", "First"]);
    std::fs::write(at.join("a.txt"), "b\n").unwrap();
    git(&["commit", "--quiet", "-a", "-m", "Second"]);
}
