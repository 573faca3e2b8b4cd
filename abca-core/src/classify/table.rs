//! The rows for texts of the platform and of the reference, as data.

use super::meaning::*;
use super::rule::{Rule, row};

/// The rows, first match wins. Numbers are those of `behaviour.md` 7.2; rows without one close its gaps.
pub const TABLE: &[Rule] = &[
    // 1
    row(
        &[&["insufficient_github_repo_permissions"]],
        means(
            "forge_permissions",
            AUTH_SERVICE,
            "Not enough rights on the repository",
            "The platform's credential may not write to this repository",
            "Give the credential write access to contents and pull requests",
        ),
    ),
    // 2
    row(
        &[&["repo_not_found_or_no_access"]],
        means(
            "repo_not_found",
            AUTH_SERVICE,
            "Repository not found or not visible",
            "There is no such repository, or the platform's credential may not see it",
            "Check the repository's name, and that the credential covers it",
        ),
    ),
    // 3
    row(
        &[&["pr_not_found_or_closed"]],
        means(
            "pull_request_closed",
            AUTH_USER,
            "Pull request not found or closed",
            "The pull request does not exist or is not open",
            "Check its number, or reopen it",
        ),
    ),
    // Codes of this platform's own pre-flight checks. What they say may hold names of branches: they come before 4.
    row(
        &[&["issue_not_found"]],
        means(
            "issue_not_found",
            AUTH_USER,
            "Issue not found",
            "The repository has no such issue, or it cannot be seen",
            "Check the issue's number, or describe the task in words",
        ),
    ),
    row(
        &[&["repo_empty"]],
        means(
            "repo_empty",
            CONFIG_USER,
            "Repository without commits",
            "There is nothing to start from",
            "Make a first commit, then submit again",
        ),
    ),
    row(
        &[&["no_base_branch", "base_branch_not_found"]],
        means(
            "base_branch",
            CONFIG_USER,
            "No such branch to start from",
            "The branch that the work was to start from does not exist",
            "Name one of the branches in the error as `base_branch`, and submit again",
        ),
    ),
    row(
        &[&["branch_in_the_way"]],
        means(
            "branch_in_the_way",
            CONFIG_USER,
            "A branch is in the way",
            "The task's own branch cannot be made beside one that the repository has",
            "Rename or delete the branch that the error names, and submit again",
        ),
    ),
    row(
        &[&["model_price_unknown"]],
        means(
            "model_price_unknown",
            CONFIG_USER,
            "Budget without a price",
            "No price is known for the model, so that a budget cannot be kept",
            "Set the model's price, choose a model with one, or submit without a budget",
        ),
    ),
    row(
        &[&["model_not_configured", "model_not_usable"]],
        means(
            "model_not_usable",
            CONFIG_USER,
            "Model cannot be used",
            "The model of the task is not configured on this worker, or is not one that it knows",
            "Set what the error names, or choose another model",
        ),
    ),
    // 4
    row(
        &[&["token cannot push to", "interact with pull requests on"]],
        means(
            "token_cannot_push",
            AUTH_SERVICE,
            "Credential may not push",
            "The platform's credential lacks the right to push or to work with pull requests",
            "Give the credential write access to contents and pull requests",
        ),
    ),
    // Before 5 and 6: a refused credential looks like an unreachable forge there.
    row(
        &[&["github"], &["http 401", "status 401", "401 unauthorized", "bad credentials"]],
        means(
            "forge_credential",
            AUTH_SERVICE,
            "Credential refused by the forge",
            "The forge answered, and did not accept the platform's credential",
            "Renew the credential: it is wrong, expired or revoked",
        ),
    ),
    row(
        &[&["github api returned http 403", "github api returned http 404"]],
        means(
            "forge_forbidden",
            AUTH_SERVICE,
            "Forbidden by the forge",
            "The forge answered that the credential may not do or see this",
            "Give the credential the right that is missing, or correct the repository's name",
        ),
    )
    .unless(&["rate limit"]),
    // 5
    row(
        &[&["github_unreachable"]],
        means(
            "forge_unreachable",
            NETWORK,
            "Forge not reachable",
            "The forge did not answer",
            "Submit again in a few minutes; check the forge's status page",
        ),
    ),
    row(
        &[&["github api returned http 400", "github api returned http 410", "github api returned http 422"]],
        means(
            "forge_rejected",
            CONFIG,
            "Request rejected by the forge",
            "The forge did not accept what was asked of it",
            "Read the forge's answer in the task's events; the same request will be rejected again",
        ),
    ),
    // 6
    row(
        &[&["github api returned http 4", "github api returned http 5"]],
        means(
            "forge_http",
            NETWORK,
            "Forge answered with an error",
            "The forge is limiting requests or has a fault of its own",
            "Submit again in a few minutes",
        ),
    ),
    // 7
    row(
        &[&["concurrency limit"]],
        means(
            "concurrency_limit",
            CONCURRENCY,
            "Too many tasks at once",
            "A cap on concurrent tasks was reached",
            "Wait until a running task ends, or cancel one",
        ),
    ),
    // 8
    row(
        &[&["taskdefinition is inactive"]],
        means(
            "task_definition_inactive",
            COMPUTE,
            "Compute is being replaced",
            "The backend's task definition was replaced while the task started",
            "Submit again in a minute",
        ),
    ),
    // 9
    row(
        &[&["microvm"], &["not available in", "not supported in", "could not resolve", "unresolved", "getaddrinfo"]],
        means(
            "microvm_region",
            CONFIG,
            "Compute not available in this region",
            "The backend does not exist in the configured region",
            "Choose a region that has it, or another compute strategy",
        ),
    ),
    // 10
    row(
        &[&["microvm"], &["terminated before"]],
        means(
            "microvm_terminated",
            COMPUTE,
            "Session ended early",
            "The virtual machine ended before the agent reported a result",
            "Submit again; if it happens twice, give the session more memory",
        ),
    ),
    // 11
    row(
        &[&["microvm"], &["failed"], &["servicequotaexceededexception"]],
        means(
            "microvm_quota",
            COMPUTE,
            "Quota of the backend used up",
            "The account's quota of virtual machines is used up",
            "Submit again later, or ask for a higher quota",
        ),
    ),
    // 12
    row(
        &[&["microvm"], &["failed"], &["throttling", "toomanyrequests"]],
        means(
            "microvm_throttled",
            COMPUTE,
            "Backend is limiting requests",
            "The backend got too many requests at once",
            "Submit again in a minute",
        ),
    ),
    // 13
    row(
        &[&["microvm"], &["failed"], &["resourcenotfoundexception"]],
        means(
            "microvm_missing",
            CONFIG,
            "Compute is not set up",
            "A resource that the backend needs does not exist",
            "Deploy the compute strategy again",
        ),
    ),
    // Before 14: walls that cannot be had do not come with time.
    row(&[&["session start failed"], &[": no sandbox:"]], NO_SANDBOX),
    // 14
    row(&[&["session start failed"]], SESSION_START),
    // 15
    row(
        &[&["ecs container failed"]],
        means(
            "ecs_failed",
            COMPUTE,
            "Container failed",
            "The session's container failed",
            "Submit again; if it fails twice, look at the container's logs",
        ),
    ),
    // 16
    row(
        &[&["ecs"], &["exited"], &["without"], &["terminal status"]],
        means(
            "ecs_silent_exit",
            COMPUTE,
            "Container ended without a result",
            "The session's container ended well but the task has no result",
            "Submit again; if it happens twice, look at the container's logs",
        ),
    ),
    // 17
    row(
        &[&["ecs poll failed"], &["consecutive"]],
        means(
            "ecs_poll",
            COMPUTE,
            "Container could not be observed",
            "The backend did not answer several times in a row",
            "Submit again in a few minutes",
        ),
    ),
    // 18, before 36 by order
    row(
        &[&["session never started"]],
        means(
            "session_never_started",
            COMPUTE,
            "Session never started",
            "The session did not report to the platform in time",
            "Submit again; if it fails twice, look at the backend's health",
        ),
    ),
    // 19
    row(&[&["agent session lost"]], SESSION_LOST),
    // 20
    row(
        &[&["claude"], &["exec format error", "native binary"]],
        means(
            "agent_binary",
            COMPUTE,
            "Agent program could not run",
            "The agent's program is missing or built for another machine",
            "Submit again; if it fails twice, rebuild the session's image for its architecture",
        ),
    ),
    // 21
    row(
        &[&["stream ended without"], &["result"]],
        means(
            "stream_ended",
            AGENT,
            "Agent ended without a result",
            "The agent's stream ended before its result",
            "Submit again",
        ),
    ),
    // 22
    row(&[&["agent_status", "subtype"], &["error_max_turns"]], MAX_TURNS),
    // 23
    row(&[&["agent_status", "subtype"], &["error_max_budget_usd"]], BUDGET),
    // 24
    row(
        &[&["agent_status", "subtype"], &["error_during_execution"]],
        means(
            "agent_execution",
            AGENT,
            "Agent failed while working",
            "The agent met an error of its own while it worked",
            "Submit again; if it fails twice, read the task's events",
        ),
    ),
    // 25
    row(
        &[&["task did not succeed"], &["build_ok=infra"]],
        means(
            "build_infra",
            COMPUTE,
            "Machine failed while building",
            "The build ended for want of memory or disk, not for a fault in the code",
            "Submit again, with more memory or disk for the session",
        ),
    ),
    // 26
    row(
        &[&["deliverable=lost"]],
        means(
            "deliverable_lost",
            AGENT,
            "Work was lost",
            "The agent said that it succeeded but no commit reached the branch",
            "Submit again",
        ),
    ),
    // 27
    row(&[&["deliverable=no_pr"]], NO_PULL_REQUEST),
    // 28
    row(
        &[&["task did not succeed"], &["agent_status="]],
        means(
            "not_succeeded",
            AGENT_USER,
            "Task did not succeed",
            "The agent ended without success, or its change broke the build",
            "Read the task's events and its branch; make the description more precise, and submit again",
        ),
    ),
    // 29
    row(
        &[&["receive_response() failed"]],
        means(
            "agent_connection",
            AGENT,
            "Connection to the agent broke",
            "The platform lost its connection to the agent's program",
            "Submit again",
        ),
    ),
    // 30
    row(&[&["guardrail blocked"]], GUARDRAIL),
    // 31
    row(
        &[&["content policy"]],
        means(
            "content_policy",
            GUARDRAIL_USER,
            "Against the content policy",
            "The provider's content policy does not allow this text",
            "Change the description or the issue, and submit again",
        ),
    ),
    // 32
    row(
        &[&["model"], &["not available"], &["bedrock"]],
        means(
            "model_unavailable",
            CONFIG,
            "Model not available",
            "The model is not enabled for this account or region",
            "Enable the model, or choose another",
        ),
    ),
    // 33
    row(
        &[&["blueprint config load failed"]],
        means(
            "blueprint_load",
            CONFIG_RETRY,
            "Repository settings could not be read",
            "The repository's blueprint could not be read, or is invalid",
            "Repair the blueprint, and submit again",
        ),
    ),
    // 34; what a guardrail blocked went to 30
    row(&[&["hydration failed"]], HYDRATION).unless(&["guardrail blocked"]),
    // 35
    row(
        &[&["timeoutexpired"], &["timed out after"]],
        means(
            "command_timeout",
            TIMEOUT_RETRY,
            "A command took too long",
            "A command did not end within its time limit",
            "Make the command faster, or raise its time limit",
        ),
    ),
    row(
        &[&["command"], &["build"], &["timed out"]],
        means(
            "build_timeout",
            TIMEOUT_RETRY,
            "The build took too long",
            "The build command did not end within its time limit",
            "Make the build faster, or raise its time limit",
        ),
    ),
    // Before 36: not the work took too long, but what it needs could not be read.
    row(
        &[&["its deadline passed; preparation failed"]],
        means(
            "never_prepared",
            TIMEOUT_TRANSIENT,
            "Preparation never succeeded",
            "What the task needs before its session could not be read until its deadline passed",
            "Read in the error what failed last, and submit again once that answers",
        ),
    ),
    // 36
    row(&[&["poll timeout exceeded", "its deadline passed"]], DEADLINE),
    // The gaps of `behaviour.md` 1.11-9.
    row(
        &[&["admission queue timeout"]],
        means(
            "queue_timeout",
            CONCURRENCY,
            "Waited too long in the queue",
            "No slot became free within the longest wait",
            "Submit again when fewer tasks run, or ask for a higher cap",
        ),
    ),
    row(
        &[&["upload window expired"]],
        means(
            "upload_window",
            TIMEOUT_RETRY,
            "Attachments did not arrive in time",
            "The attachments were not uploaded and confirmed within the upload window",
            "Submit again, upload the attachments and confirm them",
        ),
    ),
    row(
        &[&["approval stranded"]],
        means(
            "approval_stranded",
            TIMEOUT_RETRY,
            "Approval was never decided",
            "The task waited for a human who did not answer",
            "Submit again and answer the request, or approve its scope in advance",
        ),
    ),
    row(
        &[&["stranded"]],
        means(
            "stranded",
            COMPUTE,
            "Task was stranded",
            "No worker took the task on, or its worker was lost",
            "Submit again; if it happens twice, check that a worker runs",
        ),
    ),
];
