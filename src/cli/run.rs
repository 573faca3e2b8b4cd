//! `run` and `submit`: a task from the command line.

use std::process::Stdio;

use abca_core::Millis;
use abca_core::git::{Numbered, PullRequest};
use abca_core::task::{NewTask, TaskStatus};
use serde_json::json;

use super::args::{RunArgs, SubmitArgs, TaskArgs};
use super::common::{
    Failed, Interrupts, Output, Place, builder, model_name, model_settings, repo_name, say, session_limits, state_dir,
};
use super::credential::with_credentials;
use super::follow::{Followed, follow};
use super::guard::{guarded, guardrail_elsewhere};
use super::{is_json, pr, print_json, show};
use crate::tell::tell;
use crate::{Abca, Settings, TaskHandle, TaskOutcome};

fn new_task(args: &TaskArgs) -> Result<NewTask, Failed> {
    let repo = repo_name(&args.repo)?;
    let mut task = NewTask::new(repo, args.description.clone().unwrap_or_default());
    task.task_description.clone_from(&args.description);
    if let Some(issue) = args.issue {
        task = task.issue(issue);
    }
    if let Some(model) = &args.model {
        task = task.model(model_name(model)?);
    }
    if let Some(turns) = args.max_turns {
        task = task.max_turns(turns);
    }
    if let Some(budget) = &args.budget {
        task = task.budget_usd(budget.clone());
    }
    if let Some(build) = &args.build {
        task = task.build(build.clone());
    }
    if let Some(test) = &args.test {
        task = task.test(test.clone());
    }
    if let Some(lint) = &args.lint {
        task = task.lint(lint.clone());
    }
    if let Some(base) = &args.base {
        task = task.base_branch(base.clone());
    }
    if let Some(seconds) = args.approval_timeout {
        task = task.approval_timeout_s(seconds);
    }
    for scope in &args.approvals {
        task = task.approve(scope.clone());
    }
    if let Some(tier) = args.tools {
        task = task.tools(tier);
    }
    if let Some(limits) = args.breaker {
        task = task.breaker(limits);
    }
    if let Some(key) = &args.idempotency_key {
        task = task.idempotency_key(key.clone());
    }
    Ok(task)
}

/// What the operator of this command line sets, for the task and in the settings file.
fn settings(args: &TaskArgs) -> Result<Settings, Failed> {
    let mut settings = super::common::settings(args.settings.as_deref())?;
    if let Some(seconds) = args.command_timeout {
        settings.platform.limits.command_timeout_ms = Some(Millis::secs(seconds));
    }
    Ok(settings)
}

pub(super) async fn run(state: Place, output: Output, args: RunArgs) -> Result<u8, Failed> {
    let settings = model_settings(args.task.model.as_deref(), Some(&args.models))?;
    // Before anything is submitted: without a model nothing can come of it.
    let usable = if args.task.budget.is_some() { settings.check_budgeted(None) } else { settings.check(None) };
    usable.map_err(|e| Failed::new(2, e.fault.message().to_owned()))?;
    let policies = super::policy::settings(&args.policies)?;
    super::policy::check(&policies)?;
    let mcp = super::mcp::settings(&args.servers)?;
    super::mcp::fits(&mcp, args.task.tools)?;
    let task = new_task(&args.task)?;
    let operator = self::settings(&args.task)?;
    if args.detach {
        return detached(state, output, &args, task).await;
    }
    let builder = guarded(builder(state)?, &args.guard, output)?
        .models(settings)
        .policies(policies)
        .mcp(mcp)
        .session_limits(session_limits(&args.hands)?);
    let builder = with_credentials(builder, &args.hands.credential)?;
    let abca = builder.platform(operator.platform).repositories(operator.repositories).build().await?;
    // From here on there is something to cancel.
    let mut interrupts = Interrupts::listen()?;
    let handle = abca.submit(task).await?;
    attend(&abca, &handle, output, &mut interrupts).await
}

/// Watches a task that this process carries out. Ctrl-C cancels it; a second one leaves at once.
pub(super) async fn attend(
    abca: &Abca,
    handle: &TaskHandle,
    output: Output,
    interrupts: &mut Interrupts,
) -> Result<u8, Failed> {
    if !is_json(output) {
        tell(format_args!("task {}", handle.id()));
    }
    let outcome = match follow(abca, handle, output, interrupts).await? {
        Followed::Ended(outcome) => outcome,
        Followed::Interrupted => {
            if !is_json(output) {
                tell(format_args!("cancelling; Ctrl-C once more leaves at once"));
            }
            handle.cancel().await?;
            let outcome = tokio::select! {
                outcome = handle.outcome() => outcome?,
                () = interrupts.next() => return Ok(130),
            };
            print_outcome(abca, output, &outcome).await?;
            abca.shutdown().await;
            return Ok(130);
        }
    };
    let code = print_outcome(abca, output, &outcome).await?;
    abca.shutdown().await;
    Ok(code)
}

/// Prints how a task ended. Answers the exit status.
pub(super) async fn print_outcome(abca: &Abca, output: Output, outcome: &TaskOutcome) -> Result<u8, Failed> {
    let pr = proposed(abca, outcome).await;
    if is_json(output) {
        let class = outcome.failure.as_ref().map(abca_core::classify::classify_failure);
        print_json(&json!({ "outcome": outcome, "pull_request": pr, "error_classification": class }))?;
    } else {
        show::outcome(outcome, pr.as_ref());
    }
    Ok(u8::from(outcome.status != TaskStatus::Completed))
}

/// The pull request as the forge knows it.
pub(super) async fn proposed(abca: &Abca, outcome: &TaskOutcome) -> Option<PullRequest> {
    let number = outcome.pull_request.as_ref()?.number;
    let repo = abca.task(outcome.task_id).record().await.ok()?.spec.into_inner().repo?;
    pr::forge().ok()?.pull_request(&Numbered { repo, number }).await.ok()
}

pub(super) async fn submit(state: Place, output: Output, args: SubmitArgs) -> Result<u8, Failed> {
    let task = new_task(&args.task)?;
    let operator = settings(&args.task)?;
    let builder = guarded(builder(state)?, &args.guard, output)?.worker(false);
    let abca = builder.platform(operator.platform).repositories(operator.repositories).build().await?;
    let handle = abca.submit(task).await?;
    submitted(&handle, output)
}

fn submitted(handle: &TaskHandle, output: Output) -> Result<u8, Failed> {
    if is_json(output) {
        print_json(&json!({ "task_id": handle.id() }))?;
    } else {
        say(&handle.id().to_string());
    }
    Ok(0)
}

/// Submits, and leaves the work to a worker in the background that ends when nothing is left to do.
async fn detached(state: Place, output: Output, args: &RunArgs, task: NewTask) -> Result<u8, Failed> {
    let limits = session_limits(&args.hands)?;
    let dir = state_dir(state.state.clone())?;
    let store = state.store.clone();
    let mut operator = settings(&args.task)?;
    operator.platform.network = limits.network_of_hands();
    let builder = guarded(builder(state)?, &args.guard, output)?.worker(false);
    let abca = builder.platform(operator.platform).repositories(operator.repositories).build().await?;
    let handle = abca.submit(task).await?;
    let log = dir.join("worker.log");
    let log_file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&log)
        .map_err(|e| Failed::new(1, format!("cannot write `{}`: {e}", log.display())))?;
    let errors = log_file.try_clone().map_err(|e| Failed::new(1, e.to_string()))?;
    let program = std::env::current_exe().map_err(|e| Failed::new(1, format!("cannot find this program: {e}")))?;
    let mut command = std::process::Command::new(program);
    command.arg("--state").arg(&dir).args(["worker", "--until-idle"]);
    if let Some(url) = store {
        // It may hold a password: not for the command line.
        command.env("ABCA_STORE", url.expose());
    }
    command.arg("--network").arg(match args.hands.network {
        super::args::Network::Off => "off",
        super::args::Network::Proxy => "proxy",
        super::args::Network::Host => "host",
    });
    for rule in &args.hands.allow_host {
        command.arg("--allow-host").arg(rule.to_string());
    }
    for credential in &args.hands.credential {
        command.arg("--credential").arg(credential.to_argument()?);
    }
    for file in &args.hands.egress_ca {
        command.arg("--egress-ca").arg(super::common::absolute(file)?);
    }
    match args.hands.egress {
        super::args::Egress::Observe => drop(command.args(["--egress", "observe"])),
        super::args::Egress::Enforce => {}
    }
    if args.hands.unsandboxed {
        command.arg("--unsandboxed");
    }
    command.arg("--guardrail").arg(guardrail_elsewhere(&args.guard)?);
    for file in &args.policies.policy {
        command.arg("--policy").arg(super::common::absolute(file)?);
    }
    for mode in &args.policies.policy_mode {
        command.arg("--policy-mode").arg(mode);
    }
    if let Some(file) = &args.task.settings {
        command.arg("--settings").arg(super::common::absolute(file)?);
    }
    for file in &args.servers.mcp {
        command.arg("--mcp").arg(super::common::absolute(file)?);
    }
    if args.servers.mcp_from_repository {
        command.arg("--mcp-from-repository");
    }
    if let Some(record) = &args.models.record {
        command.arg("--record").arg(super::common::absolute(record)?);
    }
    if let Some(price) = &args.models.price {
        command.arg("--price").arg(price);
    }
    command.stdin(Stdio::null()).stdout(log_file).stderr(errors);
    {
        // A group of its own, so that Ctrl-C in this terminal does not reach it.
        use std::os::unix::process::CommandExt;
        command.process_group(0);
    }
    command.spawn().map_err(|e| Failed::new(1, format!("no worker could be started: {e}")))?;
    if !is_json(output) {
        tell(format_args!(
            "a worker in the background carries it out; `abca watch {}` shows it, its log is {}",
            handle.id(),
            log.display()
        ));
    }
    submitted(&handle, output)
}
