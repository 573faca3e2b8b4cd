//! Reads: each is one statement, so it sees one moment.

use abca_core::event::Event;
use abca_core::id::IdempotencyKey;
use abca_core::session::LogRecord;
use abca_core::store::{EventQuery, ListQuery, LogQuery, SlotUsage, StoreError};
use abca_core::task::{SlotScope, Snapshot, Task};
use abca_core::{TaskId, Timestamp, UserId};
use rusqlite::types::Value;
use rusqlite::{Row, params, params_from_iter};

use super::readers::Readers;
use super::rows::{event, limit, list, number, numbered, row, rows, select_rows, task_id, task_row, text};
use crate::group::{Record, signed};

pub(super) async fn load(readers: &Readers, ids: &[TaskId]) -> Result<Vec<Option<Snapshot>>, StoreError> {
    const SQL: &str = select_rows!("WHERE t.id IN (SELECT value FROM json_each(?1))");
    let asked = list(ids);
    let read = |r: &Row<'_>| Ok::<_, StoreError>((task_id("load", r)?, task_row("load", r)?.snapshot));
    let found = readers.read("load", move |conn| rows(conn, "load", SQL, [asked], read)).await?;
    let found: std::collections::BTreeMap<_, _> = found.into_iter().collect();
    Ok(ids.iter().map(|id| found.get(id).cloned()).collect())
}

pub(super) async fn find(readers: &Readers, user: &UserId, key: &IdempotencyKey) -> Result<Option<TaskId>, StoreError> {
    const SQL: &str = "SELECT id FROM task WHERE user = ?1 AND idem = ?2";
    let asked = [user.as_str().to_owned(), key.as_str().to_owned()];
    readers.read("find", move |conn| row(conn, "find", SQL, asked, |r| task_id("find", r))).await
}

pub(super) async fn events(readers: &Readers, query: &EventQuery) -> Result<Vec<Event>, StoreError> {
    const SQL: &str = "SELECT seq, body FROM event WHERE ord = (SELECT ord FROM task WHERE id = ?1) AND seq > ?2 \
                       ORDER BY seq LIMIT ?3 + 0";
    let (task, after, most) = (query.task, signed(query.after.0), limit(query.limit));
    let read = move |r: &Row<'_>| event("events", task, r);
    readers.read("events", move |conn| rows(conn, "events", SQL, params![task.to_string(), after, most], read)).await
}

pub(super) async fn log(readers: &Readers, query: &LogQuery) -> Result<Vec<(u64, LogRecord)>, StoreError> {
    const SQL: &str = "SELECT seq, body FROM log WHERE ord = (SELECT ord FROM task WHERE id = ?1) AND seq > ?2 \
                       ORDER BY seq LIMIT ?3 + 0";
    let (task, after, most) = (query.task, signed(query.after), limit(query.limit));
    let read = move |r: &Row<'_>| numbered("log", task, r);
    readers.read("log", move |conn| rows(conn, "log", SQL, params![task.to_string(), after, most], read)).await
}

pub(super) async fn list_tasks(readers: &Readers, query: &ListQuery) -> Result<Vec<Task>, StoreError> {
    let mut sql = String::from(
        "SELECT t.id, t.record, r.moving FROM task t JOIN record r ON r.ord = t.ord WHERE t.id < ?1 AND t.id >= ?2",
    );
    // Ids are of 0-9 and A-Z: `~` is behind them all.
    let first_of = |t: Timestamp| TaskId::from_parts(t, 0).to_string();
    let before = query.before.map(|id| id.to_string()).into_iter().chain(query.until.map(first_of)).min();
    let mut asked: Vec<Value> =
        vec![before.unwrap_or_else(|| "~".to_owned()).into(), query.since.map(first_of).unwrap_or_default().into()];
    if let Some(user) = &query.user {
        asked.push(user.as_str().to_owned().into());
        sql.push_str(&format!(" AND t.user = ?{}", asked.len()));
    }
    if let Some(repo) = &query.repo {
        asked.push(repo.clone().into());
        sql.push_str(&format!(" AND t.repo = ?{}", asked.len()));
    }
    if !query.statuses.is_empty() {
        asked.push(list(&query.statuses).into());
        sql.push_str(&format!(" AND r.status IN (SELECT value FROM json_each(?{}))", asked.len()));
        if query.statuses.iter().all(|s| !s.is_terminal()) {
            // The index of open tasks serves only whoever says so.
            sql.push_str(" AND r.ended IS NULL AND r.id < ?1 AND r.id >= ?2");
        }
    }
    asked.push(limit(query.limit).into());
    sql.push_str(&format!(" ORDER BY t.id DESC LIMIT ?{} + 0", asked.len()));
    let read = |r: &Row<'_>| {
        let record = Record { fixed: text(r, "list", 1)?, moving: text(r, "list", 2)? };
        record.read("list", &format!("the record of task `{}`", text(r, "list", 0)?))
    };
    readers.read("list", move |conn| rows(conn, "list", &sql, params_from_iter(asked), read)).await
}

pub(super) async fn slots(readers: &Readers) -> Result<Vec<SlotUsage>, StoreError> {
    const SQL: &str = "SELECT t.id, s.scope FROM slot s JOIN task t ON t.ord = s.ord ORDER BY s.scope, s.taken";
    let read = |r: &Row<'_>| Ok::<_, StoreError>((task_id("slots", r)?, text(r, "slots", 1)?.to_owned()));
    let found = readers.read("slots", move |conn| rows(conn, "slots", SQL, [], read)).await?;
    let mut usage: Vec<SlotUsage> = Vec::new();
    for (id, scope) in found {
        match usage.last_mut() {
            Some(last) if last.scope.0 == scope => last.holders.push(id),
            Some(_) | None => usage.push(SlotUsage { scope: SlotScope(scope), holders: vec![id] }),
        }
    }
    Ok(usage)
}

pub(super) async fn next_due(readers: &Readers) -> Result<Option<Timestamp>, StoreError> {
    const SQL: &str = "SELECT min(look_at) FROM state WHERE look_at IS NOT NULL";
    let read = |r: &Row<'_>| number::<Option<i64>>(r, "next_due", 0);
    let at = readers.read("next_due", move |conn| row(conn, "next_due", SQL, [], read)).await?;
    Ok(at.flatten().map(Timestamp::from_millis))
}
