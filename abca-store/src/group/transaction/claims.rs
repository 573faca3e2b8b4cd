//! Who gets due tasks, and who is told that there is room.

use std::collections::BTreeSet;

use abca_core::id::WorkerId;
use abca_core::store::{ClaimQuery, Slots, TaskRow};
use abca_core::task::{SlotScope, Snapshot};
use abca_core::{TaskId, Timestamp, UserId};

use super::super::engine::{Candidate, Engine, Sketch};
use super::super::error::is_newer;
use super::{Transaction, Trouble};

/// Behind more tasks of newer workers than this, older workers do not look for others.
const MOST_NEWER: usize = 1_000;

impl<E: Engine> Transaction<'_, E> {
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
            if answer.len() >= query.limit || !self.rows.get(&id).is_some_and(free) {
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
        let ids = self.engine.leased(workers).await?;
        self.load(ids.iter().copied()).await?;
        self.rings = true;
        let ended = ids.into_iter().filter_map(|id| self.change(id, |row| row.expire(workers, now)));
        Ok(ended.filter(|done| *done).count() as u64)
    }

    /// Due tasks, oldest first; `more` than asked for, since so many were claimed in this very transaction.
    async fn due(&mut self, query: &ClaimQuery, more: usize) -> Result<Vec<TaskId>, Trouble> {
        let mut left_alone = 0;
        loop {
            let wanted = query.limit.saturating_add(more).saturating_add(left_alone);
            let mut ids = self.engine.due(query, wanted).await?;
            self.load(ids.iter().copied()).await?;
            for id in &ids {
                if let Some(error) = self.unreadable.get(id).filter(|e| !is_newer(e)) {
                    // Out of the way, so that it does not stand in front of the others for ever.
                    tracing::error!(task = %id, error = %error, "a task that cannot be read is put aside");
                    self.engine.put_aside(*id, query.now, error.message()).await?;
                }
            }
            let found = ids.len();
            ids.retain(|id| !self.unreadable.get(id).is_some_and(is_newer));
            let newer = found - ids.len();
            // Newer workers have them. The others behind them are looked for once more, within bounds.
            if newer <= left_alone || found < wanted || newer > MOST_NEWER {
                return Ok(ids);
            }
            left_alone = newer;
        }
    }

    /// Walks the denied tasks of a scope as the core's model does: users in turn from the one after `user`.
    pub(super) async fn wake(&mut self, scope: &SlotScope, user: &UserId, now: Timestamp) -> Result<(), Trouble> {
        let mut woken = 0;
        let mut wrapped = false;
        let mut after = (user.as_str().to_owned(), i64::MAX);
        let mut lane: Option<String> = None;
        let mut ahead = 0;
        loop {
            let batch = self.engine.denied(scope, &after, ahead).await?;
            let mut over = batch.is_empty();
            for Candidate { id, user: owner, order, sketch } in batch {
                if (owner.as_str(), i64::try_from(order).unwrap_or(i64::MAX)) <= (after.0.as_str(), after.1) {
                    // Of a lane that has no more room.
                    continue;
                }
                if wrapped && owner.as_str() > user.as_str() {
                    over = true;
                    break;
                }
                if lane.as_deref() != Some(owner.as_str()) {
                    (lane, ahead) = (Some(owner.clone()), 0);
                }
                after = (owner, i64::try_from(order).unwrap_or(i64::MAX));
                if let Some(Sketch { cap, elsewhere, woken: already }) = sketch {
                    let here = (cap as usize).saturating_sub(self.scopes.holders(scope));
                    if here <= woken {
                        return Ok(());
                    }
                    if here.min(elsewhere) <= ahead {
                        after.1 = i64::MAX;
                        continue;
                    }
                    if already {
                        woken += 1;
                        ahead += 1;
                        continue;
                    }
                }
                let Some(row) = self.look_at(id).await? else { continue };
                let scopes = row.limits().iter().map(|l| l.scope.clone()).collect();
                self.glance(scopes).await?;
                let Some(row) = self.rows.get(&id).or_else(|| self.peeked.get(&id)) else { continue };
                if row.room_in(scope, &self.scopes) <= woken {
                    return Ok(());
                }
                if row.room(&self.scopes) <= ahead {
                    after.1 = i64::MAX;
                    continue;
                }
                self.wake_one(id, now)?;
                woken += 1;
                ahead += 1;
            }
            if over && wrapped {
                return Ok(());
            }
            if over {
                (wrapped, after, lane, ahead) = (true, (String::new(), 0), None, 0);
            }
        }
    }

    /// A task that may only be looked at, or one of ours.
    async fn look_at(&mut self, id: TaskId) -> Result<Option<&TaskRow>, Trouble> {
        if E::ALONE {
            self.load(std::iter::once(id)).await?;
        } else if !self.rows.contains_key(&id) {
            self.peek(&[id]).await?;
        }
        Ok(self.rows.get(&id).or_else(|| self.peeked.get(&id)))
    }

    fn wake_one(&mut self, id: TaskId, now: Timestamp) -> Result<(), Trouble> {
        self.rings = true;
        if self.change(id, |row| row.wake(now)).is_none()
            && let Some(row) = self.peeked.get_mut(&id)
            && row.wake(now)
        {
            self.engine.woken(row.order, now)?;
        }
        Ok(())
    }
}
