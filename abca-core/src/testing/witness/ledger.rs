//! What a store has answered so far, task by task, and what must follow from it.

use std::collections::{BTreeMap, BTreeSet};

use super::{Book, Promise};
use crate::id::{EffectKey, SessionId, SignalId, TaskId};
use crate::store::{Append, COMMITS_KEPT, Commit, CommitOutcome, NewSignal, SlotUsage, Submit};
use crate::task::{SessionPhase, SignalKind, SlotChange, SlotLimit, SlotScope, Snapshot, TRANSITIONS, TaskStatus};

/// What was answered.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    tasks: BTreeMap<TaskId, Entry>,
    held: BTreeMap<SlotScope, BTreeSet<TaskId>>,
}

#[derive(Debug)]
struct Entry {
    order: usize,
    status: TaskStatus,
    revision: u64,
    epoch: u64,
    held: BTreeSet<SlotScope>,
    limits: Vec<SlotLimit>,
    events: u64,
    session: Option<(SessionId, SessionPhase)>,
    commits: Vec<u128>,
    signals: BTreeSet<SignalId>,
    effects: BTreeSet<EffectKey>,
    cancelled: bool,
    unconfirmed: bool,
}

impl Entry {
    fn hears(&self, session: &SessionId, stopping: bool) -> bool {
        !self.status.is_terminal()
            && self.session.as_ref().is_some_and(|(id, phase)| {
                id == session
                    && match phase {
                        SessionPhase::Starting | SessionPhase::Live => true,
                        SessionPhase::Stopping => stopping,
                        SessionPhase::Over => false,
                    }
            })
    }

    fn see(&mut self, snapshot: &Snapshot) {
        self.status = snapshot.task.status;
        self.revision = snapshot.revision;
        self.epoch = snapshot.epoch;
        self.held = snapshot.held.iter().cloned().collect();
        self.session = snapshot.task.session.as_ref().map(|s| (s.id.clone(), s.phase));
    }
}

impl Ledger {
    pub(super) fn ids(&self) -> Vec<TaskId> {
        self.tasks.keys().copied().collect()
    }

    pub(super) fn status(&self, task: TaskId) -> Option<TaskStatus> {
        self.tasks.get(&task).map(|e| e.status)
    }

    pub(super) fn events(&self, task: TaskId) -> u64 {
        self.tasks.get(&task).map_or(0, |e| e.events)
    }

    pub(super) fn all_ended(&self) -> bool {
        self.tasks.values().all(|e| e.status.is_terminal())
    }

    pub(super) fn is_unconfirmed(&self, task: TaskId) -> bool {
        self.tasks.get(&task).is_some_and(|e| e.unconfirmed)
    }

    /// Tasks that the store's own report shows as holding something else than their records say.
    pub(super) fn misheld(&self, reported: &[SlotUsage]) -> Vec<(TaskId, String)> {
        let mut of: BTreeMap<TaskId, BTreeSet<SlotScope>> = BTreeMap::new();
        for usage in reported {
            for task in &usage.holders {
                of.entry(*task).or_default().insert(usage.scope.clone());
            }
        }
        let none = BTreeSet::new();
        let wrong = self.tasks.iter().filter(|(id, e)| of.get(id).unwrap_or(&none) != &e.held);
        wrong.map(|(id, e)| (*id, format!("reported {:?}, held {:?}", of.get(id), e.held))).collect()
    }
}

impl Book {
    pub(super) fn created(&mut self, submit: &Submit, snapshot: &Snapshot) {
        let order = self.ledger.tasks.len();
        let mut entry = Entry {
            order,
            status: snapshot.task.status,
            revision: 0,
            epoch: 0,
            held: BTreeSet::new(),
            limits: snapshot.task.spec.limits.slots.clone(),
            events: submit.events.len() as u64,
            session: None,
            commits: Vec::new(),
            signals: BTreeSet::new(),
            effects: BTreeSet::new(),
            cancelled: false,
            unconfirmed: false,
        };
        entry.see(snapshot);
        self.visited.insert(entry.status);
        if self.ledger.tasks.insert(snapshot.id(), entry).is_some() {
            self.find(Promise::Kept, snapshot.id(), "a task was created twice");
        }
    }

    pub(super) fn claimed(&mut self, snapshot: &Snapshot) {
        let id = snapshot.id();
        let Some(entry) = self.ledger.tasks.get_mut(&id) else {
            return self.find(Promise::Kept, id, "a task is claimed that nobody submitted");
        };
        let (epoch, revision, status) = (entry.epoch, entry.revision, entry.status);
        entry.see(snapshot);
        if snapshot.epoch <= epoch {
            self.find(Promise::Fence, id, format!("a claim raised the epoch from {epoch} to {}", snapshot.epoch));
        }
        if snapshot.revision != revision || snapshot.task.status != status {
            let now = (snapshot.revision, snapshot.task.status);
            self.find(Promise::Kept, id, format!("answered as {:?}, claimed as {now:?}", (revision, status)));
        }
        if status.is_terminal() {
            self.find(Promise::OneEnd, id, format!("claimed after {status}"));
        }
    }

    /// Something was done under an epoch.
    pub(super) fn under(&mut self, task: TaskId, epoch: u64, what: &str) {
        let now = self.ledger.tasks.get(&task).map(|e| e.epoch);
        if let Some(now) = now.filter(|now| *now != epoch) {
            self.find(Promise::Fence, task, format!("{what} under epoch {epoch} was accepted at {now}"));
        }
    }

    pub(super) fn committed(&mut self, commit: &Commit, answer: &CommitOutcome) {
        let id = commit.task;
        match answer {
            CommitOutcome::Applied(snapshot) => self.applied(commit, snapshot),
            CommitOutcome::AlreadyApplied(snapshot) => {
                self.under(id, commit.epoch, "a repeated commit");
                let known = self.ledger.tasks.get(&id).is_some_and(|e| e.commits.contains(&commit.commit_id));
                if !known {
                    self.find(Promise::Once, id, "a new commit is answered as known");
                }
                if let Some(revision) =
                    self.ledger.tasks.get(&id).map(|e| e.revision).filter(|r| *r != snapshot.revision)
                {
                    let detail = format!("answered with revision {}, it has {revision}", snapshot.revision);
                    self.find(Promise::Kept, id, detail);
                }
            }
            CommitOutcome::Stale(_) => {
                let recent = |e: &Entry| {
                    e.epoch == commit.epoch && e.commits.iter().rev().take(COMMITS_KEPT).any(|c| *c == commit.commit_id)
                };
                if self.ledger.tasks.get(&id).is_some_and(recent) {
                    self.find(Promise::Once, id, "a commit that was applied is not known when it is repeated");
                }
            }
            CommitOutcome::Fenced | CommitOutcome::SlotDenied(_) | CommitOutcome::NotFound => {}
        }
    }

    fn applied(&mut self, commit: &Commit, snapshot: &Snapshot) {
        let id = commit.task;
        self.under(id, commit.epoch, "a commit");
        let Some(entry) = self.ledger.tasks.get_mut(&id) else {
            return self.find(Promise::Kept, id, "a commit applied to a task that nobody submitted");
        };
        let (from, to, revision, held) = (entry.status, snapshot.task.status, entry.revision, entry.held.clone());
        let first_time = !entry.commits.contains(&commit.commit_id);
        entry.commits.push(commit.commit_id);
        let twice: Vec<String> = commit
            .change
            .effects
            .iter()
            .filter(|e| !entry.effects.insert(e.key.clone()))
            .map(|e| e.key.to_string())
            .collect();
        entry.events += commit.change.events.len() as u64;
        entry.unconfirmed |= commit.change.events.iter().any(|e| e.metadata.contains_key("stop_unconfirmed"));
        entry.see(snapshot);
        let (order, cancelled, limits) = (entry.order, entry.cancelled, entry.limits.clone());
        self.visited.insert(to);
        if from.is_terminal() {
            self.find(Promise::OneEnd, id, format!("a commit applied after {from}"));
        }
        if from != to && !TRANSITIONS.iter().any(|t| t.from == from && t.to == to) {
            self.find(Promise::Table, id, format!("it moved from {from} to {to}"));
        }
        if commit.expect_revision != revision || snapshot.revision != revision.saturating_add(1) {
            let detail =
                format!("decided on {}, applied on {revision}, made {}", commit.expect_revision, snapshot.revision);
            self.find(Promise::Cas, id, detail);
        }
        if !first_time {
            self.find(Promise::Once, id, format!("the commit to {to} applied twice"));
        }
        if !twice.is_empty() {
            self.find(Promise::EffectOnce, id, format!("owed again: {twice:?}"));
        }
        self.slots(id, order, &limits, &held, &commit.change.slots);
        let needed: BTreeSet<&SlotScope> = limits.iter().map(|l| &l.scope).filter(|_| to.holds_slots()).collect();
        if !snapshot.held.iter().collect::<BTreeSet<_>>().eq(&needed) {
            self.find(Promise::Slots, id, format!("{to} holds {:?}", snapshot.held));
        }
        if to.is_terminal() {
            if !snapshot.owed.is_empty() || !snapshot.signals.is_empty() {
                let detail = format!("{to} owes {:?} and has not read {:?}", snapshot.owed, snapshot.signals);
                self.find(Promise::Inbox, id, detail);
            }
            if cancelled && to != TaskStatus::Cancelled {
                self.find(Promise::Cancel, id, format!("it ended as {to}"));
            }
        }
    }

    fn slots(
        &mut self,
        id: TaskId,
        order: usize,
        limits: &[SlotLimit],
        before: &BTreeSet<SlotScope>,
        change: &SlotChange,
    ) {
        let after = self.ledger.tasks.get(&id).map(|e| e.held.clone()).unwrap_or_default();
        for scope in before.difference(&after) {
            if let Some(holders) = self.ledger.held.get_mut(scope) {
                holders.remove(&id);
            }
        }
        for scope in after.difference(before) {
            let holders = self.ledger.held.entry(scope.clone()).or_default();
            holders.insert(id);
            let holders = holders.len();
            // What counts is the task's own limit, frozen when it was submitted, not what the commit says.
            let Some(limit) = limits.iter().find(|l| l.scope == *scope) else {
                self.find(Promise::Slots, id, format!("it takes `{scope}`, which it does not need ({change:?})"));
                continue;
            };
            if holders > limit.cap as usize {
                self.find(Promise::Cap, id, format!("{holders} hold `{scope}` at a cap of {}", limit.cap));
            }
            let waits =
                |e: &Entry| e.status.is_waiting() && e.order < order && e.limits.iter().any(|l| l.scope == *scope);
            if limit.fifo
                && let Some((earlier, _)) = self.ledger.tasks.iter().find(|(_, e)| waits(e))
            {
                let earlier = *earlier;
                self.find(Promise::Fifo, id, format!("it takes `{scope}` before `{earlier}`, which came first"));
            }
        }
    }

    pub(super) fn signalled(&mut self, signal: &NewSignal, after: Option<&Snapshot>) {
        let (id, name) = (signal.task, &signal.signal.id);
        let Some(entry) = self.ledger.tasks.get_mut(&id) else {
            return self.find(Promise::Kept, id, "a signal for a task that nobody submitted");
        };
        let status = entry.status;
        let first_time = entry.signals.insert(name.clone());
        let gated = signal.expect_session.as_ref().is_some_and(|session| !entry.hears(session, false));
        entry.cancelled |= matches!(signal.signal.kind, SignalKind::Cancel { .. });
        if let Some(after) = after {
            entry.see(after);
        }
        if !first_time {
            self.find(Promise::SignalOnce, id, format!("signal `{name}` was accepted twice"));
        }
        if gated {
            self.find(Promise::Gate, id, format!("signal `{name}` of a session that is not expected"));
        }
        if status.is_terminal() {
            self.find(Promise::OneEnd, id, format!("signal `{name}` was accepted after {status}"));
        }
    }

    pub(super) fn appended(&mut self, append: &Append, after: Option<&Snapshot>) {
        self.heard(append.task, &append.session, "an append");
        if let Some(entry) = self.ledger.tasks.get_mut(&append.task) {
            entry.events += append.events.len() as u64;
            if let Some(after) = after {
                entry.see(after);
            }
        }
    }

    /// Something of a session was accepted.
    pub(super) fn heard(&mut self, task: TaskId, session: &SessionId, what: &str) {
        let entry = self.ledger.tasks.get(&task);
        if !entry.is_some_and(|e| e.hears(session, true)) {
            let now = entry.map(|e| (e.status, e.session.clone()));
            self.find(Promise::Gate, task, format!("{what} of `{session}` was accepted at {now:?}"));
        }
    }
}
