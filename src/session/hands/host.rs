//! Where the server runs things: the work tree, the environment of commands, and the supervisors it has started.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::Signal;
use tokio::process::Command;

use super::processes;
use super::protocol::HandsConfig;
use super::supervise::{self, Supervised};
use crate::session::tools::Place;

/// Everything a command needs to start, and what is needed to end it.
#[derive(Debug)]
pub(super) struct Host {
    pub place: Place,
    pub home: PathBuf,
    pub shell: PathBuf,
    pub env: BTreeMap<String, String>,
    /// The server has the process for itself: it is a subreaper, and every child that is no supervisor is a stray.
    own_process: bool,
    supervisors: Arc<Mutex<BTreeSet<u32>>>,
}

impl Host {
    /// # Errors
    /// A text that says which part of the configuration does not hold.
    pub fn new(config: &HandsConfig, own_process: bool) -> Result<Self, String> {
        if !processes::visible() {
            return Err("`/proc` is not mounted or not readable; without it processes cannot be stopped".into());
        }
        let place = Place::new(&config.root, &config.tmp)?;
        std::fs::create_dir_all(&config.home)
            .map_err(|e| format!("the home folder `{}` cannot be made: {e}", config.home.display()))?;
        let shell = ["bash", "sh"]
            .iter()
            .find_map(|name| which(&config.path, name))
            .or_else(|| executable(Path::new("/bin/sh")))
            .ok_or_else(|| format!("there is neither bash nor sh in `{}`", config.path))?;
        let text = |p: &Path| p.to_string_lossy().into_owned();
        let mut env: BTreeMap<String, String> =
            BUILT_IN.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        env.insert("HOME".into(), text(&config.home));
        env.insert("TMPDIR".into(), text(&config.tmp));
        env.insert("PATH".into(), config.path.clone());
        env.insert("SHELL".into(), text(&shell));
        env.extend(config.env.clone());
        Ok(Self { place, home: config.home.clone(), shell, env, own_process, supervisors: Arc::default() })
    }

    /// Starts a command under a supervisor, and remembers that one.
    pub fn spawn(&self, command: Command) -> Result<Supervised, String> {
        // Held meanwhile, so that no sweep takes the new supervisor for a stray.
        let mut known = self.supervisors.lock().unwrap_or_else(PoisonError::into_inner);
        let program = command.as_std().get_program().to_string_lossy().into_owned();
        let new =
            supervise::spawn(command, self.own_process).map_err(|e| format!("`{program}` cannot be started: {e}"))?;
        known.extend(new.supervisor.id());
        Ok(new)
    }

    /// For a supervisor that has been waited for.
    pub fn forget(&self, supervisor: u32) {
        self.supervisors.lock().unwrap_or_else(PoisonError::into_inner).remove(&supervisor);
    }

    pub async fn signal_below(&self, supervisor: u32, signal: Signal) {
        off_thread(move || processes::signal_descendants(supervisor, signal)).await;
    }

    pub async fn kill_below(&self, supervisor: u32) {
        off_thread(move || processes::kill_descendants(supervisor)).await;
    }

    /// Kills what killed supervisors left behind; nothing when the process is shared with others.
    pub async fn kill_strays(&self) {
        if self.own_process {
            let known = self.supervisors.clone();
            off_thread(move || {
                processes::kill_strays(&known.lock().unwrap_or_else(PoisonError::into_inner));
            })
            .await;
        }
    }

    /// A program by name in `PATH`, or by path.
    pub fn find_program(&self, name: &str) -> Option<PathBuf> {
        if name.contains('/') {
            return Some(name.into());
        }
        which(self.env.get("PATH")?, name)
    }
}

/// What every command sees unless the configuration says otherwise: no prompts, no pagers, no colours.
const BUILT_IN: &[(&str, &str)] = &[
    ("CI", "1"),
    ("TERM", "dumb"),
    ("NO_COLOR", "1"),
    ("LANG", "C.UTF-8"),
    ("PAGER", "cat"),
    ("GIT_PAGER", "cat"),
    ("GIT_TERMINAL_PROMPT", "0"),
    ("GIT_EDITOR", "true"),
    ("GIT_AUTHOR_NAME", abca_core::names::GIT_NAME),
    ("GIT_AUTHOR_EMAIL", abca_core::names::GIT_EMAIL),
    ("GIT_COMMITTER_NAME", abca_core::names::GIT_NAME),
    ("GIT_COMMITTER_EMAIL", abca_core::names::GIT_EMAIL),
    ("DEBIAN_FRONTEND", "noninteractive"),
];

fn which(path: &str, name: &str) -> Option<PathBuf> {
    path.split(':').filter(|dir| dir.starts_with('/')).find_map(|dir| executable(&Path::new(dir).join(name)))
}

fn executable(path: &Path) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let meta = std::fs::metadata(path).ok()?;
    (meta.is_file() && meta.permissions().mode() & 0o111 != 0).then(|| path.to_path_buf())
}

async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) {
    // Fails only when the work panics or the runtime ends; then there is nobody to tell.
    let _ = tokio::task::spawn_blocking(work).await;
}
