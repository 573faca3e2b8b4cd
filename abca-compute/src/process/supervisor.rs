//! Inside a session: the supervisor, and the brain that it forks.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::JoinHandle;

use abca_core::compute::StartSession;

use super::folder::{Exit, Folder, Handoff, Name, Names};
use super::{SESSION, SESSION_DIR};
use crate::pipe::pipe;
use crate::tree;

/// Becomes a session: reads the start from standard input, forks the supervisor, which forks the brain, and lets `run`
/// be the brain. `main` calls it when its last argument is [`SESSION`], before any thread or runtime exists. The
/// session's exit code is what `run` gives; a panic is 101.
///
/// The brain gets `SIGTERM` when the session shall save its work and end. It dies with the supervisor, and every
/// process it started, detached ones included, ends with it.
pub fn supervise(run: impl FnOnce(StartSession) -> i32) -> ! {
    let failed = |what: &str| -> ! {
        let _nobody_reads = writeln!(io::stderr(), "abca: {what}");
        exit(2)
    };
    let mut bytes = Vec::new();
    if let Err(error) = io::stdin().read_to_end(&mut bytes) {
        failed(&format!("cannot read the start of the session ({error})"));
    }
    let Ok(handoff) = serde_json::from_slice::<Handoff>(&bytes) else {
        failed(&format!("`{SESSION}` is for abca's own use"))
    };
    drop(bytes);
    let Some(folder) = std::env::var_os(SESSION_DIR) else { failed("the session has no folder") };
    let folder = Folder::at(folder.into());
    let Ok((ready, tell)) = pipe() else { failed("no pipe") };
    match fork() {
        Ok(0) => {
            drop(ready);
            match be_supervisor(handoff, &folder, tell, run) {
                Ok(never) => match never {},
                Err(error) => failed(&format!("the supervisor failed ({error})")),
            }
        }
        Ok(_) => {
            drop((tell, handoff));
            let mut byte = [0];
            let told = File::from(ready).read_exact(&mut byte).is_ok();
            exit(if told { 0 } else { 3 })
        }
        Err(error) => failed(&format!("cannot fork ({error})")),
    }
}

enum Never {}

fn exit(code: i32) -> ! {
    // SAFETY: leaves at once; a fork must not run the exit handlers of its origin.
    unsafe { libc::_exit(code) }
}

fn fork() -> io::Result<i32> {
    // SAFETY: this process has one thread, so its copy may go on as it is.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(pid),
    }
}

fn myself() -> Name {
    let pid = std::process::id().cast_signed();
    Name { pid, start: tree::start_time(pid).unwrap_or(0) }
}

fn be_supervisor(
    handoff: Handoff,
    folder: &Folder,
    ready: OwnedFd,
    run: impl FnOnce(StartSession) -> i32,
) -> io::Result<Never> {
    // SAFETY: whoever started us left this descriptor for us: the lock, which brain and supervisor hold by having it
    // open. What they execute does not get it.
    unsafe { libc::fcntl(handoff.lock, libc::F_SETFD, libc::FD_CLOEXEC) };
    // SAFETY: plain integers.
    if unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let null = File::options().read(true).write(true).open("/dev/null")?;
    redirect(&null, &[0, 1])?;
    let (errors, complain) = pipe()?;
    let supervisor = myself();
    let brain = fork()?;
    if brain == 0 {
        drop((ready, errors));
        die_with(supervisor.pid)?;
        redirect(&File::from(complain), &[2])?;
        let request = handoff.into_request();
        let code = catch_unwind(AssertUnwindSafe(|| run(request))).unwrap_or(101);
        // The ordinary end of a program: its own exit handlers run.
        std::process::exit(code);
    }
    drop(complain);
    // Only the brain is asked to end; the supervisor ends after it.
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        // SAFETY: ignoring a signal.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    let start = tree::start_time(brain).unwrap_or(0);
    folder.name_processes(Names { supervisor, brain: Name { pid: brain, start } })?;
    let log = folder.log().map_err(io::Error::other)?;
    let secrets = handoff.secrets();
    drop(handoff);
    File::from(ready).write_all(b"1")?;
    redirect(&null, &[2])?;
    let pump = std::thread::Builder::new().spawn(move || pump(File::from(errors), log, &secrets))?;
    let status = reap_until(brain)?;
    tree::end_all_below(|_, _| ());
    folder.put_exit(&verdict(status, pump))?;
    exit(0)
}

fn die_with(parent: i32) -> io::Result<()> {
    // SAFETY: plain integers.
    if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: no arguments.
    if unsafe { libc::getppid() } != parent {
        exit(125);
    }
    Ok(())
}

fn redirect(to: &File, streams: &[i32]) -> io::Result<()> {
    for stream in streams {
        // SAFETY: both descriptors are ours.
        if unsafe { libc::dup2(to.as_raw_fd(), *stream) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Waits for the brain, and reaps whatever orphans come up to us meanwhile.
fn reap_until(brain: i32) -> io::Result<i32> {
    loop {
        let mut status = 0;
        // SAFETY: waitpid writes into a local integer.
        let ended = unsafe { libc::waitpid(-1, &raw mut status, 0) };
        if ended == brain {
            return Ok(status);
        }
        if ended < 0 {
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }
}

fn verdict(status: i32, pump: JoinHandle<String>) -> Exit {
    // Nothing of the session runs any more, so its standard error has ended.
    let tail = pump.join().unwrap_or_default();
    let (code, signal) = if libc::WIFSIGNALED(status) {
        (None, Some(libc::WTERMSIG(status)))
    } else {
        (Some(libc::WEXITSTATUS(status)), None)
    };
    let tail = tail.trim();
    let skip = tail.chars().count().saturating_sub(DETAIL_CHARS);
    let detail: String = tail.chars().skip(skip).collect();
    Exit { code, signal, detail: Some(detail).filter(|d| !d.is_empty()) }
}

/// The contract's limit of a last word.
const DETAIL_CHARS: usize = 1_000;
const LOG_BYTES: u64 = 1 << 20;
/// Longer lines are cut into pieces of this size.
const LINE_BYTES: usize = 16 << 10;

/// Copies standard error into the log, line by line, up to its limit, with the secrets cut out. Gives the end.
fn pump(errors: File, mut log: File, secrets: &[String]) -> String {
    let mut reader = io::BufReader::new(errors);
    let (mut line, mut tail, mut left) = (Vec::new(), String::new(), LOG_BYTES);
    loop {
        line.clear();
        let piece = &mut (&mut reader).take(LINE_BYTES as u64);
        if io::BufRead::read_until(piece, b'\n', &mut line).unwrap_or(0) == 0 {
            return tail;
        }
        let text = secrets.iter().fold(String::from_utf8_lossy(&line).into_owned(), |text, secret| {
            text.replace(secret.as_str(), "[redacted]")
        });
        let bytes = text.len() as u64;
        if bytes <= left && log.write_all(text.as_bytes()).is_ok() {
            left -= bytes;
        } else {
            left = 0;
        }
        tail.push_str(&text);
        if tail.len() > 8 * LINE_BYTES {
            let from = tail.char_indices().map(|(i, _)| i).find(|i| *i >= tail.len() - LINE_BYTES).unwrap_or(0);
            tail.drain(..from);
        }
    }
}
