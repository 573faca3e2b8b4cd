//! A program in the sandbox, with its whole tree.

use std::sync::Arc;

use tokio::process::{ChildStderr, ChildStdin, ChildStdout};

use abca_core::compute::{ComputeError, ComputeErrorKind};

use super::Inner;
use super::watchdog::{LimitHit, Tree};
use crate::tree::Pidfd;

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ended {
    /// Its exit code. A program killed by a signal inside the walls shows as 128 + signal.
    pub code: Option<i32>,
    /// The signal that killed it from outside, when one did.
    pub signal: Option<i32>,
    /// The limit that was reached while it ran, by it or by its neighbours in the sandbox.
    pub limit: Option<LimitHit>,
}

/// A running program. Dropping it kills the whole tree.
#[derive(Debug)]
pub struct Child {
    process: tokio::process::Child,
    tree: Tree,
    /// The first process of the inside: once it has ended, the kernel has ended all others.
    init: Option<Pidfd>,
    inner: Arc<Inner>,
    key: u64,
    hits: (u64, u64),
    ended: Option<Ended>,
}

impl Child {
    pub(super) fn new(
        process: tokio::process::Child,
        tree: Tree,
        init: Option<Pidfd>,
        inner: Arc<Inner>,
        hits: (u64, u64),
    ) -> Self {
        let key = inner.watch.add(tree.clone());
        Self { process, tree, init, inner, key, hits, ended: None }
    }

    /// The pid, as the outside sees it, of the outermost process.
    pub fn id(&self) -> i32 {
        self.tree.root
    }

    /// Its standard input, when it was piped and not taken before.
    pub fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.process.stdin.take()
    }

    /// Its standard output, when it was piped and not taken before.
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.process.stdout.take()
    }

    /// Its standard error, when it was piped and not taken before.
    pub fn take_stderr(&mut self) -> Option<ChildStderr> {
        self.process.stderr.take()
    }

    /// Answers when the program has ended and nothing of its tree runs any more. Standard input that was not taken is
    /// closed first. Cancel-safe; repeated calls give the same answer.
    ///
    /// # Errors
    /// `Internal`, when the system does not tell.
    pub async fn wait(&mut self) -> Result<Ended, ComputeError> {
        if let Some(ended) = self.ended {
            return Ok(ended);
        }
        let problem =
            |e: std::io::Error| ComputeError::new(ComputeErrorKind::Internal, "wait", "cannot wait").with_source(e);
        let status = self.process.wait().await.map_err(problem)?;
        if let Some(init) = &self.init {
            init.ended().await.map_err(problem)?;
        }
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        let ended = Ended { code: status.code(), signal, limit: self.limit() };
        self.inner.watch.remove(self.key);
        self.ended = Some(ended);
        Ok(ended)
    }

    /// Kills the whole tree, and answers when nothing of it runs any more. Cancel-safe: the kill has been sent before
    /// the first await.
    ///
    /// # Errors
    /// `Internal`, when the system does not tell.
    pub async fn kill(&mut self) -> Result<Ended, ComputeError> {
        if self.ended.is_none() {
            self.tree.kill();
        }
        self.wait().await
    }

    fn limit(&self) -> Option<LimitHit> {
        let limits = &self.inner.limits;
        let (memory, processes) = self.inner.hits();
        if let Some(hit) = self.inner.watch.hit() {
            Some(hit)
        } else if memory > self.hits.0 {
            Some(LimitHit::Memory { limit_bytes: limits.memory_bytes })
        } else if processes > self.hits.1 {
            Some(LimitHit::Processes { limit: limits.processes })
        } else {
            None
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.ended.is_none() {
            self.tree.kill();
            self.inner.watch.remove(self.key);
        }
    }
}
