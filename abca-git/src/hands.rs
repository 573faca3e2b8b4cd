//! The hands' repository: [`HandsRepo`], and how the brain runs git there: [`HandsExec`].
//!
//! The brain makes it and checks it out. From then on the agent owns it, so the brain never runs git in it: every command
//! runs inside the sandbox, through [`HandsExec`], and commits leave it over git's protocol ([`HandsRepo::hand_over`]).

mod exec;
mod objects;

use std::fmt;
use std::path::{Path, PathBuf};

use abca_core::git::{GitError, GitErrorKind};
use async_trait::async_trait;

use crate::bare::{Bare, IDENTITY, ServedRepo, absolute, init};
use crate::program::Git;
use crate::refs::{check_branch, check_sha, is_sha};

pub use exec::PlainExec;

/// Runs programs in the work tree, inside the hands' sandbox.
#[async_trait]
pub trait HandsExec: fmt::Debug + Send + Sync {
    /// Runs a program to its end, in the work tree's root, with no input. Any exit status is an answer.
    ///
    /// # Errors
    /// When it could not be started, was stopped, or said more than the implementation keeps.
    ///
    /// # Cancel safety
    /// Dropped, the program is killed.
    async fn run(&self, argv: &[&str], env: &[(&str, &str)]) -> Result<ExecOutput, GitError>;

    /// Starts a program that the brain talks to over its stdin and stdout. Dropping the guard kills it.
    ///
    /// # Errors
    /// When it could not be started.
    async fn serve(&self, argv: &[&str]) -> Result<(ServedRepo, Box<dyn ServedGuard>), GitError>;
}

/// Keeps a served program alive; dropped, the program and what it started are killed.
pub trait ServedGuard: Send + fmt::Debug {}

/// What a program in the sandbox left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOutput {
    /// The exit status; 128 + the number for a signal.
    pub status: i32,
    /// What it wrote.
    pub stdout: Vec<u8>,
    /// What it complained.
    pub stderr: Vec<u8>,
}

/// The whole work tree as a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The commit: its tree is the work tree (tracked and untracked, never ignored), its parent is `head`.
    pub sha: String,
    /// The agent's HEAD; `None` when it has no commit (then the snapshot has no parent: see [`Bare::regraft`]).
    pub head: Option<String>,
    /// The repository was damaged or removed, and was made anew around the work tree.
    pub repaired: bool,
    /// Some files could not be read and are not in it.
    pub incomplete: bool,
    /// The agent is in the middle of a merge with conflicts; the files are in it as they are, with their markers.
    pub unmerged: bool,
}

/// What the safety net did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SafetyNet {
    /// The task branch, and HEAD, after it; `None` when there is nothing at all.
    pub head: Option<String>,
    /// The commit that saved uncommitted work; `None` when there was none.
    pub saved: Option<String>,
    /// The snapshot of everything as it was before.
    pub snapshot: Snapshot,
    /// Where the task branch was, when HEAD was elsewhere and did not contain it; kept at `refs/abca/displaced`.
    pub displaced: Option<String>,
    /// A rebase was under way; it was undone, and the branch is as it was before the rebase.
    pub rebase_undone: bool,
}

/// The hands' repository of one session.
#[derive(Debug, Clone)]
pub struct HandsRepo {
    dir: PathBuf,
    branch: String,
}

const SCRIPT: &str = include_str!("hands/work.sh");

impl HandsRepo {
    /// Makes the repository in the new folder `dir` with `branch` checked out at `start_sha`.
    ///
    /// It has objects of its own, no remote, the platform's identity, and none of the user's configuration. Symbolic links
    /// stay links, LFS pointers stay pointers, submodules stay empty, no filter runs.
    ///
    /// # Errors
    /// `Conflict` when `dir` exists and is not empty; `NotFound` when `from` has no such commit; `Full`.
    ///
    /// # Cancel safety
    /// Dropped, it leaves a folder to remove.
    pub async fn create(git: &Git, from: &Bare, dir: &Path, branch: &str, start_sha: &str) -> Result<Self, GitError> {
        let dir = &absolute("create_hands", dir)?;
        let hands = Self::fill(git, from, dir, branch, start_sha).await?;
        let reset = git.call("create_hands").dir(dir).args(["reset", "--hard", "--quiet", start_sha, "--"]);
        if let Err(error) = reset.run().await {
            // Most of all: there is no such commit.
            from.resolve(start_sha).await?;
            return Err(error);
        }
        Ok(hands)
    }

    /// Makes the repository as it was when `snapshot` ([`HandsRepo::snapshot`]) was taken: the branch at the snapshot's
    /// parent, and uncommitted and untracked files in the work tree.
    ///
    /// # Errors
    /// As [`HandsRepo::create`]; `Invalid` when the snapshot has no parent ([`Bare::regraft`] it first).
    pub async fn resume(git: &Git, from: &Bare, dir: &Path, branch: &str, snapshot: &str) -> Result<Self, GitError> {
        const OP: &str = "resume_hands";
        let head = from.resolve(&format!("{snapshot}^")).await.map_err(|e| {
            GitError::new(GitErrorKind::Invalid, OP, format!("snapshot {snapshot} has no parent here")).with_source(e)
        })?;
        let dir = &absolute(OP, dir)?;
        let hands = Self::fill(git, from, dir, branch, snapshot).await?;
        git.call(OP).dir(dir).args(["reset", "--hard", "--quiet", snapshot, "--"]).run().await?;
        git.call(OP).dir(dir).args(["reset", "--mixed", "--quiet", &head, "--"]).run().await?;
        Ok(hands)
    }

    async fn fill(git: &Git, from: &Bare, dir: &Path, branch: &str, sha: &str) -> Result<Self, GitError> {
        const OP: &str = "create_hands";
        check_branch(OP, branch)?;
        check_sha(OP, sha)?;
        if dir.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
            let message = format!("`{}` exists and is not empty", dir.display());
            return Err(GitError::new(GitErrorKind::Conflict, OP, message));
        }
        init(git, OP, dir, false, branch).await?;
        let settings = [
            ("user.name", IDENTITY.0),
            ("user.email", IDENTITY.1),
            ("commit.gpgSign", "false"),
            ("gc.auto", "0"),
            ("maintenance.auto", "false"),
            ("filter.lfs.required", "false"),
            ("advice.detachedHead", "false"),
            ("fetch.unpackLimit", "1"),
        ];
        let mut text = String::new();
        for (name, value) in settings {
            let (section, key) = name.rsplit_once('.').unwrap_or((name, ""));
            let section = section.split_once('.').map_or(section.to_owned(), |(s, sub)| format!("{s} \"{sub}\""));
            text.push_str(&format!("[{section}]\n\t{key} = {value}\n"));
        }
        let config = dir.join(".git/config");
        let failed = |e: std::io::Error| {
            let kind = if e.kind() == std::io::ErrorKind::StorageFull {
                GitErrorKind::Full
            } else {
                GitErrorKind::Unavailable
            };
            GitError::new(kind, OP, format!("cannot write `{}`: {e}", config.display())).with_source(e)
        };
        let mut all = tokio::fs::read_to_string(&config).await.map_err(failed)?;
        all.push_str(&text);
        tokio::fs::write(&config, all).await.map_err(failed)?;
        objects::give(OP, from.dir(), &dir.join(".git"), branch, sha).await?;
        Ok(Self { dir: dir.to_owned(), branch: branch.to_owned() })
    }

    /// A repository that was made before, e.g. by another process.
    ///
    /// # Errors
    /// `Invalid` for a branch name that is none.
    pub fn open(dir: &Path, branch: &str) -> Result<Self, GitError> {
        check_branch("open_hands", branch)?;
        Ok(Self { dir: dir.to_owned(), branch: branch.to_owned() })
    }

    /// The work tree's root, seen from the brain.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The task's branch.
    pub fn branch(&self) -> &str {
        &self.branch
    }

    /// Commits the whole work tree beside the agent's history: its index, HEAD and branches stay as they are. An unchanged
    /// tree is answered with the same commit as before. Kept at `refs/abca/snapshot`.
    ///
    /// Holds in the middle of a merge or rebase, with a lock left behind, with nested repositories (their files are in it)
    /// and after the agent removed `.git`.
    ///
    /// # Errors
    /// `Full`, or what git says; `Corrupt` when the repository can be neither read nor made anew.
    pub async fn snapshot(&self, exec: &dyn HandsExec) -> Result<Snapshot, GitError> {
        self.script("snapshot", exec, &[]).await?.snapshot()
    }

    /// Ends the session's work in the repository: commits what is not committed on top of HEAD, and puts the task branch,
    /// checked out, where the work is. To be called when no tool is running.
    ///
    /// Where the work is: HEAD; except that a HEAD left behind on an ancestor of the task branch (say, the agent looked at
    /// the base branch last) leaves the task branch as it is.
    ///
    /// # Errors
    /// As [`HandsRepo::snapshot`].
    pub async fn safety_net(&self, exec: &dyn HandsExec, message: &str) -> Result<SafetyNet, GitError> {
        let said = self.script("safety_net", exec, &[message]).await?;
        Ok(SafetyNet {
            head: said.sha("final"),
            saved: said.sha("saved"),
            displaced: said.sha("displaced"),
            rebase_undone: said.value("rebase").is_some(),
            snapshot: said.snapshot()?,
        })
    }

    /// The agent's HEAD; `None` when it has no commit or the repository is broken.
    ///
    /// # Errors
    /// When the sandbox cannot run git.
    pub async fn head(&self, exec: &dyn HandsExec) -> Result<Option<String>, GitError> {
        // Named, not searched for: a repository further up is not the agent's.
        let argv = ["git", "--git-dir=.git", "rev-parse", "--verify", "--quiet", "HEAD^{commit}"];
        let out = exec.run(&argv, &ENV).await?;
        let sha = String::from_utf8_lossy(&out.stdout).trim().to_owned();
        Ok((out.status == 0 && is_sha(&sha)).then_some(sha))
    }

    /// Brings commits into the brain's repository: each pair is a commit id here and a ref under `refs/abca/` there.
    ///
    /// # Errors
    /// As [`Bare::fetch_served`].
    pub async fn hand_over(&self, exec: &dyn HandsExec, to: &Bare, what: &[(&str, &str)]) -> Result<(), GitError> {
        let mut specs = Vec::new();
        for (sha, target) in what {
            check_sha("hand_over", sha)?;
            specs.push(format!("{sha}:{target}"));
        }
        let mut argv = vec!["env"];
        let env: Vec<String> = ENV.iter().map(|(n, v)| format!("{n}={v}")).collect();
        argv.extend(env.iter().map(String::as_str));
        argv.extend(["git", "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false"]);
        // A pipe on one machine: time counts, size does not.
        argv.extend(["-c", "core.bigFileThreshold=32m", "-c", "pack.compression=0"]);
        argv.extend(["-c", "uploadpack.allowAnySHA1InWant=true", "-c", "safe.directory=*"]);
        argv.extend(["upload-pack", "--strict", "./.git"]);
        let (served, guard) = exec.serve(&argv).await?;
        let specs: Vec<&str> = specs.iter().map(String::as_str).collect();
        let done = to.fetch_served(served, &specs).await;
        drop(guard);
        done
    }

    async fn script(&self, op: &'static str, exec: &dyn HandsExec, args: &[&str]) -> Result<Said, GitError> {
        let mut argv = vec!["sh", "-c", SCRIPT, "abca-work", op, &self.branch];
        argv.extend_from_slice(args);
        let out = exec.run(&argv, &ENV).await?;
        let said = Said { op, text: String::from_utf8_lossy(&out.stdout).into_owned() };
        if out.status == 0 {
            return Ok(said);
        }
        let output = crate::program::Output {
            status: out.status,
            stdout: Vec::new(),
            stderr: crate::program::scrub(&out.stderr),
        };
        let step = said.value("error").unwrap_or("(in the sandbox)").to_owned();
        Err(crate::program::classify(op, &step, &output))
    }
}

/// The environment of our git in the sandbox; what the agent configured for itself does not bend a checkpoint.
const ENV: [(&str, &str); 6] = [
    ("GIT_CONFIG_NOSYSTEM", "1"),
    ("GIT_CONFIG_GLOBAL", "/dev/null"),
    ("GIT_TERMINAL_PROMPT", "0"),
    ("GIT_EDITOR", "false"),
    ("GIT_NO_REPLACE_OBJECTS", "1"),
    ("LC_ALL", "C.UTF-8"),
];

/// The script's answer: `key=value` lines. It comes out of the sandbox, so nothing in it is believed unchecked.
struct Said {
    op: &'static str,
    text: String,
}

impl Said {
    fn value(&self, key: &str) -> Option<&str> {
        let found = self.text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('='));
        found.filter(|v| !v.is_empty())
    }

    fn sha(&self, key: &str) -> Option<String> {
        self.value(key).filter(|v| is_sha(v)).map(str::to_owned)
    }

    fn snapshot(&self) -> Result<Snapshot, GitError> {
        let sha = self
            .sha("snapshot")
            .ok_or_else(|| GitError::new(GitErrorKind::Corrupt, self.op, "the sandbox answered no snapshot"))?;
        Ok(Snapshot {
            sha,
            head: self.sha("head"),
            repaired: self.value("repaired").is_some(),
            incomplete: self.value("incomplete").is_some(),
            unmerged: self.value("unmerged").is_some(),
        })
    }
}
