//! Rows of a database as values, and back: what is text in every one of them.

use std::collections::BTreeSet;

use abca_core::event::{Event, EventType, NewEvent};
use abca_core::id::EventSeq;
use abca_core::store::{Lease, StoreError, TaskRow, check_format, check_unread};
use abca_core::task::{MovingPart, OwedEffect, Signal, SlotScope, Snapshot, Task};
use abca_core::{TaskId, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::error::corrupt;

pub(crate) fn parsed<T: DeserializeOwned>(op: &'static str, what: &str, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|e| corrupt(op, what, e))
}

/// A number as databases have it.
pub(crate) fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

/// A number for a database.
pub(crate) fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// A whole task as its columns are.
#[derive(Debug)]
pub(crate) struct RawRow<'r> {
    pub(crate) id: &'r str,
    pub(crate) order: i64,
    pub(crate) hash: &'r str,
    pub(crate) record: Record<'r>,
    pub(crate) revision: i64,
    pub(crate) epoch: i64,
    pub(crate) due: Option<i64>,
    pub(crate) lease_until: Option<i64>,
    pub(crate) worker: Option<&'r str>,
    pub(crate) denied: bool,
    pub(crate) woken: Option<i64>,
    pub(crate) heartbeat: Option<i64>,
    pub(crate) events: i64,
    pub(crate) log_len: i64,
    pub(crate) commits: &'r str,
    pub(crate) owed: Option<&'r str>,
    /// A JSON array of scopes, in the order of their taking.
    pub(crate) held: Option<&'r str>,
    /// What waits in the inbox in order, with commas between.
    pub(crate) signals: Option<&'r str>,
    /// A JSON array of ids.
    pub(crate) seen: Option<&'r str>,
    /// Since when it is a dead letter, and why.
    pub(crate) dead: Option<(i64, &'r str)>,
}

/// A task's record as JSON: what was submitted, and the rest.
#[derive(Debug)]
pub(crate) struct Record<'r> {
    pub(crate) fixed: &'r str,
    pub(crate) moving: &'r str,
}

impl Record<'_> {
    /// To work with: what this program could not write back whole is refused.
    fn current(&self, op: &'static str, what: &str) -> Result<Task, StoreError> {
        let moving: MovingPart = parsed(op, what, self.moving)?;
        check_format(op, what, moving.format())?;
        Ok(Task::from_parts(parsed(op, what, self.fixed)?, moving))
    }

    /// To look at.
    pub(crate) fn read(&self, op: &'static str, what: &str) -> Result<Task, StoreError> {
        Ok(Task::from_parts(parsed(op, what, self.fixed)?, parsed(op, what, self.moving)?))
    }
}

impl RawRow<'_> {
    /// The task as the model knows it; [`StoreErrorKind::Incompatible`] where only a newer program may write it back.
    ///
    /// [`StoreErrorKind::Incompatible`]: abca_core::store::StoreErrorKind::Incompatible
    pub(crate) fn read(&self, op: &'static str) -> Result<TaskRow, StoreError> {
        self.parse(op).map_err(|damaged| self.newer(op).err().unwrap_or(damaged))
    }

    /// Whether what cannot be read says that it is newer.
    fn newer(&self, op: &'static str) -> Result<(), StoreError> {
        let what = format!("task `{}`", self.id);
        check_unread(op, &what, self.record.moving)?;
        self.signals.map_or(Ok(()), |bodies| check_unread(op, &what, &format!("[{bodies}]")))
    }

    fn parse(&self, op: &'static str) -> Result<TaskRow, StoreError> {
        let what = |part: &str| format!("{part} of task `{}`", self.id);
        let time = |t: Option<i64>| t.map(Timestamp::from_millis);
        let lease = match (time(self.lease_until), self.worker) {
            (Some(until), Some(worker)) => {
                Some(Lease { worker: worker.parse().map_err(|e| corrupt(op, &what("the worker"), e))?, until })
            }
            (Some(_), None) | (None, _) => None,
        };
        let commits = self.commits.split_ascii_whitespace().map(|c| u128::from_str_radix(c, 16));
        let owed: Vec<OwedEffect> = match self.owed {
            Some(text) => parsed(op, &what("what is owed"), text)?,
            None => Vec::new(),
        };
        let held: Vec<SlotScope> = match self.held {
            Some(text) => parsed(op, &what("the slots"), text)?,
            None => Vec::new(),
        };
        let signals: Vec<Signal> = match self.signals {
            Some(bodies) => parsed(op, &what("the inbox"), &format!("[{bodies}]"))?,
            None => Vec::new(),
        };
        let seen: BTreeSet<_> = match self.seen {
            Some(text) => parsed(op, &what("the signals"), text)?,
            None => BTreeSet::new(),
        };
        Ok(TaskRow {
            snapshot: Snapshot {
                task: self.record.current(op, &what("the record"))?,
                revision: unsigned(self.revision),
                epoch: unsigned(self.epoch),
                held,
                signals,
                owed,
                heartbeat_at: time(self.heartbeat),
            },
            order: unsigned(self.order),
            payload_hash: self.hash.to_owned(),
            due: time(self.due),
            lease,
            denied: self.denied,
            woken: time(self.woken),
            events: unsigned(self.events),
            log_len: unsigned(self.log_len),
            commits: commits.collect::<Result<_, _>>().map_err(|e| corrupt(op, &what("the commits"), e))?,
            seen,
            dead: self.dead.map(|(since, reason)| (reason.to_owned(), Timestamp::from_millis(since))),
        })
    }
}

/// A task's last commits as text.
pub(crate) fn commits_text(row: &TaskRow) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    for id in &row.commits {
        // Writing to a string does not fail.
        let _ = write!(text, "{id:x} ");
    }
    text
}

/// An event's own columns; its task and number lie beside.
#[derive(Serialize)]
pub(crate) struct EventOut<'a> {
    t: EventType,
    at: i64,
    #[serde(skip_serializing_if = "Map::is_empty")]
    m: &'a Map<String, Value>,
}

impl<'a> From<&'a NewEvent> for EventOut<'a> {
    fn from(e: &'a NewEvent) -> Self {
        Self { t: e.event_type, at: e.timestamp.as_millis(), m: &e.metadata }
    }
}

#[derive(Deserialize)]
struct EventIn {
    t: EventType,
    at: i64,
    #[serde(default)]
    m: Map<String, Value>,
}

/// An event, from its number and its body.
pub(crate) fn event(op: &'static str, task_id: TaskId, seq: i64, body: &str) -> Result<Event, StoreError> {
    let seq = unsigned(seq);
    let body: EventIn = parsed(op, &format!("event {seq} of task `{task_id}`"), body)?;
    Ok(Event {
        task_id,
        seq: EventSeq(seq),
        event_type: body.t,
        timestamp: Timestamp::from_millis(body.at),
        metadata: body.m,
    })
}

/// A numbered record of a log.
pub(crate) fn numbered<T: DeserializeOwned>(
    op: &'static str,
    task: TaskId,
    seq: i64,
    body: &str,
) -> Result<(u64, T), StoreError> {
    let seq = unsigned(seq);
    Ok((seq, parsed(op, &format!("log record {seq} of task `{task}`"), body)?))
}
