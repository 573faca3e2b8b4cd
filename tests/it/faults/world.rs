//! A place for one life: a state folder, a sample repository, the real program, and eyes to look with.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use abca::{Abca, Event, EventSeq, TaskHandle, TaskOutcome};
use abca_core::session::LogEntry;
use serde_json::Value;

use super::server::{Ask, Model, bash, text};

/// Nothing in these tests takes longer unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(150);
/// A look at the store, or at a file.
const LOOK: Duration = Duration::from_millis(10);
/// Fabricated; it must be found nowhere but at the model server.
pub const KEY: &str = "sk-ant-api03-FABRICATED-e2e-0123456789abcdefghijklmnopqrstuvwxyzABCDEF";

pub struct Place {
    dir: tempfile::TempDir,
    pub model: Model,
    abca: Abca,
    worker: Option<Child>,
    worker_args: Vec<String>,
}

impl Place {
    pub async fn new(model: &Model) -> Self {
        Self::with(model, &[]).await
    }

    /// With files in the repository besides the sample's.
    pub async fn with(model: &Model, files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for part in ["home", "repo"] {
            std::fs::create_dir(dir.path().join(part)).unwrap();
        }
        let abca = Abca::builder().state_dir(dir.path().join("state")).worker(false).build().await.unwrap();
        let place = Self { dir, model: model.clone(), abca, worker: None, worker_args: Vec::new() };
        let sample = [("test.sh", "test ! -e broken\n"), ("README.md", "A sample.\n")];
        for (name, content) in sample.iter().chain(files) {
            let path = place.repo().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        for args in [&["init", "-q", "-b", "main"][..], &["add", "-A"], &["commit", "-qm", "Begin"]] {
            place.git(args);
        }
        place
    }

    pub fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub fn repo(&self) -> PathBuf {
        self.dir.path().join("repo")
    }

    pub fn work(&self, task: &TaskHandle) -> PathBuf {
        self.state().join("work").join(task.id().to_string())
    }

    pub fn tree(&self, task: &TaskHandle) -> PathBuf {
        self.work(task).join("tree")
    }

    pub fn git(&self, args: &[&str]) -> String {
        let mut git = Command::new("git");
        git.arg("-C").arg(self.repo()).args(["-c", "user.name=Ann", "-c", "user.email=ann@example.com"]).args(args);
        let done = git.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1").output().unwrap();
        assert!(done.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_abca"));
        command.arg("--state").arg(self.state()).args(["--output", "json"]);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.dir.path().join("home")).env("TMPDIR", std::env::temp_dir());
        command.env("ANTHROPIC_API_KEY", KEY).env("ANTHROPIC_BASE_URL", &self.model.url);
        command.env("ABCA_LOG", "debug,abca_store=info,hyper_util=info,reqwest=info");
        command
    }

    /// Runs the program to its end.
    pub async fn abca(&self, args: &[&str]) -> Output {
        let mut command = self.command();
        command.args(args);
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    /// What a program prints as JSON.
    pub async fn json(&self, args: &[&str]) -> Value {
        let done = self.abca(args).await;
        let said = String::from_utf8_lossy(&done.stdout);
        serde_json::from_str(&said)
            .unwrap_or_else(|e| panic!("{args:?}: {e}: {said}{}", String::from_utf8_lossy(&done.stderr)))
    }

    /// Submits a task with the sample's test and these arguments more.
    pub async fn submit(&self, more: &[&str]) -> TaskHandle {
        self.submit_plain(&[&["--test", "sh test.sh"], more].concat()).await
    }

    pub async fn submit_plain(&self, more: &[&str]) -> TaskHandle {
        let repo = self.repo();
        let mut args = vec!["submit", "--repo", repo.to_str().unwrap()];
        if !more.contains(&"--model") {
            args.extend(["--model", "anthropic:claude-sonnet-4-6"]);
        }
        args.extend(more);
        args.push("Append lines to `ran.log`.");
        let said = self.json(&args).await;
        self.abca.task(said["task_id"].as_str().unwrap_or_else(|| panic!("{said}")).parse().unwrap())
    }

    /// Starts a worker with more arguments.
    pub fn start_worker_with(&mut self, args: &[&str]) {
        self.worker_args = args.iter().map(|a| (*a).to_owned()).collect();
        self.start_worker();
    }

    /// Starts a worker, the old one gone.
    pub fn start_worker(&mut self) {
        self.kill_worker();
        let log = std::fs::File::options().create(true).append(true).open(self.dir.path().join("worker.log")).unwrap();
        let mut command = self.command();
        command.arg("worker").args(&self.worker_args);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.worker = Some(command.spawn().unwrap());
    }

    /// SIGSTOP: it stands still.
    pub fn stop_worker(&self) {
        let worker = self.worker.as_ref().unwrap();
        signal(i32::try_from(worker.id()).unwrap(), "STOP");
    }

    /// SIGKILL, and the body is buried.
    pub fn kill_worker(&mut self) {
        if let Some(mut worker) = self.worker.take() {
            worker.kill().unwrap();
            worker.wait().unwrap();
        }
    }

    pub async fn events(&self, task: &TaskHandle) -> Vec<Event> {
        task.events_so_far(EventSeq::ZERO).await.unwrap()
    }

    /// Waits for an event that fits.
    pub async fn until(&self, task: &TaskHandle, what: &str, fits: impl Fn(&Event) -> bool) -> Event {
        let begun = Instant::now();
        let mut after = EventSeq::ZERO;
        loop {
            for event in task.events_so_far(after).await.unwrap() {
                after = event.seq;
                if fits(&event) {
                    return event;
                }
                assert!(!event.event_type.is_terminal(), "no {what}\n{}", self.story(task).await);
            }
            assert!(begun.elapsed() < PATIENCE, "no {what} in time\n{}", self.story(task).await);
            tokio::time::sleep(LOOK).await;
        }
    }

    pub async fn until_named(&self, task: &TaskHandle, name: &str) -> Event {
        self.until(task, name, |e| named(e, name)).await
    }

    /// Waits until something holds.
    pub async fn until_true(&self, task: &TaskHandle, what: &str, holds: impl Fn() -> bool) {
        let begun = Instant::now();
        while !holds() {
            assert!(begun.elapsed() < PATIENCE, "not in time: {what}\n{}", self.story(task).await);
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits for the task's end, and checks what holds at every end.
    pub async fn end(&self, task: &TaskHandle) -> TaskOutcome {
        let Ok(outcome) = tokio::time::timeout(PATIENCE, task.outcome()).await else {
            panic!("the task does not end\n{}", self.story(task).await)
        };
        let outcome = outcome.unwrap();
        let events = self.events(task).await;
        let story = self.story(task).await;
        let gapless: Vec<u64> = (1..=events.len() as u64).collect();
        assert_eq!(events.iter().map(|e| e.seq.0).collect::<Vec<_>>(), gapless, "{story}");
        assert_eq!(events.iter().filter(|e| e.event_type.is_terminal()).count(), 1, "{story}");
        assert!(events.last().unwrap().event_type.is_terminal(), "{story}");
        let snapshot = task.snapshot().await.unwrap();
        assert!(snapshot.held.is_empty() && snapshot.owed.is_empty(), "{snapshot:?}");
        assert_eq!(self.model.wrongs(), Vec::<String>::new(), "{story}");
        self.no_tool_twice(task).await;
        outcome
    }

    /// The end of a life that went well: one pull request, and nothing runs any more.
    pub async fn delivered(&self, task: &TaskHandle) -> TaskOutcome {
        let outcome = self.end(task).await;
        assert!(outcome.is_success(), "{outcome:?}\n{}", self.story(task).await);
        let proposed = self.pull_requests().await;
        assert_eq!(proposed.len(), 1, "{proposed:?}");
        assert_eq!(proposed[0]["url"].as_str(), outcome.pull_request.as_ref().map(|p| p.url.as_str()));
        self.nothing_runs(task).await;
        outcome
    }

    pub async fn pull_requests(&self) -> Vec<Value> {
        let repo = self.repo();
        let all = self.json(&["pr", "list", "--repo", repo.to_str().unwrap()]).await;
        all.as_array().unwrap().clone()
    }

    /// A file on the branch that was delivered.
    pub fn on_branch(&self, outcome: &TaskOutcome, file: &str) -> String {
        self.git(&["show", &format!("{}:{file}", outcome.branch.as_deref().unwrap())])
    }

    async fn no_tool_twice(&self, task: &TaskHandle) {
        let mut begun: Vec<String> = Vec::new();
        for (_, record) in task.log().await.unwrap() {
            if let LogEntry::ToolStarted { turn, call, .. } = record.entry {
                let call = format!("{turn}/{call}");
                assert!(!begun.contains(&call), "{call} began twice\n{}", self.story(task).await);
                begun.push(call);
            }
        }
    }

    /// Processes of this place's sessions, and with `marker` in their command line.
    pub fn processes(&self, marker: &str) -> Vec<i32> {
        pids().filter(|pid| cmdline(*pid).contains(marker)).collect()
    }

    pub async fn nothing_runs(&self, task: &TaskHandle) {
        self.until_true(task, "nothing of the session runs", || self.session_processes().is_empty()).await;
    }

    /// All processes that belong to sessions of this place.
    pub fn session_processes(&self) -> Vec<i32> {
        let state = self.state();
        let mine = |pid: i32| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let variable = format!("ABCA_SESSION_DIR={}", state.join("sessions").display());
            let has = environment.split(|b| *b == 0).any(|v| v.starts_with(variable.as_bytes()));
            has && std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|s| !s.contains(") Z "))
        };
        pids().filter(|pid| mine(*pid)).collect()
    }

    /// The processes of the newest session: `supervisor` or `brain`.
    pub fn session_process(&self, which: &str) -> Option<i32> {
        let mut folders: Vec<_> =
            std::fs::read_dir(self.state().join("sessions")).ok()?.filter_map(|e| Some(e.ok()?.path())).collect();
        folders.sort_by_key(|f| std::fs::metadata(f).and_then(|m| m.modified()).ok());
        let text = std::fs::read_to_string(folders.last()?.join("processes.json")).ok()?;
        let names: Value = serde_json::from_str(&text).ok()?;
        i32::try_from(names[which]["pid"].as_i64()?).ok()
    }

    /// The processes below the brain that serve the hands.
    pub fn hands(&self) -> Vec<i32> {
        let Some(brain) = self.session_process("brain") else { return Vec::new() };
        below(brain).into_iter().filter(|pid| cmdline(*pid).contains("__abca-hands")).collect()
    }

    /// Everything to read when something went wrong.
    pub async fn story(&self, task: &TaskHandle) -> String {
        let mut story = String::new();
        for event in task.events_so_far(EventSeq::ZERO).await.unwrap_or_default() {
            story.push_str(&format!("{event}\n"));
        }
        story.push_str(&format!("{} model calls; {:?}\n", self.model.calls(), self.model.wrongs()));
        let log = std::fs::read_to_string(self.dir.path().join("worker.log")).unwrap_or_default();
        story.push_str(&log.chars().rev().take(4_000).collect::<Vec<_>>().into_iter().rev().collect::<String>());
        for entry in std::fs::read_dir(self.state().join("sessions")).into_iter().flatten().flatten() {
            let said = std::fs::read_to_string(entry.path().join("stderr.log")).unwrap_or_default();
            let end = std::fs::read_to_string(entry.path().join("exit.json")).unwrap_or_default();
            story.push_str(&format!("-- {} {end}\n", entry.file_name().display()));
            story.push_str(&said.chars().rev().take(2_000).collect::<Vec<_>>().into_iter().rev().collect::<String>());
        }
        story
    }

    /// Everything that a place keeps on disk and shows, for a search.
    pub async fn record_of(&self, task: &TaskHandle) -> String {
        let mut all = self.story(task).await;
        for event in self.events(task).await {
            all.push_str(&serde_json::to_string(&event).unwrap());
        }
        for (_, record) in task.log().await.unwrap() {
            all.push_str(&serde_json::to_string(&record).unwrap());
        }
        all
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.kill_worker();
        for pid in self.session_processes() {
            signal(pid, "KILL");
        }
    }
}

/// Whether an event is meant by a name: its type, or its milestone.
pub fn named(event: &Event, name: &str) -> bool {
    event.event_type.as_str() == name || event.metadata.get("milestone").and_then(Value::as_str) == Some(name)
}

/// Ends a process that this test started.
pub fn signal(pid: i32, signal: &str) {
    let _gone_already =
        Command::new("kill").args([format!("-{signal}"), pid.to_string()]).stderr(Stdio::null()).status();
}

fn pids() -> impl Iterator<Item = i32> {
    std::fs::read_dir("/proc").unwrap().filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok())
}

fn cmdline(pid: i32) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

fn below(root: i32) -> Vec<i32> {
    let parent = |pid: i32| -> Option<i32> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
    };
    let all: Vec<(i32, i32)> = pids().filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let mut found = vec![root];
    let mut at = 0;
    while at < found.len() {
        let parent = found[at];
        found.extend(all.iter().filter(|(_, p)| *p == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    found.split_off(1)
}

/// A life whose first tool says that it has begun, and waits for `go` before it leaves a line.
pub async fn held() -> (Place, TaskHandle) {
    let model = Model::start(|ask: &Ask| match ask.turn {
        0 => bash(0, &format!("touch begun; {}; echo one >> ran.log", gate("go"))),
        _ => text("Done."),
    });
    let mut place = Place::with(&model, &[(".gitignore", "go\nbegun\n")]).await;
    place.start_worker();
    let task = place.submit(&[]).await;
    place.until_true(&task, "the tool runs", || place.tree(&task).join("begun").exists()).await;
    (place, task)
}

/// A shell line that waits until a file is there, longer than any test.
pub fn gate(name: &str) -> String {
    format!("n=0; until test -e {name}; do sleep 0.05; n=$((n+1)); test $n -lt 4000 || exit 9; done")
}

/// Makes a file that a waiting command looks for.
pub fn open_gate(tree: &Path, name: &str) {
    std::fs::write(tree.join(name), "").unwrap();
}
