//! Tasks in one SQLite file, with one writer that commits in groups.

mod engine;
mod error;
mod held;
mod open;
mod operator;
mod read;
mod readers;
mod rows;
mod schema;
mod write;

use std::path::{Path, PathBuf};

use abca_core::event::Event;
use abca_core::id::{IdempotencyKey, WorkerId};
use abca_core::session::LogRecord;
use abca_core::store::{
    Append, AppendOutcome, ClaimQuery, Commit, CommitOutcome, EventQuery, ListQuery, LogQuery, NewSignal,
    OperatorStore, Release, Renewal, SignalOutcome, SlotUsage, StoreCapabilities, StoreError, StoreErrorKind, Submit,
    SubmitOutcome, TaskStore,
};
use abca_core::task::{Snapshot, Task};
use abca_core::{SessionId, TaskId, Timestamp, UserId};
use async_trait::async_trait;

use crate::group::Group;

use engine::Lite;
use readers::Readers;

pub use open::SqliteConfig;

/// Tasks in `abca.db` in a folder: durable, shared by the processes of one machine.
///
/// One thread of this process owns the only connection that writes. It takes whatever calls have queued up (at most 256)
/// into one transaction, never waiting for more, and answers once that is on disk (write-ahead log,
/// `synchronous=FULL`). Reads go to connections of their own and see every answered call.
///
/// Several processes may open the same folder: their transactions take turns (`busy_timeout`). Each remembers rows
/// between transactions and forgets them when another process has written, so one busy process is fast, several
/// share its speed. The folder must be on a local disk: SQLite's locks do not hold on network file systems.
///
/// # Cancel safety
/// Dropping a future before the call is queued leaves it not done; after that it is carried out, unheard.
///
/// # Runtime
/// Calls need a tokio runtime, any one. The writer has a thread of its own: a busy runtime does not make it wait.
#[derive(Debug)]
pub struct Sqlite {
    group: Group,
    readers: Readers,
    file: PathBuf,
}

impl Sqlite {
    /// Opens or makes the database in a folder, with defaults.
    ///
    /// # Errors
    /// See [`Self::open_with`].
    pub async fn open(folder: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_with(SqliteConfig::new(folder.as_ref())).await
    }

    /// Opens or makes a database, and brings its tables up to date.
    ///
    /// # Errors
    /// [`abca_core::store::StoreErrorKind::Unavailable`] when folder or file cannot be made or written, [`abca_core::store::StoreErrorKind::Incompatible`]
    /// when the file is not abca's or of a newer abca, [`abca_core::store::StoreErrorKind::Corrupt`] when it is damaged,
    /// [`abca_core::store::StoreErrorKind::Full`] when there is no space, [`abca_core::store::StoreErrorKind::Throttled`] when another process keeps it
    /// locked.
    pub async fn open_with(config: SqliteConfig) -> Result<Self, StoreError> {
        let open = move || Ok::<_, StoreError>((config.writer()?, config));
        let ended = |e| StoreError::new(StoreErrorKind::Unavailable, "open", format!("opening did not end: {e}"));
        let (conn, config) = tokio::task::spawn_blocking(open).await.map_err(ended)??;
        let group = Group::start("abca-sqlite", vec![Lite::new(conn)], config.batch, config.queue)?;
        let file = config.file();
        Ok(Self { group, readers: Readers::new(config), file })
    }

    /// How many transactions this handle has made durable since it was opened; each costs one sync of the disk.
    pub fn transactions(&self) -> u64 {
        self.group.transactions()
    }

    /// The database file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Carries out what has been asked for before, then closes the database. Calls after it are refused as
    /// [`abca_core::store::StoreErrorKind::Unavailable`]. Without it the same happens, unheard, when the value is dropped and the
    /// runtime lives on; what was answered is durable either way.
    ///
    /// # Errors
    /// [`abca_core::store::StoreErrorKind::Unavailable`] when the file could not be closed cleanly, or was closed before.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.group.close().await?;
        self.readers.close().await;
        Ok(())
    }
}

#[async_trait]
impl TaskStore for Sqlite {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    fn capabilities(&self) -> StoreCapabilities {
        StoreCapabilities::new(true, true)
    }

    async fn submit(&self, batch: &[Submit]) -> Result<Vec<SubmitOutcome>, StoreError> {
        self.group.submit(batch).await
    }

    async fn commit(&self, batch: &[Commit]) -> Result<Vec<CommitOutcome>, StoreError> {
        self.group.commit(batch).await
    }

    async fn claim(&self, query: &ClaimQuery) -> Result<Vec<Snapshot>, StoreError> {
        self.group.claim(query).await
    }

    async fn renew(&self, batch: &[Renewal]) -> Result<Vec<bool>, StoreError> {
        self.group.renew(batch).await
    }

    async fn expire(&self, workers: &[WorkerId], now: Timestamp) -> Result<u64, StoreError> {
        self.group.expire(workers, now).await
    }

    async fn release(&self, batch: &[Release]) -> Result<Vec<bool>, StoreError> {
        self.group.release(batch).await
    }

    async fn signal(&self, batch: &[NewSignal]) -> Result<Vec<SignalOutcome>, StoreError> {
        self.group.signal(batch).await
    }

    async fn append(&self, batch: &[Append]) -> Result<Vec<AppendOutcome>, StoreError> {
        self.group.append(batch).await
    }

    async fn heartbeat(&self, task: TaskId, session: &SessionId, now: Timestamp) -> Result<bool, StoreError> {
        self.group.heartbeat(task, session, now).await
    }

    async fn load(&self, ids: &[TaskId]) -> Result<Vec<Option<Snapshot>>, StoreError> {
        read::load(&self.readers, ids).await
    }

    async fn find(&self, user: &UserId, key: &IdempotencyKey) -> Result<Option<TaskId>, StoreError> {
        read::find(&self.readers, user, key).await
    }

    async fn events(&self, query: &EventQuery) -> Result<Vec<Event>, StoreError> {
        read::events(&self.readers, query).await
    }

    async fn log(&self, query: &LogQuery) -> Result<Vec<(u64, LogRecord)>, StoreError> {
        read::log(&self.readers, query).await
    }

    async fn list(&self, query: &ListQuery) -> Result<Vec<Task>, StoreError> {
        read::list_tasks(&self.readers, query).await
    }

    async fn slots(&self) -> Result<Vec<SlotUsage>, StoreError> {
        read::slots(&self.readers).await
    }

    async fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        read::next_due(&self.readers).await
    }

    fn operator(&self) -> &dyn OperatorStore {
        self
    }
}
