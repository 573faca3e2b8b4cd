//! What operators and reports ask.

use abca_core::store::{Burial, Counts, DeadLetter, FeedPage, FeedQuery, OperatorStore, StoreError, StoreErrorKind};
use abca_core::{TaskId, Timestamp};
use async_trait::async_trait;

use super::Sqlite;

fn unsupported(op: &'static str) -> StoreError {
    StoreError::new(StoreErrorKind::Unsupported, op, "not built yet for sqlite")
}

#[async_trait]
impl OperatorStore for Sqlite {
    async fn feed(&self, _: &FeedQuery) -> Result<FeedPage, StoreError> {
        Err(unsupported("feed"))
    }

    async fn counts(&self, _: Timestamp) -> Result<Counts, StoreError> {
        Err(unsupported("counts"))
    }

    async fn place(&self, _: TaskId) -> Result<Option<u64>, StoreError> {
        Err(unsupported("place"))
    }

    async fn purge(&self, _: Timestamp, _: usize) -> Result<u64, StoreError> {
        Err(unsupported("purge"))
    }

    async fn bury(&self, _: &[Burial]) -> Result<Vec<bool>, StoreError> {
        Err(unsupported("bury"))
    }

    async fn dead_letters(&self, _: usize) -> Result<Vec<DeadLetter>, StoreError> {
        Err(unsupported("dead_letters"))
    }

    async fn revive(&self, _: TaskId, _: Timestamp) -> Result<bool, StoreError> {
        Err(unsupported("revive"))
    }

    async fn discard(&self, _: TaskId, _: Timestamp) -> Result<bool, StoreError> {
        Err(unsupported("discard"))
    }
}
