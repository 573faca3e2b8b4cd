//! Handing descriptors and argument lists to a child, and the one thread that starts children.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::mpsc;

/// A file without a name that holds `bytes`, at its beginning.
pub(super) fn memory_file(bytes: &[u8]) -> io::Result<OwnedFd> {
    let fd = open_memory_file()?;
    let mut file = std::fs::File::from(fd.try_clone()?);
    file.write_all(bytes)?;
    io::Seek::rewind(&mut file)?;
    Ok(fd)
}

fn open_memory_file() -> io::Result<OwnedFd> {
    // SAFETY: the name is a C string; the descriptor that comes back is fresh and ours.
    unsafe {
        let fd = libc::memfd_create(c"abca".as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING);
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
    }
}

/// A program's bytes in a file that nobody can write any more, not even its owner through `/proc/PID/exe`.
pub(super) fn sealed_copy(program: &std::path::Path) -> io::Result<OwnedFd> {
    let fd = open_memory_file()?;
    let mut file = std::fs::File::from(fd.try_clone()?);
    io::copy(&mut std::fs::File::open(program)?, &mut file)?;
    let seals = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;
    // SAFETY: plain integers on a descriptor that lives.
    if unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(fd)
}

/// Arguments as NUL-separated bytes.
///
/// # Errors
/// `InvalidInput` when an argument holds a NUL byte.
pub(super) fn join(args: &[OsString]) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for arg in args {
        if arg.as_bytes().contains(&0) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "an argument holds a NUL byte"));
        }
        bytes.extend_from_slice(arg.as_bytes());
        bytes.push(0);
    }
    Ok(bytes)
}

/// The child keeps only its standard streams and `keep`; before it executes, it enters the groups behind `doors`.
pub(super) fn keep_only(command: &mut Command, keep: Vec<RawFd>, doors: Vec<RawFd>) {
    let prepare = move || {
        // SAFETY: every call takes plain integers or a static byte, is async-signal-safe, and touches only this child.
        unsafe {
            if libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) < 0 {
                return Err(io::Error::last_os_error());
            }
            for fd in &keep {
                if libc::fcntl(*fd, libc::F_SETFD, 0) < 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            for door in &doors {
                if libc::write(*door, c"0".as_ptr().cast(), 1) != 1 {
                    return Err(io::Error::last_os_error());
                }
            }
        }
        Ok(())
    };
    // SAFETY: the closure allocates nothing and calls only async-signal-safe functions.
    unsafe { command.pre_exec(prepare) };
}

type Job = Box<dyn FnOnce() + Send>;

/// Runs `job` on the thread that starts all children. A child's death signal follows the *thread* that forked it: this
/// one lives as long as the process.
pub(super) fn on_spawner(job: impl FnOnce() + Send + 'static) {
    static SPAWNER: OnceLock<mpsc::Sender<Job>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, jobs) = mpsc::channel::<Job>();
        let run = move || jobs.iter().for_each(|job| job());
        if let Err(error) = std::thread::Builder::new().name("abca-spawner".to_owned()).spawn(run) {
            tracing::error!(%error, "cannot start the thread that starts children");
        }
        sender
    });
    // Without the thread the job is dropped, and its answer channel with it: the caller sees that.
    let _ = spawner.send(Box::new(job));
}
