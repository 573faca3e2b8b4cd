//! From a submission to a task: the checks it must pass, and what is frozen when it does.

use std::fmt::{self, Write as _};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::attachments::check_attachments;
use super::{InitialScope, NewTask, Task, TaskSpec, limits};
use crate::blueprint::{Blueprint, OnboardingStatus, PlatformDefaults, resolve_limits};
use crate::event::{EventType, NewEvent};
use crate::git::RepoRef;
use crate::id::{TaskId, UserId};
use crate::money::MicroUsd;
use crate::names::check_branch;
use crate::store::Submit;
use crate::time::Timestamp;
use crate::workflow::{ResolveError, SuppliedInputs, Tier, Workflow, excerpt, resolve};

/// Longest build, test or lint command, in bytes.
pub const COMMAND_BYTES: usize = 8_192;
macro_rules! error_codes {
    ($( $(#[$doc:meta])* $variant:ident = $wire:literal; )+) => {
        /// Why a submission is refused: the reference platform's codes (`behaviour.md` 3.8).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum SubmitErrorCode { $( $(#[$doc])* $variant, )+ }

        impl SubmitErrorCode {
            /// The code on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $wire, )+ }
            }
        }
    };
}

error_codes! {
    /// A field is missing, malformed or out of its range.
    Validation = "VALIDATION_ERROR";
    /// The repository is not one that this platform works on.
    RepoNotOnboarded = "REPO_NOT_ONBOARDED";
    /// The platform cannot do this: its own settings are wrong, or a part does not exist yet.
    ServiceUnavailable = "SERVICE_UNAVAILABLE";
    /// An attachment is larger than [`super::ATTACHMENT_BYTES`].
    AttachmentTooLarge = "ATTACHMENT_TOO_LARGE";
    /// All attachments together are larger than [`super::ATTACHMENTS_TOTAL_BYTES`].
    AttachmentsTotalTooLarge = "ATTACHMENTS_TOTAL_TOO_LARGE";
    /// An attachment's media type is not one of [`super::ATTACHMENT_TYPES`].
    AttachmentInvalidType = "ATTACHMENT_INVALID_TYPE";
    /// An attachment's checksum or size cannot be right.
    AttachmentInvalidContent = "ATTACHMENT_INVALID_CONTENT";
    /// An attachment's name could be mistaken for a path or an option.
    AttachmentInvalidFilename = "ATTACHMENT_INVALID_FILENAME";
}

impl fmt::Display for SubmitErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A submission is refused; nothing was stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SubmitError {
    /// What callers branch on.
    pub code: SubmitErrorCode,
    /// The field that it is about, as the reference platform's wire names it, e.g. `max_budget_usd`.
    pub field: &'static str,
    /// What is wrong, the limit, and what to do.
    pub message: String,
}

impl SubmitError {
    pub(super) fn new(code: SubmitErrorCode, field: &'static str, message: impl Into<String>) -> Self {
        Self { code, field, message: message.into() }
    }

    fn invalid(field: &'static str, message: impl Into<String>) -> Self {
        Self::new(SubmitErrorCode::Validation, field, message)
    }
}

/// Checks a submission and makes it a task in `SUBMITTED`, with its first event.
///
/// Every check that needs no I/O, in the reference's order (`behaviour.md` 3.3); the first that fails decides. Screening by
/// guardrails and the uniqueness of the idempotency key are the caller's and the store's. The limits are frozen here.
///
/// `blueprint` is the repository's, if it has one. Total and deterministic: equal inputs give equal outputs.
///
/// # Errors
/// [`SubmitError`] says which field, which limit and what to do. [`SubmitErrorCode::ServiceUnavailable`] is not the
/// caller's fault: the blueprint cannot be honoured, or a part of the platform is not there yet.
pub fn accept(
    new: NewTask,
    user: &UserId,
    id: TaskId,
    now: Timestamp,
    blueprint: Option<&Blueprint>,
    platform: &PlatformDefaults,
) -> Result<Submit, SubmitError> {
    let workflow = resolve(new.workflow_ref.as_deref(), new.repo.is_some()).map_err(|e| match e {
        ResolveError::RepoNeeded => SubmitError::invalid("repo", e.to_string()),
        ResolveError::Grammar { .. }
        | ResolveError::Unknown { .. }
        | ResolveError::OtherVersion { .. }
        | ResolveError::NotBuilt { .. } => SubmitError::invalid("workflow_ref", e.to_string()),
    })?;
    let model = resolve_model(&new, blueprint, workflow, platform)?;
    let repo = check_repo(&new, workflow)?;
    check_onboarded(repo.as_ref(), blueprint, platform)?;
    check_inputs(&new, workflow)?;
    check_text_and_limits(&new)?;
    check_commands(&new)?;
    check_attachments(&new.attachments)?;
    check_approvals(&new)?;
    let tools = resolve_tools(&new, blueprint, workflow, platform)?;
    check_deferred(&new, "idempotency_key")?;

    let payload_hash = payload_hash(&new)?;
    let limits = resolve_limits(&new, user, repo.as_ref(), blueprint, workflow, platform);
    let of_repo = |own: Option<String>, of: fn(&Blueprint) -> &Option<String>| own.or_else(|| of(blueprint?).clone());
    let event = created(&new, repo.as_ref(), workflow, now);
    let spec = TaskSpec {
        repo,
        task_description: new.task_description.filter(|t| !t.trim().is_empty()),
        issue_number: new.issue_number,
        pr_number: new.pr_number,
        workflow_id: workflow.id.clone(),
        workflow_version: workflow.version.clone(),
        model,
        build_command: of_repo(new.build_command, |b| &b.build_command),
        test_command: of_repo(new.test_command, |b| &b.test_command),
        lint_command: of_repo(new.lint_command, |b| &b.lint_command),
        base_branch: of_repo(new.base_branch, |b| &b.base_branch),
        trace: new.trace,
        read_only: workflow.read_only,
        tools,
        system_prompt_overrides: blueprint.and_then(|b| b.system_prompt_overrides.clone()),
        egress_allowlist: blueprint.map(|b| b.egress_allowlist.clone()).unwrap_or_default(),
        cedar_policies: blueprint.map(|b| b.cedar_policies.clone()).unwrap_or_default(),
        screening: blueprint.map_or_else(|| platform.screening.clone(), |b| platform.screening.with(&b.screening)),
        attachments: new.attachments,
        initial_approvals: new.initial_approvals,
        channel_source: new.channel_source,
        channel_metadata: new.channel_metadata,
        limits,
    };
    let task = Task::accepted(id, user.clone(), spec, new.idempotency_key, now);
    Ok(Submit { task, payload_hash, events: vec![event], due_at: now })
}

fn created(new: &NewTask, repo: Option<&RepoRef>, workflow: &Workflow, now: Timestamp) -> NewEvent {
    let mut event = NewEvent::new(EventType::TaskCreated, now)
        .with("channel_source", serde_json::to_value(new.channel_source).unwrap_or_default())
        .with("workflow", format!("{}@{}", workflow.id, workflow.version));
    if let Some(repo) = repo {
        event = event.with("repo", repo.to_string());
    }
    if let Some(number) = new.issue_number {
        event = event.with("issue_number", number);
    }
    event
}

/// Task, then repository, then workflow, then platform; what comes out must be allowed here.
fn resolve_model(
    new: &NewTask,
    blueprint: Option<&Blueprint>,
    workflow: &Workflow,
    platform: &PlatformDefaults,
) -> Result<Option<String>, SubmitError> {
    if let Some(violation) = workflow.check_model(&platform.allowed_models) {
        return Err(SubmitError::invalid("workflow_ref", violation.message));
    }
    let preferred = workflow.agent_config.model.as_ref();
    if let Some(fixed) = preferred.filter(|m| !m.allow_task_override) {
        if new.model.as_ref().is_some_and(|m| *m != fixed.id) {
            let message = format!("`model` is fixed to `{}` by `{}`: leave it out", fixed.id, workflow.id);
            return Err(SubmitError::invalid("model", message));
        }
        return Ok(Some(fixed.id.clone()));
    }
    if let Some(model) = &new.model {
        check_model_name(model)
            .map_err(|p| SubmitError::invalid("model", format!("`model` `{}` {p}", excerpt(model))))?;
    }
    let model = new
        .model
        .as_ref()
        .or_else(|| blueprint?.model.as_ref())
        .or(preferred.map(|m| &m.id))
        .or(platform.model.as_ref());
    match model {
        Some(m) if !platform.allowed_models.is_empty() && !platform.allowed_models.contains(m) => {
            let allowed = platform.allowed_models.join(", ");
            let message = format!("`model` `{}` is not allowed on this platform: use one of {allowed}", excerpt(m));
            Err(SubmitError::invalid("model", message))
        }
        found => Ok(found.cloned()),
    }
}

/// Task, then repository, then workflow; the repository's is a ceiling for the task, the platform's for everybody.
fn resolve_tools(
    new: &NewTask,
    blueprint: Option<&Blueprint>,
    workflow: &Workflow,
    platform: &PlatformDefaults,
) -> Result<Tier, SubmitError> {
    let of_repo = blueprint.and_then(|b| b.tools);
    let ceiling = match of_repo {
        Some(tier) if tier.is_within(platform.max_tools) => tier,
        Some(_) | None => platform.max_tools,
    };
    match new.tools {
        Some(wanted) if !wanted.is_within(ceiling) => {
            let message = format!("`tools` is `{wanted}` and at most `{ceiling}` is allowed here: ask for less");
            Err(SubmitError::invalid("tools", message))
        }
        Some(wanted) => Ok(wanted),
        None => {
            let usual = of_repo.unwrap_or(workflow.agent_config.tier);
            Ok(if usual.is_within(ceiling) { usual } else { ceiling })
        }
    }
}

fn check_repo(new: &NewTask, workflow: &Workflow) -> Result<Option<RepoRef>, SubmitError> {
    match &new.repo {
        Some(text) => {
            text.parse().map(Some).map_err(|e: crate::git::InvalidRepo| SubmitError::invalid("repo", e.to_string()))
        }
        None if workflow.needs_repo() => {
            let message = format!("`repo` is missing and `{}` needs one: name a repository", workflow.id);
            Err(SubmitError::invalid("repo", message))
        }
        None => Ok(None),
    }
}

fn check_onboarded(
    repo: Option<&RepoRef>,
    blueprint: Option<&Blueprint>,
    platform: &PlatformDefaults,
) -> Result<(), SubmitError> {
    let Some(repo) = repo else { return Ok(()) };
    let refused = match blueprint {
        Some(Blueprint { status: OnboardingStatus::Removed, .. }) => true,
        Some(Blueprint { status: OnboardingStatus::Active, .. }) => false,
        None => platform.require_onboarding,
    };
    if refused {
        let message = format!("`{repo}` is not onboarded here: ask the operator to onboard it");
        return Err(SubmitError::new(SubmitErrorCode::RepoNotOnboarded, "repo", message));
    }
    match blueprint.map(|b| b.check(platform)) {
        Some(Err(e)) => {
            let message = format!("the settings of `{repo}` cannot be used: {e}");
            Err(SubmitError::new(SubmitErrorCode::ServiceUnavailable, "repo", message))
        }
        Some(Ok(())) | None => Ok(()),
    }
}

fn check_inputs(new: &NewTask, workflow: &Workflow) -> Result<(), SubmitError> {
    let supplied = SuppliedInputs {
        issue_number: new.issue_number.is_some(),
        task_description: new.task_description.as_ref().is_some_and(|t| !t.trim().is_empty()),
        pr_number: new.pr_number.is_some(),
    };
    workflow.check_inputs(supplied).map_err(|e| SubmitError::invalid("task_description", e.to_string()))?;
    if new.pr_number.is_some() && !workflow.takes_pull_request() {
        let message =
            format!("`pr_number` is not for `{}`, which opens a pull request of its own: leave it out", workflow.id);
        return Err(SubmitError::invalid("pr_number", message));
    }
    for (field, number) in [("pr_number", new.pr_number), ("issue_number", new.issue_number)] {
        if number == Some(0) {
            return Err(SubmitError::invalid(field, format!("`{field}` is 0: numbers start at 1")));
        }
    }
    Ok(())
}

fn check_text_and_limits(new: &NewTask) -> Result<(), SubmitError> {
    let length = new.task_description.as_ref().map_or(0, |t| t.encode_utf16().count());
    if length > limits::DESCRIPTION_UTF16 {
        let message = format!(
            "`task_description` has {length} characters (UTF-16 units), at most {} are allowed: shorten it, or put the details into the repository or an issue",
            limits::DESCRIPTION_UTF16
        );
        return Err(SubmitError::invalid("task_description", message));
    }
    if let Some(turns) = new.max_turns.filter(|n| !limits::MAX_TURNS.contains(n)) {
        let message =
            format!("`max_turns` is {turns}: set it from {} to {}", limits::MAX_TURNS.start(), limits::MAX_TURNS.end());
        return Err(SubmitError::invalid("max_turns", message));
    }
    check_deferred(new, "max_budget_usd")?;
    if let Some(budget) = new.max_budget_micro_usd.filter(|m| !limits::BUDGET.contains(m)) {
        let message = format!(
            "`max_budget_usd` is {}: set it from {} to {}",
            exact_dollars(budget),
            exact_dollars(*limits::BUDGET.start()),
            exact_dollars(*limits::BUDGET.end())
        );
        return Err(SubmitError::invalid("max_budget_usd", message));
    }
    Ok(())
}

fn check_commands(new: &NewTask) -> Result<(), SubmitError> {
    let commands = [
        ("build_command", &new.build_command),
        ("test_command", &new.test_command),
        ("lint_command", &new.lint_command),
    ];
    for (field, command) in commands {
        if let Some(Err(problem)) = command.as_deref().map(check_command) {
            return Err(SubmitError::invalid(field, format!("`{field}` {problem}")));
        }
    }
    match new.base_branch.as_deref().map(check_branch) {
        Some(Err(e)) => Err(SubmitError::invalid("base_branch", format!("`base_branch` cannot be used: {e}"))),
        Some(Ok(())) | None => Ok(()),
    }
}

fn check_approvals(new: &NewTask) -> Result<(), SubmitError> {
    let range = limits::APPROVAL_TIMEOUT_SECS;
    if let Some(seconds) = new.approval_timeout_s.filter(|s| !range.contains(s)) {
        let message = format!("`approval_timeout_s` is {seconds}: set it from {} to {}", range.start(), range.end());
        return Err(SubmitError::invalid("approval_timeout_s", message));
    }
    if let Some(name) = new.breaker.and_then(|b| b.zero()) {
        let message = format!("`breaker` has `{name}` 0: set it from 1 on, or to null for no limit");
        return Err(SubmitError::invalid("breaker", message));
    }
    if new.initial_approvals.len() > limits::INITIAL_APPROVALS {
        let message = format!(
            "`initial_approvals` has {} scopes, at most {} are allowed: give fewer",
            new.initial_approvals.len(),
            limits::INITIAL_APPROVALS
        );
        return Err(SubmitError::invalid("initial_approvals", message));
    }
    for (i, scope) in new.initial_approvals.iter().enumerate() {
        if let Err(e) = scope.parse::<InitialScope>() {
            return Err(SubmitError::invalid("initial_approvals", format!("`initial_approvals[{i}]`: {e}")));
        }
    }
    Ok(())
}

/// Refuses what the builder could not read.
fn check_deferred(new: &NewTask, field: &'static str) -> Result<(), SubmitError> {
    match new.deferred.iter().find(|d| d.field == field) {
        Some(d) => Err(SubmitError::invalid(field, format!("`{field}`: {}", d.message))),
        None => Ok(()),
    }
}

/// Whether text can be a command: not blank, no NUL, at most [`COMMAND_BYTES`].
pub(crate) fn check_command(text: &str) -> Result<(), String> {
    if text.trim().is_empty() {
        return Err("is empty: give a command, or leave it out".to_owned());
    }
    if text.contains('\0') {
        return Err("holds a NUL character: remove it".to_owned());
    }
    if text.len() > COMMAND_BYTES {
        return Err(format!("has {} bytes, at most {COMMAND_BYTES} are allowed: put it into a script", text.len()));
    }
    Ok(())
}

/// Whether text can name a model: `provider:id`.
pub(crate) fn check_model_name(text: &str) -> Result<(), &'static str> {
    let fits = text.len() <= 1_024
        && !text.chars().any(char::is_control)
        && text.split_once(':').is_some_and(|(provider, id)| {
            !provider.is_empty()
                && provider.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'))
                && !id.trim().is_empty()
        });
    if fits { Ok(()) } else { Err("is not a model: write `provider:id`, e.g. `anthropic:claude-sonnet-4-6`") }
}

/// Dollars without rounding, at least two decimals: `$0.01`, `$0.009999`.
fn exact_dollars(amount: MicroUsd) -> String {
    let MicroUsd(micro) = amount;
    let fraction = format!("{:06}", micro % 1_000_000);
    let kept = fraction.trim_end_matches('0');
    format!("${}.{kept:0<2}", micro / 1_000_000)
}

/// Lower-case hex SHA-256 over the canonical JSON (sorted keys, no spaces) of what the caller asks for.
///
/// Without the idempotency key, and without the channel's metadata: a client that repeats a request asks for the same
/// although its address or the gateway's request id is another.
fn payload_hash(new: &NewTask) -> Result<String, SubmitError> {
    let mut asked = new.clone();
    asked.idempotency_key = None;
    asked.channel_metadata.clear();
    // Reached with nothing deferred; were something left, serialising would refuse it.
    let value = serde_json::to_value(&asked).map_err(|e| SubmitError::invalid("task", e.to_string()))?;
    let mut text = String::new();
    write_canonical(&value, &mut text);
    let digest = Sha256::digest(text.as_bytes());
    Ok(digest.iter().fold(String::with_capacity(64), |mut hex, byte| {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    }))
}

/// Keys are sorted here, because the order of serde_json's map depends on a feature that any crate may switch on.
pub(crate) fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(object) => {
            let sorted: std::collections::BTreeMap<_, _> = object.iter().collect();
            out.push('{');
            for (i, (key, entry)) in sorted.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                write_canonical(entry, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (i, entry) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_canonical(entry, out);
            }
            out.push(']');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => out.push_str(&value.to_string()),
    }
}
