//! Process trees: who descends from whom, and how to end all of them.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use tokio::io::unix::AsyncFd;

/// Every living process below `root`, nearest first. Unreadable or vanished ones are left out.
pub(crate) fn descendants(root: i32) -> Vec<i32> {
    let mut found = Vec::new();
    let mut at = 0;
    push_children(root, &mut found);
    while let Some(pid) = found.get(at).copied() {
        push_children(pid, &mut found);
        at += 1;
    }
    found
}

fn push_children(pid: i32, found: &mut Vec<i32>) {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return };
    for task in tasks.flatten() {
        let Ok(text) = fs::read_to_string(task.path().join("children")) else { continue };
        for child in text.split_ascii_whitespace().filter_map(|word| word.parse().ok()) {
            if !found.contains(&child) {
                found.push(child);
            }
        }
    }
}

/// When a process started, in clock ticks since boot: with the pid, it names a process for ever. None for a zombie.
pub(crate) fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command name may hold spaces and parentheses: fields count from the last one.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    if matches!(fields.first(), Some(&"Z" | &"X")) {
        return None;
    }
    fields.get(19)?.parse().ok()
}

/// Kills and reaps everything below this process, which is their subreaper or their namespace's init, until nothing is
/// left. Reaps in between whatever ends. Calls `reaped` for each.
pub(crate) fn end_all_below(mut reaped: impl FnMut(i32, i32)) {
    let me = std::process::id().cast_signed();
    loop {
        for pid in descendants(me) {
            // SAFETY: kill takes plain integers. A pid below us is ours to reap, so it cannot have been reused unless
            // it lies deeper; even then it descends from us.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        loop {
            let mut status = 0;
            // SAFETY: waitpid writes into a local integer.
            match unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) } {
                0 => break,
                -1 => return,
                pid => reaped(pid, status),
            }
        }
        // The kernel ends them on its own time: nothing to wait on for a whole tree.
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// A handle on one process that no reuse of its pid can redirect.
#[derive(Debug)]
pub(crate) struct Pidfd(OwnedFd);

impl Pidfd {
    /// Opens a living process or an unreaped zombie.
    pub(crate) fn open(pid: i32) -> io::Result<Self> {
        // SAFETY: pidfd_open takes plain integers and returns a new descriptor, close-on-exec.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is fresh and ours.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd as RawFd) }))
    }

    /// Opens the process with this pid, if it is still the one that started at `start`.
    pub(crate) fn open_started(pid: i32, start: u64) -> Option<Self> {
        let fd = Self::open(pid).ok()?;
        (start_time(pid) == Some(start)).then_some(fd)
    }

    /// Sends a signal; a process that is gone is no error.
    pub(crate) fn signal(&self, signal: i32) {
        // SAFETY: the descriptor lives; a null siginfo means what kill would send.
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.0.as_raw_fd(), signal, std::ptr::null::<u8>(), 0) };
    }

    /// Blocks until the process has ended, or the time is over; whether it has ended.
    pub(crate) fn ended_within(&self, time: std::time::Duration) -> io::Result<bool> {
        let mut poll = libc::pollfd { fd: self.0.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let ms = i32::try_from(time.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: one initialised entry that lives through the call.
        match unsafe { libc::poll(&raw mut poll, 1, ms) } {
            -1 => Err(io::Error::last_os_error()),
            ready => Ok(ready > 0),
        }
    }

    /// Answers when the process has ended. Cancel-safe.
    pub(crate) async fn ended(&self) -> io::Result<()> {
        // SAFETY: the borrowed descriptor outlives the registration, and nothing else gives its number out meanwhile.
        let fd = unsafe { AsyncFd::register_with_interest(self.0.as_fd(), tokio::io::Interest::READABLE) }?;
        fd.readable().await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_found_below_its_parent_and_named_by_its_start() {
        let me = std::process::id().cast_signed();
        let mut child = std::process::Command::new("/bin/cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let pid = child.id().cast_signed();
        assert!(descendants(me).contains(&pid));
        let start = start_time(pid).unwrap();
        assert!(Pidfd::open_started(pid, start).is_some());
        assert!(Pidfd::open_started(pid, start + 1).is_none());
        Pidfd::open(pid).unwrap().signal(libc::SIGKILL);
        child.wait().unwrap();
        assert_eq!(start_time(pid), None);
    }
}
