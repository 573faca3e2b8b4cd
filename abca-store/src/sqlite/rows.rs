//! Rows of the database as values, and back.

use std::fmt::Display;

use abca_core::TaskId;
use abca_core::event::Event;
use abca_core::id::SignalId;
use abca_core::store::{StoreError, TaskRow};
use abca_core::task::Signal;
use abca_core::time::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::error::convert;
use crate::group::{self, RawRow, Record, commits_text, corrupt, signed};

/// The columns of a whole task, in the order that [`task_row`] reads; a condition on `t` or `s` follows.
macro_rules! select_rows {
    ($tail:literal) => {
        concat!(
            "SELECT t.id, t.ord, t.hash, t.record, s.revision, s.epoch, s.due, s.lease_until, s.worker, s.denied, \
             s.woken, s.heartbeat, s.events, s.log_len, s.commits, s.owed, \
             (SELECT json_group_array(scope) FROM (SELECT scope FROM slot WHERE ord = t.ord ORDER BY taken)), \
             (SELECT group_concat(body, ',') FROM (SELECT body FROM signal WHERE ord = t.ord AND body IS NOT NULL \
             ORDER BY n)), \
             (SELECT json_group_array(id) FROM signal WHERE ord = t.ord), r.moving, d.since, d.reason \
             FROM task t JOIN state s ON s.ord = t.ord LEFT JOIN record r ON r.ord = t.ord LEFT JOIN dead d ON d.ord = t.ord ",
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

/// A task's id, from the first column of [`select_rows`].
pub(super) fn task_id(op: &'static str, row: &SqliteRow) -> Result<TaskId, StoreError> {
    column::<&str>(row, op, 0)?.parse().map_err(|e| corrupt(op, "a task's id", e))
}

/// A task as the model knows it.
pub(super) fn task_row(op: &'static str, row: &SqliteRow) -> Result<TaskRow, StoreError> {
    let raw = RawRow {
        id: column(row, op, 0)?,
        order: column(row, op, 1)?,
        hash: column(row, op, 2)?,
        record: Record { fixed: column(row, op, 3)?, moving: column(row, op, 19)? },
        revision: column(row, op, 4)?,
        epoch: column(row, op, 5)?,
        due: column(row, op, 6)?,
        lease_until: column(row, op, 7)?,
        worker: column(row, op, 8)?,
        denied: column::<i64>(row, op, 9)? != 0,
        woken: column(row, op, 10)?,
        heartbeat: column(row, op, 11)?,
        events: column(row, op, 12)?,
        log_len: column(row, op, 13)?,
        commits: column(row, op, 14)?,
        owed: column(row, op, 15)?,
        held: column(row, op, 16)?,
        signals: column(row, op, 17)?,
        seen: column(row, op, 18)?,
        dead: column::<Option<i64>>(row, op, 20)?.zip(column::<Option<&str>>(row, op, 21)?),
    };
    raw.read(op)
}

/// An event, from the columns `seq, body`.
pub(super) fn event(op: &'static str, task: TaskId, row: &SqliteRow) -> Result<Event, StoreError> {
    group::event(op, task, column(row, op, 0)?, column(row, op, 1)?)
}

/// A numbered value, from the columns `seq, body`.
pub(super) fn numbered<T: DeserializeOwned>(
    op: &'static str,
    task: TaskId,
    row: &SqliteRow,
) -> Result<(u64, T), StoreError> {
    group::numbered(op, task, column(row, op, 0)?, column(row, op, 1)?)
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

/// A row of `task`, whose fixed part lies at `place` already.
pub(super) fn push_task(
    rows: &mut Rows,
    op: &'static str,
    row: &TaskRow,
    (at, len): (usize, usize),
) -> Result<(), StoreError> {
    let task = &row.snapshot.task;
    let repo = task.spec.repo.as_ref().map(ToString::to_string);
    let key = task.idempotency_key.as_ref();
    rows.push(op, &(signed(row.order), task.id, &task.user, key, &row.payload_hash, repo, at, len))
}

/// A row of `record`, whose moving part lies at `place` already.
pub(super) fn push_record(
    rows: &mut Rows,
    op: &'static str,
    row: &TaskRow,
    (at, len): (usize, usize),
) -> Result<(), StoreError> {
    let task = &row.snapshot.task;
    let ended = task.status.is_terminal().then(|| task.updated_at.as_millis());
    rows.push(op, &(signed(row.order), task.id, task.status.as_str(), ended, at, len))
}

/// A row of `state`.
pub(super) fn push_state(rows: &mut Rows, op: &'static str, row: &TaskRow) -> Result<(), StoreError> {
    let s = &row.snapshot;
    let ms = |t: Option<Timestamp>| t.map(Timestamp::as_millis);
    let commits = commits_text(row);
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
