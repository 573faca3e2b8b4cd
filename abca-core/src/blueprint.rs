//! Settings of a repository and of the platform, and which of them wins: task, then repository, then platform.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::compute::NetworkMode;
use crate::egress::{AllowRule, MAX_RULES};
use crate::git::RepoRef;
use crate::id::UserId;
use crate::money::MicroUsd;
use crate::names::check_branch;
use crate::session::BreakerLimits;
use crate::task::{NewTask, ResolvedLimits, SlotLimit, SlotScope, TaskSpec, check_command, check_model_name, limits};
use crate::text::{Screen, ScreenConfig};
use crate::time::Millis;
use crate::workflow::{Tier, Workflow};

/// Shortest and longest time between two looks at a running session; what is set beyond is moved to the nearer end.
pub const POLL_INTERVAL_MS: std::ops::RangeInclusive<u64> = 5_000..=300_000;
/// Fewest and most attempts at a session.
pub const MAX_ATTEMPTS: std::ops::RangeInclusive<u32> = 1..=10;
/// Longest duration of any kind that a limit may be set to: 30 days.
pub const LONGEST_MS: Millis = Millis::secs(30 * 24 * 3600);
/// Longest text that a repository may add to the system prompt, in bytes.
pub const SYSTEM_PROMPT_OVERRIDES_BYTES: usize = 64 * 1024;

/// Longest text of a repository's policies, in bytes.
pub const CEDAR_POLICIES_BYTES: usize = 64 * 1024;

/// Whether a repository may be worked on.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnboardingStatus {
    /// Yes.
    #[default]
    Active,
    /// No longer.
    Removed,
}

/// What one repository sets for every task on it. Every field is optional; what is absent, the platform decides.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Blueprint {
    /// Whether tasks are accepted. Default active.
    pub status: OnboardingStatus,
    /// The model, as `provider:id`.
    pub model: Option<String>,
    /// Text added to the system prompt under "Additional instructions". At most [`SYSTEM_PROMPT_OVERRIDES_BYTES`].
    pub system_prompt_overrides: Option<String>,
    /// Build command, run before and after the agent.
    pub build_command: Option<String>,
    /// Test command, run before and after the agent.
    pub test_command: Option<String>,
    /// Lint command, run before and after the agent.
    pub lint_command: Option<String>,
    /// The branch to start from and to propose to.
    pub base_branch: Option<String>,
    /// The compute strategy that its tasks need, by name. A platform that runs another refuses them.
    pub compute_type: Option<String>,
    /// The network that the hands need. A platform that gives another refuses them.
    pub network: Option<NetworkMode>,
    /// Hosts that the hands may reach, on top of the platform's. At most [`MAX_RULES`]. Needs a platform whose network is
    /// `proxy`: any other refuses the repository's tasks while this is not empty.
    pub egress_allowlist: Vec<AllowRule>,
    /// Policies in Cedar's language, one each and without annotations: what they forbid is asked of a human, as the rules
    /// `legacy_extra_<n>`. At most [`CEDAR_POLICIES_BYTES`] together. A platform with a policy engine of its own refuses them.
    pub cedar_policies: Vec<String>,
    /// What is taken out of whatever the model, a log or the forge would see, on top of the platform's.
    pub screening: ScreenConfig,
    /// The tier of tools of its tasks, and the highest that they may ask for. Default: the workflow's, and the platform's.
    pub tools: Option<Tier>,
    /// Most tasks on this repository at once; `None` leaves it to the platform. Zero pauses the repository.
    pub max_concurrent_tasks: Option<u32>,
    /// Limits of single tasks.
    pub limits: LimitSettings,
}

/// What the operator sets for every task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct PlatformDefaults {
    /// The model, as `provider:id`, when neither task, repository nor workflow names one.
    pub model: Option<String>,
    /// Models that tasks may use. Empty: every model.
    pub allowed_models: Vec<String>,
    /// Refuse repositories that have no blueprint. Default no.
    pub require_onboarding: bool,
    /// The highest tier of tools that tasks may have. Default `elevated`: which MCP servers there are is said where sessions
    /// run, and by default there are none.
    pub max_tools: Tier,
    /// The compute strategy that runs here, by name. `None`: not said, so that a repository cannot ask for one.
    pub compute_type: Option<String>,
    /// The network that the hands get here. Default off.
    pub network: NetworkMode,
    /// Most tasks of one user at once; the next wait, first in, first out. Default 10.
    pub max_concurrent_tasks_per_user: u32,
    /// Most tasks at once. Default 16.
    pub max_concurrent_tasks: u32,
    /// Most tasks on one repository at once. Default: no cap.
    pub max_concurrent_tasks_per_repo: Option<u32>,
    /// Most sessions at once on each compute strategy, by its name: the account's quota there. Counts for tasks that are
    /// submitted while `compute_type` names it. Default: no cap.
    pub max_sessions: BTreeMap<String, u32>,
    /// Limits of single tasks; what is absent here, [`ResolvedLimits::default`] decides.
    pub limits: LimitSettings,
    /// What is taken out of whatever the model, a log or the forge would see, beside every known form of credential: user
    /// rules, personal data.
    pub screening: ScreenConfig,
}

impl Default for PlatformDefaults {
    fn default() -> Self {
        Self {
            model: None,
            allowed_models: Vec::new(),
            require_onboarding: false,
            max_tools: Tier::Elevated,
            compute_type: None,
            network: NetworkMode::Off,
            max_concurrent_tasks_per_user: 10,
            max_concurrent_tasks: 16,
            max_concurrent_tasks_per_repo: None,
            max_sessions: BTreeMap::new(),
            limits: LimitSettings::default(),
            screening: ScreenConfig::default(),
        }
    }
}

/// Limits as somebody sets them: absent fields are left to whoever comes next in precedence.
///
/// Durations are in milliseconds, above zero, and at most [`LONGEST_MS`].
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct LimitSettings {
    /// Model turns, within [`limits::MAX_TURNS`].
    pub max_turns: Option<u32>,
    /// Most that may be spent on models, within [`limits::BUDGET`].
    pub max_budget_micro_usd: Option<MicroUsd>,
    /// Attempts at a session, within [`MAX_ATTEMPTS`].
    pub max_attempts: Option<u32>,
    /// Wait before the second attempt; doubles with each further one.
    pub retry_backoff_ms: Option<Millis>,
    /// Longest stay in `PENDING_UPLOADS`.
    pub upload_window_ms: Option<Millis>,
    /// Longest wait in `SUBMITTED` and `QUEUED` together.
    pub queue_timeout_ms: Option<Millis>,
    /// Longest stay in `HYDRATING` per attempt.
    pub hydration_timeout_ms: Option<Millis>,
    /// From the start intent until the session's registration.
    pub registration_timeout_ms: Option<Millis>,
    /// Longest life of a task from admission to its end.
    pub task_timeout_ms: Option<Millis>,
    /// Longest wait for a human, within [`limits::APPROVAL_TIMEOUT_SECS`].
    pub approval_timeout_ms: Option<Millis>,
    /// Most questions to humans, within [`limits::GATES`].
    pub max_gates: Option<u32>,
    /// The circuit breaker, as a whole.
    pub breaker: Option<BreakerLimits>,
    /// Longest stay in `FINALIZING`.
    pub finalize_timeout_ms: Option<Millis>,
    /// What a stopping session gets to save its work.
    pub stop_grace_ms: Option<Millis>,
    /// Silence after which a session with heartbeats counts as lost.
    pub heartbeat_timeout_ms: Option<Millis>,
    /// How often a running session is looked at; moved into [`POLL_INTERVAL_MS`].
    pub poll_interval_ms: Option<Millis>,
    /// Longest build, test or lint command.
    pub command_timeout_ms: Option<Millis>,
}

/// A setting is out of its range, or cannot be honoured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {problem}")]
pub struct InvalidSetting {
    /// The setting, e.g. `limits.max_turns`.
    pub field: &'static str,
    /// What is wrong and what to do.
    pub problem: String,
}

impl InvalidSetting {
    fn new(field: &'static str, problem: impl Into<String>) -> Self {
        Self { field, problem: problem.into() }
    }
}

impl LimitSettings {
    /// Checks every limit that is set.
    ///
    /// # Errors
    /// [`InvalidSetting`] names the first that is out of its range.
    pub fn check(&self) -> Result<(), InvalidSetting> {
        let outside =
            |field, value: &dyn std::fmt::Display, low: &dyn std::fmt::Display, high: &dyn std::fmt::Display| {
                Err(InvalidSetting::new(field, format!("is {value}: set it from {low} to {high}")))
            };
        if let Some(turns) = self.max_turns.filter(|n| !limits::MAX_TURNS.contains(n)) {
            return outside("limits.max_turns", &turns, limits::MAX_TURNS.start(), limits::MAX_TURNS.end());
        }
        if let Some(budget) = self.max_budget_micro_usd.filter(|m| !limits::BUDGET.contains(m)) {
            let field = "limits.max_budget_micro_usd";
            return outside(field, &budget.0, &limits::BUDGET.start().0, &limits::BUDGET.end().0);
        }
        if let Some(attempts) = self.max_attempts.filter(|n| !MAX_ATTEMPTS.contains(n)) {
            return outside("limits.max_attempts", &attempts, MAX_ATTEMPTS.start(), MAX_ATTEMPTS.end());
        }
        let approval_ms = Millis::secs(u64::from(*limits::APPROVAL_TIMEOUT_SECS.start()))
            ..=Millis::secs(u64::from(*limits::APPROVAL_TIMEOUT_SECS.end()));
        if let Some(wait) = self.approval_timeout_ms.filter(|ms| !approval_ms.contains(ms)) {
            return outside("limits.approval_timeout_ms", &wait, approval_ms.start(), approval_ms.end());
        }
        if let Some(gates) = self.max_gates.filter(|n| !limits::GATES.contains(n)) {
            return outside("limits.max_gates", &gates, limits::GATES.start(), limits::GATES.end());
        }
        if let Some(name) = self.breaker.and_then(|b| b.zero()) {
            return Err(InvalidSetting::new(
                "limits.breaker",
                format!("has `{name}` 0: set it from 1 on, or to null for no limit"),
            ));
        }
        let durations = [
            ("limits.retry_backoff_ms", self.retry_backoff_ms),
            ("limits.upload_window_ms", self.upload_window_ms),
            ("limits.queue_timeout_ms", self.queue_timeout_ms),
            ("limits.hydration_timeout_ms", self.hydration_timeout_ms),
            ("limits.registration_timeout_ms", self.registration_timeout_ms),
            ("limits.task_timeout_ms", self.task_timeout_ms),
            ("limits.finalize_timeout_ms", self.finalize_timeout_ms),
            ("limits.stop_grace_ms", self.stop_grace_ms),
            ("limits.heartbeat_timeout_ms", self.heartbeat_timeout_ms),
            ("limits.command_timeout_ms", self.command_timeout_ms),
        ];
        for (field, duration) in durations {
            if let Some(ms) = duration.filter(|ms| !(Millis(1)..=LONGEST_MS).contains(ms)) {
                return outside(field, &ms, &Millis(1), &LONGEST_MS);
            }
        }
        Ok(())
    }

    /// Writes what is set over `below`.
    pub fn apply(&self, below: &mut ResolvedLimits) {
        fn set<T: Copy>(value: Option<T>, place: &mut T) {
            if let Some(value) = value {
                *place = value;
            }
        }
        // Named one by one, so that a new limit cannot be forgotten here.
        let Self {
            max_turns,
            max_budget_micro_usd,
            max_attempts,
            retry_backoff_ms,
            upload_window_ms,
            queue_timeout_ms,
            hydration_timeout_ms,
            registration_timeout_ms,
            task_timeout_ms,
            approval_timeout_ms,
            max_gates,
            breaker,
            finalize_timeout_ms,
            stop_grace_ms,
            heartbeat_timeout_ms,
            poll_interval_ms,
            command_timeout_ms,
        } = *self;
        set(max_turns, &mut below.max_turns);
        set(max_budget_micro_usd.map(Some), &mut below.max_budget);
        set(max_attempts, &mut below.max_attempts);
        set(retry_backoff_ms, &mut below.retry_backoff_ms);
        set(upload_window_ms, &mut below.upload_window_ms);
        set(queue_timeout_ms, &mut below.queue_timeout_ms);
        set(hydration_timeout_ms, &mut below.hydration_timeout_ms);
        set(registration_timeout_ms, &mut below.registration_timeout_ms);
        set(task_timeout_ms, &mut below.task_timeout_ms);
        set(approval_timeout_ms, &mut below.approval_timeout_ms);
        set(max_gates, &mut below.max_gates);
        set(breaker, &mut below.breaker);
        set(finalize_timeout_ms, &mut below.finalize_timeout_ms);
        set(stop_grace_ms, &mut below.stop_grace_ms);
        set(heartbeat_timeout_ms, &mut below.heartbeat_timeout_ms);
        let clamp = |ms: Millis| Millis(ms.0.clamp(*POLL_INTERVAL_MS.start(), *POLL_INTERVAL_MS.end()));
        set(poll_interval_ms.map(clamp), &mut below.observe_every_ms);
        set(command_timeout_ms, &mut below.command_timeout_ms);
    }
}

impl Blueprint {
    /// Checks the settings by themselves, and against what this platform can honour.
    ///
    /// # Errors
    /// [`InvalidSetting`] names the first that is out of its range or that nothing here can honour: a wish for a
    /// stricter or wider wall is never passed over in silence.
    pub fn check(&self, platform: &PlatformDefaults) -> Result<(), InvalidSetting> {
        self.limits.check()?;
        if self.system_prompt_overrides.as_ref().is_some_and(|t| t.len() > SYSTEM_PROMPT_OVERRIDES_BYTES) {
            let problem = format!("is longer than {SYSTEM_PROMPT_OVERRIDES_BYTES} bytes: shorten it");
            return Err(InvalidSetting::new("system_prompt_overrides", problem));
        }
        let commands = [
            ("build_command", &self.build_command),
            ("test_command", &self.test_command),
            ("lint_command", &self.lint_command),
        ];
        for (field, command) in commands {
            if let Some(Err(problem)) = command.as_deref().map(check_command) {
                return Err(InvalidSetting::new(field, problem));
            }
        }
        if let Some(Err(problem)) = self.model.as_deref().map(check_model_name) {
            return Err(InvalidSetting::new("model", problem));
        }
        if let Some(Err(e)) = self.base_branch.as_deref().map(check_branch) {
            return Err(InvalidSetting::new("base_branch", format!("cannot be used: {e}")));
        }
        if self.egress_allowlist.len() > MAX_RULES {
            return Err(InvalidSetting::new(
                "egress_allowlist",
                format!("holds more than {MAX_RULES} hosts: shorten it"),
            ));
        }
        if !self.egress_allowlist.is_empty() && platform.network != NetworkMode::Proxy {
            let problem = format!(
                "needs the egress proxy and this platform's network is `{}`: make it `proxy`, or leave the list empty",
                platform.network.as_str()
            );
            return Err(InvalidSetting::new("egress_allowlist", problem));
        }
        if self.cedar_policies.iter().map(String::len).fold(0, usize::saturating_add) > CEDAR_POLICIES_BYTES {
            let problem = format!("are longer than {CEDAR_POLICIES_BYTES} bytes together: shorten them");
            return Err(InvalidSetting::new("cedar_policies", problem));
        }
        check_screening(&platform.screening.with(&self.screening))?;
        if let Some(network) = self.network.filter(|n| *n != platform.network) {
            let problem = format!(
                "is `{}` and this platform gives `{}`: make both the same",
                network.as_str(),
                platform.network.as_str()
            );
            return Err(InvalidSetting::new("network", problem));
        }
        if self.compute_type.is_some() && self.compute_type != platform.compute_type {
            let here = platform.compute_type.as_deref().unwrap_or("another");
            let wanted = self.compute_type.as_deref().unwrap_or_default();
            let problem = format!("is `{wanted}` and this platform runs `{here}`: make both the same");
            return Err(InvalidSetting::new("compute_type", problem));
        }
        Ok(())
    }
}

impl PlatformDefaults {
    /// Checks the operator's settings, once, before anything runs.
    ///
    /// # Errors
    /// [`InvalidSetting`] names the first that is out of its range.
    pub fn check(&self) -> Result<(), InvalidSetting> {
        if let Some(Err(problem)) = self.model.as_deref().map(check_model_name) {
            return Err(InvalidSetting::new("model", problem));
        }
        check_screening(&self.screening)?;
        self.limits.check()
    }
}

fn check_screening(config: &ScreenConfig) -> Result<(), InvalidSetting> {
    if *config == ScreenConfig::default() {
        return Ok(());
    }
    let built = Screen::builder().config(config.clone()).build();
    built.map(|_| ()).map_err(|e| InvalidSetting::new("screening", format!("cannot be used: {e}")))
}

/// The limits of a task, frozen when it is accepted.
///
/// For every field the first wins that sets it: task, repository, platform, workflow, [`ResolvedLimits::default`]. The
/// slots are the user's (first in, first out), the system's, and those of the repository and the backend where they have a cap.
pub fn resolve_limits(
    task: &NewTask,
    user: &UserId,
    repo: Option<&RepoRef>,
    blueprint: Option<&Blueprint>,
    workflow: &Workflow,
    platform: &PlatformDefaults,
) -> ResolvedLimits {
    let of_workflow = LimitSettings {
        max_turns: workflow.limits.max_turns,
        max_budget_micro_usd: workflow.limits.max_budget,
        ..LimitSettings::default()
    };
    let of_task = LimitSettings {
        max_turns: task.max_turns,
        max_budget_micro_usd: task.max_budget_micro_usd,
        approval_timeout_ms: task.approval_timeout_s.map(|s| Millis::secs(u64::from(s))),
        breaker: task.breaker,
        ..LimitSettings::default()
    };
    let mut resolved = ResolvedLimits::default();
    let layers = [Some(&of_workflow), Some(&platform.limits), blueprint.map(|b| &b.limits), Some(&of_task)];
    for layer in layers.into_iter().flatten() {
        layer.apply(&mut resolved);
    }
    resolved.slots = slots(user, repo, blueprint, platform);
    resolved
}

fn slots(
    user: &UserId,
    repo: Option<&RepoRef>,
    blueprint: Option<&Blueprint>,
    platform: &PlatformDefaults,
) -> Vec<SlotLimit> {
    let mut slots = vec![
        TaskSpec::user_slot(user, platform.max_concurrent_tasks_per_user),
        SlotLimit { scope: SlotScope("system".to_owned()), cap: platform.max_concurrent_tasks, fifo: false },
    ];
    let cap = blueprint.and_then(|b| b.max_concurrent_tasks).or(platform.max_concurrent_tasks_per_repo);
    if let (Some(repo), Some(cap)) = (repo, cap) {
        slots.push(SlotLimit { scope: SlotScope(format!("repo:{repo}")), cap, fifo: false });
    }
    let backend = blueprint.and_then(|b| b.compute_type.as_ref()).or(platform.compute_type.as_ref());
    if let Some((name, cap)) = backend.and_then(|name| platform.max_sessions.get_key_value(name)) {
        slots.push(SlotLimit { scope: SlotScope(format!("backend:{name}")), cap: *cap, fifo: false });
    }
    slots
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::workflow::resolve;

    /// Every limit set, each to a number of its own above `base`.
    fn settings(base: u32) -> LimitSettings {
        let ms = |n: u32| Some(Millis(u64::from(base + n)));
        LimitSettings {
            max_turns: Some(base),
            max_budget_micro_usd: Some(MicroUsd(u64::from(base) + 10_000)),
            max_attempts: Some(base + 2),
            retry_backoff_ms: ms(3),
            upload_window_ms: ms(4),
            queue_timeout_ms: ms(5),
            hydration_timeout_ms: ms(6),
            registration_timeout_ms: ms(7),
            task_timeout_ms: ms(8),
            approval_timeout_ms: ms(9),
            max_gates: Some(9),
            breaker: Some(BreakerLimits::off()),
            finalize_timeout_ms: ms(10),
            stop_grace_ms: ms(11),
            heartbeat_timeout_ms: ms(12),
            poll_interval_ms: Some(Millis(u64::from(base) + 6_000)),
            command_timeout_ms: ms(14),
        }
    }

    /// The limits that `settings(base)` give, without slots.
    fn resolved(base: u32) -> ResolvedLimits {
        let ms = |n: u32| Millis(u64::from(base + n));
        ResolvedLimits {
            max_turns: base,
            max_budget: Some(MicroUsd(u64::from(base) + 10_000)),
            max_attempts: base + 2,
            retry_backoff_ms: ms(3),
            upload_window_ms: ms(4),
            queue_timeout_ms: ms(5),
            hydration_timeout_ms: ms(6),
            registration_timeout_ms: ms(7),
            task_timeout_ms: ms(8),
            approval_timeout_ms: ms(9),
            max_gates: 9,
            breaker: BreakerLimits::off(),
            finalize_timeout_ms: ms(10),
            stop_grace_ms: ms(11),
            heartbeat_timeout_ms: ms(12),
            observe_every_ms: Millis(u64::from(base) + 6_000),
            command_timeout_ms: ms(14),
            slots: Vec::new(),
        }
    }

    fn limits_of(task: &NewTask, blueprint: Option<&Blueprint>, platform: &PlatformDefaults) -> ResolvedLimits {
        let user = UserId::new("ann").unwrap();
        let workflow = resolve(None, true).unwrap();
        ResolvedLimits { slots: Vec::new(), ..resolve_limits(task, &user, None, blueprint, workflow, platform) }
    }

    #[test]
    fn task_over_repository_over_platform_for_every_field() {
        let none = NewTask::default();
        let platform = PlatformDefaults { limits: settings(100), ..PlatformDefaults::default() };
        let repository = Blueprint { limits: settings(200), ..Blueprint::default() };
        let empty = Blueprint::default();

        assert_eq!(limits_of(&none, None, &PlatformDefaults::default()), ResolvedLimits::default());
        assert_eq!(limits_of(&none, None, &platform), resolved(100));
        assert_eq!(limits_of(&none, Some(&empty), &platform), resolved(100));
        assert_eq!(limits_of(&none, Some(&repository), &platform), resolved(200));

        let task = NewTask::default().max_turns(7).budget(MicroUsd::cents(50)).approval_timeout_s(60);
        let expected = ResolvedLimits {
            max_turns: 7,
            max_budget: Some(MicroUsd::cents(50)),
            approval_timeout_ms: Millis::secs(60),
            ..resolved(200)
        };
        assert_eq!(limits_of(&task, Some(&repository), &platform), expected);
    }

    #[test]
    fn a_workflow_fills_only_what_nobody_sets() {
        let user = UserId::new("ann").unwrap();
        let mut workflow = resolve(None, true).unwrap().clone();
        workflow.limits.max_turns = Some(40);
        let turns = |platform: Option<u32>| {
            let limits = LimitSettings { max_turns: platform, ..LimitSettings::default() };
            let platform = PlatformDefaults { limits, ..PlatformDefaults::default() };
            resolve_limits(&NewTask::default(), &user, None, None, &workflow, &platform).max_turns
        };
        assert_eq!((turns(None), turns(Some(60))), (40, 60));
    }

    #[test]
    fn the_poll_interval_is_moved_into_its_range() {
        let poll = |ms| {
            let limits = LimitSettings { poll_interval_ms: Some(Millis(ms)), ..LimitSettings::default() };
            limits_of(
                &NewTask::default(),
                Some(&Blueprint { limits, ..Blueprint::default() }),
                &PlatformDefaults::default(),
            )
            .observe_every_ms
        };
        assert_eq!(
            [0, 5_000, 60_000, 300_000, u64::MAX].map(poll).map(|ms| ms.0),
            [5_000, 5_000, 60_000, 300_000, 300_000]
        );
    }

    #[test]
    fn slots_are_the_users_the_systems_and_a_capped_repositorys_and_backends() {
        let user = UserId::new("ann").unwrap();
        let repo: RepoRef = "acme/x".parse().unwrap();
        let slot = |scope: &str, cap, fifo| SlotLimit { scope: SlotScope(scope.to_owned()), cap, fifo };
        let mut platform = PlatformDefaults::default();
        let mut blueprint = Blueprint::default();
        assert_eq!(
            slots(&user, Some(&repo), Some(&blueprint), &platform),
            [slot("user:ann", 10, true), slot("system", 16, false)]
        );
        platform.max_concurrent_tasks_per_repo = Some(4);
        assert_eq!(slots(&user, Some(&repo), Some(&blueprint), &platform)[2], slot("repo:acme/x", 4, false));
        blueprint.max_concurrent_tasks = Some(2);
        assert_eq!(slots(&user, Some(&repo), Some(&blueprint), &platform)[2], slot("repo:acme/x", 2, false));
        assert_eq!(slots(&user, None, None, &platform).len(), 2);
        platform.max_sessions.insert("process".to_owned(), 3);
        assert_eq!(slots(&user, None, None, &platform).len(), 2, "nobody said what runs here");
        platform.compute_type = Some("process".to_owned());
        assert_eq!(slots(&user, None, None, &platform)[2], slot("backend:process", 3, false));
    }

    #[test]
    fn what_is_out_of_range_or_cannot_be_honoured_is_refused() {
        let platform = PlatformDefaults::default();
        let said = |json: &str| {
            let blueprint: Blueprint = serde_json::from_str(json).unwrap();
            blueprint.check(&platform).map_err(|e| e.to_string())
        };
        assert_eq!(said("{}"), Ok(()));
        assert_eq!(said(r#"{"limits":{"max_turns":0}}"#).unwrap_err(), "`limits.max_turns` is 0: set it from 1 to 500");
        assert_eq!(
            said(r#"{"limits":{"max_budget_micro_usd":9999}}"#).unwrap_err(),
            "`limits.max_budget_micro_usd` is 9999: set it from 10000 to 100000000"
        );
        assert_eq!(
            said(r#"{"limits":{"approval_timeout_ms":29999}}"#).unwrap_err(),
            "`limits.approval_timeout_ms` is 29.9 s: set it from 30.0 s to 1 h 00 m"
        );
        assert!(said(r#"{"limits":{"task_timeout_ms":0}}"#).is_err());
        assert!(said(r#"{"limits":{"max_attempts":11}}"#).is_err());
        assert_eq!(
            said(r#"{"network":"host"}"#).unwrap_err(),
            "`network` is `host` and this platform gives `off`: make both the same"
        );
        assert_eq!(
            said(r#"{"egress_allowlist":["crates.io"]}"#).unwrap_err(),
            "`egress_allowlist` needs the egress proxy and this platform's network is `off`: make it `proxy`, or leave the \
             list empty"
        );
        assert!(serde_json::from_str::<Blueprint>(r#"{"egress_allowlist":["10.0.0.1"]}"#).is_err());
        assert!(said(r#"{"compute_type":"ecs"}"#).is_err());
        assert!(serde_json::from_str::<Blueprint>(r#"{"max_turn":3}"#).is_err());
    }
}
