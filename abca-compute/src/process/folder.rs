//! A session's folder: its files, its locks, and what they say.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use abca_core::compute::{ComputeError, ComputeErrorKind, SessionLimits, SessionView, StartSession};
use abca_core::{SessionId, TaskId};

use super::SESSION_DIR;
use crate::tree::{self, Pidfd};

#[derive(Debug, Clone)]
pub(super) struct Folder {
    path: PathBuf,
}

/// Which of a session's two processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    Supervisor,
    Brain,
}

/// A process for ever: its pid, and when it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Name {
    pub(super) pid: i32,
    pub(super) start: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Names {
    pub(super) supervisor: Name,
    pub(super) brain: Name,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Exit {
    pub(super) code: Option<i32>,
    pub(super) signal: Option<i32>,
    pub(super) detail: Option<String>,
}

/// What goes to the supervisor through its standard input: the start with its secrets, and the descriptor of the lock.
#[derive(Serialize, Deserialize)]
pub(super) struct Handoff {
    pub(super) lock: i32,
    session: SessionId,
    task: TaskId,
    attempt: u32,
    payload: String,
    token: String,
    secrets: BTreeMap<String, String>,
    limits: SessionLimits,
}

impl Handoff {
    pub(super) fn new(request: &StartSession, lock: i32) -> Self {
        let expose = |secret: &SecretString| secret.expose_secret().to_owned();
        Self {
            lock,
            session: request.session.clone(),
            task: request.task,
            attempt: request.attempt,
            payload: request.payload.clone(),
            token: expose(&request.token),
            secrets: request.secrets.iter().map(|(name, secret)| (name.clone(), expose(secret))).collect(),
            limits: request.limits.clone(),
        }
    }

    /// What no log may show.
    pub(super) fn secrets(&self) -> Vec<String> {
        // Shorter ones would cut ordinary words out.
        self.secrets.values().chain([&self.token]).filter(|secret| secret.len() >= 6).cloned().collect()
    }

    pub(super) fn into_request(self) -> StartSession {
        StartSession {
            session: self.session,
            task: self.task,
            attempt: self.attempt,
            payload: self.payload,
            token: self.token.into(),
            secrets: self.secrets.into_iter().map(|(name, secret)| (name, secret.into())).collect(),
            limits: self.limits,
        }
    }
}

impl Folder {
    pub(super) fn of(state_dir: &Path, session: &SessionId) -> Self {
        Self { path: state_dir.join(session.as_str()) }
    }

    pub(super) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn problem(&self, what: &str) -> impl FnOnce(io::Error) -> ComputeError {
        let message = format!("{what} in `{}`", self.path.display());
        move |e| ComputeError::new(ComputeErrorKind::Internal, "session folder", message).with_source(e)
    }

    /// Makes the folder and holds it against other starts and stops, also of other processes. Blocks.
    pub(super) fn make_and_lock(&self) -> Result<File, ComputeError> {
        let make = fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.path);
        make.map_err(self.problem("cannot make the session's folder"))?;
        let file = open_lock(&self.file("start.lock")).map_err(self.problem("cannot open `start.lock`"))?;
        lock(&file, libc::F_OFD_SETLKW).map_err(self.problem("cannot lock `start.lock`"))?;
        Ok(file)
    }

    /// Takes the lock that says that the session lives, for as long as the file is open anywhere.
    pub(super) fn hold(&self) -> Result<File, ComputeError> {
        let file = open_lock(&self.file("lock")).map_err(self.problem("cannot open `lock`"))?;
        lock(&file, libc::F_OFD_SETLK).map_err(self.problem("cannot take the session's lock"))?;
        Ok(file)
    }

    /// Whether supervisor or brain live. Looks without taking the lock.
    pub(super) fn is_held(&self) -> Result<bool, ComputeError> {
        let file = match OpenOptions::new().read(true).write(true).open(self.file("lock")) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(self.problem("cannot open `lock`")(e)),
        };
        let kind = lock(&file, libc::F_OFD_GETLK).map_err(self.problem("cannot look at the session's lock"))?;
        Ok(i32::from(kind) != libc::F_UNLCK)
    }

    /// Puts the tombstone, durably.
    pub(super) fn bury(&self) -> Result<(), ComputeError> {
        let _exclusive = self.make_and_lock()?;
        self.put("stopped", b"").map_err(self.problem("cannot put the tombstone"))
    }

    pub(super) fn is_buried(&self) -> bool {
        self.file("stopped").exists()
    }

    pub(super) fn was_started(&self) -> bool {
        self.file("started").exists()
    }

    pub(super) fn mark_started(&self) -> Result<(), ComputeError> {
        self.put("started", b"").map_err(self.problem("cannot note the start"))
    }

    pub(super) fn unmark_started(&self) {
        let _ = fs::remove_file(self.file("started"));
    }

    pub(super) fn has_ended(&self) -> bool {
        self.file("exit.json").exists()
    }

    pub(super) fn log(&self) -> Result<File, ComputeError> {
        let open = OpenOptions::new().create(true).append(true).mode(0o600).open(self.file("stderr.log"));
        open.map_err(self.problem("cannot open `stderr.log`"))
    }

    pub(super) fn end_of_log(&self) -> String {
        let text = fs::read(self.file("stderr.log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let last = text.trim().lines().last().unwrap_or_default();
        if last.is_empty() {
            String::new()
        } else {
            format!("; it said `{}`", last.chars().take(200).collect::<String>())
        }
    }

    pub(super) fn name_processes(&self, names: Names) -> io::Result<()> {
        self.put("processes.json", &serde_json::to_vec(&names)?)
    }

    pub(super) fn process_names(&self) -> Option<Names> {
        serde_json::from_slice(&fs::read(self.file("processes.json")).ok()?).ok()
    }

    /// A handle on a process of the session, if it lives.
    pub(super) fn process(&self, who: Who) -> Option<Pidfd> {
        let names = self.process_names()?;
        let name = match who {
            Who::Supervisor => names.supervisor,
            Who::Brain => names.brain,
        };
        Pidfd::open_started(name.pid, name.start)
    }

    pub(super) fn put_exit(&self, exit: &Exit) -> io::Result<()> {
        self.put("exit.json", &serde_json::to_vec(exit)?)
    }

    /// How the session stands. Its end is written before its lock is free, and told after.
    pub(super) fn view(&self) -> Result<SessionView, ComputeError> {
        // Before the lock: while a start fails, another fork of the worker may hold its lock up to its own execution.
        if !self.was_started() {
            return Ok(SessionView::Unknown);
        }
        if self.is_held()? {
            return Ok(SessionView::Running { active_at: None });
        }
        if let Some(ended) = self.exit() {
            return Ok(ended);
        }
        if !self.leftovers().is_empty() {
            return Ok(SessionView::Running { active_at: None });
        }
        let detail = Some("the session's supervisor was killed".to_owned());
        Ok(SessionView::Exited { code: None, signal: None, detail })
    }

    fn exit(&self) -> Option<SessionView> {
        let exit: Exit = serde_json::from_slice(&fs::read(self.file("exit.json")).ok()?).ok()?;
        Some(SessionView::Exited { code: exit.code, signal: exit.signal, detail: exit.detail })
    }

    /// Processes that carry the session's folder in their environment.
    pub(super) fn leftovers(&self) -> Vec<Pidfd> {
        let wanted = [SESSION_DIR.as_bytes(), b"=", self.path.as_os_str().as_bytes()].concat();
        let is_ours = |pid: i32| {
            let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environ.split(|b| *b == 0).any(|variable| variable == wanted)
        };
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        pids.filter_map(|pid| {
            let start = tree::start_time(pid)?;
            is_ours(pid).then(|| Pidfd::open_started(pid, start)).flatten()
        })
        .collect()
    }

    /// Writes a file whole or not at all, durably.
    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let new = self.file(&format!("{name}.new"));
        let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, self.file(name))?;
        File::open(&self.path)?.sync_all()
    }
}

/// Sessions below a folder whose lock is held.
pub(super) fn running(state_dir: &Path) -> Result<Vec<SessionId>, ComputeError> {
    let entries = match fs::read_dir(state_dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Folder::at(state_dir.to_path_buf()).problem("cannot list sessions")(e)),
    };
    let mut running = Vec::new();
    for entry in entries.flatten() {
        let Some(session) = entry.file_name().to_str().and_then(|name| SessionId::new(name).ok()) else { continue };
        if matches!(Folder::at(entry.path()).view()?, SessionView::Running { .. }) {
            running.push(session);
        }
    }
    running.sort();
    Ok(running)
}

fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// A lock on the open file as a whole, which forks share; gives the kind of lock that was found.
fn lock(file: &File, how: i32) -> io::Result<libc::c_short> {
    // SAFETY: zero is a value of this plain structure.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    loop {
        // SAFETY: the descriptor and the structure live through the call.
        if unsafe { libc::fcntl(file.as_raw_fd(), how, &raw mut lock) } == 0 {
            return Ok(lock.l_type);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_seen_by_others_and_ends_with_its_last_holder() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::at(dir.path().join("s"));
        assert!(!folder.is_held().unwrap());
        drop(folder.make_and_lock().unwrap());
        let held = folder.hold().unwrap();
        let second = held.try_clone().unwrap();
        assert!(folder.hold().is_err());
        drop(held);
        assert!(folder.is_held().unwrap());
        drop(second);
        assert!(!folder.is_held().unwrap());
    }
}
