//! Tasks read as they are, and changed if nobody else has changed them since.

use std::collections::{BTreeMap, BTreeSet};

use abca_core::TaskId;
use abca_core::store::{StoreError, StoreErrorKind, check_unread};
use abca_core::task::Signal;

use super::DynamoDb;
use super::due::{Lag, shard};
use super::edit::Edit;
use super::error::corrupt;
use super::feed::feed_key;
use super::item::{Item, Key, n, s, size, task_of, text};
use super::kept::{Kept, Parsed, Run, is_gone};
use super::units::index_writes;
use super::wire::{Attempts, Part, Wrote};

/// A change that is ready to be written, and the mark by which it is recognised.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) part: Part,
    version: String,
}

pub(super) type Found = (TaskId, Result<Kept, StoreError>);

impl DynamoDb {
    /// Main items as they are now, in no order.
    pub(super) async fn main_items(&self, op: &'static str, ids: &[TaskId]) -> Result<Vec<(TaskId, Item)>, StoreError> {
        let keys = ids.iter().map(|id| Key::task(*id)).collect();
        let items = self.wire.get_all(op, keys).await?;
        Ok(items.into_iter().filter_map(|item| Some((text(&item, "pk").and_then(task_of)?, item))).collect())
    }

    /// Tasks as they are now, in no order; those that are not there are left out.
    pub(super) async fn rows(&self, op: &'static str, ids: &[TaskId]) -> Result<Vec<Found>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        let mut parsed = Vec::new();
        for (id, result) in self.parsed(op, ids).await? {
            match result {
                Ok(p) => parsed.push((id, p)),
                Err(e) => found.push((id, Err(e))),
            }
        }
        let wants = parsed.iter().flat_map(|(_, p)| p.wants()).collect();
        let mut faults = self.wire.remember(op, &self.remembered, wants).await?;
        for (id, p) in parsed {
            let kept = match faults.remove(&id) {
                Some(e) => Err(e),
                None => self.put_together(op, id, p).await?,
            };
            found.push((id, kept));
        }
        Ok(found)
    }

    async fn put_together(
        &self,
        op: &'static str,
        id: TaskId,
        parsed: Parsed,
    ) -> Result<Result<Kept, StoreError>, StoreError> {
        let mut signals = Vec::new();
        if !parsed.inbox_aside.is_empty() {
            let names: Vec<_> = parsed.inbox_aside.iter().map(|h| (id, h.clone())).collect();
            let aside = match self.wire.get_aside(op, &names).await {
                Ok(aside) => aside,
                Err(e) if e.kind() == StoreErrorKind::Corrupt => return Ok(Err(e)),
                Err(e) => return Err(e),
            };
            for name in &names {
                let Some(json) = aside.get(name) else { continue };
                match serde_json::from_slice::<Signal>(json) {
                    Ok(signal) => signals.push(signal),
                    Err(e) => {
                        let what = format!("a signal of task {id}");
                        let newer = check_unread(op, &what, &String::from_utf8_lossy(json)).err();
                        return Ok(Err(newer.unwrap_or_else(|| corrupt(op, &what, e))));
                    }
                }
            }
        }
        Ok(parsed.put_together(op, &self.remembered, signals))
    }

    /// One task as it is now.
    pub(super) async fn row(&self, op: &'static str, id: TaskId) -> Result<Option<Kept>, StoreError> {
        match self.rows(op, &[id]).await?.pop() {
            None => Ok(None),
            Some((_, Ok(kept))) => Ok(Some(kept)),
            // What cannot be read may have been removed in between.
            Some((_, Err(e))) => match self.wire.get(op, &Key::task(id)).await? {
                Some(item) if !is_gone(&item) => Err(e),
                Some(_) | None => Ok(None),
            },
        }
    }

    /// Writes what must be there first, and makes the change ready.
    pub(super) async fn ready(
        &self,
        op: &'static str,
        before: &Kept,
        after: &mut Kept,
        lag: Lag,
    ) -> Result<Ready, StoreError> {
        let version = format!("{:016x}", fastrand::u64(..));
        let encoded = after.encode(op, before, &version, self.shards, lag)?;
        let id = after.id();
        for wide in &encoded.wide {
            self.wire.put_aside(op, id, wide).await?;
        }
        if let (Some(first), Some(last)) = (encoded.page.first(), encoded.page.last()) {
            let last = last.first + last.count.saturating_sub(1);
            self.put_page(op, id, first.first, last, &encoded.page).await?;
        }
        self.wire.put_all(op, encoded.heard.iter().map(|signal| Key::heard(id, signal).item())).await?;
        let bytes = size(&encoded.item).max(size(&before.item));
        let index = index_writes(&before.item, &encoded.item);
        let part = if before.item.is_empty() {
            Part::Put { item: encoded.item, unless: "attribute_not_exists(pk)", index }
        } else {
            let mut edit = Edit::between(Key::task(id), &before.item, &encoded.item).unchanged("v", &before.item);
            if after.row.events != before.row.events {
                // It may have been listed, and left the index, without a new version.
                edit = edit.set("fk", s(feed_key(shard(id, self.shards))));
            }
            if edit.touches("hb") {
                // Heartbeats are written without a new version.
                edit = edit.unchanged("hb", &before.item);
            }
            Part::Update { edit, bytes, index }
        };
        Ok(Ready { part, version })
    }

    async fn put_page(
        &self,
        op: &'static str,
        id: TaskId,
        first: u64,
        last: u64,
        runs: &[Run],
    ) -> Result<(), StoreError> {
        let json = super::wide::to_json(op, &runs)?;
        let mut item = Key::page(id, 'E', first, last).item();
        item.insert("d".to_owned(), super::item::b(json));
        item.insert("n".to_owned(), n(runs.len()));
        self.wire.put(op, item).await
    }

    /// Writes a change, alone or with what must move together with it. `false`: somebody was faster.
    pub(super) async fn carry_out(
        &self,
        op: &'static str,
        id: TaskId,
        ready: Ready,
        others: Vec<Part>,
    ) -> Result<bool, StoreError> {
        let Ready { part, version } = ready;
        let mut parts = vec![part];
        parts.extend(others);
        let lost = match self.wire.write_all(op, parts).await? {
            Wrote::Done => return Ok(true),
            Wrote::Lost(item) => item,
        };
        // The SDK repeats a request whose answer it did not get: the first may have been the one that was faster.
        let there = match lost {
            Some(item) => Some(item),
            None => self.wire.get(op, &Key::task(id)).await?,
        };
        Ok(there.is_some_and(|item| text(&item, "v") == Some(version.as_str())))
    }

    /// Changes what of a task concerns nobody else; `None`: it is not there. What `f` leaves as it is, is not written.
    pub(super) async fn change<T>(
        &self,
        op: &'static str,
        id: TaskId,
        lag: Lag,
        f: impl FnMut(&mut Kept) -> T,
    ) -> Result<Option<T>, StoreError> {
        self.change_from(op, id, None, lag, f).await
    }

    /// The same, beginning from what was just read.
    pub(super) async fn change_from<T>(
        &self,
        op: &'static str,
        id: TaskId,
        first: Option<Kept>,
        lag: Lag,
        mut f: impl FnMut(&mut Kept) -> T,
    ) -> Result<Option<T>, StoreError> {
        let _alone = self.locks.task(id).await;
        let mut attempts = Attempts::new(op);
        let mut first = first;
        loop {
            let (before, read) = match first.take() {
                Some(kept) => (kept, false),
                None => match self.row(op, id).await? {
                    Some(kept) => (kept, true),
                    None => return Ok(None),
                },
            };
            let mut after = before.clone();
            let answer = f(&mut after);
            if after == before {
                if read {
                    return Ok(Some(answer));
                }
                // What was read before the lock may be old.
                continue;
            }
            let ready = self.ready(op, &before, &mut after, lag).await?;
            if self.carry_out(op, id, ready, Vec::new()).await? {
                return Ok(Some(answer));
            }
            attempts.again().await?;
        }
    }

    /// Tasks by their ids; the first that cannot be read fails the call.
    pub(super) async fn readable(
        &self,
        op: &'static str,
        ids: impl IntoIterator<Item = TaskId>,
    ) -> Result<BTreeMap<TaskId, Kept>, StoreError> {
        let ids: Vec<TaskId> = ids.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
        let mut kept = BTreeMap::new();
        for (id, found) in self.rows(op, &ids).await? {
            match found {
                Ok(found) => drop(kept.insert(id, found)),
                Err(_) => drop(self.row(op, id).await?.map(|found| kept.insert(id, found))),
            }
        }
        Ok(kept)
    }
}
