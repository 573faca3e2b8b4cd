//! Tasks in a PostgreSQL schema, with writers that commit in groups.

mod bell;
mod config;
mod engine;
mod error;
mod operator;
mod read;
mod rows;
mod schema;
mod sheet;

use std::sync::Arc;

use abca_core::event::Event;
use abca_core::id::{IdempotencyKey, WorkerId};
use abca_core::session::LogRecord;
use abca_core::store::{
    Append, AppendOutcome, ClaimQuery, Commit, CommitOutcome, EventQuery, ListQuery, LogQuery, NewSignal,
    OperatorStore, Release, Renewal, SignalOutcome, SlotUsage, StoreCapabilities, StoreError, Submit, SubmitOutcome,
    TaskStore,
};
use abca_core::task::{Snapshot, Task};
use abca_core::{SessionId, TaskId, Timestamp, UserId};
use async_trait::async_trait;

use crate::group::Group;

use bell::{Bell, Tower};
use engine::{Memory, Server};
use read::Reader;

pub use config::PostgresConfig;

/// How many tasks share a partition of events and logs, as the schema has it.
const SPAN: u64 = 1_048_576;

/// Tasks in a schema of a PostgreSQL database (13 or later): durable, shared by any number of processes on any machines.
///
/// Each handle has a few connections that write (`writers`), each with a thread of its own. A writer takes whatever calls
/// have queued up (at most `batch`) into one transaction, never waiting for more, and answers once the server has it on
/// disk (`synchronous_commit` is set to `on`). Reads go to connections of their own and see every answered call.
/// All of them must reach the primary: a replica may lag.
///
/// Transactions of several processes and writers run at once. Each enters the scopes that it takes or frees slots of (advisory
/// locks, in one order), so caps and turns hold whatever races; places of slots are unique beside that. Tasks are read without
/// locks, or remembered from what this handle wrote last: the one statement that writes verifies that each is as it was, or
/// changes nothing, and the transaction is begun again, with its tasks held from the beginning (row locks, in one order, before
/// scopes). Claims never wait for each other.
///
/// Works through a pooler of sessions. One that gives each transaction another connection must keep prepared statements, and
/// must be told of: [`PostgresConfig::pooled`], and [`PostgresConfig::bell`] off.
///
/// # Cancel safety
/// Dropping a future before the call is queued leaves it not done; after that it is carried out, unheard.
///
/// # Errors
/// A lost connection is made anew by the next call: what was under way is repeated where nothing can have happened, else
/// [`abca_core::store::StoreErrorKind::Unknown`]; while the server is away calls fail at once as
/// [`abca_core::store::StoreErrorKind::Unavailable`].
#[derive(Debug)]
pub struct Postgres {
    group: Group,
    reader: Reader,
    bell: Bell,
    _tower: Option<Tower>,
}

impl Postgres {
    /// Makes the schema and its tables, or brings them up to date; answers the version from which it did, 0 for none.
    /// Needs the right to make tables (and the schema, where it is missing). Workers that run meanwhile wait.
    ///
    /// # Errors
    /// [`abca_core::store::StoreErrorKind::Incompatible`] when the schema is another program's or newer,
    /// [`abca_core::store::StoreErrorKind::Unavailable`] when the server cannot be reached or refuses.
    pub async fn init(config: &PostgresConfig) -> Result<i32, StoreError> {
        config.check()?;
        schema::init(config).await
    }

    /// Verifies that this program can work with the schema and the server, and changes nothing.
    ///
    /// # Errors
    /// As [`Self::open_with`].
    pub async fn verify(config: &PostgresConfig) -> Result<(), StoreError> {
        config.check()?;
        let mut conn = config.connect().await?;
        schema::verify(config, &mut conn).await
    }

    /// The version of the schema that this program works with.
    pub fn version() -> i32 {
        schema::version()
    }

    /// The least privileges of a user that workers connect as, as SQL for the schema's owner. They allow no change of
    /// the tables themselves.
    pub fn grants(config: &PostgresConfig, worker: &str) -> String {
        schema::grants(config, worker)
    }

    /// Opens a store with defaults.
    ///
    /// # Errors
    /// As [`PostgresConfig::new`] and [`Self::open_with`].
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        Self::open_with(PostgresConfig::new(url)?).await
    }

    /// Verifies the schema, which [`Self::init`] has made, and opens the store. Needs no right to make tables.
    ///
    /// # Errors
    /// [`abca_core::store::StoreErrorKind::Incompatible`] when the schema is missing, older, newer or another program's, or
    /// the server runs with `fsync = off`; [`abca_core::store::StoreErrorKind::Unavailable`] when it cannot be reached,
    /// refuses or is read-only; [`abca_core::store::StoreErrorKind::Throttled`] when it has no connection left.
    pub async fn open_with(config: PostgresConfig) -> Result<Self, StoreError> {
        config.check()?;
        let config = Arc::new(config);
        let mut conn = config.connect_writer().await?;
        schema::verify(&config, &mut conn).await?;
        let bell = Bell::default();
        let memory = Memory::default();
        let server = |conn| Server::new(config.clone(), conn, bell.clone(), memory.clone());
        let mut engines = vec![server(Some(conn))];
        // The others connect when they are needed.
        engines.extend((1..config.writers).map(|_| server(None)));
        let group = Group::start("abca-postgres", engines, config.batch, config.queue)?;
        let tower = if config.bell { Some(bell.hang(&config)?) } else { None };
        Ok(Self { group, reader: Reader::new(config), bell, _tower: tower })
    }

    /// How many transactions this handle has made durable since it was opened.
    pub fn transactions(&self) -> u64 {
        self.group.transactions()
    }

    /// Carries out what has been asked for before, then closes the connections. Calls after it are refused as
    /// [`abca_core::store::StoreErrorKind::Unavailable`]. Without it the same happens, unheard, when the value is dropped.
    ///
    /// # Errors
    /// [`abca_core::store::StoreErrorKind::Unavailable`] when a connection did not close cleanly, or was closed before.
    pub async fn close(&self) -> Result<(), StoreError> {
        let closed = self.group.close().await;
        self.reader.pool.close().await;
        closed
    }
}

#[async_trait]
impl TaskStore for Postgres {
    fn name(&self) -> &'static str {
        "postgres"
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
        self.reader.load(ids).await
    }

    async fn find(&self, user: &UserId, key: &IdempotencyKey) -> Result<Option<TaskId>, StoreError> {
        self.reader.find(user, key).await
    }

    async fn events(&self, query: &EventQuery) -> Result<Vec<Event>, StoreError> {
        self.reader.events(query).await
    }

    async fn log(&self, query: &LogQuery) -> Result<Vec<(u64, LogRecord)>, StoreError> {
        self.reader.log(query).await
    }

    async fn list(&self, query: &ListQuery) -> Result<Vec<Task>, StoreError> {
        self.reader.list(query).await
    }

    async fn slots(&self) -> Result<Vec<SlotUsage>, StoreError> {
        self.reader.slots().await
    }

    async fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        self.reader.next_due().await
    }

    async fn rung(&self) {
        self.bell.rung().await;
    }

    fn operator(&self) -> &dyn OperatorStore {
        self
    }
}
