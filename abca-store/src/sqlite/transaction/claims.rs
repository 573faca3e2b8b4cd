//! Who gets due tasks, and who is told that there is room.

use std::collections::BTreeSet;

use abca_core::id::WorkerId;
use abca_core::store::{ClaimQuery, FARTHEST, TaskRow};
use abca_core::task::{SlotScope, Snapshot};
use abca_core::{TaskId, Timestamp, UserId};
use sqlx::Row;

use super::super::error::corrupt;
use super::super::rows::{limit, list, task_id};
use super::{Transaction, Trouble};

impl Transaction<'_> {
    pub(super) async fn claim(
        &mut self,
        query: &ClaimQuery,
        claimed: &mut BTreeSet<TaskId>,
    ) -> Result<Vec<Snapshot>, Trouble> {
        let ids = match query.task {
            Some(id) => vec![id],
            None => self.due(query, claimed.len()).await?,
        };
        let mut answer = Vec::new();
        for id in ids {
            let free = |r: &TaskRow| {
                let due = r.is_due(query.now) && r.is_asked(query);
                r.is_free(query.now) && (query.task.is_some() || due)
            };
            if answer.len() >= query.limit || claimed.contains(&id) || !self.shelf.row(id).is_some_and(free) {
                continue;
            }
            claimed.insert(id);
            answer.extend(self.change(id, |row| {
                row.claim(query.worker, query.lease_until);
                row.snapshot.clone()
            }));
        }
        Ok(answer)
    }

    /// Ends the leases of dead workers. Looks through every task that waits for a time: it is asked for rarely.
    pub(super) async fn expire(&mut self, workers: &[WorkerId], now: Timestamp) -> Result<u64, Trouble> {
        let rows = sqlx::query(
            "SELECT t.id FROM state s JOIN task t ON t.ord = s.ord \
             WHERE s.look_at IS NOT NULL AND s.worker IN (SELECT value FROM json_each(?1))",
        )
        .bind(list(workers))
        .fetch_all(&mut *self.conn)
        .await
        .map_err(Trouble::sql("expire"))?;
        let ids = rows.iter().map(|r| task_id("expire", r)).collect::<Result<Vec<_>, _>>()?;
        self.load(ids.iter().copied()).await?;
        let ended = ids.into_iter().filter_map(|id| self.change(id, |row| row.expire(workers, now)));
        Ok(ended.filter(|done| *done).count() as u64)
    }

    /// Due tasks, oldest first; `more` than asked for, since so many were claimed in this very transaction.
    pub(super) async fn due(&mut self, query: &ClaimQuery, more: usize) -> Result<Vec<TaskId>, Trouble> {
        // Two ranges of one index, never what lies between them, all the tasks that wait; or, of the few tasks with
        // signals, those that are due.
        let row = sqlx::query(if query.signalled {
            "SELECT json_group_array(id) FROM (SELECT t.id FROM (SELECT DISTINCT ord FROM signal INDEXED BY signal_waiting WHERE body IS NOT NULL) g \
             CROSS JOIN state s ON s.ord = g.ord JOIN task t ON t.ord = s.ord \
             WHERE s.look_at <= ?1 OR s.look_at > ?3 ORDER BY s.look_at, s.ord LIMIT ?2 + 0)"
        } else {
            "SELECT json_group_array(id) FROM (SELECT * FROM (SELECT t.id FROM state s JOIN task t ON t.ord = s.ord \
             WHERE s.look_at <= ?1 ORDER BY s.look_at, s.ord LIMIT ?2 + 0) \
             UNION ALL \
             SELECT * FROM (SELECT t.id FROM state s JOIN task t ON t.ord = s.ord WHERE s.look_at > ?3 \
             ORDER BY s.look_at, s.ord LIMIT ?2 + 0))"
        })
        .bind(query.now.as_millis())
        .bind(limit(query.limit.saturating_add(more)))
        .bind(query.now.after(FARTHEST).as_millis())
        .fetch_one(&mut *self.conn)
        .await
        .map_err(Trouble::sql("claim"))?;
        let text: &str = row.try_get(0).map_err(Trouble::sql("claim"))?;
        let ids: Vec<TaskId> = serde_json::from_str(text).map_err(|e| corrupt("claim", "a task's id", e))?;
        self.load(ids.iter().copied()).await?;
        for id in ids.iter().filter(|id| self.unreadable.contains_key(id)) {
            // Out of the way for a lease's time, so that it does not stand in front of the others for ever.
            sqlx::query("UPDATE state SET look_at = ?1 WHERE ord = (SELECT ord FROM task WHERE id = ?2)")
                .bind(query.lease_until.as_millis())
                .bind(id.to_string())
                .execute(&mut *self.conn)
                .await
                .map_err(Trouble::sql("claim"))?;
        }
        Ok(ids)
    }

    /// Walks the denied tasks of a scope as the core's model does: users in turn from the one after `user`.
    pub(super) async fn wake(&mut self, scope: &SlotScope, user: &UserId, now: Timestamp) -> Result<(), sqlx::Error> {
        let mut woken = 0;
        let mut wrapped = false;
        let mut after = (user.as_str().to_owned(), i64::MAX);
        let mut ahead = 0;
        loop {
            let next = sqlx::query(
                "SELECT t.id, w.user, w.ord FROM waiting w JOIN task t ON t.ord = w.ord \
                 WHERE w.scope = ?1 AND w.denied = 1 AND (w.user, w.ord) > (?2, ?3) ORDER BY w.user, w.ord LIMIT 1",
            )
            .bind(&scope.0)
            .bind(&after.0)
            .bind(after.1)
            .fetch_optional(&mut *self.conn)
            .await?;
            let found = match &next {
                Some(row) => Some((row.try_get::<&str, _>(0)?, row.try_get::<&str, _>(1)?, row.try_get::<i64, _>(2)?)),
                None => None,
            };
            let Some((id, lane, order)) = found.filter(|(_, lane, _)| !wrapped || *lane <= user.as_str()) else {
                if wrapped {
                    return Ok(());
                }
                (wrapped, after, ahead) = (true, (String::new(), 0), 0);
                continue;
            };
            ahead = if after.0 == lane && after.1 != i64::MAX { ahead } else { 0 };
            after = (lane.to_owned(), order);
            let undone = |t: Trouble| sqlx::Error::Decode(Box::new(t.error));
            let id: TaskId = id.parse().map_err(|e| sqlx::Error::Decode(Box::new(e)))?;
            self.load(std::iter::once(id)).await.map_err(undone)?;
            let Some(row) = self.shelf.row(id) else { continue };
            let scopes = row.limits().iter().map(|l| l.scope.clone()).collect();
            self.load_scopes(scopes).await.map_err(undone)?;
            let Some(row) = self.shelf.row(id) else { continue };
            if row.room_in(scope, &self.scopes) <= woken {
                return Ok(());
            }
            if row.room(&self.scopes) <= ahead {
                after.1 = i64::MAX;
                continue;
            }
            self.change(id, |row| row.wake(now));
            woken += 1;
            ahead += 1;
        }
    }
}
