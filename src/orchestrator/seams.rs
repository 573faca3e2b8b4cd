//! What the orchestrator asks of others besides the core traits: preparing a task, and wording a session's start.

use std::collections::BTreeMap;
use std::fmt;

use abca_core::compute::{SessionLimits, StartSession};
use abca_core::task::{Failure, Prepared, PullRequestRef, Task};
use abca_core::{SessionId, TaskId};
use async_trait::async_trait;
use secrecy::SecretString;

use crate::link::LinkSecret;

/// Why a preparation did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrepareFailure {
    /// Why, for people and programs.
    pub failure: Failure,
    /// Whether the same may succeed later.
    pub retryable: bool,
}

/// Pre-flight checks and context assembly for one task.
///
/// # Contract
/// Changes nothing in the world, so it may be repeated, raced and dropped. Called at most once at a time per worker and
/// task, under the worker's prepare timeout.
#[async_trait]
pub trait Preparer: fmt::Debug + Send + Sync + 'static {
    /// Checks that the task can be worked on, and assembles its context.
    async fn prepare(&self, task: &Task) -> Result<Prepared, PrepareFailure>;

    /// Looks for what sessions of a task have delivered, once they are over: its pull request, else its commits. `heads` are
    /// the commits that they were about to push as the head of the task's branch, at least one.
    ///
    /// Asked when a session has pushed and then ended without saying what came of it, under the worker's observe timeout.
    /// The default does not know, and a task then ends as its session left it.
    async fn on_forge(&self, task: &Task, heads: &[String]) -> OnForge {
        let _unused = (task, heads);
        OnForge::Unknowable
    }
}

/// What a forge shows of a task's work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnForge {
    /// A pull request of this task, open or not, with one of the commits at its head.
    Proposed {
        /// Which.
        pull_request: PullRequestRef,
        /// The commit at its head.
        head_sha: String,
    },
    /// One of the commits at the head of the task's branch, and no pull request of this task.
    Pushed {
        /// The commit.
        sha: String,
    },
    /// Neither.
    Nothing,
    /// It does not answer now; the same may succeed later.
    NoAnswer {
        /// Why.
        message: String,
    },
    /// It cannot be asked.
    Unknowable,
}

/// Words the start of a session: what it needs to know, its token, its secrets and its limits.
///
/// # Contract
/// A function of task and attempt as far as the backend can see: a repeated start must mean the same session.
#[async_trait]
pub trait Launcher: fmt::Debug + Send + Sync + 'static {
    /// The request that starts `session`.
    ///
    /// # Errors
    /// A message for people, when no session can be started with what is configured; it is not tried again.
    async fn launch(&self, task: &Task, session: &SessionId, attempt: u32) -> Result<StartSession, String>;
}

/// The plain launcher: one payload, the same limits and secrets for every session.
#[derive(Debug)]
pub struct PlainLauncher {
    /// Signs session tokens.
    pub secret: LinkSecret,
    /// What every session is told, as JSON; no secrets.
    pub payload: String,
    /// Provider credentials for the brain, by name.
    pub secrets: BTreeMap<String, SecretString>,
    /// What a session may use. Its life is cut to the task's own deadline, and it reaches what the task's repository needs.
    pub limits: SessionLimits,
}

#[async_trait]
impl Launcher for PlainLauncher {
    async fn launch(&self, task: &Task, session: &SessionId, attempt: u32) -> Result<StartSession, String> {
        let mut limits = self.limits.clone();
        limits.wall_ms = limits.wall_ms.min(task.spec.limits.task_timeout_ms);
        limits.egress.allow.extend(task.spec.egress_allowlist.iter().cloned());
        Ok(StartSession {
            session: session.clone(),
            task: task.id,
            attempt,
            payload: self.payload.clone(),
            token: self.secret.token(session),
            secrets: self.secrets.clone(),
            limits,
        })
    }
}

/// The task that a session belongs to, read from its name; `None` when the name is not of that form.
pub fn task_of(session: &SessionId) -> Option<TaskId> {
    let (task, attempt) = session.as_str().rsplit_once('-')?;
    let id: TaskId = task.parse().ok()?;
    (SessionId::of(id, attempt.parse().ok()?) == *session).then_some(id)
}
