//! The git program behind guards: [`Git`].
//!
//! # What every call has
//! * An environment of its own: `PATH`, a UTF-8 C locale, a `HOME` that is no folder, and what [`Git::with_env`] adds.
//!   No system, global or user configuration is read, no prompt is shown, no editor, pager or askpass is started.
//! * Options that win over the repository's configuration: no hooks, no fsmonitor, no `ssh` command, no credential
//!   helper but ours, no automatic maintenance, no submodules; of the transports only the one that the call needs.
//! * A process group of its own, killed whole when the time is up or the future is dropped.
//! * Bounded output: at most 64 MiB of stdout (unless the call says otherwise), the last 8 KiB of stderr.

mod classify;
mod credential;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use abca_core::git::{Credential, GitError, GitErrorKind};
use rustix::process::{Pid, Signal};
use secrecy::ExposeSecret;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

pub(crate) use classify::classify;

/// Stderr of a program in the sandbox, fit for an error message.
pub(crate) fn scrub(stderr: &[u8]) -> String {
    classify::scrub(stderr, &[])
}

/// Options that win over whatever a repository's configuration says.
const GUARDS: &[&str] = &[
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.sshCommand=false",
    "core.askPass=false",
    "core.pager=cat",
    "core.editor=false",
    "core.excludesFile=/dev/null",
    "core.attributesFile=/dev/null",
    "core.quotePath=false",
    "core.symlinks=true",
    "core.protectNTFS=true",
    "core.bigFileThreshold=32m",
    "credential.helper=",
    "safe.directory=*",
    "safe.bareRepository=all",
    "gc.auto=0",
    "maintenance.auto=false",
    "submodule.recurse=false",
    "fetch.recurseSubmodules=false",
    "push.recurseSubmodules=no",
    "commit.gpgSign=false",
    "tag.gpgSign=false",
    "push.gpgSign=false",
    "log.showSignature=false",
    "filter.lfs.smudge=",
    "filter.lfs.clean=",
    "filter.lfs.process=",
    "filter.lfs.required=false",
    "init.defaultBranch=main",
    "advice.detachedHead=false",
    "protocol.allow=never",
    "protocol.ext.allow=never",
];

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(600);
const MAX_STDOUT: usize = 64 << 20;
const MAX_STDERR: usize = 8 << 10;

/// The git program, hardened. Cheap to clone.
#[derive(Clone)]
pub struct Git {
    inner: Arc<Inner>,
}

#[derive(Clone)]
struct Inner {
    program: PathBuf,
    path: OsString,
    env: Vec<(OsString, OsString)>,
    timeout: Duration,
}

impl fmt::Debug for Git {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The added environment may hold a proxy's password.
        f.debug_struct("Git").field("program", &self.inner.program).field("timeout", &self.inner.timeout).finish()
    }
}

impl Git {
    /// Finds `git` on the `PATH` of this process (else in the usual places).
    ///
    /// # Errors
    /// `NotFound` when there is none.
    pub fn find() -> Result<Self, GitError> {
        let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
        let program = std::env::split_paths(&path)
            .filter(|dir| dir.is_absolute())
            .map(|dir| dir.join("git"))
            .find(|candidate| candidate.is_file())
            .ok_or_else(|| {
                GitError::new(
                    GitErrorKind::NotFound,
                    "find_git",
                    "no `git` program on the PATH: install git 2.38 or later",
                )
            })?;
        Ok(Self { inner: Arc::new(Inner { program, path, env: Vec::new(), timeout: DEFAULT_TIMEOUT }) })
    }

    /// Uses this program, with its folder and the usual places as `PATH`.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        let program = program.into();
        let mut path = program.parent().map(|p| p.as_os_str().to_owned()).unwrap_or_default();
        if !path.is_empty() {
            path.push(":");
        }
        path.push("/usr/local/bin:/usr/bin:/bin");
        Self { inner: Arc::new(Inner { program, path, env: Vec::new(), timeout: DEFAULT_TIMEOUT }) }
    }

    /// Another limit for one call; default 10 minutes.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        Arc::make_mut(&mut self.inner).timeout = timeout;
        self
    }

    /// Adds a variable to the environment of every call, e.g. `HTTPS_PROXY` or `GIT_SSL_CAINFO`.
    #[must_use]
    pub fn with_env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        Arc::make_mut(&mut self.inner).env.push((name.into(), value.into()));
        self
    }

    /// The program's version, e.g. `2.47.3`.
    ///
    /// # Errors
    /// `Unsupported` when it is older than 2.38, which has what the local forge merges with.
    pub async fn version(&self) -> Result<String, GitError> {
        let out = self.call("git_version").arg("version").text().await?;
        let version = out.split_whitespace().nth(2).unwrap_or_default().to_owned();
        let mut parts = version.split('.').map(|p| p.parse::<u32>().unwrap_or(0));
        let number = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
        if number < (2, 38) {
            return Err(GitError::new(
                GitErrorKind::Unsupported,
                "git_version",
                format!("`{}` is git {version}: 2.38 or later is needed", self.inner.program.display()),
            ));
        }
        Ok(version)
    }

    pub(crate) fn call(&self, op: &'static str) -> Call<'_> {
        Call {
            git: self,
            op,
            config: Vec::new(),
            args: Vec::new(),
            dir: None,
            env: Vec::new(),
            stdin: Vec::new(),
            fds: Vec::new(),
            secrets: Vec::new(),
            max_stdout: MAX_STDOUT,
        }
    }

    /// The command line for the serving side of a local repository, as git hands it to a shell. The guards are repeated:
    /// git takes `-c` options out of the environment of a serving side.
    pub(crate) fn serving(service: &str, more: &[&str]) -> String {
        let guards = [
            "core.hooksPath=/dev/null",
            "core.fsmonitor=false",
            "core.alternateRefsCommand=true",
            "safe.directory=*",
            "gc.auto=0",
            "maintenance.auto=false",
            "receive.autogc=false",
            "receive.denyCurrentBranch=refuse",
            "receive.procReceiveRefs=",
            "uploadpack.allowAnySHA1InWant=true",
            // A pipe on one machine: time counts, size does not. What is packed already is sent as it is.
            "core.bigFileThreshold=32m",
            "pack.compression=0",
        ];
        let mut line = String::from("git");
        for guard in guards.iter().chain(more) {
            line.push_str(&format!(" -c '{guard}'"));
        }
        format!("{line} {service}")
    }
}

/// One call of git under construction.
pub(crate) struct Call<'a> {
    git: &'a Git,
    op: &'static str,
    config: Vec<String>,
    args: Vec<OsString>,
    dir: Option<PathBuf>,
    env: Vec<(OsString, OsString)>,
    stdin: Vec<u8>,
    fds: Vec<OwnedFd>,
    secrets: Vec<String>,
    max_stdout: usize,
}

/// What a call of git left.
#[derive(Debug)]
pub(crate) struct Output {
    /// The exit status; 128 + the number for a signal.
    pub(crate) status: i32,
    pub(crate) stdout: Vec<u8>,
    /// Cleaned of credentials and control characters, the last part.
    pub(crate) stderr: String,
}

impl Call<'_> {
    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    pub(crate) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    /// A `-c` option for this call.
    pub(crate) fn config(mut self, option: impl Into<String>) -> Self {
        self.config.push(option.into());
        self
    }

    /// The folder it runs in.
    pub(crate) fn dir(mut self, dir: &Path) -> Self {
        self.dir = Some(dir.to_owned());
        self
    }

    /// A repository whose place is known, so that git does not search for one.
    pub(crate) fn git_dir(self, dir: &Path) -> Self {
        self.env("GIT_DIR", dir)
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.into(), value.as_ref().to_owned()));
        self
    }

    pub(crate) fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// No lock, not even an opportunistic one.
    pub(crate) fn read_only(self) -> Self {
        self.env("GIT_OPTIONAL_LOCKS", "0")
    }

    /// Allows a transport.
    pub(crate) fn allow(self, transport: &str) -> Self {
        self.config(format!("protocol.{transport}.allow=always"))
    }

    /// Lets git inherit a file descriptor; answers its number in git.
    pub(crate) fn fd(&mut self, fd: OwnedFd) -> Result<RawFd, GitError> {
        // Away from 0 to 2, which the child's stdio takes.
        let fd =
            rustix::io::fcntl_dupfd_cloexec(&fd, 10).map_err(|e| self.failed("cannot hand git a descriptor", e))?;
        let number = fd.as_raw_fd();
        self.fds.push(fd);
        Ok(number)
    }

    /// Hands git a credential for this address, through a pipe that only git and what it starts inherit.
    pub(crate) fn credential(mut self, url: &str, credential: Option<&Credential>) -> Result<Self, GitError> {
        let Some(credential) = credential else { return Ok(self) };
        let (scope, text) = credential::record(self.op, url, credential)?;
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map_err(|e| self.failed("cannot make a pipe for the credential", e))?;
        // A record is far smaller than a pipe's buffer: this does not block.
        rustix::io::write(&writer, text.as_bytes()).map_err(|e| self.failed("cannot hand git the credential", e))?;
        drop(writer);
        self.secrets.push(credential.password.expose_secret().to_owned());
        let number = self.fd(reader)?;
        Ok(self.config(credential::helper(&scope, number)))
    }

    fn failed(&self, what: &str, source: impl Into<std::io::Error>) -> GitError {
        let source: std::io::Error = source.into();
        let kind = match source.kind() {
            std::io::ErrorKind::NotFound => GitErrorKind::NotFound,
            std::io::ErrorKind::PermissionDenied => GitErrorKind::Access,
            std::io::ErrorKind::StorageFull => GitErrorKind::Full,
            _ => GitErrorKind::Unavailable,
        };
        GitError::new(kind, self.op, format!("{what}: {source}")).with_source(source)
    }

    /// Runs it. A status other than zero is an error.
    pub(crate) async fn run(self) -> Result<Output, GitError> {
        let op = self.op;
        let name = self.args.first().map(|a| a.to_string_lossy().into_owned()).unwrap_or_default();
        let out = self.run_any().await?;
        if out.status == 0 { Ok(out) } else { Err(classify(op, &name, &out)) }
    }

    /// Runs it and answers stdout as text, without the last line's end.
    pub(crate) async fn text(self) -> Result<String, GitError> {
        let out = self.run().await?;
        Ok(String::from_utf8_lossy(&out.stdout).trim_end_matches('\n').to_owned())
    }

    /// Runs it; any exit status is an answer. Only a start that failed, a time that ran out or too much output is an error.
    pub(crate) async fn run_any(mut self) -> Result<Output, GitError> {
        let mut command = Command::new(&self.git.inner.program);
        command.env_clear().env("PATH", &self.git.inner.path);
        for (name, value) in [
            ("LANG", "C.UTF-8"),
            ("LC_ALL", "C.UTF-8"),
            ("HOME", "/dev/null"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_ATTR_NOSYSTEM", "1"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_ASKPASS", "false"),
            ("GIT_EDITOR", "false"),
            ("GIT_NO_REPLACE_OBJECTS", "1"),
            ("GIT_NO_LAZY_FETCH", "1"),
            ("GIT_ADVICE", "0"),
        ] {
            command.env(name, value);
        }
        command.envs(self.git.inner.env.iter().map(|(n, v)| (n, v)));
        command.envs(self.env.iter().map(|(n, v)| (n, v)));
        for option in GUARDS.iter().copied().chain(self.config.iter().map(String::as_str)) {
            command.arg("-c").arg(option);
        }
        command.args(&self.args);
        command.current_dir(self.dir.as_deref().unwrap_or(Path::new("/")));
        command.stdin(if self.stdin.is_empty() { Stdio::null() } else { Stdio::piped() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
        inherit(&mut command, &self.fds);
        let child = command.spawn().map_err(|e| {
            let what = match &self.dir {
                Some(dir) if !dir.is_dir() => format!("`{}` is not a folder that git can run in", dir.display()),
                _ => format!("cannot start `{}`", self.git.inner.program.display()),
            };
            self.failed(&what, e)
        })?;
        self.fds.clear();
        let mut group = Group(child);
        let stdin = std::mem::take(&mut self.stdin);
        let finished = tokio::time::timeout(self.git.inner.timeout, group.finish(stdin, self.max_stdout)).await;
        let (status, stdout, stderr) = match finished {
            Ok(Ok(parts)) => parts,
            Ok(Err(e)) => return Err(self.failed("cannot talk to git", e)),
            Err(_) => {
                return Err(GitError::new(
                    GitErrorKind::TimedOut,
                    self.op,
                    format!("git did not end within {} s and was stopped", self.git.inner.timeout.as_secs()),
                ));
            }
        };
        if stdout.len() > self.max_stdout {
            let limit = self.max_stdout;
            return Err(GitError::new(
                GitErrorKind::Invalid,
                self.op,
                format!("git answered more than the limit of {limit} bytes"),
            ));
        }
        Ok(Output { status, stdout, stderr: classify::scrub(&stderr, &self.secrets) })
    }
}

/// Lets the child keep descriptors that are close-on-exec here. Cleared only after the fork, so no other child of this
/// process ever inherits them.
fn inherit(command: &mut Command, fds: &[OwnedFd]) {
    let numbers: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    if numbers.is_empty() {
        return;
    }
    let clear = move || {
        for number in &numbers {
            // SAFETY: the descriptors are open in the parent until after the spawn, and so in its forked copy.
            let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(*number) };
            rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec only `fcntl` is called, which is async-signal-safe; nothing allocates.
    unsafe { command.pre_exec(clear) };
}

/// A child with the group that it leads; dropped before its end, the whole group is killed.
struct Group(Child);

impl Group {
    async fn finish(&mut self, stdin: Vec<u8>, max_stdout: usize) -> std::io::Result<(i32, Vec<u8>, Vec<u8>)> {
        let (pipe, out, err) = (self.0.stdin.take(), self.0.stdout.take(), self.0.stderr.take());
        let write = async move {
            if let Some(mut pipe) = pipe {
                // A git that ends before it has read everything says why on stderr.
                let _ = pipe.write_all(&stdin).await;
            }
        };
        let ((), stdout, stderr) = tokio::join!(write, head(out, max_stdout), tail(err));
        let (stdout, stderr) = (stdout?, stderr?);
        if stdout.len() > max_stdout {
            return Ok((0, stdout, stderr));
        }
        let status = self.0.wait().await?;
        let signal = std::os::unix::process::ExitStatusExt::signal(&status).unwrap_or(0);
        Ok((status.code().unwrap_or(128 + signal), stdout, stderr))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // `id` answers until the child has been waited for, so the number is still its own.
        let pid = self.0.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _ = rustix::process::kill_process_group(pid, Signal::KILL);
        }
    }
}

/// Reads at most one byte more than the limit.
async fn head(from: Option<impl AsyncRead + Unpin>, limit: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        from.take(limit as u64 + 1).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

/// Reads all, keeps the end.
async fn tail(from: Option<impl AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    let Some(mut from) = from else { return Ok(kept) };
    let mut buffer = vec![0; 8 << 10];
    loop {
        let n = from.read(&mut buffer).await?;
        if n == 0 {
            return Ok(kept);
        }
        kept.extend_from_slice(&buffer[..n]);
        let excess = kept.len().saturating_sub(MAX_STDERR);
        kept.drain(..excess);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn finds_a_git_that_is_new_enough() {
        let version = Git::find().unwrap().version().await.unwrap();
        assert!(version.starts_with(|c: char| c.is_ascii_digit()), "{version}");
    }

    #[tokio::test]
    async fn a_missing_program_is_named() {
        let error = Git::new("/nowhere/git").version().await.unwrap_err();
        assert_eq!(error.kind(), GitErrorKind::NotFound);
        assert!(error.message().contains("/nowhere/git"), "{error}");
    }

    #[tokio::test]
    async fn too_slow_is_stopped() {
        let git = Git::find().unwrap().with_timeout(Duration::from_millis(50));
        let call = git.call("slow").config("alias.abca-slow=!sleep 1000").arg("abca-slow");
        assert_eq!(call.run().await.unwrap_err().kind(), GitErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn nothing_of_this_process_reaches_git() {
        let git = Git::find().unwrap();
        let out = git.call("env").config("alias.abca-env=!env").arg("abca-env").text().await.unwrap();
        let mut names: Vec<&str> = out.lines().filter_map(|l| l.split_once('=')).map(|(n, _)| n).collect();
        names.retain(|n| !n.starts_with("GIT_") && !["PWD", "SHLVL", "_", "OLDPWD"].contains(n));
        names.sort_unstable();
        assert_eq!(names, ["HOME", "LANG", "LC_ALL", "PATH"]);
    }
}
