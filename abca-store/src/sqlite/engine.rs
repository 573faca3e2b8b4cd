//! SQLite under a group of calls: one connection that writes.

use std::collections::{BTreeMap, BTreeSet};

use abca_core::id::{IdempotencyKey, SignalId, WorkerId};
use abca_core::session::LogRecord;
use abca_core::store::{ClaimQuery, FARTHEST, StoreError, StoreErrorKind, TaskRow};
use abca_core::task::{Signal, SlotLimit, SlotScope};
use abca_core::{TaskId, Timestamp, UserId};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Arguments, Connection, Row, SqliteConnection};

use super::error::{classify, code, convert, trouble};
use super::rows::{
    bound, limit, list, numbered, push_numbered, push_record, push_signal, push_state, push_task, select_rows, task_id,
    task_row,
};
use super::write::{Pending, Texts};
use crate::group::{
    Ask, Begun, Candidate, Cure, Engine, Found, Outline, Scope, Sheet, Shelf, Trouble, corrupt, scopes_of, unsigned,
};

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
         (SELECT ord FROM waiting WHERE scope = j.value ORDER BY ord LIMIT ? + 0))))), 'scopes' FROM json_each(?) j"
    };
}

/// What tells the rows of one round trip apart.
const VERSION_COLUMNS: usize = 1;
const SCOPES_COLUMNS: usize = 2;

/// How many candidates for a free slot are read at once.
const CANDIDATES: i64 = 8;

#[derive(Debug)]
pub(super) struct Lite {
    conn: SqliteConnection,
    shelf: Shelf<()>,
    texts: Texts,
    pending: Pending,
    /// What SQLite says when another connection has written.
    version: i64,
    /// The last place given out, if known.
    accepted: Option<u64>,
}

impl Lite {
    pub(super) fn new(conn: SqliteConnection) -> Self {
        let (shelf, texts, pending) = (Shelf::default(), Texts::default(), Pending::default());
        Self { conn, shelf, texts, pending, version: i64::MIN, accepted: None }
    }

    fn forget(&mut self) {
        self.shelf.clear();
        self.accepted = None;
    }
}

fn found(op: &'static str, rows: &[SqliteRow]) -> Result<Vec<Found>, Trouble> {
    rows.iter().map(|row| Ok((task_id(op, row)?, task_row(op, row)))).collect()
}

/// Takes in the row of [`select_scopes`], asked for these scopes.
fn read_scopes(asked: &[SlotScope], row: &SqliteRow) -> Result<Vec<(SlotScope, Scope)>, Trouble> {
    let text: &str = row.try_get(0).map_err(trouble("commit"))?;
    let found: Vec<(usize, usize, u8, BTreeSet<u64>)> =
        serde_json::from_str(text).map_err(|e| corrupt("commit", "the queue", e))?;
    let scope = |(place, holders, denied, waiting): (usize, usize, u8, BTreeSet<u64>)| {
        Some((asked.get(place)?.clone(), Scope { holders, waiting, denied: denied != 0 }))
    };
    Ok(found.into_iter().filter_map(scope).collect())
}

impl Sheet for Lite {
    type Place = (usize, usize);

    fn fixed(&mut self, json: &[u8]) -> Self::Place {
        self.pending.task.ready(json)
    }

    fn moving(&mut self, json: &[u8]) -> Self::Place {
        self.pending.record.ready(json)
    }

    fn task(&mut self, row: &TaskRow, fixed: Self::Place) -> Result<(), StoreError> {
        push_task(&mut self.pending.task, "commit", row, fixed)
    }

    fn record(&mut self, row: &TaskRow, moving: Self::Place) -> Result<(), StoreError> {
        push_record(&mut self.pending.record, "commit", row, moving)
    }

    fn state(&mut self, row: &TaskRow) -> Result<(), StoreError> {
        push_state(&mut self.pending.state, "commit", row)
    }

    fn events<'b>(
        &mut self,
        row: &TaskRow,
        first: u64,
        bodies: impl Iterator<Item = &'b [u8]>,
    ) -> Result<(), StoreError> {
        push_numbered(&mut self.pending.event, "commit", row, first, bodies)
    }

    fn log<'b>(&mut self, row: &TaskRow, first: u64, bodies: impl Iterator<Item = &'b [u8]>) -> Result<(), StoreError> {
        push_numbered(&mut self.pending.log, "append", row, first, bodies)
    }

    fn signal(&mut self, order: u64, id: &SignalId, body: Option<(u64, &Signal)>) -> Result<(), StoreError> {
        push_signal(&mut self.pending.signal, "signal", order, id, body)
    }

    fn freed(&mut self, order: u64, _: &[SlotScope]) -> Result<(), StoreError> {
        self.pending.freed.push("commit", &bound(order))
    }

    fn taken(&mut self, limit: &SlotLimit, order: u64) -> Result<(), StoreError> {
        self.pending.taken.push("commit", &(&limit.scope, bound(order)))
    }

    fn waiting(&mut self, scope: &SlotScope, row: &TaskRow, denied: bool) -> Result<(), StoreError> {
        self.pending.waiting.push("commit", &(scope, bound(row.order), row.user(), i64::from(denied)))
    }

    fn waited(&mut self, scope: &SlotScope, order: u64) -> Result<(), StoreError> {
        self.pending.waited.push("commit", &(scope, bound(order)))
    }

    fn dead(&mut self, row: &TaskRow) -> Result<(), StoreError> {
        match &row.dead {
            Some((reason, since)) => self.pending.dead.push("bury", &(bound(row.order), since.as_millis(), reason)),
            None => self.pending.alive.push("revive", &bound(row.order)),
        }
    }

    fn woken(&mut self, order: u64, _: Timestamp) -> Result<(), StoreError> {
        Err(corrupt("commit", "a wake-up", format!("task number {order} is changed, not told")))
    }
}

impl Engine for Lite {
    const ALONE: bool = true;

    /// Takes the write lock, forgets what is remembered when another connection has written since, and reads what the
    /// calls speak of: all in one round trip, since each costs a change of threads.
    async fn begin(&mut self, ask: &Ask<'_>) -> Result<Begun, Trouble> {
        let failed = |e: sqlx::Error| Trouble {
            cure: if matches!(code(&e), Some(5 | 6)) { Cure::Nothing } else { Cure::Alone },
            error: convert("begin", e),
        };
        let missing: Vec<TaskId> = ask.ids.iter().copied().filter(|id| self.shelf.get(*id).is_none()).collect();
        let mut scopes = BTreeSet::new();
        for commit in &ask.commits {
            if let Some((row, ())) = self.shelf.get(commit.task) {
                scopes_of(row, commit, &mut scopes);
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
            arguments.add(list(&missing)).map_err(sqlx::Error::Encode).map_err(failed)?;
        }
        if !scopes.is_empty() {
            arguments.add(limit(ask.commits.len() + 1)).map_err(sqlx::Error::Encode).map_err(failed)?;
            arguments.add(list(&scopes)).map_err(sqlx::Error::Encode).map_err(failed)?;
        }
        let rows = sqlx::query_with(text, arguments).fetch_all(&mut self.conn).await.map_err(failed)?;
        let mut begun = Begun::default();
        let (mut version, mut tasks) = (self.version, Vec::new());
        for row in rows {
            match row.len() {
                VERSION_COLUMNS => version = row.try_get(0).map_err(failed)?,
                SCOPES_COLUMNS => begun.scopes = read_scopes(&scopes, &row)?,
                _ => tasks.push(row),
            }
        }
        begun.rows = found("load", &tasks)?;
        if version != self.version {
            self.forget();
            self.version = version;
            let known: Vec<TaskId> = ask.ids.iter().copied().filter(|id| !missing.contains(id)).collect();
            if !known.is_empty() {
                begun.rows.extend(self.load(&known).await?);
            }
        } else {
            let kept = ask.ids.iter().filter_map(|id| Some((*id, Ok(self.shelf.take(*id)?.0))));
            begun.rows.extend(kept);
        }
        Ok(begun)
    }

    async fn load(&mut self, ids: &[TaskId]) -> Result<Vec<Found>, Trouble> {
        let mut all = Vec::with_capacity(ids.len());
        let mut missing = Vec::new();
        for id in ids {
            match self.shelf.take(*id) {
                Some((row, ())) => all.push((*id, Ok(row))),
                None => missing.push(*id),
            }
        }
        if !missing.is_empty() {
            let rows = sqlx::query(select_missing!())
                .bind(list(&missing))
                .fetch_all(&mut self.conn)
                .await
                .map_err(trouble("load"))?;
            all.extend(found("load", &rows)?);
        }
        Ok(all)
    }

    async fn peek(&mut self, ids: &[TaskId]) -> Result<Vec<Found>, Trouble> {
        self.load(ids).await
    }

    async fn keys(
        &mut self,
        keys: &[(UserId, IdempotencyKey)],
    ) -> Result<Vec<((UserId, IdempotencyKey), TaskId)>, Trouble> {
        let text = serde_json::to_string(keys).map_err(|e| corrupt("submit", "a key", e))?;
        let found = sqlx::query(
            "SELECT x.id, x.user, x.idem FROM json_each(?1) k CROSS JOIN task x \
             ON x.user = k.value ->> 0 AND x.idem = k.value ->> 1",
        )
        .bind(text)
        .fetch_all(&mut self.conn)
        .await
        .map_err(trouble("submit"))?;
        let key = |row: &SqliteRow| {
            let id = task_id("submit", row)?;
            let user: &str = row.try_get(1).map_err(trouble("submit"))?;
            let key: &str = row.try_get(2).map_err(trouble("submit"))?;
            let bad = |e| corrupt("submit", "a key", e);
            Ok(((UserId::new(user).map_err(bad)?, IdempotencyKey::new(key).map_err(bad)?), id))
        };
        found.iter().map(key).collect()
    }

    async fn scopes(&mut self, names: &[SlotScope], first: usize) -> Result<Vec<(SlotScope, Scope)>, Trouble> {
        let row = sqlx::query(select_scopes!())
            .bind(limit(first))
            .bind(list(names))
            .fetch_one(&mut self.conn)
            .await
            .map_err(trouble("commit"))?;
        read_scopes(names, &row)
    }

    async fn glance(&mut self, names: &[SlotScope]) -> Result<Vec<(SlotScope, Scope)>, Trouble> {
        self.scopes(names, 0).await
    }

    async fn next_order(&mut self) -> Result<u64, Trouble> {
        let last = match self.accepted {
            Some(known) => known,
            None => unsigned(
                sqlx::query_scalar("SELECT coalesce(max(ord), 0) FROM task")
                    .fetch_one(&mut self.conn)
                    .await
                    .map_err(trouble("submit"))?,
            ),
        };
        let order = last.saturating_add(1);
        self.accepted = Some(order);
        Ok(order)
    }

    async fn due(&mut self, query: &ClaimQuery, most: usize) -> Result<Vec<TaskId>, Trouble> {
        // Two ranges of one index, never what lies between them, all the tasks that wait; or, of the few tasks with
        // signals, those that are due.
        let row = sqlx::query(if query.signalled {
            "SELECT json_group_array(id) FROM (SELECT t.id FROM (SELECT DISTINCT ord FROM signal INDEXED BY signal_waiting WHERE body IS NOT NULL) g \
             CROSS JOIN state s ON s.ord = g.ord JOIN task t ON t.ord = s.ord \
             WHERE s.look_at <= ?1 OR s.look_at > ?3 ORDER BY s.look_at, s.ord LIMIT ?2 + 0)"
        } else {
            "SELECT json_group_array(id) FROM (SELECT * FROM (SELECT t.id FROM state s JOIN task t ON t.ord = s.ord \
             WHERE s.look_at <= ?1 ORDER BY s.look_at, s.ord LIMIT ?2 + 0) \
             UNION ALL \
             SELECT * FROM (SELECT t.id FROM state s JOIN task t ON t.ord = s.ord WHERE s.look_at > ?3 \
             ORDER BY s.look_at, s.ord LIMIT ?2 + 0))"
        })
        .bind(query.now.as_millis())
        .bind(limit(most))
        .bind(query.now.after(FARTHEST).as_millis())
        .fetch_one(&mut self.conn)
        .await
        .map_err(trouble("claim"))?;
        let text: &str = row.try_get(0).map_err(trouble("claim"))?;
        Ok(serde_json::from_str(text).map_err(|e| corrupt("claim", "a task's id", e))?)
    }

    /// Looks through every task that waits for a time: it is asked for rarely.
    async fn leased(&mut self, workers: &[WorkerId]) -> Result<Vec<TaskId>, Trouble> {
        let rows = sqlx::query(
            "SELECT t.id FROM state s JOIN task t ON t.ord = s.ord \
             WHERE s.look_at IS NOT NULL AND s.worker IN (SELECT value FROM json_each(?1))",
        )
        .bind(list(workers))
        .fetch_all(&mut self.conn)
        .await
        .map_err(trouble("expire"))?;
        rows.iter().map(|r| Ok(task_id("expire", r)?)).collect()
    }

    async fn denied(&mut self, scope: &SlotScope, after: &(String, i64)) -> Result<Vec<Candidate>, Trouble> {
        let rows = sqlx::query(
            "SELECT t.id, w.user, w.ord FROM waiting w JOIN task t ON t.ord = w.ord \
             WHERE w.scope = ?1 AND w.denied = 1 AND (w.user, w.ord) > (?2, ?3) ORDER BY w.user, w.ord LIMIT ?4 + 0",
        )
        .bind(&scope.0)
        .bind(&after.0)
        .bind(after.1)
        .bind(CANDIDATES)
        .fetch_all(&mut self.conn)
        .await
        .map_err(trouble("commit"))?;
        let candidate = |row: &SqliteRow| {
            let user = row.try_get(1).map_err(trouble("commit"))?;
            let order = unsigned(row.try_get(2).map_err(trouble("commit"))?);
            Ok(Candidate { id: task_id("commit", row)?, user, order })
        };
        rows.iter().map(candidate).collect()
    }

    async fn records(
        &mut self,
        task: TaskId,
        order: u64,
        from: u64,
        most: usize,
    ) -> Result<Vec<(u64, LogRecord)>, Trouble> {
        let rows = sqlx::query("SELECT seq, body FROM log WHERE ord = ?1 AND seq >= ?2 ORDER BY seq LIMIT ?3 + 0")
            .bind(bound(order))
            .bind(bound(from))
            .bind(limit(most))
            .fetch_all(&mut self.conn)
            .await
            .map_err(trouble("append"))?;
        rows.iter().map(|r| Ok(numbered("append", task, r)?)).collect()
    }

    async fn put_aside(&mut self, id: TaskId, now: Timestamp, reason: &str) -> Result<(), Trouble> {
        let text = "UPDATE state SET look_at = NULL WHERE ord = (SELECT ord FROM task WHERE id = ?1); \
                    INSERT OR IGNORE INTO dead (ord, since, reason) SELECT ord, ?2, ?3 FROM task WHERE id = ?1";
        sqlx::query(text)
            .bind(id.to_string())
            .bind(now.as_millis())
            .bind(reason)
            .execute(&mut self.conn)
            .await
            .map(drop)
            .map_err(trouble("claim"))
    }

    async fn outline(&mut self, id: TaskId) -> Result<Option<Outline>, Trouble> {
        let row = sqlx::query(
            "SELECT t.ord, t.user, EXISTS (SELECT 1 FROM dead d WHERE d.ord = t.ord), \
             (SELECT json_group_array(scope) FROM slot WHERE ord = t.ord) FROM task t WHERE t.id = ?1",
        )
        .bind(id.to_string())
        .fetch_optional(&mut self.conn)
        .await
        .map_err(trouble("discard"))?;
        let Some(row) = row else { return Ok(None) };
        let user: &str = row.try_get(1).map_err(trouble("discard"))?;
        let held: &str = row.try_get(3).map_err(trouble("discard"))?;
        Ok(Some(Outline {
            order: unsigned(row.try_get(0).map_err(trouble("discard"))?),
            user: UserId::new(user).map_err(|e| corrupt("discard", "a user", e))?,
            held: serde_json::from_str(held).map_err(|e| corrupt("discard", "the slots", e))?,
            dead: row.try_get(2).map_err(trouble("discard"))?,
        }))
    }

    async fn ended(&mut self, before: Timestamp, most: usize) -> Result<Vec<(TaskId, u64)>, Trouble> {
        let rows =
            sqlx::query("SELECT id, ord FROM record WHERE ended IS NOT NULL AND ended < ?1 ORDER BY ord LIMIT ?2 + 0")
                .bind(before.as_millis())
                .bind(limit(most))
                .fetch_all(&mut self.conn)
                .await
                .map_err(trouble("purge"))?;
        let one = |row: &SqliteRow| Ok((task_id("purge", row)?, unsigned(row.try_get(1).map_err(trouble("purge"))?)));
        rows.iter().map(one).collect()
    }

    async fn remove(&mut self, orders: &[u64]) -> Result<(), Trouble> {
        let orders: Vec<i64> = orders.iter().map(|o| bound(*o)).collect();
        let orders = serde_json::to_string(&orders).map_err(|e| corrupt("purge", "a row to remove", e))?;
        for text in [
            "DELETE FROM slot WHERE ord IN (SELECT value FROM json_each(?1))",
            "DELETE FROM waiting WHERE ord IN (SELECT value FROM json_each(?1))",
            "DELETE FROM signal WHERE ord IN (SELECT value FROM json_each(?1))",
            "DELETE FROM dead WHERE ord IN (SELECT value FROM json_each(?1))",
            "DELETE FROM event WHERE ord IN (SELECT value FROM json_each(?1))",
            "DELETE FROM log WHERE ord IN (SELECT value FROM json_each(?1))",
            "DELETE FROM record WHERE ord IN (SELECT value FROM json_each(?1))",
            "DELETE FROM state WHERE ord IN (SELECT value FROM json_each(?1))",
            "DELETE FROM task WHERE ord IN (SELECT value FROM json_each(?1))",
        ] {
            sqlx::query(text).bind(&orders).execute(&mut self.conn).await.map_err(trouble("purge"))?;
        }
        Ok(())
    }

    async fn write(&mut self, end: bool) -> Result<(), Trouble> {
        let written = self.pending.write(&mut self.conn, &mut self.texts, end).await;
        written.map_err(if end { unknown_or_not } else { |e| convert("commit", e).into() })
    }

    fn keep(&mut self, rows: BTreeMap<TaskId, TaskRow>) {
        rows.into_values().for_each(|row| self.shelf.put(row, ()));
    }

    async fn undo(&mut self) {
        self.forget();
        self.pending = Pending::default();
        // Fails when SQLite has rolled back by itself.
        let _ = sqlx::query("ROLLBACK").execute(&mut self.conn).await;
    }

    fn ring(&mut self) {}

    async fn close(self) -> Result<(), StoreError> {
        self.conn.close().await.map_err(|e| convert("close", e))
    }
}

/// What the end of a transaction that failed means: full and busy are known not to have happened; a disk that did not
/// write or a connection that broke may have kept it.
fn unknown_or_not(error: sqlx::Error) -> Trouble {
    match code(&error) {
        Some(10) | None => {
            let (_, advice) = classify(&error);
            let message = format!("{advice}; it may or may not be stored: repeat the same call ({error})");
            let error = StoreError::new(StoreErrorKind::Unknown, "commit", message).with_source(error);
            Trouble { error, cure: Cure::Nothing }
        }
        Some(_) => convert("commit", error).into(),
    }
}
