//! What failures mean that more than one place speaks of: the recorded reasons, and blockers.

use super::{BlockerKind, Category, Class, Classification};

type Kind = (Category, bool, Class);

/// Category, retryable, class; then title, description, remedy.
pub(super) const fn means(
    code: &'static str,
    (category, retryable, class): Kind,
    title: &'static str,
    description: &'static str,
    remedy: &'static str,
) -> Classification {
    Classification { code, category, title, description, remedy, retryable, class }
}

pub(super) const AUTH_SERVICE: Kind = (Category::Auth, false, Class::Service);
pub(super) const AUTH_USER: Kind = (Category::Auth, false, Class::User);
pub(super) const NETWORK: Kind = (Category::Network, true, Class::Transient);
pub(super) const COMPUTE: Kind = (Category::Compute, true, Class::Transient);
pub(super) const COMPUTE_SERVICE: Kind = (Category::Compute, true, Class::Service);
pub(super) const CONCURRENCY: Kind = (Category::Concurrency, true, Class::Transient);
pub(super) const CONFIG: Kind = (Category::Config, false, Class::Service);
pub(super) const CONFIG_RETRY: Kind = (Category::Config, true, Class::Service);
pub(super) const CONFIG_TRANSIENT: Kind = (Category::Config, true, Class::Transient);
pub(super) const CONFIG_USER: Kind = (Category::Config, false, Class::User);
pub(super) const AGENT: Kind = (Category::Agent, true, Class::Transient);
pub(super) const AGENT_USER: Kind = (Category::Agent, false, Class::User);
pub(super) const GUARDRAIL_USER: Kind = (Category::Guardrail, false, Class::User);
pub(super) const TIMEOUT_RETRY: Kind = (Category::Timeout, true, Class::User);
pub(super) const TIMEOUT_TRANSIENT: Kind = (Category::Timeout, true, Class::Transient);
pub(super) const TIMEOUT_FINAL: Kind = (Category::Timeout, false, Class::User);

/// What matches no row.
pub(super) const UNKNOWN: Classification = means(
    "unknown",
    (Category::Unknown, false, Class::User),
    "Unexpected error",
    "The task failed for a reason that has no entry in the table of known errors",
    "Read the error and the task's events; submit again once the cause is clear",
);

pub(super) const PREFLIGHT: Classification = means(
    "preflight_failed",
    CONFIG,
    "Pre-flight check failed",
    "A check before the session found that the task could not succeed",
    "Read which check failed in the event `preflight_failed` and repair what it names",
);
pub(super) const HYDRATION: Classification = means(
    "hydration_failed",
    CONFIG_TRANSIENT,
    "Context could not be assembled",
    "Gathering the issue, the memory or the attachments failed",
    "Submit again; if it fails twice, check that the issue and the attachments can be read",
);
pub(super) const GUARDRAIL: Classification = means(
    "guardrail_blocked",
    GUARDRAIL_USER,
    "Blocked by a guardrail",
    "A guardrail judged the task's text or context unsafe",
    "Remove what reads like an attack or a secret from the description or the issue, and submit again",
);
pub(super) const SESSION_START: Classification = means(
    "session_start_failed",
    COMPUTE,
    "Session could not be started",
    "The compute backend did not start the agent's session",
    "Submit again; if it fails twice, look at the backend's health and quotas",
);
pub(super) const SESSION_LOST: Classification = means(
    "session_lost",
    COMPUTE,
    "Session was lost",
    "The agent's session ended or fell silent before it reported a result",
    "Submit again; if it happens twice, give the session more memory or look at the backend's logs",
);
pub(super) const REPO_SETUP: Classification = means(
    "repo_setup_failed",
    CONFIG_USER,
    "Repository could not be prepared",
    "Cloning the repository or creating the work tree failed",
    "Check that the repository, its base branch and its large files can be cloned, then submit again",
);
pub(super) const MAX_TURNS: Classification = means(
    "max_turns",
    TIMEOUT_RETRY,
    "Turn limit reached",
    "The agent used up its model turns before it had finished",
    "Raise `max_turns`, or split the task; partial work is on the task's branch",
);
pub(super) const BUDGET: Classification = means(
    "budget",
    TIMEOUT_RETRY,
    "Budget used up",
    "The next model call could have cost more than what is left of the budget",
    "Raise the budget, choose a cheaper model, or split the task; partial work is on the task's branch",
);
pub(super) const CIRCUIT_BREAKER: Classification = means(
    "circuit_breaker",
    AGENT_USER,
    "Circuit breaker tripped",
    "The session worked faster, failed more often, spent more quickly or changed more than its breaker allows, and nobody approved that it goes on",
    "Look at the session's log; raise the limit of the breaker that the message names if the work is right, or split the task; partial work is on the task's branch",
);
pub(super) const MODEL: Classification = means(
    "model_failed",
    AGENT,
    "Model call failed",
    "The model could not be called, or its answer could not be used",
    "Submit again; if it fails twice, check the model's name and the provider's status",
);
pub(super) const REFUSAL: Classification = means(
    "model_refused",
    GUARDRAIL_USER,
    "Model refused",
    "The model declined to work on this task",
    "Say what the work is for and leave out what reads as harmful, or choose another model",
);
pub(super) const VERIFICATION: Classification = means(
    "verification_failed",
    AGENT_USER,
    "Build, test or lint is broken",
    "A command that passed before the agent's work does not pass after it",
    "Read the verification in the task's result; say in the description how to build and test, and submit again",
);
pub(super) const NO_PULL_REQUEST: Classification = means(
    "no_pull_request",
    AGENT,
    "No pull request",
    "The agent committed work but no pull request was opened",
    "Submit again, or open a pull request from the task's branch by hand",
);
pub(super) const INFRASTRUCTURE: Classification = means(
    "infrastructure",
    COMPUTE,
    "Environment failed",
    "Disk, memory or the sandbox failed under the session",
    "Submit again; if it fails twice, give the session more memory or disk",
);
pub(super) const DEADLINE: Classification = means(
    "deadline",
    TIMEOUT_FINAL,
    "Task ran out of time",
    "The task did not reach its end within its deadline",
    "Split the task, or raise its deadline; the same task within the same deadline will most likely fail again",
);

/// What a blocker means.
pub(super) const fn blocked(kind: BlockerKind) -> Classification {
    const SERVICE: Kind = (Category::Blocked, false, Class::Service);
    match kind {
        BlockerKind::MissingSecret => means(
            "blocked_missing_secret",
            SERVICE,
            "A secret is missing",
            "The work needs a secret that the session does not have",
            "Provide the secret to the repository's sessions, or change the task so that it needs none",
        ),
        BlockerKind::EgressDenied => means(
            "blocked_egress_denied",
            SERVICE,
            "Network access denied",
            "The work needs a host that the session may not reach",
            "Allow the host for this repository, or vendor what it serves",
        ),
        BlockerKind::DependencyUnreachable => means(
            "blocked_dependency_unreachable",
            (Category::Blocked, true, Class::Transient),
            "A dependency does not answer",
            "A registry or a service that the work needs could not be reached",
            "Submit again once it answers",
        ),
        BlockerKind::PolicyFailClosed => means(
            "blocked_policy_fail_closed",
            SERVICE,
            "Policy engine failed closed",
            "The policy engine could not decide, and so denied",
            "Repair the policy that the event names",
        ),
        BlockerKind::AuthFailure => means(
            "blocked_auth_failure",
            SERVICE,
            "A credential was refused",
            "A service that the work needs did not accept the session's credential",
            "Renew the credential, or give it the right that is missing",
        ),
        BlockerKind::UnknownEnvironmental => means(
            "blocked_unknown_environmental",
            (Category::Blocked, false, Class::User),
            "Blocked by the environment",
            "The environment lacks something that the agent cannot provide by itself",
            "Read what the agent reports, provide it, and submit again",
        ),
    }
}

pub(super) const NO_SANDBOX: Classification = means(
    "no_sandbox",
    CONFIG,
    "No sandbox on this machine",
    "This machine cannot give the walls that the session needs",
    "Install bubblewrap or allow user namespaces; or name the mode `unsandboxed` and accept its risk",
);
