//! The hands: a small server that runs tools on the work tree, and the brain's client for it.
//!
//! The brain starts one server for a session, inside the sandbox, and speaks to it over the server's standard input
//! and output. Everything behind that pipe may be hostile: the commands run as the server's own user. So the client
//! believes nothing that it has not checked, and the server protects itself only so far as to die honestly:
//!
//! * the server cannot be traced nor its descriptors be opened by what it runs (it is not dumpable);
//! * as process 1 of a pid namespace (`bwrap --as-pid-1`) it survives `kill -9 -1`; elsewhere that kills it, every call
//!   in flight answers [`HandsErrorKind::Died`], and [`Hands`] starts a new one;
//! * every command runs in a session of its own under a supervisor that inherits whatever tries to escape, so that
//!   timeout, cancel and the command's end leave nothing behind;
//! * output is kept in bounded memory, both ends of it, the middle counted.
//!
//! Linux only: it needs `/proc`, subreapers and pidfds.

mod client;
mod error;
mod exec;
mod host;
mod output;
mod processes;
mod protocol;
mod restart;
mod server;
mod shells;
mod supervise;

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::process::{DumpableBehavior, set_child_subreaper, set_dumpable_behavior};
use tokio::process::{ChildStdin, ChildStdout};

pub use client::{Chunk, Client};
pub use error::{HandsError, HandsErrorKind};
pub use exec::{DEFAULT_OUTPUT_BYTES, ExecEnd, ExecRequest, ExecResult, MAX_OUTPUT_BYTES, Program};
pub use output::Captured;
pub use protocol::{FileBytes, FileKind, FileStat, HandsConfig, HandsInfo, MAX_FRAME_BYTES, PROTOCOL_VERSION};
pub use restart::{Hands, Launch, Launched};
pub(crate) use shells::ShellNews;

/// First argument that makes a program the hands server: `main` checks for it before anything else and calls [`serve`].
pub const HANDS_ARG: &str = "__abca-hands";

/// Is the hands server, on standard input and output, until the brain closes them. Blocking; call it first thing in
/// `main`, on the main thread, with no other thread running.
///
/// Standard input and output become `/dev/null` for everything else, so that nothing can write into the protocol.
///
/// # Errors
/// When standard input or output is no pipe or socket, or when the connection breaks.
pub fn serve() -> io::Result<()> {
    // Else what runs here could read our memory and write into our pipes, being the same user.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    set_child_subreaper(Some(rustix::process::getpid()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(8).build()?;
    let done = runtime.block_on(async {
        let from = ChildStdout::from_std(take_over(io::stdin().as_fd())?.into())?;
        let to = ChildStdin::from_std(take_over(io::stdout().as_fd())?.into())?;
        let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
        rustix::stdio::dup2_stdin(&null)?;
        rustix::stdio::dup2_stdout(&null)?;
        server::serve(from, to, true).await
    });
    // A blocked file operation does not hold up the end.
    runtime.shutdown_background();
    done
}

/// Is the hands server in this process, at the other end of a pair of pipes: for tests and for sessions without walls.
/// Commands run as this process's children, with its rights; what escapes by killing its own supervisor is not found.
///
/// The task ends by itself, after its commands, when the other end is dropped. Do not abort it: it would leave them.
pub fn serve_in_process(pipes: tokio::io::DuplexStream) -> tokio::task::JoinHandle<io::Result<()>> {
    let (from, to) = tokio::io::split(pipes);
    tokio::spawn(server::serve(from, to, false))
}

fn take_over(fd: std::os::fd::BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // Duplicated above the standard ones and closed on exec.
    Ok(rustix::io::fcntl_dupfd_cloexec(fd, 3)?)
}
