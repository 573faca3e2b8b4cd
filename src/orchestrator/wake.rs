//! In-process wake-ups: a layer over any store that rings when something changes.
//!
//! Nothing depends on a ring for being correct: whoever listens also looks by itself, by due time. A ring only makes the
//! next look come at once instead of at the end of the poll interval.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
use tokio::sync::Notify;

/// Rings for whoever waits in this process: for due work as a whole, and for each task by name. Clones ring together.
///
/// Whoever waits is woken in the order of waiting, so that a simulation runs the same way twice.
#[derive(Debug, Clone, Default)]
pub struct Bell(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    work: Rings,
    tasks: Mutex<BTreeMap<TaskId, Arc<OfTask>>>,
}

#[derive(Debug, Default)]
struct OfTask {
    rings: Rings,
    latest: Mutex<Option<Arc<Snapshot>>>,
}

/// How often something rang, and who waits for the next time.
#[derive(Debug, Default)]
struct Rings {
    count: AtomicU64,
    waiting: Notify,
}

impl Rings {
    fn ring(&self) {
        self.count.fetch_add(1, Ordering::SeqCst);
        self.waiting.notify_waiters();
    }

    fn count(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }

    /// Waits until it has rung since `heard`. Cancel-safe.
    async fn since(&self, heard: &mut u64) {
        loop {
            // It hears from here on: what rings before the look is seen by the look.
            let next = self.waiting.notified();
            let count = self.count();
            if count != *heard {
                *heard = count;
                return;
            }
            next.await;
        }
    }
}

impl Bell {
    /// Says that work may be due.
    pub fn ring_work(&self) {
        self.0.work.ring();
    }

    /// Says that something of a task has changed.
    pub fn ring_task(&self, task: TaskId) {
        if let Some(bell) = self.tasks().get(&task) {
            bell.rings.ring();
        }
    }

    /// Says what a task has become. Costs nothing where nobody listens.
    fn ring_snapshot(&self, snapshot: &Snapshot) {
        if let Some(bell) = self.tasks().get(&snapshot.id()) {
            let mut latest = bell.latest.lock().unwrap_or_else(PoisonError::into_inner);
            if latest.as_ref().is_none_or(|old| old.revision <= snapshot.revision) {
                *latest = Some(Arc::new(snapshot.clone()));
            }
            drop(latest);
            bell.rings.ring();
        }
    }

    /// Listens for work.
    pub fn work(&self) -> WorkRing {
        WorkRing { heard: self.0.work.count(), bell: self.clone() }
    }

    /// Listens for changes of one task: listen first, then look, then wait, so that nothing falls between.
    pub fn task(&self, task: TaskId) -> TaskRing {
        let of = self.tasks().entry(task).or_default().clone();
        TaskRing { task, heard: of.rings.count(), of, bell: self.clone() }
    }

    fn tasks(&self) -> MutexGuard<'_, BTreeMap<TaskId, Arc<OfTask>>> {
        self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hears that work may be due. Rings that come while nobody waits are kept, as one.
#[derive(Debug)]
pub struct WorkRing {
    bell: Bell,
    heard: u64,
}

impl WorkRing {
    /// Waits for a ring since the last wait. Cancel-safe.
    pub async fn rung(&mut self) {
        self.bell.0.work.since(&mut self.heard).await;
    }
}

/// Hears changes of one task. Rings that come while nobody waits are kept, as one.
#[derive(Debug)]
pub struct TaskRing {
    task: TaskId,
    of: Arc<OfTask>,
    heard: u64,
    bell: Bell,
}

impl TaskRing {
    /// Waits for a ring since the last wait. Cancel-safe.
    pub async fn rung(&mut self) {
        self.of.rings.since(&mut self.heard).await;
    }

    /// The task as the last commit of this process left it, if there was one while somebody listened. It may be older than
    /// what the store has by now, never newer: enough to know what has happened already without asking the store.
    pub fn latest(&self) -> Option<Arc<Snapshot>> {
        self.of.latest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for TaskRing {
    fn drop(&mut self) {
        let mut tasks = self.bell.tasks();
        // The map's and this one's: the last listener takes the bell down.
        if tasks.get(&self.task).is_some_and(|of| Arc::ptr_eq(of, &self.of) && Arc::strong_count(of) <= 2) {
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
