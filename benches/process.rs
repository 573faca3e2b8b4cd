//! Process start to usage text, and what an idle worker holds in memory.
//!
//! `cargo bench -p abca --features bench --bench process [-- --runs N]`.

mod common;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{at, headline, memory, option};

fn main() {
    headline("process");
    let runs = option("--runs", 200);
    let program = env!("CARGO_BIN_EXE_abca");
    println!("{:<42} {:>9} {:>9} {:>9}", "process start", "p50 ms", "p95 ms", "min ms");
    started(&format!("abca --help ({runs} runs)"), program, &["--help"], runs);
    started(&format!("abca --version ({runs} runs)"), program, &["--version"], runs);
    if let Some(other) = std::env::var_os("ABCA_DEBUG_PROGRAM") {
        started("a debug build: abca --help", &other.to_string_lossy(), &["--help"], runs);
    }
    started("true (what a start costs here)", "true", &[], runs);

    let folder = tempfile::TempDir::new().unwrap();
    let mut worker = Command::new(program)
        .arg("--state")
        .arg(folder.path().join("state"))
        .arg("worker")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until_listening(&folder.path().join("state/link"));
    // Idle means idle: a few of its own looks for work are behind it.
    std::thread::sleep(Duration::from_secs(3));
    let before = ticks(worker.id());
    std::thread::sleep(Duration::from_secs(5));
    let busy = ticks(worker.id()) - before;
    println!();
    println!(
        "{:<42} {:>9} {:>9} {:>9} {:>12}",
        "idle `abca worker`", "RSS MiB", "anon MiB", "peak MiB", "cpu ms per s"
    );
    println!(
        "{:<42} {:>9.1} {:>9.1} {:>9.1} {:>12.1}",
        "",
        memory(worker.id(), "VmRSS"),
        memory(worker.id(), "RssAnon"),
        memory(worker.id(), "VmHWM"),
        busy as f64 * 10.0 / 5.0
    );
    worker.kill().unwrap();
    worker.wait().unwrap();
    println!("load afterwards: {}", common::load());
}

fn started(what: &str, program: &str, args: &[&str], runs: u64) {
    let run = || {
        let begun = Instant::now();
        let done = Command::new(program).args(args).output().unwrap();
        assert!(done.status.success(), "{program} {args:?}");
        begun.elapsed()
    };
    run();
    let mut took: Vec<Duration> = (0..runs).map(|_| run()).collect();
    let (p50, p95, least) = (at(&mut took, 0.5), at(&mut took, 0.95), at(&mut took, 0.0));
    println!("{what:<42} {p50:>9.2} {p95:>9.2} {least:>9.2}");
}

fn until_listening(dir: &Path) {
    let begun = Instant::now();
    while !dir
        .read_dir()
        .is_ok_and(|mut d| d.any(|e| e.is_ok_and(|e| e.path().extension().is_some_and(|x| x == "sock"))))
    {
        assert!(begun.elapsed() < Duration::from_secs(60), "no worker listens in {}", dir.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn ticks(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    after.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<u64>().ok()).sum()
}
