//! Guards taken away, one at a time, to see that the simulation finds what each of them guards.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use abca_core::TaskId;
use abca_core::event::Event;
use abca_core::id::SignalId;
use abca_core::store::{
    ClaimQuery, Commit, CommitOutcome, EventQuery, LeaseChange, ListQuery, NewSignal, Release, Renewal, SignalOutcome,
    SlotUsage, StoreError, Submit, SubmitOutcome, TaskRow, TaskStore,
};
use abca_core::task::{Signal, SignalKind, SlotChange, Snapshot};
use abca_core::testing::proxy::StoreProxy;
use async_trait::async_trait;

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// Commits apply under any epoch.
    NoFence,
    /// Commits apply on any revision.
    NoCas,
    /// Commits are not recognised by their id.
    NoCommitId,
    /// Signals are not recognised by their id.
    NoSignalId,
    /// Whoever registers is heard.
    NoGate,
    /// Slots without a cap.
    NoCap,
    /// Slots without an order.
    NoFifo,
    /// Due times are forgotten.
    NoTimer,
    /// Leases are extended, whoever holds them.
    RenewsAnything,
    /// One submission in eight is answered and lost.
    LosesTasks,
    /// The second event of a task is not there.
    LosesEvent,
    /// The end is told twice.
    EndsTwice,
    /// An end leaves the inbox as it is.
    LeavesInbox,
    /// A cancel is accepted and not shown to workers.
    HidesCancel,
    /// Slots are not given back.
    LeaksSlots,
    /// A start after a stop begins a session.
    NoTombstone,
    /// A repeated start begins a second session.
    StartsAgain,
    /// A stop is answered and not done.
    StopsNothing,
}

/// A store with a guard missing.
#[derive(Debug)]
pub struct Broken {
    inner: Arc<dyn TaskStore>,
    mutant: Mutant,
    calls: AtomicU64,
    last: Mutex<BTreeMap<TaskId, Signal>>,
}

impl Broken {
    pub fn new(inner: Arc<dyn TaskStore>, mutant: Mutant) -> Self {
        Self { inner, mutant, calls: AtomicU64::new(0), last: Mutex::default() }
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == mutant
    }

    fn number(&self) -> u64 {
        self.calls.fetch_add(1, Ordering::SeqCst)
    }

    async fn now(&self, task: TaskId) -> Option<Snapshot> {
        self.inner.load(&[task]).await.ok()?.pop().flatten()
    }
}

#[async_trait]
impl StoreProxy for Broken {
    fn inner(&self) -> &Arc<dyn TaskStore> {
        &self.inner
    }

    async fn submit(&self, batch: &[Submit]) -> Result<Vec<SubmitOutcome>, StoreError> {
        if self.is(Mutant::LosesTasks) && self.number() % 8 == 3 {
            let lost = |s: &Submit| SubmitOutcome::Created(Box::new(TaskRow::new(s, 1).snapshot));
            return Ok(batch.iter().map(lost).collect());
        }
        self.inner.submit(batch).await
    }

    async fn commit(&self, batch: &[Commit]) -> Result<Vec<CommitOutcome>, StoreError> {
        let mut batch = batch.to_vec();
        for commit in &mut batch {
            let now = self.now(commit.task).await;
            match self.mutant {
                Mutant::NoFence => commit.epoch = now.map_or(commit.epoch, |s| s.epoch),
                Mutant::NoCas => commit.expect_revision = now.map_or(commit.expect_revision, |s| s.revision),
                Mutant::NoCommitId => commit.commit_id ^= u128::from(self.number()) << 64,
                Mutant::NoTimer => {
                    if let LeaseChange::Release { due } = &mut commit.lease {
                        *due = None;
                    }
                }
                Mutant::NoCap | Mutant::NoFifo => {
                    if let SlotChange::Acquire(limits) = &mut commit.change.slots {
                        for limit in limits {
                            limit.fifo &= !self.is(Mutant::NoFifo);
                            if self.is(Mutant::NoCap) {
                                limit.cap = u32::MAX;
                            }
                        }
                    }
                }
                _ => {}
            }
        }
        let mut answers = self.inner.commit(&batch).await?;
        if self.is(Mutant::LeavesInbox) {
            for answer in &mut answers {
                if let CommitOutcome::Applied(s) = answer
                    && s.task.status.is_terminal()
                    && let Some(signal) = self.last.lock().unwrap().get(&s.id())
                {
                    s.signals.push(signal.clone());
                }
            }
        }
        Ok(answers)
    }

    async fn claim(&self, query: &ClaimQuery) -> Result<Vec<Snapshot>, StoreError> {
        let mut claimed = self.inner.claim(query).await?;
        if self.is(Mutant::HidesCancel) {
            claimed.iter_mut().for_each(|s| s.signals.retain(|s| !matches!(s.kind, SignalKind::Cancel { .. })));
        }
        Ok(claimed)
    }

    async fn renew(&self, batch: &[Renewal]) -> Result<Vec<bool>, StoreError> {
        let kept = self.inner.renew(batch).await?;
        Ok(if self.is(Mutant::RenewsAnything) { vec![true; kept.len()] } else { kept })
    }

    async fn release(&self, batch: &[Release]) -> Result<Vec<bool>, StoreError> {
        let mut batch = batch.to_vec();
        if self.is(Mutant::NoTimer) {
            batch.iter_mut().for_each(|r| r.due = None);
        }
        self.inner.release(&batch).await
    }

    async fn signal(&self, batch: &[NewSignal]) -> Result<Vec<SignalOutcome>, StoreError> {
        let mut batch = batch.to_vec();
        for new in &mut batch {
            self.last.lock().unwrap().insert(new.task, new.signal.clone());
            if self.is(Mutant::NoGate) {
                new.expect_session = None;
            }
            if self.is(Mutant::NoSignalId) {
                new.signal.id = SignalId::new(format!("{}/{}", new.signal.id, self.number())).unwrap();
            }
        }
        self.inner.signal(&batch).await
    }

    async fn events(&self, query: &EventQuery) -> Result<Vec<Event>, StoreError> {
        let mut events = self.inner.events(query).await?;
        if self.is(Mutant::LosesEvent) {
            events.retain(|e| e.seq.0 != 2);
        }
        if self.is(Mutant::EndsTwice) {
            events.extend(events.last().filter(|e| e.event_type.is_terminal()).cloned());
        }
        Ok(events)
    }

    async fn slots(&self) -> Result<Vec<SlotUsage>, StoreError> {
        let mut slots = self.inner.slots().await?;
        if self.is(Mutant::LeaksSlots)
            && let Some(task) = self.inner.list(&ListQuery { limit: 1, ..ListQuery::default() }).await?.pop()
        {
            slots.extend(
                task.spec.limits.slots.iter().map(|l| SlotUsage { scope: l.scope.clone(), holders: vec![task.id] }),
            );
        }
        Ok(slots)
    }
}
