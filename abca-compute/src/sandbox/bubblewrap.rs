//! Walls by bubblewrap.

use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use abca_core::compute::NetworkMode;

use super::enter::INSIDE_ID;
use super::handoff::{join, memory_file, sealed_copy};
use super::{Inner, Launch, seccomp};
use crate::pipe::pipe;

#[derive(Debug)]
pub(super) struct Bubblewrap {
    program: PathBuf,
    /// Set where we could write to the program: then the inside, the same user to the kernel, could through
    /// `/proc/1/exe`. Executed instead of it.
    sealed: Option<OwnedFd>,
    filter: Vec<u8>,
}

/// Not `PATH`: a folder that somebody else may write to is no place for a wall.
const PLACES: &[&str] = &["/usr/bin/bwrap", "/usr/local/bin/bwrap", "/bin/bwrap", "/run/current-system/sw/bin/bwrap"];

impl Bubblewrap {
    pub(super) fn find() -> Result<Self, String> {
        let program = PLACES.iter().map(Path::new).find(|path| path.is_file()).ok_or("`bwrap` is not installed")?;
        let name = CString::new(program.as_os_str().as_bytes()).map_err(|e| e.to_string())?;
        // SAFETY: a C string that lives through the call.
        let writable = unsafe { libc::access(name.as_ptr(), libc::W_OK) } == 0;
        let sealed = writable.then(|| sealed_copy(program)).transpose().map_err(|e| format!("cannot copy it ({e})"))?;
        let filter = seccomp::to_bytes(&seccomp::filter()?);
        Ok(Self { program: program.to_path_buf(), sealed, filter })
    }

    pub(super) fn launch(&self, inner: &Inner, argv: &[OsString]) -> io::Result<Launch> {
        let filter = memory_file(&self.filter)?;
        let (report, reporting) = pipe()?;
        let id = INSIDE_ID.to_string();
        let mut args: Vec<OsString> = Vec::new();
        let mut say = |words: &[&str]| args.extend(words.iter().map(Into::into));
        say(&["--die-with-parent", "--new-session", "--unshare-user", "--uid", &id, "--gid", &id]);
        say(&["--unshare-pid", "--unshare-ipc", "--unshare-uts", "--hostname", "abca", "--unshare-cgroup-try"]);
        if inner.limits.network != NetworkMode::Host {
            say(&["--unshare-net"]);
        }
        say(&["--cap-drop", "ALL"]);
        say(&["--seccomp", &filter.as_raw_fd().to_string(), "--info-fd", &reporting.as_raw_fd().to_string()]);
        for (name, value) in &inner.env {
            say(&["--setenv", name, value]);
        }
        args.extend_from_slice(&inner.layout);
        args.extend(["--chdir".into(), inner.inside.clone().into_os_string()]);
        // In a file: argv is for everybody to read, inside through /proc/1 too.
        let args = memory_file(&join(&args)?)?;
        join(argv)?;
        let mut command = match &self.sealed {
            None => Command::new(&self.program),
            Some(fd) => Command::new(format!("/proc/self/fd/{}", fd.as_raw_fd())),
        };
        command.arg("--args").arg(args.as_raw_fd().to_string()).arg("--").args(argv);
        Ok(Launch { command, fds: vec![args, filter, reporting], report })
    }
}

/// The pid of the first process inside, from bubblewrap's own report.
pub(super) fn init_of(report: &str) -> Option<i32> {
    let report: serde_json::Value = serde_json::from_str(report).ok()?;
    report.get("child-pid")?.as_i64()?.try_into().ok()
}
