//! A store in front of a store, written by what it changes.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::event::Event;
use crate::id::{IdempotencyKey, SessionId, TaskId, UserId, WorkerId};
use crate::session::LogRecord;
use crate::store::{
    Append, AppendOutcome, ClaimQuery, Commit, CommitOutcome, EventQuery, ListQuery, LogQuery, NewSignal,
    OperatorStore, Release, Renewal, SignalOutcome, SlotUsage, StoreCapabilities, StoreError, Submit, SubmitOutcome,
    TaskStore,
};
use crate::task::{Snapshot, Task};
use crate::time::Timestamp;

/// What a store in front of another does differently. Whatever is not overridden goes to [`StoreProxy::inner`] as it is;
/// wrap it in a [`Proxy`] to use it as a [`TaskStore`].
#[allow(missing_docs, reason = "each method is TaskStore's own")]
#[async_trait]
pub trait StoreProxy: fmt::Debug + Send + Sync + 'static {
    /// The store behind.
    fn inner(&self) -> &Arc<dyn TaskStore>;

    fn capabilities(&self) -> StoreCapabilities {
        self.inner().capabilities()
    }
    async fn submit(&self, batch: &[Submit]) -> Result<Vec<SubmitOutcome>, StoreError> {
        self.inner().submit(batch).await
    }
    async fn commit(&self, batch: &[Commit]) -> Result<Vec<CommitOutcome>, StoreError> {
        self.inner().commit(batch).await
    }
    async fn claim(&self, query: &ClaimQuery) -> Result<Vec<Snapshot>, StoreError> {
        self.inner().claim(query).await
    }
    async fn renew(&self, batch: &[Renewal]) -> Result<Vec<bool>, StoreError> {
        self.inner().renew(batch).await
    }
    async fn expire(&self, workers: &[WorkerId], now: Timestamp) -> Result<u64, StoreError> {
        self.inner().expire(workers, now).await
    }
    async fn release(&self, batch: &[Release]) -> Result<Vec<bool>, StoreError> {
        self.inner().release(batch).await
    }
    async fn signal(&self, batch: &[NewSignal]) -> Result<Vec<SignalOutcome>, StoreError> {
        self.inner().signal(batch).await
    }
    async fn append(&self, batch: &[Append]) -> Result<Vec<AppendOutcome>, StoreError> {
        self.inner().append(batch).await
    }
    async fn heartbeat(&self, task: TaskId, session: &SessionId, now: Timestamp) -> Result<bool, StoreError> {
        self.inner().heartbeat(task, session, now).await
    }
    async fn load(&self, ids: &[TaskId]) -> Result<Vec<Option<Snapshot>>, StoreError> {
        self.inner().load(ids).await
    }
    async fn find(&self, user: &UserId, key: &IdempotencyKey) -> Result<Option<TaskId>, StoreError> {
        self.inner().find(user, key).await
    }
    async fn events(&self, query: &EventQuery) -> Result<Vec<Event>, StoreError> {
        self.inner().events(query).await
    }
    async fn log(&self, query: &LogQuery) -> Result<Vec<(u64, LogRecord)>, StoreError> {
        self.inner().log(query).await
    }
    async fn list(&self, query: &ListQuery) -> Result<Vec<Task>, StoreError> {
        self.inner().list(query).await
    }
    async fn slots(&self) -> Result<Vec<SlotUsage>, StoreError> {
        self.inner().slots().await
    }
    async fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        self.inner().next_due().await
    }
    async fn rung(&self) {
        self.inner().rung().await;
    }
    fn operator(&self) -> &dyn OperatorStore {
        self.inner().operator()
    }
}

/// A [`StoreProxy`] as a [`TaskStore`].
#[derive(Debug)]
pub struct Proxy<P>(pub P);

macro_rules! pass {
    ($(async fn $name:ident(&self $(, $arg:ident: $ty:ty)*) -> $answer:ty;)+) => {
        #[async_trait]
        impl<P: StoreProxy> TaskStore for Proxy<P> {
            fn name(&self) -> &'static str {
                self.0.inner().name()
            }

            fn capabilities(&self) -> StoreCapabilities {
                self.0.capabilities()
            }

            $(async fn $name(&self $(, $arg: $ty)*) -> $answer {
                self.0.$name($($arg),*).await
            })+

            fn operator(&self) -> &dyn OperatorStore {
                self.0.operator()
            }
        }
    };
}

pass! {
    async fn submit(&self, batch: &[Submit]) -> Result<Vec<SubmitOutcome>, StoreError>;
    async fn commit(&self, batch: &[Commit]) -> Result<Vec<CommitOutcome>, StoreError>;
    async fn claim(&self, query: &ClaimQuery) -> Result<Vec<Snapshot>, StoreError>;
    async fn renew(&self, batch: &[Renewal]) -> Result<Vec<bool>, StoreError>;
    async fn expire(&self, workers: &[WorkerId], now: Timestamp) -> Result<u64, StoreError>;
    async fn release(&self, batch: &[Release]) -> Result<Vec<bool>, StoreError>;
    async fn signal(&self, batch: &[NewSignal]) -> Result<Vec<SignalOutcome>, StoreError>;
    async fn append(&self, batch: &[Append]) -> Result<Vec<AppendOutcome>, StoreError>;
    async fn heartbeat(&self, task: TaskId, session: &SessionId, now: Timestamp) -> Result<bool, StoreError>;
    async fn load(&self, ids: &[TaskId]) -> Result<Vec<Option<Snapshot>>, StoreError>;
    async fn find(&self, user: &UserId, key: &IdempotencyKey) -> Result<Option<TaskId>, StoreError>;
    async fn events(&self, query: &EventQuery) -> Result<Vec<Event>, StoreError>;
    async fn log(&self, query: &LogQuery) -> Result<Vec<(u64, LogRecord)>, StoreError>;
    async fn list(&self, query: &ListQuery) -> Result<Vec<Task>, StoreError>;
    async fn slots(&self) -> Result<Vec<SlotUsage>, StoreError>;
    async fn next_due(&self) -> Result<Option<Timestamp>, StoreError>;
    async fn rung(&self) -> ();
}
