//! The task's record: one row that says everything a decision needs about its past.

use serde::{Deserialize, Serialize};

use super::{Gate, TaskSpec, TaskStatus};
use crate::id::{IdempotencyKey, SessionId, TaskId, UserId};
use crate::model::Usage;
use crate::money::MicroUsd;
use crate::shared::Shared;
use crate::time::{Millis, Timestamp};

/// A task as stored. `status` moves only along [`super::TRANSITIONS`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Its name.
    pub id: TaskId,
    /// Who submitted it.
    pub user: UserId,
    /// What to do, and within which limits.
    pub spec: Shared<TaskSpec>,
    /// The key it was submitted under.
    pub idempotency_key: Option<IdempotencyKey>,
    /// Where it stands.
    pub status: TaskStatus,
    /// Since when it stands there.
    pub status_at: Timestamp,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When the record last changed. Data, never a guard.
    pub updated_at: Timestamp,
    /// When slots were first held.
    pub admitted_at: Option<Timestamp>,
    /// When it first had to queue.
    pub queued_at: Option<Timestamp>,
    /// How often a cap was hit.
    pub admission_attempts: u32,
    /// When its session first registered.
    pub started_at: Option<Timestamp>,
    /// When it reached a terminal state.
    pub completed_at: Option<Timestamp>,
    /// The attempt under way, from 1; 0 before the first start intent.
    pub attempt: u32,
    /// No start before this moment: the back-off between attempts, as data.
    pub not_before: Option<Timestamp>,
    /// What preparation found.
    pub prepared: Option<Shared<Prepared>>,
    /// How preparation has failed so far, while it may still succeed.
    #[serde(default)]
    pub unprepared: Option<Unprepared>,
    /// The session of the current attempt.
    pub session: Option<SessionRecord>,
    /// The gate that a human is awaited for.
    #[serde(default)]
    pub awaiting: Option<Box<Gate>>,
    /// The wish to cancel, until it is confirmed by `CANCELLED`.
    pub cancel: Option<CancelRequest>,
    /// What the session reported.
    pub report: Option<Shared<SessionReport>>,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// How the forge has failed to say whether the work is delivered, while that is still asked.
    #[serde(default)]
    pub unanswered: Option<Unanswered>,
    /// From what its end was inferred, for people; `None` when its session told it.
    #[serde(default)]
    pub inferred: Option<String>,
}

impl Task {
    /// A task as it is when it is accepted: `SUBMITTED`, and nothing has happened yet.
    pub fn accepted(
        id: TaskId,
        user: UserId,
        spec: TaskSpec,
        idempotency_key: Option<IdempotencyKey>,
        now: Timestamp,
    ) -> Self {
        Self {
            id,
            user,
            spec: spec.into(),
            idempotency_key,
            status: TaskStatus::Submitted,
            status_at: now,
            created_at: now,
            updated_at: now,
            admitted_at: None,
            queued_at: None,
            admission_attempts: 0,
            started_at: None,
            completed_at: None,
            attempt: 0,
            not_before: None,
            prepared: None,
            unprepared: None,
            session: None,
            awaiting: None,
            cancel: None,
            report: None,
            failure: None,
            unanswered: None,
            inferred: None,
        }
    }
}

/// What pre-flight and hydration found, frozen before the first session starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prepared {
    /// The branch that the work starts from and is proposed to.
    pub base_branch: String,
    /// `bgagent/<task>/<slug>`.
    pub branch: String,
    /// The user prompt, assembled and screened.
    pub user_prompt: String,
    /// Where its parts came from, e.g. `issue`, `task_description`.
    pub sources: Vec<String>,
    /// Its estimated size.
    pub token_estimate: u32,
    /// Whether something had to be left out to fit.
    pub truncated: bool,
}

/// Preparation failed in a way that may pass: it is tried again, less and less often, until the deadline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unprepared {
    /// How often, from 1.
    pub times: u32,
    /// When it failed last.
    pub at: Timestamp,
    /// What failed last.
    pub last: Failure,
}

/// The forge did not answer when it was asked what came of a session: it is asked again, less and less often, for as long
/// as an end may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unanswered {
    /// How often, from 1.
    pub times: u32,
    /// When it was asked first.
    pub since: Timestamp,
    /// When it was asked last.
    pub at: Timestamp,
    /// What it said last.
    pub message: String,
}

/// How far a session has come, as the platform knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionPhase {
    /// A start is owed and may have happened.
    Starting,
    /// It registered.
    Live,
    /// A stop is owed.
    Stopping,
    /// It is over, or stopped for good: the tombstone. Registration is refused.
    Over,
}

/// The session of an attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// A function of task and attempt.
    pub id: SessionId,
    /// The attempt.
    pub attempt: u32,
    /// How far it is.
    pub phase: SessionPhase,
    /// The compute strategy's name.
    pub compute: String,
    /// When its start was decided.
    pub intent_at: Timestamp,
    /// When it registered.
    pub registered_at: Option<Timestamp>,
    /// When its stop was decided, and why.
    pub stopping: Option<Stopping>,
}

/// Why a session is stopped by the platform: it decides what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopCause {
    /// Somebody cancelled.
    Cancelled,
    /// A deadline of the task passed.
    Deadline,
    /// It fell silent, never registered, or was suspended without reason.
    Lost,
    /// Its start failed; another attempt may do better.
    StartFailed,
    /// Its start failed, and would again.
    StartRefused,
    /// It has reported but does not end.
    Lingering,
}

/// A stop that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopping {
    /// When it was decided.
    pub at: Timestamp,
    /// Why.
    pub cause: StopCause,
    /// What was seen, for people.
    pub detail: String,
}

/// Somebody asked to cancel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelRequest {
    /// Who.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// How the session judged its own work (`behaviour.md` 4.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The work is delivered.
    Succeeded,
    /// Honestly nothing to do, or a question to the user; `answer_text` says which.
    NothingToDo,
    /// It failed; `failure` says why.
    Failed,
    /// It was told to stop, and did.
    Cancelled,
}

/// A pull request by number and address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullRequestRef {
    /// Its number in the repository.
    pub number: u64,
    /// Where to see it.
    pub url: String,
}

/// How one command went (`behaviour.md` 4.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckResult {
    /// Exit status 0.
    Passed,
    /// Another exit status.
    Failed,
    /// Did not end in time.
    TimedOut,
    /// There was nothing to run: no such command, and nobody asked for one.
    Inert,
    /// The machine failed, not the command: out of memory, disk full, killed.
    InfraFailed,
}

/// A command's result before and after the agent's work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// `build`, `test` or `lint`.
    pub name: String,
    /// What was run.
    pub command: String,
    /// Before the agent; `None` when it was not run.
    pub before: Option<CheckResult>,
    /// After the agent; `None` when it was not run.
    pub after: Option<CheckResult>,
    /// The end of the output after, at most 4 000 characters, screened.
    pub output_tail: String,
}

/// What a change touches.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiffStat {
    /// Files changed.
    pub files: u64,
    /// Lines added.
    pub insertions: u64,
    /// Lines removed.
    pub deletions: u64,
}

/// How long one phase of a session took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseTiming {
    /// E.g. `clone`, `baseline`, `model`, `tools`, `verify`, `pull_request`.
    pub phase: String,
    /// Its duration.
    pub duration_ms: Millis,
}

/// What a session reports at its end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionReport {
    /// Its own judgement.
    pub verdict: Verdict,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// The pull request.
    pub pull_request: Option<PullRequestRef>,
    /// The branch that was pushed.
    pub branch: Option<String>,
    /// The commit at its head.
    pub head_sha: Option<String>,
    /// Whether anything was changed.
    pub code_changed: bool,
    /// What the agent said last, or asked; at most 2 000 characters.
    pub answer_text: Option<String>,
    /// What was spent on models.
    pub cost: MicroUsd,
    /// Tokens.
    pub usage: Usage,
    /// Turns that the model was called for.
    pub turns_attempted: u32,
    /// Turns that came to their end.
    pub turns_completed: u32,
    /// Commands before and after.
    pub verification: Vec<Verification>,
    /// What the change touches.
    pub diff: DiffStat,
    /// Where the time went, in order.
    pub phases: Vec<PhaseTiming>,
    /// Hash of the deterministic prompt: 12 hex characters.
    pub prompt_version: String,
    /// The model that answered, as `provider:id`.
    pub model: Option<String>,
}

/// Why a task failed: what callers branch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FailureReason {
    /// A pre-flight check failed.
    Preflight,
    /// Context could not be assembled.
    Hydration,
    /// A guardrail stopped the text.
    Guardrail,
    /// The session could not be started.
    SessionStart,
    /// The session was lost and no attempt is left.
    SessionLost,
    /// The repository could not be cloned or prepared.
    RepoSetup,
    /// The turn cap was reached.
    MaxTurns,
    /// The budget does not allow another call.
    Budget,
    /// The circuit breaker tripped, and nobody approved that it goes on.
    CircuitBreaker,
    /// The model could not be called, or answered what cannot be used.
    Model,
    /// The model refused.
    Refusal,
    /// Build, test or lint broke.
    Verification,
    /// Changes exist but no pull request does.
    Delivery,
    /// The environment failed: disk, memory, sandbox.
    Infrastructure,
    /// The agent is blocked by its environment: `BLOCKED[kind]`.
    Blocked,
    /// A deadline passed.
    Deadline,
}

/// Why a task failed, for people and programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What callers branch on.
    pub reason: FailureReason,
    /// What went wrong and where, screened of secrets; at most 1 000 characters.
    pub message: String,
}

impl Failure {
    /// A failure; the message is cut to 1 000 characters.
    pub fn new(reason: FailureReason, message: impl AsRef<str>) -> Self {
        Self { reason, message: message.as_ref().chars().take(1_000).collect() }
    }
}
