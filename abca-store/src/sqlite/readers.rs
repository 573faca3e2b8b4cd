//! Connections that only read, lent to one read at a time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use abca_core::store::{StoreError, StoreErrorKind};
use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

use super::SqliteConfig;

/// How long a read waits for a connection.
const PATIENCE: Duration = Duration::from_secs(30);

/// Opened when they are first needed. Each read runs on a thread that may block, and puts its connection back when it
/// ends, whether anybody still waits for it or not.
#[derive(Debug)]
pub(super) struct Readers {
    config: Arc<SqliteConfig>,
    permits: Arc<Semaphore>,
    most: u32,
    idle: Arc<Mutex<Vec<Connection>>>,
}

fn closed(op: &'static str) -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, op, "the store is closed")
}

fn take(idle: &Mutex<Vec<Connection>>) -> Vec<Connection> {
    std::mem::take(&mut *idle.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Readers {
    pub(super) fn new(config: SqliteConfig) -> Self {
        // More than a few dozen would only wait for each other; the semaphore has a limit of its own.
        let most = config.readers.clamp(1, 1 << 16);
        let permits = Arc::new(Semaphore::new(usize::try_from(most).unwrap_or(1)));
        Self { config: Arc::new(config), permits, most, idle: Arc::default() }
    }

    async fn permit(&self, op: &'static str) -> Result<OwnedSemaphorePermit, StoreError> {
        match self.permits.clone().try_acquire_owned() {
            Ok(permit) => return Ok(permit),
            Err(TryAcquireError::Closed) => return Err(closed(op)),
            Err(TryAcquireError::NoPermits) => {}
        }
        let busy = || StoreError::new(StoreErrorKind::Throttled, op, "every reader is busy; repeat later");
        let waited = tokio::time::timeout(PATIENCE, self.permits.clone().acquire_owned()).await;
        waited.map_err(|_| busy())?.map_err(|_| closed(op))
    }

    /// Runs a read. It is one statement, so it sees one moment.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        op: &'static str,
        read: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let permit = self.permit(op).await?;
        let (config, idle) = (self.config.clone(), self.idle.clone());
        let run = move || {
            let free = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let conn = match free {
                Some(conn) => conn,
                None => config.reader()?,
            };
            let answer = read(&conn);
            idle.lock().unwrap_or_else(PoisonError::into_inner).push(conn);
            drop(permit);
            answer
        };
        let ended = |e| StoreError::new(StoreErrorKind::Unavailable, op, format!("the read did not end: {e}"));
        tokio::task::spawn_blocking(run).await.map_err(ended)?
    }

    /// Waits for the reads under way and closes their connections; later reads are refused.
    pub(super) async fn close(&self) {
        // It fails when it was closed before: then there is nothing to wait for.
        let all = self.permits.acquire_many(self.most).await;
        self.permits.close();
        drop(all);
        let idle = take(&self.idle);
        // Closing a database's last connection writes and syncs. A runtime that ends has closed them by dropping them.
        let _ = tokio::task::spawn_blocking(move || drop(idle)).await;
    }
}
