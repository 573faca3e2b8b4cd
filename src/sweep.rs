//! Removes the work folders that sessions are done with, away from every task's path.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;

/// Names what is to be removed: a session renames its folder so, in one step, and is done with it.
const GONE: &str = ".gone-";
/// How often the sweeper looks.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Hands a folder over to the sweeper of whatever worker comes by. Answers at once, however large the folder is.
pub(crate) fn give_up(dir: &Path) -> std::io::Result<()> {
    match (dir.parent(), dir.file_name()) {
        (Some(parent), Some(name)) => {
            let mut gone = std::ffi::OsString::from(GONE);
            gone.push(name);
            std::fs::rename(dir, parent.join(gone))
        }
        _ => Ok(()),
    }
}

/// Sweeps a folder of work folders until it is dropped.
pub(crate) fn start(work_root: PathBuf) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let root = work_root.clone();
            if let Err(error) = tokio::task::spawn_blocking(move || sweep(&root)).await {
                tracing::warn!(%error, "sweeping broke off");
            }
        }
    }))
}

/// Removes what was given up. What cannot be removed now is tried again at the next look; several may sweep at once.
fn sweep(work_root: &Path) {
    let Ok(entries) = std::fs::read_dir(work_root) else { return };
    for entry in entries.flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(GONE.as_bytes())
            && let Err(error) = std::fs::remove_dir_all(entry.path())
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::debug!(path = %entry.path().display(), %error, "a work folder could not be removed yet");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_up_is_removed_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        for name in ["done", "busy"] {
            std::fs::create_dir_all(root.path().join(name).join("deep/er")).unwrap();
        }
        give_up(&root.path().join("done")).unwrap();
        assert!(!root.path().join("done").exists(), "it is out of the way at once");
        sweep(root.path());
        let left: Vec<_> = std::fs::read_dir(root.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["busy"]);
        sweep(&root.path().join("nowhere"));
    }
}
