//! A task's main item: everything that changes of it, small enough that a change costs one write unit.

use std::collections::BTreeSet;
use std::sync::Arc;

use abca_core::event::EventType;
use abca_core::id::{SignalId, WorkerId};
use abca_core::store::{Lease, StoreError, StoreErrorKind, TaskRow, check_format, check_unread};
use abca_core::task::{MovingPart, OwedEffect, SessionPhase, Signal, SlotScope, Snapshot, Task, TaskStatus};
use abca_core::{Shared, TaskId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value as Json};

use super::due::{self, Lag};
use super::error::corrupt;
use super::feed::feed_key;
use super::item::{Item, Key, n, number, s, size, text};
use super::units::kib;
use super::wide::{Head, Kind, Remembered, Value, Wide, to_json};

/// JSON longer than this goes aside.
pub(super) const INLINE: usize = 1_024;
/// So many accepted signals are known from the main item; older ones have items of their own.
const SEEN_KEPT: usize = 16;
const SEEN_MOST: usize = 24;

/// Some of a task's events in their order: small ones as they are, wide ones by the name of what was put aside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Run {
    #[serde(rename = "f")]
    pub(super) first: u64,
    #[serde(rename = "n")]
    pub(super) count: u64,
    #[serde(rename = "e", default, skip_serializing_if = "Vec::is_empty")]
    pub(super) events: Vec<Told>,
    #[serde(rename = "h", default, skip_serializing_if = "Option::is_none")]
    pub(super) aside: Option<String>,
}

/// A slot: its scope, the moment of taking, which is the holder's mark there, and the part of the scope.
pub(super) type Held = (SlotScope, u64, u32);

/// An event: its type, its time in milliseconds, its details.
pub(super) type Told = (EventType, i64, Map<String, Json>);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Inbox {
    Aside { h: String, i: SignalId },
    Here(Signal),
}

/// What of the main item is one JSON text: attributes of their own are what conditions and indexes speak of.
#[derive(Debug, Serialize, Deserialize)]
struct Body {
    #[serde(rename = "h")]
    head: String,
    #[serde(rename = "m")]
    moving: MovingPart,
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    prepared: Option<String>,
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    report: Option<String>,
    #[serde(rename = "n")]
    revision: u64,
    #[serde(rename = "e")]
    epoch: u64,
    #[serde(rename = "d", default, skip_serializing_if = "Option::is_none")]
    due: Option<i64>,
    #[serde(rename = "l", default, skip_serializing_if = "Option::is_none")]
    lease: Option<(WorkerId, i64)>,
    #[serde(rename = "x", default, skip_serializing_if = "is_default")]
    denied: bool,
    #[serde(rename = "w", default, skip_serializing_if = "Option::is_none")]
    woken: Option<i64>,
    #[serde(rename = "t")]
    counts: (u64, u64),
    #[serde(rename = "c", default, skip_serializing_if = "Vec::is_empty")]
    commits: Vec<String>,
    #[serde(rename = "g", default, skip_serializing_if = "Vec::is_empty")]
    seen: Vec<SignalId>,
    #[serde(rename = "i", default, skip_serializing_if = "Vec::is_empty")]
    inbox: Vec<Inbox>,
    #[serde(rename = "o", default, skip_serializing_if = "Vec::is_empty")]
    owed: Vec<OwedEffect>,
    #[serde(rename = "s", default, skip_serializing_if = "Vec::is_empty")]
    held: Vec<Held>,
    #[serde(rename = "k", default, skip_serializing_if = "Vec::is_empty")]
    tail: Vec<Run>,
    #[serde(rename = "f", default, skip_serializing_if = "is_default")]
    overflowed: bool,
    #[serde(rename = "b", default, skip_serializing_if = "is_default")]
    placed: bool,
}

/// The parts of a body that say of which form they are.
#[derive(Deserialize)]
struct Unread<'b> {
    #[serde(borrow, default)]
    m: Option<&'b RawValue>,
    #[serde(borrow, default)]
    i: Option<&'b RawValue>,
}

/// Whether a body that cannot be read says that it is newer.
fn newer(op: &'static str, what: &str, body: &str) -> Result<(), StoreError> {
    let Ok(unread) = serde_json::from_str::<Unread<'_>>(body) else { return Ok(()) };
    unread.m.into_iter().chain(unread.i).try_for_each(|part| check_unread(op, what, part.get()))
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A task with what only this store keeps of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Kept {
    pub(super) row: TaskRow,
    /// The main item as it was read; empty for a new one.
    pub(super) item: Item,
    pub(super) head: String,
    prepared: Option<String>,
    report: Option<String>,
    /// The slots that it holds.
    pub(super) held: Vec<Held>,
    /// The last events; those before have pages of their own.
    pub(super) tail: Vec<Run>,
    /// Some signals that it accepted have items of their own.
    pub(super) overflowed: bool,
    /// It has places among the denied.
    pub(super) placed: bool,
}

/// The main item to write, and what has to be written before it.
#[derive(Debug)]
pub(super) struct Encoded {
    pub(super) item: Item,
    pub(super) wide: Vec<Wide>,
    /// Events that go into a page.
    pub(super) page: Vec<Run>,
    /// Signals that get items of their own.
    pub(super) heard: Vec<SignalId>,
}

/// A main item that was read, before what lies aside is.
#[derive(Debug)]
pub(super) struct Parsed {
    id: TaskId,
    item: Item,
    body: Body,
    pub(super) inbox_aside: Vec<String>,
}

impl Parsed {
    pub(super) fn new(op: &'static str, id: TaskId, item: Item) -> Result<Self, StoreError> {
        let what = || format!("task {id}");
        let body = text(&item, "b").ok_or_else(|| corrupt(op, &what(), "its attribute `b` is no text"))?;
        let body: Body = serde_json::from_str(body)
            .map_err(|e| newer(op, &what(), body).err().unwrap_or_else(|| corrupt(op, &what(), e)))?;
        check_format(op, &what(), body.moving.format())?;
        let aside = |s: &Inbox| match s {
            Inbox::Aside { h, .. } => Some(h.clone()),
            Inbox::Here(_) => None,
        };
        let inbox_aside = body.inbox.iter().filter_map(aside).collect();
        Ok(Self { id, item, body, inbox_aside })
    }

    /// From when on it may be claimed, as [`TaskRow::claimable_from`].
    pub(super) fn claimable_from(&self) -> Option<Timestamp> {
        let ended = status(&self.item).is_none_or(TaskStatus::is_terminal);
        let times = self.body.due.into_iter().chain(self.body.lease.map(|(_, until)| until));
        times.min().filter(|_| !ended && !is_dead(&self.item)).map(Timestamp::from_millis)
    }

    /// The last events, that have no page yet.
    pub(super) fn tail(self) -> Vec<Run> {
        self.body.tail
    }

    /// How many of its events the feed lists, and how many it has.
    pub(super) fn listed_and_told(&self) -> (u64, u64) {
        (number(&self.item, "fd").unwrap_or(0), self.body.counts.0)
    }

    /// What has to be remembered before it can be put together.
    pub(super) fn wants(&self) -> Vec<(TaskId, Kind, String)> {
        let body = &self.body;
        let aside = [(Kind::Prepared, &body.prepared), (Kind::Report, &body.report)];
        let aside = aside.into_iter().filter_map(|(kind, hash)| Some((self.id, kind, hash.clone()?)));
        std::iter::once((self.id, Kind::Head, body.head.clone())).chain(aside).collect()
    }

    /// The task, once everything is remembered; `signals` are those of [`Parsed::inbox_aside`], in order.
    pub(super) fn put_together(
        self,
        op: &'static str,
        remembered: &Remembered,
        signals: Vec<Signal>,
    ) -> Result<Kept, StoreError> {
        let Self { id, item, body, .. } = self;
        let gone = |what: &str| {
            StoreError::new(StoreErrorKind::Corrupt, op, format!("the {what} of task {id} cannot be read: it is gone"))
        };
        let Some(Value::Head(head)) = remembered.find(&body.head) else { return Err(gone("specification")) };
        let Head { fixed, hash, order } = Arc::unwrap_or_clone(head);
        let mut task = Task::from_parts(fixed, body.moving);
        if task.id != id {
            return Err(corrupt(op, &format!("task {id}"), format!("it says that it is {}", task.id)));
        }
        if status(&item) != Some(task.status) {
            return Err(corrupt(op, &format!("task {id}"), "its attribute `st` is not its state"));
        }
        if let Some(hash) = &body.prepared {
            let Some(Value::Prepared(found)) = remembered.find(hash) else { return Err(gone("preparation")) };
            task.prepared = Some(found);
        }
        if let Some(hash) = &body.report {
            let Some(Value::Report(found)) = remembered.find(hash) else { return Err(gone("report")) };
            task.report = Some(found);
        }
        let mut aside = signals.into_iter();
        let mut inbox = Vec::with_capacity(body.inbox.len());
        for entry in body.inbox {
            match entry {
                Inbox::Here(signal) => inbox.push(signal),
                Inbox::Aside { .. } => inbox.push(aside.next().ok_or_else(|| gone("inbox"))?),
            }
        }
        let commit = |text: &String| u128::from_str_radix(text, 36).ok();
        let commits: Option<Vec<u128>> = body.commits.iter().map(commit).collect();
        let commits = commits.ok_or_else(|| corrupt(op, &format!("task {id}"), "a commit's id is no number"))?;
        let mut seen: BTreeSet<SignalId> = body.seen.into_iter().collect();
        seen.extend(inbox.iter().map(|s| s.id.clone()));
        let row = TaskRow {
            snapshot: Snapshot {
                task,
                revision: body.revision,
                epoch: body.epoch,
                held: body.held.iter().map(|(scope, _, _)| scope.clone()).collect(),
                signals: inbox,
                owed: body.owed,
                heartbeat_at: number(&item, "hb").map(Timestamp::from_millis),
            },
            order,
            payload_hash: hash,
            due: body.due.map(Timestamp::from_millis),
            lease: body.lease.map(|(worker, until)| Lease { worker, until: Timestamp::from_millis(until) }),
            denied: body.denied,
            woken: body.woken.map(Timestamp::from_millis),
            events: body.counts.0,
            log_len: body.counts.1,
            commits,
            seen,
            dead: dead(&item),
        };
        Ok(Kept {
            row,
            item,
            head: body.head,
            prepared: body.prepared,
            report: body.report,
            held: body.held,
            tail: body.tail,
            overflowed: body.overflowed,
            placed: body.placed,
        })
    }
}

/// The state that a main item says.
pub(super) fn status(item: &Item) -> Option<TaskStatus> {
    text(item, "st")?.parse().ok()
}

/// Why and since when it was put aside. Kept apart from the rest: it holds although the rest cannot be read.
pub(super) fn dead(item: &Item) -> Option<(String, Timestamp)> {
    Some((text(item, "xr")?.to_owned(), Timestamp::from_millis(number(item, "xs").unwrap_or_default())))
}

pub(super) fn is_dead(item: &Item) -> bool {
    item.contains_key("xr")
}

/// Its order, if it waits for slots, as [`TaskRow::waits`].
pub(super) fn waits(item: &Item) -> Option<u64> {
    let waits = status(item).is_some_and(TaskStatus::is_waiting) && !is_dead(item);
    number(item, "or").filter(|_| waits)
}

/// Whether it is being removed: nobody sees it any more.
pub(super) fn is_gone(item: &Item) -> bool {
    item.contains_key("gone")
}

impl Kept {
    /// A new task.
    pub(super) fn new(row: TaskRow, head: String) -> Self {
        Self {
            row,
            item: Item::new(),
            head,
            prepared: None,
            report: None,
            held: Vec::new(),
            tail: Vec::new(),
            overflowed: false,
            placed: false,
        }
    }

    pub(super) const fn id(&self) -> TaskId {
        self.row.snapshot.task.id
    }

    /// The item that says what this does, changed from what it was read as.
    pub(super) fn encode(
        &mut self,
        op: &'static str,
        before: &Self,
        version: &str,
        shards: u32,
        lag: Lag,
    ) -> Result<Encoded, StoreError> {
        let id = self.id();
        let mut wide = Vec::new();
        let mut heard = Vec::new();
        let task = &self.row.snapshot.task;
        let old = &before.row.snapshot.task;
        if task.prepared != old.prepared || self.item.is_empty() {
            self.prepared = aside(op, &format!("the preparation of task {id}"), &task.prepared, &mut wide)?;
        }
        if task.report != old.report || self.item.is_empty() {
            self.report = aside(op, &format!("the report of task {id}"), &task.report, &mut wide)?;
        }
        let inbox_ids: BTreeSet<&SignalId> = self.row.snapshot.signals.iter().map(|s| &s.id).collect();
        let mut seen: Vec<SignalId> = self.row.seen.iter().filter(|s| !inbox_ids.contains(s)).cloned().collect();
        if seen.len() > SEEN_MOST {
            heard = seen.split_off(SEEN_KEPT);
            self.overflowed = true;
        }
        let mut inbox = Vec::with_capacity(self.row.snapshot.signals.len());
        for signal in &self.row.snapshot.signals {
            inbox.push(if to_json(op, signal)?.len() > INLINE {
                let aside = Wide::new(op, &format!("signal `{}` of task {id}", signal.id), signal)?;
                let h = aside.hash.clone();
                if !before.row.snapshot.signals.iter().any(|s| s.id == signal.id) {
                    wide.push(aside);
                }
                Inbox::Aside { h, i: signal.id.clone() }
            } else {
                Inbox::Here(signal.clone())
            });
        }
        let mut narrow = task.clone();
        narrow.prepared = None;
        narrow.report = None;
        let mut body = Body {
            head: self.head.clone(),
            moving: narrow.parts().1,
            prepared: self.prepared.clone(),
            report: self.report.clone(),
            revision: self.row.snapshot.revision,
            epoch: self.row.snapshot.epoch,
            due: self.row.due.map(Timestamp::as_millis),
            lease: self.row.lease.map(|l| (l.worker, l.until.as_millis())),
            denied: self.row.denied,
            woken: self.row.woken.map(Timestamp::as_millis),
            counts: (self.row.events, self.row.log_len),
            commits: self.row.commits.iter().map(|c| base36(*c)).collect(),
            seen,
            inbox,
            owed: self.row.snapshot.owed.clone(),
            held: self.held.clone(),
            tail: self.tail.clone(),
            overflowed: self.overflowed,
            placed: self.placed,
        };
        let mut item = self.attributes(before, version, shards, lag);
        let with = |body: &Body, item: &mut Item| -> Result<usize, StoreError> {
            let json = String::from_utf8(to_json(op, body)?).map_err(|e| corrupt(op, "a body to write", e))?;
            item.insert("b".to_owned(), s(json));
            Ok(size(item))
        };
        // Events that are stored already make room when that saves a write unit, now and later.
        let whole = with(&body, &mut item)?;
        let mut page = Vec::new();
        let stored = before.tail.len();
        if stored > 0 && self.tail.len() >= stored {
            body.tail = self.tail.get(stored..).unwrap_or_default().to_vec();
            if kib(with(&body, &mut item)?) < kib(whole) {
                page = before.tail.clone();
                self.tail.drain(..stored);
            } else {
                body.tail = self.tail.clone();
                with(&body, &mut item)?;
            }
        }
        Ok(Encoded { item, wide, page, heard })
    }

    fn attributes(&self, before: &Self, version: &str, shards: u32, lag: Lag) -> Item {
        let snapshot = &self.row.snapshot;
        let task = &snapshot.task;
        let mut item = Key::task(task.id).item();
        item.insert("v".to_owned(), s(version));
        item.insert("st".to_owned(), s(task.status.as_str()));
        item.insert("or".to_owned(), n(self.row.order));
        item.insert("u".to_owned(), s(task.user.as_str()));
        if let Some(repo) = &task.spec.repo {
            item.insert("r".to_owned(), s(repo.to_string()));
        }
        item.insert("ak".to_owned(), s(format!("a{}", due::shard(task.id, shards))));
        if let Some(at) = snapshot.heartbeat_at {
            item.insert("hb".to_owned(), n(at.as_millis()));
        }
        let heard = |phase| matches!(phase, SessionPhase::Starting | SessionPhase::Live | SessionPhase::Stopping);
        if let Some(session) = task.session.as_ref().filter(|x| heard(x.phase))
            && !self.row.is_terminal()
            && self.row.dead.is_none()
        {
            item.insert("ss".to_owned(), s(session.id.as_str()));
        }
        let listed = before.item.get("fd");
        if let Some(listed) = listed {
            item.insert("fd".to_owned(), listed.clone());
        }
        if self.row.events > number(&before.item, "fd").unwrap_or(0) {
            item.insert("fk".to_owned(), s(feed_key(due::shard(task.id, shards))));
        }
        if let Some((reason, since)) = &self.row.dead {
            item.insert("xr".to_owned(), s(reason));
            item.insert("xs".to_owned(), n(since.as_millis()));
        }
        if let Some(entry) = due::entry(&before.row, &before.item, &self.row, lag) {
            item.insert("dk".to_owned(), s(format!("{}{}", entry.kind, due::shard(task.id, shards))));
            item.insert("da".to_owned(), n(entry.at));
        }
        item
    }
}

fn aside<T: Serialize + Clone>(
    op: &'static str,
    what: &str,
    value: &Option<Shared<T>>,
    wide: &mut Vec<Wide>,
) -> Result<Option<String>, StoreError> {
    let Some(value) = value else { return Ok(None) };
    let aside = Wide::new(op, what, value)?;
    let hash = aside.hash.clone();
    wide.push(aside);
    Ok(Some(hash))
}

fn base36(mut number: u128) -> String {
    let mut digits = Vec::new();
    loop {
        let digit = u8::try_from(number % 36).unwrap_or_default();
        digits.push(char::from(if digit < 10 { b'0' + digit } else { b'a' + digit - 10 }));
        number /= 36;
        if number == 0 {
            return digits.into_iter().rev().collect();
        }
    }
}
