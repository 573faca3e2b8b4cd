//! The events of all tasks in an order that a reader can follow: a log for each partition of tasks, of pages that name what
//! was told.
//!
//! Whoever tells events writes nothing more than its task: the main item is in the index `feed` from then on. Readers that
//! have come to the end of the logs list what the index names: a page with the numbers of the events of up to 100 tasks, put
//! at the next number if nobody else has; then each main item is marked with how far it is listed, and leaves the index.
//! No page is put before those of the one before it are all marked, so a page may be left unmarked by a reader that dies,
//! but no event is listed twice; and since a task stays in the index until all it told is listed, none is passed over, however
//! late its writer was.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Mutex, PoisonError};

use abca_core::TaskId;
use abca_core::event::Event;
use abca_core::id::EventSeq;
use abca_core::store::{EventQuery, FeedCursor, FeedPage, FeedQuery, StoreError, StoreErrorKind};

use super::DynamoDb;
use super::edit::Edit;
use super::error::{corrupt, invalid};
use super::item::{Item, Key, MAIN, b, bytes, feed_pk, n, number, s, size, text};
use super::kept::{Parsed, is_gone};
use super::wide::to_json;
use super::wire::{Ask, Attempts, Part, Wrote, together};

const OP: &str = "feed";
/// Most tasks that a page names: as many as one request reads.
const NAMED: usize = 100;
/// Pages that are read at once.
const PAGES: usize = 4;

/// Events of a task that a page names: from the first number to the last.
type Named = (TaskId, u64, u64);

/// Where a reader stands in one log: this page, and in it this entry, and of it everything up to this number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    page: u64,
    entry: usize,
    seq: u64,
}

impl Place {
    const fn of(page: u64, entry: usize) -> Self {
        Self { page, entry, seq: 0 }
    }
}

/// Where a reader stands in all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Places(Vec<Place>);

impl fmt::Display for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, Place { page, entry, seq }) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("-")?;
            }
            write!(f, "{page}.{entry}.{seq}")?;
        }
        Ok(())
    }
}

impl Places {
    fn read(cursor: &FeedCursor, shards: u32) -> Result<Self, StoreError> {
        let shards = usize::try_from(shards).unwrap_or(1);
        if *cursor == FeedCursor::START {
            return Ok(Self(vec![Place::of(1, 0); shards]));
        }
        let place = |text: &str| {
            let mut fields = text.split('.');
            let (page, entry, seq) = (fields.next()?, fields.next()?, fields.next()?);
            let place = Place { page: page.parse().ok()?, entry: entry.parse().ok()?, seq: seq.parse().ok()? };
            (fields.next().is_none() && place.page > 0).then_some(place)
        };
        let places: Option<Vec<Place>> = cursor.0.split('-').map(place).collect();
        let places = places.map(Self).filter(|p| p.0.len() == shards && p.to_string() == cursor.0);
        places.ok_or_else(|| {
            let shown: String = cursor.0.chars().take(64).collect();
            invalid(OP, format!("`{shown}` is not a cursor of this table's events: begin without one"))
        })
    }
}

/// One log, read on from a place.
#[derive(Debug)]
struct Lane {
    shard: u32,
    place: Place,
    /// What was read, each with the place after it.
    told: VecDeque<(Event, Place)>,
    over: bool,
}

/// Where this handle goes on in the index, for each partition: whoever tells much must not keep others from being listed.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<BTreeMap<u32, Item>>);

impl Turns {
    fn take(&self, shard: u32) -> Option<Item> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&shard)
    }

    fn keep(&self, shard: u32, next: Option<Item>) {
        let Some(next) = next else { return };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(shard, next);
    }
}

fn named(page: &Item) -> Result<(u64, Vec<Named>), StoreError> {
    let what = "a page of the feed";
    let at = text(page, "sk").and_then(|sk| sk.parse().ok()).ok_or_else(|| corrupt(OP, what, "it has no number"))?;
    let json = bytes(page, "d").ok_or_else(|| corrupt(OP, what, "its attribute `d` holds no bytes"))?;
    Ok((at, serde_json::from_slice(json).map_err(|e| corrupt(OP, what, e))?))
}

impl DynamoDb {
    pub(super) async fn fed(&self, query: &FeedQuery) -> Result<FeedPage, StoreError> {
        let places = Places::read(&query.after, self.shards)?;
        let page = self.listed_after(&places, query).await?;
        if !page.events.is_empty() || query.limit == 0 || !self.list_told().await? {
            return Ok(page);
        }
        self.listed_after(&places, query).await
    }

    /// What is in the logs after these places; as the clock says between them, and in its order within each.
    async fn listed_after(&self, places: &Places, query: &FeedQuery) -> Result<FeedPage, StoreError> {
        let lane = |(shard, place): (u32, &Place)| Lane { shard, place: *place, told: VecDeque::new(), over: false };
        let mut lanes: Vec<Lane> = (0..).zip(&places.0).map(lane).collect();
        loop {
            let read: usize = lanes.iter().map(|lane| lane.told.len()).sum();
            let open = lanes.iter().filter(|lane| !lane.over).count();
            if read >= query.limit || open == 0 {
                break;
            }
            let each = (query.limit - read).div_ceil(open);
            let more = lanes.iter_mut().filter(|lane| !lane.over).map(|lane| self.read_on(lane, each)).collect();
            together(more).await?;
        }
        let mut after = places.clone();
        let mut events = Vec::new();
        while events.len() < query.limit {
            let first = |lane: &Lane| lane.told.front().map(|(event, _)| event.timestamp);
            let next = lanes.iter_mut().enumerate().filter(|(_, lane)| !lane.told.is_empty());
            let Some((i, lane)) = next.min_by_key(|(_, lane)| first(lane)) else { break };
            let Some((event, place)) = lane.told.pop_front() else { break };
            events.push(event);
            after.0.get_mut(i).into_iter().for_each(|at| *at = place);
        }
        let next = if events.is_empty() { query.after.clone() } else { FeedCursor(after.to_string()) };
        Ok(FeedPage { events, next })
    }

    /// Reads on in a log, for some `want` events more; fewer only at its end.
    async fn read_on(&self, lane: &mut Lane, want: usize) -> Result<(), StoreError> {
        let enough = lane.told.len().saturating_add(want);
        while lane.told.len() < enough {
            let ask = Ask {
                index: None,
                hash: ("pk", feed_pk(lane.shard)),
                range: Some(("sk >= :a", vec![s(Key::feed(lane.shard, lane.place.page).sk)])),
                forward: true,
                limit: PAGES,
            };
            let (items, _) = self.wire.page(OP, &ask, None).await?;
            lane.over = items.is_empty();
            if lane.over {
                break;
            }
            for item in &items {
                let (page, entries) = named(item)?;
                if page != lane.place.page {
                    // Those before it were about nothing that is still there.
                    lane.place = Place::of(page, 0);
                }
                while lane.place.entry < entries.len() && lane.told.len() < enough {
                    self.read_entries(lane, &entries, enough - lane.told.len()).await?;
                }
                if lane.place.entry < entries.len() {
                    return Ok(());
                }
                lane.place = Place::of(page.saturating_add(1), 0);
            }
        }
        Ok(())
    }

    /// Reads the events of the next entries of a page, some `want` of them.
    async fn read_entries(&self, lane: &mut Lane, entries: &[Named], want: usize) -> Result<(), StoreError> {
        let mut asked = Vec::new();
        let mut count = 0;
        for (i, (task, first, last)) in entries.iter().enumerate().skip(lane.place.entry) {
            if count >= want {
                break;
            }
            let done = if i == lane.place.entry { lane.place.seq } else { 0 };
            let after = first.saturating_sub(1).max(done);
            let limit = usize::try_from(last.saturating_sub(after)).unwrap_or(usize::MAX);
            count += limit;
            asked.push((i, EventQuery { task: *task, after: EventSeq(after), limit }));
        }
        let read = async |i: usize, query: EventQuery| match self.events_of(&query).await {
            Ok(events) => Ok((i, events)),
            Err(e) if e.kind() == StoreErrorKind::Corrupt => {
                tracing::error!(task = %query.task, error = %e, "events cannot be read: the feed passes them over");
                Ok((i, Vec::new()))
            }
            Err(e) => Err(e),
        };
        let mut found = together(asked.into_iter().map(|(i, query)| read(i, query)).collect()).await?;
        found.sort_by_key(|(i, _)| *i);
        for (i, events) in found {
            let last = entries.get(i).map_or(0, |(_, _, last)| *last);
            let next = if i + 1 < entries.len() {
                Place::of(lane.place.page, i + 1)
            } else {
                Place::of(lane.place.page.saturating_add(1), 0)
            };
            for event in events {
                let seq = event.seq.0;
                let after = if seq >= last { next } else { Place { page: lane.place.page, entry: i, seq } };
                lane.told.push_back((event, after));
            }
            lane.place = Place::of(lane.place.page, i + 1);
        }
        Ok(())
    }

    /// Lists what was told since; `true` when there is something new in the logs.
    async fn list_told(&self) -> Result<bool, StoreError> {
        let _turn = self.feeding.lock().await;
        let listed = together((0..self.shards).map(|shard| self.list_shard(shard)).collect()).await?;
        Ok(listed.contains(&true))
    }

    async fn list_shard(&self, shard: u32) -> Result<bool, StoreError> {
        let ask = Ask { index: Some("feed"), hash: ("fk", feed_key(shard)), range: None, forward: true, limit: NAMED };
        let mut from = self.turns.take(shard);
        let mut again = from.is_some();
        loop {
            let (items, next) = self.wire.page(OP, &ask, from.take()).await?;
            let ids: Vec<TaskId> = items.iter().filter_map(|i| super::item::task_of(text(i, "pk")?)).collect();
            if !ids.is_empty() && self.list_tasks(shard, &ids).await? {
                self.turns.keep(shard, next);
                return Ok(true);
            }
            from = next;
            if from.is_none() && !std::mem::take(&mut again) {
                return Ok(false);
            }
        }
    }

    /// Puts a page of what these tasks have told and nobody has listed; `false` when that is nothing.
    async fn list_tasks(&self, shard: u32, ids: &[TaskId]) -> Result<bool, StoreError> {
        let mut attempts = Attempts::new(OP);
        let mut lost = false;
        loop {
            // First the mark of the last page, then the tasks: what they say is true until somebody else puts the next page.
            let last = self.settle(shard).await?;
            let unlisted = |(id, parsed): (TaskId, Result<Parsed, StoreError>)| {
                let (listed, told) = parsed.ok()?.listed_and_told();
                (told > listed).then_some((id, listed.saturating_add(1), told))
            };
            let mut entries: Vec<Named> = self.parsed(OP, ids).await?.into_iter().filter_map(unlisted).collect();
            if entries.is_empty() {
                return Ok(lost);
            }
            entries.sort_unstable();
            let mut item = Key::feed(shard, last.saturating_add(1)).item();
            item.insert("d".to_owned(), b(to_json(OP, &entries)?));
            let put = Part::Put { item, unless: "attribute_not_exists(pk)", index: 0 };
            if self.wire.write(OP, put).await? == Wrote::Done {
                self.settle(shard).await?;
                return Ok(true);
            }
            lost = true;
            attempts.again().await?;
        }
    }

    /// Marks the tasks that the last page names, if nobody has yet; answers its number.
    async fn settle(&self, shard: u32) -> Result<u64, StoreError> {
        let ask = Ask { index: None, hash: ("pk", feed_pk(shard)), range: None, forward: false, limit: 1 };
        let (items, _) = self.wire.page(OP, &ask, None).await?;
        let Some(item) = items.first().filter(|item| text(item, "sk") != Some(MAIN)) else { return Ok(0) };
        let (page, entries) = named(item)?;
        let head = Key::new(feed_pk(shard), MAIN);
        let settled: u64 = self.wire.get(OP, &head).await?.and_then(|head| number(&head, "n")).unwrap_or(0);
        if settled < page {
            let ids: Vec<TaskId> = entries.iter().map(|(id, _, _)| *id).collect();
            let mut items: BTreeMap<TaskId, Item> = self.main_items(OP, &ids).await?.into_iter().collect();
            let marks = entries.iter().filter_map(|entry| Some(self.mark_listed(*entry, items.remove(&entry.0)?)));
            together(marks.collect()).await?;
            let edit = Edit::new(head).set("n", n(page));
            let edit = edit.when("attribute_not_exists(#n) OR #n < :page", &[(":page", n(page))]);
            self.wire.write(OP, Part::Update { edit, bytes: 0, index: 0 }).await?;
        }
        Ok(page)
    }

    /// Writes down how far a task is listed, without a new version: it disturbs nobody. It leaves the index if that was all.
    async fn mark_listed(&self, (id, first, last): Named, item: Item) -> Result<(), StoreError> {
        let mut item = item;
        let mut attempts = Attempts::new(OP);
        loop {
            if is_gone(&item) || number::<u64>(&item, "fd").unwrap_or(0).saturating_add(1) != first {
                return Ok(());
            }
            let all = Parsed::new(OP, id, item.clone()).is_ok_and(|parsed| parsed.listed_and_told().1 == last);
            let mut edit = Edit::new(Key::task(id)).set("fd", n(last)).unchanged("fd", &item);
            edit = edit.when("attribute_exists(#pk)", &[]);
            if all {
                // Who tells more meanwhile has another version, and must stay in the index.
                edit = edit.remove("fk").unchanged("v", &item);
            }
            let bytes = size(&item);
            match self.wire.write(OP, Part::Update { edit, bytes, index: u64::from(all) }).await? {
                Wrote::Done => return Ok(()),
                Wrote::Lost(Some(there)) => item = there,
                Wrote::Lost(None) => match self.wire.get(OP, &Key::task(id)).await? {
                    Some(there) => item = there,
                    None => return Ok(()),
                },
            }
            attempts.again().await?;
        }
    }

    /// Removes the first pages of the logs while none of their tasks is there any more; never the last page, whose number goes
    /// on.
    pub(super) async fn trim_feed(&self, op: &'static str) -> Result<(), StoreError> {
        for shard in 0..self.shards {
            let ask = Ask {
                index: None,
                hash: ("pk", feed_pk(shard)),
                range: Some(("sk >= :a", vec![s(Key::feed(shard, 0).sk)])),
                forward: true,
                limit: 8,
            };
            let (items, _) = self.wire.page(op, &ask, None).await?;
            let but_last = items.len().saturating_sub(1);
            for item in items.iter().take(but_last) {
                let ids: Vec<TaskId> = named(item)?.1.into_iter().map(|(id, _, _)| id).collect();
                if !self.main_items(op, &ids).await?.is_empty() {
                    break;
                }
                if let Some(key) = Key::of(item) {
                    self.wire.delete(op, &key, None).await?;
                }
            }
        }
        Ok(())
    }
}

/// The partition of the index `feed` for tasks that told what is not listed yet.
pub(super) fn feed_key(shard: u32) -> String {
    format!("f{shard}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_this_table_gave_is_a_cursor() {
        let read = |text: &str| Places::read(&FeedCursor(text.to_owned()), 2);
        let start = read("").unwrap();
        assert_eq!(start.to_string(), "1.0.0-1.0.0");
        let some = Places(vec![Place { page: 7, entry: 3, seq: 41 }, Place::of(1, 0)]);
        assert_eq!(read(&some.to_string()).unwrap(), some);
        for other in ["1.0.0", "1.0.0-1.0.0-1.0.0", "0.0.0-1.0.0", "1.0-1.0.0", "01.0.0-1.0.0", "7", "'; nonsense"] {
            assert_eq!(read(other).unwrap_err().kind(), StoreErrorKind::Invalid, "{other}");
        }
    }
}
