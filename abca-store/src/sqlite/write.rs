//! What a transaction writes: rows by table, each with the statement that puts it there.

use std::fmt::{Display, Write};

use abca_core::id::SignalId;
use abca_core::store::{StoreError, TaskRow};
use abca_core::task::{Signal, SlotScope};
use abca_core::time::Timestamp;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, ToSql, params};
use serde::Serialize;

use super::held::Held;
use crate::group::{commits_text, corrupt, signed};

/// The most that is kept of the memory for texts.
const TEXT_KEPT_BYTES: usize = 4 << 20;

const TASK: &str = "INSERT INTO task (ord, id, user, idem, hash, repo, record) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
const RECORD: &str = "INSERT INTO record (ord, id, status, ended, moving) VALUES (?1, ?2, ?3, ?4, ?5)";
const RECORD_CHANGED: &str = "UPDATE record SET status = ?2, ended = ?3, moving = ?4 WHERE ord = ?1";
const STATE: &str = "INSERT INTO state (ord, revision, epoch, look_at, due, lease_until, worker, denied, woken, \
                     heartbeat, events, log_len, commits, owed) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";
const STATE_CHANGED: &str = "UPDATE state SET revision = ?2, epoch = ?3, look_at = ?4, due = ?5, lease_until = ?6, \
                             worker = ?7, denied = ?8, woken = ?9, heartbeat = ?10, events = ?11, log_len = ?12, \
                             commits = ?13, owed = ?14 WHERE ord = ?1";
const EVENT: &str = "INSERT INTO event (ord, seq, body) VALUES (?1, ?2, ?3)";
const LOG: &str = "INSERT INTO log (ord, seq, body) VALUES (?1, ?2, ?3)";
const SIGNAL: &str = "INSERT INTO signal (ord, id, n, body) VALUES (?1, ?2, ?3, ?4) \
                      ON CONFLICT (ord, id) DO UPDATE SET body = excluded.body";
const FREED: &str = "DELETE FROM slot WHERE scope = ?1 AND ord = ?2";
const TAKEN: &str = "INSERT INTO slot (scope, ord) VALUES (?1, ?2)";
const WAITING: &str = "INSERT INTO waiting (scope, ord, user, denied) VALUES (?1, ?2, ?3, ?4) \
                       ON CONFLICT (scope, ord) DO UPDATE SET denied = excluded.denied";
const WAITED: &str = "DELETE FROM waiting WHERE scope = ?1 AND ord = ?2";
const DEAD: &str = "INSERT OR REPLACE INTO dead (ord, since, reason) VALUES (?1, ?2, ?3)";
const ALIVE: &str = "DELETE FROM dead WHERE ord = ?1";

/// Where a text lies among those that wait to be written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    from: usize,
    to: usize,
}

/// UTF-8 for SQLite.
struct Utf8<'t>(&'t [u8]);

impl ToSql for Utf8<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Text(self.0)))
    }
}

/// Texts, end to end, so that a row costs no memory of its own.
#[derive(Debug, Default)]
struct Texts(Vec<u8>);

impl Write for Texts {
    fn write_str(&mut self, s: &str) -> std::fmt::Result {
        self.0.extend_from_slice(s.as_bytes());
        Ok(())
    }
}

impl Texts {
    fn ready(&mut self, text: &[u8]) -> Span {
        let from = self.0.len();
        self.0.extend_from_slice(text);
        Span { from, to: self.0.len() }
    }

    fn shown(&mut self, value: impl Display) -> Span {
        let from = self.0.len();
        // Writing to memory does not fail.
        let _ = write!(self, "{value}");
        Span { from, to: self.0.len() }
    }

    fn json(&mut self, op: &'static str, value: &impl Serialize) -> Result<Span, StoreError> {
        let from = self.0.len();
        serde_json::to_writer(&mut self.0, value).map_err(|e| corrupt(op, "a row to write", e))?;
        Ok(Span { from, to: self.0.len() })
    }

    fn at(&self, span: Span) -> Utf8<'_> {
        Utf8(self.0.get(span.from..span.to).unwrap_or_default())
    }

    fn maybe(&self, span: Option<Span>) -> Option<Utf8<'_>> {
        span.map(|s| self.at(s))
    }
}

#[derive(Debug)]
struct Task {
    order: i64,
    id: Span,
    user: Span,
    key: Option<Span>,
    hash: Span,
    repo: Option<Span>,
    fixed: Span,
}

#[derive(Debug)]
struct Record {
    order: i64,
    id: Span,
    status: &'static str,
    ended: Option<i64>,
    moving: Span,
}

#[derive(Debug)]
struct State {
    order: i64,
    revision: i64,
    epoch: i64,
    look_at: Option<i64>,
    due: Option<i64>,
    lease_until: Option<i64>,
    worker: Option<Span>,
    denied: bool,
    woken: Option<i64>,
    heartbeat: Option<i64>,
    events: i64,
    log_len: i64,
    commits: Span,
    owed: Option<Span>,
}

/// A body with a number, of an event or of a log.
#[derive(Debug)]
struct Numbered {
    order: i64,
    seq: i64,
    body: Span,
}

#[derive(Debug)]
struct Inbox {
    order: i64,
    id: Span,
    place: i64,
    body: Option<Span>,
}

#[derive(Debug)]
struct Place {
    scope: SlotScope,
    order: i64,
    user: Span,
    denied: bool,
}

/// Rows waiting to be written.
#[derive(Debug, Default)]
pub(super) struct Pending {
    texts: Texts,
    tasks: Vec<Task>,
    records: Vec<Record>,
    states: Vec<State>,
    events: Vec<Numbered>,
    log: Vec<Numbered>,
    signals: Vec<Inbox>,
    freed: Vec<(SlotScope, i64)>,
    taken: Vec<(SlotScope, i64)>,
    waiting: Vec<Place>,
    waited: Vec<(SlotScope, i64)>,
    dead: Vec<(i64, Option<(i64, Span)>)>,
}

impl Pending {
    pub(super) fn ready(&mut self, json: &[u8]) -> Span {
        self.texts.ready(json)
    }

    pub(super) fn task(&mut self, row: &TaskRow, fixed: Span) {
        let (task, texts) = (&row.snapshot.task, &mut self.texts);
        self.tasks.push(Task {
            order: signed(row.order),
            id: texts.shown(task.id),
            user: texts.ready(task.user.as_str().as_bytes()),
            key: task.idempotency_key.as_ref().map(|k| texts.ready(k.as_str().as_bytes())),
            hash: texts.ready(row.payload_hash.as_bytes()),
            repo: task.spec.repo.as_ref().map(|r| texts.shown(r)),
            fixed,
        });
    }

    pub(super) fn record(&mut self, row: &TaskRow, moving: Span) {
        let task = &row.snapshot.task;
        self.records.push(Record {
            order: signed(row.order),
            id: self.texts.shown(task.id),
            status: task.status.as_str(),
            ended: task.status.is_terminal().then(|| task.updated_at.as_millis()),
            moving,
        });
    }

    pub(super) fn state(&mut self, row: &TaskRow) -> Result<(), StoreError> {
        let (s, texts) = (&row.snapshot, &mut self.texts);
        let ms = |t: Option<Timestamp>| t.map(Timestamp::as_millis);
        let commits = texts.ready(commits_text(row).as_bytes());
        let owed = if s.owed.is_empty() { None } else { Some(texts.json("commit", &s.owed)?) };
        self.states.push(State {
            order: signed(row.order),
            revision: signed(s.revision),
            epoch: signed(s.epoch),
            look_at: ms(row.claimable_from()),
            due: ms(row.due),
            lease_until: ms(row.lease.map(|l| l.until)),
            worker: row.lease.map(|l| texts.shown(l.worker)),
            denied: row.denied,
            woken: ms(row.woken),
            heartbeat: ms(s.heartbeat_at),
            events: signed(row.events),
            log_len: signed(row.log_len),
            commits,
            owed,
        });
        Ok(())
    }

    pub(super) fn events<'b>(&mut self, row: &TaskRow, first: u64, bodies: impl Iterator<Item = &'b [u8]>) {
        let texts = &mut self.texts;
        let order = signed(row.order);
        let line = |(seq, body)| Numbered { order, seq: signed(seq), body: texts.ready(body) };
        self.events.extend((first..).zip(bodies).map(line));
    }

    pub(super) fn log<'b>(&mut self, row: &TaskRow, first: u64, bodies: impl Iterator<Item = &'b [u8]>) {
        let texts = &mut self.texts;
        let order = signed(row.order);
        let line = |(seq, body)| Numbered { order, seq: signed(seq), body: texts.ready(body) };
        self.log.extend((first..).zip(bodies).map(line));
    }

    pub(super) fn signal(&mut self, order: u64, id: &SignalId, body: Option<(u64, &Signal)>) -> Result<(), StoreError> {
        let (place, body) = match body {
            Some((place, signal)) => (signed(place), Some(self.texts.json("signal", signal)?)),
            None => (0, None),
        };
        let id = self.texts.ready(id.as_str().as_bytes());
        self.signals.push(Inbox { order: signed(order), id, place, body });
        Ok(())
    }

    pub(super) fn freed(&mut self, scopes: &[SlotScope], order: u64) {
        self.freed.extend(scopes.iter().map(|s| (s.clone(), signed(order))));
    }

    pub(super) fn taken(&mut self, scope: &SlotScope, order: u64) {
        self.taken.push((scope.clone(), signed(order)));
    }

    pub(super) fn waiting(&mut self, scope: &SlotScope, row: &TaskRow, denied: bool) {
        let user = self.texts.ready(row.user().as_str().as_bytes());
        self.waiting.push(Place { scope: scope.clone(), order: signed(row.order), user, denied });
    }

    pub(super) fn waited(&mut self, scope: &SlotScope, order: u64) {
        self.waited.push((scope.clone(), signed(order)));
    }

    pub(super) fn dead(&mut self, row: &TaskRow) {
        let dead = row.dead.as_ref().map(|(why, since)| (since.as_millis(), self.texts.ready(why.as_bytes())));
        self.dead.push((signed(row.order), dead));
    }

    /// Writes everything; tasks in the order of their keys, so that what is new is appended and neighbours share pages.
    pub(super) fn write(&mut self, conn: &Connection, held: &mut Held) -> rusqlite::Result<()> {
        self.tasks.sort_unstable_by_key(|t| t.order);
        self.records.sort_unstable_by_key(|r| r.order);
        self.states.sort_unstable_by_key(|s| s.order);
        self.write_tasks(conn)?;
        self.write_lists(conn)?;
        self.write_places(conn, held)?;
        if self.texts.0.capacity() > TEXT_KEPT_BYTES {
            self.texts = Texts::default();
        }
        self.texts.0.clear();
        Ok(())
    }

    fn write_tasks(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        let texts = &self.texts;
        // Places in the order of acceptance only grow: what is new lies behind all that is not.
        let new = self.tasks.first().map_or(i64::MAX, |t| t.order);
        let mut put = Put::new(conn, TASK);
        for t in self.tasks.drain(..) {
            let key = texts.maybe(t.key);
            put.row(params![
                t.order,
                texts.at(t.id),
                texts.at(t.user),
                key,
                texts.at(t.hash),
                texts.maybe(t.repo),
                texts.at(t.fixed)
            ])?;
        }
        let (mut put, mut change) = (Put::new(conn, RECORD), Put::new(conn, RECORD_CHANGED));
        for r in self.records.drain(..) {
            let moving = texts.at(r.moving);
            if r.order >= new {
                put.row(params![r.order, texts.at(r.id), r.status, r.ended, moving])?;
            } else {
                change.row(params![r.order, r.status, r.ended, moving])?;
            }
        }
        let (mut put, mut change) = (Put::new(conn, STATE), Put::new(conn, STATE_CHANGED));
        for s in self.states.drain(..) {
            let statement = if s.order >= new { &mut put } else { &mut change };
            statement.row(params![
                s.order,
                s.revision,
                s.epoch,
                s.look_at,
                s.due,
                s.lease_until,
                texts.maybe(s.worker),
                s.denied,
                s.woken,
                s.heartbeat,
                s.events,
                s.log_len,
                texts.at(s.commits),
                texts.maybe(s.owed)
            ])?;
        }
        Ok(())
    }

    fn write_lists(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        let texts = &self.texts;
        let mut put = Put::new(conn, EVENT);
        for e in self.events.drain(..) {
            put.row(params![e.order, e.seq, texts.at(e.body)])?;
        }
        let mut put = Put::new(conn, LOG);
        for l in self.log.drain(..) {
            put.row(params![l.order, l.seq, texts.at(l.body)])?;
        }
        let mut put = Put::new(conn, SIGNAL);
        for s in self.signals.drain(..) {
            put.row(params![s.order, texts.at(s.id), s.place, texts.maybe(s.body)])?;
        }
        let (mut put, mut remove) = (Put::new(conn, DEAD), Put::new(conn, ALIVE));
        for (order, dead) in self.dead.drain(..) {
            match dead {
                Some((since, reason)) => put.row(params![order, since, texts.at(reason)])?,
                None => drop(remove.maybe(params![order])?),
            }
        }
        Ok(())
    }

    fn write_places(&mut self, conn: &Connection, held: &mut Held) -> rusqlite::Result<()> {
        let mut remove = Put::new(conn, FREED);
        for (scope, order) in self.freed.drain(..) {
            if remove.maybe(params![scope.0, order])? {
                held.freed(&scope);
            }
        }
        let mut put = Put::new(conn, TAKEN);
        for (scope, order) in self.taken.drain(..) {
            put.row(params![scope.0, order])?;
            held.took(&scope);
        }
        let mut put = Put::new(conn, WAITING);
        for p in self.waiting.drain(..) {
            put.row(params![p.scope.0, p.order, self.texts.at(p.user), p.denied])?;
        }
        let mut remove = Put::new(conn, WAITED);
        for (scope, order) in self.waited.drain(..) {
            remove.maybe(params![scope.0, order])?;
        }
        Ok(())
    }
}

/// A statement that is prepared when its first row comes.
struct Put<'c> {
    conn: &'c Connection,
    sql: &'static str,
    statement: Option<CachedStatement<'c>>,
}

impl<'c> Put<'c> {
    fn new(conn: &'c Connection, sql: &'static str) -> Self {
        Self { conn, sql, statement: None }
    }

    /// Writes a row; there must be one.
    fn row(&mut self, params: impl rusqlite::Params) -> rusqlite::Result<()> {
        match self.run(params)? {
            1 => Ok(()),
            n => Err(rusqlite::Error::StatementChangedRows(n)),
        }
    }

    /// Removes a row, if it is there.
    fn maybe(&mut self, params: impl rusqlite::Params) -> rusqlite::Result<bool> {
        Ok(self.run(params)? > 0)
    }

    fn run(&mut self, params: impl rusqlite::Params) -> rusqlite::Result<usize> {
        let statement = match &mut self.statement {
            Some(statement) => statement,
            none => none.insert(self.conn.prepare_cached(self.sql)?),
        };
        statement.execute(params)
    }
}
