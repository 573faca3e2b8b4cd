//! The index of what is due: only used to find. What is true stands in the main item.

use std::collections::BTreeMap;

use abca_core::id::WorkerId;
use abca_core::store::{ClaimQuery, FARTHEST, StoreError, StoreErrorKind, TaskRow};
use abca_core::task::Snapshot;
use abca_core::{TaskId, Timestamp};
use aws_sdk_dynamodb::types::AttributeValue;

use super::DynamoDb;
use super::item::{Item, n, number, task_of, text};
use super::kept::{Kept, Parsed, is_dead, is_gone};
use super::wire::{Ask, together};

/// Waits for a time, nothing in its inbox.
pub(super) const PLAIN: char = 'd';
/// Waits for a time, and has something in its inbox.
pub(super) const SIGNALLED: char = 's';
/// Has ended: the time is when.
pub(super) const ENDED: char = 'e';
/// Was put aside: the time is when.
pub(super) const DEAD: char = 'x';

/// Entries of one partition that are read at once.
const PAGE: usize = 32;
/// Most entries that are put in order among each other.
pub(super) const SORTED: usize = 10_000;

/// Where a task stands in the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) kind: char,
    pub(super) at: i64,
}

/// Whether an entry may lie before the time it stands for, to save its move: whoever finds it looks at the task itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lag {
    /// No.
    Never,
    /// If it did already.
    AsBefore,
    /// If it lies before this moment.
    Since(Timestamp),
}

/// The partition of a task.
pub(super) fn shard(id: TaskId, shards: u32) -> u32 {
    // The end of a ULID is random.
    let random = id.to_string().bytes().rev().take(8).fold(0_u32, |sum, b| sum.wrapping_mul(31).wrapping_add(b.into()));
    random % shards.max(1)
}

fn stored(item: &Item) -> Option<Entry> {
    Some(Entry { kind: text(item, "dk")?.chars().next()?, at: number(item, "da")? })
}

/// The entry of a task after a change. While it is worked on, an entry that lies in the past stays where it is: the next
/// change of hands moves it, and most come soon.
pub(super) fn entry(before: &TaskRow, item: &Item, after: &TaskRow, lag: Lag) -> Option<Entry> {
    if let Some((_, since)) = &after.dead {
        return Some(Entry { kind: DEAD, at: since.as_millis() });
    }
    if after.is_terminal() {
        return Some(Entry { kind: ENDED, at: after.snapshot.task.updated_at.as_millis() });
    }
    let kind = if after.snapshot.signals.is_empty() { PLAIN } else { SIGNALLED };
    let at = after.claimable_from()?.as_millis();
    let exact = Entry { kind, at };
    let Some(there) = stored(item).filter(|e| [PLAIN, SIGNALLED].contains(&e.kind)) else { return Some(exact) };
    let lags = match lag {
        Lag::Never => false,
        Lag::AsBefore => before.claimable_from().is_some_and(|t| there.at < t.as_millis()),
        Lag::Since(now) => {
            there.at <= now.as_millis() || before.claimable_from().is_some_and(|t| there.at < t.as_millis())
        }
    };
    let finds = there.at <= at && (there.kind == kind || there.kind == SIGNALLED);
    Some(if after.lease.is_some() && lags && finds { there } else { exact })
}

/// One partition of the index, read page by page.
#[derive(Debug)]
struct Lane {
    ask: Ask<'static>,
    from: Option<Item>,
    over: bool,
}

impl DynamoDb {
    fn lanes(&self, kinds: &[char], range: Option<(&'static str, i64)>, page: usize) -> Vec<Lane> {
        let lane = |kind: char, shard: u32| Lane {
            ask: Ask {
                index: Some("due"),
                hash: ("dk", format!("{kind}{shard}")),
                range: range.map(|(clause, at)| (clause, vec![n(at)])),
                forward: true,
                limit: page,
            },
            from: None,
            over: false,
        };
        kinds.iter().flat_map(|kind| (0..self.shards).map(move |shard| lane(*kind, shard))).collect()
    }

    /// The next page of each partition that has one: partition keys with their times.
    async fn turn(&self, op: &'static str, lanes: &mut [Lane]) -> Result<Vec<(String, i64)>, StoreError> {
        let mut pages = Vec::with_capacity(lanes.len());
        for lane in lanes.iter_mut() {
            if !lane.over {
                pages.push(self.next_page(op, lane));
            }
        }
        Ok(together(pages).await?.concat())
    }

    async fn next_page(&self, op: &'static str, lane: &mut Lane) -> Result<Vec<(String, i64)>, StoreError> {
        let (items, next) = self.wire.page(op, &lane.ask, lane.from.take()).await?;
        lane.over = next.is_none();
        lane.from = next;
        Ok(items.iter().filter_map(|i| Some((text(i, "pk")?.to_owned(), number(i, "da")?))).collect())
    }

    /// Everything in the index of these kinds, up to so many; by time.
    pub(super) async fn indexed(
        &self,
        op: &'static str,
        kinds: &[char],
        range: Option<(&'static str, i64)>,
        most: usize,
    ) -> Result<Vec<(TaskId, i64)>, StoreError> {
        let mut lanes = self.lanes(kinds, range, most.min(500));
        let mut found = Vec::new();
        while lanes.iter().any(|lane| !lane.over) && found.len() < most {
            let page = self.turn(op, &mut lanes).await?;
            found.extend(page.into_iter().filter_map(|(pk, at)| Some((task_of(&pk)?, at))));
        }
        found.sort_by_key(|(id, at)| (*at, *id));
        Ok(found)
    }

    pub(super) async fn claim_due(&self, query: &ClaimQuery) -> Result<Vec<Snapshot>, StoreError> {
        const OP: &str = "claim";
        // One at a time in a process: they would all take the same ones first.
        let _turn = self.claiming.lock().await;
        let (now, far) = (query.now.as_millis(), query.now.after(FARTHEST).as_millis());
        let kinds: &[char] = if query.signalled { &[SIGNALLED] } else { &[PLAIN, SIGNALLED] };
        let mut claimed = Vec::new();
        for range in [("da <= :a", now), ("da > :a", far)] {
            let mut lanes = self.lanes(kinds, Some(range), query.limit.max(PAGE));
            while claimed.len() < query.limit && lanes.iter().any(|lane| !lane.over) {
                let page = self.turn(OP, &mut lanes).await?;
                let (scopes, tasks): (Vec<_>, Vec<_>) = page.into_iter().partition(|(pk, _)| pk.starts_with("S#"));
                for (pk, _) in scopes {
                    self.finish_wake(&pk).await;
                }
                let ids: Vec<TaskId> = tasks.iter().filter_map(|(pk, _)| task_of(pk)).collect();
                for kept in self.due_among(&ids, query).await? {
                    if claimed.len() >= query.limit {
                        break;
                    }
                    claimed.extend(self.claim_one(kept.id(), Some(kept), query).await?);
                }
            }
        }
        Ok(claimed)
    }

    /// Those of these tasks that are due, the oldest first. What cannot be read is put aside.
    async fn due_among(&self, ids: &[TaskId], query: &ClaimQuery) -> Result<Vec<Kept>, StoreError> {
        let mut due = Vec::new();
        for (id, found) in self.rows("claim", ids).await? {
            match found {
                Ok(kept) if kept.row.is_due(query.now) && kept.row.is_asked(query) => due.push(kept),
                Ok(_) => {}
                Err(newer) if newer.kind() == StoreErrorKind::Incompatible => tell_newer(&newer),
                Err(unreadable) => self.put_aside_unreadable(id, &unreadable, query.now).await,
            }
        }
        due.sort_by_key(|k| (k.row.claimable_from(), k.row.order));
        Ok(due)
    }

    /// Leases a task if it may be had, read before or not.
    pub(super) async fn claim_one(
        &self,
        id: TaskId,
        first: Option<Kept>,
        query: &ClaimQuery,
    ) -> Result<Option<Snapshot>, StoreError> {
        let named = query.task.is_some();
        let claimed = self.change_from("claim", id, first, Lag::Since(query.now), |kept| {
            let due = kept.row.is_due(query.now) && kept.row.is_asked(query);
            let may = kept.row.is_free(query.now) && (named || due);
            may.then(|| {
                kept.row.claim(query.worker, query.lease_until);
                kept.row.snapshot.clone()
            })
        });
        Ok(claimed.await?.flatten())
    }

    /// Ends the leases of dead workers. Looks at every task that waits for a time: it is asked for rarely.
    pub(super) async fn expire_leases(&self, workers: &[WorkerId], now: Timestamp) -> Result<u64, StoreError> {
        const OP: &str = "expire";
        let mut lanes = self.lanes(&[PLAIN, SIGNALLED], None, 500);
        let mut ended = 0;
        let mut seen = BTreeMap::new();
        while lanes.iter().any(|lane| !lane.over) {
            let ids = self.turn(OP, &mut lanes).await?.into_iter().filter_map(|(pk, _)| task_of(&pk));
            // An entry that moves while they are read may be met twice.
            let ids: Vec<TaskId> = ids.filter(|id| seen.insert(*id, ()).is_none()).collect();
            for (id, found) in self.rows(OP, &ids).await? {
                let Ok(kept) = found else { continue };
                if kept.row.lease.is_none_or(|l| !workers.contains(&l.worker)) {
                    continue;
                }
                let done = self.change_from(OP, id, Some(kept), Lag::AsBefore, |k| k.row.expire(workers, now));
                ended += u64::from(done.await?.unwrap_or(false));
            }
        }
        Ok(ended)
    }

    /// The earliest time that anything waits for: entries may lie before their tasks' times, so the tasks are asked.
    pub(super) async fn earliest_due(&self) -> Result<Option<Timestamp>, StoreError> {
        const OP: &str = "next_due";
        let mut lanes = self.lanes(&[PLAIN, SIGNALLED], None, 8);
        let mut best: Option<Timestamp> = None;
        while lanes.iter().any(|lane| !lane.over) {
            let mut page = self.turn(OP, &mut lanes).await?;
            page.sort_by_key(|(_, at)| *at);
            let ids: Vec<TaskId> = page.iter().filter_map(|(pk, _)| task_of(pk)).collect();
            let scope = page.iter().find(|(pk, _)| pk.starts_with("S#")).map(|(_, at)| Timestamp::from_millis(*at));
            let times = self.parsed(OP, &ids).await?.into_iter();
            let times = times.filter_map(|(_, p)| p.ok()).filter_map(|p| p.claimable_from());
            best = best.into_iter().chain(times).chain(scope).min();
            // A partition whose entries begin later than that has nothing to say any more.
            if let Some(best) = best {
                for lane in &mut lanes {
                    let next = lane.from.as_ref().and_then(|from| number::<i64>(from, "da"));
                    lane.over |= next.is_some_and(|at| at >= best.as_millis());
                }
            }
        }
        Ok(best)
    }

    /// Main items of tasks, not put together; without what is being removed.
    pub(super) async fn parsed(
        &self,
        op: &'static str,
        ids: &[TaskId],
    ) -> Result<Vec<(TaskId, Result<Parsed, StoreError>)>, StoreError> {
        let items = self.main_items(op, ids).await?;
        let there = items.into_iter().filter(|(_, item)| !is_gone(item));
        Ok(there.map(|(id, item)| (id, Parsed::new(op, id, item))).collect())
    }

    /// Takes a task that cannot be read out of everybody's way, and names it: it is a dead letter now.
    async fn put_aside_unreadable(&self, id: TaskId, why: &StoreError, now: Timestamp) {
        let result = self.bury_unreadable(id, why.message(), now).await;
        match result {
            Ok(true) => {
                tracing::error!(task = %id, error = %why, "a task cannot be read: it is put aside as a dead letter");
            }
            Ok(false) => {}
            Err(e) => tracing::error!(task = %id, error = %why, trouble = %e, "a task cannot be read, nor put aside"),
        }
    }

    /// Whether the entry speaks of a dead letter that cannot be read.
    pub(super) async fn dead_items(&self, ids: &[TaskId]) -> Result<Vec<(TaskId, Item)>, StoreError> {
        let items = self.main_items("dead_letters", ids).await?;
        Ok(items.into_iter().filter(|(_, item)| is_dead(item) && !is_gone(item)).collect())
    }
}

/// Says once in a process that there are tasks of a newer program: a worker that is not upgraded yet meets them again and
/// again, and leaves them alone.
fn tell_newer(error: &StoreError) {
    static TOLD: std::sync::Once = std::sync::Once::new();
    TOLD.call_once(|| tracing::warn!(%error, "tasks of a newer abca are left to newer workers; this is said once"));
}

/// A time as an operand.
pub(super) fn time(at: Timestamp) -> AttributeValue {
    n(at.as_millis())
}

#[cfg(test)]
mod tests {
    use abca_core::testing::fixtures::{at, submit, task, worker};

    use super::*;
    use crate::dynamodb::item::s;

    fn item(kind: char, at: Timestamp) -> Item {
        Item::from([("dk".to_owned(), s(format!("{kind}0"))), ("da".to_owned(), time(at))])
    }

    #[test]
    fn an_entry_stays_where_it_is_while_its_task_is_worked_on() {
        let before = TaskRow::new(&submit(task(1)), 1);
        let there = entry(&before, &Item::new(), &before, Lag::Never).unwrap();
        assert_eq!(there, Entry { kind: PLAIN, at: before.due.unwrap().as_millis() });
        let mut claimed = before.clone();
        claimed.claim(worker(1), at(90));
        let stored = item(PLAIN, before.due.unwrap());
        let exact = Entry { kind: PLAIN, at: at(90).as_millis() };
        assert_eq!(entry(&before, &stored, &claimed, Lag::Since(at(50))), Some(there), "it is past: no write");
        assert_eq!(entry(&before, &stored, &claimed, Lag::Never), Some(exact));
        let ahead = item(PLAIN, at(60));
        assert_eq!(entry(&before, &ahead, &claimed, Lag::Since(at(50))), Some(exact), "it is not past");
        assert_eq!(entry(&claimed, &stored, &claimed, Lag::AsBefore), Some(there), "it lagged before");
        let mut released = claimed.clone();
        released.lease = None;
        released.due = Some(at(70));
        let moved = Entry { kind: PLAIN, at: at(70).as_millis() };
        assert_eq!(entry(&claimed, &stored, &released, Lag::Since(at(55))), Some(moved), "nobody has it any more");
    }

    #[test]
    fn tasks_spread_over_the_partitions() {
        let used: std::collections::BTreeSet<u32> =
            (0..64).map(|n| shard(TaskId::from_parts(at(n), u128::from(n * 7_919)), 4)).collect();
        assert_eq!(used.len(), 4);
        assert_eq!(shard(TaskId::from_parts(at(1), 1), 1), 0);
    }
}
