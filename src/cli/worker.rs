//! `worker`: carries out submitted tasks.

use abca_core::store::ListQuery;
use abca_core::task::TaskStatus;
use serde_json::json;

use super::args::WorkerArgs;
use super::common::{Failed, Interrupts, Output, Place, builder, model_settings, session_limits};
use super::guard::guarded;
use super::{is_json, times};
use crate::Abca;
use crate::orchestrator::WorkerConfig;
use crate::tell::tell;

/// How often a worker that is to end looks for work that is left.
const IDLE_LOOK: std::time::Duration = std::time::Duration::from_millis(500);

pub(super) async fn worker(state: Place, output: Output, args: WorkerArgs) -> Result<u8, Failed> {
    let settings = model_settings(args.model.as_deref(), Some(&args.models))?;
    let retention = args.retention.as_deref().map(times::age).transpose()?;
    let mut config = WorkerConfig { retention, ..WorkerConfig::default() };
    (config.caps.total, config.caps.per_user) = (args.max_tasks, args.max_tasks_per_user);
    let builder = guarded(builder(state)?, &args.guard, output)?
        .worker_config(config)
        .policies(super::policy::settings(&args.policies)?);
    let operator = super::common::settings(args.settings.as_deref())?;
    let builder = builder.platform(operator.platform).repositories(operator.repositories);
    let builder = builder.mcp(super::mcp::settings(&args.servers)?);
    let builder = builder.models(settings).session_limits(session_limits(&args.hands)?);
    let abca = super::credential::with_credentials(builder, &args.hands.credential)?.build().await?;
    let ended = endings()?;
    let shown = abca.state_dir().map(|s| s.path().display().to_string()).unwrap_or_default();
    if is_json(output) {
        super::common::say(&json!({ "worker": "started", "state": shown }).to_string());
    } else {
        tell(format_args!("worker on {shown}; Ctrl-C drains and ends it, sessions go on"));
    }
    let interrupted = tokio::select! {
        () = ended => true,
        done = idle(&abca, args.until_idle) => { done?; false }
    };
    abca.shutdown().await;
    Ok(if interrupted { 130 } else { 0 })
}

/// Ends when no task is left to carry out; never when that is not wanted.
async fn idle(abca: &Abca, wanted: bool) -> Result<(), Failed> {
    if !wanted {
        std::future::pending::<()>().await;
    }
    let statuses: Vec<TaskStatus> = TaskStatus::ALL.into_iter().filter(|s| !s.is_terminal()).collect();
    loop {
        let left = abca.list(ListQuery { statuses: statuses.clone(), limit: 1, ..ListQuery::default() }).await?;
        if left.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(IDLE_LOOK).await;
    }
}

/// Ctrl-C, or a polite kill: heard from now on.
fn endings() -> Result<impl Future<Output = ()>, Failed> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupts = Interrupts::listen()?;
    let mut term =
        signal(SignalKind::terminate()).map_err(|e| Failed::new(1, format!("SIGTERM cannot be heard: {e}")))?;
    Ok(async move {
        tokio::select! {
            () = interrupts.next() => {}
            _ = term.recv() => {}
        }
    })
}
