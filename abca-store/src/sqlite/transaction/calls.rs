//! What the calls of a transaction do to the rows in memory.

use abca_core::TaskId;
use abca_core::session::LogRecord;
use abca_core::store::{
    Append, AppendOutcome, Commit, CommitOutcome, CommitVerdict, NewSignal, SignalOutcome, StoreError, Submit,
    SubmitOutcome, TaskRow,
};

use super::super::bodies::Bodies;
use super::super::error::again;
use super::super::rows::{bound, limit, numbered, push_numbered, push_signal};
use super::{Transaction, Trouble};

impl Transaction<'_> {
    /// Changes a row by one of the core's rules, and notes what must be written.
    pub(super) fn change<T>(&mut self, id: TaskId, f: impl FnOnce(&mut TaskRow) -> T) -> Option<T> {
        let row = self.shelf.row_mut(id)?;
        let before = row.denied;
        let answer = f(row);
        let denied = (row.denied != before && row.snapshot.task.status.is_waiting()).then_some(row.denied);
        self.dirty.insert(id);
        if let Some(denied) = denied {
            self.queue_up(id, denied).ok()?;
        }
        Some(answer)
    }

    /// Writes a task's places in the queues.
    pub(super) fn queue_up(&mut self, id: TaskId, denied: bool) -> Result<(), StoreError> {
        let Some(row) = self.shelf.row(id) else { return Ok(()) };
        for l in row.limits() {
            self.pending.waiting.push("commit", &(&l.scope, bound(row.order), row.user(), i64::from(denied)))?;
            if let Some(scope) = self.scopes.0.get_mut(&l.scope) {
                scope.waiting.insert(row.order);
                scope.denied |= denied;
            }
        }
        Ok(())
    }

    pub(super) async fn submit(&mut self, submit: &Submit, bodies: &Bodies) -> Result<SubmitOutcome, Trouble> {
        let task = &submit.task;
        let key = task.idempotency_key.clone().map(|k| (task.user.clone(), k));
        let same_key = key.as_ref().and_then(|k| self.keys.get(k)).copied();
        let known = same_key.unwrap_or(task.id);
        if let Some(error) = self.unreadable.get(&known) {
            return Err(again("submit", error).into());
        }
        if let Some(row) = self.shelf.row(known) {
            return Ok(if row.payload_hash == submit.payload_hash && *row.user() == task.user {
                SubmitOutcome::Existing(Box::new(row.snapshot.clone()))
            } else {
                SubmitOutcome::Conflict { task: known }
            });
        }
        let order = self.accepted().await?.saturating_add(1);
        self.shelf.accepted = Some(order);
        let row = TaskRow::new(submit, order);
        let mut bodies = bodies.iter();
        self.keep_record(task.id, bodies.next());
        push_numbered(&mut self.pending.event, "submit", &row, 1, bodies)?;
        let snapshot = Box::new(row.snapshot.clone());
        let waits = row.snapshot.task.status.is_waiting();
        self.shelf.put(row);
        if waits {
            self.queue_up(task.id, false)?;
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
            let place = self.pending.task.ready(json);
            self.records.insert(id, place);
        }
    }

    pub(super) fn commit(&mut self, commit: &Commit, bodies: &Bodies) -> Result<CommitOutcome, StoreError> {
        let Some(row) = self.shelf.row_mut(commit.task) else { return Ok(CommitOutcome::NotFound) };
        let verdict = row.commit(commit, &self.scopes)?;
        let boxed = |row: &TaskRow| Box::new(row.snapshot.clone());
        match verdict {
            CommitVerdict::AlreadyApplied => Ok(CommitOutcome::AlreadyApplied(boxed(row))),
            CommitVerdict::Stale => Ok(CommitOutcome::Stale(boxed(row))),
            CommitVerdict::Fenced => Ok(CommitOutcome::Fenced),
            CommitVerdict::SlotDenied(scope) => {
                self.dirty.insert(commit.task);
                self.queue_up(commit.task, true)?;
                Ok(CommitOutcome::SlotDenied(scope))
            }
            CommitVerdict::Applied(done) => {
                let snapshot = boxed(row);
                let order = row.order;
                let mut bodies = bodies.iter();
                let record = bodies.next().filter(|_| done.task_changed);
                push_numbered(&mut self.pending.event, "commit", row, done.first_event, bodies)?;
                for id in &commit.change.consumed {
                    push_signal(&mut self.pending.signal, "commit", order, id, None)?;
                }
                for scope in row.rooms(&done) {
                    self.rooms.insert(scope, (row.user().clone(), commit.now));
                }
                if done.left_queue {
                    for l in row.limits() {
                        self.pending.waited.push("commit", &(&l.scope, bound(order)))?;
                        if let Some(scope) = self.scopes.0.get_mut(&l.scope) {
                            scope.waiting.remove(&order);
                        }
                    }
                }
                if !done.freed.is_empty() {
                    self.pending.freed.push("commit", &bound(order))?;
                    self.taken.retain(|(_, o)| *o != order);
                }
                for scope in &done.freed {
                    if let Some(scope) = self.scopes.0.get_mut(scope) {
                        scope.holders = scope.holders.saturating_sub(1);
                    }
                }
                for scope in done.taken {
                    if let Some(scope) = self.scopes.0.get_mut(&scope) {
                        scope.holders += 1;
                    }
                    self.taken.push((scope, order));
                }
                self.keep_record(commit.task, record);
                self.dirty.insert(commit.task);
                if done.joined_queue {
                    self.queue_up(commit.task, false)?;
                }
                Ok(CommitOutcome::Applied(snapshot))
            }
        }
    }

    pub(super) fn signal(&mut self, new: &NewSignal) -> Result<SignalOutcome, StoreError> {
        let Some(row) = self.shelf.row_mut(new.task) else { return Ok(SignalOutcome::NotFound) };
        let outcome = row.signal(new);
        match outcome {
            SignalOutcome::Accepted => {
                let body = Some((row.snapshot.revision, &new.signal));
                push_signal(&mut self.pending.signal, "signal", row.order, &new.signal.id, body)?;
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
        let Some(row) = self.shelf.row_mut(append.task) else { return Ok(AppendOutcome::NotFound) };
        if !row.hears(&append.session) {
            return Ok(AppendOutcome::Refused);
        }
        if append.expect_seq <= row.log_len {
            let (len, order) = (row.log_len, row.order);
            let same = self.same(append, order).await?;
            return Ok(AppendOutcome::Exists { len, same });
        }
        for id in row.heard(append) {
            push_signal(&mut self.pending.signal, "append", row.order, &id, None)?;
        }
        let first = row.append(append);
        let (count, seq) = (append.records.len(), append.expect_seq);
        push_numbered(&mut self.pending.log, "append", row, seq, bodies.iter().take(count))?;
        push_numbered(&mut self.pending.event, "append", row, first, bodies.iter().skip(count))?;
        let (len, quiet) = (row.log_len, row.is_quiet());
        self.dirty.insert(append.task);
        Ok(AppendOutcome::Appended { len, quiet })
    }

    /// Whether the log holds these records already.
    pub(super) async fn same(&mut self, append: &Append, order: u64) -> Result<bool, Trouble> {
        // What this transaction has appended must be there to be compared with.
        self.flush(false).await.map_err(Trouble::sql("append"))?;
        let rows = sqlx::query("SELECT seq, body FROM log WHERE ord = ?1 AND seq >= ?2 ORDER BY seq LIMIT ?3 + 0")
            .bind(bound(order))
            .bind(bound(append.expect_seq))
            .bind(limit(append.records.len()))
            .fetch_all(&mut *self.conn)
            .await
            .map_err(Trouble::sql("append"))?;
        let there = rows.iter().map(|r| numbered::<LogRecord>("append", append.task, r));
        let there = there.collect::<Result<Vec<_>, _>>()?;
        Ok(there.iter().map(|(_, record)| record).eq(&append.records))
    }
}
