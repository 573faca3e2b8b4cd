//! A store as one process reaches it.

use std::sync::Arc;

use async_trait::async_trait;

use super::Process;
use super::process::Luck;
use crate::event::Event;
use crate::id::{IdempotencyKey, SessionId, TaskId, UserId, WorkerId};
use crate::session::LogRecord;
use crate::store::{
    Append, AppendOutcome, ClaimQuery, Commit, CommitOutcome, EventQuery, ListQuery, LogQuery, NewSignal,
    OperatorStore, Release, Renewal, SignalOutcome, SlotUsage, StoreCapabilities, StoreError, StoreErrorKind, Submit,
    SubmitOutcome, TaskStore,
};
use crate::task::{Snapshot, Task};
use crate::time::Timestamp;

/// A [`TaskStore`] as a [`Process`] reaches it. The operator's part passes as it is.
#[derive(Debug)]
pub struct FaultyStore {
    inner: Arc<dyn TaskStore>,
    process: Process,
}

impl FaultyStore {
    pub(super) const fn new(inner: Arc<dyn TaskStore>, process: Process) -> Self {
        Self { inner, process }
    }

    async fn reads(&self, op: &'static str) -> Result<(), StoreError> {
        match self.process.store_luck(false).await {
            Ok(Luck::DiesAfter) => self.process.die().await,
            Ok(Luck::Plain | Luck::Twice | Luck::AnswerLost | Luck::LandsLater(_)) => Ok(()),
            Err(kind) => Err(trouble(kind, op)),
        }
    }
}

fn trouble(kind: StoreErrorKind, op: &'static str) -> StoreError {
    StoreError::new(kind, op, "fault: it goes wrong by chance")
}

macro_rules! changes {
    ($self:ident, $op:ident($arg:ident $(, $more:expr)*)) => { changes!($self, $op, $arg, $op($arg $(, $more)*)) };
    ($self:ident, $op:ident, $owned:ident, $call:ident($($arg:expr),*)) => {{
        let op = stringify!($op);
        match $self.process.store_luck(true).await.map_err(|kind| trouble(kind, op))? {
            Luck::Plain => $self.inner.$call($($arg),*).await,
            Luck::Twice => {
                $self.inner.$call($($arg),*).await?;
                $self.inner.$call($($arg),*).await
            }
            Luck::AnswerLost => {
                $self.inner.$call($($arg),*).await?;
                Err(trouble(StoreErrorKind::Unknown, op))
            }
            Luck::LandsLater(wait) => {
                let (inner, owned) = ($self.inner.clone(), $owned.to_owned());
                $self.process.later(wait, Box::pin(async move {
                    let $owned = &owned;
                    let _nobody_waits = inner.$call($($arg),*).await;
                }));
                Err(trouble(StoreErrorKind::Unknown, op))
            }
            Luck::DiesAfter => {
                let _nobody_waits = $self.inner.$call($($arg),*).await;
                $self.process.die().await
            }
        }
    }};
}

#[async_trait]
impl TaskStore for FaultyStore {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn capabilities(&self) -> StoreCapabilities {
        self.inner.capabilities()
    }

    async fn submit(&self, batch: &[Submit]) -> Result<Vec<SubmitOutcome>, StoreError> {
        changes!(self, submit(batch))
    }

    async fn commit(&self, batch: &[Commit]) -> Result<Vec<CommitOutcome>, StoreError> {
        changes!(self, commit(batch))
    }

    async fn claim(&self, query: &ClaimQuery) -> Result<Vec<Snapshot>, StoreError> {
        changes!(self, claim(query))
    }

    async fn renew(&self, batch: &[Renewal]) -> Result<Vec<bool>, StoreError> {
        changes!(self, renew(batch))
    }

    async fn expire(&self, workers: &[WorkerId], now: Timestamp) -> Result<u64, StoreError> {
        changes!(self, expire(workers, now))
    }

    async fn release(&self, batch: &[Release]) -> Result<Vec<bool>, StoreError> {
        changes!(self, release(batch))
    }

    async fn signal(&self, batch: &[NewSignal]) -> Result<Vec<SignalOutcome>, StoreError> {
        changes!(self, signal(batch))
    }

    async fn append(&self, batch: &[Append]) -> Result<Vec<AppendOutcome>, StoreError> {
        changes!(self, append(batch))
    }

    async fn heartbeat(&self, task: TaskId, session: &SessionId, now: Timestamp) -> Result<bool, StoreError> {
        changes!(self, heartbeat, session, heartbeat(task, session, now))
    }

    async fn load(&self, ids: &[TaskId]) -> Result<Vec<Option<Snapshot>>, StoreError> {
        self.reads("load").await?;
        self.inner.load(ids).await
    }

    async fn find(&self, user: &UserId, key: &IdempotencyKey) -> Result<Option<TaskId>, StoreError> {
        self.reads("find").await?;
        self.inner.find(user, key).await
    }

    async fn events(&self, query: &EventQuery) -> Result<Vec<Event>, StoreError> {
        self.reads("events").await?;
        self.inner.events(query).await
    }

    async fn log(&self, query: &LogQuery) -> Result<Vec<(u64, LogRecord)>, StoreError> {
        self.reads("log").await?;
        self.inner.log(query).await
    }

    async fn list(&self, query: &ListQuery) -> Result<Vec<Task>, StoreError> {
        self.reads("list").await?;
        self.inner.list(query).await
    }

    async fn slots(&self) -> Result<Vec<SlotUsage>, StoreError> {
        self.reads("slots").await?;
        self.inner.slots().await
    }

    async fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        self.reads("next_due").await?;
        self.inner.next_due().await
    }

    async fn rung(&self) {
        self.inner.rung().await;
    }

    fn operator(&self) -> &dyn OperatorStore {
        self.inner.operator()
    }
}
