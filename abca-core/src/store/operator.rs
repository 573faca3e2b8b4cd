//! What operators and reports ask of a store: nothing here is used to decide about a task.

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::StoreError;
use crate::event::Event;
use crate::id::TaskId;
use crate::task::TaskStatus;
use crate::time::Timestamp;

/// Where a reader of all tasks' events stands. Opaque: a store understands only what it gave.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FeedCursor(pub String);

impl FeedCursor {
    /// Before the first event.
    pub const START: Self = Self(String::new());
}

impl fmt::Display for FeedCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Asks for events across tasks.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct FeedQuery {
    /// Only later ones.
    pub after: FeedCursor,
    /// At most so many.
    pub limit: usize,
}

/// Events across tasks.
#[derive(Debug, Clone, PartialEq)]
pub struct FeedPage {
    /// In the order in which the store made them visible; those of one task in the order of their numbers.
    pub events: Vec<Event>,
    /// Where to go on; where the query began when there was nothing.
    pub next: FeedCursor,
}

/// How many tasks there are, for metrics and for the health of the whole: work that is overdue and not done is the alarm.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// By state; states without tasks are left out. Dead letters are in their state's number too.
    pub by_status: BTreeMap<TaskStatus, u64>,
    /// Tasks that a worker could claim now.
    pub due: u64,
    /// Since when the oldest of them is due.
    pub oldest_due: Option<Timestamp>,
    /// Dead letters.
    pub dead: u64,
}

/// Puts a task aside that no program can carry on with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Burial {
    /// Whose.
    pub task: TaskId,
    /// The fencing token that it was found out under.
    pub epoch: u64,
    /// What is wrong, for a person; at most [`REASON_CHARS`] characters are kept.
    pub reason: String,
    /// When.
    pub now: Timestamp,
}

/// The longest reason of a dead letter, in characters.
pub const REASON_CHARS: usize = 2_000;

/// A task that was put aside: nobody claims it, no session of it is heard, until an operator revives or discards it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Whose.
    pub task: TaskId,
    /// What is wrong.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
}

/// The part of a store that people and reports use.
///
/// # Contract
/// * **Feed.** Every event is given once to a reader that follows the cursor, also one whose transaction ended late; it may
///   lag behind the events of a task. A cursor that the store did not give is [`super::StoreErrorKind::Invalid`]. A store
///   without such an order answers [`super::StoreErrorKind::Unsupported`] and says what to use instead.
/// * **Dead letters.** A burial ends the lease and raises the epoch, so that whoever works on the task is fenced; it leaves the
///   queue, and keeps its slots, its inbox and its owed effects: nothing is lost. Its sessions are refused. A revived task
///   is due at once, at its old place in the order. A task that was discarded is gone, and its slots are free.
/// * **Retention.** What is purged is gone whole: record, events, log, signals and idempotency key.
#[async_trait]
pub trait OperatorStore: fmt::Debug + Send + Sync {
    /// Reads events of all tasks.
    async fn feed(&self, query: &FeedQuery) -> Result<FeedPage, StoreError>;

    /// Counts tasks.
    async fn counts(&self, now: Timestamp) -> Result<Counts, StoreError>;

    /// How many waiting tasks (`SUBMITTED`, `QUEUED`) of the same user were accepted before this one; `None` when it does not
    /// wait, or is not there.
    async fn place(&self, task: TaskId) -> Result<Option<u64>, StoreError>;

    /// Removes tasks that ended before a moment, the first that ended first, at most `limit`; answers how many. Of those
    /// that ended at once the first accepted goes first.
    async fn purge(&self, ended_before: Timestamp, limit: usize) -> Result<u64, StoreError>;

    /// Puts tasks aside. `false`: another worker has claimed it since, it has ended, is aside already, or is not there.
    async fn bury(&self, batch: &[Burial]) -> Result<Vec<bool>, StoreError>;

    /// Dead letters, the longest dead first. A store puts aside by itself what it finds and cannot read.
    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, StoreError>;

    /// Makes a dead letter due again. `false`: it is none.
    ///
    /// # Errors
    /// [`super::StoreErrorKind::Corrupt`] when it still cannot be read.
    async fn revive(&self, task: TaskId, now: Timestamp) -> Result<bool, StoreError>;

    /// Removes a dead letter with everything of it, readable or not. `false`: it is none.
    async fn discard(&self, task: TaskId, now: Timestamp) -> Result<bool, StoreError>;
}
