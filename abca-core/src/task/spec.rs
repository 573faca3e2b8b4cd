//! What a caller asks for, its limits, and what is frozen when the task is accepted.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::egress::AllowRule;
use crate::git::RepoRef;
use crate::id::{IdempotencyKey, UserId};
use crate::money::MicroUsd;
use crate::session::BreakerLimits;
use crate::text::ScreenConfig;
use crate::time::Millis;
use crate::workflow::Tier;

/// Every limit on a submission, with the reference's numbers (`behaviour.md` 3.3, 3.6).
pub mod limits {
    use crate::money::MicroUsd;

    /// Longest description, in UTF-16 code units, as the reference counts.
    pub const DESCRIPTION_UTF16: usize = 10_000;
    /// Fewest and most model turns.
    pub const MAX_TURNS: std::ops::RangeInclusive<u32> = 1..=500;
    /// Model turns when nobody says otherwise.
    pub const DEFAULT_MAX_TURNS: u32 = 100;
    /// Smallest and largest budget: $0.01 to $100.
    pub const BUDGET: std::ops::RangeInclusive<MicroUsd> = MicroUsd::cents(1)..=MicroUsd::cents(10_000);
    /// Most attachments.
    pub const ATTACHMENTS: usize = 10;
    /// Seconds that a human gate may wait.
    pub const APPROVAL_TIMEOUT_SECS: std::ops::RangeInclusive<u32> = 30..=3_600;
    /// Questions to humans in the life of a task (`behaviour.md` 6.6).
    pub const GATES: std::ops::RangeInclusive<u32> = 1..=500;
    /// So many where nobody says otherwise.
    pub const DEFAULT_GATES: u32 = 50;
    /// Most pre-approvals.
    pub const INITIAL_APPROVALS: usize = 20;
    /// Longest pre-approval, in characters.
    pub const INITIAL_APPROVAL_CHARS: usize = 128;
}

/// Where a submission came in.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ChannelSource {
    /// The library, the CLI or REST.
    #[default]
    Api,
    /// A signed webhook.
    Webhook,
    /// Slack.
    Slack,
    /// Linear.
    Linear,
    /// Jira.
    Jira,
}

/// A file that comes with a task. Carried as a reference; the bytes live in an artifact store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attachment {
    /// The name shown to the agent.
    pub filename: String,
    /// Its media type.
    pub content_type: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Lower-case hex SHA-256 of the bytes.
    pub checksum_sha256: String,
}

/// A submission, as the caller wrote it: nothing is checked yet.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct NewTask {
    /// `owner/name`, or the path of a local repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repo: Option<String>,
    /// What to do. At most [`limits::DESCRIPTION_UTF16`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_description: Option<String>,
    /// The issue to resolve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issue_number: Option<u64>,
    /// The pull request to work on; only for workflows that take one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pr_number: Option<u64>,
    /// `domain/name-vN`, optionally `@version`. Default: `coding/new-task-v1` with a repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow_ref: Option<String>,
    /// Model turns, within [`limits::MAX_TURNS`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_turns: Option<u32>,
    /// Most that may be spent on models, within [`limits::BUDGET`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_budget_micro_usd: Option<MicroUsd>,
    /// The model, as `provider:id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Build command, run before and after the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_command: Option<String>,
    /// Test command, run before and after the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_command: Option<String>,
    /// Lint command, run before and after the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lint_command: Option<String>,
    /// The branch to start from and to propose to; default: the repository's default branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_branch: Option<String>,
    /// Keep the full trajectory.
    #[serde(default)]
    pub trace: bool,
    /// Files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attachment>,
    /// Seconds a human gate waits, within [`limits::APPROVAL_TIMEOUT_SECS`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval_timeout_s: Option<u32>,
    /// Scopes approved in advance.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub initial_approvals: Vec<String>,
    /// The tier of tools. Default: the repository's, else the workflow's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<Tier>,
    /// The circuit breaker of the session; default: the repository's, else the platform's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breaker: Option<BreakerLimits>,
    /// The same key by the same user answers with the same task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<IdempotencyKey>,
    /// Where it came in.
    #[serde(default)]
    pub channel_source: ChannelSource,
    /// Details of the channel.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub channel_metadata: BTreeMap<String, String>,
    /// What the builder could not read; [`super::accept`] refuses it.
    #[serde(skip_deserializing, skip_serializing_if = "Vec::is_empty", serialize_with = "refuse_deferred")]
    pub(super) deferred: Vec<Deferred>,
}

/// What is wrong with a field, kept until the submission is checked, so that the builder never fails or panics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Deferred {
    /// Which field.
    pub(super) field: &'static str,
    /// What is wrong with it and what to do.
    pub(super) message: String,
}

/// A submission that holds an unreadable value must not travel without it: a wrong budget would become none.
fn refuse_deferred<S: serde::Serializer>(deferred: &[Deferred], _: S) -> Result<S::Ok, S::Error> {
    let said: Vec<String> = deferred.iter().map(|d| format!("`{}`: {}", d.field, d.message)).collect();
    Err(serde::ser::Error::custom(said.join("; ")))
}

/// A checked submission: what the task will do, for ever the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskSpec {
    /// The repository; none for workflows without one.
    pub repo: Option<RepoRef>,
    /// What to do.
    pub task_description: Option<String>,
    /// The issue to resolve.
    pub issue_number: Option<u64>,
    /// The pull request to work on.
    pub pr_number: Option<u64>,
    /// The workflow's id, e.g. `coding/new-task-v1`.
    pub workflow_id: String,
    /// The workflow's version, e.g. `1.0.0`.
    pub workflow_version: String,
    /// The model, as `provider:id`; resolved when the session starts if absent.
    pub model: Option<String>,
    /// Build command.
    pub build_command: Option<String>,
    /// Test command.
    pub test_command: Option<String>,
    /// Lint command.
    pub lint_command: Option<String>,
    /// The branch to start from.
    pub base_branch: Option<String>,
    /// Keep the full trajectory.
    pub trace: bool,
    /// Whether the workflow may change nothing.
    pub read_only: bool,
    /// The tier of tools: what is not in it is neither offered nor run.
    #[serde(default = "crate::workflow::standard")]
    pub tools: Tier,
    /// Text added to the system prompt by the repository's blueprint.
    pub system_prompt_overrides: Option<String>,
    /// Hosts that the hands may reach on top of the platform's, from the repository's blueprint.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub egress_allowlist: Vec<AllowRule>,
    /// The repository's policies, from its blueprint.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cedar_policies: Vec<String>,
    /// What is screened for beside known forms of credentials, the platform's and the repository's.
    #[serde(default, skip_serializing_if = "ScreenConfig::is_default")]
    pub screening: ScreenConfig,
    /// Files.
    pub attachments: Vec<Attachment>,
    /// Scopes approved in advance.
    pub initial_approvals: Vec<String>,
    /// Where it came in.
    pub channel_source: ChannelSource,
    /// Details of the channel.
    pub channel_metadata: BTreeMap<String, String>,
    /// What bounds the work.
    pub limits: ResolvedLimits,
}

/// Limits after precedence task > repository > platform, frozen with the task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedLimits {
    /// Model turns.
    pub max_turns: u32,
    /// Most that may be spent; `None` is no limit.
    pub max_budget: Option<MicroUsd>,
    /// Attempts at a session, the first included.
    pub max_attempts: u32,
    /// Wait before the second attempt; doubles with each further one.
    pub retry_backoff_ms: Millis,
    /// Longest stay in `PENDING_UPLOADS`.
    pub upload_window_ms: Millis,
    /// Longest wait in `SUBMITTED` and `QUEUED` together.
    pub queue_timeout_ms: Millis,
    /// Longest stay in `HYDRATING` per attempt.
    pub hydration_timeout_ms: Millis,
    /// From the start intent until the session's registration.
    pub registration_timeout_ms: Millis,
    /// Longest life of a task from admission to its end, all attempts together.
    pub task_timeout_ms: Millis,
    /// Longest wait for a human.
    pub approval_timeout_ms: Millis,
    /// Most questions to humans in the life of the task, within [`limits::GATES`]; after that, what would be asked is denied.
    #[serde(default = "default_gates")]
    pub max_gates: u32,
    /// When the circuit breaker trips, and what it does then.
    #[serde(default)]
    pub breaker: BreakerLimits,
    /// Longest stay in `FINALIZING`.
    pub finalize_timeout_ms: Millis,
    /// What a stopping session gets to save its work before it is killed.
    pub stop_grace_ms: Millis,
    /// Silence after which a session with heartbeats counts as lost.
    pub heartbeat_timeout_ms: Millis,
    /// How often a running session is looked at when nothing else calls for it.
    pub observe_every_ms: Millis,
    /// Longest build, test or lint command.
    pub command_timeout_ms: Millis,
    /// Slots to hold while admitted, with their caps.
    pub slots: Vec<super::SlotLimit>,
}

impl Default for ResolvedLimits {
    fn default() -> Self {
        Self {
            max_turns: limits::DEFAULT_MAX_TURNS,
            max_budget: None,
            max_attempts: 3,
            retry_backoff_ms: Millis::secs(2),
            upload_window_ms: Millis::secs(30 * 60),
            queue_timeout_ms: Millis::secs(24 * 3600),
            hydration_timeout_ms: Millis::secs(20 * 60),
            registration_timeout_ms: Millis::secs(120),
            task_timeout_ms: Millis::secs(9 * 3600),
            approval_timeout_ms: Millis::secs(300),
            max_gates: limits::DEFAULT_GATES,
            breaker: BreakerLimits::default(),
            finalize_timeout_ms: Millis::secs(10 * 60),
            stop_grace_ms: Millis::secs(10),
            heartbeat_timeout_ms: Millis::secs(240),
            observe_every_ms: Millis::secs(30),
            command_timeout_ms: Millis::secs(1_800),
            slots: Vec::new(),
        }
    }
}

/// Records of before the limit have it too.
const fn default_gates() -> u32 {
    limits::DEFAULT_GATES
}

impl TaskSpec {
    /// The user's scope and its cap, as a slot to hold.
    pub fn user_slot(user: &UserId, cap: u32) -> super::SlotLimit {
        super::SlotLimit { scope: super::SlotScope(format!("user:{user}")), cap, fifo: true }
    }
}
