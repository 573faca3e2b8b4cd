//! What a writer remembers between transactions.

use std::collections::BTreeMap;

use abca_core::TaskId;
use abca_core::store::TaskRow;

/// Most rows kept; beyond it everything is forgotten and read again as needed.
const KEPT: usize = 4096;
/// The largest row that is kept, by its counted texts.
const KEPT_SIGNALS: usize = 256;

/// Rows as they were at the end of the last transaction that had them, each with what its engine knows it by.
#[derive(Debug)]
pub(crate) struct Shelf<T>(BTreeMap<TaskId, (TaskRow, T)>);

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> Shelf<T> {
    #[cfg(feature = "sqlite")]
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn get(&self, id: TaskId) -> Option<&(TaskRow, T)> {
        self.0.get(&id)
    }

    /// Hands a row to a transaction, which gives it back when it ends well.
    pub(crate) fn take(&mut self, id: TaskId) -> Option<(TaskRow, T)> {
        self.0.remove(&id)
    }

    /// Remembers a row, unless nobody will ask for it: the task has ended, or it is much.
    pub(crate) fn put(&mut self, row: TaskRow, tag: T) {
        if row.is_terminal() || row.seen.len() > KEPT_SIGNALS {
            return;
        }
        if self.0.len() >= KEPT {
            self.0.clear();
        }
        self.0.insert(row.snapshot.id(), (row, tag));
    }
}
