//! The examples, run as a new user would.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Cargo builds examples beside the tests, in `examples/` of the folder above theirs.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.ancestors().nth(2).unwrap().join("examples").join(name);
    assert!(path.is_file(), "`{}` is not there: run `cargo build --examples` first", path.display());
    path
}

fn succeeded(output: Output) -> String {
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr).into_owned());
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
    out
}

fn git(dir: &Path, args: &[&str]) -> String {
    let mut git = Command::new("git");
    git.current_dir(dir).args(["-c", "user.name=Ann", "-c", "user.email=ann@example.com"]).args(args);
    succeeded(git.output().unwrap())
}

#[test]
fn embed_carries_a_task_to_a_pull_request() {
    let dir = tempfile::tempdir().unwrap();
    let repo = dir.path().join("repo");
    std::fs::create_dir(&repo).unwrap();
    std::fs::write(repo.join("a.txt"), "one\n").unwrap();
    git(&repo, &["init", "-q", "-b", "main"]);
    git(&repo, &["add", "-A"]);
    git(&repo, &["commit", "-q", "-m", "first"]);
    let trajectory = dir.path().join("trajectory.jsonl");
    let steps = [
        r#"{"abca_trajectory": 1}"#,
        r#"{"calls": [{"name": "Write", "input": {"file_path": "b.txt", "content": "two\n"}}]}"#,
        r#"{"say": "I added b.txt."}"#,
    ];
    std::fs::write(&trajectory, steps.join("\n")).unwrap();

    let mut embed = Command::new(example("embed"));
    embed.current_dir(dir.path()).arg(&repo).arg(format!("replay:{}", trajectory.display())).arg("add b.txt");
    let out = succeeded(embed.output().unwrap());

    let last = out.lines().last().unwrap();
    assert!(last.starts_with("COMPLETED for $0.0000: Some("), "{out}");
    assert!(dir.path().join(".abca/abca.db").is_file());
    let branches = git(&repo, &["branch", "--list", "--format=%(refname:short)", "bgagent/*"]);
    assert_eq!(branches.lines().count(), 1, "{branches}");
    assert_eq!(git(&repo, &["show", &format!("{}:b.txt", branches.trim())]), "two\n");
    assert_eq!(git(&repo, &["status", "--porcelain"]), "");
}

#[test]
fn a_custom_backend_carries_a_task_to_a_pull_request() {
    let out = succeeded(Command::new(example("custom_backend")).output().unwrap());
    assert!(out.contains("compute_type=threads"), "{out}");
    assert!(out.lines().last().unwrap().starts_with("COMPLETED after 3 turns: Some("), "{out}");
}

#[test]
fn the_custom_backend_passes_the_public_suites() {
    let out = succeeded(Command::new(example("custom_backend")).arg("--conformance").output().unwrap());
    let suites: Vec<&str> = out.lines().map(|l| l.split(':').next().unwrap()).collect();
    assert_eq!(suites, ["compute", "model"], "{out}");
}

#[test]
fn the_property_harness_passes_a_good_store_and_finds_a_bug() {
    let good = succeeded(Command::new(example("property_harness")).output().unwrap());
    let parts: Vec<&str> = good.lines().map(|l| l.split(':').next().unwrap()).collect();
    assert_eq!(parts, ["conformance", "histories", "faults"], "{good}");
    let bad = Command::new(example("property_harness")).arg("--bug").output().unwrap();
    let out = String::from_utf8(bad.stdout).unwrap();
    assert!(!bad.status.success(), "{out}");
    assert_eq!(out.lines().filter(|l| l.contains(": FAILED: ")).count(), 3, "{out}");
}
