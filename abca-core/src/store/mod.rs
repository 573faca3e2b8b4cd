//! Where tasks live: the trait [`TaskStore`] and the values it takes and gives.

mod check;
pub(crate) mod format;
mod model;
mod operator;
mod row;

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::adapter_error;
use crate::event::{Event, NewEvent};
use crate::id::{EventSeq, IdempotencyKey, SessionId, SignalId, TaskId, UserId, WorkerId};
use crate::session::LogRecord;
use crate::task::{Change, Signal, SlotLimit, SlotScope, Snapshot, Task, TaskStatus};
use crate::time::Timestamp;

pub use check::{check_append, check_change, check_commits, check_submit};
pub use format::{RECORD_FORMAT, check_format, check_unread};
pub use model::StoreModel;
pub use operator::{Burial, Counts, DeadLetter, FeedCursor, FeedPage, FeedQuery, OperatorStore, REASON_CHARS};
pub use row::{Applied, COMMITS_KEPT, CommitVerdict, FARTHEST, Lease, NUDGES_PENDING, Slots, TaskRow};

adapter_error! {
    /// Why a store did not do what it was asked. Nothing was changed, except for [`StoreErrorKind::Unknown`].
    StoreError,
    /// Classes of store errors.
    StoreErrorKind {
        /// It may or may not have happened: repeat the same call; a commit is recognised by its `commit_id`.
        Unknown = "outcome unknown", true;
        /// Busy; repeat later.
        Throttled = "throttled", true;
        /// Not reachable, or not writable for now; repeat later.
        Unavailable = "unavailable", true;
        /// No space left; repeat when there is.
        Full = "no space left", true;
        /// The stored bytes are not what this program wrote.
        Corrupt = "corrupt", false;
        /// The stored data is newer than this program knows, or otherwise not its own.
        Incompatible = "incompatible", false;
        /// The caller broke the contract, e.g. a transition outside the table.
        Invalid = "invalid", false;
        /// This store cannot do that; the message says what to use instead.
        Unsupported = "not supported", false;
    }
}

/// What differs between stores.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreCapabilities {
    /// What was answered survives the end of the process.
    pub durable: bool,
    /// Several processes may use it at once.
    pub shared: bool,
    /// It can read the events of all tasks in one order ([`OperatorStore::feed`]).
    pub feed: bool,
    /// The rest of [`OperatorStore`] works; else its calls answer [`StoreErrorKind::Unsupported`].
    pub operator: bool,
}

impl StoreCapabilities {
    /// With everything for operators.
    pub const fn new(durable: bool, shared: bool) -> Self {
        Self { durable, shared, feed: true, operator: true }
    }

    /// Without a feed.
    #[must_use]
    pub const fn without_feed(self) -> Self {
        Self { feed: false, ..self }
    }

    /// Without anything for operators.
    #[must_use]
    pub const fn without_operator(self) -> Self {
        Self { feed: false, operator: false, ..self }
    }
}

/// A new task, complete: status `SUBMITTED` or `PENDING_UPLOADS`, its first events, and the slots to try at once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Submit {
    /// The record. `(user, idempotency_key)` is unique while the task exists.
    pub task: Task,
    /// Fingerprint of the submission: the same key with another fingerprint is a conflict.
    pub payload_hash: String,
    /// First events.
    pub events: Vec<NewEvent>,
    /// When a worker should look at it first.
    pub due_at: Timestamp,
}

/// What became of a submission.
#[derive(Debug, Clone, PartialEq)]
pub enum SubmitOutcome {
    /// A new task.
    Created(Box<Snapshot>),
    /// The same key and the same payload came before: this is its task.
    Existing(Box<Snapshot>),
    /// The same key came before with another payload.
    Conflict {
        /// Whose key it is.
        task: TaskId,
    },
}

/// What a commit does with the worker's lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseChange {
    /// Keep it: more is to be done at once.
    Keep,
    /// Give it back; look again at `due`, or only on a signal.
    Release {
        /// When the task is due next. Ignored, as never, once the task is terminal.
        due: Option<Timestamp>,
    },
}

/// The only mutation of a task. All of it happens, or nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Commit {
    /// Whose.
    pub task: TaskId,
    /// The revision that the change was decided on.
    pub expect_revision: u64,
    /// The fencing token of the lease that it was decided under.
    pub epoch: u64,
    /// A function of what the commit does; a repeated commit is answered [`CommitOutcome::AlreadyApplied`].
    pub commit_id: u128,
    /// The change.
    pub change: Change,
    /// The lease afterwards.
    pub lease: LeaseChange,
    /// When it is made, as the worker sees it.
    pub now: Timestamp,
}

/// What became of a commit.
#[derive(Debug, Clone, PartialEq)]
pub enum CommitOutcome {
    /// Done: the task as it is now.
    Applied(Box<Snapshot>),
    /// This very commit was done before: the task as it is now. A store knows a task's last 16 commits; the repeat of
    /// an older one is `Stale`.
    AlreadyApplied(Box<Snapshot>),
    /// The revision is not the expected one: the task as it is now. Decide again.
    Stale(Box<Snapshot>),
    /// The lease was lost: another worker has claimed the task since. Drop it.
    Fenced,
    /// No slot is free in this scope, or somebody is before us. Nothing was changed.
    SlotDenied(SlotScope),
    /// No such task.
    NotFound,
}

/// Asks for due work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimQuery {
    /// Who asks: an incarnation.
    pub worker: WorkerId,
    /// Only this task, whether it is due or not; `None` for whatever is due.
    pub task: Option<TaskId>,
    /// Only tasks with a signal in their inbox: for a worker that has no room for new work, so that a cancel is heard all
    /// the same.
    pub signalled: bool,
    /// Now, as the worker sees it. Decides what is due and which leases have expired, never what is true.
    pub now: Timestamp,
    /// Until when the lease is granted.
    pub lease_until: Timestamp,
    /// At most so many, oldest due first.
    pub limit: usize,
}

/// Extends a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewal {
    /// Whose.
    pub task: TaskId,
    /// Under which fencing token.
    pub epoch: u64,
    /// Until when.
    pub lease_until: Timestamp,
}

/// Gives a lease back without a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Whose.
    pub task: TaskId,
    /// Under which fencing token.
    pub epoch: u64,
    /// The revision that the decision to wait was made on: when it has moved since, the task stays due at once.
    pub expect_revision: u64,
    /// When it is due next; `None` for only on a signal.
    pub due: Option<Timestamp>,
}

/// An input for a task's inbox.
#[derive(Debug, Clone, PartialEq)]
pub struct NewSignal {
    /// Whose.
    pub task: TaskId,
    /// The signal; the same id twice is one signal, also after it was consumed.
    pub signal: Signal,
    /// Refuse unless this is the task's current session and its phase is `starting` or `live`.
    pub expect_session: Option<SessionId>,
}

/// What became of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalOutcome {
    /// In the inbox; the task is due now.
    Accepted,
    /// The same id came before.
    Duplicate,
    /// The task has ended.
    Terminal(TaskStatus),
    /// The task does not expect this session.
    Refused,
    /// A nudge more than [`NUDGES_PENDING`]: nothing changed, and the same may be accepted once the agent has heard some.
    Full,
    /// No such task.
    NotFound,
}

/// Appends to a session's log, with the events that go with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Append {
    /// Whose.
    pub task: TaskId,
    /// The writing session: refused unless it is the current one, in phase `live`, `starting` or `stopping`.
    pub session: SessionId,
    /// The number that the first record must get: the log's length plus one. Guards against two writers.
    pub expect_seq: u64,
    /// What to append; the store numbers them on from `expect_seq`.
    pub records: Vec<LogRecord>,
    /// What is told in the same transaction.
    pub events: Vec<NewEvent>,
    /// Also the session's heartbeat.
    pub now: Timestamp,
}

/// What became of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendOutcome {
    /// Done; the log has this many records.
    Appended {
        /// Its length now.
        len: u64,
        /// Nothing waits for the session to hear: it is live, nobody has cancelled, the inbox is empty. What says so
        /// spares a look at the task after every append.
        quiet: bool,
    },
    /// Records with these numbers exist already. When they are the same bytes this was a repeat.
    Exists {
        /// Its length now.
        len: u64,
        /// Whether what exists is what was sent.
        same: bool,
    },
    /// The task does not expect this session any more: stop.
    Refused,
    /// No such task.
    NotFound,
}

/// Asks for events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventQuery {
    /// Whose.
    pub task: TaskId,
    /// Only later ones.
    pub after: EventSeq,
    /// At most so many, oldest first.
    pub limit: usize,
}

/// Asks for a session log. The log belongs to the task: attempts go on in the same log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogQuery {
    /// Whose.
    pub task: TaskId,
    /// Only records with a greater number.
    pub after: u64,
    /// At most so many, oldest first.
    pub limit: usize,
}

/// Asks for a list of tasks, newest first.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct ListQuery {
    /// Only this user's.
    pub user: Option<UserId>,
    /// Only in one of these states; empty for all.
    pub statuses: Vec<TaskStatus>,
    /// Only on this repository.
    pub repo: Option<String>,
    /// Only tasks minted at this moment or later ([`TaskId::minted_at`]).
    pub since: Option<Timestamp>,
    /// Only tasks minted before this moment.
    pub until: Option<Timestamp>,
    /// Only tasks older than this one: the last of the page before.
    pub before: Option<TaskId>,
    /// At most so many.
    pub limit: usize,
}

/// How full a scope is, for reports. Never used to decide.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotUsage {
    /// The scope.
    pub scope: SlotScope,
    /// Its holders, in the order of their taking.
    pub holders: Vec<TaskId>,
}

/// Keeps tasks, their events, slots, owed effects, inboxes and session logs.
///
/// # Contract
/// * **Atomic.** Each entry of a batch happens whole or not at all; entries are independent, answered in order.
/// * **Guarded.** A commit applies only on its `expect_revision` and under its `epoch`; a change outside the
///   transition table, or one that holds slots in a state that may not, is [`StoreErrorKind::Invalid`].
///   `revision` grows by one with every applied commit and every accepted signal.
/// * **Exactly one end.** After a terminal commit no event, signal, effect or slot of the task changes any more;
///   owed effects must be settled by that commit or before it.
/// * **Events** are numbered from 1 without gaps in the order of their commits.
/// * **Slots.** `Acquire` takes all or none; at most `cap` holders per scope at any time, whatever races; with `fifo`
///   it is denied while an earlier accepted task that waits (`QUEUED`, `SUBMITTED`) lists the same scope. A release, and
///   the admission or end of a waiting task, makes the first tasks that were denied in the freed scopes due at once,
///   as many as there is room for: first in, first out within a user, users in turn.
/// * **Fencing comes first.** A commit under another epoch is `Fenced`, even when the very same commit was applied
///   before: its worker has lost the task and must not go on from a snapshot of somebody else's lease.
/// * **Claims** raise the epoch; a task is claimable when it is due, or when its lease has expired at `now`. A due time or
///   a lease further from `now` than [`FARTHEST`] has passed: a clock was set back, and nobody waits for what it showed.
///   A task never leaves the due index while it is not terminal, except by a release with `due: None`.
/// * **Answers to gates** wait likewise, until the log says so by [`crate::session::LogEntry::ApprovalSettled`] and the task no longer
///   waits for them.
/// * **Nudges** wait in the inbox until a record of the log says that the agent heard them ([`crate::session::LogEntry::Injected`]): the
///   append of that record takes them out, and bumps the revision if it does. At most [`NUDGES_PENDING`] wait.
/// * **Signals** make the task due at once, whoever holds its lease, and bump the revision, so that a decision made
///   without them goes stale.
/// * **Durable** when the capabilities say so: what was answered survives SIGKILL and power loss.
/// * **Cancel safety.** Dropping a future leaves the call done or not done, never half done.
#[async_trait]
pub trait TaskStore: fmt::Debug + Send + Sync + 'static {
    /// Short lower-case name for logs, e.g. `sqlite`.
    fn name(&self) -> &'static str;

    /// What this store can do.
    fn capabilities(&self) -> StoreCapabilities;

    /// Accepts tasks. Idempotent per `(user, idempotency_key)`, and per task id.
    async fn submit(&self, batch: &[Submit]) -> Result<Vec<SubmitOutcome>, StoreError>;

    /// Changes tasks. Idempotent per `commit_id`.
    async fn commit(&self, batch: &[Commit]) -> Result<Vec<CommitOutcome>, StoreError>;

    /// Leases due tasks: raises the epoch of each and answers its snapshot.
    async fn claim(&self, query: &ClaimQuery) -> Result<Vec<Snapshot>, StoreError>;

    /// Extends leases. `false`: lost, another worker has claimed the task since.
    async fn renew(&self, batch: &[Renewal]) -> Result<Vec<bool>, StoreError>;

    /// Ends the leases of workers that are known to be dead, so that their tasks can be claimed from `now` on instead of at
    /// the end of the leases. Answers how many it ended.
    ///
    /// Harmless to a worker that lives after all: until somebody claims a task its lease can be renewed, and then it is
    /// fenced as ever.
    async fn expire(&self, workers: &[WorkerId], now: Timestamp) -> Result<u64, StoreError>;

    /// Gives leases back. `false`: it was lost before.
    async fn release(&self, batch: &[Release]) -> Result<Vec<bool>, StoreError>;

    /// Puts signals into inboxes. Idempotent per `(task, signal id)`.
    async fn signal(&self, batch: &[NewSignal]) -> Result<Vec<SignalOutcome>, StoreError>;

    /// Appends to session logs, and counts as heartbeat.
    async fn append(&self, batch: &[Append]) -> Result<Vec<AppendOutcome>, StoreError>;

    /// Records that a session lives. `false`: the task does not expect it (any more).
    async fn heartbeat(&self, task: TaskId, session: &SessionId, now: Timestamp) -> Result<bool, StoreError>;

    /// Reads tasks as they are now: sees every commit that was answered before the call.
    async fn load(&self, ids: &[TaskId]) -> Result<Vec<Option<Snapshot>>, StoreError>;

    /// Finds a task by its idempotency key.
    async fn find(&self, user: &UserId, key: &IdempotencyKey) -> Result<Option<TaskId>, StoreError>;

    /// Reads events, oldest first.
    async fn events(&self, query: &EventQuery) -> Result<Vec<Event>, StoreError>;

    /// Reads a session log, oldest first, as `(number, record)`.
    async fn log(&self, query: &LogQuery) -> Result<Vec<(u64, LogRecord)>, StoreError>;

    /// Lists tasks, newest first by id.
    async fn list(&self, query: &ListQuery) -> Result<Vec<Task>, StoreError>;

    /// Who holds what, for reports and the auditor.
    async fn slots(&self) -> Result<Vec<SlotUsage>, StoreError>;

    /// When the next task becomes due or the next lease expires; `None` when nothing waits for time.
    async fn next_due(&self) -> Result<Option<Timestamp>, StoreError>;

    /// Returns when another process may have made a task due: sometimes late, sometimes for nothing, and never where a store
    /// has no such bell. Correctness does not depend on it: due times are looked at all the same.
    async fn rung(&self) {
        std::future::pending().await
    }

    /// What operators and reports ask.
    fn operator(&self) -> &dyn OperatorStore;
}

/// Whether a scope with these limits may be taken: shared by stores, so that they agree.
pub fn may_take(limit: &SlotLimit, holders: usize, earlier_waits: bool) -> bool {
    u32::try_from(holders).is_ok_and(|h| h < limit.cap) && !(limit.fifo && earlier_waits)
}

impl ListQuery {
    /// Whether a task is asked for: what every store's answer agrees with.
    pub fn asks_for(&self, task: &Task) -> bool {
        let minted = task.id.minted_at();
        self.user.as_ref().is_none_or(|u| task.user == *u)
            && (self.statuses.is_empty() || self.statuses.contains(&task.status))
            && self.repo.as_ref().is_none_or(|r| task.spec.repo.as_ref().is_some_and(|x| x.to_string() == *r))
            && self.since.is_none_or(|t| minted >= t)
            && self.until.is_none_or(|t| minted < t)
            && self.before.is_none_or(|b| task.id < b)
    }
}

/// De-duplication of wake-ups, so that a signal's id is a function of its content.
pub fn signal_id(parts: &[&str]) -> Option<SignalId> {
    SignalId::new(parts.join("/")).ok()
}
