//! What the writer remembers between transactions: rows that nobody else has changed.

use std::collections::BTreeMap;

use abca_core::TaskId;
use abca_core::store::TaskRow;

/// Most rows kept; beyond it everything is forgotten and read again as needed.
const KEPT: usize = 4096;
/// The largest row that is kept, by its counted texts.
const KEPT_SIGNALS: usize = 256;

/// Rows as they are in the database, or will be with the transaction under way.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    rows: BTreeMap<TaskId, TaskRow>,
    /// The last place given out, if known.
    pub(super) accepted: Option<u64>,
}

impl Shelf {
    /// Forgets everything: another process wrote, or a transaction was undone.
    pub(super) fn clear(&mut self) {
        self.rows.clear();
        self.accepted = None;
    }

    pub(super) fn row(&self, id: TaskId) -> Option<&TaskRow> {
        self.rows.get(&id)
    }

    pub(super) fn row_mut(&mut self, id: TaskId) -> Option<&mut TaskRow> {
        self.rows.get_mut(&id)
    }

    pub(super) fn put(&mut self, row: TaskRow) {
        self.rows.insert(row.snapshot.id(), row);
    }

    /// Drops what a finished transaction leaves behind and nobody will ask for: ended tasks, and all when it is much.
    pub(super) fn tidy(&mut self, touched: impl Iterator<Item = TaskId>) {
        for id in touched {
            if self.rows.get(&id).is_some_and(|r| r.is_terminal() || r.seen.len() > KEPT_SIGNALS) {
                self.rows.remove(&id);
            }
        }
        if self.rows.len() > KEPT {
            self.rows.clear();
        }
    }
}
