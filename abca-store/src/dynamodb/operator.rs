//! What operators and reports ask.

use std::collections::{BTreeMap, BTreeSet};

use abca_core::event::NewEvent;
use abca_core::store::{
    Applied, Burial, Counts, DeadLetter, FARTHEST, FeedPage, FeedQuery, OperatorStore, REASON_CHARS, StoreError,
};
use abca_core::task::SlotScope;
use abca_core::{TaskId, Timestamp};
use async_trait::async_trait;

use super::DynamoDb;
use super::due::{DEAD, ENDED, Lag, SORTED, shard, time};
use super::edit::Edit;
use super::error::partly;
use super::item::{Item, Key, n, number, s, size};
use super::kept::{Kept, dead, is_dead, is_gone, status};
use super::scopes::{Move, Moves};
use super::units::index_writes;
use super::wake::Rooms;
use super::wire::{Attempts, Part, Wrote};

/// Tasks that are counted at once.
const COUNTED: usize = 1_000;

#[async_trait]
impl OperatorStore for DynamoDb {
    /// A reader that comes to the end lists what was told since: nobody pays for a feed that nobody reads.
    async fn feed(&self, query: &FeedQuery) -> Result<FeedPage, StoreError> {
        self.fed(query).await
    }

    /// Reads every task: a read unit for each, so not every second.
    async fn counts(&self, now: Timestamp) -> Result<Counts, StoreError> {
        const OP: &str = "counts";
        let mut counts = Counts::default();
        for ids in self.every_task(OP).await?.chunks(COUNTED) {
            for (id, item) in self.main_items(OP, ids).await? {
                let Some(status) = status(&item).filter(|_| !is_gone(&item)) else { continue };
                *counts.by_status.entry(status).or_default() += 1;
                counts.dead += u64::from(is_dead(&item));
                let Ok(parsed) = super::kept::Parsed::new(OP, id, item) else { continue };
                if let Some(at) = parsed.claimable_from().filter(|t| *t <= now || *t > now.after(FARTHEST)) {
                    counts.due += 1;
                    counts.oldest_due = counts.oldest_due.into_iter().chain([at]).min();
                }
            }
        }
        Ok(counts)
    }

    /// Reads the places before it: a read unit for each waiting task of the user.
    async fn place(&self, task: TaskId) -> Result<Option<u64>, StoreError> {
        const OP: &str = "place";
        let Some(kept) = self.row(OP, task).await?.filter(|k| k.row.waits()) else { return Ok(None) };
        self.before(OP, &kept.row).await.map(Some)
    }

    /// The first ended first, and among those of a call the first accepted.
    async fn purge(&self, ended_before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        const OP: &str = "purge";
        let range = Some(("da < :a", ended_before.as_millis()));
        let mut ended = self.indexed(OP, &[ENDED], range, limit.min(SORTED)).await?;
        // A dead letter may have been ended by hand.
        ended.extend(self.indexed(OP, &[DEAD], None, SORTED).await?);
        let ids: Vec<TaskId> = ended.into_iter().map(|(id, _)| id).collect();
        let mut rows = Vec::new();
        for (id, found) in self.rows(OP, &ids).await? {
            match found {
                Ok(kept) => rows.push(kept),
                Err(e) => tracing::error!(task = %id, error = %e, "an ended task cannot be read: it is not removed"),
            }
        }
        // What is marked but was not removed to its end is not among the rows any more.
        let there: BTreeSet<TaskId> = rows.iter().map(Kept::id).collect();
        for id in ids.iter().filter(|id| !there.contains(id)) {
            self.remove_rest(OP, *id).await?;
        }
        // A dead letter that has not ended must not take the place of a task that has.
        rows.retain(|k| k.row.is_terminal() && k.row.snapshot.task.updated_at < ended_before);
        rows.sort_by_key(|k| (k.row.snapshot.task.updated_at, k.row.order));
        let mut purged = 0;
        for kept in rows.into_iter().take(limit) {
            if self.mark_gone(OP, &kept.item, Some(&kept), Vec::new()).await? {
                self.remove_rest(OP, kept.id()).await?;
                purged += 1;
            }
        }
        if purged > 0 {
            self.trim_feed(OP).await?;
        }
        Ok(purged)
    }

    async fn bury(&self, batch: &[Burial]) -> Result<Vec<bool>, StoreError> {
        let mut rooms = Rooms::default();
        let mut buried = Vec::with_capacity(batch.len());
        for burial in batch {
            let done = self.moved("bury", burial.task, burial.now, &mut rooms, |kept| kept.row.bury(burial));
            match done.await {
                Ok(done) => buried.push(done),
                Err(e) => {
                    self.wake_all(rooms).await;
                    return Err(if buried.contains(&true) { partly(e) } else { e });
                }
            }
        }
        self.wake_all(rooms).await;
        Ok(buried)
    }

    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, StoreError> {
        const OP: &str = "dead_letters";
        let found = self.indexed(OP, &[DEAD], None, SORTED).await?;
        let ids: Vec<TaskId> = found.into_iter().map(|(id, _)| id).collect();
        let mut orders: BTreeMap<TaskId, u64> = BTreeMap::new();
        for (id, found) in self.rows(OP, &ids).await? {
            orders.extend(found.ok().map(|kept| (id, kept.row.order)));
        }
        let items = self.dead_items(&ids).await?;
        let letter = |(id, item): (TaskId, Item)| {
            let (reason, since) = dead(&item)?;
            Some(DeadLetter { task: id, reason, since })
        };
        let mut letters: Vec<DeadLetter> = items.into_iter().filter_map(letter).collect();
        letters.sort_by_key(|l| (l.since, orders.get(&l.task).copied().unwrap_or(u64::MAX), l.task));
        letters.truncate(limit);
        Ok(letters)
    }

    async fn revive(&self, task: TaskId, now: Timestamp) -> Result<bool, StoreError> {
        let mut rooms = Rooms::default();
        self.moved("revive", task, now, &mut rooms, |kept| kept.row.revive(now)).await
    }

    async fn discard(&self, task: TaskId, now: Timestamp) -> Result<bool, StoreError> {
        const OP: &str = "discard";
        let _alone = self.locks.task(task).await;
        let mut attempts = Attempts::new(OP);
        loop {
            let Some(item) = self.wire.get(OP, &Key::task(task)).await? else { return Ok(false) };
            if is_gone(&item) {
                self.remove_rest(OP, task).await?;
                return Ok(false);
            }
            if !is_dead(&item) {
                return Ok(false);
            }
            let kept = match self.rows(OP, &[task]).await?.pop() {
                Some((_, Ok(kept))) => Some(kept),
                Some((_, Err(_))) | None => None,
            };
            // What it holds is in its scopes, readable or not.
            let scopes: BTreeSet<SlotScope> = match &kept {
                Some(kept) => kept.held.iter().map(|(scope, _, _)| scope.clone()).collect(),
                None => self.every_scope(OP).await?.into_iter().collect(),
            };
            let view = self.view(OP, &scopes).await?;
            let number = super::scopes::number_of(task);
            let mut moves = Moves::new();
            for (scope, seen) in &view.0 {
                for (part, share) in &seen.shares {
                    if let Some((taken, _)) = share.holders.iter().find(|(_, id)| *id == number) {
                        let freed = Move { free: Some(*taken), room: true, ..Move::default() };
                        moves.insert((scope.clone(), *part), freed);
                    }
                }
            }
            let user = abca_core::UserId::new(super::item::text(&item, "u").unwrap_or("unknown"));
            let Ok(user) = user.or_else(|_| abca_core::UserId::new("unknown")) else { return Ok(false) };
            let others = self.parts(&view, task, &moves, &user, now);
            if self.mark_gone(OP, &item, kept.as_ref(), others).await? {
                self.remove_rest(OP, task).await?;
                let mut rooms = Rooms::default();
                for (scope, part) in moves.into_keys() {
                    rooms.add(scope, &user, now, Some(part));
                }
                self.wake_all(rooms).await;
                return Ok(true);
            }
            attempts.again().await?;
        }
    }
}

impl DynamoDb {
    /// Changes a task that may leave or join the queue by it, and tells what `f` answers; `false` when that is nothing.
    async fn moved(
        &self,
        op: &'static str,
        id: TaskId,
        now: Timestamp,
        rooms: &mut Rooms,
        mut f: impl FnMut(&mut Kept) -> Option<NewEvent>,
    ) -> Result<bool, StoreError> {
        let _alone = self.locks.task(id).await;
        let mut attempts = Attempts::new(op);
        loop {
            let Some(before) = self.row(op, id).await? else { return Ok(false) };
            let mut after = before.clone();
            let Some(event) = f(&mut after) else { return Ok(false) };
            self.tell(op, &mut after, before.row.events.saturating_add(1), std::slice::from_ref(&event)).await?;
            let (was, waits) = (before.row.waits(), after.row.waits());
            let scopes = after.row.limits().iter().filter(|_| was != waits).map(|l| l.scope.clone());
            let scopes: BTreeSet<SlotScope> = scopes.collect();
            let _in_turn = self.locks.scopes(scopes.iter().map(|scope| scope.0.as_str())).await;
            let view = if scopes.is_empty() { Default::default() } else { self.view(op, &scopes).await? };
            let mut moves = Moves::new();
            let left = Applied { left_queue: was && !waits, ..Applied::default() };
            let part = |scope: &SlotScope| view.0.get(scope).map_or(0, |seen| seen.home(id));
            for scope in after.row.rooms(&left) {
                moves.insert((scope.clone(), part(&scope)), Move { room: true, ..Move::default() });
            }
            if was != waits {
                after.placed = false;
            }
            if waits && !was {
                self.take_places(op, &after.row).await?;
                for limit in after.row.limits().iter().filter(|l| l.fifo) {
                    moves.entry((limit.scope.clone(), 0)).or_default().bump = true;
                }
            }
            let ready = self.ready(op, &before, &mut after, Lag::Never).await?;
            let others = self.parts(&view, id, &moves, after.row.user(), now);
            if self.carry_out(op, id, ready, others).await? {
                if was && !waits {
                    self.leave_places(op, &after, before.placed).await;
                    for ((scope, part), moved) in &moves {
                        if moved.room && view.0.get(scope).is_some_and(|seen| seen.is_denied(*part)) {
                            rooms.add(scope.clone(), after.row.user(), now, Some(*part));
                        }
                    }
                }
                return Ok(true);
            }
            attempts.again().await?;
        }
    }

    /// Makes a dead letter of a task that cannot be read; `false` when it is one, or changed meanwhile.
    pub(super) async fn bury_unreadable(&self, id: TaskId, why: &str, now: Timestamp) -> Result<bool, StoreError> {
        const OP: &str = "bury";
        let Some(item) = self.wire.get(OP, &Key::task(id)).await? else { return Ok(false) };
        if is_dead(&item) || is_gone(&item) {
            return Ok(false);
        }
        let reason: String = why.chars().take(REASON_CHARS).collect();
        let edit = Edit::new(Key::task(id))
            .set("v", s(format!("{:016x}", fastrand::u64(..))))
            .set("xr", s(&reason))
            .set("xs", time(now))
            .set("dk", s(format!("{DEAD}{}", shard(id, self.shards))))
            .set("da", time(now))
            .remove("ss")
            // What it told cannot be read either.
            .remove("fk")
            .unchanged("v", &item);
        let bytes = size(&item) + reason.len() + 64;
        Ok(self.wire.write(OP, Part::Update { edit, bytes, index: 2 }).await? == Wrote::Done)
    }

    /// Marks a task as being removed, together with what must go in the same moment. `false`: it changed meanwhile.
    async fn mark_gone(
        &self,
        op: &'static str,
        item: &Item,
        kept: Option<&Kept>,
        others: Vec<Part>,
    ) -> Result<bool, StoreError> {
        let Some(key) = Key::of(item) else { return Ok(false) };
        let mut edit =
            Edit::new(key).set("v", s(format!("{:016x}", fastrand::u64(..)))).set("gone", n(1)).unchanged("v", item);
        // Out of every list; findable until nothing is left of it.
        let mut after = item.clone();
        for name in ["u", "r", "ak", "ss", "fk"] {
            if after.remove(name).is_some() {
                edit = edit.remove(name);
            }
        }
        if let Some(id) = super::item::text(item, "pk").and_then(super::item::task_of) {
            let entry = s(format!("{ENDED}{}", shard(id, self.shards)));
            after.insert("dk".to_owned(), entry.clone());
            edit = edit.set("dk", entry);
            if number::<i64>(item, "da").is_none() {
                edit = edit.set("da", n(0));
            }
        }
        let mut parts = vec![Part::Update { edit, bytes: size(item), index: index_writes(item, &after) }];
        let task = kept.map(|k| &k.row.snapshot.task);
        if let Some((user, key)) = task.and_then(|t| Some((&t.user, t.idempotency_key.as_ref()?))) {
            parts.push(Part::Delete(Key::idempotency(user, key)));
        }
        parts.extend(others);
        Ok(self.wire.write_all(op, parts).await? == Wrote::Done)
    }

    /// Removes what is left of a task that is marked so, its main item last.
    pub(super) async fn remove_rest(&self, op: &'static str, id: TaskId) -> Result<(), StoreError> {
        let main = Key::task(id);
        match self.wire.get(op, &main).await? {
            Some(item) if is_gone(&item) => {}
            Some(_) | None => return Ok(()),
        }
        self.remove_partition(op, &main).await?;
        let gone = Edit::new(main.clone()).when("attribute_exists(#gone)", &[]);
        self.wire.delete(op, &main, Some(gone)).await
    }
}
