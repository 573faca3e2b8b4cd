//! The mark that a folder's task has ended, and folders of sessions that are let go by it.
//!
//! A task may be removed from the store before the folders of its place are: the store then says nothing of it, as it
//! says nothing of a task of another store. So a folder is marked while the store still tells that its task has ended, and
//! only what is marked is ever removed without asking.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use abca_core::store::StoreError;
use abca_core::{Millis, SessionId, TaskId, Timestamp};

use super::Sweeper;
use crate::orchestrator::{load_readable, task_of};

/// The mark: a file that holds the moment of the end, in milliseconds.
const MARK: &str = "task-ended";
/// So many folders at most are looked up or removed at once: the rest have their turn at the next look.
const AT_ONCE: usize = 200;

/// Marks a folder. One that is gone, or cannot be written, stays as it is.
pub(super) fn mark(dir: &Path, ended: Timestamp) {
    let mark = dir.join(MARK);
    if !mark.exists()
        && let Err(error) = std::fs::write(&mark, ended.as_millis().to_string())
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::debug!(mark = %mark.display(), %error, "a folder could not be marked as of an ended task");
    }
}

/// When the task of a folder ended, if it is marked.
pub(super) fn marked(dir: &Path) -> Option<Timestamp> {
    let text = std::fs::read_to_string(dir.join(MARK)).ok()?;
    text.trim().parse().ok().map(Timestamp::from_millis)
}

impl Sweeper {
    /// Removes folders of sessions whose task ended longer ago than this and that do not run: what a backend keeps of
    /// them is of use to nobody any more.
    pub(super) async fn let_sessions_go(&self, keep: Millis) -> Result<usize, StoreError> {
        let now = self.clock.now();
        let is_old = move |ended: Timestamp| now.since(ended) >= keep;
        let root = self.session_root.clone();
        let (old, unmarked) = tokio::task::spawn_blocking(move || sorted(&root, is_old)).await.unwrap_or_default();
        let tasks: Vec<TaskId> = unmarked.iter().filter_map(task_of).collect();
        if !tasks.is_empty() {
            let loaded = load_readable(&*self.store, &tasks).await?;
            for (session, found) in unmarked.iter().zip(loaded) {
                let ended = found.map(|s| s.task).filter(|t| t.status.is_terminal());
                if let Some(at) = ended.map(|t| t.completed_at.unwrap_or(t.updated_at)) {
                    mark(&self.session_root.join(session.as_str()), at);
                }
            }
        }
        if old.is_empty() {
            return Ok(0);
        }
        let running: BTreeSet<SessionId> = match self.compute.sessions().await {
            Ok(running) => running.into_iter().collect(),
            Err(error) => {
                tracing::warn!(%error, "sessions cannot be listed; their folders stay for now");
                return Ok(0);
            }
        };
        let root = self.session_root.clone();
        let gone = old.into_iter().filter(|s| !running.contains(s)).map(move |s| root.join(s.as_str()));
        let gone: Vec<PathBuf> = gone.collect();
        Ok(tokio::task::spawn_blocking(move || remove(&gone)).await.unwrap_or_default())
    }
}

/// Folders of sessions: those that are marked as old enough, and those without a mark, of each at most [`AT_ONCE`].
fn sorted(root: &Path, is_old: impl Fn(Timestamp) -> bool) -> (Vec<SessionId>, Vec<SessionId>) {
    let (mut old, mut unmarked) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        let session = entry.file_name().to_str().and_then(|name| SessionId::new(name).ok());
        let Some(session) = session.filter(|s| task_of(s).is_some()) else { continue };
        match marked(&entry.path()) {
            Some(ended) if is_old(ended) && old.len() < AT_ONCE => old.push(session),
            None if unmarked.len() < AT_ONCE => unmarked.push(session),
            Some(_) | None => {}
        }
    }
    (old, unmarked)
}

fn remove(folders: &[PathBuf]) -> usize {
    let removed = |dir: &&PathBuf| match std::fs::remove_dir_all(dir) {
        Ok(()) => true,
        Err(error) => {
            if error.kind() != std::io::ErrorKind::NotFound {
                tracing::debug!(dir = %dir.display(), %error, "the folder of a session could not be removed yet");
            }
            false
        }
    };
    folders.iter().filter(removed).count()
}
