//! Running a command: its pipes, its time, its end, and the end of everything it started.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use abca_core::Millis;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::host::Host;
use super::output::{Captured, CapturedLens, HeadTail};
use super::supervise::{self, Report, Supervised};

/// Output kept of a command when nobody says otherwise: 128 KiB, half from each end.
pub const DEFAULT_OUTPUT_BYTES: usize = 128 << 10;
/// Most output that can be asked for.
pub const MAX_OUTPUT_BYTES: usize = 8 << 20;

/// What processes get to clean up between `SIGTERM` and `SIGKILL`, after a timeout or a cancel.
const TERM_GRACE: Duration = Duration::from_millis(500);
/// How long pipes are read on when everything that could write is dead: somebody may have been handed one.
const DRAIN: Duration = Duration::from_secs(1);
/// How long the kernel gets to bury the killed before the answer is given without them.
const BURIAL: Duration = Duration::from_secs(5);
/// So many more times it is killed when it is not gone then.
const BURIALS: u32 = 5;

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Program {
    /// A command line for the shell: bash where there is one, else sh; not interactive, not a login shell.
    Shell(String),
    /// A program and its arguments.
    Argv(Vec<String>),
}

/// A command to run in the hands. Standard input is empty unless given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRequest {
    /// What to run.
    pub program: Program,
    /// Where: relative to the work tree, or absolute inside it or the temporary folder. Default the work tree.
    pub cwd: Option<String>,
    /// Variables over those of [`super::HandsConfig`].
    pub env: BTreeMap<String, String>,
    /// After this everything is killed. `None`: no limit but the session's.
    pub timeout_ms: Option<Millis>,
    /// Standard input. Travels beside the request.
    #[serde(skip)]
    pub stdin: Vec<u8>,
    /// How much of each stream is kept, half from each end; the rest is counted. At most [`MAX_OUTPUT_BYTES`].
    pub output_bytes: usize,
    /// Standard error goes where standard output goes, in order; [`ExecResult::stderr`] is empty then.
    pub merge_stderr: bool,
}

impl ExecRequest {
    /// A command line for the shell, streams merged, two minutes.
    pub fn shell(line: impl Into<String>) -> Self {
        Self {
            program: Program::Shell(line.into()),
            cwd: None,
            env: BTreeMap::new(),
            timeout_ms: Some(Millis::secs(120)),
            stdin: Vec::new(),
            output_bytes: DEFAULT_OUTPUT_BYTES,
            merge_stderr: true,
        }
    }

    /// A program and its arguments, streams apart, two minutes.
    pub fn argv<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        Self {
            program: Program::Argv(argv.into_iter().map(Into::into).collect()),
            merge_stderr: false,
            ..Self::shell("")
        }
    }

    /// Changes the time limit.
    #[must_use]
    pub const fn timeout(mut self, limit: Option<Millis>) -> Self {
        self.timeout_ms = limit;
        self
    }
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecEnd {
    /// By itself, with a code.
    Exited(i32),
    /// By a signal that was not ours.
    Signaled(i32),
    /// It was killed at its time limit.
    TimedOut,
    /// It was killed because its call was cancelled.
    Cancelled,
    /// It killed its supervisor; everything that was left of it is killed, how it would have ended is not known.
    Lost,
}

/// What came of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecResult {
    /// How it ended.
    pub end: ExecEnd,
    /// Standard output, or both streams when they were merged.
    pub stdout: Captured,
    /// Standard error.
    pub stderr: Captured,
    /// From start to end.
    pub duration_ms: Millis,
    /// It left processes behind, which were killed.
    pub killed_leftovers: bool,
}

impl ExecResult {
    /// Exit code zero.
    pub const fn success(&self) -> bool {
        matches!(self.end, ExecEnd::Exited(0))
    }

    pub(super) fn summary(&self) -> ExecSummary {
        ExecSummary {
            end: self.end,
            stdout: self.stdout.lens(),
            stderr: self.stderr.lens(),
            duration_ms: self.duration_ms,
            killed_leftovers: self.killed_leftovers,
        }
    }

    /// From the wire; `None` when summary and body do not fit.
    pub(super) fn join(summary: ExecSummary, mut body: &[u8]) -> Option<Self> {
        let stdout = Captured::split(&mut body, summary.stdout)?;
        let stderr = Captured::split(&mut body, summary.stderr)?;
        let ExecSummary { end, duration_ms, killed_leftovers, .. } = summary;
        body.is_empty().then_some(Self { end, stdout, stderr, duration_ms, killed_leftovers })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ExecSummary {
    end: ExecEnd,
    stdout: CapturedLens,
    stderr: CapturedLens,
    duration_ms: Millis,
    killed_leftovers: bool,
}

/// What to do with processes that a command leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leftovers {
    Kill,
    /// They belong to it: it has not ended while one lives.
    Keep,
}

/// Runs a command to its end, and to the end of everything it started. `sink` gets all output as it comes. Not
/// cancel-safe: to stop it, cancel the token and await the result.
pub(super) async fn run(
    host: &Host,
    request: ExecRequest,
    leftovers: Leftovers,
    cancel: &CancellationToken,
    mut sink: impl FnMut(&[u8]) + Send,
) -> Result<ExecResult, String> {
    let started = Instant::now();
    let (command, merged) = prepare(host, &request)?;
    let Supervised { mut supervisor, mut reports } = host.spawn(command)?;
    let pid = supervisor.id().unwrap_or_default();
    let mut out = merged.or(supervisor.stdout.take());
    let mut err = supervisor.stderr.take();
    if let Some(mut pipe) = supervisor.stdin.take() {
        let bytes = request.stdin;
        // Ends when the command has read it or is dead.
        tokio::spawn(async move {
            let _ = pipe.write_all(&bytes).await;
        });
    }
    let cap = request.output_bytes.min(MAX_OUTPUT_BYTES);
    let (mut kept_out, mut kept_err) = (HeadTail::new(cap), HeadTail::new(cap));
    let (mut buf_out, mut buf_err) = (vec![0; 32 << 10], vec![0; if err.is_some() { 32 << 10 } else { 0 }]);
    let deadline = request.timeout_ms.and_then(|t| started.checked_add(Duration::from_millis(t.0)));

    let mut report = [0; Report::LEN];
    let (mut report_len, mut reporting) = (0, true);
    let mut ended: Option<ExecEnd> = None;
    let mut gone = false;
    let mut strays = true;
    let mut killed_leftovers = false;
    let mut phase = Phase::Running;
    let mut burials = BURIALS;
    let mut wake = deadline;
    loop {
        if gone && !reporting && report_len < Report::LEN && std::mem::take(&mut strays) {
            host.kill_strays().await;
        }
        if gone && out.is_none() && err.is_none() && !reporting {
            break;
        }
        tokio::select! {
            n = read(&mut out, &mut buf_out) => match n {
                0 => out = None,
                n => { kept_out.push(&buf_out[..n]); sink(&buf_out[..n]); }
            },
            n = read(&mut err, &mut buf_err) => match n {
                0 => err = None,
                n => { kept_err.push(&buf_err[..n]); sink(&buf_err[..n]); }
            },
            n = reports.read(&mut report[report_len..]), if reporting => {
                report_len += n.as_ref().copied().unwrap_or(0);
                if report_len == Report::LEN {
                    reporting = false;
                    let report = Report::decode(report);
                    ended.get_or_insert(end_of(report.status));
                    if report.leftovers && leftovers == Leftovers::Kill {
                        killed_leftovers = phase == Phase::Running;
                        host.kill_below(pid).await;
                        (phase, wake) = (Phase::Killed, later(BURIAL));
                    }
                } else if !matches!(n, Ok(n) if n > 0) {
                    reporting = false;
                    ended.get_or_insert(ExecEnd::Lost);
                }
            },
            _ = supervisor.wait(), if !gone => {
                gone = true;
                host.forget(pid);
                (phase, wake) = (Phase::Draining, later(DRAIN));
            },
            () = cancel.cancelled(), if phase == Phase::Running && !gone => {
                ended.get_or_insert(ExecEnd::Cancelled);
                host.signal_below(pid, Signal::TERM).await;
                (phase, wake) = (Phase::Terminated, later(TERM_GRACE));
            },
            () = at(wake), if wake.is_some() => match phase {
                Phase::Running => {
                    ended.get_or_insert(ExecEnd::TimedOut);
                    host.signal_below(pid, Signal::TERM).await;
                    (phase, wake) = (Phase::Terminated, later(TERM_GRACE));
                }
                Phase::Terminated => {
                    host.kill_below(pid).await;
                    (phase, wake) = (Phase::Killed, later(BURIAL));
                }
                // On a busy machine a fork bomb can outrun one round.
                Phase::Killed if !gone && burials > 0 => {
                    burials -= 1;
                    host.kill_below(pid).await;
                    wake = later(BURIAL);
                }
                Phase::Killed | Phase::Draining => break,
            },
        }
    }
    if !gone {
        host.forget(pid);
    }
    Ok(ExecResult {
        end: ended.unwrap_or(ExecEnd::Lost),
        stdout: kept_out.take(),
        stderr: kept_err.take(),
        duration_ms: Millis(u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)),
        killed_leftovers,
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    /// `SIGTERM` is sent.
    Terminated,
    /// `SIGKILL` is sent.
    Killed,
    /// Nothing lives; the pipes may still hold something.
    Draining,
}

fn later(after: Duration) -> Option<Instant> {
    Instant::now().checked_add(after)
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}

/// Zero at the end and at an error, which for a pipe is the end too. Pending when there is nothing to read from.
async fn read(from: &mut Option<impl AsyncRead + Unpin>, buf: &mut [u8]) -> usize {
    match from {
        Some(from) => from.read(buf).await.unwrap_or(0),
        None => std::future::pending().await,
    }
}

fn end_of(status: i32) -> ExecEnd {
    let status = ExitStatus::from_raw(status);
    match (status.code(), status.signal()) {
        (Some(code), _) => ExecEnd::Exited(code),
        (None, Some(signal)) => ExecEnd::Signaled(signal),
        (None, None) => ExecEnd::Lost,
    }
}

fn prepare(host: &Host, request: &ExecRequest) -> Result<(Command, Option<tokio::process::ChildStdout>), String> {
    let mut command = match &request.program {
        Program::Shell(line) => {
            let mut c = Command::new(&host.shell);
            c.arg("-c").arg(line);
            c
        }
        Program::Argv(argv) => {
            let (program, args) = argv.split_first().ok_or("the argument list is empty; give at least a program")?;
            // `Command` would look in the server's own `PATH`.
            let mut c = Command::new(
                host.find_program(program).ok_or_else(|| format!("there is no program `{program}` in `PATH`"))?,
            );
            c.args(args);
            c
        }
    };
    let cwd = match &request.cwd {
        Some(dir) => host.place.existing(dir)?,
        None => host.place.root().to_path_buf(),
    };
    if !Path::new(&cwd).is_dir() {
        return Err(format!("`{}` is not a directory", host.place.show(&cwd)));
    }
    command.current_dir(cwd).env_clear().envs(&host.env).envs(&request.env);
    command.stdin(if request.stdin.is_empty() { Stdio::null() } else { Stdio::piped() });
    let merged = if request.merge_stderr {
        let (ours, out, err) = supervise::merged().map_err(|e| format!("no pipe for the output: {e}"))?;
        command.stdout(out).stderr(err);
        Some(ours)
    } else {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        None
    };
    Ok((command, merged))
}
