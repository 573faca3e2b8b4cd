//! SQLite under a group of calls: one connection that writes. It belongs to the thread of the group's writer, so nothing
//! here ever waits for another thread.

use std::collections::{BTreeMap, BTreeSet};

use abca_core::id::{IdempotencyKey, SignalId, WorkerId};
use abca_core::session::LogRecord;
use abca_core::store::{ClaimQuery, FARTHEST, StoreError, StoreErrorKind, TaskRow};
use abca_core::task::{Signal, SlotLimit, SlotScope};
use abca_core::{TaskId, Timestamp, UserId};
use rusqlite::{Connection, Row, params};

use super::error::{classify, code, convert, said, trouble};
use super::held::Held;
use super::rows::{limit, list, number, numbered, row, rows, select_rows, task_id, task_row, text};
use super::write::{Pending, Span};
use crate::group::{
    Ask, Begun, Candidate, Cure, Engine, Found, Outline, Scope, Sheet, Shelf, Trouble, corrupt, scopes_of, signed,
    unsigned,
};

const DENIED_HERE: &str = "SELECT 1 FROM waiting WHERE scope = ?1 AND denied = 1 LIMIT 1";
const WAITING_HERE: &str = "SELECT ord FROM waiting WHERE scope = ?1 ORDER BY ord LIMIT ?2 + 0";
/// Two ranges of one index, never what lies between them, all the tasks that wait.
const DUE: &str = "SELECT * FROM (SELECT t.id FROM state s JOIN task t ON t.ord = s.ord WHERE s.look_at <= ?1 \
                   ORDER BY s.look_at, s.ord LIMIT ?2 + 0) \
                   UNION ALL \
                   SELECT * FROM (SELECT t.id FROM state s JOIN task t ON t.ord = s.ord WHERE s.look_at > ?3 \
                   ORDER BY s.look_at, s.ord LIMIT ?2 + 0)";
/// Of the few tasks with signals, those that are due.
const DUE_SIGNALLED: &str = "SELECT t.id FROM (SELECT DISTINCT ord FROM signal INDEXED BY signal_waiting \
                             WHERE body IS NOT NULL) g CROSS JOIN state s ON s.ord = g.ord \
                             JOIN task t ON t.ord = s.ord WHERE s.look_at <= ?1 OR s.look_at > ?3 \
                             ORDER BY s.look_at, s.ord LIMIT ?2 + 0";
/// Everything of a task, what refers to it first.
const REMOVE: [&str; 9] = [
    "DELETE FROM slot WHERE ord = ?1",
    "DELETE FROM waiting WHERE ord = ?1",
    "DELETE FROM signal WHERE ord = ?1",
    "DELETE FROM dead WHERE ord = ?1",
    "DELETE FROM event WHERE ord = ?1",
    "DELETE FROM log WHERE ord = ?1",
    "DELETE FROM record WHERE ord = ?1",
    "DELETE FROM state WHERE ord = ?1",
    "DELETE FROM task WHERE ord = ?1",
];

/// How many candidates for a free slot are read at once.
const CANDIDATES: i64 = 8;

#[derive(Debug)]
pub(super) struct Lite {
    conn: Connection,
    shelf: Shelf<()>,
    held: Held,
    pending: Pending,
    /// What SQLite says when another connection has written.
    version: i64,
    /// The last place given out, if known.
    accepted: Option<u64>,
}

impl Lite {
    pub(super) fn new(conn: Connection) -> Self {
        let (shelf, held, pending) = (Shelf::default(), Held::default(), Pending::default());
        Self { conn, shelf, held, pending, version: i64::MIN, accepted: None }
    }

    fn forget(&mut self) {
        self.shelf.clear();
        self.held.forget();
        self.accepted = None;
    }

    fn run(&self, op: &'static str, sql: &str, params: impl rusqlite::Params) -> Result<(), Trouble> {
        let mut statement = self.conn.prepare_cached(sql).map_err(trouble(op))?;
        statement.execute(params).map(drop).map_err(trouble(op))
    }

    fn find(&self, ids: impl IntoIterator<Item = TaskId>) -> Result<Vec<Found>, Trouble> {
        let mut all = Vec::new();
        for id in ids {
            let read = |r: &Row<'_>| Ok::<_, Trouble>((task_id("load", r)?, task_row("load", r)));
            all.extend(row(&self.conn, "load", select_rows!("WHERE t.id = ?1"), [id.to_string()], read)?);
        }
        Ok(all)
    }

    fn scope(&mut self, name: &SlotScope, first: usize) -> Result<Scope, Trouble> {
        let holders = self.held.count(&self.conn, name)?;
        let denied = row(&self.conn, "commit", DENIED_HERE, [&name.0], |_| Ok::<_, Trouble>(()))?.is_some();
        let order = |r: &Row<'_>| Ok::<_, Trouble>(unsigned(number(r, "commit", 0)?));
        let waiting = rows(&self.conn, "commit", WAITING_HERE, params![name.0, limit(first)], order)?;
        Ok(Scope { holders, waiting: waiting.into_iter().collect(), denied })
    }
}

impl Sheet for Lite {
    type Place = Span;

    fn fixed(&mut self, json: &[u8]) -> Span {
        self.pending.ready(json)
    }

    fn moving(&mut self, json: &[u8]) -> Span {
        self.pending.ready(json)
    }

    fn task(&mut self, row: &TaskRow, fixed: Span) -> Result<(), StoreError> {
        self.pending.task(row, fixed);
        Ok(())
    }

    fn record(&mut self, row: &TaskRow, moving: Span) -> Result<(), StoreError> {
        self.pending.record(row, moving);
        Ok(())
    }

    fn state(&mut self, row: &TaskRow) -> Result<(), StoreError> {
        self.pending.state(row)
    }

    fn events<'b>(
        &mut self,
        row: &TaskRow,
        first: u64,
        bodies: impl Iterator<Item = &'b [u8]>,
    ) -> Result<(), StoreError> {
        self.pending.events(row, first, bodies);
        Ok(())
    }

    fn log<'b>(&mut self, row: &TaskRow, first: u64, bodies: impl Iterator<Item = &'b [u8]>) -> Result<(), StoreError> {
        self.pending.log(row, first, bodies);
        Ok(())
    }

    fn signal(&mut self, order: u64, id: &SignalId, body: Option<(u64, &Signal)>) -> Result<(), StoreError> {
        self.pending.signal(order, id, body)
    }

    fn freed(&mut self, order: u64, scopes: &[SlotScope]) -> Result<(), StoreError> {
        self.pending.freed(scopes, order);
        Ok(())
    }

    fn taken(&mut self, limit: &SlotLimit, order: u64) -> Result<(), StoreError> {
        self.pending.taken(&limit.scope, order);
        Ok(())
    }

    fn waiting(&mut self, scope: &SlotScope, row: &TaskRow, denied: bool) -> Result<(), StoreError> {
        self.pending.waiting(scope, row, denied);
        Ok(())
    }

    fn waited(&mut self, scope: &SlotScope, order: u64) -> Result<(), StoreError> {
        self.pending.waited(scope, order);
        Ok(())
    }

    fn dead(&mut self, row: &TaskRow) -> Result<(), StoreError> {
        self.pending.dead(row);
        Ok(())
    }

    fn woken(&mut self, order: u64, _: Timestamp) -> Result<(), StoreError> {
        Err(corrupt("commit", "a wake-up", format!("task number {order} is changed, not told")))
    }
}

impl Engine for Lite {
    const ALONE: bool = true;

    /// Takes the write lock, forgets what is remembered when another connection has written since, and reads what the
    /// calls speak of.
    async fn begin(&mut self, ask: &Ask<'_>) -> Result<Begun, Trouble> {
        let failed = |e: rusqlite::Error| Trouble {
            cure: if matches!(code(&e), Some(5 | 6)) { Cure::Nothing } else { Cure::Alone },
            error: convert("begin", e),
        };
        let begin = || {
            self.conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
            self.conn.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))
        };
        let version: i64 = begin().map_err(failed)?;
        if version != self.version {
            self.forget();
            self.version = version;
        }
        let mut begun = Begun::default();
        let mut scopes = BTreeSet::new();
        for commit in &ask.commits {
            if let Some((row, ())) = self.shelf.get(commit.task) {
                scopes_of(row, commit, &mut scopes);
            }
        }
        for name in scopes {
            let scope = self.scope(&name, ask.commits.len() + 1)?;
            begun.scopes.push((name, scope));
        }
        let ids: Vec<TaskId> = ask.ids.iter().copied().collect();
        begun.rows = self.load(&ids).await?;
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
        all.extend(self.find(missing)?);
        Ok(all)
    }

    async fn peek(&mut self, ids: &[TaskId]) -> Result<Vec<Found>, Trouble> {
        self.load(ids).await
    }

    async fn keys(
        &mut self,
        keys: &[(UserId, IdempotencyKey)],
    ) -> Result<Vec<((UserId, IdempotencyKey), TaskId)>, Trouble> {
        let mut all = Vec::new();
        for key in keys {
            let sql = "SELECT id FROM task WHERE user = ?1 AND idem = ?2";
            let read = |r: &Row<'_>| Ok::<_, Trouble>((key.clone(), task_id("submit", r)?));
            all.extend(row(&self.conn, "submit", sql, [key.0.as_str(), key.1.as_str()], read)?);
        }
        Ok(all)
    }

    async fn scopes(&mut self, names: &[SlotScope], first: usize) -> Result<Vec<(SlotScope, Scope)>, Trouble> {
        names.iter().map(|name| Ok((name.clone(), self.scope(name, first)?))).collect()
    }

    async fn glance(&mut self, names: &[SlotScope]) -> Result<Vec<(SlotScope, Scope)>, Trouble> {
        self.scopes(names, 0).await
    }

    async fn next_order(&mut self) -> Result<u64, Trouble> {
        let last = match self.accepted {
            Some(known) => known,
            None => {
                let sql = "SELECT coalesce(max(ord), 0) FROM task";
                let read = |r: &Row<'_>| Ok::<_, Trouble>(unsigned(number(r, "submit", 0)?));
                row(&self.conn, "submit", sql, [], read)?.unwrap_or(0)
            }
        };
        let order = last.saturating_add(1);
        self.accepted = Some(order);
        Ok(order)
    }

    async fn due(&mut self, query: &ClaimQuery, most: usize) -> Result<Vec<TaskId>, Trouble> {
        let sql = if query.signalled { DUE_SIGNALLED } else { DUE };
        let asked = [query.now.as_millis(), limit(most), query.now.after(FARTHEST).as_millis()];
        rows(&self.conn, "claim", sql, asked, |r| Ok(task_id("claim", r)?))
    }

    /// Looks through every task that waits for a time: it is asked for rarely.
    async fn leased(&mut self, workers: &[WorkerId]) -> Result<Vec<TaskId>, Trouble> {
        let sql = "SELECT t.id FROM state s JOIN task t ON t.ord = s.ord \
                   WHERE s.look_at IS NOT NULL AND s.worker IN (SELECT value FROM json_each(?1))";
        rows(&self.conn, "expire", sql, [list(workers)], |r| Ok(task_id("expire", r)?))
    }

    async fn denied(&mut self, scope: &SlotScope, after: &(String, i64), _: usize) -> Result<Vec<Candidate>, Trouble> {
        let sql = "SELECT t.id, w.user, w.ord FROM waiting w JOIN task t ON t.ord = w.ord \
                   WHERE w.scope = ?1 AND w.denied = 1 AND (w.user, w.ord) > (?2, ?3) ORDER BY w.user, w.ord LIMIT ?4 + 0";
        rows(&self.conn, "commit", sql, params![scope.0, after.0, after.1, CANDIDATES], |r| {
            let user = text(r, "commit", 1)?.to_owned();
            Ok(Candidate { id: task_id("commit", r)?, user, order: unsigned(number(r, "commit", 2)?), sketch: None })
        })
    }

    async fn records(
        &mut self,
        task: TaskId,
        order: u64,
        from: u64,
        most: usize,
    ) -> Result<Vec<(u64, LogRecord)>, Trouble> {
        let sql = "SELECT seq, body FROM log WHERE ord = ?1 AND seq >= ?2 ORDER BY seq LIMIT ?3 + 0";
        let asked = [signed(order), signed(from), limit(most)];
        rows(&self.conn, "append", sql, asked, |r| Ok(numbered("append", task, r)?))
    }

    async fn put_aside(&mut self, id: TaskId, now: Timestamp, reason: &str) -> Result<(), Trouble> {
        let id = id.to_string();
        self.run("claim", "UPDATE state SET look_at = NULL WHERE ord = (SELECT ord FROM task WHERE id = ?1)", [&id])?;
        let dead = "INSERT OR IGNORE INTO dead (ord, since, reason) SELECT ord, ?2, ?3 FROM task WHERE id = ?1";
        self.run("claim", dead, params![id, now.as_millis(), reason])
    }

    async fn outline(&mut self, id: TaskId) -> Result<Option<Outline>, Trouble> {
        let sql = "SELECT t.ord, t.user, EXISTS (SELECT 1 FROM dead d WHERE d.ord = t.ord), \
                   (SELECT json_group_array(scope) FROM slot WHERE ord = t.ord) FROM task t WHERE t.id = ?1";
        row(&self.conn, "discard", sql, [id.to_string()], |r| {
            Ok(Outline {
                order: unsigned(number(r, "discard", 0)?),
                user: UserId::new(text(r, "discard", 1)?).map_err(|e| corrupt("discard", "a user", e))?,
                held: serde_json::from_str(text(r, "discard", 3)?).map_err(|e| corrupt("discard", "the slots", e))?,
                dead: number(r, "discard", 2)?,
            })
        })
    }

    async fn ended(&mut self, before: Timestamp, most: usize) -> Result<Vec<(TaskId, u64)>, Trouble> {
        let sql = "SELECT id, ord FROM record WHERE ended IS NOT NULL AND ended < ?1 ORDER BY ended, ord LIMIT ?2 + 0";
        let read = |r: &Row<'_>| Ok((task_id("purge", r)?, unsigned(number(r, "purge", 1)?)));
        rows(&self.conn, "purge", sql, [before.as_millis(), limit(most)], read)
    }

    async fn remove(&mut self, orders: &[u64]) -> Result<(), Trouble> {
        self.held.forget();
        for sql in REMOVE {
            orders.iter().try_for_each(|order| self.run("purge", sql, [signed(*order)]))?;
        }
        Ok(())
    }

    async fn write(&mut self, end: bool) -> Result<(), Trouble> {
        self.pending.write(&self.conn, &mut self.held).map_err(trouble("commit"))?;
        if end {
            let commit = || self.conn.prepare_cached("COMMIT")?.execute([]);
            commit().map_err(unknown_or_not)?;
        }
        Ok(())
    }

    fn keep(&mut self, rows: BTreeMap<TaskId, TaskRow>) {
        rows.into_values().for_each(|row| self.shelf.put(row, ()));
    }

    async fn undo(&mut self) {
        self.forget();
        self.pending = Pending::default();
        // SQLite may have rolled back by itself.
        if !self.conn.is_autocommit()
            && let Err(e) = self.run("commit", "ROLLBACK", [])
        {
            tracing::warn!(error = %e.error, "a transaction was not rolled back");
        }
    }

    fn ring(&mut self) {}

    async fn close(self) -> Result<(), StoreError> {
        self.conn.close().map_err(|(_, e)| convert("close", e))
    }
}

/// What the end of a transaction that failed means: full and busy are known not to have happened; a disk that did not
/// write or a connection that broke may have kept it.
fn unknown_or_not(error: rusqlite::Error) -> Trouble {
    match code(&error) {
        Some(10) | None => {
            let (_, advice) = classify(&error);
            let message = format!("{advice}; it may or may not be stored: repeat the same call ({})", said(&error));
            let error = StoreError::new(StoreErrorKind::Unknown, "commit", message).with_source(error);
            Trouble { error, cure: Cure::Nothing }
        }
        Some(_) => convert("commit", error).into(),
    }
}
