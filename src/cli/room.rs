//! Whether there is room on the state folder's disk: who follows a task hears nothing else while there is none.

use std::path::PathBuf;

use crate::Abca;

/// With less than this nothing more can be relied on to be written.
const TOO_LITTLE: u64 = 256 << 10;
/// With this much there is room again.
const ENOUGH: u64 = 1 << 20;

/// Looks at the free space of one disk and tells when it ends and when it is there again.
pub(super) struct Room {
    dir: Option<PathBuf>,
    full: bool,
}

impl Room {
    /// Of the disk that the state is on; nothing is ever told where it is on none.
    pub(super) fn of(abca: &Abca) -> Self {
        Self { dir: abca.state_dir().map(|state| state.path().to_owned()), full: false }
    }

    /// What to tell, when it has changed.
    pub(super) fn news(&mut self) -> Option<String> {
        let dir = self.dir.clone()?;
        let disk = rustix::fs::statvfs(&dir).ok()?;
        let told = self.turn(free_bytes(disk.f_blocks, disk.f_bavail, disk.f_frsize)?)?;
        Some(told.replace("{}", &dir.display().to_string()))
    }

    fn turn(&mut self, free_bytes: u64) -> Option<&'static str> {
        match (self.full, free_bytes) {
            (false, ..TOO_LITTLE) => {
                self.full = true;
                Some("the disk of `{}` is full: the task waits until there is room again, and loses nothing")
            }
            (true, ENOUGH..) => {
                self.full = false;
                Some("there is room on the disk again: the task goes on")
            }
            (false | true, _) => None,
        }
    }
}

/// `None` for a file system that does not count its blocks: some on networks and in user space say zero of everything.
fn free_bytes(blocks: u64, free_blocks: u64, block_bytes: u64) -> Option<u64> {
    (blocks > 0).then(|| free_blocks.saturating_mul(block_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_that_counts_nothing_is_not_full() {
        assert_eq!(
            (free_bytes(0, 0, 4_096), free_bytes(9, 0, 4_096), free_bytes(9, 2, 512)),
            (None, Some(0), Some(1_024))
        );
    }

    #[test]
    fn each_change_is_told_once() {
        let mut room = Room { dir: None, full: false };
        let told: Vec<bool> = [ENOUGH, 0, 0, TOO_LITTLE, ENOUGH, ENOUGH, TOO_LITTLE, TOO_LITTLE - 1]
            .into_iter()
            .map(|free| room.turn(free).is_some())
            .collect();
        assert_eq!(told, [false, true, false, false, true, false, false, true]);
    }
}
