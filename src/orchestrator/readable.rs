//! Reading many tasks of which one may be unreadable.

use abca_core::TaskId;
use abca_core::store::{StoreError, TaskStore};
use abca_core::task::Snapshot;

/// What [`TaskStore::load`] answers, but one task that cannot be read hides none of the others: it is answered as one that is
/// not there.
pub(crate) async fn load_readable(store: &dyn TaskStore, ids: &[TaskId]) -> Result<Vec<Option<Snapshot>>, StoreError> {
    match store.load(ids).await {
        Err(error) if !error.is_retryable() => {}
        loaded => return loaded,
    }
    let mut found = Vec::with_capacity(ids.len());
    for id in ids {
        match store.load(&[*id]).await {
            Ok(one) => found.push(one.into_iter().next().flatten()),
            Err(error) if error.is_retryable() => return Err(error),
            Err(error) => {
                tracing::debug!(task = %id, %error, "a task cannot be read");
                found.push(None);
            }
        }
    }
    Ok(found)
}
