//! Where sessions run: the trait [`ComputeStrategy`] and what a backend says of a session.

use std::fmt;

use async_trait::async_trait;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::egress::EgressSettings;
use crate::error::adapter_error;
use crate::id::{SessionId, TaskId};
use crate::time::{Millis, Timestamp};

adapter_error! {
    /// Why a compute strategy did not do what it was asked.
    ComputeError,
    /// Classes of compute errors.
    ComputeErrorKind {
        /// The backend is not reachable for now.
        Unavailable = "unavailable", true;
        /// A quota or a rate of the backend is used up.
        Throttled = "throttled", true;
        /// This machine cannot give the walls that are asked for.
        NoSandbox = "no sandbox", false;
        /// The session was stopped before: its tombstone refuses a start.
        Stopped = "stopped before", false;
        /// The request cannot be carried out as it is.
        Invalid = "invalid", false;
        /// Something in the backend failed.
        Internal = "internal", true;
    }
}

/// What a backend can do. Liveness is judged by these alone: a backend is never failed for lacking one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ComputeCapabilities {
    /// Its sessions send heartbeats through the link.
    pub heartbeats: bool,
    /// It knows that a session ended, and how.
    pub exit_status: bool,
    /// It can suspend and resume a session.
    pub suspend: bool,
    /// A start after a stop of the same session is refused by the backend itself.
    pub tombstones: bool,
    /// Sessions outlive the worker that started them.
    pub outlives_worker: bool,
    /// [`ComputeStrategy::wait`] answers at the end of a session.
    pub wait: bool,
    /// Only workers on the state folder that started a session can see and stop it.
    pub local: bool,
}

impl ComputeCapabilities {
    /// Nothing but start, observe and stop.
    pub const fn none() -> Self {
        Self {
            heartbeats: false,
            exit_status: false,
            suspend: false,
            tombstones: false,
            outlives_worker: false,
            wait: false,
            local: false,
        }
    }
}

/// How the network of the hands stands.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkMode {
    /// No network at all.
    #[default]
    Off,
    /// None but the egress proxy, which lets through what [`SessionLimits::egress`] allows.
    Proxy,
    /// The host's network, opened by name.
    Host,
}

impl NetworkMode {
    /// Its name in settings, e.g. `proxy`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Proxy => "proxy",
            Self::Host => "host",
        }
    }
}

/// Whether the hands stand behind walls.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SandboxMode {
    /// Refuse to start where walls cannot be had.
    #[default]
    Required,
    /// No walls, by name.
    Unsandboxed,
}

/// What a session may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SessionLimits {
    /// Memory of the hands, all processes together. Default 4 GiB.
    pub memory_bytes: u64,
    /// Processes and threads of the hands. Default 1 024.
    pub processes: u32,
    /// The whole session's life. Default 8 h.
    pub wall_ms: Millis,
    /// Network of the hands. Default off.
    pub network: NetworkMode,
    /// What the egress proxy lets through, where there is one. Default nothing.
    pub egress: EgressSettings,
    /// Walls. Default required.
    pub sandbox: SandboxMode,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            memory_bytes: 4 << 30,
            processes: 1024,
            wall_ms: Millis::secs(8 * 3600),
            network: NetworkMode::Off,
            egress: EgressSettings::default(),
            sandbox: SandboxMode::Required,
        }
    }
}

impl SessionLimits {
    /// How the network of the hands stands in the end: without walls nothing closes it.
    pub const fn network_of_hands(&self) -> NetworkMode {
        match self.sandbox {
            SandboxMode::Required => self.network,
            SandboxMode::Unsandboxed => NetworkMode::Host,
        }
    }
}

/// A start of a session.
#[derive(Debug, Clone)]
pub struct StartSession {
    /// Which: a function of task and attempt.
    pub session: SessionId,
    /// Whose.
    pub task: TaskId,
    /// The attempt, from 1.
    pub attempt: u32,
    /// What the session needs to know, as JSON for the session runtime; carries no secret.
    pub payload: String,
    /// The platform's one credential for it: opens the session link for this task and attempt only.
    pub token: SecretString,
    /// Provider credentials that this backend hands to the brain, by name; never to the hands, argv or environment.
    pub secrets: std::collections::BTreeMap<String, SecretString>,
    /// What it may use.
    pub limits: SessionLimits,
}

/// A stop of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopSession {
    /// Which.
    pub session: SessionId,
    /// What it gets to save its work before everything is killed; zero kills at once.
    pub grace_ms: Millis,
}

/// How a session stands, as its backend sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum SessionView {
    /// The backend has never heard of it.
    Unknown,
    /// It runs, or is about to.
    Running {
        /// The last sign of work that the backend itself has seen, if it looks for any.
        active_at: Option<Timestamp>,
    },
    /// Suspended by the backend; healthy only while a human is awaited.
    Suspended,
    /// It is over, and nothing of it is left.
    Exited {
        /// Exit status, when known.
        code: Option<i32>,
        /// The signal that killed it, when one did.
        signal: Option<i32>,
        /// A last word for people, e.g. the end of its standard error; screened, at most 1 000 characters.
        detail: Option<String>,
    },
}

/// Runs agent sessions somewhere: in this process, a sandboxed local process, a container, a microVM.
///
/// # Contract
/// * `start` is idempotent per session: a second call finds the first session, also one that has ended.
/// * `stop` is absorbing: it succeeds for unknown, running and ended sessions, answers once nothing of the session
///   runs any more, and from then on a `start` of the same session answers [`ComputeErrorKind::Stopped`] (or, without
///   `capabilities().tombstones`, starts a session that the registration gate refuses).
/// * `observe` never changes anything, and finds every session that `start` has begun, also after a restart of the
///   worker when `capabilities().outlives_worker`.
/// * Secrets appear in no argv, environment of the hands, error or log.
/// * **Cancel safety.** Dropping a future leaves no half-started session that `observe` and `stop` cannot find.
#[async_trait]
pub trait ComputeStrategy: fmt::Debug + Send + Sync + 'static {
    /// Short lower-case name for records and logs, e.g. `process`.
    fn name(&self) -> &'static str;

    /// What this backend can do.
    fn capabilities(&self) -> ComputeCapabilities;

    /// Starts a session, or finds it started.
    async fn start(&self, request: &StartSession) -> Result<(), ComputeError>;

    /// How a session stands.
    async fn observe(&self, session: &SessionId) -> Result<SessionView, ComputeError>;

    /// Stops a session and everything it started, for good.
    async fn stop(&self, request: &StopSession) -> Result<(), ComputeError>;

    /// Answers when the session is over, with its last view. Requires `capabilities().wait`. Cancel-safe.
    async fn wait(&self, session: &SessionId) -> Result<SessionView, ComputeError>;

    /// Sessions that may still run: for finding orphans.
    async fn sessions(&self) -> Result<Vec<SessionId>, ComputeError>;
}
