//! What operators and reports ask.

use abca_core::store::{
    Burial, Counts, DeadLetter, FARTHEST, FeedCursor, FeedPage, FeedQuery, OperatorStore, StoreError, StoreErrorKind,
};
use abca_core::task::TaskStatus;
use abca_core::{TaskId, Timestamp};
use async_trait::async_trait;
use rusqlite::{Connection, Row};

use super::Sqlite;
use super::rows::{limit, number, row, rows, task_id, text};
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
        const SQL: &str = "SELECT t.id, e.n, e.seq, e.body FROM event e JOIN task t ON t.ord = e.ord WHERE e.n > ?1 \
                           ORDER BY e.n LIMIT ?2 + 0";
        let asked = [cursor(&query.after)?, limit(query.limit)];
        let read = |r: &Row<'_>| {
            let told = event("feed", task_id("feed", r)?, number(r, "feed", 2)?, text(r, "feed", 3)?)?;
            Ok::<_, StoreError>((number::<i64>(r, "feed", 1)?, told))
        };
        let found = self.readers.read("feed", move |conn| rows(conn, "feed", SQL, asked, read)).await?;
        let next = found.last().map_or_else(|| query.after.clone(), |(n, _)| FeedCursor(n.to_string()));
        Ok(FeedPage { events: found.into_iter().map(|(_, told)| told).collect(), next })
    }

    async fn counts(&self, now: Timestamp) -> Result<Counts, StoreError> {
        const SQL: &str = "SELECT 'status', status, count(*), NULL FROM record GROUP BY status \
                           UNION ALL SELECT 'dead', NULL, count(*), NULL FROM dead \
                           UNION ALL SELECT 'due', NULL, count(*), min(look_at) FROM state \
                           WHERE look_at <= ?1 OR look_at > ?2";
        let asked = [now.as_millis(), now.after(FARTHEST).as_millis()];
        let count = move |conn: &Connection| {
            let mut counts = Counts::default();
            rows(conn, "counts", SQL, asked, |r| {
                let n = unsigned(number(r, "counts", 2)?);
                match text(r, "counts", 0)? {
                    "status" => {
                        let status: TaskStatus = serde_json::from_value(text(r, "counts", 1)?.into())
                            .map_err(|e| corrupt("counts", "a status", e))?;
                        counts.by_status.insert(status, n);
                    }
                    "dead" => counts.dead = n,
                    _ => {
                        counts.due = n;
                        counts.oldest_due = number::<Option<i64>>(r, "counts", 3)?.map(Timestamp::from_millis);
                    }
                }
                Ok::<_, StoreError>(())
            })?;
            Ok(counts)
        };
        self.readers.read("counts", count).await
    }

    async fn place(&self, task: TaskId) -> Result<Option<u64>, StoreError> {
        const SQL: &str = "SELECT (SELECT count(*) FROM record b JOIN task u ON u.ord = b.ord WHERE b.ended IS NULL AND b.status IN \
             ('SUBMITTED', 'QUEUED') AND u.user = t.user AND u.ord < t.ord AND NOT EXISTS (SELECT 1 FROM dead d WHERE \
             d.ord = b.ord)) FROM task t JOIN record r ON r.ord = t.ord WHERE t.id = ?1 AND r.status IN ('SUBMITTED', \
             'QUEUED') AND NOT EXISTS (SELECT 1 FROM dead d WHERE d.ord = t.ord)";
        let read = |r: &Row<'_>| Ok::<_, StoreError>(unsigned(number(r, "place", 0)?));
        self.readers.read("place", move |conn| row(conn, "place", SQL, [task.to_string()], read)).await
    }

    async fn purge(&self, ended_before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        self.group.purge(ended_before, limit).await
    }

    async fn bury(&self, batch: &[Burial]) -> Result<Vec<bool>, StoreError> {
        self.group.bury(batch).await
    }

    async fn dead_letters(&self, most: usize) -> Result<Vec<DeadLetter>, StoreError> {
        const SQL: &str = "SELECT t.id, d.since, d.reason FROM dead d JOIN task t ON t.ord = d.ord \
                           ORDER BY d.since, d.ord LIMIT ?1 + 0";
        let letter = |r: &Row<'_>| {
            let since = Timestamp::from_millis(number(r, "dead_letters", 1)?);
            let reason = text(r, "dead_letters", 2)?.to_owned();
            Ok::<_, StoreError>(DeadLetter { task: task_id("dead_letters", r)?, reason, since })
        };
        let asked = [limit(most)];
        self.readers.read("dead_letters", move |conn| rows(conn, "dead_letters", SQL, asked, letter)).await
    }

    async fn revive(&self, task: TaskId, now: Timestamp) -> Result<bool, StoreError> {
        self.group.revive(task, now).await
    }

    async fn discard(&self, task: TaskId, now: Timestamp) -> Result<bool, StoreError> {
        self.group.discard(task, now).await
    }
}
