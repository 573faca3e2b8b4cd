//! Who of this machine's workers lives: a folder with a locked file for each.
//!
//! A worker that is killed says nothing, and the store would let its tasks rest until their leases expire. The kernel knows at
//! once: it takes the lock away with the process. Whoever finds a file that nobody locks ends that worker's leases in
//! the store and takes the file away. A mistake costs nothing but an early claim: what a living worker does is guarded by
//! fencing, not by this.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use abca_core::id::WorkerId;

/// A worker's own place among the living, for as long as it is held.
#[derive(Debug)]
pub(crate) struct Roster {
    dir: PathBuf,
    own: PathBuf,
    _lock: File,
}

/// A worker that has died. Its file is held, so that nobody else buries it too.
#[derive(Debug)]
pub(crate) struct Dead {
    pub(crate) worker: WorkerId,
    path: PathBuf,
    _lock: File,
}

impl Roster {
    /// Enters a worker, and makes the folder, readable by its owner only, if it is not there.
    pub(crate) fn enter(dir: &Path, worker: WorkerId) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let own = dir.join(worker.to_string());
        // Not under its name before it is locked: another worker would take it for dead.
        let draft = dir.join(format!(".{worker}"));
        let lock = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        lock.lock()?;
        std::fs::rename(draft, &own)?;
        Ok(Self { dir: dir.to_owned(), own, _lock: lock })
    }

    /// Others that have died without a word. What cannot be looked at counts as alive.
    pub(crate) fn dead(&self) -> Vec<Dead> {
        let entries = std::fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let others = entries.map(|e| e.path()).filter(|path| *path != self.own);
        others.filter_map(dead).collect()
    }

    /// Leaves in order: with nothing in hand that another worker would have to take over.
    pub(crate) fn leave(self) {
        // One that stays is found and taken away by another worker.
        let _ = std::fs::remove_file(&self.own);
    }
}

fn dead(path: PathBuf) -> Option<Dead> {
    let worker = path.file_name()?.to_str()?.parse().ok()?;
    let file = OpenOptions::new().write(true).open(&path).ok()?;
    match file.try_lock() {
        Ok(()) => Some(Dead { worker, path, _lock: file }),
        Err(TryLockError::WouldBlock | TryLockError::Error(_)) => None,
    }
}

impl Dead {
    /// Takes the file away: its leases have been ended.
    pub(crate) fn bury(self) {
        // Another look finds it again, and there is nothing left to end then.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use abca_core::testing::fixtures::worker;

    use super::*;

    fn names(dead: &[Dead]) -> Vec<WorkerId> {
        dead.iter().map(|d| d.worker).collect()
    }

    #[test]
    fn the_dead_are_known_by_their_locks_and_found_by_one_only() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("workers");
        let (one, two) = (Roster::enter(&dir, worker(1)).unwrap(), Roster::enter(&dir, worker(2)).unwrap());
        assert!(one.dead().is_empty() && two.dead().is_empty());
        // As the kernel does it when the process is killed.
        drop(two);
        let three = Roster::enter(&dir, worker(3)).unwrap();
        let found = three.dead();
        assert_eq!(names(&found), [worker(2)]);
        assert!(one.dead().is_empty(), "it is being buried");
        drop(found);
        let mut again = one.dead();
        assert_eq!(names(&again), [worker(2)], "whoever died over it leaves it to others");
        again.remove(0).bury();
        assert!(one.dead().is_empty() && three.dead().is_empty());
        three.leave();
        assert!(one.dead().is_empty(), "it left in order");
        std::fs::write(dir.join("notes"), "").unwrap();
        assert!(one.dead().is_empty(), "that is no worker");
    }

    #[test]
    fn a_name_is_entered_once() {
        let dir = tempfile::tempdir().unwrap();
        let _one = Roster::enter(dir.path(), worker(1)).unwrap();
        std::fs::write(dir.path().join(format!(".{}", worker(2))), "").unwrap();
        assert!(Roster::enter(dir.path(), worker(2)).is_err());
    }
}
