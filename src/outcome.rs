//! How a task ended.

use abca_core::classify::{Classification, classify_failure};
use abca_core::model::Usage;
use abca_core::task::{DiffStat, Failure, PhaseTiming, PullRequestRef, Task, TaskStatus, Verdict, Verification};
use abca_core::{MicroUsd, Millis, Shared, TaskId};
use serde::{Deserialize, Serialize};

/// Work of a task that did not complete, saved where it can be fetched from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartialWork {
    /// The hidden ref in the task's repository, `refs/abca/wip/<task>`.
    pub reference: String,
    /// The last commit that was saved there.
    pub sha: String,
}

/// How a task ended, and what it cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskOutcome {
    /// Which.
    pub task_id: TaskId,
    /// The terminal state.
    pub status: TaskStatus,
    /// The session's own judgement; `None` when no session reported.
    pub verdict: Option<Verdict>,
    /// The pull request.
    pub pull_request: Option<PullRequestRef>,
    /// The branch that was pushed.
    pub branch: Option<String>,
    /// The commit at its head.
    pub head_sha: Option<String>,
    /// What the agent said last, or asked.
    pub answer_text: Option<String>,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// From what the end was inferred: the session died before it could tell, and its work stands. `None` when it told.
    pub inferred: Option<String>,
    /// Who cancelled it.
    pub cancelled_by: Option<String>,
    /// What was spent on models, as reported; zero when no session reported.
    pub cost: MicroUsd,
    /// Tokens.
    pub usage: Usage,
    /// Turns that came to their end.
    pub turns: u32,
    /// Commands before and after.
    pub verification: Vec<Verification>,
    /// What the change touches.
    pub diff: DiffStat,
    /// Sessions that were started.
    pub attempts: u32,
    /// Where the time of the last session went.
    pub phases: Vec<PhaseTiming>,
    /// From acceptance to the end.
    pub elapsed_ms: Millis,
    /// What can be saved of work that did not complete.
    pub partial_work: Option<PartialWork>,
}

impl TaskOutcome {
    /// The outcome of a task that has ended.
    pub(crate) fn of(task: Task, partial_work: Option<PartialWork>) -> Self {
        let elapsed_ms = task.completed_at.unwrap_or(task.updated_at).since(task.created_at);
        let report = task.report;
        let verdict = report.as_ref().map(|r| r.verdict);
        let failed = report.as_ref().and_then(|r| r.failure.clone());
        let mut outcome = Self {
            task_id: task.id,
            status: task.status,
            verdict,
            pull_request: None,
            branch: None,
            head_sha: None,
            answer_text: None,
            failure: task.failure.or(failed),
            inferred: task.inferred,
            cancelled_by: task.cancel.filter(|_| task.status == TaskStatus::Cancelled).map(|c| c.by),
            cost: MicroUsd::ZERO,
            usage: Usage::default(),
            turns: 0,
            verification: Vec::new(),
            diff: DiffStat::default(),
            attempts: task.attempt,
            phases: Vec::new(),
            elapsed_ms,
            partial_work,
        };
        if let Some(report) = report.map(Shared::into_inner) {
            outcome.pull_request = report.pull_request;
            outcome.branch = report.branch;
            outcome.head_sha = report.head_sha;
            outcome.answer_text = report.answer_text;
            outcome.cost = report.cost;
            outcome.usage = report.usage;
            outcome.turns = report.turns_completed;
            outcome.verification = report.verification;
            outcome.diff = report.diff;
            outcome.phases = report.phases;
        }
        outcome
    }

    /// What the failure means, whose it is, and what to do about it.
    pub fn classification(&self) -> Option<Classification> {
        self.failure.as_ref().map(classify_failure)
    }

    /// Whether the task did what it was asked, or found honestly that there was nothing to do.
    pub fn is_success(&self) -> bool {
        self.status == TaskStatus::Completed
    }
}
