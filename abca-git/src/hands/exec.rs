//! Hands without walls: plain processes in a folder.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Stdio;

use abca_core::git::{GitError, GitErrorKind};
use async_trait::async_trait;
use rustix::process::{Pid, Signal};

use super::{ExecOutput, HandsExec, ServedGuard};
use crate::bare::ServedRepo;

/// Runs programs in a folder as plain processes, with no sandbox: for tests, and where the operator said `unsandboxed`.
/// The environment is `PATH` and what a call adds.
#[derive(Debug, Clone)]
pub struct PlainExec {
    dir: PathBuf,
    path: String,
}

impl PlainExec {
    /// Programs run in `dir` and are found on `path`, e.g. `/usr/local/bin:/usr/bin:/bin`.
    pub fn new(dir: impl Into<PathBuf>, path: impl Into<String>) -> Self {
        Self { dir: dir.into(), path: path.into() }
    }

    fn command(&self, op: &'static str, argv: &[&str]) -> Result<std::process::Command, GitError> {
        let (program, args) =
            argv.split_first().ok_or_else(|| GitError::new(GitErrorKind::Invalid, op, "there is no program to run"))?;
        let mut command = std::process::Command::new(program);
        command.args(args).current_dir(&self.dir).env_clear().env("PATH", &self.path).process_group(0);
        Ok(command)
    }
}

fn failed(op: &'static str, argv: &[&str], e: std::io::Error) -> GitError {
    let program = argv.first().copied().unwrap_or_default();
    GitError::new(GitErrorKind::Unavailable, op, format!("cannot run `{program}`: {e}")).with_source(e)
}

#[async_trait]
impl HandsExec for PlainExec {
    async fn run(&self, argv: &[&str], env: &[(&str, &str)]) -> Result<ExecOutput, GitError> {
        let mut command = tokio::process::Command::from(self.command("run", argv)?);
        command.envs(env.iter().copied()).stdin(Stdio::null()).kill_on_drop(true);
        let out = command.output().await.map_err(|e| failed("run", argv, e))?;
        let signal = std::os::unix::process::ExitStatusExt::signal(&out.status).unwrap_or(0);
        let status = out.status.code().unwrap_or(128 + signal);
        Ok(ExecOutput { status, stdout: out.stdout, stderr: out.stderr })
    }

    async fn serve(&self, argv: &[&str]) -> Result<(ServedRepo, Box<dyn ServedGuard>), GitError> {
        let mut command = self.command("serve", argv)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|e| failed("serve", argv, e))?;
        let pipes = (child.stdin.take(), child.stdout.take());
        let guard = Box::new(Served(child));
        match pipes {
            (Some(stdin), Some(stdout)) => Ok((ServedRepo { stdin: stdin.into(), stdout: stdout.into() }, guard)),
            _ => Err(GitError::new(GitErrorKind::Unavailable, "serve", "the program has no pipes")),
        }
    }
}

#[derive(Debug)]
struct Served(std::process::Child);

impl ServedGuard for Served {}

impl Drop for Served {
    fn drop(&mut self) {
        // Not waited for yet, so the number is still its own.
        if let Some(pid) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
            let _ = rustix::process::kill_process_group(pid, Signal::KILL);
        }
        // Reaps a process that was just killed: at once.
        let _ = self.0.wait();
    }
}
