//! Operating it: submit, worker, list, status, events, log, watch, cancel; JSON, exit statuses, completions.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::place::{ABCA, CHECK, FIX, Place, Ran};

/// A model whose tool call goes on until somebody stops it; before, it does some work.
const ENDLESS: &str = r#"{"abca_trajectory": 1}
{"calls": [{"name": "Bash", "input": {"command": "echo half > half.txt; sleep 100000", "timeout": 600000}}]}
{"say": "Done."}
"#;

/// A program that runs beside the test; it ends with the test at the latest.
struct Beside(Child);

impl Beside {
    fn start(place: &Place, args: &[&str]) -> Self {
        let mut command = Command::new(ABCA);
        command.arg("--state").arg(place.state()).args(args);
        place.calm(&mut command);
        Self(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    /// Reads standard error until a line holds this; answers the line.
    #[track_caller]
    fn says(&mut self, text: &str) -> String {
        let mut lines = BufReader::new(self.0.stderr.as_mut().unwrap()).lines();
        let mut seen = Vec::new();
        loop {
            let Some(line) = lines.next() else { panic!("it ended without `{text}`: {seen:#?}") };
            let line = line.unwrap();
            if line.contains(text) {
                return line;
            }
            seen.push(line);
        }
    }

    fn interrupt(&self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    }

    fn end(mut self) -> Ran {
        let mut stdout = String::new();
        self.0.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
        Ran { code: self.0.wait().unwrap().code(), stdout, stderr: String::new() }
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Waits until a task has an event of this type.
#[track_caller]
fn until(place: &Place, task: &str, event: &str) {
    for _ in 0..600 {
        let events = place.run(["events", task, "--output", "json"]).json();
        if events.as_array().unwrap().iter().any(|e| e["event_type"] == event) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("`{event}` did not come");
}

/// Waits for a file in the work tree of the only task: a tool call that was told need not have run yet.
fn written(place: &Place, name: &str) {
    for _ in 0..600 {
        let trees = std::fs::read_dir(place.state().join("work")).into_iter().flatten().flatten();
        if trees.map(|t| t.path().join("tree").join(name)).any(|f| std::fs::read(f).is_ok_and(|b| !b.is_empty())) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("`{name}` was not written");
}

fn submit(place: &Place, repo: &str, trajectory: &str, more: &[&str]) -> String {
    let model = place.replay("task.jsonl", trajectory);
    let args = ["submit", "--repo", repo, "--model", &model, "--test", CHECK, "set it right", "--output", "json"];
    let ran = place.run(args.iter().chain(more));
    ran.ends(0).json()["task_id"].as_str().unwrap().to_owned()
}

#[test]
fn submit_worker_list_status_events_log_pr() {
    let place = Place::new();
    let repo = place.sample("repo");
    let repo = repo.to_str().unwrap();
    let task = submit(&place, repo, FIX, &[]);
    let status = place.run(["status", &task]);
    status.prints(0, &[&task, "SUBMITTED", "set it right", repo]);
    place.run(["worker", "--until-idle"]).ends(0);

    place.run(["list"]).prints(0, &[&task, "COMPLETED", "pull request #1"]);
    place.run(["list", "--status", "FAILED"]).prints(0, &["no tasks"]);
    place.run(["list", "--repo", repo, "--status", "COMPLETED"]).prints(0, &[&task]);
    place.run(["status", &task]).prints(0, &["COMPLETED", "pull request #1", "FAILED \u{2192} passed"]);
    place
        .run(["log", &task])
        .prints(0, &["sed -i s/wrong/right/ file.txt", "The file is right now.", "pull request #1"]);
    place.run(["pr", "show", &task]).prints(0, &["Pull request #1", "fix: set the file right", "set it right"]);
    place.run(["pr", "list", "--repo", repo]).prints(0, &["fix: set the file right", "open"]);
    place.run(["watch", &task]).prints(0, &["COMPLETED", "Pull request #1"]);
    place.run(["events", &task, "--follow"]).prints(0, &["task_completed"]);

    let all = place.run(["events", &task, "--output", "json"]).json();
    let all = all.as_array().unwrap();
    let seqs: Vec<u64> = all.iter().map(|e| e["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (1..=all.len() as u64).collect::<Vec<_>>(), "no gap");
    assert_eq!(
        (&all[0]["event_type"], &all[all.len() - 1]["event_type"]),
        (&"task_created".into(), &"task_completed".into())
    );
    let rest = place.run(["events", &task, "--after", "3", "--output", "json"]).json();
    assert_eq!(rest.as_array().unwrap(), &all[3..]);
    let none = place.run(["events", &task, "--after", "100000", "--output", "json"]).json();
    assert_eq!(none, Value::Array(Vec::new()));
    // A stream is a document a line.
    let follow = place.run(["events", &task, "--after", "3", "--follow", "--output", "json"]);
    let lines: Vec<Value> = follow.ends(0).stdout.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines, all[3..]);

    place.run(["cancel", &task]).fails(1, &["has ended already: COMPLETED"]);
}

#[test]
fn json_is_one_document_and_the_exit_status_says_how_it_ended() {
    let place = Place::new();
    let repo = place.sample("repo");
    let (ran, json) = place.task_json(&repo, FIX, &["--test", CHECK]);
    assert_eq!((ran.ends(0).stderr.as_str(), &json["outcome"]["status"]), ("", &"COMPLETED".into()));
    assert_eq!(json["error_classification"], Value::Null);
    let task = json["outcome"]["task_id"].as_str().unwrap();

    let list = place.run(["list", "--output", "json"]).json();
    assert_eq!(list["tasks"][0]["id"], task);
    let status = place.run(["status", task, "--output", "json"]).json();
    assert_eq!(status["task"], list["tasks"][0]);
    assert_eq!(place.run(["watch", task, "--output", "json"]).json(), json);
    assert_eq!(place.run(["pr", "show", task, "--output", "json"]).json(), json["pull_request"]);
    let log = place.run(["log", task, "--output", "json"]).json();
    assert_eq!(log[0]["seq"], 1);

    // The agent spoils what passed before.
    std::fs::write(repo.join("file.txt"), "right\n").unwrap();
    place.commit(&repo, "right");
    let spoil = FIX.replace("s/wrong/right/", "s/right/wrong/");
    let (ran, json) = place.task_json(&repo, &spoil, &["--test", CHECK]);
    assert_eq!((ran.ends(1).stderr.as_str(), &json["outcome"]["status"]), ("", &"FAILED".into()));
    assert_eq!((&json["pull_request"], &json["outcome"]["failure"]["reason"]), (&Value::Null, &"verification".into()));
    assert!(json["error_classification"]["remedy"].as_str().is_some_and(|r| !r.is_empty()), "{json:#}");
}

#[test]
fn nothing_to_do_is_an_honest_end() {
    let place = Place::new();
    let repo = place.sample("repo");
    let looks = "{\"abca_trajectory\": 1}\n{\"say\": \"It is right as it is.\"}\n";
    let ran = place.task(&repo, looks, &[]);
    ran.prints(0, &["COMPLETED: there was nothing to change", "It is right as it is."]);
    assert_eq!(place.git(&repo, ["for-each-ref", "--format=%(refname)"]), "refs/heads/main\n");
}

#[test]
fn ctrl_c_cancels_and_keeps_the_work() {
    for output in ["text", "json"] {
        let place = Place::new();
        let repo = place.sample("repo");
        let model = place.replay("task.jsonl", ENDLESS);
        let args = ["run", "--repo", repo.to_str().unwrap(), "--model", &model, "x", "--output", output];
        let mut run = Beside::start(&place, &args);
        let task = if output == "text" {
            run.says("sleep 100000");
            None
        } else {
            while place.tasks() == 0 {}
            let task = place.run(["list", "--output", "json"]).json()["tasks"][0]["id"].as_str().unwrap().to_owned();
            until(&place, &task, "agent_tool_call");
            Some(task)
        };
        written(&place, "half.txt");
        run.interrupt();
        let ran = run.end();
        ran.prints(130, &["CANCELLED"]);
        if let Some(task) = task {
            assert_eq!(ran.json()["outcome"]["status"], "CANCELLED");
            assert_eq!(ran.json()["outcome"]["task_id"], task);
        }
        let kept = place.git(&repo, ["for-each-ref", "--format=%(refname)", "refs/abca/wip/"]);
        assert_eq!(place.git(&repo, ["show", &format!("{}:half.txt", kept.trim())]), "half\n");
        assert_eq!(place.git(&repo, ["for-each-ref", "--format=%(refname)", "refs/heads/"]), "refs/heads/main\n");
    }
}

#[test]
fn a_worker_that_is_interrupted_leaves_the_session_and_the_next_one_goes_on() {
    let place = Place::new();
    let repo = place.sample("repo");
    // Long enough for the worker to be gone before the tool call ends; if it is not, the test shows less and still passes.
    let waits = FIX.replace("sed -i", "sleep 2; sed -i");
    let task = submit(&place, repo.to_str().unwrap(), &waits, &[]);
    let mut worker = Beside::start(&place, &["worker"]);
    worker.says("Ctrl-C drains");
    until(&place, &task, "agent_tool_call");
    worker.interrupt();
    worker.end().ends(130);
    place.run(["worker", "--until-idle"]).ends(0);
    let status = place.run(["status", &task, "--output", "json"]).json();
    assert_eq!((&status["task"]["status"], &status["task"]["attempt"]), (&"COMPLETED".into(), &1.into()), "{status:#}");
}

#[test]
fn cancel_reaches_a_waiting_and_a_running_task() {
    let place = Place::new();
    let repo = place.sample("repo");
    let repo = repo.to_str().unwrap();
    let running = submit(&place, repo, ENDLESS, &[]);
    let mut worker = Beside::start(&place, &["worker"]);
    worker.says("Ctrl-C drains");
    until(&place, &running, "agent_tool_call");
    let done = place.run(["cancel", &running, "--wait", "--output", "json"]);
    assert_eq!(done.ends(0).json()["status"], "CANCELLED");
    // Once more is no mistake: what was asked for is so.
    place.run(["cancel", &running]).prints(0, &["is CANCELLED"]);
    place.run(["watch", &running]).prints(1, &["CANCELLED", "cancelled by ann"]);
    worker.interrupt();
    worker.end().ends(130);

    let waiting = submit(&place, repo, FIX, &[]);
    let asked = place.run(["cancel", &waiting, "--output", "json"]).json();
    assert_eq!(asked["cancel_requested"], true);
    place.run(["worker", "--until-idle"]).ends(0);
    place.run(["status", &waiting]).prints(0, &["CANCELLED"]);
}

#[test]
fn detach_returns_at_once_and_watch_sees_the_end() {
    let place = Place::new();
    let repo = place.sample("repo");
    let model = place.replay("task.jsonl", FIX);
    let args = ["run", "--detach", "--repo", repo.to_str().unwrap(), "--model", &model, "--test", CHECK, "x"];
    let ran = place.run(args.iter().chain(&["--output", "json"]));
    let task = ran.ends(0).json()["task_id"].as_str().unwrap().to_owned();
    place.run(["watch", &task]).prints(0, &["COMPLETED", "Pull request #1", "FAILED \u{2192} passed"]);
}

#[test]
fn an_idempotency_key_answers_the_same_task_and_refuses_another_payload() {
    let place = Place::new();
    let repo = place.sample("repo");
    let repo = repo.to_str().unwrap();
    let first = submit(&place, repo, FIX, &["--idempotency-key", "once"]);
    assert_eq!(submit(&place, repo, FIX, &["--idempotency-key", "once"]), first);
    let other = place.run(["submit", "--repo", repo, "--idempotency-key", "once", "something else"]);
    other.fails(1, &["`once` was used before, with another payload", &first]);
    assert_eq!(place.tasks(), 1);
    place.run(["submit", "--repo", repo, "--idempotency-key", "not a key\n", "x"]).fails(2, &["`idempotency_key`"]);
}

#[test]
fn a_recording_replays_to_the_same_pull_request() {
    let place = Place::new();
    let (first, second) = (place.sample("first/repo"), place.sample("second/repo"));
    let recording = place.path("recorded.jsonl").display().to_string();
    let (ran, recorded) = place.task_json(&first, FIX, &["--test", CHECK, "--record", &recording]);
    ran.ends(0);
    let replayed = std::fs::read_to_string(&recording).unwrap();
    let (ran, again) = place.task_json(&second, &replayed, &["--test", CHECK]);
    ran.ends(0);
    let diff = |repo: &std::path::Path, json: &Value| {
        place.git(repo, ["diff", "main", json["outcome"]["branch"].as_str().unwrap()])
    };
    assert_eq!(diff(&first, &recorded), diff(&second, &again));
    assert_eq!(recorded["pull_request"]["title"], again["pull_request"]["title"]);
    let body = |json: &Value| {
        let (task, text) =
            (json["outcome"]["task_id"].as_str().unwrap(), json["pull_request"]["body"].as_str().unwrap());
        text.replace(task, "TASK").lines().filter(|l| !l.starts_with("Made in")).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(body(&recorded), body(&again));

    // A conversation that departs from it is said to, and where.
    std::fs::write(second.join("check.sh"), "echo another; grep -q right file.txt\n").unwrap();
    let departs = replayed.replace("sed -i", "cat check.sh; sed -i");
    let (ran, json) = place.task_json(&second, &departs, &["--test", CHECK]);
    ran.ends(1);
    let why = json["outcome"]["failure"]["message"].as_str().unwrap();
    assert!(why.contains("call 2 of") && why.contains("task.jsonl"), "{why}");
}

#[test]
fn the_state_folder_is_found_by_flag_then_variable_then_home() {
    let place = Place::new();
    let listed = |command: &mut Command| Ran::from(command.arg("list").output().unwrap());
    let (flag, variable) = (place.path("by-flag"), place.path("by-variable"));
    listed(place.bare_abca().env("ABCA_STATE", &variable).arg("--state").arg(&flag)).prints(0, &["no tasks"]);
    assert!(flag.join("abca-state").is_file() && !variable.exists());
    listed(place.bare_abca().env("ABCA_STATE", &variable)).prints(0, &["no tasks"]);
    assert!(variable.join("abca-state").is_file());
    listed(place.bare_abca().env("XDG_STATE_HOME", place.path("xdg"))).prints(0, &["no tasks"]);
    assert!(place.path("xdg/abca/abca-state").is_file());
    listed(&mut place.bare_abca()).prints(0, &["no tasks"]);
    assert!(place.home().join(".local/state/abca/abca-state").is_file());
}

#[test]
fn completions_are_scripts_that_the_shell_takes() {
    let place = Place::new();
    for (shell, mark) in [("bash", "complete -F"), ("zsh", "#compdef abca"), ("fish", "complete -c abca")] {
        let script = place.run(["completions", shell]);
        script.prints(0, &[mark, "worker", "until-idle"]);
        let file = place.file(shell, &script.stdout);
        match Command::new(shell).arg("-n").arg(&file).output() {
            Ok(out) => assert!(out.status.success(), "{shell}: {}", String::from_utf8_lossy(&out.stderr)),
            Err(_) => eprintln!("SKIPPED the check of {shell} itself: it is not installed"),
        }
    }
    place.run(["completions", "dos"]).fails(2, &["dos", "bash"]);
}

#[test]
fn usage_is_no_error_and_a_closed_pipe_is_none_either() {
    let place = Place::new();
    place.run(["--help"]).prints(0, &["demo", "run", "worker"]);
    place.run(["--version"]).prints(0, &["abca 0."]);
    place.run([""; 0]).fails(2, &["Usage"]);
    for args in [["--help"].as_slice(), &["completions", "bash"], &["list"]] {
        let ran = Ran::from(place.abca().args(args).stdout(nobody_reads()).output().unwrap());
        assert_eq!(ran.ends(0).stderr, "", "{args:?}");
    }
    // Nobody hears why it fails; it fails all the same, and not by a panic.
    let deaf = place.abca().args(["status", "nonsense"]).stderr(nobody_reads()).output().unwrap();
    assert_eq!(Ran::from(deaf).code, Some(2));
}

/// A pipe whose reader has gone.
fn nobody_reads() -> std::io::PipeWriter {
    let (_reader, writer) = std::io::pipe().unwrap();
    writer
}
