//! What operators and reports ask.

use abca_core::store::{
    Burial, Counts, DeadLetter, FARTHEST, FeedCursor, FeedPage, FeedQuery, OperatorStore, StoreError, StoreErrorKind,
};
use abca_core::task::TaskStatus;
use abca_core::{TaskId, Timestamp};
use async_trait::async_trait;

use super::Postgres;
use super::read::limit;
use super::rows::{column, task_id};
use crate::group::{corrupt, event, unsigned};

/// A place in the feed: the transaction's number, the task's, the event's.
fn cursor(text: &FeedCursor) -> Result<[i64; 3], StoreError> {
    if text.0.is_empty() {
        return Ok([-1, -1, -1]);
    }
    let numbers: Option<Vec<i64>> = text.0.split('.').map(|n| n.parse().ok()).collect();
    numbers.and_then(|n| <[i64; 3]>::try_from(n).ok()).filter(|n| n.iter().all(|n| *n >= 0)).ok_or_else(|| {
        let message = format!("`{text}` is not a cursor of this store's events: begin without one");
        StoreError::new(StoreErrorKind::Invalid, "feed", message)
    })
}

#[async_trait]
impl OperatorStore for Postgres {
    /// Only events of transactions that began before every writer's that is under way: none of an earlier place can come
    /// later. The horizon is asked for first: whoever is not under way by then has ended, and the reading that follows sees it.
    async fn feed(&self, query: &FeedQuery) -> Result<FeedPage, StoreError> {
        let [told, ord, seq] = cursor(&query.after)?;
        let rows = self.reader.all("feed", sqlx::query(self.reader.sql("SELECT @.horizon()"))).await?;
        let horizon: i64 = rows.first().map(|r| column(r, "feed", 0)).transpose()?.unwrap_or(0);
        let text = "SELECT e.told, e.ord, e.seq, e.body, t.id FROM (SELECT * FROM @.event WHERE (told, ord, seq) > ($1, $2, $3) AND \
                    told < $5 ORDER BY told, ord, seq LIMIT $4) e \
                    JOIN @.task t ON t.ord = e.ord ORDER BY e.told, e.ord, e.seq";
        let rows = self
            .reader
            .all(
                "feed",
                sqlx::query(self.reader.sql(text))
                    .bind(told)
                    .bind(ord)
                    .bind(seq)
                    .bind(limit(query.limit))
                    .bind(horizon),
            )
            .await?;
        let mut page = FeedPage { events: Vec::with_capacity(rows.len()), next: query.after.clone() };
        for row in &rows {
            let (told, ord, seq): (i64, i64, i64) =
                (column(row, "feed", 0)?, column(row, "feed", 1)?, column(row, "feed", 2)?);
            page.events.push(event("feed", task_id("feed", row, 4)?, seq, column(row, "feed", 3)?)?);
            page.next = FeedCursor(format!("{told}.{ord}.{seq}"));
        }
        Ok(page)
    }

    async fn counts(&self, now: Timestamp) -> Result<Counts, StoreError> {
        let text = "SELECT 'status', status, count(*), NULL::bigint FROM @.record GROUP BY status \
                    UNION ALL SELECT 'dead', NULL, count(*), NULL FROM @.dead \
                    UNION ALL SELECT 'due', NULL, count(*), min(at) FROM (SELECT ord, min(at) AS at FROM \
                    (SELECT ord, look_at AS at FROM @.state WHERE look_at <= $1 OR look_at > $2 \
                    UNION ALL SELECT ord, at FROM @.woken WHERE at <= $1) u GROUP BY ord) d";
        let rows = self
            .reader
            .all(
                "counts",
                sqlx::query(self.reader.sql(text)).bind(now.as_millis()).bind(now.after(FARTHEST).as_millis()),
            )
            .await?;
        let mut counts = Counts::default();
        for row in &rows {
            let n = unsigned(column(row, "counts", 2)?);
            match column::<&str>(row, "counts", 0)? {
                "status" => {
                    let status: &str = column(row, "counts", 1)?;
                    let status: TaskStatus =
                        serde_json::from_value(status.into()).map_err(|e| corrupt("counts", "a status", e))?;
                    counts.by_status.insert(status, n);
                }
                "dead" => counts.dead = n,
                _ => {
                    counts.due = n;
                    counts.oldest_due = column::<Option<i64>>(row, "counts", 3)?.map(Timestamp::from_millis);
                }
            }
        }
        Ok(counts)
    }

    async fn place(&self, task: TaskId) -> Result<Option<u64>, StoreError> {
        let text = "SELECT (SELECT count(*) FROM @.record b JOIN @.task u ON u.ord = b.ord WHERE b.ended IS NULL AND \
                    b.status IN ('SUBMITTED', 'QUEUED') AND u.usr = t.usr AND u.ord < t.ord AND NOT EXISTS (SELECT 1 FROM \
                    @.dead d WHERE d.ord = b.ord)) FROM @.task t JOIN @.record r ON r.ord = t.ord WHERE t.id = $1 AND \
                    r.status IN ('SUBMITTED', 'QUEUED') AND NOT EXISTS (SELECT 1 FROM @.dead d WHERE d.ord = t.ord)";
        let rows = self.reader.all("place", sqlx::query(self.reader.sql(text)).bind(task.to_string())).await?;
        Ok(rows.first().map(|r| column(r, "place", 0)).transpose()?.map(unsigned))
    }

    async fn purge(&self, ended_before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        let purged = self.group.purge(ended_before, limit).await?;
        if purged > 0 {
            // Whole partitions of the past go at once where none of their tasks is left.
            let shed = sqlx::query(self.reader.sql("SELECT @.shed()")).execute(&self.reader.pool).await;
            if let Err(e) = shed {
                tracing::debug!(error = %e, "empty partitions are dropped another time");
            }
        }
        Ok(purged)
    }

    async fn bury(&self, batch: &[Burial]) -> Result<Vec<bool>, StoreError> {
        self.group.bury(batch).await
    }

    async fn dead_letters(&self, most: usize) -> Result<Vec<DeadLetter>, StoreError> {
        let text = "SELECT t.id, d.since, d.reason FROM @.dead d JOIN @.task t ON t.ord = d.ord ORDER BY d.since, d.ord LIMIT $1";
        let rows = self.reader.all("dead_letters", sqlx::query(self.reader.sql(text)).bind(limit(most))).await?;
        let letter = |row| {
            let since = Timestamp::from_millis(column(row, "dead_letters", 1)?);
            Ok(DeadLetter { task: task_id("dead_letters", row, 0)?, reason: column(row, "dead_letters", 2)?, since })
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
