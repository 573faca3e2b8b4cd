//! A session from its registration to its report: the pipeline around the agent loop.

use std::path::PathBuf;
use std::sync::Arc;

use abca_core::SessionId;
use abca_core::compute::{NetworkMode, SandboxMode, StartSession};
use abca_core::egress::EgressMode;
use abca_core::event::{EventType, NewEvent};
use abca_core::git::GitProvider;
use abca_core::link::SessionLink;
use abca_core::mcp::McpSettings;
use abca_core::model::ModelClient;
use abca_core::policy::PolicyEngine;
use abca_core::session::{Breaker, SessionState};
use abca_core::task::{Failure, FailureReason, Task, Verdict};
use abca_core::text::Screen;
use abca_core::time::Clock;
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use super::journal::{Abort, Ears, Journal, heartbeat, listen};
use super::pipeline::Pipeline;
use super::report::{Outcome, report_of};
use super::workspace::HandsProgram;
#[cfg(feature = "web")]
use crate::egress::Interception;
use crate::egress::{Credentials, Gate, Ledger, ProxyLimits, SystemResolver};

/// How often a session says that it lives when it has nothing else to say. Well below the reference's 45 s.
const HEARTBEAT: std::time::Duration = std::time::Duration::from_secs(10);

/// The session ended in order: its report is with the platform.
pub const EXIT_REPORTED: i32 = 0;
/// The platform does not expect this session; nothing was done.
pub const EXIT_REFUSED: i32 = 3;
/// The platform could not be reached; nothing more was done.
pub const EXIT_NO_LINK: i32 = 4;

/// What a session works with.
#[derive(Debug, Clone)]
pub struct SessionParts {
    /// The way to the platform.
    pub link: Arc<dyn SessionLink>,
    /// The forge.
    pub git: Arc<dyn GitProvider>,
    /// The model.
    pub model: Arc<dyn ModelClient>,
    /// Its name, as `provider:id`.
    pub model_name: String,
    /// Its id with the provider.
    pub model_id: String,
    /// MCP servers, for tasks whose tier of tools is `elevated`.
    pub mcp: McpSettings,
    /// Judges tool calls.
    pub policy: Arc<dyn PolicyEngine>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where workspaces are made, one folder per task.
    pub work_root: PathBuf,
    /// The user's home folder: hidden from the hands but for its toolchains.
    pub home: Option<PathBuf>,
    /// What the hands must not see on top of the homes, e.g. the state folder.
    pub hidden: Vec<PathBuf>,
    /// Who serves the hands.
    pub program: HandsProgram,
    /// Secrets that this process knows: they are taken out of whatever the model or a log would see.
    pub secrets: Vec<SecretString>,
    /// Most tokens of one answer.
    pub max_output_tokens: u32,
}

/// Runs one session to its end. Answers its exit status.
///
/// `stop` is a wish to end from outside, e.g. SIGTERM: the work is saved at the hidden ref, and a report says
/// `cancelled`.
pub async fn run_session(start: StartSession, parts: SessionParts, stop: CancellationToken) -> i32 {
    let session = start.session.clone();
    let way_out = match WayOut::of(&start) {
        Ok(way_out) => way_out,
        Err(failure) => return fail_session(start, parts.link, failure).await,
    };
    exit_status(&session, session_life(start, parts, way_out, stop).await)
}

/// Runs a session that cannot be set up: it registers, reports why it failed, and ends. Answers its exit status.
///
/// So its task fails at once and with the reason, where a session without a word would be tried again.
pub async fn fail_session(start: StartSession, link: Arc<dyn SessionLink>, failure: Failure) -> i32 {
    let reported = async {
        let registered = link.register(start.task, &start.session).await?;
        let state = SessionState::fold(&registered.log);
        let screen = Screen::default().with_known(start.secrets.values().cloned());
        let report = report_of(start.task, &state, &screen, Verdict::Failed, Some(failure), Outcome::default());
        link.report(start.task, &start.session, &report).await
    };
    exit_status(&start.session, reported.await.map_err(Abort::from))
}

fn exit_status(session: &SessionId, done: Result<(), Abort>) -> i32 {
    match done {
        Ok(()) => EXIT_REPORTED,
        Err(Abort::Refused(why)) => {
            tracing::warn!(%session, %why, "the platform refuses this session");
            EXIT_REFUSED
        }
        Err(Abort::Link(error)) => {
            tracing::error!(%session, %error, "the platform cannot be reached");
            EXIT_NO_LINK
        }
    }
}

/// What the egress proxy of a session needs beside its settings.
struct WayOut {
    credentials: Credentials,
    #[cfg(feature = "web")]
    tls: Option<Interception>,
}

impl WayOut {
    fn of(start: &StartSession) -> Result<Self, Failure> {
        let failed = |text: String| Failure::new(FailureReason::Infrastructure, text);
        let egress = &start.limits.egress;
        let credentials =
            Credentials::resolve(&egress.credentials, &start.secrets).map_err(|e| failed(e.to_string()))?;
        #[cfg(feature = "web")]
        let tls = match credentials.intercepted().as_slice() {
            [] => None,
            hosts => Some(Interception::new(hosts, &egress.authorities).map_err(|e| failed(e.to_string()))?),
        };
        Ok(Self {
            credentials,
            #[cfg(feature = "web")]
            tls,
        })
    }

    fn gate(self, start: &StartSession, ledger: Arc<Ledger>) -> Gate {
        let mut settings = start.limits.egress.clone();
        // Commands reach every public host then, so a page may come from there too.
        if start.limits.network_of_hands() == NetworkMode::Host {
            settings.mode = EgressMode::Observe;
        }
        let gate = Gate::new(settings, Arc::new(SystemResolver), ledger, ProxyLimits::default())
            .with_credentials(self.credentials);
        #[cfg(feature = "web")]
        if let Some(tls) = self.tls {
            return gate.with_tls(tls);
        }
        gate
    }
}

async fn session_life(
    start: StartSession,
    mut parts: SessionParts,
    way_out: WayOut,
    stop: CancellationToken,
) -> Result<(), Abort> {
    parts.secrets.extend(way_out.credentials.known());
    parts.secrets.extend(parts.mcp.known());
    let registered = parts.link.register(start.task, &start.session).await?;
    let state = SessionState::fold(&registered.log);
    let screen = match screen_of(&registered.task, &parts.secrets) {
        Ok(screen) => Arc::new(screen),
        Err(failure) => {
            let screen = Screen::default().with_known(parts.secrets.iter().cloned());
            let report = report_of(start.task, &state, &screen, Verdict::Failed, Some(failure), Outcome::default());
            parts.link.report(start.task, &start.session, &report).await?;
            return Ok(());
        }
    };
    let breaker = Breaker::of_log(registered.task.spec.limits.breaker, &registered.log);
    let ears = Ears::new(stop);
    let ear = tokio::spawn(listen(parts.link.clone(), start.task, start.session.clone(), ears.clone()));
    let beat = tokio::spawn(heartbeat(parts.link.clone(), start.task, start.session.clone(), ears.clone(), HEARTBEAT));
    let ledger = Arc::new(Ledger::new(start.task, screen.clone(), parts.clock.clone()));
    let journal =
        Journal::new(parts.link.clone(), parts.clock.clone(), start.task, start.session.clone(), state.len, ears)
            .with_egress(ledger.clone());
    let late = ledger.clone();
    let gate = way_out.gate(&start, ledger);
    let mut pipeline = Pipeline::new(registered.task, start, parts, (state, breaker), journal, screen, Arc::new(gate));
    let done = pipeline.run().await;
    // A session that ends without a report has nobody to tell.
    late.close().iter().for_each(crate::egress::lost);
    beat.abort();
    ear.abort();
    done
}

/// What the operator and the repository's blueprint take out, and the secrets that this process knows.
fn screen_of(task: &Task, known: &[SecretString]) -> Result<Screen, Failure> {
    let built = Screen::builder().config(task.spec.screening.clone()).known(known.iter().cloned()).build();
    built.map_err(|e| Failure::new(FailureReason::Infrastructure, format!("the task's screening cannot be used: {e}")))
}

/// The first event of every session: which walls hold.
pub(crate) fn walls_event(walls: &[String], mode: SandboxMode, now: abca_core::Timestamp) -> NewEvent {
    NewEvent::new(EventType::SessionWalls, now)
        .with("walls", walls.to_vec())
        .with("unsandboxed", mode == SandboxMode::Unsandboxed)
}
