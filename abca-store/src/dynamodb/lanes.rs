//! Places: of waiting tasks in the queues of scopes, and of denied ones among their users'. Written before what makes them
//! true and deleted after it: a place says where to look, the task itself whether it counts.

use std::collections::{BTreeMap, BTreeSet};

use abca_core::store::{StoreError, TaskRow};
use abca_core::task::SlotScope;
use abca_core::{TaskId, UserId};

use super::DynamoDb;
use super::edit::Edit;
use super::item::{Item, Key, lane_pk, n, number, s, text};
use super::kept::{Kept, waits};
use super::wire::Ask;

/// A place whose task does not count may be one in the making for so long; older ones are left over from a process that died.
const MAKING_US: u64 = 600_000_000;
const PAGE: usize = 16;

/// The queue of a user: every waiting task has a place there, so that its position can be told.
fn own_lane(user: &UserId) -> String {
    format!("user:{user}")
}

/// The queues that a task stands in: whether first in, first out holds there, and whether it is its user's own.
fn lanes(row: &TaskRow) -> BTreeMap<String, (bool, bool)> {
    let mut lanes: BTreeMap<String, (bool, bool)> =
        row.limits().iter().filter(|l| l.fifo).map(|l| (l.scope.0.clone(), (true, false))).collect();
    lanes.entry(own_lane(row.user())).or_default().1 = true;
    lanes
}

impl DynamoDb {
    /// Takes the places of a task that is about to wait.
    pub(super) async fn take_places(&self, op: &'static str, row: &TaskRow) -> Result<(), StoreError> {
        let id = row.snapshot.id();
        let items = lanes(row).into_iter().map(|(lane, (fifo, own))| {
            let mut item = Key::place(&lane, row.order, id).item();
            item.insert("t".to_owned(), n(self.moment()));
            if fifo {
                item.insert("f".to_owned(), n(1));
            }
            if own {
                item.insert("o".to_owned(), n(1));
            }
            item
        });
        let items: Vec<Item> = items.collect();
        self.wire.put_all(op, items.into_iter()).await
    }

    /// Leaves the places of a task that waits no more. What stays behind is passed over and swept away later.
    pub(super) async fn leave_places(&self, op: &'static str, kept: &Kept, was_denied: bool) {
        let row = &kept.row;
        let mut keys: Vec<Key> = lanes(row).into_keys().map(|lane| Key::place(&lane, row.order, kept.id())).collect();
        if was_denied {
            keys.extend(row.limits().iter().map(|l| Key::denied(&l.scope, row.user(), row.order)));
        }
        if let Err(e) = self.wire.delete_all(op, &keys).await {
            tracing::debug!(task = %kept.id(), error = %e, "a place in a queue is left over; it will be swept away");
        }
    }

    /// The greatest order that anybody has who stands in one of the task's queues now.
    pub(super) async fn last_order(&self, op: &'static str, row: &TaskRow) -> Result<u64, StoreError> {
        let asks = lanes(row).into_iter().filter(|(_, (fifo, _))| *fifo).map(|(lane, _)| Ask {
            index: None,
            hash: ("pk", lane_pk(&lane)),
            range: None,
            forward: false,
            limit: 1,
        });
        let mut last = 0;
        for ask in asks {
            let (items, _) = self.wire.page(op, &ask, None).await?;
            last = items.iter().filter_map(place_of).map(|(order, _)| order).fold(last, u64::max);
        }
        Ok(last)
    }

    /// Whether an earlier task waits in this queue.
    pub(super) async fn is_behind(&self, op: &'static str, scope: &SlotScope, order: u64) -> Result<bool, StoreError> {
        let ask = Ask {
            index: None,
            hash: ("pk", lane_pk(&scope.0)),
            range: Some(("sk < :a", vec![s(format!("{order:020}"))])),
            forward: true,
            limit: PAGE,
        };
        let mut from = None;
        loop {
            let (items, next) = self.wire.page(op, &ask, from).await?;
            let places = items.into_iter().filter(|i| i.contains_key("f"));
            let places: Vec<(Place, Item)> = places.filter_map(|i| Some((place_of(&i)?, i))).collect();
            if self.some_wait(op, &places).await? {
                return Ok(true);
            }
            let Some(next) = next else { return Ok(false) };
            from = Some(next);
        }
    }

    /// Whether somebody waits in one of these; sweeps away those that nobody waits in, once they are old.
    async fn some_wait(&self, op: &'static str, places: &[(Place, Item)]) -> Result<bool, StoreError> {
        let waiting = self.waiting(op, places.iter().map(|(place, _)| place.1)).await?;
        let old = self.moment().saturating_sub(MAKING_US);
        let mut some = false;
        for (place, item) in places {
            if waiting.contains(place) {
                some = true;
            } else if number::<u64>(item, "t").is_none_or(|made| made < old)
                && let Some(key) = Key::of(item)
            {
                let same = Edit::new(key.clone()).unchanged("t", item);
                self.wire.delete(op, &key, Some(same)).await?;
            }
        }
        Ok(some)
    }

    /// The places of those of these tasks that wait. A submission that was cut short leaves another place of its task.
    async fn waiting(
        &self,
        op: &'static str,
        ids: impl Iterator<Item = TaskId>,
    ) -> Result<BTreeSet<Place>, StoreError> {
        let ids: Vec<TaskId> = ids.collect();
        let items = self.main_items(op, &ids).await?;
        Ok(items.into_iter().filter_map(|(id, item)| Some((waits(&item)?, id))).collect())
    }

    /// How many waiting tasks of the same user are before this one.
    pub(super) async fn before(&self, op: &'static str, row: &TaskRow) -> Result<u64, StoreError> {
        let ask = Ask {
            index: None,
            hash: ("pk", lane_pk(&own_lane(row.user()))),
            range: Some(("sk < :a", vec![s(format!("{:020}", row.order))])),
            forward: true,
            limit: 1_000,
        };
        let mut from = None;
        let mut count = 0;
        loop {
            let (items, next) = self.wire.page(op, &ask, from).await?;
            let own = items.iter().filter(|i| i.contains_key("o"));
            let places: BTreeSet<Place> = own.filter_map(place_of).collect();
            let waiting = self.waiting(op, places.iter().map(|place| place.1)).await?;
            count += waiting.intersection(&places).count() as u64;
            let Some(next) = next else { return Ok(count) };
            from = Some(next);
        }
    }

    /// Writes a task down among the denied of its scopes.
    pub(super) async fn take_denied_places(&self, op: &'static str, row: &TaskRow) -> Result<(), StoreError> {
        let item = |scope: &SlotScope| {
            let mut item = Key::denied(scope, row.user(), row.order).item();
            item.insert("id".to_owned(), s(row.snapshot.id().to_string()));
            item.insert("t".to_owned(), n(self.moment()));
            item
        };
        let items: Vec<Item> = row.limits().iter().map(|l| item(&l.scope)).collect();
        self.wire.put_all(op, items.into_iter()).await
    }
}

/// Whose place it is, in its order.
type Place = (u64, TaskId);

fn place_of(item: &Item) -> Option<Place> {
    let (order, id) = text(item, "sk")?.split_once('#')?;
    Some((order.parse().ok()?, id.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use abca_core::testing::fixtures::{limit, submit, task_with_slots};

    use super::*;

    #[test]
    fn the_users_own_queue_is_the_scope_of_the_same_name() {
        let row = |slots| TaskRow::new(&submit(task_with_slots(1, slots)), 1);
        let both = lanes(&row(vec![limit("user:ann", 3, true), limit("system", 9, false)]));
        assert_eq!(both, BTreeMap::from([("user:ann".to_owned(), (true, true))]));
        let repo = lanes(&row(vec![limit("repo:x", 1, true)]));
        let want = [("repo:x".to_owned(), (true, false)), ("user:ann".to_owned(), (false, true))];
        assert_eq!(repo, BTreeMap::from(want));
    }
}
