//! What a failure means: a category, words for people, a remedy, and whether the same may succeed next time.
//!
//! Two total functions over one ordered table ([`TABLE`]): [`classify`] reads a text, [`classify_failure`] starts from
//! the reason that the platform itself recorded and reads the text only for what the reason leaves open. The order of the
//! table is behaviour, and tested.

mod adapters;
mod meaning;
mod rule;
mod table;

use std::fmt;

use serde::Serialize;

use crate::task::{Failure, FailureReason};

use adapters::ADAPTERS;

pub use rule::Rule;
pub use table::TABLE;

/// What kind of thing failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Category {
    /// A credential or a right.
    Auth,
    /// A connection to a forge or a provider.
    Network,
    /// Too much at once.
    Concurrency,
    /// The machine or the backend that ran the session.
    Compute,
    /// The agent or its model.
    Agent,
    /// A guardrail stopped it.
    Guardrail,
    /// Settings.
    Config,
    /// A limit of time, turns or money.
    Timeout,
    /// The environment lacks what the agent needs.
    Blocked,
    /// Nothing known.
    Unknown,
}

/// Who can do something about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Nobody needs to: it passes. Always retryable.
    Transient,
    /// Whoever operates the platform or owns the repository's settings.
    Service,
    /// Whoever submitted the task.
    User,
}

/// What a failure means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Classification {
    /// Stable name of the rule that matched, e.g. `session_never_started`.
    pub code: &'static str,
    /// What kind of thing failed.
    pub category: Category,
    /// A few words.
    pub title: &'static str,
    /// What happened.
    pub description: &'static str,
    /// What to do.
    pub remedy: &'static str,
    /// Whether submitting the task again may succeed, where `class` says `user` after following the remedy.
    pub retryable: bool,
    /// Who can do something about it.
    pub class: Class,
}

/// What keeps an agent from going on by itself (`behaviour.md` 6.10).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BlockerKind {
    /// A secret is not there.
    MissingSecret,
    /// The network wall stopped a connection.
    EgressDenied,
    /// Something outside does not answer.
    DependencyUnreachable,
    /// A guard failed, and so denied.
    PolicyFailClosed,
    /// A credential was refused.
    AuthFailure,
    /// Anything else of the environment.
    UnknownEnvironmental,
}

impl BlockerKind {
    /// Every kind.
    pub const ALL: [Self; 6] = [
        Self::MissingSecret,
        Self::EgressDenied,
        Self::DependencyUnreachable,
        Self::PolicyFailClosed,
        Self::AuthFailure,
        Self::UnknownEnvironmental,
    ];

    /// The name in `BLOCKED[name]`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MissingSecret => "missing_secret",
            Self::EgressDenied => "egress_denied",
            Self::DependencyUnreachable => "dependency_unreachable",
            Self::PolicyFailClosed => "policy_fail_closed",
            Self::AuthFailure => "auth_failure",
            Self::UnknownEnvironmental => "unknown_environmental",
        }
    }

    /// The kind of a name, in any case; unknown names are [`Self::UnknownEnvironmental`].
    pub fn from_name(name: &str) -> Self {
        let name = name.trim();
        Self::ALL.into_iter().find(|k| k.as_str().eq_ignore_ascii_case(name)).unwrap_or(Self::UnknownEnvironmental)
    }

    /// The kind in the first `BLOCKED[kind]` of a text.
    pub fn find(text: &str) -> Option<Self> {
        let lower = text.to_ascii_lowercase();
        let (_, after) = lower.split_once("blocked[")?;
        after.split_once(']').map(|(name, _)| Self::from_name(name))
    }

    /// The text form: `BLOCKED[kind]: detail (resource: X)`.
    pub fn message(self, detail: &str, resource: Option<&str>) -> String {
        match resource {
            Some(resource) => format!("BLOCKED[{self}]: {detail} (resource: {resource})"),
            None => format!("BLOCKED[{self}]: {detail}"),
        }
    }
}

impl fmt::Display for BlockerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an error text means; `None` for a text without anything but white space.
///
/// `BLOCKED[kind]` anywhere goes before the table, the first row of the table that matches decides, and what matches
/// none is `unknown`. ASCII case does not count. Linear in the text.
pub fn classify(text: &str) -> Option<Classification> {
    if text.trim().is_empty() {
        return None;
    }
    let found = BlockerKind::find(text).map(meaning::blocked).or_else(|| first(text, |_| true));
    Some(found.unwrap_or(meaning::UNKNOWN))
}

/// What a recorded failure means. Total: every reason has an answer, whatever its text.
pub fn classify_failure(failure: &Failure) -> Classification {
    let text = failure.message.as_str();
    // The text may quote the agent or a command, so it decides only among what its reason leaves open.
    let among = |codes: &[&str], otherwise| first(text, |rule| codes.contains(&rule.code())).unwrap_or(otherwise);
    let adapter = || first_in(ADAPTERS, text);
    let any = |otherwise| match classify(text) {
        Some(found) if found != meaning::UNKNOWN => found,
        Some(_) | None => adapter().unwrap_or(otherwise),
    };
    match failure.reason {
        FailureReason::Preflight => any(meaning::PREFLIGHT),
        FailureReason::Hydration => any(meaning::HYDRATION),
        FailureReason::Guardrail => among(&["content_policy"], meaning::GUARDRAIL),
        FailureReason::SessionStart => any(meaning::SESSION_START),
        FailureReason::SessionLost => among(&["session_never_started"], meaning::SESSION_LOST),
        FailureReason::RepoSetup => any(meaning::REPO_SETUP),
        FailureReason::MaxTurns => meaning::MAX_TURNS,
        FailureReason::Budget => meaning::BUDGET,
        FailureReason::CircuitBreaker => meaning::CIRCUIT_BREAKER,
        FailureReason::Model => {
            adapter().unwrap_or_else(|| among(&["model_unavailable", "stream_ended"], meaning::MODEL))
        }
        FailureReason::Refusal => meaning::REFUSAL,
        FailureReason::Verification => {
            among(&["build_infra", "command_timeout", "build_timeout"], meaning::VERIFICATION)
        }
        FailureReason::Delivery => adapter().unwrap_or_else(|| among(&["deliverable_lost"], meaning::NO_PULL_REQUEST)),
        FailureReason::Infrastructure => adapter().unwrap_or(meaning::INFRASTRUCTURE),
        FailureReason::Blocked => {
            meaning::blocked(BlockerKind::find(text).unwrap_or(BlockerKind::UnknownEnvironmental))
        }
        FailureReason::Deadline => among(
            &[
                "never_prepared",
                "session_never_started",
                "queue_timeout",
                "upload_window",
                "approval_stranded",
                "stranded",
            ],
            meaning::DEADLINE,
        ),
    }
}

fn first(text: &str, wanted: impl Fn(&Rule) -> bool) -> Option<Classification> {
    let lower = text.to_ascii_lowercase();
    TABLE.iter().find(|rule| wanted(rule) && rule.matches_lower(&lower)).map(Rule::verdict)
}

fn first_in(table: &[Rule], text: &str) -> Option<Classification> {
    let lower = text.to_ascii_lowercase();
    table.iter().find(|rule| rule.matches_lower(&lower)).map(Rule::verdict)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn code(text: &str) -> &'static str {
        classify(text).unwrap().code
    }

    /// One text for every row, in the order of the table, as the reference and this platform write them.
    const TEXTS: &[(&str, &str)] = &[
        ("preflight: INSUFFICIENT_GITHUB_REPO_PERMISSIONS", "forge_permissions"),
        ("REPO_NOT_FOUND_OR_NO_ACCESS: acme/x", "repo_not_found"),
        ("PR_NOT_FOUND_OR_CLOSED: #4", "pull_request_closed"),
        ("ISSUE_NOT_FOUND: #4", "issue_not_found"),
        ("REPO_EMPTY: acme/x", "repo_empty"),
        ("NO_BASE_BRANCH: acme/x", "base_branch"),
        ("BASE_BRANCH_NOT_FOUND: `mian`; it has `fix-github_unreachable`", "base_branch"),
        ("BRANCH_IN_THE_WAY: `bgagent`", "branch_in_the_way"),
        ("MODEL_PRICE_UNKNOWN: set a price", "model_price_unknown"),
        ("MODEL_NOT_CONFIGURED: set ANTHROPIC_API_KEY", "model_not_usable"),
        ("MODEL_NOT_USABLE: no such provider", "model_not_usable"),
        ("Token cannot push to acme/x", "token_cannot_push"),
        ("Token cannot interact with pull requests on acme/x", "token_cannot_push"),
        ("GITHUB_UNREACHABLE: HTTP 401 Bad credentials", "forge_credential"),
        ("GitHub API returned HTTP 401", "forge_credential"),
        ("GitHub API returned HTTP 403", "forge_forbidden"),
        ("GitHub API returned HTTP 403: secondary rate limit", "forge_http"),
        ("GITHUB_UNREACHABLE: connection reset", "forge_unreachable"),
        ("GitHub API returned HTTP 422", "forge_rejected"),
        ("GitHub API returned HTTP 429", "forge_http"),
        ("GitHub API returned HTTP 502", "forge_http"),
        ("User concurrency limit reached", "concurrency_limit"),
        ("TaskDefinition is inactive", "task_definition_inactive"),
        ("Lambda MicroVM is not available in eu-north-1", "microvm_region"),
        ("MicroVM substrate terminated before a result", "microvm_terminated"),
        ("MicroVM run failed: ServiceQuotaExceededException", "microvm_quota"),
        ("ServiceQuotaExceededException: MicroVM start failed", "microvm_quota"),
        ("MicroVM run failed: TooManyRequestsException", "microvm_throttled"),
        ("MicroVM run failed: ResourceNotFoundException", "microvm_missing"),
        ("Session start failed: start: no sandbox: no bubblewrap", "no_sandbox"),
        ("Session start failed: throttled", "session_start_failed"),
        ("ECS container failed: OOM", "ecs_failed"),
        ("ECS task exited successfully without a terminal status", "ecs_silent_exit"),
        ("ECS poll failed 3 consecutive times", "ecs_poll"),
        ("Session never started — poll timeout exceeded while still HYDRATING", "session_never_started"),
        ("Agent session lost: no recent heartbeat from the agent", "session_lost"),
        ("claude: Exec format error", "agent_binary"),
        ("SDK stream ended without a result message", "stream_ended"),
        ("Task did not succeed (agent_status='error_max_turns', build_ok=True)", "max_turns"),
        ("agent_status=error_max_budget_usd", "budget"),
        ("subtype=error_during_execution", "agent_execution"),
        ("Task did not succeed (agent_status=success, build_ok=infra)", "build_infra"),
        ("deliverable=lost", "deliverable_lost"),
        ("deliverable=no_pr", "no_pull_request"),
        ("Task did not succeed (agent_status=success, build_ok=False)", "not_succeeded"),
        ("receive_response() failed: broken pipe", "agent_connection"),
        ("Guardrail blocked: PROMPT_ATTACK", "guardrail_blocked"),
        ("violates the content policy", "content_policy"),
        ("model anthropic.claude is not available on Bedrock in this account", "model_unavailable"),
        ("Blueprint config load failed: timeout", "blueprint_load"),
        ("Hydration failed: memory timed out", "hydration_failed"),
        ("TimeoutExpired: Command 'x' timed out after 1800 seconds", "command_timeout"),
        ("Command 'mise run build' timed out", "build_timeout"),
        (
            "HYDRATING for 20 m 00 s: its deadline passed; preparation failed 9 times, the last time with: no",
            "never_prepared",
        ),
        ("Orchestrator poll timeout exceeded while awaiting approval", "deadline"),
        ("Admission queue timeout: task waited 86412s", "queue_timeout"),
        ("Upload window expired (30 minutes)", "upload_window"),
        ("Approval stranded: no decision for 7200s", "approval_stranded"),
        ("Stranded in SUBMITTED for 1300s", "stranded"),
        ("the dog ate it", "unknown"),
    ];

    #[test]
    fn every_row_is_reached_by_its_text_in_any_case() {
        for (text, expected) in TEXTS {
            assert_eq!(code(text), *expected, "{text}");
            assert_eq!(code(&text.to_uppercase().to_ascii_lowercase()), *expected, "{text}");
            assert_eq!(code(&format!("task 01J failed: {text} (attempt 3 of 3)")), *expected, "{text}");
        }
        for rule in TABLE {
            assert!(TEXTS.iter().any(|(_, c)| *c == rule.code()), "no text reaches {}", rule.code());
        }
    }

    #[test]
    fn the_order_decides_between_rows() {
        for (text, expected) in [
            ("Session never started — poll timeout exceeded", "session_never_started"),
            ("Hydration failed: guardrail blocked the prompt", "guardrail_blocked"),
            ("Task did not succeed (agent_status=error_max_turns, build_ok=infra)", "max_turns"),
            ("Session start failed: MicroVM run failed: ThrottlingException", "microvm_throttled"),
            ("GITHUB_UNREACHABLE: GitHub API returned HTTP 503", "forge_unreachable"),
            ("BLOCKED[auth_failure]: GitHub API returned HTTP 503", "blocked_auth_failure"),
        ] {
            assert_eq!(code(text), expected, "{text}");
        }
    }

    #[test]
    fn blockers_are_found_anywhere_and_unknown_kinds_are_environmental() {
        for kind in BlockerKind::ALL {
            let text = format!("error: {}", kind.message("no registry token", Some("NPM_TOKEN")));
            let found = classify(&text).unwrap();
            assert_eq!(found.code, format!("blocked_{kind}"));
            assert_eq!(found.category, Category::Blocked);
            assert_eq!(found.retryable, kind == BlockerKind::DependencyUnreachable, "{kind}");
        }
        assert_eq!(code("blocked[Martians]: they came"), "blocked_unknown_environmental");
        assert_eq!(code("BLOCKED[half"), "unknown");
    }

    #[test]
    fn nothing_is_both_passing_and_not_retryable() {
        let failures = FAILURE_REASONS.iter().map(|r| classify_failure(&Failure::new(*r, "")));
        let blocked = BlockerKind::ALL.map(meaning::blocked);
        let all = TABLE.iter().chain(ADAPTERS).map(Rule::verdict).chain(failures).chain(blocked);
        for c in all {
            assert!(c.class != Class::Transient || c.retryable, "{c:?}");
            for words in [c.title, c.description, c.remedy] {
                assert!(!words.is_empty() && !words.ends_with('.'), "{c:?}");
            }
        }
    }

    #[test]
    fn the_references_contradictions_are_settled() {
        let timed_out = classify("Orchestrator poll timeout exceeded").unwrap();
        assert_eq!((timed_out.retryable, timed_out.class), (false, Class::User));
        let credential = classify("GITHUB_UNREACHABLE: HTTP 401").unwrap();
        assert_eq!(
            (credential.category, credential.retryable, credential.class),
            (Category::Auth, false, Class::Service)
        );
    }

    #[test]
    fn empty_text_has_no_meaning() {
        assert_eq!(classify(""), None);
        assert_eq!(classify(" \n\t"), None);
    }

    const FAILURE_REASONS: [FailureReason; 16] = [
        FailureReason::Preflight,
        FailureReason::Hydration,
        FailureReason::Guardrail,
        FailureReason::SessionStart,
        FailureReason::SessionLost,
        FailureReason::RepoSetup,
        FailureReason::MaxTurns,
        FailureReason::Budget,
        FailureReason::CircuitBreaker,
        FailureReason::Model,
        FailureReason::Refusal,
        FailureReason::Verification,
        FailureReason::Delivery,
        FailureReason::Infrastructure,
        FailureReason::Blocked,
        FailureReason::Deadline,
    ];

    #[test]
    fn every_reason_has_a_meaning_of_its_own_without_a_text() {
        let codes: Vec<_> =
            FAILURE_REASONS.iter().map(|r| classify_failure(&Failure::new(*r, "the dog ate it")).code).collect();
        assert_eq!(
            codes,
            [
                "preflight_failed",
                "hydration_failed",
                "guardrail_blocked",
                "session_start_failed",
                "session_lost",
                "repo_setup_failed",
                "max_turns",
                "budget",
                "circuit_breaker",
                "model_failed",
                "model_refused",
                "verification_failed",
                "no_pull_request",
                "infrastructure",
                "blocked_unknown_environmental",
                "deadline",
            ]
        );
    }

    #[test]
    fn the_text_refines_a_reason_but_does_not_overrule_it() {
        let of = |reason, text: &str| classify_failure(&Failure::new(reason, text)).code;
        assert_eq!(of(FailureReason::Preflight, "repository: access denied: HTTP 401"), "access_denied");
        assert_eq!(of(FailureReason::Preflight, "REPO_NOT_FOUND_OR_NO_ACCESS"), "repo_not_found");
        assert_eq!(
            of(FailureReason::Model, "the model could not be called: converse: throttled: slow down"),
            "throttled"
        );
        assert_eq!(of(FailureReason::Model, "replay: replay departed: turn 3"), "replay_departed");
        assert_eq!(
            of(FailureReason::SessionStart, "Session start failed: start: no sandbox: no bubblewrap"),
            "no_sandbox"
        );
        assert_eq!(
            of(FailureReason::Verification, "test printed: concurrency limit, GITHUB_UNREACHABLE"),
            "verification_failed"
        );
        assert_eq!(of(FailureReason::Verification, "Task did not succeed (build_ok=infra)"), "build_infra");
        let unprepared = "HYDRATING for 20 m 00 s: its deadline passed; preparation failed once, the last time with: \
                          GITHUB_UNREACHABLE";
        assert_eq!(of(FailureReason::Deadline, unprepared), "never_prepared");
        assert_eq!(of(FailureReason::Deadline, "Admission queue timeout: task waited 24 h"), "queue_timeout");
        assert_eq!(of(FailureReason::Budget, "GITHUB_UNREACHABLE"), "budget");
    }

    proptest! {
        #[test]
        fn any_text_has_a_meaning(text in ".*") {
            prop_assert_eq!(classify(&text).is_none(), text.trim().is_empty());
            for reason in FAILURE_REASONS {
                classify_failure(&Failure::new(reason, &text));
            }
        }
    }
}
