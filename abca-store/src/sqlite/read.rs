//! Reads: each is one statement, so it sees one moment.

use abca_core::event::Event;
use abca_core::id::IdempotencyKey;
use abca_core::session::LogRecord;
use abca_core::store::{EventQuery, ListQuery, LogQuery, SlotUsage, StoreError};
use abca_core::task::{SlotScope, Snapshot, Task};
use abca_core::{TaskId, Timestamp, UserId};
use sqlx::{AssertSqlSafe, Row, SqlitePool};

use super::error::convert;
use super::rows::{bound, event, limit, list, numbered, select_rows, task_id, task_row};
use crate::group::Record;

pub(super) async fn load(pool: &SqlitePool, ids: &[TaskId]) -> Result<Vec<Option<Snapshot>>, StoreError> {
    let rows = sqlx::query(select_rows!("WHERE t.id IN (SELECT value FROM json_each(?1))"))
        .bind(list(ids))
        .fetch_all(pool)
        .await
        .map_err(|e| convert("load", e))?;
    let mut found = std::collections::BTreeMap::new();
    for row in &rows {
        found.insert(task_id("load", row)?, task_row("load", row)?.snapshot);
    }
    Ok(ids.iter().map(|id| found.get(id).cloned()).collect())
}

pub(super) async fn find(pool: &SqlitePool, user: &UserId, key: &IdempotencyKey) -> Result<Option<TaskId>, StoreError> {
    let row = sqlx::query("SELECT id FROM task WHERE user = ?1 AND idem = ?2")
        .bind(user.as_str())
        .bind(key.as_str())
        .fetch_optional(pool)
        .await
        .map_err(|e| convert("find", e))?;
    row.map(|r| task_id("find", &r)).transpose()
}

pub(super) async fn events(pool: &SqlitePool, query: &EventQuery) -> Result<Vec<Event>, StoreError> {
    let rows = sqlx::query(
        "SELECT seq, body FROM event WHERE ord = (SELECT ord FROM task WHERE id = ?1) AND seq > ?2 \
         ORDER BY seq LIMIT ?3 + 0",
    )
    .bind(query.task.to_string())
    .bind(bound(query.after.0))
    .bind(limit(query.limit))
    .fetch_all(pool)
    .await
    .map_err(|e| convert("events", e))?;
    rows.iter().map(|r| event("events", query.task, r)).collect()
}

pub(super) async fn log(pool: &SqlitePool, query: &LogQuery) -> Result<Vec<(u64, LogRecord)>, StoreError> {
    let rows = sqlx::query(
        "SELECT seq, body FROM log WHERE ord = (SELECT ord FROM task WHERE id = ?1) AND seq > ?2 \
         ORDER BY seq LIMIT ?3 + 0",
    )
    .bind(query.task.to_string())
    .bind(bound(query.after))
    .bind(limit(query.limit))
    .fetch_all(pool)
    .await
    .map_err(|e| convert("log", e))?;
    rows.iter().map(|r| numbered("log", query.task, r)).collect()
}

pub(super) async fn list_tasks(pool: &SqlitePool, query: &ListQuery) -> Result<Vec<Task>, StoreError> {
    let mut sql = String::from(
        "SELECT t.id, t.record, r.moving FROM task t JOIN record r ON r.ord = t.ord WHERE t.id < ?1 AND t.id >= ?6",
    );
    if query.user.is_some() {
        sql.push_str(" AND t.user = ?2");
    }
    if query.repo.is_some() {
        sql.push_str(" AND t.repo = ?3");
    }
    if !query.statuses.is_empty() {
        sql.push_str(" AND r.status IN (SELECT value FROM json_each(?4))");
        if query.statuses.iter().all(|s| !s.is_terminal()) {
            // The index of open tasks serves only whoever says so.
            sql.push_str(" AND r.ended IS NULL AND r.id < ?1 AND r.id >= ?6");
        }
    }
    sql.push_str(" ORDER BY t.id DESC LIMIT ?5 + 0");
    // Ids are of 0-9 and A-Z: `~` is behind them all.
    let first_of = |t: Timestamp| TaskId::from_parts(t, 0).to_string();
    let before = query.before.map(|id| id.to_string()).into_iter().chain(query.until.map(first_of)).min();
    let before = before.unwrap_or_else(|| "~".to_owned());
    let since = query.since.map(first_of).unwrap_or_default();
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(before)
        .bind(query.user.as_ref().map(|u| u.as_str()))
        .bind(query.repo.as_deref())
        .bind(list(&query.statuses))
        .bind(limit(query.limit))
        .bind(since)
        .fetch_all(pool)
        .await
        .map_err(|e| convert("list", e))?;
    let failed = |e| convert("list", e);
    let record = |r: &sqlx::sqlite::SqliteRow| {
        let record = Record { fixed: r.try_get(1).map_err(failed)?, moving: r.try_get(2).map_err(failed)? };
        let id: &str = r.try_get(0).unwrap_or_default();
        record.read("list", &format!("the record of task `{id}`"))
    };
    rows.iter().map(record).collect()
}

pub(super) async fn slots(pool: &SqlitePool) -> Result<Vec<SlotUsage>, StoreError> {
    let rows = sqlx::query("SELECT t.id, s.scope FROM slot s JOIN task t ON t.ord = s.ord ORDER BY s.scope, s.taken")
        .fetch_all(pool)
        .await
        .map_err(|e| convert("slots", e))?;
    let mut usage: Vec<SlotUsage> = Vec::new();
    for row in &rows {
        let id = task_id("slots", row)?;
        let scope: &str = row.try_get(1).map_err(|e| convert("slots", e))?;
        match usage.last_mut() {
            Some(last) if last.scope.0 == scope => last.holders.push(id),
            Some(_) | None => usage.push(SlotUsage { scope: SlotScope(scope.to_owned()), holders: vec![id] }),
        }
    }
    Ok(usage)
}

pub(super) async fn next_due(pool: &SqlitePool) -> Result<Option<Timestamp>, StoreError> {
    let at: Option<i64> = sqlx::query_scalar("SELECT min(look_at) FROM state WHERE look_at IS NOT NULL")
        .fetch_one(pool)
        .await
        .map_err(|e| convert("next_due", e))?;
    Ok(at.map(Timestamp::from_millis))
}
