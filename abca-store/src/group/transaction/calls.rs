//! What the calls of a transaction do to the rows in memory.

use abca_core::TaskId;
use abca_core::store::{
    Append, AppendOutcome, Commit, CommitOutcome, CommitVerdict, NewSignal, SignalOutcome, StoreError, Submit,
    SubmitOutcome, TaskRow,
};
use abca_core::task::{SlotChange, SlotScope};

use super::super::bodies::Bodies;
use super::super::engine::Engine;
use super::super::error::again;
use super::{Transaction, Trouble};

impl<E: Engine> Transaction<'_, E> {
    /// Changes a row by one of the core's rules, and notes what must be written.
    pub(super) fn change<T>(&mut self, id: TaskId, f: impl FnOnce(&mut TaskRow) -> T) -> Option<T> {
        let row = self.rows.get_mut(&id)?;
        let before = row.denied;
        let answer = f(row);
        let denied = (row.denied != before && row.waits()).then_some(row.denied);
        self.dirty.insert(id);
        if let Some(denied) = denied {
            self.queue_up(id, denied);
        }
        Some(answer)
    }

    /// Notes a task's places in the queues.
    pub(super) fn queue_up(&mut self, id: TaskId, denied: bool) {
        let Some(row) = self.rows.get(&id) else { return };
        self.places.insert(id, Some(denied));
        for l in row.limits() {
            if let Some(scope) = self.scopes.0.get_mut(&l.scope) {
                scope.waiting.insert(row.order);
                scope.denied |= denied;
            }
        }
    }

    pub(super) async fn submit(&mut self, submit: &Submit, bodies: &Bodies) -> Result<SubmitOutcome, Trouble> {
        let task = &submit.task;
        let key = task.idempotency_key.clone().map(|k| (task.user.clone(), k));
        let same_key = key.as_ref().and_then(|k| self.keys.get(k)).copied();
        let known = same_key.unwrap_or(task.id);
        if let Some(error) = self.unreadable.get(&known) {
            return Err(again("submit", error).into());
        }
        if let Some(row) = self.rows.get(&known).or_else(|| self.peeked.get(&known)) {
            return Ok(if row.payload_hash == submit.payload_hash && *row.user() == task.user {
                SubmitOutcome::Existing(Box::new(row.snapshot.clone()))
            } else {
                SubmitOutcome::Conflict { task: known }
            });
        }
        let order = self.engine.next_order().await?;
        let row = TaskRow::new(submit, order);
        let mut bodies = bodies.iter();
        if let Some(json) = bodies.next() {
            self.made.insert(task.id, self.engine.fixed(json));
        }
        self.keep_record(task.id, bodies.next());
        self.engine.events(&row, 1, bodies)?;
        let snapshot = Box::new(row.snapshot.clone());
        let waits = row.snapshot.task.status.is_waiting();
        self.rows.insert(task.id, row);
        self.rings = true;
        if waits {
            self.queue_up(task.id, false);
        }
        if let Some(key) = key {
            self.keys.insert(key, task.id);
        }
        self.dirty.insert(task.id);
        Ok(SubmitOutcome::Created(snapshot))
    }

    /// Puts the record of a task aside, which [`Self::flush`] writes.
    fn keep_record(&mut self, id: TaskId, json: Option<&[u8]>) {
        if let Some(json) = json {
            let place = self.engine.moving(json);
            self.records.insert(id, place);
        }
    }

    pub(super) fn commit(&mut self, commit: &Commit, bodies: &Bodies) -> Result<CommitOutcome, StoreError> {
        let Some(row) = self.rows.get_mut(&commit.task) else { return Ok(CommitOutcome::NotFound) };
        let verdict = row.commit(commit, &self.scopes)?;
        let boxed = |row: &TaskRow| Box::new(row.snapshot.clone());
        match verdict {
            CommitVerdict::AlreadyApplied => Ok(CommitOutcome::AlreadyApplied(boxed(row))),
            CommitVerdict::Stale => Ok(CommitOutcome::Stale(boxed(row))),
            CommitVerdict::Fenced => Ok(CommitOutcome::Fenced),
            CommitVerdict::SlotDenied(scope) => {
                self.dirty.insert(commit.task);
                self.queue_up(commit.task, true);
                Ok(CommitOutcome::SlotDenied(scope))
            }
            CommitVerdict::Applied(done) => {
                let snapshot = boxed(row);
                let order = row.order;
                let mut bodies = bodies.iter();
                let record = bodies.next().filter(|_| done.task_changed);
                self.engine.events(row, done.first_event, bodies)?;
                for id in &commit.change.consumed {
                    self.engine.signal(order, id, None)?;
                }
                for scope in row.rooms(&done) {
                    self.rooms.insert(scope, (row.user().clone(), commit.now));
                }
                if done.left_queue {
                    self.places.insert(commit.task, None);
                    for l in row.limits() {
                        if let Some(scope) = self.scopes.0.get_mut(&l.scope) {
                            scope.waiting.remove(&order);
                        }
                    }
                }
                if !done.freed.is_empty() {
                    // What it took in this very transaction is not stored yet.
                    let stored =
                        |scope: &&SlotScope| !self.taken.iter().any(|(l, o)| *o == order && l.scope == **scope);
                    let stored: Vec<SlotScope> = done.freed.iter().filter(stored).cloned().collect();
                    self.engine.freed(order, &stored)?;
                    self.taken.retain(|(_, o)| *o != order);
                }
                for scope in &done.freed {
                    if let Some(scope) = self.scopes.0.get_mut(scope) {
                        scope.holders = scope.holders.saturating_sub(1);
                    }
                }
                for scope in &done.taken {
                    if let Some(scope) = self.scopes.0.get_mut(scope) {
                        scope.holders += 1;
                    }
                    if let SlotChange::Acquire(limits) = &commit.change.slots {
                        let taken = limits.iter().filter(|l| l.scope == *scope).take(1);
                        self.taken.extend(taken.map(|l| (l.clone(), order)));
                    }
                }
                self.keep_record(commit.task, record);
                self.dirty.insert(commit.task);
                if done.joined_queue {
                    self.queue_up(commit.task, false);
                }
                Ok(CommitOutcome::Applied(snapshot))
            }
        }
    }

    pub(super) fn signal(&mut self, new: &NewSignal) -> Result<SignalOutcome, StoreError> {
        let Some(row) = self.rows.get_mut(&new.task) else { return Ok(SignalOutcome::NotFound) };
        let outcome = row.signal(new);
        match outcome {
            SignalOutcome::Accepted => {
                let body = Some((row.snapshot.revision, &new.signal));
                self.engine.signal(row.order, &new.signal.id, body)?;
                self.rings = true;
                self.dirty.insert(new.task);
            }
            SignalOutcome::Duplicate
            | SignalOutcome::Terminal(_)
            | SignalOutcome::Refused
            | SignalOutcome::Full
            | SignalOutcome::NotFound => {}
        }
        Ok(outcome)
    }

    pub(super) async fn append(&mut self, append: &Append, bodies: &Bodies) -> Result<AppendOutcome, Trouble> {
        let Some(row) = self.rows.get_mut(&append.task) else { return Ok(AppendOutcome::NotFound) };
        if !row.hears(&append.session) {
            return Ok(AppendOutcome::Refused);
        }
        if append.expect_seq <= row.log_len {
            let (len, order) = (row.log_len, row.order);
            let same = self.same(append, order).await?;
            return Ok(AppendOutcome::Exists { len, same });
        }
        for id in row.heard(append) {
            self.engine.signal(row.order, &id, None)?;
        }
        let first = row.append(append);
        let (count, seq) = (append.records.len(), append.expect_seq);
        self.engine.log(row, seq, bodies.iter().take(count))?;
        self.engine.events(row, first, bodies.iter().skip(count))?;
        let (len, quiet) = (row.log_len, row.is_quiet());
        self.dirty.insert(append.task);
        Ok(AppendOutcome::Appended { len, quiet })
    }

    /// Whether the log holds these records already.
    pub(super) async fn same(&mut self, append: &Append, order: u64) -> Result<bool, Trouble> {
        // What this transaction has appended must be there to be compared with.
        self.flush(false).await?;
        let there = self.engine.records(append.task, order, append.expect_seq, append.records.len()).await?;
        Ok(there.iter().map(|(_, record)| record).eq(&append.records))
    }
}
