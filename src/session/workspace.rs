//! The two repositories of a session and the hands that work in one of them (`DESIGN.md` section 4).

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use abca_compute::sandbox::{Child, EGRESS_SOCKET, Io, Sandbox, SandboxSpec, default_toolchains};
use abca_core::TaskId;
use abca_core::compute::{ComputeError, NetworkMode, SandboxMode, SessionLimits};
use abca_core::egress::{PROXY_PORT, trust};
use abca_core::git::{GitError, GitErrorKind, GitProvider, RepoRef};
use abca_core::prompt::{ProjectSettings, SETTINGS_PATH};
use abca_core::session::Churn;
use abca_core::task::{Failure, FailureReason};
use abca_git::{Bare, DiffStat, ExecOutput, Git, HandsExec, HandsRepo, ServedGuard, ServedRepo};
use async_trait::async_trait;

use super::hands::{
    Client, ExecEnd, ExecRequest, HANDS_ARG, Hands, HandsConfig, HandsError, HandsErrorKind, Launch, Launched,
};
use crate::egress::{BridgeConfig, Gate, Proxy};
use crate::link::socket;

/// Written last, so that a workspace that was cut short is not taken for a whole one.
const READY: &str = "ready";
/// Most that is read of the project's settings, as of every project file.
const SETTINGS_BYTES: u64 = 64 << 10;
/// Git's own work in the hands may take so long.
const GIT_TIMEOUT: abca_core::Millis = abca_core::Millis::secs(600);

/// Who serves the hands.
#[derive(Debug, Clone)]
pub enum HandsProgram {
    /// This very executable, called with [`HANDS_ARG`], inside the sandbox: its `main` begins with [`crate::init`].
    ThisExecutable,
    /// This process, without walls: only with [`abca_core::compute::SandboxMode::Unsandboxed`].
    InProcess,
}

/// How a workspace came to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Cloned for this task.
    Cloned,
    /// An earlier session of this task left it here, whole.
    Kept,
    /// Made from the checkpoint after that turn, or from a later one.
    Restored {
        /// The turn; 0 when no checkpoint was logged.
        turn: u32,
    },
}

/// The folders, repositories and hands of one task on this machine.
#[derive(Debug)]
pub(crate) struct Workspace {
    dir: PathBuf,
    task: TaskId,
    bare: Bare,
    repo: HandsRepo,
    exec: BoxedExec,
    hands: Arc<Hands>,
    provider: Arc<dyn GitProvider>,
    source: RepoRef,
}

/// What a workspace is made from.
#[derive(Debug)]
pub(crate) struct Making<'a> {
    pub(crate) dir: &'a Path,
    pub(crate) task: TaskId,
    pub(crate) source: RepoRef,
    pub(crate) base_branch: &'a str,
    pub(crate) branch: &'a str,
    pub(crate) provider: Arc<dyn GitProvider>,
    pub(crate) program: HandsProgram,
    pub(crate) walls: Arc<Walled>,
    /// The log says that the repositories were made.
    pub(crate) made_before: bool,
    /// The last checkpoint: turn and commit.
    pub(crate) checkpoint: Option<(u32, String)>,
}

/// Where the parts of a workspace stand.
pub(crate) fn work_tree(dir: &Path) -> PathBuf {
    dir.join("tree")
}

/// The private temporary folder of the hands.
pub(crate) fn private_tmp(dir: &Path) -> PathBuf {
    dir.join("tmp")
}

fn bare_dir(dir: &Path) -> PathBuf {
    dir.join("brain.git")
}

impl Workspace {
    /// Makes the workspace, or takes up the one that is there.
    pub(crate) async fn open(making: Making<'_>) -> Result<(Self, Origin), GitError> {
        let git = Git::find()?;
        let dir = making.dir.to_owned();
        let tree = work_tree(&dir);
        let ready = dir.join(READY);
        let kept = making.made_before && ready.is_file() && tree.is_dir();
        let (bare, repo, origin) = if kept && let Ok(bare) = Bare::open(&git, &bare_dir(&dir)).await {
            (bare, HandsRepo::open(&tree, making.branch)?, Origin::Kept)
        } else {
            for part in [bare_dir(&dir), tree.clone()] {
                remove(&part)?;
            }
            remove_file(&ready)?;
            // The mount point of the sandbox has to stay: only its content is made.
            let remote = making.provider.remote(&making.source).await?;
            let bare = Bare::clone(&git, &remote, &bare_dir(&dir), Some(making.base_branch)).await?;
            // The ref may be ahead of the log: a session may die between saving its work and saying so.
            let saved = match making.made_before {
                true => bare.fetch_ref(&remote, &wip_ref(making.task)).await?,
                false => None,
            };
            let (repo, origin) = match saved {
                Some(sha) => {
                    let repo = HandsRepo::resume(&git, &bare, &tree, making.branch, &sha).await?;
                    (repo, Origin::Restored { turn: making.checkpoint.as_ref().map_or(0, |(turn, _)| *turn) })
                }
                None => {
                    let start = bare.base_sha().await?;
                    (HandsRepo::create(&git, &bare, &tree, making.branch, &start).await?, Origin::Cloned)
                }
            };
            write(&ready, making.task.to_string().as_bytes())?;
            (bare, repo, origin)
        };
        let config = making.walls.hands.clone();
        let hands = match making.program {
            HandsProgram::ThisExecutable => {
                Hands::new(InSandbox { walls: making.walls.clone(), tree: tree.clone() }, config)
            }
            HandsProgram::InProcess => {
                Hands::new(InProcess { root: config.root.clone(), walls: making.walls.clone() }, config)
            }
        };
        let hands = Arc::new(hands);
        let exec = BoxedExec { hands: hands.clone(), walls: making.walls };
        let workspace =
            Self { dir, task: making.task, bare, repo, exec, hands, provider: making.provider, source: making.source };
        Ok((workspace, origin))
    }

    /// The brain's repository.
    pub(crate) const fn bare(&self) -> &Bare {
        &self.bare
    }

    /// The hands.
    pub(crate) const fn hands(&self) -> &Arc<Hands> {
        &self.hands
    }

    /// What the hands stand behind.
    pub(crate) const fn walls(&self) -> &Arc<Walled> {
        &self.exec.walls
    }

    /// A file of the repository as it was where the work began: no change by the agent, or by what it works on, counts.
    pub(crate) async fn file_at(&self, base: &str, path: &str, max_bytes: u64) -> Result<Option<Vec<u8>>, GitError> {
        self.bare.file(base, path, max_bytes).await
    }

    /// Where the work tree is for the hands.
    pub(crate) fn root_of_hands(&self) -> &Path {
        &self.exec.walls.hands.root
    }

    /// What the walls set in the environment of commands.
    pub(crate) fn env_of_hands(&self) -> &std::collections::BTreeMap<String, String> {
        &self.exec.walls.hands.env
    }

    /// The project's settings as they were where the work began: no change by the agent, or by what it works on, counts.
    pub(crate) async fn project_settings(&self, base: &str) -> Result<ProjectSettings, GitError> {
        let file = self.bare.file(base, SETTINGS_PATH, SETTINGS_BYTES).await?;
        Ok(file.map_or_else(ProjectSettings::default, |f| ProjectSettings::parse(&String::from_utf8_lossy(&f))))
    }

    /// Saves the whole work tree at the hidden ref, here and at the remote.
    pub(crate) async fn checkpoint(&self) -> Result<String, GitError> {
        let shot = self.repo.snapshot(&self.exec).await?;
        let name = wip_ref(self.task);
        self.repo.hand_over(&self.exec, &self.bare, &[(&shot.sha, &name)]).await?;
        let sha = match shot.head {
            Some(_) => shot.sha,
            // Without a parent it could not be taken up again.
            None => {
                let base = self.bare.base_sha().await?;
                let sha = self.bare.regraft(&shot.sha, &base, "checkpoint").await?;
                self.bare.set_ref(&name, &sha).await?;
                sha
            }
        };
        let remote = self.provider.remote(&self.source).await?;
        self.bare.push_wip(&remote, &name, &sha).await?;
        Ok(sha)
    }

    /// How much a commit differs from another.
    pub(crate) async fn churn(&self, base: &str, sha: &str) -> Result<Churn, GitError> {
        let stat = self.bare.diff_stat(base, sha).await?;
        Ok(Churn { files: stat.files.len() as u64, lines: stat.added() + stat.removed() })
    }

    /// Commits what the agent left, and takes its branch over. Answers its head in the brain's repository.
    pub(crate) async fn take_work(&self) -> Result<(Option<String>, bool), GitError> {
        let net = self.repo.safety_net(&self.exec, SAFETY_NET).await?;
        let Some(head) = net.head else { return Ok((None, false)) };
        self.repo.hand_over(&self.exec, &self.bare, &[(&head, &format!("refs/abca/work/{}", self.task))]).await?;
        Ok((Some(head), net.saved.is_some()))
    }

    /// Pushes the finished branch.
    pub(crate) async fn push(&self, branch: &str, sha: &str, before: Option<&str>) -> Result<(), GitError> {
        let remote = self.provider.remote(&self.source).await?;
        self.bare.push(&remote, branch, sha, before).await
    }

    /// What a branch that was pushed changed, fetched if it is not here.
    pub(crate) async fn diff_of_branch(&self, branch: &str, sha: &str, base: &str) -> Result<DiffStat, GitError> {
        if self.bare.resolve(sha).await.is_err() {
            let remote = self.provider.remote(&self.source).await?;
            self.bare.fetch_branches(&remote, &[branch]).await?;
        }
        self.bare.diff_stat(base, sha).await
    }

    /// Removes the hidden ref at the remote: the work is on its branch.
    pub(crate) async fn drop_checkpoint(&self) -> Result<(), GitError> {
        let remote = self.provider.remote(&self.source).await?;
        self.bare.delete_ref(&remote, &wip_ref(self.task)).await
    }

    /// Ends the hands and gives the folders up. Removing a large tree takes seconds, and the task waits for our end: the
    /// worker's sweeper does it.
    pub(crate) async fn remove(self) {
        self.hands.discard().await;
        let dir = self.dir.clone();
        drop(self);
        if let Err(error) = crate::sweep::give_up(&dir) {
            tracing::warn!(%error, "a workspace could not be given up");
        }
    }
}

/// Subject of the safety net's commit (`behaviour.md` 4.4).
pub(crate) const SAFETY_NET: &str = "chore(agent): save uncommitted work from session end";

fn wip_ref(task: TaskId) -> String {
    abca_core::names::wip_ref(task)
}

/// A git failure as a task's failure.
pub(crate) fn git_failure(reason: FailureReason, error: &GitError) -> Failure {
    let reason = match error.kind() {
        GitErrorKind::Full => FailureReason::Infrastructure,
        _ => reason,
    };
    Failure::new(reason, error.to_string())
}

/// The walls of one session, and what stands inside them.
#[derive(Debug)]
pub(crate) struct Walled {
    sandbox: Sandbox,
    hands: HandsConfig,
    /// Ends with the walls; with its socket.
    #[cfg_attr(not(feature = "mcp"), allow(dead_code, reason = "for MCP servers"))]
    proxy: Option<(Proxy, PathBuf)>,
    furnishing: tokio::sync::Mutex<Option<tokio::task::JoinHandle<std::io::Result<()>>>>,
}

impl Walled {
    /// Puts up the walls around the work tree and the private folder of a workspace; with the network `proxy`, the way
    /// out through the gate.
    pub(crate) fn build(
        dir: &Path,
        home: Option<&Path>,
        hidden: &[PathBuf],
        limits: &SessionLimits,
        gate: &Arc<Gate>,
    ) -> Result<Self, ComputeError> {
        let tools = home.map(default_toolchains).unwrap_or_default();
        let tmp = private_tmp(dir);
        tools.furnish(&tmp, limits.network).map_err(|error| {
            ComputeError::new(
                abca_core::compute::ComputeErrorKind::Internal,
                "prepare",
                format!("cannot furnish `{}`: {error}", tmp.display()),
            )
        })?;
        let furnishing = {
            let (tools, tmp, network) = (tools.clone(), tmp.clone(), limits.network);
            tokio::task::spawn_blocking(move || tools.furnish_sources(&tmp, network))
        };
        let unsandboxed = limits.sandbox == SandboxMode::Unsandboxed;
        let inner_tmp = if unsandboxed { tmp.clone() } else { PathBuf::from("/tmp") };
        let mut env = tools.environment(&inner_tmp, limits.network);
        let path = env.get("PATH").cloned().unwrap_or_default();
        let proxy = match limits.network {
            NetworkMode::Off | NetworkMode::Host => None,
            NetworkMode::Proxy => Some(start_proxy(dir, gate)?),
        };
        if let (Some(_), Some(bundle)) = (&proxy, gate.bundle()) {
            write_authorities(&tmp, bundle)?;
            let inside = inner_tmp.join(AUTHORITIES).to_string_lossy().into_owned();
            env.extend(trust(&inside).into_iter().map(|(name, value)| (name.to_owned(), value)));
        }
        let sandbox = Sandbox::prepare(SandboxSpec {
            work_tree: work_tree(dir),
            tmp,
            hidden: hidden.to_vec(),
            read_only: Vec::new(),
            toolchains: tools.paths,
            limits: limits.clone(),
            env: env.clone(),
            egress: proxy.as_ref().map(|(_, socket)| socket.clone()),
            choice: Default::default(),
        })?;
        let mut hands = HandsConfig::new(sandbox.inside());
        hands.home = inner_tmp.join("home");
        hands.tmp = inner_tmp;
        hands.path = path;
        hands.bridge = proxy.is_some().then(|| BridgeConfig { port: PROXY_PORT, socket: PathBuf::from(EGRESS_SOCKET) });
        hands.env = env.into_iter().filter(|(name, _)| name != "PATH" && name != "HOME").collect();
        Ok(Self { sandbox, hands, proxy, furnishing: tokio::sync::Mutex::new(Some(furnishing)) })
    }

    /// Waits until the private home is furnished: before anything runs in it.
    async fn furnished(&self) {
        let mut furnishing = self.furnishing.lock().await;
        if let Some(work) = furnishing.as_mut()
            && let Ok(Err(error)) = work.await
        {
            // Builds unpack what they miss.
            tracing::warn!(%error, "unpacked sources of crates are not at hand");
        }
        *furnishing = None;
    }

    /// Starts this program in a sandbox of its own, behind the same walls and under the same limits as the hands.
    #[cfg_attr(not(feature = "mcp"), allow(dead_code, reason = "for MCP servers"))]
    pub(crate) async fn spawn_own<const N: usize>(
        &self,
        argv: impl FnOnce(OsString) -> [OsString; N],
        io: Io,
    ) -> Result<Child, ComputeError> {
        self.furnished().await;
        self.sandbox.spawn(&argv(self.sandbox.executable().as_os_str().to_owned()), io).await
    }

    /// The bridge that the inside of a sandbox needs to reach the egress proxy.
    #[cfg_attr(not(feature = "mcp"), allow(dead_code, reason = "for MCP servers"))]
    pub(crate) const fn bridge(&self) -> Option<&BridgeConfig> {
        self.hands.bridge.as_ref()
    }

    /// The egress proxy's socket, as this process sees it.
    #[cfg_attr(not(feature = "mcp"), allow(dead_code, reason = "for MCP servers"))]
    pub(crate) fn egress(&self) -> Option<&Path> {
        self.proxy.as_ref().map(|(_, socket)| socket.as_path())
    }

    /// Which walls hold, for people and events.
    pub(crate) fn names(&self) -> Vec<String> {
        self.sandbox.walls().to_strings()
    }
}

/// Name of the egress proxy's socket in a workspace, without its ending.
const EGRESS: &str = "egress";

/// The authorities that the hands are to trust, in their temporary folder. A tool may change the file: it then trusts others
/// than the proxy, and reaches no more for it.
const AUTHORITIES: &str = "egress-authorities.pem";

fn write_authorities(tmp: &Path, bundle: &str) -> Result<(), ComputeError> {
    let path = tmp.join(AUTHORITIES);
    let write = || {
        // Whatever a tool put there, a link too, is not followed.
        match std::fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(&path)?;
        std::io::Write::write_all(&mut file, bundle.as_bytes())
    };
    write().map_err(|error| {
        let text = format!("cannot write `{}`: {error}", path.display());
        ComputeError::new(abca_core::compute::ComputeErrorKind::Internal, "prepare", text).with_source(error)
    })
}

fn start_proxy(dir: &Path, gate: &Arc<Gate>) -> Result<(Proxy, PathBuf), ComputeError> {
    let problem = |error: std::io::Error| {
        let text = format!("the egress proxy cannot listen in `{}`: {error}", dir.display());
        ComputeError::new(abca_core::compute::ComputeErrorKind::Internal, "prepare", text).with_source(error)
    };
    // A session before this one may have left its own.
    match std::fs::remove_file(socket::path(dir, EGRESS)) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(problem(error)),
    }
    let (listener, path) = socket::bind(dir, EGRESS).map_err(problem)?;
    Ok((Proxy::start(listener, gate.clone()), path))
}

fn io_error(path: &Path, what: &str, error: std::io::Error) -> GitError {
    let kind = match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => GitErrorKind::Full,
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => GitErrorKind::Access,
        _ => GitErrorKind::Unavailable,
    };
    GitError::new(kind, "workspace", format!("cannot {what} `{}`: {error}", path.display())).with_source(error)
}

fn remove(path: &Path) -> Result<(), GitError> {
    match std::fs::remove_dir_all(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io_error(path, "remove", error)),
    }
}

fn remove_file(path: &Path) -> Result<(), GitError> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io_error(path, "remove", error)),
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), GitError> {
    std::fs::write(path, bytes).map_err(|error| io_error(path, "write", error))
}

/// Makes the folders that a sandbox needs before it can be prepared.
pub(crate) fn make_folders(dir: &Path) -> Result<(), GitError> {
    use std::os::unix::fs::DirBuilderExt;
    for path in [dir.to_owned(), work_tree(dir), private_tmp(dir)] {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(|error| io_error(&path, "make", error))?;
    }
    Ok(())
}

// -- hands in a sandbox ------------------------------------------------------------------------------------------------

#[derive(Debug)]
struct InSandbox {
    walls: Arc<Walled>,
    tree: PathBuf,
}

#[async_trait]
impl Launch for InSandbox {
    async fn launch(&self) -> Result<Launched, HandsError> {
        let failed = |why: String| HandsError::new(HandsErrorKind::Launch, why);
        if !self.tree.is_dir() {
            return Err(failed("the work tree is gone".to_owned()));
        }
        self.walls.furnished().await;
        let sandbox = &self.walls.sandbox;
        let argv = [sandbox.executable().as_os_str().to_owned(), OsString::from(HANDS_ARG)];
        let io = Io { stdin: Stdio::piped(), stdout: Stdio::piped(), stderr: Stdio::null() };
        let mut child = sandbox.spawn(&argv, io).await.map_err(|e| failed(e.to_string()))?;
        let (Some(from), Some(to)) = (child.take_stdout(), child.take_stdin()) else {
            return Err(failed("they have no pipes".to_owned()));
        };
        Ok(Launched { from: Box::new(from), to: Box::new(to), guard: Box::new(child) })
    }
}

#[derive(Debug)]
struct InProcess {
    root: PathBuf,
    walls: Arc<Walled>,
}

#[async_trait]
impl Launch for InProcess {
    async fn launch(&self) -> Result<Launched, HandsError> {
        self.walls.furnished().await;
        tracing::warn!(root = %self.root.display(), "these hands have no walls");
        let (brain, hands) = tokio::io::duplex(64 << 10);
        let server = super::hands::serve_in_process(hands);
        let (from, to) = tokio::io::split(brain);
        Ok(Launched { from: Box::new(from), to: Box::new(to), guard: Box::new(server) })
    }
}

/// Runs git in the hands.
#[derive(Debug)]
struct BoxedExec {
    hands: Arc<Hands>,
    walls: Arc<Walled>,
}

impl BoxedExec {
    async fn client(&self) -> Result<Client, GitError> {
        self.hands.client().await.map_err(hands_error)
    }
}

fn hands_error(error: HandsError) -> GitError {
    GitError::new(GitErrorKind::Unavailable, "hands", error.to_string()).with_source(error)
}

#[async_trait]
impl HandsExec for BoxedExec {
    async fn run(&self, argv: &[&str], env: &[(&str, &str)]) -> Result<ExecOutput, GitError> {
        let mut request = ExecRequest::argv(argv.iter().copied()).timeout(Some(GIT_TIMEOUT));
        request.env = env.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        request.output_bytes = super::hands::MAX_OUTPUT_BYTES;
        let done = self.client().await?.exec(request, |_| {}).await.map_err(hands_error)?;
        let status = match done.end {
            ExecEnd::Exited(code) => code,
            ExecEnd::Signaled(signal) => 128 + signal,
            ExecEnd::TimedOut => {
                return Err(GitError::new(GitErrorKind::TimedOut, "hands", "git in the hands did not end in time"));
            }
            ExecEnd::Cancelled | ExecEnd::Lost => {
                return Err(GitError::new(GitErrorKind::Unavailable, "hands", "git in the hands was killed"));
            }
        };
        let (Some(stdout), Some(stderr)) = (done.stdout.whole(), done.stderr.whole()) else {
            return Err(GitError::new(GitErrorKind::Invalid, "hands", "git in the hands said too much"));
        };
        Ok(ExecOutput { status, stdout, stderr })
    }

    async fn serve(&self, argv: &[&str]) -> Result<(ServedRepo, Box<dyn ServedGuard>), GitError> {
        let argv: Vec<OsString> = argv.iter().map(OsString::from).collect();
        let failed = |why: String| GitError::new(GitErrorKind::Unavailable, "hands", why);
        // Plain blocking pipes: git itself reads and writes their other ends.
        let pipes = || std::io::pipe().map_err(|e| failed(format!("cannot make a pipe: {e}")));
        let (theirs_in, ours_in) = pipes()?;
        let (ours_out, theirs_out) = pipes()?;
        let io = Io { stdin: Stdio::from(theirs_in), stdout: Stdio::from(theirs_out), stderr: Stdio::null() };
        let child = self.walls.sandbox.spawn(&argv, io).await.map_err(|e| failed(e.to_string()))?;
        let served = ServedRepo { stdin: ours_in.into(), stdout: ours_out.into() };
        Ok((served, Box::new(Serving { _child: child })))
    }
}

#[derive(Debug)]
struct Serving {
    _child: Child,
}

impl ServedGuard for Serving {}
