//! What operators do: look at the whole, let old tasks go, and decide about dead letters.

use abca_core::id::WorkerId;
use abca_core::store::{
    ClaimQuery, Commit, CommitOutcome, Counts, DeadLetter, FeedPage, FeedQuery, LeaseChange, ListQuery, OperatorStore,
    StoreErrorKind,
};
use abca_core::task::{Snapshot, Task, TaskStatus, fail_dead_letter};
use abca_core::{Millis, TaskId, Timestamp};

use crate::abca::Abca;
use crate::error::{Error, ErrorKind};
use crate::handle::TaskHandle;

/// How long a dead letter that is being failed is kept from workers.
const ALONE: Millis = Millis::secs(60);
/// How many ended tasks an estimate looks at.
const SAMPLE: usize = 50;

/// The operator's view of a store: [`Abca::operator`].
#[derive(Debug, Clone)]
pub struct Operator {
    abca: Abca,
}

/// Where a waiting task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct QueuePlace {
    /// How many of the same user's waiting tasks were accepted before it. Exact at the moment of asking.
    pub ahead: u64,
    /// How long until its turn, guessed from how long this user's last tasks took and how many may run at once; `None`
    /// before any has ended.
    pub estimate_ms: Option<Millis>,
}

impl Abca {
    /// What operators ask and do. Nothing of it is used to decide about a task.
    pub fn operator(&self) -> Operator {
        Operator { abca: self.clone() }
    }
}

impl Operator {
    fn store(&self) -> &dyn OperatorStore {
        self.abca.inner.store.operator()
    }

    fn now(&self) -> Timestamp {
        self.abca.inner.clock.now()
    }

    /// Events of all tasks, in the order in which the store made them visible.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a cursor that the store did not give; [`ErrorKind::Config`] where a store has no such order;
    /// when it cannot be read.
    pub async fn feed(&self, query: &FeedQuery) -> Result<FeedPage, Error> {
        self.store().feed(query).await.map_err(|e| match e.kind() {
            StoreErrorKind::Invalid => Error::new(ErrorKind::Invalid, e.message().to_owned()).with_source(e),
            _ => e.into(),
        })
    }

    /// How many tasks there are, by state, and how much is overdue.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn counts(&self) -> Result<Counts, Error> {
        Ok(self.store().counts(self.now()).await?)
    }

    /// Removes tasks that ended longer ago than this, with their events and logs, at most `limit`; answers how many.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn purge(&self, older_than: Millis, limit: usize) -> Result<u64, Error> {
        let before = Timestamp::from_millis(
            self.now().as_millis().saturating_sub(i64::try_from(older_than.0).unwrap_or(i64::MAX)),
        );
        Ok(self.store().purge(before, limit).await?)
    }

    /// Tasks that no program can carry on with, the longest dead first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, Error> {
        Ok(self.store().dead_letters(limit).await?)
    }

    /// Lets workers try a dead letter again, from where it stands.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when it is none; [`ErrorKind::State`] when its record still cannot be read.
    pub async fn revive(&self, task: TaskId) -> Result<(), Error> {
        if self.store().revive(task, self.now()).await? {
            self.abca.inner.bell.ring_work();
            return Ok(());
        }
        Err(not_dead(task))
    }

    /// Removes a dead letter with everything of it, readable or not. Its slots are free. There is no way back.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when it is none.
    pub async fn discard(&self, task: TaskId) -> Result<(), Error> {
        if self.store().discard(task, self.now()).await? {
            self.abca.inner.bell.ring_work();
            return Ok(());
        }
        Err(not_dead(task))
    }

    /// Ends a dead letter as `FAILED`, wherever it stands. A session of it that still runs is refused at its next word.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when it is none; [`ErrorKind::State`] when its record cannot be read: then only
    /// [`Self::discard`] is left. [`ErrorKind::Unavailable`] when somebody changed it at the same moment.
    pub async fn fail(&self, task: TaskId, reason: &str) -> Result<(), Error> {
        let now = self.now();
        // Due later than any worker looks: until then only who names it gets it.
        if !self.store().revive(task, now.after(ALONE)).await? {
            return Err(not_dead(task));
        }
        let busy =
            || Error::new(ErrorKind::Unavailable, format!("task `{task}` was taken up by a worker at this moment"));
        let query = ClaimQuery {
            worker: WorkerId::from_parts(now, self.abca.inner.ids.random()),
            task: Some(task),
            signalled: false,
            now,
            lease_until: now.after(ALONE),
            limit: 1,
        };
        let snapshot: Snapshot = self.abca.inner.store.claim(&query).await?.pop().ok_or_else(busy)?;
        let commit = Commit {
            task,
            expect_revision: snapshot.revision,
            epoch: snapshot.epoch,
            commit_id: self.abca.inner.ids.random(),
            change: fail_dead_letter(&snapshot, reason, now),
            lease: LeaseChange::Release { due: None },
            now,
        };
        match self.abca.inner.store.commit(&[commit]).await?.pop() {
            Some(CommitOutcome::Applied(_) | CommitOutcome::AlreadyApplied(_)) => Ok(()),
            Some(CommitOutcome::Stale(_) | CommitOutcome::Fenced | CommitOutcome::SlotDenied(_)) | None => Err(busy()),
            Some(CommitOutcome::NotFound) => Err(not_dead(task)),
        }
    }
}

fn not_dead(task: TaskId) -> Error {
    Error::new(ErrorKind::NotFound, format!("task `{task}` is no dead letter"))
}

impl TaskHandle {
    /// Where the task stands among its user's waiting tasks; `None` when it does not wait.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn place(&self) -> Result<Option<QueuePlace>, Error> {
        let inner = self.inner();
        let Some(ahead) = inner.store.operator().place(self.id()).await? else { return Ok(None) };
        let task = self.record().await?;
        let ended: Vec<TaskStatus> = TaskStatus::ALL.into_iter().filter(|s| s.is_terminal()).collect();
        let query = ListQuery { user: Some(task.user.clone()), statuses: ended, limit: SAMPLE, ..ListQuery::default() };
        let lives = inner.store.list(&query).await?.iter().filter_map(took).collect::<Vec<u64>>();
        Ok(Some(QueuePlace { ahead, estimate_ms: estimate(&lives, ahead, places(&task)) }))
    }
}

/// How long a task held its slots.
fn took(task: &Task) -> Option<u64> {
    Some(task.completed_at?.since(task.admitted_at?).0)
}

/// How many tasks like this one may run at once.
fn places(task: &Task) -> u64 {
    task.spec.limits.slots.iter().map(|l| u64::from(l.cap)).min().unwrap_or(1).max(1)
}

/// Whole rounds of as many as run at once, the one under way counted by half.
fn estimate(lives: &[u64], ahead: u64, places: u64) -> Option<Millis> {
    let mean = lives.iter().sum::<u64>().checked_div(lives.len() as u64)?;
    Some(Millis(mean / 2 + mean.saturating_mul(ahead / places)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_counts_rounds() {
        assert_eq!(estimate(&[], 3, 2), None);
        assert_eq!(estimate(&[1_000, 3_000], 0, 2), Some(Millis(1_000)));
        assert_eq!(estimate(&[1_000, 3_000], 5, 2), Some(Millis(5_000)));
    }
}
