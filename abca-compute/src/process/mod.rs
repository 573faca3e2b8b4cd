//! Sessions as processes of this machine, detached from the worker that starts them.
//!
//! Each session has a folder `<state>/sessions/<session>` (mode 0700) and two processes: a supervisor, and below it the
//! brain, which is the same program. The folder holds no secret:
//!
//! | file | says |
//! | --- | --- |
//! | `stopped` | the tombstone: no start any more |
//! | `start.lock` | locked while somebody starts or stops |
//! | `started` | a start was begun |
//! | `lock` | locked exactly while supervisor or brain live |
//! | `processes.json` | pid and start time of both |
//! | `stderr.log` | the brain's standard error, secrets cut out, at most 1 MiB |
//! | `exit.json` | how it ended |
//!
//! The locks belong to open files, not to pids: no reuse of a pid and no crash can fake a living session. When the
//! brain dies, the supervisor ends every process below it, also those that left session and parent. When the
//! supervisor is killed, the kernel kills the brain, and with it the hands; other processes that the brain had started
//! are found by a variable in their environment and ended by `wait` and `stop`.

mod folder;
mod supervisor;

use std::ffi::OsString;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use async_trait::async_trait;

use abca_core::SessionId;
use abca_core::compute::{
    ComputeCapabilities, ComputeError, ComputeErrorKind, ComputeStrategy, SessionView, StartSession, StopSession,
};

use crate::tree::Pidfd;
use folder::{Folder, Handoff, Who};

pub use supervisor::supervise;

/// The last argument by which the program knows that it is to become a session: its `main` then calls [`supervise`].
pub const SESSION: &str = "__abca-session";

/// The variable that names a session's folder to the brain and what it starts (never to the hands).
pub const SESSION_DIR: &str = "ABCA_SESSION_DIR";

/// Where sessions live, and which program they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessConfig {
    /// Holds one folder per session, e.g. `<state>/sessions`; made when missing.
    pub state_dir: PathBuf,
    /// The program, usually the running one: it gets `args` and then [`SESSION`].
    pub program: PathBuf,
    /// Before [`SESSION`].
    pub args: Vec<String>,
}

/// Runs each session as a detached process under a supervisor. Name `process`.
///
/// Sessions outlive the worker; any other worker over the same folder finds, waits for and stops them. Of the worker's
/// environment a session inherits `PATH`, `HOME`, `LANG`, `LC_*`, `TMPDIR`, `SSL_CERT_*`, the proxy variables and
/// `AWS_*`, nothing else. Token and secrets go through a pipe.
#[derive(Debug, Clone)]
pub struct Process {
    config: ProcessConfig,
}

/// A program that has not taken over a session within this time does not know how to.
const TAKE_OVER_WITHIN: Duration = Duration::from_secs(30);
/// How long the kernel may take to end what was killed.
const KILL_WITHIN: Duration = Duration::from_secs(10);
/// How often to look where there is no process to wait on.
const LOOK_EVERY: Duration = Duration::from_millis(20);

impl Process {
    /// Over a folder and a program.
    pub fn new(config: ProcessConfig) -> Self {
        Self { config }
    }

    fn folder(&self, session: &SessionId) -> Folder {
        Folder::of(&self.config.state_dir, session)
    }

    /// Answers when neither supervisor nor brain live. Ends what a killed supervisor could not. Cancel-safe.
    async fn until_free(&self, folder: &Folder) -> Result<(), ComputeError> {
        while folder.is_held()? {
            match folder.process(Who::Supervisor) {
                Some(supervisor) if supervisor.ended().await.is_ok() => {}
                Some(_) => tokio::time::sleep(LOOK_EVERY).await,
                // Somebody is starting it right now, or copies of the brain hold the lock.
                None if folder.process_names().is_none() => tokio::time::sleep(LOOK_EVERY).await,
                None => self.end_leftovers(folder).await,
            }
        }
        if !folder.has_ended() {
            self.end_leftovers(folder).await;
        }
        Ok(())
    }

    /// Ends processes that nobody supervises any more: usually none.
    async fn end_leftovers(&self, folder: &Folder) {
        while folder.process(Who::Supervisor).is_none() {
            let left = folder.leftovers();
            if left.is_empty() {
                return;
            }
            left.iter().for_each(|process| process.signal(libc::SIGKILL));
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

#[async_trait]
impl ComputeStrategy for Process {
    fn name(&self) -> &'static str {
        "process"
    }

    fn capabilities(&self) -> ComputeCapabilities {
        let mut can = ComputeCapabilities::none();
        can.heartbeats = true;
        can.exit_status = true;
        can.tombstones = true;
        can.outlives_worker = true;
        can.wait = true;
        can.local = true;
        can
    }

    async fn start(&self, request: &StartSession) -> Result<(), ComputeError> {
        let (folder, config, request) = (self.folder(&request.session), self.config.clone(), request.clone());
        // Not cancelled when this future is dropped: the start is carried through, and can be found.
        blocking("start", move || start(&folder, &config, &request)).await
    }

    async fn observe(&self, session: &SessionId) -> Result<SessionView, ComputeError> {
        self.folder(session).view()
    }

    async fn stop(&self, request: &StopSession) -> Result<(), ComputeError> {
        let folder = self.folder(&request.session);
        let for_tombstone = folder.clone();
        blocking("stop", move || for_tombstone.bury()).await?;
        let steps = [
            (Who::Brain, libc::SIGTERM, request.grace_ms.to_std()),
            (Who::Brain, libc::SIGKILL, KILL_WITHIN),
            (Who::Supervisor, libc::SIGKILL, KILL_WITHIN),
        ];
        for (who, signal, within) in steps {
            if !folder.is_held()? {
                break;
            }
            if within.is_zero() {
                continue;
            }
            if let Some(process) = folder.process(who) {
                process.signal(signal);
            }
            // The next step is what follows when this one does not suffice.
            if let Ok(done) = tokio::time::timeout(within, self.until_free(&folder)).await {
                done?;
            }
        }
        if folder.is_held()? {
            let message = format!("session `{}` was killed, but its processes do not end", request.session);
            return Err(ComputeError::new(ComputeErrorKind::Internal, "stop", message));
        }
        self.until_free(&folder).await
    }

    async fn wait(&self, session: &SessionId) -> Result<SessionView, ComputeError> {
        let folder = self.folder(session);
        if folder.view()? == SessionView::Unknown {
            return Ok(SessionView::Unknown);
        }
        self.until_free(&folder).await?;
        folder.view()
    }

    async fn sessions(&self) -> Result<Vec<SessionId>, ComputeError> {
        let state_dir = self.config.state_dir.clone();
        blocking("sessions", move || folder::running(&state_dir)).await
    }
}

async fn blocking<T: Send + 'static>(
    op: &'static str,
    work: impl FnOnce() -> Result<T, ComputeError> + Send + 'static,
) -> Result<T, ComputeError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| ComputeError::new(ComputeErrorKind::Internal, op, "the work did not end well").with_source(e))?
}

fn start(folder: &Folder, config: &ProcessConfig, request: &StartSession) -> Result<(), ComputeError> {
    let _exclusive = folder.make_and_lock()?;
    if folder.is_buried() {
        let message = format!("session `{}` was stopped before", request.session);
        return Err(ComputeError::new(ComputeErrorKind::Stopped, "start", message));
    }
    if folder.was_started() {
        return Ok(());
    }
    let lock = folder.hold()?;
    folder.mark_started()?;
    let outcome = launch(folder, config, request, lock.as_raw_fd());
    if outcome.is_err() {
        folder.unmark_started();
    }
    outcome
}

fn launch(folder: &Folder, config: &ProcessConfig, request: &StartSession, lock: i32) -> Result<(), ComputeError> {
    let problem =
        |kind, message: String| move |e: std::io::Error| ComputeError::new(kind, "start", message).with_source(e);
    let log = folder.log()?;
    let mut command = Command::new(&config.program);
    command.args(&config.args).arg(SESSION).current_dir("/");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
    command.env_clear().envs(inherited()).env(SESSION_DIR, folder.path());
    let prepare = move || {
        // SAFETY: plain integers; async-signal-safe, and only this child is touched.
        unsafe {
            libc::setsid();
            let closed = libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
            if closed < 0 || libc::fcntl(lock, libc::F_SETFD, 0) < 0 {
                return Err(std::io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: the closure allocates nothing and calls only async-signal-safe functions.
    unsafe { command.pre_exec(prepare) };
    let program = config.program.display();
    let mut child =
        command.spawn().map_err(problem(ComputeErrorKind::Invalid, format!("cannot start the program `{program}`")))?;
    let handoff = serde_json::to_vec(&Handoff::new(request, lock)).unwrap_or_default();
    // A program that does not read tells by how it ends.
    if let Some(mut stdin) = child.stdin.take() {
        let _ = stdin.write_all(&handoff);
    }
    let waited = Pidfd::open(child.id().cast_signed()).and_then(|process| process.ended_within(TAKE_OVER_WITHIN));
    if !waited.unwrap_or(false) {
        let _ = child.kill();
    }
    let status = child.wait().map_err(problem(ComputeErrorKind::Internal, "cannot wait for the program".to_owned()))?;
    if status.success() && folder.process_names().is_some() {
        return Ok(());
    }
    let said = folder.end_of_log();
    let message = format!(
        "the program `{program}` did not take over the session ({status}): its `main` must call `abca::init()` first{said}"
    );
    Err(ComputeError::new(ComputeErrorKind::Invalid, "start", message))
}

/// What a session may inherit of the worker's environment.
fn inherited() -> impl Iterator<Item = (OsString, OsString)> {
    const NAMES: &[&str] = &["PATH", "HOME", "LANG", "TMPDIR", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "ALL_PROXY"];
    const BEGINNINGS: &[&str] = &["LC_", "SSL_CERT_", "AWS_"];
    std::env::vars_os().filter(|(name, _)| {
        let Some(name) = name.to_str() else { return false };
        let upper = name.to_ascii_uppercase();
        let proxy = name.ends_with("_proxy") && NAMES.contains(&upper.as_str());
        NAMES.contains(&name) || proxy || BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
    })
}
