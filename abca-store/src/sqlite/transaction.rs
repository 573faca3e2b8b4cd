//! One transaction: reads what its calls need, applies the core's rules in memory, writes what changed.

use std::collections::{BTreeMap, BTreeSet};

use abca_core::id::{IdempotencyKey, WorkerId};
use abca_core::session::LogRecord;
use abca_core::store::{
    Append, AppendOutcome, ClaimQuery, Commit, CommitOutcome, CommitVerdict, FARTHEST, Slots, StoreError, Submit,
    SubmitOutcome, TaskRow, check_append, check_commits, check_submit,
};
use abca_core::task::{SlotChange, SlotScope, Snapshot};
use abca_core::{TaskId, Timestamp, UserId};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Arguments, Row, SqliteConnection};

use super::call::{Answer, Call};
use super::error::{again, code, convert, corrupt};
use super::rows::{
    bound, limit, list, numbered, push_events, push_numbered, push_signal, push_state, push_task, select_rows, task_id,
    task_row,
};
use super::shelf::Shelf;
use super::write::{Pending, Texts};

/// Tasks by their ids, a JSON array.
macro_rules! select_missing {
    () => {
        select_rows!("WHERE t.id IN (SELECT value FROM json_each(?))")
    };
}

/// The first so many tasks that wait in each scope of a JSON array, and how full it is. One row for all: every row
/// wakes the thread that waits for it.
macro_rules! select_scopes {
    () => {
        "SELECT json_group_array(json_array(j.key, (SELECT count(*) FROM slot WHERE scope = j.value), \
         EXISTS (SELECT 1 FROM waiting WHERE scope = j.value AND denied = 1), json((SELECT json_group_array(ord) FROM \
         (SELECT ord FROM waiting WHERE scope = j.value ORDER BY ord LIMIT ?))))), 'scopes' FROM json_each(?) j"
    };
}

/// What tells the rows of one round trip apart.
const VERSION_COLUMNS: usize = 1;
const SCOPES_COLUMNS: usize = 2;

/// Why a transaction failed as a whole.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) error: StoreError,
    /// Whether its calls may do better alone.
    pub(super) alone: bool,
}

impl Trouble {
    fn sql(op: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |e| Self { error: convert(op, e), alone: true }
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self { error, alone: true }
    }
}

/// A scope as it is at this point of the transaction.
#[derive(Debug, Default)]
struct Scope {
    holders: usize,
    /// The first waiting tasks: more of them than this transaction can make leave.
    waiting: BTreeSet<u64>,
    /// Somebody was denied a slot here.
    denied: bool,
}

#[derive(Debug, Default)]
struct Scopes(BTreeMap<SlotScope, Scope>);

impl Slots for Scopes {
    fn holders(&self, scope: &SlotScope) -> usize {
        self.0.get(scope).map_or(0, |s| s.holders)
    }

    fn earlier_waits(&self, scope: &SlotScope, order: u64) -> bool {
        self.0.get(scope).and_then(|s| s.waiting.first()).is_some_and(|first| *first < order)
    }
}

pub(super) struct Transaction<'a> {
    conn: &'a mut SqliteConnection,
    shelf: &'a mut Shelf,
    texts: &'a mut Texts,
    pending: Pending,
    /// Rows to write, and whether the record is among what changed.
    dirty: BTreeMap<TaskId, bool>,
    touched: BTreeSet<TaskId>,
    taken: Vec<(SlotScope, u64)>,
    keys: BTreeMap<(UserId, IdempotencyKey), TaskId>,
    scopes: Scopes,
    rooms: BTreeMap<SlotScope, (UserId, Timestamp)>,
    unreadable: BTreeMap<TaskId, StoreError>,
    /// Tasks that were looked for and are not there.
    absent: BTreeSet<TaskId>,
    /// How many waiting tasks this transaction can make leave.
    leavers: usize,
}

type Answered = Result<Answer, StoreError>;

impl<'a> Transaction<'a> {
    pub(super) fn new(conn: &'a mut SqliteConnection, shelf: &'a mut Shelf, texts: &'a mut Texts) -> Self {
        Self {
            conn,
            shelf,
            texts,
            pending: Pending::default(),
            dirty: BTreeMap::new(),
            touched: BTreeSet::new(),
            taken: Vec::new(),
            keys: BTreeMap::new(),
            scopes: Scopes::default(),
            rooms: BTreeMap::new(),
            unreadable: BTreeMap::new(),
            absent: BTreeSet::new(),
            leavers: 0,
        }
    }

    /// Applies the calls: claims and what ends leases first, since they look at what is stored, then the others in order. Answers are in
    /// the order of the calls.
    pub(super) async fn apply(&mut self, calls: &[Call]) -> Result<Vec<Answered>, Trouble> {
        self.prefetch(calls).await?;
        let mut answers: Vec<Option<Answered>> = Vec::with_capacity(calls.len());
        let mut claimed = BTreeSet::new();
        for call in calls {
            answers.push(match call {
                Call::Claim(query, _) => Some(Ok(Answer::Claim(self.claim(query, &mut claimed).await?))),
                Call::Expire(workers, now, _) => Some(Ok(Answer::Count(self.expire(workers, *now).await?))),
                Call::Submit(..)
                | Call::Commit(..)
                | Call::Renew(..)
                | Call::Release(..)
                | Call::Signal(..)
                | Call::Append(..)
                | Call::Heartbeat(..) => None,
            });
        }
        let mut all = Vec::with_capacity(calls.len());
        for (call, answer) in calls.iter().zip(answers) {
            all.push(match answer {
                Some(answer) => answer,
                None => match self.refusal(call) {
                    Some(error) => Err(error),
                    None => self.carry_out(call).await?,
                },
            });
        }
        Ok(all)
    }

    /// What speaks against a call before anything of it is done.
    fn refusal(&self, call: &Call) -> Option<StoreError> {
        let op = call.op();
        if !self.unreadable.is_empty()
            && let Some(error) = call.tasks().iter().find_map(|id| self.unreadable.get(id))
        {
            return Some(again(op, error));
        }
        match call {
            Call::Submit(batch, _) => batch.iter().try_for_each(check_submit).err(),
            Call::Commit(batch, _) => check_commits(batch, |id| self.shelf.row(id)).err(),
            Call::Append(batch, _) => self.check_appends(batch).err(),
            Call::Claim(..)
            | Call::Renew(..)
            | Call::Release(..)
            | Call::Signal(..)
            | Call::Heartbeat(..)
            | Call::Expire(..) => None,
        }
    }

    fn check_appends(&self, batch: &[Append]) -> Result<(), StoreError> {
        let mut ahead: BTreeMap<TaskId, u64> = BTreeMap::new();
        for a in batch {
            let Some(row) = self.shelf.row(a.task).filter(|r| r.hears(&a.session)) else { continue };
            let len = ahead.entry(a.task).or_insert(row.log_len);
            check_append(a, *len)?;
            *len = (*len).max(a.expect_seq - 1 + a.records.len() as u64);
        }
        Ok(())
    }

    async fn carry_out(&mut self, call: &Call) -> Result<Answered, Trouble> {
        Ok(Ok(match call {
            Call::Submit(batch, _) => {
                let mut outcomes = Vec::with_capacity(batch.len());
                for submit in batch {
                    outcomes.push(self.submit(submit).await?);
                }
                Answer::Submit(outcomes)
            }
            Call::Commit(batch, _) => {
                let mut outcomes = Vec::with_capacity(batch.len());
                for commit in batch {
                    self.look_up(commit).await?;
                    outcomes.push(self.commit(commit)?);
                }
                Answer::Commit(outcomes)
            }
            Call::Claim(..) => Answer::Claim(Vec::new()),
            Call::Expire(..) => Answer::Count(0),
            Call::Renew(batch, _) => {
                Answer::Flags(batch.iter().map(|r| self.change(r.task, |row| row.renew(r)).unwrap_or(false)).collect())
            }
            Call::Release(batch, _) => Answer::Flags(
                batch.iter().map(|r| self.change(r.task, |row| row.release(r)).unwrap_or(false)).collect(),
            ),
            Call::Signal(batch, _) => {
                let mut outcomes = Vec::with_capacity(batch.len());
                for new in batch {
                    outcomes.push(self.signal(new)?);
                }
                Answer::Signal(outcomes)
            }
            Call::Append(batch, _) => {
                let mut outcomes = Vec::with_capacity(batch.len());
                for append in batch {
                    outcomes.push(self.append(append).await?);
                }
                Answer::Append(outcomes)
            }
            Call::Heartbeat(beat, _) => {
                Answer::Flag(self.change(beat.task, |row| row.heartbeat(&beat.session, beat.now)).unwrap_or(false))
            }
        }))
    }

    // -- reading -----------------------------------------------------------------------------------------------

    /// Takes the write lock, forgets what is remembered when another connection has written since, and reads what the
    /// calls speak of: all in one round trip, since each costs a change of threads.
    pub(super) async fn begin(&mut self, calls: &[Call], version: &mut i64) -> Result<(), Trouble> {
        let trouble = |e: sqlx::Error| Trouble { alone: !matches!(code(&e), Some(5 | 6)), error: convert("begin", e) };
        let ids: BTreeSet<TaskId> = calls.iter().flat_map(Call::tasks).collect();
        let missing: Vec<TaskId> = ids.into_iter().filter(|id| self.shelf.row(*id).is_none()).collect();
        let mut scopes = BTreeSet::new();
        for call in calls {
            if let Call::Commit(batch, _) = call {
                self.leavers += batch.len();
                batch.iter().for_each(|c| self.scopes_of(c, &mut scopes));
            }
        }
        let scopes: Vec<SlotScope> = scopes.into_iter().collect();
        let mut arguments = SqliteArguments::default();
        let text = match (missing.is_empty(), scopes.is_empty()) {
            (true, true) => "BEGIN IMMEDIATE; PRAGMA data_version",
            (false, true) => concat!("BEGIN IMMEDIATE; PRAGMA data_version; ", select_missing!()),
            (true, false) => concat!("BEGIN IMMEDIATE; PRAGMA data_version; ", select_scopes!()),
            (false, false) => {
                concat!("BEGIN IMMEDIATE; PRAGMA data_version; ", select_missing!(), "; ", select_scopes!())
            }
        };
        if !missing.is_empty() {
            arguments.add(list(&missing)).map_err(sqlx::Error::Encode).map_err(trouble)?;
        }
        if !scopes.is_empty() {
            arguments.add(limit(self.leavers + 1)).map_err(sqlx::Error::Encode).map_err(trouble)?;
            arguments.add(list(&scopes)).map_err(sqlx::Error::Encode).map_err(trouble)?;
        }
        let rows = sqlx::query_with(text, arguments).fetch_all(&mut *self.conn).await.map_err(trouble)?;
        let (mut found, mut tasks) = (*version, Vec::new());
        for row in rows {
            match row.len() {
                VERSION_COLUMNS => found = row.try_get(0).map_err(trouble)?,
                SCOPES_COLUMNS => self.scopes(&scopes, &row)?,
                _ => tasks.push(row),
            }
        }
        if found != *version {
            self.shelf.clear();
            *version = found;
        }
        self.shelve(&tasks)?;
        self.absent.extend(missing);
        self.prefetch(calls).await
    }

    /// Reads what the calls speak of and what is not there yet.
    async fn prefetch(&mut self, calls: &[Call]) -> Result<(), Trouble> {
        let ids: BTreeSet<TaskId> = calls.iter().flat_map(Call::tasks).collect();
        self.load(ids.into_iter()).await?;
        let mut keys = Vec::new();
        let mut scopes = BTreeSet::new();
        for call in calls {
            match call {
                Call::Submit(batch, _) => keys
                    .extend(batch.iter().filter_map(|s| Some((s.task.user.clone(), s.task.idempotency_key.clone()?)))),
                Call::Commit(batch, _) => batch.iter().for_each(|c| self.scopes_of(c, &mut scopes)),
                Call::Claim(..)
                | Call::Expire(..)
                | Call::Renew(..)
                | Call::Release(..)
                | Call::Signal(..)
                | Call::Append(..)
                | Call::Heartbeat(..) => {}
            }
        }
        if !keys.is_empty() {
            self.load_keys(&keys).await?;
        }
        self.load_scopes(scopes).await
    }

    /// Scopes that a commit may take, free or leave.
    fn scopes_of(&self, commit: &Commit, scopes: &mut BTreeSet<SlotScope>) {
        let Some(row) = self.shelf.row(commit.task) else { return };
        let leaves = row.snapshot.task.status.is_waiting() && !commit.change.task.status.is_waiting();
        match &commit.change.slots {
            SlotChange::Keep if !leaves => return,
            SlotChange::Keep | SlotChange::Release => {}
            SlotChange::Acquire(limits) => scopes.extend(limits.iter().map(|l| l.scope.clone())),
        }
        scopes.extend(row.limits().iter().map(|l| l.scope.clone()));
        scopes.extend(row.snapshot.held.iter().cloned());
    }

    /// Reads the scopes of a commit of a task that this very transaction made or moved.
    async fn look_up(&mut self, commit: &Commit) -> Result<(), Trouble> {
        let mut scopes = BTreeSet::new();
        self.scopes_of(commit, &mut scopes);
        if scopes.iter().any(|s| !self.scopes.0.contains_key(s)) {
            self.flush(false).await.map_err(Trouble::sql("commit"))?;
            self.load_scopes(scopes).await?;
        }
        Ok(())
    }

    /// Reads rows that are not on the shelf.
    async fn load(&mut self, ids: impl Iterator<Item = TaskId>) -> Result<(), Trouble> {
        let unknown = |id: &TaskId| self.shelf.row(*id).is_none() && !self.absent.contains(id);
        let missing: Vec<TaskId> = ids.filter(unknown).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let rows = sqlx::query(select_missing!())
            .bind(list(&missing))
            .fetch_all(&mut *self.conn)
            .await
            .map_err(Trouble::sql("load"))?;
        self.shelve(&rows)
    }

    fn shelve(&mut self, rows: &[SqliteRow]) -> Result<(), Trouble> {
        for row in rows {
            match task_row("load", row) {
                Ok(row) => self.shelf.put(row),
                Err(error) => {
                    tracing::error!(error = %error, "a task cannot be read");
                    self.unreadable.insert(task_id("load", row)?, error);
                }
            }
        }
        Ok(())
    }

    async fn load_keys(&mut self, keys: &[(UserId, IdempotencyKey)]) -> Result<(), Trouble> {
        let text = serde_json::to_string(keys).map_err(|e| corrupt("submit", "a key", e))?;
        let found = sqlx::query(
            "SELECT x.id, x.user, x.idem FROM json_each(?1) k CROSS JOIN task x \
             ON x.user = k.value ->> 0 AND x.idem = k.value ->> 1",
        )
        .bind(text)
        .fetch_all(&mut *self.conn)
        .await
        .map_err(Trouble::sql("submit"))?;
        let mut ids = Vec::with_capacity(found.len());
        for row in &found {
            let id = task_id("submit", row)?;
            let user: &str = row.try_get(1).map_err(Trouble::sql("submit"))?;
            let key: &str = row.try_get(2).map_err(Trouble::sql("submit"))?;
            let bad = |e| corrupt("submit", "a key", e);
            self.keys.insert((UserId::new(user).map_err(bad)?, IdempotencyKey::new(key).map_err(bad)?), id);
            ids.push(id);
        }
        self.load(ids.into_iter()).await
    }

    async fn load_scopes(&mut self, scopes: BTreeSet<SlotScope>) -> Result<(), Trouble> {
        let missing: Vec<SlotScope> = scopes.into_iter().filter(|s| !self.scopes.0.contains_key(s)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let row = sqlx::query(select_scopes!())
            .bind(limit(self.leavers + 1))
            .bind(list(&missing))
            .fetch_one(&mut *self.conn)
            .await
            .map_err(Trouble::sql("commit"))?;
        self.scopes(&missing, &row)
    }

    /// Takes in the row of [`select_scopes`], asked for these scopes.
    fn scopes(&mut self, asked: &[SlotScope], row: &SqliteRow) -> Result<(), Trouble> {
        let text: &str = row.try_get(0).map_err(Trouble::sql("commit"))?;
        let found: Vec<(usize, usize, u8, BTreeSet<u64>)> =
            serde_json::from_str(text).map_err(|e| corrupt("commit", "the queue", e))?;
        for (place, holders, denied, waiting) in found {
            if let Some(name) = asked.get(place) {
                self.scopes.0.insert(name.clone(), Scope { holders, waiting, denied: denied != 0 });
            }
        }
        Ok(())
    }

    // -- the calls ---------------------------------------------------------------------------------------------

    /// Changes a row by one of the core's rules, and notes what must be written.
    fn change<T>(&mut self, id: TaskId, f: impl FnOnce(&mut TaskRow) -> T) -> Option<T> {
        let row = self.shelf.row_mut(id)?;
        let before = row.denied;
        let answer = f(row);
        let denied = (row.denied != before && row.snapshot.task.status.is_waiting()).then_some(row.denied);
        self.dirty.entry(id).or_insert(false);
        if let Some(denied) = denied {
            self.queue_up(id, denied).ok()?;
        }
        Some(answer)
    }

    /// Writes a task's places in the queues.
    fn queue_up(&mut self, id: TaskId, denied: bool) -> Result<(), StoreError> {
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

    async fn submit(&mut self, submit: &Submit) -> Result<SubmitOutcome, Trouble> {
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
        push_events(&mut self.pending.event, "submit", &row, 1, &submit.events)?;
        let snapshot = Box::new(row.snapshot.clone());
        let waits = row.snapshot.task.status.is_waiting();
        self.shelf.put(row);
        if waits {
            self.queue_up(task.id, false)?;
        }
        if let Some(key) = key {
            self.keys.insert(key, task.id);
        }
        self.dirty.insert(task.id, true);
        Ok(SubmitOutcome::Created(snapshot))
    }

    async fn accepted(&mut self) -> Result<u64, Trouble> {
        if let Some(known) = self.shelf.accepted {
            return Ok(known);
        }
        let last: i64 = sqlx::query_scalar("SELECT coalesce(max(ord), 0) FROM task")
            .fetch_one(&mut *self.conn)
            .await
            .map_err(Trouble::sql("submit"))?;
        Ok(u64::try_from(last).unwrap_or(0))
    }

    fn commit(&mut self, commit: &Commit) -> Result<CommitOutcome, StoreError> {
        let Some(row) = self.shelf.row_mut(commit.task) else { return Ok(CommitOutcome::NotFound) };
        let verdict = row.commit(commit, &self.scopes)?;
        let boxed = |row: &TaskRow| Box::new(row.snapshot.clone());
        match verdict {
            CommitVerdict::AlreadyApplied => Ok(CommitOutcome::AlreadyApplied(boxed(row))),
            CommitVerdict::Stale => Ok(CommitOutcome::Stale(boxed(row))),
            CommitVerdict::Fenced => Ok(CommitOutcome::Fenced),
            CommitVerdict::SlotDenied(scope) => {
                self.dirty.entry(commit.task).or_insert(false);
                self.queue_up(commit.task, true)?;
                Ok(CommitOutcome::SlotDenied(scope))
            }
            CommitVerdict::Applied(done) => {
                let snapshot = boxed(row);
                let order = row.order;
                push_events(&mut self.pending.event, "commit", row, done.first_event, &commit.change.events)?;
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
                *self.dirty.entry(commit.task).or_insert(false) |= done.task_changed;
                if done.joined_queue {
                    self.queue_up(commit.task, false)?;
                }
                Ok(CommitOutcome::Applied(snapshot))
            }
        }
    }

    async fn claim(&mut self, query: &ClaimQuery, claimed: &mut BTreeSet<TaskId>) -> Result<Vec<Snapshot>, Trouble> {
        let ids = match query.task {
            Some(id) => vec![id],
            None => self.due(query, claimed.len()).await?,
        };
        let mut answer = Vec::new();
        for id in ids {
            let free = |r: &TaskRow| {
                let due = r.is_due(query.now) && r.is_asked(query);
                r.is_free(query.now) && (query.task.is_some() || due)
            };
            if answer.len() >= query.limit || claimed.contains(&id) || !self.shelf.row(id).is_some_and(free) {
                continue;
            }
            claimed.insert(id);
            answer.extend(self.change(id, |row| {
                row.claim(query.worker, query.lease_until);
                row.snapshot.clone()
            }));
        }
        Ok(answer)
    }

    /// Ends the leases of dead workers. Looks through every task that waits for a time: it is asked for rarely.
    async fn expire(&mut self, workers: &[WorkerId], now: Timestamp) -> Result<u64, Trouble> {
        let rows = sqlx::query(
            "SELECT t.id FROM state s JOIN task t ON t.ord = s.ord \
             WHERE s.look_at IS NOT NULL AND s.worker IN (SELECT value FROM json_each(?1))",
        )
        .bind(list(workers))
        .fetch_all(&mut *self.conn)
        .await
        .map_err(Trouble::sql("expire"))?;
        let ids = rows.iter().map(|r| task_id("expire", r)).collect::<Result<Vec<_>, _>>()?;
        self.load(ids.iter().copied()).await?;
        let ended = ids.into_iter().filter_map(|id| self.change(id, |row| row.expire(workers, now)));
        Ok(ended.filter(|done| *done).count() as u64)
    }

    /// Due tasks, oldest first; `more` than asked for, since so many were claimed in this very transaction.
    async fn due(&mut self, query: &ClaimQuery, more: usize) -> Result<Vec<TaskId>, Trouble> {
        // Two ranges of one index, never what lies between them: all the tasks that wait.
        let row = sqlx::query(
            "SELECT json_group_array(id) FROM (SELECT * FROM (SELECT t.id FROM state s JOIN task t ON t.ord = s.ord WHERE s.look_at <= ?1 \
             AND (NOT ?3 OR EXISTS (SELECT 1 FROM signal g WHERE g.ord = s.ord AND g.body IS NOT NULL)) \
             ORDER BY s.look_at, s.ord LIMIT ?2) \
             UNION ALL \
             SELECT * FROM (SELECT t.id FROM state s JOIN task t ON t.ord = s.ord WHERE s.look_at > ?4 \
             AND (NOT ?3 OR EXISTS (SELECT 1 FROM signal g WHERE g.ord = s.ord AND g.body IS NOT NULL)) \
             ORDER BY s.look_at, s.ord LIMIT ?2))",
        )
        .bind(query.now.as_millis())
        .bind(limit(query.limit.saturating_add(more)))
        .bind(query.signalled)
        .bind(query.now.after(FARTHEST).as_millis())
        .fetch_one(&mut *self.conn)
        .await
        .map_err(Trouble::sql("claim"))?;
        let text: &str = row.try_get(0).map_err(Trouble::sql("claim"))?;
        let ids: Vec<TaskId> = serde_json::from_str(text).map_err(|e| corrupt("claim", "a task's id", e))?;
        self.load(ids.iter().copied()).await?;
        for id in ids.iter().filter(|id| self.unreadable.contains_key(id)) {
            // Out of the way for a lease's time, so that it does not stand in front of the others for ever.
            sqlx::query("UPDATE state SET look_at = ?1 WHERE ord = (SELECT ord FROM task WHERE id = ?2)")
                .bind(query.lease_until.as_millis())
                .bind(id.to_string())
                .execute(&mut *self.conn)
                .await
                .map_err(Trouble::sql("claim"))?;
        }
        Ok(ids)
    }

    fn signal(&mut self, new: &abca_core::store::NewSignal) -> Result<abca_core::store::SignalOutcome, StoreError> {
        use abca_core::store::SignalOutcome;
        let Some(row) = self.shelf.row_mut(new.task) else { return Ok(SignalOutcome::NotFound) };
        let outcome = row.signal(new);
        match outcome {
            SignalOutcome::Accepted => {
                let body = Some((row.snapshot.revision, &new.signal));
                push_signal(&mut self.pending.signal, "signal", row.order, &new.signal.id, body)?;
                self.dirty.entry(new.task).or_insert(false);
            }
            SignalOutcome::Duplicate
            | SignalOutcome::Terminal(_)
            | SignalOutcome::Refused
            | SignalOutcome::Full
            | SignalOutcome::NotFound => {}
        }
        Ok(outcome)
    }

    async fn append(&mut self, append: &Append) -> Result<AppendOutcome, Trouble> {
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
        for (seq, record) in (append.expect_seq..).zip(&append.records) {
            push_numbered(&mut self.pending.log, "append", row, seq, record)?;
        }
        push_events(&mut self.pending.event, "append", row, first, &append.events)?;
        let (len, quiet) = (row.log_len, row.is_quiet());
        self.dirty.entry(append.task).or_insert(false);
        Ok(AppendOutcome::Appended { len, quiet })
    }

    /// Whether the log holds these records already.
    async fn same(&mut self, append: &Append, order: u64) -> Result<bool, Trouble> {
        // What this transaction has appended must be there to be compared with.
        self.flush(false).await.map_err(Trouble::sql("append"))?;
        let rows = sqlx::query("SELECT seq, body FROM log WHERE ord = ?1 AND seq >= ?2 ORDER BY seq LIMIT ?3")
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

    // -- the end -----------------------------------------------------------------------------------------------

    /// Makes the first waiting tasks due where there is room, writes everything, and ends the transaction.
    pub(super) async fn finish(&mut self) -> Result<(), sqlx::Error> {
        let rooms = std::mem::take(&mut self.rooms);
        let rooms: Vec<_> =
            rooms.into_iter().filter(|(scope, _)| self.scopes.0.get(scope).is_some_and(|s| s.denied)).collect();
        if !rooms.is_empty() {
            self.flush(false).await?;
            for (scope, (user, now)) in rooms {
                self.wake(&scope, &user, now).await?;
            }
        }
        self.flush(true).await?;
        let touched = std::mem::take(&mut self.touched);
        self.shelf.tidy(touched.into_iter());
        Ok(())
    }

    async fn flush(&mut self, commit: bool) -> Result<(), sqlx::Error> {
        let encode = |e: StoreError| sqlx::Error::Encode(Box::new(e));
        for (id, record) in std::mem::take(&mut self.dirty) {
            let Some(row) = self.shelf.row(id) else { continue };
            push_state(&mut self.pending.state, "commit", row).map_err(encode)?;
            if record {
                push_task(&mut self.pending.task, "commit", row).map_err(encode)?;
            }
            self.touched.insert(id);
        }
        for (scope, order) in std::mem::take(&mut self.taken) {
            self.pending.taken.push("commit", &(&scope, bound(order))).map_err(encode)?;
        }
        self.pending.write(self.conn, self.texts, commit).await
    }

    /// Walks the denied tasks of a scope as the core's model does: users in turn from the one after `user`.
    async fn wake(&mut self, scope: &SlotScope, user: &UserId, now: Timestamp) -> Result<(), sqlx::Error> {
        let mut woken = 0;
        let mut wrapped = false;
        let mut after = (user.as_str().to_owned(), i64::MAX);
        let mut ahead = 0;
        loop {
            let next = sqlx::query(
                "SELECT t.id, w.user, w.ord FROM waiting w JOIN task t ON t.ord = w.ord \
                 WHERE w.scope = ?1 AND w.denied = 1 AND (w.user, w.ord) > (?2, ?3) ORDER BY w.user, w.ord LIMIT 1",
            )
            .bind(&scope.0)
            .bind(&after.0)
            .bind(after.1)
            .fetch_optional(&mut *self.conn)
            .await?;
            let found = match &next {
                Some(row) => Some((row.try_get::<&str, _>(0)?, row.try_get::<&str, _>(1)?, row.try_get::<i64, _>(2)?)),
                None => None,
            };
            let Some((id, lane, order)) = found.filter(|(_, lane, _)| !wrapped || *lane <= user.as_str()) else {
                if wrapped {
                    return Ok(());
                }
                (wrapped, after, ahead) = (true, (String::new(), 0), 0);
                continue;
            };
            ahead = if after.0 == lane && after.1 != i64::MAX { ahead } else { 0 };
            after = (lane.to_owned(), order);
            let undone = |t: Trouble| sqlx::Error::Decode(Box::new(t.error));
            let id: TaskId = id.parse().map_err(|e| sqlx::Error::Decode(Box::new(e)))?;
            self.load(std::iter::once(id)).await.map_err(undone)?;
            let Some(row) = self.shelf.row(id) else { continue };
            let scopes = row.limits().iter().map(|l| l.scope.clone()).collect();
            self.load_scopes(scopes).await.map_err(undone)?;
            let Some(row) = self.shelf.row(id) else { continue };
            if row.room_in(scope, &self.scopes) <= woken {
                return Ok(());
            }
            if row.room(&self.scopes) <= ahead {
                after.1 = i64::MAX;
                continue;
            }
            self.change(id, |row| row.wake(now));
            woken += 1;
            ahead += 1;
        }
    }
}
