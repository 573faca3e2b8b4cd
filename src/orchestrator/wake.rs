//! In-process wake-ups: a layer over any store that rings when something changes.
//!
//! Nothing depends on a ring for being correct: whoever listens also looks by itself, by due time. A ring only makes the
//! next look come at once instead of at the end of the poll interval.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use abca_core::event::Event;
use abca_core::id::{IdempotencyKey, WorkerId};
use abca_core::session::LogRecord;
use abca_core::store::{
    Append, AppendOutcome, ClaimQuery, Commit, CommitOutcome, EventQuery, LeaseChange, ListQuery, LogQuery, NewSignal,
    OperatorStore, Release, Renewal, SignalOutcome, SlotUsage, StoreCapabilities, StoreError, Submit, SubmitOutcome,
    TaskStore,
};
use abca_core::task::{SlotChange, Snapshot, Task};
use abca_core::{SessionId, TaskId, Timestamp, UserId};
use async_trait::async_trait;
use tokio::sync::watch;

/// Rings for whoever waits in this process: for due work as a whole, and for each task by name. Clones ring together.
#[derive(Debug, Clone)]
pub struct Bell(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    work: watch::Sender<()>,
    tasks: Mutex<BTreeMap<TaskId, watch::Sender<Option<Arc<Snapshot>>>>>,
}

impl Default for Bell {
    fn default() -> Self {
        Self(Arc::new(Inner { work: watch::Sender::new(()), tasks: Mutex::default() }))
    }
}

impl Bell {
    /// Says that work may be due.
    pub fn ring_work(&self) {
        self.0.work.send_replace(());
    }

    /// Says that something of a task has changed.
    pub fn ring_task(&self, task: TaskId) {
        let tasks = self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bell) = tasks.get(&task) {
            bell.send_modify(|_| {});
        }
    }

    /// Says what a task has become. Costs nothing where nobody listens.
    fn ring_snapshot(&self, snapshot: &Snapshot) {
        let tasks = self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bell) = tasks.get(&snapshot.id()) {
            let newer = Arc::new(snapshot.clone());
            bell.send_modify(|latest| {
                if latest.as_ref().is_none_or(|old| old.revision <= newer.revision) {
                    *latest = Some(newer);
                }
            });
        }
    }

    /// Listens for work.
    pub fn work(&self) -> WorkRing {
        WorkRing(self.0.work.subscribe())
    }

    /// Listens for changes of one task: listen first, then look, then wait, so that nothing falls between.
    pub fn task(&self, task: TaskId) -> TaskRing {
        let mut tasks = self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        let receiver = tasks.entry(task).or_insert_with(|| watch::Sender::new(None)).subscribe();
        TaskRing { task, receiver, bell: self.clone() }
    }
}

/// Hears that work may be due. Rings that come while nobody waits are kept, as one.
#[derive(Debug)]
pub struct WorkRing(watch::Receiver<()>);

impl WorkRing {
    /// Waits for a ring since the last wait. Cancel-safe.
    pub async fn rung(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Hears changes of one task. Rings that come while nobody waits are kept, as one.
#[derive(Debug)]
pub struct TaskRing {
    task: TaskId,
    receiver: watch::Receiver<Option<Arc<Snapshot>>>,
    bell: Bell,
}

impl TaskRing {
    /// Waits for a ring since the last wait. Cancel-safe.
    pub async fn rung(&mut self) {
        if self.receiver.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl TaskRing {
    /// The task as the last commit of this process left it, if there was one while somebody listened. It may be older than
    /// what the store has by now, never newer: enough to know what has happened already without asking the store.
    pub fn latest(&self) -> Option<Arc<Snapshot>> {
        self.receiver.borrow().clone()
    }
}

impl Drop for TaskRing {
    fn drop(&mut self) {
        let mut tasks = self.bell.0.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if tasks.get(&self.task).is_some_and(|t| t.receiver_count() <= 1) {
            tasks.remove(&self.task);
        }
    }
}

/// A store that rings a [`Bell`] for what is done through it. Everything else is the store's own.
#[derive(Debug)]
pub struct Wake {
    inner: Arc<dyn TaskStore>,
    bell: Bell,
}

impl Wake {
    /// Wraps a store.
    pub fn new(inner: Arc<dyn TaskStore>, bell: Bell) -> Self {
        Self { inner, bell }
    }
}

/// Whether a commit may have made a task due now, its own or one that waited for its slots.
fn makes_due(commit: &Commit) -> bool {
    let frees = commit.change.slots == SlotChange::Release || commit.change.task.status.is_terminal();
    let due_now = matches!(commit.lease, LeaseChange::Release { due: Some(due) } if due <= commit.now);
    frees || due_now
}

#[async_trait]
impl TaskStore for Wake {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn capabilities(&self) -> StoreCapabilities {
        self.inner.capabilities()
    }

    async fn submit(&self, batch: &[Submit]) -> Result<Vec<SubmitOutcome>, StoreError> {
        let outcomes = self.inner.submit(batch).await?;
        if outcomes.iter().any(|o| matches!(o, SubmitOutcome::Created(_))) {
            self.bell.ring_work();
        }
        Ok(outcomes)
    }

    async fn commit(&self, batch: &[Commit]) -> Result<Vec<CommitOutcome>, StoreError> {
        let outcomes = self.inner.commit(batch).await?;
        let mut due = false;
        for (commit, outcome) in batch.iter().zip(&outcomes) {
            if let CommitOutcome::Applied(snapshot) | CommitOutcome::AlreadyApplied(snapshot) = outcome {
                self.bell.ring_snapshot(snapshot);
                due |= makes_due(commit);
            }
        }
        if due {
            self.bell.ring_work();
        }
        Ok(outcomes)
    }

    async fn claim(&self, query: &ClaimQuery) -> Result<Vec<Snapshot>, StoreError> {
        self.inner.claim(query).await
    }

    async fn renew(&self, batch: &[Renewal]) -> Result<Vec<bool>, StoreError> {
        self.inner.renew(batch).await
    }

    async fn expire(&self, workers: &[WorkerId], now: Timestamp) -> Result<u64, StoreError> {
        let ended = self.inner.expire(workers, now).await?;
        if ended > 0 {
            self.bell.ring_work();
        }
        Ok(ended)
    }

    async fn release(&self, batch: &[Release]) -> Result<Vec<bool>, StoreError> {
        self.inner.release(batch).await
    }

    async fn signal(&self, batch: &[NewSignal]) -> Result<Vec<SignalOutcome>, StoreError> {
        let outcomes = self.inner.signal(batch).await?;
        let mut due = false;
        for (signal, outcome) in batch.iter().zip(&outcomes) {
            if *outcome == SignalOutcome::Accepted {
                self.bell.ring_task(signal.task);
                due = true;
            }
        }
        if due {
            self.bell.ring_work();
        }
        Ok(outcomes)
    }

    async fn append(&self, batch: &[Append]) -> Result<Vec<AppendOutcome>, StoreError> {
        let outcomes = self.inner.append(batch).await?;
        for (append, outcome) in batch.iter().zip(&outcomes) {
            if matches!(outcome, AppendOutcome::Appended { .. }) {
                self.bell.ring_task(append.task);
            }
        }
        Ok(outcomes)
    }

    async fn heartbeat(&self, task: TaskId, session: &SessionId, now: Timestamp) -> Result<bool, StoreError> {
        self.inner.heartbeat(task, session, now).await
    }

    async fn load(&self, ids: &[TaskId]) -> Result<Vec<Option<Snapshot>>, StoreError> {
        self.inner.load(ids).await
    }

    async fn find(&self, user: &UserId, key: &IdempotencyKey) -> Result<Option<TaskId>, StoreError> {
        self.inner.find(user, key).await
    }

    async fn events(&self, query: &EventQuery) -> Result<Vec<Event>, StoreError> {
        self.inner.events(query).await
    }

    async fn log(&self, query: &LogQuery) -> Result<Vec<(u64, LogRecord)>, StoreError> {
        self.inner.log(query).await
    }

    async fn list(&self, query: &ListQuery) -> Result<Vec<Task>, StoreError> {
        self.inner.list(query).await
    }

    async fn slots(&self) -> Result<Vec<SlotUsage>, StoreError> {
        self.inner.slots().await
    }

    async fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        self.inner.next_due().await
    }

    async fn rung(&self) {
        self.inner.rung().await;
    }

    fn operator(&self) -> &dyn OperatorStore {
        self.inner.operator()
    }
}
