//! Walls for the hands: any program, with no credentials, no network and no sight of the machine but what it needs.
//!
//! [`Sandbox::prepare`] finds a mechanism, tries it, and refuses when none holds. What is inside:
//!
//! * the system's folders (`/usr`, `/etc`, `/opt`, …), read-only, without what other users may not read in `/etc`;
//! * the work tree at `/workspace` and a private folder at `/tmp`, writable; nothing else is;
//! * toolchains, read-only, at their own paths; the rest of every home folder is not there;
//! * its own `/proc` (without the switches by which root speaks to the kernel), a minimal `/dev`, an empty `/run`;
//! * the user 1000 without any capability, in its own user, process, network, IPC and host-name namespaces;
//! * the environment that the [`SandboxSpec`] gives, and no descriptor but the standard streams.
//!
//! | mechanism | needs |
//! | --- | --- |
//! | `bubblewrap` | `bwrap` 0.7 or newer in a folder of the system, user namespaces, seccomp |
//! | `namespaces` | user namespaces, Landlock (Linux 5.19), seccomp, `mount_setattr`; [`crate::init`] called by `main` |
//!
//! The limits hold for all programs of a sandbox together: by control groups where this process may make some, else by
//! a watchdog that measures ten times a second and kills the tree (and `RLIMIT_DATA`, per process). Memory shared
//! between processes is counted roughly by the watchdog; the control groups count it exactly.
//!
//! With [`NetworkMode::Proxy`] the network namespace is as empty as with [`NetworkMode::Off`]; one socket is seen inside, at
//! [`EGRESS_SOCKET`], behind which the egress proxy listens.
//!
//! Known limits: with [`NetworkMode::Host`] the hands share the host's network namespace, abstract UNIX sockets
//! included; 32-bit x86 programs are killed by the filter; disk space is not limited.

mod bubblewrap;
mod cgroup;
mod child;
mod enter;
mod handoff;
mod layout;
mod namespaces;
mod seccomp;
mod toolchains;
mod walls;
mod watchdog;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::io::AsyncReadExt;

use abca_core::compute::{ComputeError, ComputeErrorKind, NetworkMode, SandboxMode, SessionLimits};

use crate::tree::Pidfd;
use cgroup::Cgroup;
use watchdog::{Tree, Watch};

pub use child::{Child, Ended};
pub use enter::enter;
pub use toolchains::{Toolchains, default_toolchains};
pub use walls::{Wall, Walls};
pub use watchdog::LimitHit;

/// What the inside shall be. Paths are absolute.
#[derive(Debug, Clone)]
pub struct SandboxSpec {
    /// Writable, seen as `/workspace`.
    pub work_tree: PathBuf,
    /// Writable and private, seen as `/tmp`; `home` in it becomes the home folder. Its parent folder must be writable
    /// for us: a folder of our own goes beside it.
    pub tmp: PathBuf,
    /// Not there, or empty: the platform's state, the brain's repository. A deeper path in `toolchains` or `read_only`
    /// is seen all the same; at the same path hiding wins.
    pub hidden: Vec<PathBuf>,
    /// Seen read-only at the same path, beside the system's folders. What does not exist is left out.
    pub read_only: Vec<PathBuf>,
    /// As `read_only`: see [`default_toolchains`].
    pub toolchains: Vec<PathBuf>,
    /// Memory, processes, time, network, and whether walls are required.
    pub limits: SessionLimits,
    /// The complete environment of the inside: see [`Toolchains::environment`].
    pub env: BTreeMap<String, String>,
    /// The socket of the egress proxy, seen as [`EGRESS_SOCKET`]; needed with [`NetworkMode::Proxy`].
    pub egress: Option<PathBuf>,
    /// Mechanisms; tests force one.
    pub choice: Choice,
}

/// Where the inside sees the socket of the egress proxy.
pub const EGRESS_SOCKET: &str = "/.abca/egress";

/// Which mechanisms to use.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Choice {
    /// For the walls.
    pub walls: WallsBy,
    /// For the limits.
    pub limits: LimitsBy,
}

/// Which mechanism builds the walls.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum WallsBy {
    /// Bubblewrap, else our own namespaces.
    #[default]
    Auto,
    /// Bubblewrap or nothing.
    Bubblewrap,
    /// Our own namespaces, Landlock and seccomp, or nothing.
    Namespaces,
}

/// Which mechanism holds the limits.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum LimitsBy {
    /// Control groups, else the watchdog.
    #[default]
    Auto,
    /// The watchdog, also where control groups are there.
    Watchdog,
}

/// The standard streams of a program; by default all are closed (`/dev/null`).
#[derive(Debug)]
pub struct Io {
    /// Standard input.
    pub stdin: Stdio,
    /// Standard output.
    pub stdout: Stdio,
    /// Standard error.
    pub stderr: Stdio,
}

impl Default for Io {
    fn default() -> Self {
        Self { stdin: Stdio::null(), stdout: Stdio::null(), stderr: Stdio::null() }
    }
}

impl Io {
    /// All three piped to the caller.
    pub fn piped() -> Self {
        Self { stdin: Stdio::piped(), stdout: Stdio::piped(), stderr: Stdio::piped() }
    }
}

/// Walls that stand ready; programs are started behind them.
#[derive(Debug)]
pub struct Sandbox {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    mechanism: Mechanism,
    /// The inside, as operations; without walls, empty.
    layout: Vec<OsString>,
    env: BTreeMap<String, String>,
    inside: PathBuf,
    executable: PathBuf,
    limits: SessionLimits,
    walls: Walls,
    watch: Arc<Watch>,
    cgroup: Option<Cgroup>,
    /// Removed last.
    _own: OwnFolder,
}

#[derive(Debug)]
enum Mechanism {
    Bubblewrap(bubblewrap::Bubblewrap),
    Namespaces,
    None,
}

/// A command and what has to live until it is started.
struct Launch {
    command: Command,
    fds: Vec<std::os::fd::OwnedFd>,
    /// Says which process is the first of the inside, or what went wrong.
    report: std::os::fd::OwnedFd,
}

impl Sandbox {
    /// Finds a mechanism that holds, and tries it once (some milliseconds).
    ///
    /// # Errors
    /// `Invalid` for paths that are not absolute or not there, `NoSandbox` where no mechanism holds: the message names
    /// what is missing.
    pub fn prepare(spec: SandboxSpec) -> Result<Self, ComputeError> {
        let spec = checked(spec)?;
        let own = OwnFolder::beside(&spec.tmp)?;
        let real_executable = own.keep_executable()?;
        fs::create_dir_all(spec.tmp.join("home")).map_err(|e| io_error("cannot make the home folder", e))?;
        let cgroup = match spec.choice.limits {
            LimitsBy::Watchdog => None,
            LimitsBy::Auto => Cgroup::create(spec.limits.memory_bytes, spec.limits.processes)
                .inspect_err(|why| tracing::debug!(%why, "limits are held by the watchdog"))
                .ok(),
        };
        let unsandboxed = spec.limits.sandbox == SandboxMode::Unsandboxed;
        let layout = if unsandboxed { Vec::new() } else { layout::arguments(&spec, own.path(), &real_executable) };
        let watch = Watch::start(spec.limits.clone(), cgroup.is_none()).map_err(|e| io_error("cannot watch", e))?;
        let mut inner = Inner {
            mechanism: Mechanism::None,
            layout,
            env: spec.env,
            inside: if unsandboxed { spec.work_tree } else { layout::WORKSPACE.into() },
            executable: if unsandboxed { real_executable } else { layout::EXECUTABLE.into() },
            limits: spec.limits,
            walls: Walls::default(),
            watch,
            cgroup,
            _own: own,
        };
        inner.choose(spec.choice.walls)?;
        inner.walls = inner.walls_now();
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Which walls hold, and by what.
    pub fn walls(&self) -> &Walls {
        &self.inner.walls
    }

    /// The work tree as the inside sees it: `/workspace`, or the real one without walls.
    pub fn inside(&self) -> &Path {
        &self.inner.inside
    }

    /// This program's executable as the inside sees it: the very file that runs now, also when it has been deleted or
    /// built anew in the meantime.
    pub fn executable(&self) -> &Path {
        &self.inner.executable
    }

    /// Starts a program in the work tree. It dies, with its whole tree, with this process.
    ///
    /// `argv[0]` is looked up in the `PATH` of the inside. A program that is not there shows as exit code 127 (by
    /// bubblewrap 1), with a message on its standard error. Needs a tokio runtime with I/O. Cancel-safe: dropping the
    /// future kills what may have started.
    ///
    /// # Errors
    /// `Invalid` for an empty `argv`, a NUL byte in it, or when the session's time is over; `Unavailable` when the
    /// system starts no process; `NoSandbox` when the walls could not be built this time.
    pub async fn spawn(&self, argv: &[OsString], io: Io) -> Result<Child, ComputeError> {
        if let Some(hit @ LimitHit::Time { .. }) = self.inner.watch.hit() {
            return Err(ComputeError::new(ComputeErrorKind::Invalid, "spawn", hit.to_string()));
        }
        if argv.is_empty() {
            return Err(ComputeError::new(ComputeErrorKind::Invalid, "spawn", "no program to start: `argv` is empty"));
        }
        let Launch { mut command, fds, report } = self.inner.launch(argv)?;
        // Before the start: a program may run into its limits before we hear of it again.
        let hits = self.inner.hits();
        command.stdin(io.stdin).stdout(io.stdout).stderr(io.stderr);
        let runtime = tokio::runtime::Handle::current();
        let (tell, told) = tokio::sync::oneshot::channel();
        handoff::on_spawner(move || {
            let _runtime = runtime.enter();
            let mut command = tokio::process::Command::from(command);
            command.kill_on_drop(true);
            let started = command.spawn();
            drop(fds);
            // A caller who has gone away drops the child, and so kills it.
            let _ = tell.send(started);
        });
        let process = told
            .await
            .map_err(|_| {
                ComputeError::new(ComputeErrorKind::Internal, "spawn", "the thread that starts children is gone")
            })?
            .map_err(|e| {
                ComputeError::new(ComputeErrorKind::Unavailable, "spawn", "cannot start a process").with_source(e)
            })?;
        let report = read_report(report).await?;
        self.inner.child(process, &report, hits)
    }
}

/// A mechanism that does not say within this time whether it works does not work.
const REPORT_WITHIN: Duration = Duration::from_secs(20);

async fn read_report(report: std::os::fd::OwnedFd) -> Result<String, ComputeError> {
    let problem = |e| io_error("cannot read what the walls report", e);
    let mut pipe = tokio::net::unix::pipe::Receiver::from_owned_fd(report).map_err(problem)?;
    let mut text = String::new();
    match tokio::time::timeout(REPORT_WITHIN, pipe.read_to_string(&mut text)).await {
        Ok(Ok(_)) => Ok(text),
        Ok(Err(e)) => Err(problem(e)),
        Err(_) => Err(ComputeError::new(ComputeErrorKind::Unavailable, "spawn", "the walls were not built in time")),
    }
}

impl Inner {
    fn choose(&mut self, by: WallsBy) -> Result<(), ComputeError> {
        if self.limits.sandbox == SandboxMode::Unsandboxed {
            if !crate::initialised() {
                return Err(ComputeError::new(
                    ComputeErrorKind::Invalid,
                    "prepare",
                    "without walls, the program's `main` must call `abca::init()` first: it holds process trees together",
                ));
            }
            return Ok(());
        }
        let mut missing = Vec::new();
        if by != WallsBy::Namespaces {
            match bubblewrap::Bubblewrap::find().map(Mechanism::Bubblewrap).and_then(|found| self.try_out(found)) {
                Ok(()) => return Ok(()),
                Err(why) => missing.push(format!("bubblewrap: {why}")),
            }
        }
        if by != WallsBy::Bubblewrap {
            let found = if crate::initialised() {
                Ok(Mechanism::Namespaces)
            } else {
                Err("the program's `main` does not call `abca::init()`".to_owned())
            };
            match found.and_then(|found| self.try_out(found)) {
                Ok(()) => return Ok(()),
                Err(why) => missing.push(format!("own namespaces: {why}")),
            }
        }
        let message = format!(
            "no walls can be built on this machine ({}): install bubblewrap and allow user namespaces, or accept no walls \
             by name with `unsandboxed`",
            missing.join("; ")
        );
        Err(ComputeError::new(ComputeErrorKind::NoSandbox, "prepare", message))
    }

    /// Runs a program that does nothing behind the real walls.
    fn try_out(&mut self, mechanism: Mechanism) -> Result<(), String> {
        self.mechanism = mechanism;
        let nothing = ["/usr/bin/true", "/bin/true"].into_iter().find(|path| Path::new(path).exists());
        let argv: Vec<OsString> = match nothing {
            Some(path) => vec![path.into()],
            None if crate::initialised() => vec![layout::EXECUTABLE.into(), crate::SANDBOX.into(), "true".into()],
            None => return Err("no program `true` to try it with".to_owned()),
        };
        let launch = self.launch(&argv).map_err(|e| e.message().to_owned())?;
        let Launch { mut command, fds, report } = launch;
        let output = command.stdin(Stdio::null()).output().map_err(|e| format!("does not start ({e})"))?;
        drop((command, fds));
        if output.status.success() {
            return Ok(());
        }
        let mut text = String::new();
        let _ = std::io::Read::read_to_string(&mut fs::File::from(report), &mut text);
        let said = match text.lines().find_map(|line| line.strip_prefix("error ")) {
            Some(error) => error.to_owned(),
            None => String::from_utf8_lossy(&output.stderr).trim().replace('\n', ", "),
        };
        Err(if said.is_empty() { format!("ended with {}", output.status) } else { said })
    }

    fn launch(&self, argv: &[OsString]) -> Result<Launch, ComputeError> {
        let mut launch = match &self.mechanism {
            Mechanism::Bubblewrap(bubblewrap) => bubblewrap.launch(self, argv),
            Mechanism::Namespaces => namespaces::launch(self, argv, true),
            Mechanism::None => namespaces::launch(self, argv, false),
        }
        .map_err(|e| io_error("cannot prepare a program's start", e))?;
        let doors = match &self.cgroup {
            None => Vec::new(),
            Some(group) => group.doors().map_err(|e| io_error("cannot enter the control group", e))?,
        };
        let keep = launch.fds.iter().map(AsRawFd::as_raw_fd).collect();
        handoff::keep_only(&mut launch.command, keep, doors.iter().map(AsRawFd::as_raw_fd).collect());
        launch.fds.extend(doors.into_iter().map(Into::into));
        launch.command.env_clear().current_dir("/");
        std::os::unix::process::CommandExt::process_group(&mut launch.command, 0);
        Ok(launch)
    }

    fn child(
        self: &Arc<Self>,
        process: tokio::process::Child,
        report: &str,
        hits: (u64, u64),
    ) -> Result<Child, ComputeError> {
        let root = process.id().map_or(0, u32::cast_signed);
        let problem = |e| io_error("cannot hold the process that was started", e);
        let outer = Pidfd::open(root).map_err(problem)?;
        if let Some(error) = report.lines().find_map(|line| line.strip_prefix("error ")) {
            let message = format!("the walls could not be built: {error}");
            return Err(ComputeError::new(ComputeErrorKind::NoSandbox, "spawn", message));
        }
        let (init, kill) = match &self.mechanism {
            Mechanism::None => (None, vec![(outer, libc::SIGTERM)]),
            Mechanism::Bubblewrap(_) | Mechanism::Namespaces => {
                let pid = match &self.mechanism {
                    Mechanism::Bubblewrap(_) => bubblewrap::init_of(report),
                    Mechanism::Namespaces | Mechanism::None => namespaces::init_of(report),
                };
                let open = || pid.and_then(|pid| Pidfd::open(pid).ok().filter(|_| parent_of(pid) == Some(root)));
                let mut kill = vec![(outer, libc::SIGKILL)];
                kill.extend(open().map(|init| (init, libc::SIGKILL)));
                (open(), kill)
            }
        };
        let tree = Tree { root, kill: Arc::new(kill) };
        Ok(Child::new(process, tree, init, Arc::clone(self), hits))
    }

    fn hits(&self) -> (u64, u64) {
        self.cgroup.as_ref().map_or((0, 0), Cgroup::hits)
    }

    fn walls_now(&self) -> Walls {
        let mut walls = Walls::default();
        let built_by = match &self.mechanism {
            Mechanism::Bubblewrap(_) => Some(("bubblewrap", "bubblewrap")),
            Mechanism::Namespaces => Some(("namespaces+landlock", "namespaces")),
            Mechanism::None => None,
        };
        if let Some((files, others)) = built_by {
            walls.add(Wall::Filesystem, files);
            walls.add(Wall::Home, files);
            if self.limits.network != NetworkMode::Host {
                walls.add(Wall::Network, others);
            }
            walls.add(Wall::Processes, others);
            walls.add(Wall::Syscalls, "seccomp");
        }
        walls.add(Wall::Environment, "cleared");
        let limits = self.cgroup.as_ref().map_or("watchdog", Cgroup::mechanism);
        walls.add(Wall::Memory, limits);
        walls.add(Wall::ProcessCount, limits);
        walls
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.watch.close();
    }
}

fn parent_of(pid: i32) -> Option<i32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

fn io_error(what: &'static str, source: std::io::Error) -> ComputeError {
    ComputeError::new(ComputeErrorKind::Internal, "sandbox", format!("{what}: {source}")).with_source(source)
}

fn checked(mut spec: SandboxSpec) -> Result<SandboxSpec, ComputeError> {
    let invalid = |message: String| ComputeError::new(ComputeErrorKind::Invalid, "prepare", message);
    for folder in [&mut spec.work_tree, &mut spec.tmp] {
        if !folder.is_absolute() || !folder.is_dir() {
            return Err(invalid(format!("`{}` is not the absolute path of a folder", folder.display())));
        }
        *folder = fs::canonicalize(&folder).map_err(|e| io_error("cannot resolve a folder", e))?;
    }
    if let Some(path) = spec.hidden.iter().chain(&spec.read_only).chain(&spec.toolchains).find(|p| !p.is_absolute()) {
        return Err(invalid(format!("`{}` is not an absolute path", path.display())));
    }
    if spec.limits.network == NetworkMode::Proxy {
        if spec.limits.sandbox == SandboxMode::Unsandboxed {
            let message = "the network `proxy` needs walls, which `unsandboxed` takes away: nothing else leads programs \
                           through the proxy; use the network `host`, or walls";
            return Err(invalid(message.to_owned()));
        }
        match &spec.egress {
            Some(socket) if socket.is_absolute() && socket.exists() => {}
            Some(_) | None => {
                return Err(invalid("the network `proxy` needs the socket of an egress proxy".to_owned()));
            }
        }
    }
    if let Some((name, _)) = spec.env.iter().find(|(n, v)| n.is_empty() || n.contains(['=', '\0']) || v.contains('\0'))
    {
        return Err(invalid(format!("`{name}` cannot be a variable of the environment")));
    }
    Ok(spec)
}

/// A folder of the sandbox's own, beside the temporary one, so that the inside does not see it.
#[derive(Debug)]
struct OwnFolder(PathBuf);

impl OwnFolder {
    fn beside(tmp: &Path) -> Result<Self, ComputeError> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let parent = tmp.parent().unwrap_or(tmp);
        loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let path = parent.join(format!(".abca-hands-{}-{number}", std::process::id()));
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {
                    let own = Self(path);
                    own.write_users().map_err(|e| io_error("cannot write the users of the inside", e))?;
                    return Ok(own);
                }
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(io_error("cannot make a folder beside the temporary one", e)),
            }
        }
    }

    fn path(&self) -> &Path {
        &self.0
    }

    fn write_users(&self) -> std::io::Result<()> {
        let id = enter::INSIDE_ID;
        let agent = format!("agent:x:{id}:{id}:agent:/tmp/home:/bin/sh");
        let nobody = "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin";
        fs::write(self.0.join("passwd"), format!("root:x:0:0:root:/root:/bin/sh\n{agent}\n{nobody}\n"))?;
        fs::write(self.0.join("group"), format!("root:x:0:\nagent:x:{id}:\nnogroup:x:65534:\n"))
    }

    /// Another name for the file that runs now, or else a copy of it: a path that stays.
    fn keep_executable(&self) -> Result<PathBuf, ComputeError> {
        let at = self.0.join("exe");
        let problem = |e| io_error("cannot keep the executable at hand", e);
        let named = fs::read_link("/proc/self/exe").map_err(problem)?;
        let same = |path: &Path| {
            use std::os::unix::fs::MetadataExt;
            let (there, ours) = (fs::metadata(path).ok(), fs::metadata("/proc/self/exe").ok());
            there.zip(ours).is_some_and(|(a, b)| (a.dev(), a.ino()) == (b.dev(), b.ino()))
        };
        if fs::hard_link(&named, &at).is_ok() {
            if same(&at) {
                return Ok(at);
            }
            fs::remove_file(&at).map_err(problem)?;
        }
        fs::copy("/proc/self/exe", &at).map_err(problem)?;
        Ok(at)
    }
}

impl Drop for OwnFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
