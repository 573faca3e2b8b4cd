//! How callers write a submission: one call for each thing that they want to say.

use super::spec::Deferred;
use super::{Attachment, ChannelSource, NewTask};
use crate::id::IdempotencyKey;
use crate::money::MicroUsd;
use crate::session::BreakerLimits;
use crate::workflow::Tier;

/// Writing a submission. Nothing is checked here: what cannot be a value is kept, and [`super::accept`] refuses it.
impl NewTask {
    /// A task on a repository: `owner/name`, or the absolute path of a local one.
    pub fn new(repo: impl Into<String>, description: impl Into<String>) -> Self {
        Self { repo: Some(repo.into()), task_description: Some(description.into()), ..Self::default() }
    }

    /// Replaces the description.
    #[must_use]
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.task_description = Some(text.into());
        self
    }

    /// The issue to resolve; the description may then be empty.
    #[must_use]
    pub fn issue(mut self, number: u64) -> Self {
        self.issue_number = Some(number);
        self
    }

    /// The pull request to work on, for workflows that take one.
    #[must_use]
    pub fn pull_request(mut self, number: u64) -> Self {
        self.pr_number = Some(number);
        self
    }

    /// The workflow: `domain/name-vN`, optionally `@version`. Default `coding/new-task-v1`.
    #[must_use]
    pub fn workflow(mut self, reference: impl Into<String>) -> Self {
        self.workflow_ref = Some(reference.into());
        self
    }

    /// Most model turns, within [`super::limits::MAX_TURNS`].
    #[must_use]
    pub fn max_turns(mut self, turns: u32) -> Self {
        self.max_turns = Some(turns);
        self
    }

    /// Most that may be spent on models, within [`super::limits::BUDGET`].
    #[must_use]
    pub fn budget(mut self, amount: MicroUsd) -> Self {
        self.max_budget_micro_usd = Some(amount);
        self.settle("max_budget_usd", None)
    }

    /// Most that may be spent on models, in dollars, e.g. `3.00`. A text that is no amount is refused at submission.
    #[must_use]
    pub fn budget_usd(mut self, amount: impl AsRef<str>) -> Self {
        let parsed = amount.as_ref().parse::<MicroUsd>();
        self.max_budget_micro_usd = parsed.as_ref().ok().copied();
        self.settle("max_budget_usd", parsed.err().map(|e| e.to_string()))
    }

    /// The model, as `provider:id`.
    #[must_use]
    pub fn model(mut self, model: impl Into<String>) -> Self {
        self.model = Some(model.into());
        self
    }

    /// The build command, run before and after the agent.
    #[must_use]
    pub fn build(mut self, command: impl Into<String>) -> Self {
        self.build_command = Some(command.into());
        self
    }

    /// The test command, run before and after the agent.
    #[must_use]
    pub fn test(mut self, command: impl Into<String>) -> Self {
        self.test_command = Some(command.into());
        self
    }

    /// The lint command, run before and after the agent.
    #[must_use]
    pub fn lint(mut self, command: impl Into<String>) -> Self {
        self.lint_command = Some(command.into());
        self
    }

    /// The branch to start from and to propose to. Default: the repository's default branch.
    #[must_use]
    pub fn base_branch(mut self, branch: impl Into<String>) -> Self {
        self.base_branch = Some(branch.into());
        self
    }

    /// Keeps the full trajectory.
    #[must_use]
    pub fn trace(mut self, keep: bool) -> Self {
        self.trace = keep;
        self
    }

    /// Adds a file.
    #[must_use]
    pub fn attach(mut self, attachment: Attachment) -> Self {
        self.attachments.push(attachment);
        self
    }

    /// Seconds a human gate waits, within [`super::limits::APPROVAL_TIMEOUT_SECS`].
    #[must_use]
    pub fn approval_timeout_s(mut self, seconds: u32) -> Self {
        self.approval_timeout_s = Some(seconds);
        self
    }

    /// The tier of tools, within what the repository and the platform allow.
    #[must_use]
    pub fn tools(mut self, tier: Tier) -> Self {
        self.tools = Some(tier);
        self
    }

    /// The circuit breaker of its session.
    #[must_use]
    pub fn breaker(mut self, limits: BreakerLimits) -> Self {
        self.breaker = Some(limits);
        self
    }

    /// Approves a scope in advance; see [`super::InitialScope`].
    #[must_use]
    pub fn approve(mut self, scope: impl Into<String>) -> Self {
        self.initial_approvals.push(scope.into());
        self
    }

    /// The same key by the same user answers with the same task. A text that is no key is refused at submission.
    #[must_use]
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        let parsed = IdempotencyKey::new(key);
        let problem = parsed.as_ref().err().map(ToString::to_string);
        self.idempotency_key = parsed.ok();
        self.settle("idempotency_key", problem)
    }

    /// Where it came in.
    #[must_use]
    pub fn channel(mut self, source: ChannelSource) -> Self {
        self.channel_source = source;
        self
    }

    /// Keeps or forgets what is wrong with a field.
    fn settle(mut self, field: &'static str, problem: Option<String>) -> Self {
        self.deferred.retain(|d| d.field != field);
        self.deferred.extend(problem.map(|message| Deferred { field, message }));
        self
    }
}
