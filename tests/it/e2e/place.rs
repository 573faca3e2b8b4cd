//! A place of a test's own: a home, a state folder, repositories, trajectories, and the program.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// The program.
pub(super) const ABCA: &str = env!("CARGO_BIN_EXE_abca");
/// What the hand-written model does with [`Place::sample`]: it repairs the file, commits and says so.
pub(super) const FIX: &str = r#"{"abca_trajectory": 1}
{"say": "I repair it.", "calls": [{"name": "Bash", "input": {"command": "sed -i s/wrong/right/ file.txt && git commit -qam 'fix: set the file right'"}}]}
{"say": "The file is right now."}
"#;
/// The sample's test.
pub(super) const CHECK: &str = "sh check.sh";
/// A test that hangs is ended after so many seconds.
const PATIENCE: &str = "170";

/// Folders that go away with the test.
#[derive(Debug)]
pub(super) struct Place {
    dir: TempDir,
}

/// How a run of the program ended.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) code: Option<i32>,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl From<Output> for Ran {
    fn from(out: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the program says UTF-8");
        Self { code: out.status.code(), stdout: text(out.stdout), stderr: text(out.stderr) }
    }
}

impl Ran {
    /// Standard output, which must be one JSON document and nothing else.
    #[track_caller]
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("not one JSON document: {e}\n{self:#?}"))
    }

    /// Checks the exit status, and that standard error says all of this.
    #[track_caller]
    pub(super) fn fails(&self, code: i32, says: &[&str]) -> &Self {
        self.ends(code);
        for text in says {
            assert!(self.stderr.contains(text), "want `{text}` on standard error\n{self:#?}");
        }
        self
    }

    /// Checks the exit status, and that standard output says all of this.
    #[track_caller]
    pub(super) fn prints(&self, code: i32, says: &[&str]) -> &Self {
        self.ends(code);
        for text in says {
            assert!(self.stdout.contains(text), "want `{text}` on standard output\n{self:#?}");
        }
        self
    }

    /// Checks the exit status.
    #[track_caller]
    pub(super) fn ends(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }
}

impl Place {
    pub(super) fn new() -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap() };
        std::fs::create_dir(place.home()).unwrap();
        place.file("fix.jsonl", FIX);
        place
    }

    pub(super) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn home(&self) -> PathBuf {
        self.path("home")
    }

    pub(super) fn state(&self) -> PathBuf {
        self.path("state")
    }

    /// Writes a file and answers its path.
    pub(super) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A name of a hand-written model for the command line.
    pub(super) fn replay(&self, name: &str, text: &str) -> String {
        format!("replay:{}", self.file(name, text).display())
    }

    /// A repository with one commit on `main`: a file that is wrong, and a test that says so.
    pub(super) fn sample(&self, name: &str) -> PathBuf {
        let repo = self.path(name);
        self.init(&repo);
        std::fs::write(repo.join("file.txt"), "wrong\n").unwrap();
        std::fs::write(repo.join("check.sh"), "grep -q right file.txt\n").unwrap();
        std::fs::write(repo.join(".gitignore"), "ignored/\n").unwrap();
        self.commit(&repo, "a file and its test");
        repo
    }

    /// A repository without commits.
    pub(super) fn init(&self, repo: &Path) {
        self.git(self.dir.path(), ["init", "--quiet", "--initial-branch=main", repo.to_str().unwrap()]);
    }

    /// Commits whatever is there.
    pub(super) fn commit(&self, repo: &Path, subject: &str) {
        self.git(repo, ["add", "--all"]);
        self.git(repo, ["commit", "--quiet", "--no-verify", "-m", subject]);
    }

    /// Runs git as a user without any configuration; answers what it printed.
    #[track_caller]
    pub(super) fn git<S: AsRef<OsStr>>(&self, repo: &Path, args: impl IntoIterator<Item = S>) -> String {
        let mut command = Command::new("git");
        command.arg("-C").arg(repo).args(["-c", "user.name=Ann", "-c", "user.email=ann@example.com"]).args(args);
        command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
        let out = command.output().unwrap();
        assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    /// The program with this place's state folder and home, and nothing else in its environment. Ended when it hangs.
    pub(super) fn abca(&self) -> Command {
        let mut command = self.bare_abca();
        command.arg("--state").arg(self.state());
        command
    }

    /// The same without a word about the state folder.
    pub(super) fn bare_abca(&self) -> Command {
        let mut command = Command::new("timeout");
        command.args(["--signal=KILL", PATIENCE, ABCA]);
        self.calm(&mut command);
        command
    }

    /// Gives a command an environment of nothing but what it needs.
    pub(super) fn calm(&self, command: &mut Command) {
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.home()).env("USER", "ann").stdin(Stdio::null());
    }

    /// Runs the program to its end.
    pub(super) fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ran {
        self.abca().args(args).output().unwrap().into()
    }

    /// Runs a task on a repository to its end, with a hand-written model and more arguments.
    pub(super) fn task(&self, repo: &Path, trajectory: &str, more: &[&str]) -> Ran {
        let model = self.replay("task.jsonl", trajectory);
        let repo = repo.to_str().unwrap();
        self.run(["run", "--repo", repo, "--model", &model, "set it right"].iter().chain(more))
    }

    /// The same, answered as JSON.
    #[track_caller]
    pub(super) fn task_json(&self, repo: &Path, trajectory: &str, more: &[&str]) -> (Ran, Value) {
        let ran = self.task(repo, trajectory, &[more, &["--output", "json"]].concat());
        let json = ran.json();
        (ran, json)
    }

    /// How many tasks the state folder knows.
    pub(super) fn tasks(&self) -> usize {
        self.run(["list", "--output", "json"]).json()["tasks"].as_array().unwrap().len()
    }
}

/// Everything that stands in a user's repository and is not to be touched: each path with its kind, mode and content.
/// Left out is what a task adds: objects, its own branches and refs, and the local forge's records.
pub(super) fn standing(repo: &Path) -> BTreeMap<Vec<u8>, (u32, Vec<u8>)> {
    const ADDED: [&[u8]; 5] = [
        b".git/objects/",
        b".git/abca/",
        b".git/refs/abca",
        b".git/refs/heads/bgagent",
        b".git/logs/refs/heads/bgagent",
    ];
    let mut all = BTreeMap::new();
    let mut folders = vec![repo.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(repo).unwrap().as_os_str().as_bytes().to_vec();
            if ADDED.iter().any(|a| name.starts_with(a)) || name == b".git/abca" {
                continue;
            }
            let meta = std::fs::symlink_metadata(&path).unwrap();
            let content = if meta.is_symlink() {
                std::fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec()
            } else if meta.is_dir() {
                folders.push(path);
                Vec::new()
            } else {
                std::fs::read(&path).unwrap()
            };
            all.insert(name, (meta.permissions().mode(), content));
        }
    }
    all
}

/// Whether this test runs as root. Says so when it does not: what it would have shown is not shown.
pub(super) fn is_root(test: &str) -> bool {
    let root = std::fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0);
    if !root {
        eprintln!("SKIPPED {test}: it needs root to change the user, or to mount");
    }
    root
}
