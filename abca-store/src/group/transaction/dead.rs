//! Dead letters, and tasks that are removed.

use std::collections::BTreeSet;

use abca_core::event::NewEvent;
use abca_core::store::{Applied, Burial, StoreError, TaskRow};
use abca_core::{TaskId, Timestamp};

use super::super::bodies::Bodies;
use super::super::engine::Engine;
use super::{Transaction, Trouble};

impl<E: Engine> Transaction<'_, E> {
    /// Puts a task aside; `false` when it is not its holder's to put aside.
    pub(super) fn bury(&mut self, burial: &Burial) -> Result<bool, StoreError> {
        let id = burial.task;
        let Some(row) = self.rows.get_mut(&id) else { return Ok(false) };
        let (waited, first) = (row.waits(), row.events.saturating_add(1));
        let Some(event) = row.bury(burial) else { return Ok(false) };
        if waited {
            self.places.insert(id, None);
            for l in row.limits() {
                if let Some(scope) = self.scopes.0.get_mut(&l.scope) {
                    scope.waiting.remove(&row.order);
                }
            }
        }
        let left = Applied { left_queue: waited, ..Applied::default() };
        for scope in row.rooms(&left) {
            self.rooms.insert(scope, (row.user().clone(), burial.now));
        }
        self.tell_of(id, first, &event)?;
        Ok(true)
    }

    /// Takes a dead letter up again; `false` when it is none.
    pub(super) fn revive(&mut self, id: TaskId, now: Timestamp) -> Result<bool, StoreError> {
        let Some(row) = self.rows.get_mut(&id) else { return Ok(false) };
        let first = row.events.saturating_add(1);
        let Some(event) = row.revive(now) else { return Ok(false) };
        let (waits, denied) = (row.waits(), row.denied);
        if waits {
            self.queue_up(id, denied);
        }
        self.rings = true;
        self.tell_of(id, first, &event)?;
        Ok(true)
    }

    fn tell_of(&mut self, id: TaskId, first: u64, event: &NewEvent) -> Result<(), StoreError> {
        let bodies = Bodies::of_event(event)?;
        self.dirty.insert(id);
        let Some(row) = self.rows.get(&id) else { return Ok(()) };
        self.engine.dead(row)?;
        self.engine.events(row, first, bodies.iter())
    }

    /// Removes a dead letter, whether it can be read or not; `false` when it is none.
    pub(super) async fn discard(&mut self, id: TaskId, now: Timestamp) -> Result<bool, Trouble> {
        self.flush(false).await?;
        let Some(outline) = self.engine.outline(id).await?.filter(|o| o.dead) else { return Ok(false) };
        let mut scopes: BTreeSet<_> = outline.held.iter().cloned().collect();
        scopes.extend(self.rows.get(&id).into_iter().flat_map(TaskRow::limits).map(|l| l.scope.clone()));
        self.load_scopes(scopes).await?;
        self.engine.remove(&[outline.order]).await?;
        for name in outline.held {
            if let Some(scope) = self.scopes.0.get_mut(&name) {
                scope.holders = scope.holders.saturating_sub(1);
            }
            self.rooms.insert(name, (outline.user.clone(), now));
        }
        self.forget(id);
        Ok(true)
    }

    /// Removes tasks that ended before a moment; answers how many.
    pub(super) async fn purge(&mut self, before: Timestamp, limit: usize) -> Result<u64, Trouble> {
        self.flush(false).await?;
        let ended = self.engine.ended(before, limit).await?;
        let orders: Vec<u64> = ended.iter().map(|(_, order)| *order).collect();
        if !orders.is_empty() {
            self.engine.remove(&orders).await?;
        }
        ended.iter().for_each(|(id, _)| self.forget(*id));
        Ok(ended.len() as u64)
    }

    fn forget(&mut self, id: TaskId) {
        self.rows.remove(&id);
        self.peeked.remove(&id);
        self.unreadable.remove(&id);
        self.keys.retain(|_, task| *task != id);
        self.absent.insert(id);
    }
}
