//! Rows of the database as values.

use abca_core::store::{StoreError, TaskRow};
use abca_core::{TaskId, Timestamp};
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::error::convert;
use crate::group::{RawRow, Record, corrupt};

/// How many columns `hold` and `look` answer with.
pub(super) const TASK_COLUMNS: usize = 25;

pub(super) fn column<'r, T: sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>>(
    row: &'r PgRow,
    op: &'static str,
    index: usize,
) -> Result<T, StoreError> {
    row.try_get(index).map_err(|e| convert(op, e))
}

pub(super) fn task_id(op: &'static str, row: &PgRow, index: usize) -> Result<TaskId, StoreError> {
    column::<&str>(row, op, index)?.parse().map_err(|e| corrupt(op, "a task's id", e))
}

/// A wake-up that its task does not know of: its number and its time.
pub(super) type Wake = (i64, Timestamp);

/// What `rows` says of a task beside its content.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) id: TaskId,
    pub(super) order: i64,
    pub(super) v: i64,
    /// See the table `state`.
    pub(super) told: i64,
    pub(super) wakes: Vec<Wake>,
    /// It is as it was known.
    pub(super) same: bool,
}

pub(super) fn head(op: &'static str, row: &PgRow) -> Result<Head, StoreError> {
    let numbers: Vec<i64> = match column::<Option<&str>>(row, op, 4)? {
        Some(text) => text.split(' ').filter_map(|n| n.parse().ok()).collect(),
        None => Vec::new(),
    };
    let wake = |pair: &[i64]| Some((*pair.first()?, Timestamp::from_millis(*pair.get(1)?)));
    let same = column::<Option<&str>>(row, op, 18)?.is_none();
    let wakes = numbers.chunks(2).filter_map(wake).collect();
    Ok(Head {
        id: task_id(op, row, 0)?,
        order: column(row, op, 1)?,
        v: column(row, op, 2)?,
        told: column(row, op, 3)?,
        wakes,
        same,
    })
}

/// A task as the model knows it.
pub(super) fn task_row(op: &'static str, row: &PgRow) -> Result<TaskRow, StoreError> {
    let raw = RawRow {
        id: column(row, op, 0)?,
        order: column(row, op, 1)?,
        hash: column(row, op, 5)?,
        record: Record { fixed: column(row, op, 6)?, moving: column(row, op, 7)? },
        revision: column(row, op, 8)?,
        epoch: column(row, op, 9)?,
        due: column(row, op, 10)?,
        lease_until: column(row, op, 11)?,
        worker: column(row, op, 12)?,
        denied: column(row, op, 13)?,
        woken: column(row, op, 14)?,
        heartbeat: column(row, op, 15)?,
        events: column(row, op, 16)?,
        log_len: column(row, op, 17)?,
        commits: column(row, op, 18)?,
        owed: column(row, op, 19)?,
        held: column(row, op, 20)?,
        signals: column(row, op, 21)?,
        seen: column(row, op, 22)?,
        dead: column::<Option<i64>>(row, op, 23)?.zip(column::<Option<&str>>(row, op, 24)?),
    };
    raw.read(op)
}
