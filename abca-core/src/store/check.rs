//! What a caller may ask for at all: pure checks that every store runs, so that they refuse the same.

use std::collections::{BTreeMap, BTreeSet};

use super::{Append, Commit, StoreError, StoreErrorKind, Submit, TaskRow};
use crate::event::NewEvent;
use crate::id::TaskId;
use crate::task::{Change, SlotChange, Snapshot, TaskStatus, Transition};

fn invalid(op: &'static str, message: impl Into<String>) -> StoreError {
    StoreError::new(StoreErrorKind::Invalid, op, message)
}

/// Whether a submission may be stored.
///
/// # Errors
/// [`StoreErrorKind::Invalid`] when the task is not at its very beginning, or its events end it.
pub fn check_submit(submit: &Submit) -> Result<(), StoreError> {
    let task = &submit.task;
    let err = |why: String| Err(invalid("submit", format!("task {}: {why}", task.id)));
    if !matches!(task.status, TaskStatus::Submitted | TaskStatus::PendingUploads) {
        return err(format!("a new task is SUBMITTED or PENDING_UPLOADS, not {}", task.status));
    }
    if task.attempt != 0 || task.session.is_some() {
        return err("a new task has no attempt and no session yet".to_owned());
    }
    match terminal_event(&submit.events) {
        Some(e) => err(format!("a new task cannot begin with the terminal event `{}`", e.event_type)),
        None => Ok(()),
    }
}

/// Whether a change may follow a snapshot: the transition table, one end, slots, owed effects, the inbox.
///
/// # Errors
/// [`StoreErrorKind::Invalid`], saying what is wrong.
pub fn check_change(from: &Snapshot, change: &Change) -> Result<(), StoreError> {
    let to = &change.task;
    let id = from.task.id;
    let err = |why: String| Err(invalid("commit", format!("task {id}: {why}")));
    if from.task.status.is_terminal() {
        return err(format!("it has ended as {}, nothing follows", from.task.status));
    }
    if to.id != id || to.user != from.task.user || to.idempotency_key != from.task.idempotency_key {
        return err("a change may not alter id, user or idempotency key".to_owned());
    }
    if to.created_at != from.task.created_at || to.spec != from.task.spec {
        return err("a change may not alter the specification or the moment of acceptance".to_owned());
    }
    if let Some(why) = transition_fault(from.task.status, change) {
        return err(why);
    }
    if let Some(why) = event_fault(change) {
        return err(why);
    }
    if let Some(why) = slot_fault(from, change) {
        return err(why);
    }
    if let Some(why) = ledger_fault(from, change) {
        return err(why);
    }
    Ok(())
}

fn terminal_event(events: &[NewEvent]) -> Option<&NewEvent> {
    events.iter().find(|e| e.event_type.is_terminal())
}

fn transition_fault(from: TaskStatus, change: &Change) -> Option<String> {
    let to = change.task.status;
    match change.transition {
        None if from == to => None,
        None => Some(format!("{from} cannot become {to} without a transition")),
        Some(t) if t.from != from || t.to != to => {
            Some(format!("the transition says {} to {}, the task goes from {from} to {to}", t.from, t.to))
        }
        Some(t) if Transition::find(t.from, t.to, t.cause) != Some(t) => {
            Some(format!("no transition from {from} to {to} for {:?} with event `{}`", t.cause, t.event))
        }
        Some(_) => None,
    }
}

fn event_fault(change: &Change) -> Option<String> {
    if let Some(t) = change.transition
        && !change.events.iter().any(|e| e.event_type == t.event)
    {
        return Some(format!("a step to {} tells `{}`, which is missing", t.to, t.event));
    }
    let ends = change.events.iter().filter(|e| e.event_type.is_terminal()).count();
    let last_ends = change.events.last().is_some_and(|e| e.event_type.is_terminal());
    match (change.task.status.is_terminal(), ends, last_ends) {
        (false, 0, _) | (true, 1, true) => None,
        (false, _, _) => Some("a terminal event without a terminal state".to_owned()),
        (true, _, _) => Some("an end tells exactly one terminal event, as its last".to_owned()),
    }
}

fn slot_fault(from: &Snapshot, change: &Change) -> Option<String> {
    let status = change.task.status;
    let mut held: BTreeSet<_> = from.held.iter().collect();
    match &change.slots {
        SlotChange::Keep => {}
        SlotChange::Acquire(limits) => held.extend(limits.iter().map(|l| &l.scope)),
        SlotChange::Release => held.clear(),
    }
    if !status.holds_slots() {
        return held.first().map(|scope| format!("slot `{scope}` may not be held in {status}"));
    }
    let missing = change.task.spec.limits.slots.iter().find(|l| !held.contains(&l.scope));
    missing.map(|l| format!("slot `{}` must be held in {status}", l.scope))
}

fn ledger_fault(from: &Snapshot, change: &Change) -> Option<String> {
    let mut owed: BTreeSet<_> = from.owed.iter().map(|o| &o.effect.key).collect();
    for key in &change.settled {
        if !owed.remove(key) {
            return Some(format!("effect `{key}` is not owed, so it cannot be settled"));
        }
    }
    for effect in &change.effects {
        if !owed.insert(&effect.key) {
            return Some(format!("effect `{}` is owed already", effect.key));
        }
    }
    if change.task.status.is_terminal()
        && let Some(key) = owed.first()
    {
        return Some(format!("effect `{key}` is still owed, so the task cannot end"));
    }
    let unknown = change.consumed.iter().find(|id| !from.signals.iter().any(|s| s.id == **id));
    unknown.map(|id| format!("signal `{id}` is not in the inbox, so it cannot be consumed"))
}

/// Whether a whole batch of commits may be tried: an invalid one fails the call before anything is changed.
///
/// # Errors
/// The first fault found.
pub fn check_commits<'a, 'c>(
    batch: impl IntoIterator<Item = &'c Commit, IntoIter: Clone>,
    row: impl Fn(TaskId) -> Option<&'a TaskRow>,
) -> Result<(), StoreError> {
    let batch = batch.into_iter();
    let mut seen = BTreeSet::new();
    let mut ahead: BTreeMap<TaskId, TaskRow> = BTreeMap::new();
    let again = batch.clone().filter(|c| !seen.insert(c.task)).map(|c| c.task).collect::<BTreeSet<_>>();
    for commit in batch {
        let Some(now) = row(commit.task) else { continue };
        if again.contains(&commit.task) {
            ahead.entry(commit.task).or_insert_with(|| now.clone()).commit(commit, &Unlimited)?;
        } else if now.is_current(commit) {
            check_change(&now.snapshot, &commit.change)?;
        }
    }
    Ok(())
}

/// A world where every slot is free: to look ahead within a batch.
struct Unlimited;

impl super::Slots for Unlimited {
    fn holders(&self, _: &crate::task::SlotScope) -> usize {
        0
    }
    fn earlier_waits(&self, _: &crate::task::SlotScope, _: u64) -> bool {
        false
    }
}

/// Whether an append may be tried on a log of `len` records.
///
/// # Errors
/// [`StoreErrorKind::Invalid`] when it would leave a gap, or tells the end of the task.
pub fn check_append(append: &Append, len: u64) -> Result<(), StoreError> {
    let err = |why: String| Err(invalid("append", format!("task {}: {why}", append.task)));
    if let Some(e) = terminal_event(&append.events) {
        return err(format!("only a commit may tell `{}`", e.event_type));
    }
    if append.expect_seq == 0 || append.expect_seq > len.saturating_add(1) {
        return err(format!("the log has {len} records, so the next is not number {}", append.expect_seq));
    }
    Ok(())
}
