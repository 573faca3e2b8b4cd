//! The whole store as a deterministic state machine in memory: the reference for every adapter.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::{
    Append, AppendOutcome, Applied, Burial, ClaimQuery, Commit, CommitOutcome, CommitVerdict, Counts, DeadLetter,
    EventQuery, FARTHEST, FeedCursor, FeedPage, FeedQuery, ListQuery, LogQuery, NewSignal, Release, Renewal,
    SignalOutcome, SlotUsage, Slots, StoreError, StoreErrorKind, Submit, SubmitOutcome, TaskRow, check_append,
    check_commits, check_submit,
};
use crate::event::{Event, NewEvent};
use crate::id::{EventSeq, IdempotencyKey, SessionId, TaskId, UserId, WorkerId};
use crate::session::LogRecord;
use crate::task::{SlotScope, Snapshot, Task};
use crate::time::Timestamp;

/// Tasks, events, slots, inboxes and logs in maps, with one method for each of [`super::TaskStore`]'s.
///
/// No clock and no I/O: equal calls in equal order give equal answers. The answers of a durable store are held against
/// it; the in-process store is this behind a lock. Memory grows with every task, nothing is ever dropped.
#[derive(Debug, Default, Clone)]
pub struct StoreModel {
    tasks: BTreeMap<TaskId, Entry>,
    accepted: u64,
    orders: BTreeMap<u64, TaskId>,
    keys: BTreeMap<(UserId, IdempotencyKey), TaskId>,
    due: BTreeSet<(Timestamp, u64)>,
    places: Places,
    told: Told,
}

/// Every event in the order of its telling: whose it is, and its place among that task's.
#[derive(Debug, Default, Clone)]
struct Told {
    last: u64,
    by_number: BTreeMap<u64, (TaskId, usize)>,
}

impl Told {
    fn push(&mut self, task: TaskId, place: usize) {
        self.last = self.last.saturating_add(1);
        self.by_number.insert(self.last, (task, place));
    }
}

#[derive(Debug, Clone)]
struct Entry {
    row: TaskRow,
    events: Vec<Event>,
    log: Vec<LogRecord>,
}

/// Who holds and who waits, by scope.
#[derive(Debug, Default, Clone)]
struct Places {
    held: BTreeMap<SlotScope, Vec<TaskId>>,
    waiting: BTreeMap<SlotScope, BTreeSet<u64>>,
    denied: BTreeMap<SlotScope, BTreeSet<(UserId, u64)>>,
}

impl Slots for Places {
    fn holders(&self, scope: &SlotScope) -> usize {
        self.held.get(scope).map_or(0, Vec::len)
    }

    fn earlier_waits(&self, scope: &SlotScope, order: u64) -> bool {
        self.waiting.get(scope).and_then(BTreeSet::first).is_some_and(|first| *first < order)
    }
}

/// A scope where somebody may move up, seen from the user who made room.
type Room = (SlotScope, UserId, Timestamp);

/// What the indices say of a row.
type Indexed = (Option<Timestamp>, bool, bool);

fn indexed(row: &TaskRow) -> Indexed {
    (row.claimable_from(), row.waits(), row.denied)
}

fn number(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

fn size(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

impl Entry {
    fn tell(&mut self, told: &mut Told, first: u64, events: &[NewEvent]) {
        let task_id = self.row.snapshot.id();
        for (seq, e) in (first..).zip(events) {
            told.push(task_id, self.events.len());
            self.events.push(Event {
                task_id,
                seq: EventSeq(seq),
                event_type: e.event_type,
                timestamp: e.timestamp,
                metadata: e.metadata.clone(),
            });
        }
    }

    fn boxed(&self) -> Box<Snapshot> {
        Box::new(self.row.snapshot.clone())
    }
}

impl StoreModel {
    /// Nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// See [`super::TaskStore::submit`].
    ///
    /// # Errors
    /// [`super::StoreErrorKind::Invalid`]; nothing was changed.
    pub fn submit(&mut self, batch: &[Submit]) -> Result<Vec<SubmitOutcome>, StoreError> {
        batch.iter().try_for_each(check_submit)?;
        Ok(batch.iter().map(|s| self.submit_one(s)).collect())
    }

    fn submit_one(&mut self, submit: &Submit) -> SubmitOutcome {
        let task = &submit.task;
        let key = task.idempotency_key.clone().map(|k| (task.user.clone(), k));
        let same_key = key.as_ref().and_then(|k| self.keys.get(k)).copied();
        if let Some(entry) = self.tasks.get(&same_key.unwrap_or(task.id)) {
            return if entry.row.payload_hash == submit.payload_hash && *entry.row.user() == task.user {
                SubmitOutcome::Existing(entry.boxed())
            } else {
                SubmitOutcome::Conflict { task: entry.row.snapshot.id() }
            };
        }
        self.accepted = self.accepted.saturating_add(1);
        let row = TaskRow::new(submit, self.accepted);
        self.orders.insert(row.order, task.id);
        if let Some(key) = key {
            self.keys.insert(key, task.id);
        }
        let mut entry = Entry { row, events: Vec::new(), log: Vec::new() };
        entry.tell(&mut self.told, 1, &submit.events);
        reindex(&mut self.due, &mut self.places, (None, false, false), &entry.row);
        let snapshot = entry.boxed();
        self.tasks.insert(task.id, entry);
        SubmitOutcome::Created(snapshot)
    }

    /// See [`super::TaskStore::commit`].
    ///
    /// # Errors
    /// [`super::StoreErrorKind::Invalid`]; nothing was changed.
    pub fn commit(&mut self, batch: &[Commit]) -> Result<Vec<CommitOutcome>, StoreError> {
        check_commits(batch, |id| self.tasks.get(&id).map(|e| &e.row))?;
        let mut rooms = BTreeMap::new();
        let outcomes = batch.iter().map(|c| self.commit_one(c, &mut rooms)).collect::<Result<_, _>>()?;
        for (scope, (user, now)) in rooms {
            self.wake((scope, user, now));
        }
        Ok(outcomes)
    }

    fn commit_one(
        &mut self,
        commit: &Commit,
        rooms: &mut BTreeMap<SlotScope, (UserId, Timestamp)>,
    ) -> Result<CommitOutcome, StoreError> {
        let Some(entry) = self.tasks.get_mut(&commit.task) else { return Ok(CommitOutcome::NotFound) };
        let before = indexed(&entry.row);
        let verdict = entry.row.commit(commit, &self.places)?;
        reindex(&mut self.due, &mut self.places, before, &entry.row);
        Ok(match verdict {
            CommitVerdict::AlreadyApplied => CommitOutcome::AlreadyApplied(entry.boxed()),
            CommitVerdict::Stale => CommitOutcome::Stale(entry.boxed()),
            CommitVerdict::Fenced => CommitOutcome::Fenced,
            CommitVerdict::SlotDenied(scope) => CommitOutcome::SlotDenied(scope),
            CommitVerdict::Applied(done) => {
                entry.tell(&mut self.told, done.first_event, &commit.change.events);
                for scope in done.taken.iter() {
                    self.places.held.entry(scope.clone()).or_default().push(commit.task);
                }
                for scope in done.freed.iter() {
                    if let Some(holders) = self.places.held.get_mut(scope) {
                        holders.retain(|id| *id != commit.task);
                        if holders.is_empty() {
                            self.places.held.remove(scope);
                        }
                    }
                }
                for scope in entry.row.rooms(&done) {
                    rooms.insert(scope, (entry.row.user().clone(), commit.now));
                }
                CommitOutcome::Applied(entry.boxed())
            }
        })
    }

    /// Walks the denied tasks of a scope, users in turn from the one after `user`, and makes as many due as there is
    /// room for.
    fn wake(&mut self, (scope, user, now): Room) {
        let Some(denied) = self.places.denied.get(&scope) else { return };
        let users: BTreeSet<&UserId> = denied.iter().map(|(u, _)| u).collect();
        let turn = users.iter().filter(|u| ***u > user).chain(users.iter().filter(|u| ***u <= user));
        let mut woken: usize = 0;
        let mut chosen = Vec::new();
        'scope: for lane in turn {
            let places = denied.range(((*lane).clone(), 0)..=((*lane).clone(), u64::MAX));
            for (ahead, (_, order)) in places.enumerate() {
                let Some(row) = self.orders.get(order).and_then(|id| self.tasks.get(id)).map(|e| &e.row) else { break };
                if row.room_in(&scope, &self.places) <= woken {
                    break 'scope;
                }
                if row.room(&self.places) <= ahead {
                    break;
                }
                woken = woken.saturating_add(1);
                chosen.push(row.snapshot.id());
            }
        }
        for id in chosen {
            self.change(id, |e| e.row.wake(now));
        }
    }

    fn change<T>(&mut self, id: TaskId, f: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        let entry = self.tasks.get_mut(&id)?;
        let before = indexed(&entry.row);
        let answer = f(entry);
        reindex(&mut self.due, &mut self.places, before, &entry.row);
        Some(answer)
    }

    /// See [`super::TaskStore::claim`].
    pub fn claim(&mut self, query: &ClaimQuery) -> Vec<Snapshot> {
        let ids: Vec<TaskId> = match query.task {
            Some(id) => self.tasks.get(&id).filter(|e| e.row.is_free(query.now)).map(|_| id).into_iter().collect(),
            None => {
                let (past, ahead) = ((query.now, u64::MAX), (query.now.after(FARTHEST), u64::MAX));
                let due = self.due.range(..=past).chain(self.due.range((Bound::Excluded(ahead), Bound::Unbounded)));
                let ids = due.filter_map(|(_, order)| self.orders.get(order)).copied();
                ids.filter(|id| self.tasks.get(id).is_some_and(|e| e.row.is_asked(query))).collect()
            }
        };
        let claim = |e: &mut Entry| {
            e.row.claim(query.worker, query.lease_until);
            e.row.snapshot.clone()
        };
        ids.into_iter().take(query.limit).filter_map(|id| self.change(id, claim)).collect()
    }

    /// See [`super::TaskStore::renew`].
    pub fn renew(&mut self, batch: &[Renewal]) -> Vec<bool> {
        batch.iter().map(|r| self.change(r.task, |e| e.row.renew(r)).unwrap_or(false)).collect()
    }

    /// See [`super::TaskStore::expire`].
    pub fn expire(&mut self, workers: &[WorkerId], now: Timestamp) -> u64 {
        let held = |e: &&Entry| e.row.lease.is_some_and(|l| workers.contains(&l.worker));
        let ids: Vec<TaskId> = self.tasks.values().filter(held).map(|e| e.row.snapshot.id()).collect();
        let ended =
            ids.into_iter().filter_map(|id| self.change(id, |e| e.row.expire(workers, now))).filter(|done| *done);
        number(ended.count())
    }

    /// See [`super::TaskStore::release`].
    pub fn release(&mut self, batch: &[Release]) -> Vec<bool> {
        batch.iter().map(|r| self.change(r.task, |e| e.row.release(r)).unwrap_or(false)).collect()
    }

    /// See [`super::TaskStore::signal`].
    pub fn signal(&mut self, batch: &[NewSignal]) -> Vec<SignalOutcome> {
        let one = |s: &NewSignal| self.change(s.task, |e| e.row.signal(s)).unwrap_or(SignalOutcome::NotFound);
        batch.iter().map(one).collect()
    }

    /// See [`super::TaskStore::append`].
    ///
    /// # Errors
    /// [`super::StoreErrorKind::Invalid`]; nothing was changed.
    pub fn append(&mut self, batch: &[Append]) -> Result<Vec<AppendOutcome>, StoreError> {
        let mut ahead: BTreeMap<TaskId, u64> = BTreeMap::new();
        for a in batch {
            let Some(row) = self.tasks.get(&a.task).map(|e| &e.row).filter(|r| r.hears(&a.session)) else { continue };
            let len = ahead.entry(a.task).or_insert(row.log_len);
            check_append(a, *len)?;
            *len = (*len).max(a.expect_seq.saturating_sub(1).saturating_add(number(a.records.len())));
        }
        Ok(batch.iter().map(|a| self.append_one(a)).collect())
    }

    fn append_one(&mut self, append: &Append) -> AppendOutcome {
        let Some(entry) = self.tasks.get_mut(&append.task) else { return AppendOutcome::NotFound };
        if !entry.row.hears(&append.session) {
            return AppendOutcome::Refused;
        }
        if append.expect_seq <= entry.row.log_len {
            let skip = size(append.expect_seq.saturating_sub(1));
            let same = entry.log.get(skip..).is_some_and(|there| there.starts_with(&append.records));
            return AppendOutcome::Exists { len: entry.row.log_len, same };
        }
        let first = entry.row.append(append);
        entry.tell(&mut self.told, first, &append.events);
        entry.log.extend(append.records.iter().cloned());
        AppendOutcome::Appended { len: entry.row.log_len, quiet: entry.row.is_quiet() }
    }

    /// See [`super::TaskStore::heartbeat`].
    pub fn heartbeat(&mut self, task: TaskId, session: &SessionId, now: Timestamp) -> bool {
        self.change(task, |e| e.row.heartbeat(session, now)).unwrap_or(false)
    }

    /// See [`super::TaskStore::load`].
    pub fn load(&self, ids: &[TaskId]) -> Vec<Option<Snapshot>> {
        ids.iter().map(|id| self.tasks.get(id).map(|e| e.row.snapshot.clone())).collect()
    }

    /// See [`super::TaskStore::find`].
    pub fn find(&self, user: &UserId, key: &IdempotencyKey) -> Option<TaskId> {
        self.keys.get(&(user.clone(), key.clone())).copied()
    }

    /// See [`super::TaskStore::events`].
    pub fn events(&self, query: &EventQuery) -> Vec<Event> {
        let all = self.tasks.get(&query.task).map(|e| e.events.iter());
        all.into_iter().flatten().skip(size(query.after.0)).take(query.limit).cloned().collect()
    }

    /// See [`super::TaskStore::log`].
    pub fn log(&self, query: &LogQuery) -> Vec<(u64, LogRecord)> {
        let all = self.tasks.get(&query.task).map(|e| (1..).zip(e.log.iter().cloned()));
        all.into_iter().flatten().skip(size(query.after)).take(query.limit).collect()
    }

    /// See [`super::TaskStore::list`].
    pub fn list(&self, query: &ListQuery) -> Vec<Task> {
        let newest_first = self.tasks.values().rev().map(|e| &e.row.snapshot.task);
        let asked = |t: &&Task| query.asks_for(t);
        newest_first.filter(asked).take(query.limit).cloned().collect()
    }

    /// See [`super::TaskStore::slots`]: scopes in order, without empty ones.
    pub fn slots(&self) -> Vec<SlotUsage> {
        let usage =
            |(scope, holders): (&SlotScope, &Vec<TaskId>)| SlotUsage { scope: scope.clone(), holders: holders.clone() };
        self.places.held.iter().map(usage).collect()
    }

    /// See [`super::TaskStore::next_due`].
    pub fn next_due(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, _)| *at)
    }

    /// See [`super::OperatorStore::feed`].
    ///
    /// # Errors
    /// [`super::StoreErrorKind::Invalid`] for a cursor that was not given here.
    pub fn feed(&self, query: &FeedQuery) -> Result<FeedPage, StoreError> {
        let after: u64 = match query.after.0.as_str() {
            "" => 0,
            text => text.parse().map_err(|_| invalid_cursor(&query.after))?,
        };
        let later = self.told.by_number.range((Bound::Excluded(after), Bound::Unbounded)).take(query.limit);
        let mut next = query.after.clone();
        let mut events = Vec::new();
        for (number, (task, place)) in later {
            next = FeedCursor(number.to_string());
            events.extend(self.tasks.get(task).and_then(|e| e.events.get(*place)).cloned());
        }
        Ok(FeedPage { events, next })
    }

    /// See [`super::OperatorStore::counts`].
    pub fn counts(&self, now: Timestamp) -> Counts {
        let mut counts = Counts::default();
        for row in self.tasks.values().map(|e| &e.row) {
            let n = counts.by_status.entry(row.snapshot.task.status).or_default();
            *n = n.saturating_add(1);
            counts.dead = counts.dead.saturating_add(u64::from(row.dead.is_some()));
            if row.is_due(now) {
                counts.due = counts.due.saturating_add(1);
                let since = row.claimable_from();
                counts.oldest_due = counts.oldest_due.into_iter().chain(since).min();
            }
        }
        counts
    }

    /// See [`super::OperatorStore::place`].
    pub fn place(&self, task: TaskId) -> Option<u64> {
        let row = self.tasks.get(&task).map(|e| &e.row).filter(|r| r.waits())?;
        let before = self.orders.range(..row.order).filter_map(|(_, id)| self.tasks.get(id)).map(|e| &e.row);
        Some(number(before.filter(|r| r.waits() && r.user() == row.user()).count()))
    }

    /// See [`super::OperatorStore::purge`].
    pub fn purge(&mut self, ended_before: Timestamp, limit: usize) -> u64 {
        let ended = |e: &&Entry| e.row.is_terminal() && e.row.snapshot.task.updated_at < ended_before;
        let old = self.orders.values().filter_map(|id| self.tasks.get(id)).filter(ended);
        let mut old: Vec<(Timestamp, TaskId)> =
            old.map(|e| (e.row.snapshot.task.updated_at, e.row.snapshot.id())).collect();
        // Of those that ended at once the first accepted goes first.
        old.sort_by_key(|(at, _)| *at);
        old.truncate(limit);
        for (_, id) in &old {
            self.remove(*id);
        }
        number(old.len())
    }

    fn remove(&mut self, id: TaskId) -> Option<Entry> {
        let entry = self.tasks.remove(&id)?;
        let task = &entry.row.snapshot.task;
        self.orders.remove(&entry.row.order);
        if let Some(key) = &task.idempotency_key {
            self.keys.remove(&(task.user.clone(), key.clone()));
        }
        self.told.by_number.retain(|_, (task, _)| *task != id);
        Some(entry)
    }

    /// See [`super::OperatorStore::bury`].
    pub fn bury(&mut self, batch: &[Burial]) -> Vec<bool> {
        let mut rooms = BTreeMap::new();
        let buried = batch.iter().map(|b| self.bury_one(b, &mut rooms)).collect();
        for (scope, (user, now)) in rooms {
            self.wake((scope, user, now));
        }
        buried
    }

    fn bury_one(&mut self, burial: &Burial, rooms: &mut BTreeMap<SlotScope, (UserId, Timestamp)>) -> bool {
        let Some(entry) = self.tasks.get_mut(&burial.task) else { return false };
        let (before, first) = (indexed(&entry.row), entry.row.events.saturating_add(1));
        let Some(event) = entry.row.bury(burial) else { return false };
        entry.tell(&mut self.told, first, &[event]);
        reindex(&mut self.due, &mut self.places, before, &entry.row);
        let left = Applied { left_queue: before.1, ..Applied::default() };
        for scope in entry.row.rooms(&left) {
            rooms.insert(scope, (entry.row.user().clone(), burial.now));
        }
        true
    }

    /// See [`super::OperatorStore::dead_letters`].
    pub fn dead_letters(&self, limit: usize) -> Vec<DeadLetter> {
        let letter = |row: &TaskRow| {
            let (reason, since) = row.dead.clone()?;
            Some((since, row.order, DeadLetter { task: row.snapshot.id(), reason, since }))
        };
        let mut letters: Vec<_> = self.tasks.values().filter_map(|e| letter(&e.row)).collect();
        letters.sort_by_key(|(since, order, _)| (*since, *order));
        letters.into_iter().map(|(_, _, letter)| letter).take(limit).collect()
    }

    /// See [`super::OperatorStore::revive`].
    pub fn revive(&mut self, task: TaskId, now: Timestamp) -> bool {
        let Some(entry) = self.tasks.get_mut(&task) else { return false };
        let (before, first) = (indexed(&entry.row), entry.row.events.saturating_add(1));
        let Some(event) = entry.row.revive(now) else { return false };
        entry.tell(&mut self.told, first, &[event]);
        reindex(&mut self.due, &mut self.places, before, &entry.row);
        true
    }

    /// See [`super::OperatorStore::discard`].
    pub fn discard(&mut self, task: TaskId, now: Timestamp) -> bool {
        if self.tasks.get(&task).is_none_or(|e| e.row.dead.is_none()) {
            return false;
        }
        let Some(entry) = self.remove(task) else { return false };
        for scope in &entry.row.snapshot.held {
            if let Some(holders) = self.places.held.get_mut(scope) {
                holders.retain(|id| *id != task);
                if holders.is_empty() {
                    self.places.held.remove(scope);
                }
            }
        }
        for scope in &entry.row.snapshot.held {
            self.wake((scope.clone(), entry.row.user().clone(), now));
        }
        true
    }
}

fn invalid_cursor(cursor: &FeedCursor) -> StoreError {
    let message = format!("`{cursor}` is not a cursor of this store's events: begin without one");
    StoreError::new(StoreErrorKind::Invalid, "feed", message)
}

fn reindex(due: &mut BTreeSet<(Timestamp, u64)>, places: &mut Places, before: Indexed, row: &TaskRow) {
    let after = indexed(row);
    if before == after {
        return;
    }
    if let Some(at) = before.0 {
        due.remove(&(at, row.order));
    }
    if let Some(at) = after.0 {
        due.insert((at, row.order));
    }
    for limit in row.limits() {
        mark(&mut places.waiting, &limit.scope, row.order, after.1);
        mark(&mut places.denied, &limit.scope, (row.user().clone(), row.order), after.1 && after.2);
    }
}

fn mark<K: Ord>(sets: &mut BTreeMap<SlotScope, BTreeSet<K>>, scope: &SlotScope, key: K, there: bool) {
    if there {
        sets.entry(scope.clone()).or_default().insert(key);
    } else if let Some(set) = sets.get_mut(scope) {
        set.remove(&key);
        if set.is_empty() {
            sets.remove(scope);
        }
    }
}
