//! The brain's own process: what a session started by the `process` strategy runs.

use std::path::PathBuf;
use std::sync::Arc;

use abca_core::compute::StartSession;
use abca_core::link::SessionLink;
use abca_core::mcp::McpSettings;
use abca_core::model::ModelError;
use abca_core::policy::{PolicyError, PolicySettings};
use abca_core::task::{Failure, FailureReason};
use abca_core::text::Screen;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::clock::{OsRandom, SystemClock};
use crate::forge::ForgeSettings;
use crate::link::SocketLink;
use crate::models::ModelSettings;
use crate::session::{HandsProgram, SessionParts, fail_session, run_session, usual_policy};
use crate::tell::{keep_out_of_log, tell};

/// The session does not understand what it was told, so that it cannot even say so to the platform.
pub(crate) const EXIT_SETUP: i32 = 5;

/// What a session's process is told, as JSON on its standard input. No secrets.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BrainPayload {
    /// Where the workers' sockets are.
    pub(crate) link_dir: PathBuf,
    /// Where workspaces are made.
    pub(crate) work_root: PathBuf,
    /// The user's home folder.
    pub(crate) home: Option<PathBuf>,
    /// What the hands must not see.
    pub(crate) hidden: Vec<PathBuf>,
    /// The model of this task, as `provider:id`.
    pub(crate) model: Option<String>,
    /// Where models are.
    pub(crate) models: ModelSettings,
    /// The forge.
    pub(crate) forge: ForgeSettings,
    /// Policies beside the built-in ones.
    #[serde(default)]
    pub(crate) policies: PolicySettings,
    /// MCP servers, their secrets taken out.
    #[serde(default)]
    pub(crate) mcp: McpSettings,
}

/// Runs the session that standard input described. Answers the exit status.
pub(crate) fn run(start: StartSession) -> i32 {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tell(format_args!("abca session: no runtime: {error}"));
            return EXIT_SETUP;
        }
    };
    runtime.block_on(async {
        let payload: BrainPayload = match serde_json::from_str(&start.payload) {
            Ok(payload) => payload,
            // Without it there is no way to the platform.
            Err(error) => {
                tell(format_args!("abca session: the session's payload is not understood: {error}"));
                return EXIT_SETUP;
            }
        };
        let link: Arc<dyn SessionLink> =
            Arc::new(SocketLink::new(&payload.link_dir, start.task, start.session.clone(), start.token.clone()));
        match parts(&start, payload, link.clone()).await {
            Ok(parts) => run_session(start, parts, terminated()).await,
            Err(failure) => {
                tell(format_args!("abca session: {}", failure.message));
                fail_session(start, link, failure).await
            }
        }
    })
}

async fn parts(
    start: &StartSession,
    payload: BrainPayload,
    link: Arc<dyn SessionLink>,
) -> Result<SessionParts, Failure> {
    let clock = Arc::new(SystemClock);
    let policy = usual_policy(&payload.policies).map_err(|e| no_policy(&e))?;
    let models = payload.models.with_secrets(&start.secrets);
    let connected = models
        .connect(payload.model.as_deref(), Arc::new(OsRandom), start.attempt > 1)
        .await
        .map_err(|e| no_model(&e))?;
    let git = payload.forge.connect(clock.clone());
    let git = git.map_err(|e| Failure::new(FailureReason::Infrastructure, format!("no forge: {e}")))?;
    let mut secrets: Vec<_> = start.secrets.values().cloned().collect();
    secrets.push(start.token.clone());
    keep_out_of_log(secrets.iter().cloned());
    Ok(SessionParts {
        link,
        git,
        model: connected.client,
        model_name: connected.name,
        model_id: connected.id,
        mcp: payload.mcp.with_secrets(&start.secrets),
        policy,
        clock,
        work_root: payload.work_root,
        home: payload.home,
        hidden: payload.hidden,
        program: HandsProgram::ThisExecutable,
        secrets,
        max_output_tokens: models.max_output_tokens,
    })
}

/// A model that cannot even be connected: trying again as it is would not help.
pub(crate) fn no_model(error: &ModelError) -> Failure {
    // An address may hold a password.
    let text = Screen::default().scrub(&format!("the model cannot be used: {error}")).text;
    Failure::new(FailureReason::Model, text)
}

/// Policies that cannot be read: trying again as it is would not help.
pub(crate) fn no_policy(error: &PolicyError) -> Failure {
    Failure::new(FailureReason::Infrastructure, format!("no policy: {error}"))
}

/// A token that SIGTERM and SIGINT cancel.
fn terminated() -> CancellationToken {
    use tokio::signal::unix::{SignalKind, signal};
    let stop = CancellationToken::new();
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        match signal(kind) {
            Ok(mut signals) => {
                let stop = stop.clone();
                tokio::spawn(async move {
                    signals.recv().await;
                    stop.cancel();
                });
            }
            Err(error) => tell(format_args!("abca session: a signal cannot be heard: {error}")),
        }
    }
    stop
}
