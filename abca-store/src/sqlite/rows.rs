//! Rows of the database as values, and back.

use std::collections::BTreeSet;
use std::fmt::Display;

use abca_core::event::{Event, EventType, NewEvent};
use abca_core::id::{EventSeq, SignalId};
use abca_core::store::{Lease, StoreError, TaskRow};
use abca_core::task::{OwedEffect, Signal, SlotScope, Snapshot};
use abca_core::{TaskId, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::error::{convert, corrupt};

/// The columns of a whole task, in the order that [`task_row`] reads; a condition on `t` or `s` follows.
macro_rules! select_rows {
    ($tail:literal) => {
        concat!(
            "SELECT t.id, t.ord, t.hash, t.record, s.revision, s.epoch, s.due, s.lease_until, s.worker, s.denied, \
             s.woken, s.heartbeat, s.events, s.log_len, s.commits, s.owed, \
             (SELECT json_group_array(scope) FROM (SELECT scope FROM slot WHERE ord = t.ord ORDER BY taken)), \
             (SELECT group_concat(body, ',') FROM (SELECT body FROM signal WHERE ord = t.ord AND body IS NOT NULL \
             ORDER BY n)), \
             (SELECT json_group_array(id) FROM signal WHERE ord = t.ord) \
             FROM task t JOIN state s ON s.ord = t.ord ",
            $tail
        )
    };
}
pub(super) use select_rows;

fn column<'r, T: sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>>(
    row: &'r SqliteRow,
    op: &'static str,
    index: usize,
) -> Result<T, StoreError> {
    row.try_get(index).map_err(|e| convert(op, e))
}

fn parsed<T: DeserializeOwned>(op: &'static str, what: &str, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|e| corrupt(op, what, e))
}

fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// A task's id, from the first column of [`select_rows`].
pub(super) fn task_id(op: &'static str, row: &SqliteRow) -> Result<TaskId, StoreError> {
    column::<&str>(row, op, 0)?.parse().map_err(|e| corrupt(op, "a task's id", e))
}

/// A task as the model knows it.
pub(super) fn task_row(op: &'static str, row: &SqliteRow) -> Result<TaskRow, StoreError> {
    let what = |part: &str| format!("{part} of task `{}`", row.try_get::<&str, _>(0).unwrap_or_default());
    let time = |i: usize| column::<Option<i64>>(row, op, i).map(|t| t.map(Timestamp::from_millis));
    let lease = match (time(7)?, column::<Option<&str>>(row, op, 8)?) {
        (Some(until), Some(worker)) => {
            Some(Lease { worker: worker.parse().map_err(|e| corrupt(op, &what("the worker"), e))?, until })
        }
        (Some(_), None) | (None, _) => None,
    };
    let commits: &str = column(row, op, 14)?;
    let commits = commits.split_ascii_whitespace().map(|c| u128::from_str_radix(c, 16));
    let owed: Vec<OwedEffect> = match column::<Option<&str>>(row, op, 15)? {
        Some(text) => parsed(op, &what("what is owed"), text)?,
        None => Vec::new(),
    };
    let held: Vec<SlotScope> = parsed(op, &what("the slots"), column(row, op, 16)?)?;
    let signals: Vec<Signal> = match column::<Option<&str>>(row, op, 17)? {
        Some(bodies) => parsed(op, &what("the inbox"), &format!("[{bodies}]"))?,
        None => Vec::new(),
    };
    let seen: BTreeSet<_> = parsed(op, &what("the signals"), column(row, op, 18)?)?;
    Ok(TaskRow {
        snapshot: Snapshot {
            task: parsed(op, &what("the record"), column(row, op, 3)?)?,
            revision: unsigned(column(row, op, 4)?),
            epoch: unsigned(column(row, op, 5)?),
            held,
            signals,
            owed,
            heartbeat_at: time(11)?,
        },
        order: unsigned(column(row, op, 1)?),
        payload_hash: column(row, op, 2)?,
        due: time(6)?,
        lease,
        denied: column::<i64>(row, op, 9)? != 0,
        woken: time(10)?,
        events: unsigned(column(row, op, 12)?),
        log_len: unsigned(column(row, op, 13)?),
        commits: commits.collect::<Result<_, _>>().map_err(|e| corrupt(op, &what("the commits"), e))?,
        seen,
        dead: None,
    })
}

/// An event's own columns; its task and number lie beside.
#[derive(Serialize)]
pub(super) struct EventOut<'a> {
    t: EventType,
    at: i64,
    #[serde(skip_serializing_if = "Map::is_empty")]
    m: &'a Map<String, Value>,
}

impl<'a> From<&'a NewEvent> for EventOut<'a> {
    fn from(e: &'a NewEvent) -> Self {
        Self { t: e.event_type, at: e.timestamp.as_millis(), m: &e.metadata }
    }
}

#[derive(Deserialize)]
struct EventIn {
    t: EventType,
    at: i64,
    #[serde(default)]
    m: Map<String, Value>,
}

/// An event, from the columns `seq, body`.
pub(super) fn event(op: &'static str, task_id: TaskId, row: &SqliteRow) -> Result<Event, StoreError> {
    let seq = unsigned(column(row, op, 0)?);
    let body: EventIn = parsed(op, &format!("event {seq} of task `{task_id}`"), column(row, op, 1)?)?;
    Ok(Event {
        task_id,
        seq: EventSeq(seq),
        event_type: body.t,
        timestamp: Timestamp::from_millis(body.at),
        metadata: body.m,
    })
}

/// A numbered value, from the columns `seq, body`.
pub(super) fn numbered<T: DeserializeOwned>(
    op: &'static str,
    task: TaskId,
    row: &SqliteRow,
) -> Result<(u64, T), StoreError> {
    let seq = unsigned(column(row, op, 0)?);
    Ok((seq, parsed(op, &format!("log record {seq} of task `{task}`"), column(row, op, 1)?)?))
}

/// Rows to write into one table: one statement writes them all.
///
/// The narrow columns are one JSON array of arrays. Wide values lie beside it, end to end, and a row names its own by
/// place and length: SQLite cuts bytes out in no time, but would parse JSON and write it anew.
#[derive(Debug, Default)]
pub(super) struct Rows {
    narrow: Vec<u8>,
    wide: Vec<u8>,
}

/// Where a wide value lies, as SQLite's `substr` counts; `None` is `NULL`.
pub(super) type Wide = Option<(usize, usize)>;

impl Rows {
    /// Adds a row; `row` is a tuple or an array.
    pub(super) fn push(&mut self, op: &'static str, row: &impl Serialize) -> Result<(), StoreError> {
        self.narrow.push(if self.narrow.is_empty() { b'[' } else { b',' });
        serde_json::to_writer(&mut self.narrow, row).map_err(|e| corrupt(op, "a row to write", e))
    }

    /// Puts a wide value aside, as JSON.
    pub(super) fn wide(&mut self, op: &'static str, value: &impl Serialize) -> Result<(usize, usize), StoreError> {
        let place = self.wide.len();
        serde_json::to_writer(&mut self.wide, value).map_err(|e| corrupt(op, "a row to write", e))?;
        Ok((place + 1, self.wide.len() - place))
    }

    /// Puts a wide value aside that is JSON already.
    pub(super) fn ready(&mut self, json: &[u8]) -> (usize, usize) {
        let place = self.wide.len();
        self.wide.extend_from_slice(json);
        (place + 1, json.len())
    }

    /// The rows and their wide values; `None` when there is no row.
    pub(super) fn take(&mut self) -> Option<(String, Vec<u8>)> {
        let (mut narrow, wide) = (std::mem::take(&mut self.narrow), std::mem::take(&mut self.wide));
        if narrow.is_empty() {
            return None;
        }
        narrow.push(b']');
        // JSON that serde wrote is UTF-8; anything else would be an empty text, refused by SQLite as malformed.
        Some((String::from_utf8(narrow).unwrap_or_default(), wide))
    }
}

/// A row of `task`, whose record lies at `place` already.
pub(super) fn push_task(
    rows: &mut Rows,
    op: &'static str,
    row: &TaskRow,
    (at, len): (usize, usize),
) -> Result<(), StoreError> {
    let task = &row.snapshot.task;
    let repo = task.spec.repo.as_ref().map(ToString::to_string);
    let key = task.idempotency_key.as_ref();
    let status = task.status.as_str();
    rows.push(op, &(signed(row.order), task.id, &task.user, key, &row.payload_hash, status, repo, at, len))
}

/// A row of `state`.
pub(super) fn push_state(rows: &mut Rows, op: &'static str, row: &TaskRow) -> Result<(), StoreError> {
    let s = &row.snapshot;
    let ms = |t: Option<Timestamp>| t.map(Timestamp::as_millis);
    let mut commits = String::new();
    for id in &row.commits {
        push_hex(&mut commits, id);
    }
    let owed = if s.owed.is_empty() { None } else { Some(rows.wide(op, &s.owed)?) };
    rows.push(
        op,
        &(
            signed(row.order),
            signed(s.revision),
            signed(s.epoch),
            ms(row.claimable_from()),
            ms(row.due),
            ms(row.lease.map(|l| l.until)),
            row.lease.map(|l| l.worker),
            i64::from(row.denied),
            ms(row.woken),
            ms(s.heartbeat_at),
            (signed(row.events), signed(row.log_len)),
            commits,
            owed.map(|o| o.0),
            owed.map(|o| o.1),
        ),
    )
}

fn push_hex(text: &mut String, id: &u128) {
    use std::fmt::Write;
    // Writing to a string does not fail.
    let _ = write!(text, "{id:x} ");
}

/// Rows of `log` or `event`, numbered from `first`.
pub(super) fn push_numbered<'b>(
    rows: &mut Rows,
    op: &'static str,
    row: &TaskRow,
    first: u64,
    bodies: impl Iterator<Item = &'b [u8]>,
) -> Result<(), StoreError> {
    for (seq, body) in (first..).zip(bodies) {
        let (at, len) = rows.ready(body);
        rows.push(op, &(signed(row.order), signed(seq), at, len))?;
    }
    Ok(())
}

/// A row of `signal`; without a body it was consumed.
pub(super) fn push_signal(
    rows: &mut Rows,
    op: &'static str,
    order: u64,
    id: &SignalId,
    body: Option<(u64, &Signal)>,
) -> Result<(), StoreError> {
    let (place, wide): (u64, Wide) = match body {
        Some((place, signal)) => (place, Some(rows.wide(op, signal)?)),
        None => (0, None),
    };
    rows.push(op, &(signed(order), id, signed(place), wide.map(|w| w.0), wide.map(|w| w.1)))
}

/// A list as the JSON that statements take.
pub(super) fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|i| i.to_string()).collect();
    serde_json::to_string(&items).unwrap_or_default()
}

/// A number for SQLite.
pub(super) fn bound(n: u64) -> i64 {
    signed(n)
}

/// A count for SQLite's `LIMIT`. Statements say `LIMIT ? + 0`: for a bare parameter the planner looks at its value, and
/// prepares the statement anew whenever it is bound.
pub(super) fn limit(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
