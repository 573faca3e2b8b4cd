//! One supervisor for each command: it knows everything the command ever started, however hard that tries to get away.
//!
//! The supervisor is forked between server and command and is a *child subreaper*: whoever loses its parent below it
//! (double fork, `setsid`, `nohup`) becomes its child, never anybody else's. It waits for all of them, reports how the
//! command itself ended, and exits when nothing is left. It executes no program and allocates nothing.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::process::Stdio;

use rustix::pipe::{PipeFlags, pipe_with};
use tokio::process::{Child, ChildStdout, Command};

/// A command under its supervisor.
pub(super) struct Supervised {
    /// The supervisor. Its exit means that nothing of the command is left.
    pub supervisor: Child,
    /// Where it reports; see [`Report`].
    pub reports: ChildStdout,
}

/// What a supervisor says when its command has ended; the end of the stream without it: the supervisor was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Report {
    /// The command's wait status.
    pub status: i32,
    /// Whether processes that it started are still there.
    pub leftovers: bool,
}

impl Report {
    pub const LEN: usize = 5;

    pub fn decode([a, b, c, d, left]: [u8; Self::LEN]) -> Self {
        Self { status: i32::from_ne_bytes([a, b, c, d]), leftovers: left != 0 }
    }

    fn encode(self) -> [u8; Self::LEN] {
        let [a, b, c, d] = self.status.to_ne_bytes();
        [a, b, c, d, u8::from(self.leftovers)]
    }
}

/// Starts a command, in a session of its own, under a new supervisor. With `die_with_server`, the supervisor and the
/// command are killed when the calling thread ends, so only for a thread that lives as long as the program.
///
/// # Errors
/// What the system says when the program cannot be started, as for [`Command::spawn`].
pub(super) fn spawn(mut command: Command, die_with_server: bool) -> io::Result<Supervised> {
    let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
    let fd = theirs.as_raw_fd();
    let server = i32::try_from(std::process::id()).unwrap_or(0);
    // SAFETY: the closure runs in a forked child; `split` and what it calls use system calls only, no allocation and no lock.
    unsafe { command.pre_exec(move || split(fd, die_with_server.then_some(server))) };
    let supervisor = command.kill_on_drop(false).spawn()?;
    Ok(Supervised { supervisor, reports: from_fd(ours)? })
}

/// A pipe's reading end as something to read from asynchronously.
pub(super) fn from_fd(fd: OwnedFd) -> io::Result<ChildStdout> {
    ChildStdout::from_std(fd.into())
}

/// One pipe for a command's standard output and error, so that both keep their order.
pub(super) fn merged() -> io::Result<(ChildStdout, Stdio, Stdio)> {
    let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
    let second = theirs.try_clone()?;
    Ok((from_fd(ours)?, theirs.into(), second.into()))
}

/// Becomes two: the parent stays as supervisor and never returns, the child goes on to be the command.
fn split(report_to: RawFd, die_with: Option<libc::pid_t>) -> io::Result<()> {
    // SAFETY: plain system calls on integers, in a process with one thread.
    unsafe {
        libc::setsid();
        if libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) != 0 {
            return Err(io::Error::last_os_error());
        }
        if let Some(server) = die_with {
            die_with_parent(server);
        }
        let me = libc::getpid();
        match libc::fork() {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                libc::setsid();
                die_with_parent(me);
                Ok(())
            }
            command => watch(command, report_to),
        }
    }
}

/// Dies when the parent does, also when it did before this was called.
fn die_with_parent(parent: libc::pid_t) {
    // SAFETY: system calls on integers.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        if libc::getppid() != parent {
            libc::_exit(1);
        }
    }
}

/// The supervisor's life.
///
/// # Safety
/// Only for a process that was just forked, has one thread, and shares its file descriptors with nobody who needs them.
unsafe fn watch(command: libc::pid_t, report_to: RawFd) -> ! {
    // SAFETY: plain system calls on integers and on buffers of this stack.
    unsafe {
        for signal in 1..=31 {
            if signal != libc::SIGCHLD {
                libc::signal(signal, libc::SIG_IGN);
            }
        }
        // Holding a pipe of the command's, or std's pipe that reports a failed exec, would keep its reader waiting.
        libc::dup2(report_to, 0);
        if libc::syscall(libc::SYS_close_range, 1, u32::MAX, 0) != 0 {
            for fd in 1..4096 {
                libc::close(fd);
            }
        }
        loop {
            let mut status = 0;
            let pid = libc::waitpid(-1, &raw mut status, 0);
            if pid < 0 && *libc::__errno_location() != libc::EINTR {
                libc::_exit(0);
            }
            if pid == command {
                let mut other = 0;
                let left = loop {
                    match libc::waitpid(-1, &raw mut other, libc::WNOHANG) {
                        0 => break true,
                        reaped if reaped > 0 => {}
                        _ => break false,
                    }
                };
                let report = Report { status, leftovers: left }.encode();
                libc::write(0, report.as_ptr().cast(), report.len());
                libc::close(0);
            }
        }
    }
}
