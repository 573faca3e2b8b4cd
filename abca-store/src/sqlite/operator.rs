//! What operators and reports ask.

use abca_core::store::{
    Burial, Counts, DeadLetter, FARTHEST, FeedCursor, FeedPage, FeedQuery, OperatorStore, StoreError, StoreErrorKind,
};
use abca_core::task::TaskStatus;
use abca_core::{TaskId, Timestamp};
use async_trait::async_trait;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::Sqlite;
use super::error::convert;
use super::rows::{limit, task_id};
use crate::group::{corrupt, event, unsigned};

fn cursor(text: &FeedCursor) -> Result<i64, StoreError> {
    if text.0.is_empty() {
        return Ok(0);
    }
    text.0.parse().ok().filter(|n: &i64| *n > 0).ok_or_else(|| {
        let message = format!("`{text}` is not a cursor of this store's events: begin without one");
        StoreError::new(StoreErrorKind::Invalid, "feed", message)
    })
}

#[async_trait]
impl OperatorStore for Sqlite {
    /// Events lie in the order of their transactions, of which there is one at a time.
    async fn feed(&self, query: &FeedQuery) -> Result<FeedPage, StoreError> {
        let failed = |e| convert("feed", e);
        let rows = sqlx::query(
            "SELECT t.id, e.n, e.seq, e.body FROM event e JOIN task t ON t.ord = e.ord WHERE e.n > ?1 ORDER BY e.n LIMIT ?2 + 0",
        )
        .bind(cursor(&query.after)?)
        .bind(limit(query.limit))
        .fetch_all(&self.readers)
        .await
        .map_err(failed)?;
        let mut page = FeedPage { events: Vec::with_capacity(rows.len()), next: query.after.clone() };
        for row in &rows {
            let (seq, body): (i64, &str) = (row.try_get(2).map_err(failed)?, row.try_get(3).map_err(failed)?);
            page.events.push(event("feed", task_id("feed", row)?, seq, body)?);
            page.next = FeedCursor(row.try_get::<i64, _>(1).map_err(failed)?.to_string());
        }
        Ok(page)
    }

    async fn counts(&self, now: Timestamp) -> Result<Counts, StoreError> {
        let failed = |e| convert("counts", e);
        let rows = sqlx::query(
            "SELECT 'status', status, count(*), NULL FROM record GROUP BY status \
             UNION ALL SELECT 'dead', NULL, count(*), NULL FROM dead \
             UNION ALL SELECT 'due', NULL, count(*), min(look_at) FROM state WHERE look_at <= ?1 OR look_at > ?2",
        )
        .bind(now.as_millis())
        .bind(now.after(FARTHEST).as_millis())
        .fetch_all(&self.readers)
        .await
        .map_err(failed)?;
        let mut counts = Counts::default();
        for row in &rows {
            let n = unsigned(row.try_get(2).map_err(failed)?);
            match row.try_get::<&str, _>(0).map_err(failed)? {
                "status" => {
                    let status: &str = row.try_get(1).map_err(failed)?;
                    let status: TaskStatus =
                        serde_json::from_value(status.into()).map_err(|e| corrupt("counts", "a status", e))?;
                    counts.by_status.insert(status, n);
                }
                "dead" => counts.dead = n,
                _ => {
                    counts.due = n;
                    let oldest: Option<i64> = row.try_get(3).map_err(failed)?;
                    counts.oldest_due = oldest.map(Timestamp::from_millis);
                }
            }
        }
        Ok(counts)
    }

    async fn place(&self, task: TaskId) -> Result<Option<u64>, StoreError> {
        let place: Option<i64> = sqlx::query_scalar(
            "SELECT (SELECT count(*) FROM record b JOIN task u ON u.ord = b.ord WHERE b.ended IS NULL AND b.status IN \
             ('SUBMITTED', 'QUEUED') AND u.user = t.user AND u.ord < t.ord AND NOT EXISTS (SELECT 1 FROM dead d WHERE \
             d.ord = b.ord)) FROM task t JOIN record r ON r.ord = t.ord WHERE t.id = ?1 AND r.status IN ('SUBMITTED', \
             'QUEUED') AND NOT EXISTS (SELECT 1 FROM dead d WHERE d.ord = t.ord)",
        )
        .bind(task.to_string())
        .fetch_optional(&self.readers)
        .await
        .map_err(|e| convert("place", e))?;
        Ok(place.map(unsigned))
    }

    async fn purge(&self, ended_before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        self.group.purge(ended_before, limit).await
    }

    async fn bury(&self, batch: &[Burial]) -> Result<Vec<bool>, StoreError> {
        self.group.bury(batch).await
    }

    async fn dead_letters(&self, most: usize) -> Result<Vec<DeadLetter>, StoreError> {
        let failed = |e| convert("dead_letters", e);
        let rows = sqlx::query(
            "SELECT t.id, d.since, d.reason FROM dead d JOIN task t ON t.ord = d.ord ORDER BY d.since, d.ord LIMIT ?1 + 0",
        )
        .bind(limit(most))
        .fetch_all(&self.readers)
        .await
        .map_err(failed)?;
        let letter = |row: &SqliteRow| {
            let since = Timestamp::from_millis(row.try_get(1).map_err(failed)?);
            Ok(DeadLetter { task: task_id("dead_letters", row)?, reason: row.try_get(2).map_err(failed)?, since })
        };
        rows.iter().map(letter).collect()
    }

    async fn revive(&self, task: TaskId, now: Timestamp) -> Result<bool, StoreError> {
        self.group.revive(task, now).await
    }

    async fn discard(&self, task: TaskId, now: Timestamp) -> Result<bool, StoreError> {
        self.group.discard(task, now).await
    }
}
