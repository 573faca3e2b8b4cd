//! What a group of calls needs of a database.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use abca_core::id::{IdempotencyKey, SignalId, WorkerId};
use abca_core::session::LogRecord;
use abca_core::store::{ClaimQuery, Commit, StoreError, TaskRow};
use abca_core::task::{Signal, SlotChange, SlotLimit, SlotScope};
use abca_core::{TaskId, Timestamp, UserId};

use super::error::Trouble;

/// A scope as it is at this point of a transaction.
#[derive(Debug, Default)]
pub(crate) struct Scope {
    pub(crate) holders: usize,
    /// The first waiting tasks: more of them than this transaction can make leave.
    pub(crate) waiting: BTreeSet<u64>,
    /// Somebody was denied a slot here.
    pub(crate) denied: bool,
}

/// What the calls of a transaction speak of.
#[derive(Debug, Default)]
pub(crate) struct Ask<'c> {
    pub(crate) ids: BTreeSet<TaskId>,
    pub(crate) keys: Vec<(UserId, IdempotencyKey)>,
    pub(crate) commits: Vec<&'c Commit>,
    /// How many tasks may be made.
    pub(crate) submits: usize,
    /// Tasks that may leave queues otherwise than by a commit.
    pub(crate) leave: Vec<TaskId>,
}

/// A task, or why it cannot be read.
pub(crate) type Found = (TaskId, Result<TaskRow, StoreError>);

/// What a transaction begins with.
#[derive(Debug, Default)]
pub(crate) struct Begun {
    /// Every task of [`Ask::ids`] that is there.
    pub(crate) rows: Vec<Found>,
    /// Scopes that were read at once because the commits will need them; others are asked for.
    pub(crate) scopes: Vec<(SlotScope, Scope)>,
}

/// A waiting task that was denied a slot.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    pub(crate) id: TaskId,
    pub(crate) user: String,
    pub(crate) order: u64,
    /// What the engine knows of it already; else it is read.
    pub(crate) sketch: Option<Sketch>,
}

/// What decides whether room is offered to a waiting task.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sketch {
    /// Its cap in the scope.
    pub(crate) cap: u32,
    /// How many more tasks like it fit into its other scopes.
    pub(crate) elsewhere: usize,
    /// It was woken, and nobody has looked at it since.
    pub(crate) woken: bool,
}

/// What a task that is to be removed takes up, whether it can be read or not.
#[derive(Debug)]
pub(crate) struct Outline {
    pub(crate) order: u64,
    pub(crate) user: UserId,
    pub(crate) held: Vec<SlotScope>,
    pub(crate) dead: bool,
}

/// Scopes that a commit of this task may take, free or leave.
pub(crate) fn scopes_of(row: &TaskRow, commit: &Commit, scopes: &mut BTreeSet<SlotScope>) {
    let leaves = row.snapshot.task.status.is_waiting() && !commit.change.task.status.is_waiting();
    match &commit.change.slots {
        SlotChange::Keep if !leaves => return,
        SlotChange::Keep | SlotChange::Release => {}
        SlotChange::Acquire(limits) => scopes.extend(limits.iter().map(|l| l.scope.clone())),
    }
    scopes.extend(row.limits().iter().map(|l| l.scope.clone()));
    scopes.extend(row.snapshot.held.iter().cloned());
}

/// What a transaction wants written. [`Engine::write`] does it in this order: tasks, records, states, events, logs, signals, freed
/// slots, taken slots, places in queues, places given up, wake-ups.
pub(crate) trait Sheet {
    /// Where a record lies that was put aside.
    type Place: Copy + fmt::Debug;

    /// Puts aside what never changes of a task's record, as JSON.
    fn fixed(&mut self, json: &[u8]) -> Self::Place;
    /// Puts aside what changes of a task's record, as JSON.
    fn moving(&mut self, json: &[u8]) -> Self::Place;
    /// The task, new, with what was put aside.
    fn task(&mut self, row: &TaskRow, fixed: Self::Place) -> Result<(), StoreError>;
    /// The record, new or changed, with what was put aside.
    fn record(&mut self, row: &TaskRow, moving: Self::Place) -> Result<(), StoreError>;
    /// The task's state.
    fn state(&mut self, row: &TaskRow) -> Result<(), StoreError>;
    /// Events, numbered from `first`.
    fn events<'b>(
        &mut self,
        row: &TaskRow,
        first: u64,
        bodies: impl Iterator<Item = &'b [u8]>,
    ) -> Result<(), StoreError>;
    /// Records of the log, numbered from `first`.
    fn log<'b>(&mut self, row: &TaskRow, first: u64, bodies: impl Iterator<Item = &'b [u8]>) -> Result<(), StoreError>;
    /// A signal with its place in the inbox; without a body it was consumed.
    fn signal(&mut self, order: u64, id: &SignalId, body: Option<(u64, &Signal)>) -> Result<(), StoreError>;
    /// The task gives back every slot that it holds: those that are stored are in these scopes.
    fn freed(&mut self, order: u64, scopes: &[SlotScope]) -> Result<(), StoreError>;
    /// The task takes a slot.
    fn taken(&mut self, limit: &SlotLimit, order: u64) -> Result<(), StoreError>;
    /// The task waits for a scope.
    fn waiting(&mut self, scope: &SlotScope, row: &TaskRow, denied: bool) -> Result<(), StoreError>;
    /// The task does not wait for a scope any more.
    fn waited(&mut self, scope: &SlotScope, order: u64) -> Result<(), StoreError>;
    /// The task is a dead letter, or is none any more.
    fn dead(&mut self, row: &TaskRow) -> Result<(), StoreError>;
    /// A task that this transaction does not hold is due: see [`Engine::ALONE`].
    fn woken(&mut self, order: u64, at: Timestamp) -> Result<(), StoreError>;
}

/// A database with one transaction under way.
pub(crate) trait Engine: Sheet + fmt::Debug {
    /// Whether a transaction keeps every other one out, so that it may change any task that it reads. Otherwise it may
    /// change only what it holds: the tasks of [`Ask::ids`], of [`Self::due`], [`Self::leased`] and [`Self::load`].
    const ALONE: bool;

    /// Begins, holds and reads the tasks that are asked for.
    async fn begin(&mut self, ask: &Ask<'_>) -> Result<Begun, Trouble>;
    /// Holds and reads tasks.
    async fn load(&mut self, ids: &[TaskId]) -> Result<Vec<Found>, Trouble>;
    /// Reads tasks without holding them. Only asked where [`Self::ALONE`] does not hold.
    async fn peek(&mut self, ids: &[TaskId]) -> Result<Vec<Found>, Trouble>;
    /// Which tasks have these keys.
    async fn keys(
        &mut self,
        keys: &[(UserId, IdempotencyKey)],
    ) -> Result<Vec<((UserId, IdempotencyKey), TaskId)>, Trouble>;
    /// Keeps everybody else out of these scopes until the end, and reads them, with at least `first` of those who wait.
    async fn scopes(&mut self, names: &[SlotScope], first: usize) -> Result<Vec<(SlotScope, Scope)>, Trouble>;
    /// The same, but never waits: a scope that somebody else works in counts as free.
    async fn glance(&mut self, names: &[SlotScope]) -> Result<Vec<(SlotScope, Scope)>, Trouble>;
    /// The place of the next task in the order of acceptance.
    async fn next_order(&mut self) -> Result<u64, Trouble>;
    /// Due tasks, oldest first, at most `limit`.
    async fn due(&mut self, query: &ClaimQuery, limit: usize) -> Result<Vec<TaskId>, Trouble>;
    /// Tasks that these workers have leased.
    async fn leased(&mut self, workers: &[WorkerId]) -> Result<Vec<TaskId>, Trouble>;
    /// The next tasks that were denied in a scope, by user and order, behind `after`. Of that user `ahead` were offered room
    /// before. A task that finds no room in another scope may stand for all of its user's.
    async fn denied(
        &mut self,
        scope: &SlotScope,
        after: &(String, i64),
        ahead: usize,
    ) -> Result<Vec<Candidate>, Trouble>;
    /// Records of a task's log.
    async fn records(
        &mut self,
        task: TaskId,
        order: u64,
        from: u64,
        limit: usize,
    ) -> Result<Vec<(u64, LogRecord)>, Trouble>;
    /// Makes a task that cannot be read a dead letter.
    async fn put_aside(&mut self, id: TaskId, now: Timestamp, reason: &str) -> Result<(), Trouble>;
    /// What a task takes up.
    async fn outline(&mut self, id: TaskId) -> Result<Option<Outline>, Trouble>;
    /// Tasks that ended before then, oldest first.
    async fn ended(&mut self, before: Timestamp, limit: usize) -> Result<Vec<(TaskId, u64)>, Trouble>;
    /// Removes tasks with everything of them.
    async fn remove(&mut self, orders: &[u64]) -> Result<(), Trouble>;
    /// Writes what was noted, and ends the transaction when asked to.
    async fn write(&mut self, end: bool) -> Result<(), Trouble>;
    /// Takes back the rows of a transaction that has ended, to remember them.
    fn keep(&mut self, rows: BTreeMap<TaskId, TaskRow>);
    /// Undoes the transaction and forgets what was noted.
    async fn undo(&mut self);
    /// Something has become due at once: told after the end of a transaction.
    fn ring(&mut self);
    /// Ends.
    async fn close(self) -> Result<(), StoreError>;
}
