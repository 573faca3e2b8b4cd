//! How many tasks hold a slot in a scope: counted once, then kept, since counting takes as long as there are holders.

use std::collections::BTreeMap;

use abca_core::store::StoreError;
use abca_core::task::SlotScope;
use rusqlite::Connection;

use super::rows::{number, row};

/// Most scopes whose count is kept; beyond it all are forgotten and counted again as needed.
const KEPT: usize = 16_384;

const COUNT: &str = "SELECT count(*) FROM slot WHERE scope = ?1";

/// True to the tables while this connection alone writes them, and forgotten whenever another has, or when a transaction
/// is undone.
#[derive(Debug, Default)]
pub(super) struct Held(BTreeMap<SlotScope, usize>);

impl Held {
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }

    pub(super) fn count(&mut self, conn: &Connection, scope: &SlotScope) -> Result<usize, StoreError> {
        if let Some(known) = self.0.get(scope) {
            return Ok(*known);
        }
        let count = row(conn, "commit", COUNT, [&scope.0], |r| number::<i64>(r, "commit", 0))?.unwrap_or(0);
        let count = usize::try_from(count).unwrap_or(0);
        if self.0.len() >= KEPT {
            self.0.clear();
        }
        self.0.insert(scope.clone(), count);
        Ok(count)
    }

    /// A slot was written.
    pub(super) fn took(&mut self, scope: &SlotScope) {
        if let Some(known) = self.0.get_mut(scope) {
            *known += 1;
        }
    }

    /// A slot was removed.
    pub(super) fn freed(&mut self, scope: &SlotScope) {
        if let Some(known) = self.0.get_mut(scope) {
            *known = known.saturating_sub(1);
        }
    }
}
