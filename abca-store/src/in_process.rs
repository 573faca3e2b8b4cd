//! A store that lives and dies with its process.

use std::sync::{Mutex, MutexGuard, PoisonError};

use abca_core::event::Event;
use abca_core::id::{IdempotencyKey, WorkerId};
use abca_core::session::LogRecord;
use abca_core::store::{
    Append, AppendOutcome, Burial, ClaimQuery, Commit, CommitOutcome, Counts, DeadLetter, EventQuery, FeedPage,
    FeedQuery, ListQuery, LogQuery, NewSignal, OperatorStore, Release, Renewal, SignalOutcome, SlotUsage,
    StoreCapabilities, StoreError, StoreModel, Submit, SubmitOutcome, TaskStore,
};
use abca_core::task::{Snapshot, Task};
use abca_core::{SessionId, TaskId, Timestamp, UserId};
use async_trait::async_trait;

/// Tasks in memory: [`StoreModel`] behind a lock. Neither durable nor shared; memory grows with every task.
///
/// Every call is done when it answers its first poll, so dropping a future before that leaves it not done.
#[derive(Debug, Default)]
pub struct InProcess(Mutex<StoreModel>);

impl InProcess {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn model(&self) -> MutexGuard<'_, StoreModel> {
        // A panic inside the model would leave a change half made, but the model does not panic (lints of the core).
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl TaskStore for InProcess {
    fn name(&self) -> &'static str {
        "in-process"
    }

    fn capabilities(&self) -> StoreCapabilities {
        StoreCapabilities::new(false, false)
    }

    async fn submit(&self, batch: &[Submit]) -> Result<Vec<SubmitOutcome>, StoreError> {
        self.model().submit(batch)
    }

    async fn commit(&self, batch: &[Commit]) -> Result<Vec<CommitOutcome>, StoreError> {
        self.model().commit(batch)
    }

    async fn claim(&self, query: &ClaimQuery) -> Result<Vec<Snapshot>, StoreError> {
        Ok(self.model().claim(query))
    }

    async fn renew(&self, batch: &[Renewal]) -> Result<Vec<bool>, StoreError> {
        Ok(self.model().renew(batch))
    }

    async fn expire(&self, workers: &[WorkerId], now: Timestamp) -> Result<u64, StoreError> {
        Ok(self.model().expire(workers, now))
    }

    async fn release(&self, batch: &[Release]) -> Result<Vec<bool>, StoreError> {
        Ok(self.model().release(batch))
    }

    async fn signal(&self, batch: &[NewSignal]) -> Result<Vec<SignalOutcome>, StoreError> {
        Ok(self.model().signal(batch))
    }

    async fn append(&self, batch: &[Append]) -> Result<Vec<AppendOutcome>, StoreError> {
        self.model().append(batch)
    }

    async fn heartbeat(&self, task: TaskId, session: &SessionId, now: Timestamp) -> Result<bool, StoreError> {
        Ok(self.model().heartbeat(task, session, now))
    }

    async fn load(&self, ids: &[TaskId]) -> Result<Vec<Option<Snapshot>>, StoreError> {
        Ok(self.model().load(ids))
    }

    async fn find(&self, user: &UserId, key: &IdempotencyKey) -> Result<Option<TaskId>, StoreError> {
        Ok(self.model().find(user, key))
    }

    async fn events(&self, query: &EventQuery) -> Result<Vec<Event>, StoreError> {
        Ok(self.model().events(query))
    }

    async fn log(&self, query: &LogQuery) -> Result<Vec<(u64, LogRecord)>, StoreError> {
        Ok(self.model().log(query))
    }

    async fn list(&self, query: &ListQuery) -> Result<Vec<Task>, StoreError> {
        Ok(self.model().list(query))
    }

    async fn slots(&self) -> Result<Vec<SlotUsage>, StoreError> {
        Ok(self.model().slots())
    }

    async fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.model().next_due())
    }
    fn operator(&self) -> &dyn OperatorStore {
        self
    }
}

#[async_trait]
impl OperatorStore for InProcess {
    async fn feed(&self, query: &FeedQuery) -> Result<FeedPage, StoreError> {
        self.model().feed(query)
    }

    async fn counts(&self, now: Timestamp) -> Result<Counts, StoreError> {
        Ok(self.model().counts(now))
    }

    async fn place(&self, task: TaskId) -> Result<Option<u64>, StoreError> {
        Ok(self.model().place(task))
    }

    async fn purge(&self, ended_before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        Ok(self.model().purge(ended_before, limit))
    }

    async fn bury(&self, batch: &[Burial]) -> Result<Vec<bool>, StoreError> {
        Ok(self.model().bury(batch))
    }

    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, StoreError> {
        Ok(self.model().dead_letters(limit))
    }

    async fn revive(&self, task: TaskId, now: Timestamp) -> Result<bool, StoreError> {
        Ok(self.model().revive(task, now))
    }

    async fn discard(&self, task: TaskId, now: Timestamp) -> Result<bool, StoreError> {
        Ok(self.model().discard(task, now))
    }
}
