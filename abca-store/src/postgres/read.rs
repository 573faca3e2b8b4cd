//! Reads: each is one statement, so it sees one moment.

use std::collections::BTreeMap;

use abca_core::event::Event;
use abca_core::id::IdempotencyKey;
use abca_core::session::LogRecord;
use abca_core::store::{EventQuery, ListQuery, LogQuery, SlotUsage, StoreError};
use abca_core::task::{SlotScope, Snapshot, Task};
use abca_core::{TaskId, Timestamp, UserId};
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, PgPool, Postgres};

use super::config::PostgresConfig;
use super::error::{convert, within};
use super::rows::{column, task_id, task_row};
use crate::group::{Record, event, numbered, signed};

/// What reads go through: connections of their own, and the schema's name.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) pool: PgPool,
    config: std::sync::Arc<PostgresConfig>,
}

pub(super) fn limit(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// The columns of [`record`].
const RECORD: &str = "SELECT t.id, t.fixed, r.moving FROM @.task t JOIN @.record r ON r.ord = t.ord";

fn record(row: &PgRow) -> Result<Task, StoreError> {
    let id: &str = column(row, "list", 0)?;
    let record = Record { fixed: column(row, "list", 1)?, moving: column(row, "list", 2)? };
    record.read("list", &format!("the record of task `{id}`"))
}

impl Reader {
    pub(super) fn new(config: std::sync::Arc<PostgresConfig>) -> Self {
        Self { pool: config.pool(), config }
    }

    pub(super) fn sql(&self, text: &str) -> AssertSqlSafe<String> {
        AssertSqlSafe(self.config.sql(text))
    }

    pub(super) async fn all(
        &self,
        op: &'static str,
        query: Query<'_, Postgres, PgArguments>,
    ) -> Result<Vec<PgRow>, StoreError> {
        within(self.config.answer_timeout(), query.fetch_all(&self.pool)).await.map_err(|e| convert(op, e))
    }

    pub(super) async fn load(&self, ids: &[TaskId]) -> Result<Vec<Option<Snapshot>>, StoreError> {
        let names: Vec<String> = ids.iter().map(ToString::to_string).collect();
        let rows = self.all("load", sqlx::query(self.sql("SELECT * FROM @.look($1)")).bind(names)).await?;
        let mut found = BTreeMap::new();
        for row in &rows {
            found.insert(task_id("load", row, 0)?, task_row("load", row)?.snapshot);
        }
        Ok(ids.iter().map(|id| found.get(id).cloned()).collect())
    }

    pub(super) async fn find(&self, user: &UserId, key: &IdempotencyKey) -> Result<Option<TaskId>, StoreError> {
        let text = "SELECT id FROM @.task WHERE usr = $1 AND idem = $2";
        let query = sqlx::query(self.sql(text)).bind(user.as_str()).bind(key.as_str());
        self.all("find", query).await?.first().map(|r| task_id("find", r, 0)).transpose()
    }

    pub(super) async fn events(&self, query: &EventQuery) -> Result<Vec<Event>, StoreError> {
        let text = "SELECT e.seq, e.body FROM @.event e WHERE e.ord = (SELECT t.ord FROM @.task t WHERE t.id = $1) \
                    AND e.seq > $2 ORDER BY e.seq LIMIT $3";
        let rows = self
            .all(
                "events",
                sqlx::query(self.sql(text))
                    .bind(query.task.to_string())
                    .bind(signed(query.after.0))
                    .bind(limit(query.limit)),
            )
            .await?;
        rows.iter().map(|r| event("events", query.task, column(r, "events", 0)?, column(r, "events", 1)?)).collect()
    }

    pub(super) async fn log(&self, query: &LogQuery) -> Result<Vec<(u64, LogRecord)>, StoreError> {
        let text = "SELECT l.seq, l.body FROM @.log l WHERE l.ord = (SELECT t.ord FROM @.task t WHERE t.id = $1) \
                    AND l.seq > $2 ORDER BY l.seq LIMIT $3";
        let rows = self
            .all(
                "log",
                sqlx::query(self.sql(text))
                    .bind(query.task.to_string())
                    .bind(signed(query.after))
                    .bind(limit(query.limit)),
            )
            .await?;
        rows.iter().map(|r| numbered("log", query.task, column(r, "log", 0)?, column(r, "log", 1)?)).collect()
    }

    pub(super) async fn list(&self, query: &ListQuery) -> Result<Vec<Task>, StoreError> {
        // Ids are of 0-9 and A-Z: `~` is behind them all. Every parameter is spoken of, asked for or not.
        let mut sql = format!(
            "{RECORD} WHERE t.id < $1 AND t.id >= $2 AND ($3::text IS NULL OR t.usr = $3) AND ($4::text IS NULL OR \
             t.repo = $4) AND ($5::text[] IS NULL OR r.status = ANY ($5))"
        );
        if query.user.is_some() {
            sql.push_str(" AND t.usr = $3");
        }
        if query.repo.is_some() {
            sql.push_str(" AND t.repo = $4");
        }
        let open = !query.statuses.is_empty() && query.statuses.iter().all(|s| !s.is_terminal());
        if open {
            // The index of open tasks serves only whoever says so.
            sql.push_str(" AND r.ended IS NULL AND r.id < $1 AND r.id >= $2 AND r.status = ANY ($5)");
        }
        sql.push_str(" ORDER BY t.id DESC LIMIT $6");
        let first_of = |t: Timestamp| TaskId::from_parts(t, 0).to_string();
        let before = query.before.map(|id| id.to_string()).into_iter().chain(query.until.map(first_of)).min();
        let statuses: Vec<&str> = query.statuses.iter().map(|s| s.as_str()).collect();
        let rows = self
            .all(
                "list",
                sqlx::query(self.sql(&sql))
                    .bind(before.unwrap_or_else(|| "~".to_owned()))
                    .bind(query.since.map(first_of).unwrap_or_default())
                    .bind(query.user.as_ref().map(|u| u.as_str().to_owned()))
                    .bind(query.repo.clone())
                    .bind(Some(statuses).filter(|s| !s.is_empty()))
                    .bind(limit(query.limit)),
            )
            .await?;
        rows.iter().map(record).collect()
    }

    pub(super) async fn slots(&self) -> Result<Vec<SlotUsage>, StoreError> {
        let text = "SELECT t.id, s.scope FROM @.slot s JOIN @.task t ON t.ord = s.ord ORDER BY s.scope, s.taken";
        let rows = self.all("slots", sqlx::query(self.sql(text))).await?;
        let mut usage: Vec<SlotUsage> = Vec::new();
        for row in &rows {
            let id = task_id("slots", row, 0)?;
            let scope: &str = column(row, "slots", 1)?;
            match usage.last_mut() {
                Some(last) if last.scope.0 == scope => last.holders.push(id),
                Some(_) | None => usage.push(SlotUsage { scope: SlotScope(scope.to_owned()), holders: vec![id] }),
            }
        }
        Ok(usage)
    }

    pub(super) async fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        let text =
            "SELECT least((SELECT min(look_at) FROM @.state WHERE look_at IS NOT NULL), (SELECT min(at) FROM @.woken))";
        let rows = self.all("next_due", sqlx::query(self.sql(text))).await?;
        let at: Option<i64> = rows.first().map(|r| column(r, "next_due", 0)).transpose()?.flatten();
        Ok(at.map(Timestamp::from_millis))
    }
}
