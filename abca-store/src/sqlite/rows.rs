//! Rows of the database as values.

use std::fmt::Display;

use abca_core::TaskId;
use abca_core::event::Event;
use abca_core::store::{StoreError, TaskRow};
use rusqlite::types::FromSql;
use rusqlite::{Connection, Error, Params, Row};
use serde::de::DeserializeOwned;

use super::error::{convert, failed};
use crate::group::{self, RawRow, Record, corrupt};

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

/// The rows that a statement finds. The statement is kept: SQLite reads its text once for each connection.
pub(super) fn rows<T, E: From<StoreError>>(
    conn: &Connection,
    op: &'static str,
    sql: &str,
    params: impl Params,
    mut read: impl FnMut(&Row<'_>) -> Result<T, E>,
) -> Result<Vec<T>, E> {
    let mut statement = conn.prepare_cached(sql).map_err(failed(op))?;
    let mut found = statement.query(params).map_err(failed(op))?;
    let mut all = Vec::new();
    while let Some(row) = found.next().map_err(failed(op))? {
        all.push(read(row)?);
    }
    Ok(all)
}

/// The first row that a statement finds.
pub(super) fn row<T, E: From<StoreError>>(
    conn: &Connection,
    op: &'static str,
    sql: &str,
    params: impl Params,
    read: impl FnOnce(&Row<'_>) -> Result<T, E>,
) -> Result<Option<T>, E> {
    let mut statement = conn.prepare_cached(sql).map_err(failed(op))?;
    let mut found = statement.query(params).map_err(failed(op))?;
    found.next().map_err(failed(op))?.map(read).transpose()
}

/// A number, or none where the column may hold `NULL`.
pub(super) fn number<T: FromSql>(row: &Row<'_>, op: &'static str, at: usize) -> Result<T, StoreError> {
    row.get(at).map_err(failed(op))
}

/// A text, where the column may hold `NULL`.
pub(super) fn maybe_text<'r>(row: &'r Row<'_>, op: &'static str, at: usize) -> Result<Option<&'r str>, StoreError> {
    let value = row.get_ref(at).map_err(failed(op))?;
    value.as_str_or_null().map_err(|e| convert(op, Error::FromSqlConversionFailure(at, value.data_type(), Box::new(e))))
}

/// A text.
pub(super) fn text<'r>(row: &'r Row<'_>, op: &'static str, at: usize) -> Result<&'r str, StoreError> {
    maybe_text(row, op, at)?.ok_or_else(|| corrupt(op, "a row", format!("column {at} is empty")))
}

/// A task's id, from the first column.
pub(super) fn task_id(op: &'static str, row: &Row<'_>) -> Result<TaskId, StoreError> {
    text(row, op, 0)?.parse().map_err(|e| corrupt(op, "a task's id", e))
}

/// A task as the model knows it.
pub(super) fn task_row(op: &'static str, row: &Row<'_>) -> Result<TaskRow, StoreError> {
    let raw = RawRow {
        id: text(row, op, 0)?,
        order: number(row, op, 1)?,
        hash: text(row, op, 2)?,
        record: Record { fixed: text(row, op, 3)?, moving: text(row, op, 19)? },
        revision: number(row, op, 4)?,
        epoch: number(row, op, 5)?,
        due: number(row, op, 6)?,
        lease_until: number(row, op, 7)?,
        worker: maybe_text(row, op, 8)?,
        denied: number::<i64>(row, op, 9)? != 0,
        woken: number(row, op, 10)?,
        heartbeat: number(row, op, 11)?,
        events: number(row, op, 12)?,
        log_len: number(row, op, 13)?,
        commits: text(row, op, 14)?,
        owed: maybe_text(row, op, 15)?,
        held: maybe_text(row, op, 16)?,
        signals: maybe_text(row, op, 17)?,
        seen: maybe_text(row, op, 18)?,
        dead: number::<Option<i64>>(row, op, 20)?.zip(maybe_text(row, op, 21)?),
    };
    raw.read(op)
}

/// An event, from the columns `seq, body`.
pub(super) fn event(op: &'static str, task: TaskId, row: &Row<'_>) -> Result<Event, StoreError> {
    group::event(op, task, number(row, op, 0)?, text(row, op, 1)?)
}

/// A numbered value, from the columns `seq, body`.
pub(super) fn numbered<T: DeserializeOwned>(
    op: &'static str,
    task: TaskId,
    row: &Row<'_>,
) -> Result<(u64, T), StoreError> {
    group::numbered(op, task, number(row, op, 0)?, text(row, op, 1)?)
}

/// A list as the JSON that statements take.
pub(super) fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|i| i.to_string()).collect();
    serde_json::to_string(&items).unwrap_or_default()
}

/// A count for SQLite's `LIMIT`. Statements say `LIMIT ? + 0`: for a bare parameter the planner looks at its value, and
/// prepares the statement anew whenever it is bound.
pub(super) fn limit(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
