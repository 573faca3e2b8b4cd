//! One task as a store keeps it, and the rules by which it changes: pure, shared by every store.

use std::collections::BTreeSet;

use super::{
    Append, Burial, ClaimQuery, Commit, LeaseChange, NewSignal, REASON_CHARS, Release, Renewal, SignalOutcome,
    StoreError, Submit, check_change, may_take,
};
use crate::event::{EventType, NewEvent};
use crate::id::{SessionId, SignalId, UserId, WorkerId};
use crate::session::{LogEntry, LogRecord};
use crate::task::{OwedEffect, SessionPhase, Signal, SignalKind, SlotChange, SlotLimit, SlotScope, Snapshot};
use crate::time::{Millis, Timestamp};

/// How many of a task's last commits are recognised when they are repeated.
pub const COMMITS_KEPT: usize = 16;

/// How many nudges of a task may wait for its agent: more are refused, so that nobody can make a task grow without limit.
pub const NUDGES_PENDING: usize = 20;

/// Nothing is due, and no lease lasts, longer from now than this: what is written further ahead was written by a clock that
/// was ahead and was set back since, and is due at once. No decision waits longer than half of it.
pub const FARTHEST: Millis = Millis::secs(7_200);

/// Who works on a task, and until when nobody else may begin to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The holder.
    pub worker: WorkerId,
    /// When it expires.
    pub until: Timestamp,
}

/// Everything that a store keeps of one task, but its events and its log.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskRow {
    /// What decisions see.
    pub snapshot: Snapshot,
    /// Its place in the order of acceptance, from 1.
    pub order: u64,
    /// Fingerprint of the submission.
    pub payload_hash: String,
    /// When it is due; `None` while it is worked on, or when only a signal makes it due.
    pub due: Option<Timestamp>,
    /// Who works on it.
    pub lease: Option<Lease>,
    /// It was denied a slot since it was last claimed.
    pub denied: bool,
    /// Room was made for it since it was last claimed.
    pub woken: Option<Timestamp>,
    /// How many events it has.
    pub events: u64,
    /// How many records its log has.
    pub log_len: u64,
    /// Its last commits, oldest first; at most [`COMMITS_KEPT`].
    pub commits: Vec<u128>,
    /// Every signal it ever accepted.
    pub seen: BTreeSet<SignalId>,
    /// It was put aside: why, and since when.
    pub dead: Option<(String, Timestamp)>,
}

/// How full scopes are, as a commit sees it.
pub trait Slots {
    /// How many tasks hold a slot in this scope.
    fn holders(&self, scope: &SlotScope) -> usize;
    /// Whether a task that was accepted before `order` waits and lists this scope.
    fn earlier_waits(&self, scope: &SlotScope, order: u64) -> bool;
}

/// What a commit did beyond the row.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The number of its first event.
    pub first_event: u64,
    /// Scopes that it took.
    pub taken: Vec<SlotScope>,
    /// Scopes that it gave back.
    pub freed: Vec<SlotScope>,
    /// It waited before and does not any more.
    pub left_queue: bool,
    /// It did not wait before and does now.
    pub joined_queue: bool,
    /// The record is another one than before.
    pub task_changed: bool,
}

/// What became of a commit, before its effects beyond the row are carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitVerdict {
    /// The row is changed.
    Applied(Applied),
    /// Known already; nothing changed.
    AlreadyApplied,
    /// Decided on another revision; nothing changed.
    Stale,
    /// Decided under another lease; nothing changed.
    Fenced,
    /// No slot; only [`TaskRow::denied`] changed.
    SlotDenied(SlotScope),
}

fn earliest(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    a.into_iter().chain(b).min()
}

fn free(limit: &SlotLimit, slots: &impl Slots) -> usize {
    usize::try_from(limit.cap).unwrap_or(usize::MAX).saturating_sub(slots.holders(&limit.scope))
}

impl TaskRow {
    /// A task as it is accepted.
    pub fn new(submit: &Submit, order: u64) -> Self {
        Self {
            snapshot: Snapshot {
                task: submit.task.clone(),
                revision: 1,
                epoch: 0,
                held: Vec::new(),
                signals: Vec::new(),
                owed: Vec::new(),
                heartbeat_at: None,
            },
            order,
            payload_hash: submit.payload_hash.clone(),
            due: Some(submit.due_at),
            lease: None,
            denied: false,
            woken: None,
            events: u64::try_from(submit.events.len()).unwrap_or(u64::MAX),
            log_len: 0,
            commits: Vec::new(),
            seen: BTreeSet::new(),
            dead: None,
        }
    }

    /// Whether it has ended.
    pub const fn is_terminal(&self) -> bool {
        self.snapshot.task.status.is_terminal()
    }

    /// The slots that it needs.
    pub fn limits(&self) -> &[SlotLimit] {
        &self.snapshot.task.spec.limits.slots
    }

    /// Who submitted it.
    pub const fn user(&self) -> &UserId {
        &self.snapshot.task.user
    }

    /// From when on it may be claimed; `None` for never by itself.
    pub fn claimable_from(&self) -> Option<Timestamp> {
        earliest(self.due, self.lease.map(|l| l.until)).filter(|_| !self.is_terminal() && self.dead.is_none())
    }

    /// Whether anybody may claim it now. What is further ahead than [`FARTHEST`] counts as past.
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.claimable_from().is_some_and(|t| t <= now || t > now.after(FARTHEST))
    }

    /// Whether a worker that names this task may have it: it is not in somebody's hands.
    pub fn is_free(&self, now: Timestamp) -> bool {
        !self.is_terminal() && self.dead.is_none() && (self.lease.is_none() || self.is_due(now))
    }

    /// Whether a claim that names no task may have it, once it is due.
    pub fn is_asked(&self, query: &ClaimQuery) -> bool {
        !query.signalled || !self.snapshot.signals.is_empty()
    }

    /// Gives it to a worker.
    pub fn claim(&mut self, worker: WorkerId, until: Timestamp) {
        self.snapshot.epoch = self.snapshot.epoch.saturating_add(1);
        self.lease = Some(Lease { worker, until });
        self.due = None;
        self.woken = None;
        self.denied = false;
    }

    /// Extends the lease; `false` when it is not held under this epoch.
    pub fn renew(&mut self, renewal: &Renewal) -> bool {
        match &mut self.lease {
            Some(lease) if self.snapshot.epoch == renewal.epoch => {
                lease.until = renewal.lease_until;
                true
            }
            Some(_) | None => false,
        }
    }

    /// Ends the lease where one of these workers holds it: they are dead. `false` when none does.
    pub fn expire(&mut self, workers: &[WorkerId], now: Timestamp) -> bool {
        match &mut self.lease {
            Some(lease) if workers.contains(&lease.worker) => {
                lease.until = lease.until.min(now);
                true
            }
            Some(_) | None => false,
        }
    }

    /// Gives the lease back; `false` when somebody else has claimed it since.
    pub fn release(&mut self, release: &Release) -> bool {
        if self.snapshot.epoch != release.epoch || self.is_terminal() {
            return false;
        }
        if self.lease.is_some() {
            let moved = self.snapshot.revision != release.expect_revision;
            let at_once = moved.then(|| self.due.unwrap_or(self.snapshot.task.updated_at));
            self.give_back(earliest(at_once, release.due));
        }
        true
    }

    fn give_back(&mut self, due: Option<Timestamp>) {
        self.lease = None;
        self.due = earliest(self.woken.take(), due);
    }

    /// Makes a task that was denied a slot due, because there is room now; `false` when it was woken before.
    pub fn wake(&mut self, now: Timestamp) -> bool {
        if self.woken.is_some() {
            return false;
        }
        self.woken = Some(now);
        self.due = earliest(self.due, Some(now));
        true
    }

    /// Whether it waits for slots, and holds up those behind it.
    pub const fn waits(&self) -> bool {
        self.snapshot.task.status.is_waiting() && self.dead.is_none()
    }

    /// Puts it aside; answers what it tells, numbered from one more than [`TaskRow::events`] was. `None` when it is not its
    /// holder's to put aside.
    pub fn bury(&mut self, burial: &Burial) -> Option<NewEvent> {
        if self.snapshot.epoch != burial.epoch || self.is_terminal() || self.dead.is_some() {
            return None;
        }
        let reason: String = burial.reason.chars().take(REASON_CHARS).collect();
        self.snapshot.epoch = self.snapshot.epoch.saturating_add(1);
        self.snapshot.revision = self.snapshot.revision.saturating_add(1);
        self.lease = None;
        self.due = None;
        self.woken = None;
        self.denied = false;
        self.events = self.events.saturating_add(1);
        self.dead = Some((reason.clone(), burial.now));
        Some(NewEvent::new(EventType::TaskDeadLettered, burial.now).with("reason", reason))
    }

    /// Takes it up again, due at once; answers what it tells, as [`TaskRow::bury`]. `None` when it is no dead letter.
    pub fn revive(&mut self, now: Timestamp) -> Option<NewEvent> {
        self.dead.take()?;
        self.due = Some(now);
        self.snapshot.revision = self.snapshot.revision.saturating_add(1);
        self.events = self.events.saturating_add(1);
        Some(NewEvent::new(EventType::TaskRevived, now))
    }

    /// How many more tasks like this one could be admitted now: the least over its scopes.
    pub fn room(&self, slots: &impl Slots) -> usize {
        self.limits().iter().map(|l| free(l, slots)).min().unwrap_or(usize::MAX)
    }

    /// How many more tasks fit into one of its scopes.
    pub fn room_in(&self, scope: &SlotScope, slots: &impl Slots) -> usize {
        self.limits().iter().filter(|l| l.scope == *scope).map(|l| free(l, slots)).min().unwrap_or(0)
    }

    /// Scopes in which somebody may move up after a commit of this task: what it gave back; and, when it left the
    /// queue, those where its place in the order held others up, or all when it took nothing, because it was perhaps
    /// woken for room that the next one may have instead.
    pub fn rooms(&self, done: &Applied) -> BTreeSet<SlotScope> {
        let leaves = |l: &SlotLimit| done.left_queue && (l.fifo || done.taken.is_empty());
        let places = self.limits().iter().filter(|l| leaves(l)).map(|l| l.scope.clone());
        done.freed.iter().cloned().chain(places).collect()
    }

    /// Puts a signal into the inbox.
    pub fn signal(&mut self, new: &NewSignal) -> SignalOutcome {
        if self.seen.contains(&new.signal.id) {
            return SignalOutcome::Duplicate;
        }
        if self.is_terminal() {
            return SignalOutcome::Terminal(self.snapshot.task.status);
        }
        if let Some(session) = &new.expect_session
            && !self.expects(session, &[SessionPhase::Starting, SessionPhase::Live])
        {
            return SignalOutcome::Refused;
        }
        let nudge = |s: &Signal| matches!(s.kind, SignalKind::Nudge { .. });
        if nudge(&new.signal) && self.snapshot.signals.iter().filter(|s| nudge(s)).count() >= NUDGES_PENDING {
            return SignalOutcome::Full;
        }
        self.seen.insert(new.signal.id.clone());
        self.snapshot.signals.push(new.signal.clone());
        self.snapshot.revision = self.snapshot.revision.saturating_add(1);
        self.due = earliest(self.due, Some(new.signal.at));
        SignalOutcome::Accepted
    }

    fn expects(&self, session: &SessionId, phases: &[SessionPhase]) -> bool {
        !self.is_terminal()
            && self.dead.is_none()
            && self.snapshot.task.session.as_ref().is_some_and(|s| s.id == *session && phases.contains(&s.phase))
    }

    /// Whether this session may write to the log and be heard.
    pub fn hears(&self, session: &SessionId) -> bool {
        self.expects(session, &[SessionPhase::Starting, SessionPhase::Live, SessionPhase::Stopping])
    }

    /// Whether nothing waits for the task's session to hear; see [`super::AppendOutcome::Appended`].
    pub fn is_quiet(&self) -> bool {
        let s = &self.snapshot;
        let live = s.task.session.as_ref().is_some_and(|session| session.phase == SessionPhase::Live);
        live && s.task.cancel.is_none() && s.signals.is_empty()
    }

    /// Records that the session lives; `false` when it is not expected. The mark never moves back, unless it is further
    /// ahead than the session may be silent: a clock was wrong then.
    pub fn heartbeat(&mut self, session: &SessionId, now: Timestamp) -> bool {
        let heard = self.hears(session);
        if heard {
            self.mark(now);
        }
        heard
    }

    fn mark(&mut self, now: Timestamp) {
        let believed = now.after(self.snapshot.task.spec.limits.heartbeat_timeout_ms);
        let before = self.snapshot.heartbeat_at.filter(|h| *h <= believed);
        self.snapshot.heartbeat_at = before.max(Some(now));
    }

    /// Nudges in the inbox that an append says the agent has heard, and answers to gates that it has taken in; an answer that
    /// the task still waits for stays.
    pub fn heard(&self, append: &Append) -> Vec<SignalId> {
        let said = |r: &LogRecord| match &r.entry {
            LogEntry::Injected { signal, .. } => signal.clone(),
            LogEntry::ApprovalSettled { signal, .. } => Some(signal.clone()),
            _ => None,
        };
        let ids: BTreeSet<String> = append.records.iter().filter_map(said).collect();
        let awaiting = self.snapshot.task.awaiting.as_ref().map(|gate| &gate.request);
        let for_sessions = self.snapshot.signals.iter().filter(|s| match &s.kind {
            SignalKind::Nudge { .. } => true,
            SignalKind::ApprovalDecided { request, .. } => awaiting != Some(request),
            SignalKind::Cancel { .. }
            | SignalKind::UploadsConfirmed
            | SignalKind::SessionRegistered { .. }
            | SignalKind::SessionResult { .. }
            | SignalKind::SessionExited { .. }
            | SignalKind::ApprovalRequested { .. } => false,
        });
        for_sessions.filter(|s| ids.contains(s.id.as_str())).map(|s| s.id.clone()).collect()
    }

    /// Counts what an append that was checked and begins right after the log's end adds, and takes what it says was
    /// [`TaskRow::heard`] out of the inbox; answers its first event's number.
    pub fn append(&mut self, append: &Append) -> u64 {
        let first = self.events.saturating_add(1);
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        self.log_len = self.log_len.saturating_add(count(append.records.len()));
        self.events = self.events.saturating_add(count(append.events.len()));
        self.mark(append.now);
        let heard = self.heard(append);
        if !heard.is_empty() {
            self.snapshot.signals.retain(|s| !heard.contains(&s.id));
            // A commit that was decided with them in the inbox would consume what is not there.
            self.snapshot.revision = self.snapshot.revision.saturating_add(1);
        }
        first
    }

    /// Whether the commit was decided on what is there, by whoever works on it.
    pub fn is_current(&self, commit: &Commit) -> bool {
        self.dead.is_none()
            && self.snapshot.epoch == commit.epoch
            && self.snapshot.revision == commit.expect_revision
            && !self.commits.contains(&commit.commit_id)
    }

    /// Applies a commit: the guards in order epoch, repetition, revision; the checks; the slots; then the change.
    ///
    /// # Errors
    /// [`super::StoreErrorKind::Invalid`] when the change may not be; nothing is changed then.
    pub fn commit(&mut self, commit: &Commit, slots: &impl Slots) -> Result<CommitVerdict, StoreError> {
        // A dead letter is nobody's, also for somebody who has read its epoch.
        if self.snapshot.epoch != commit.epoch || self.dead.is_some() {
            return Ok(CommitVerdict::Fenced);
        }
        if self.commits.contains(&commit.commit_id) {
            return Ok(CommitVerdict::AlreadyApplied);
        }
        if self.snapshot.revision != commit.expect_revision {
            return Ok(CommitVerdict::Stale);
        }
        check_change(&self.snapshot, &commit.change)?;
        if let SlotChange::Acquire(limits) = &commit.change.slots
            && let Some(scope) = self.full(limits, slots)
        {
            self.denied = true;
            return Ok(CommitVerdict::SlotDenied(scope));
        }
        Ok(CommitVerdict::Applied(self.apply(commit)))
    }

    fn full(&self, limits: &[SlotLimit], slots: &impl Slots) -> Option<SlotScope> {
        let free = |l: &SlotLimit| {
            self.snapshot.held.contains(&l.scope)
                || may_take(l, slots.holders(&l.scope), l.fifo && slots.earlier_waits(&l.scope, self.order))
        };
        limits.iter().find(|l| !free(l)).map(|l| l.scope.clone())
    }

    fn apply(&mut self, commit: &Commit) -> Applied {
        let change = &commit.change;
        let s = &mut self.snapshot;
        let mut done = Applied {
            first_event: self.events.saturating_add(1),
            left_queue: s.task.status.is_waiting() && !change.task.status.is_waiting(),
            joined_queue: !s.task.status.is_waiting() && change.task.status.is_waiting(),
            task_changed: s.task != change.task,
            ..Applied::default()
        };
        match &change.slots {
            SlotChange::Keep => {}
            SlotChange::Acquire(limits) => {
                for limit in limits {
                    if !s.held.contains(&limit.scope) {
                        s.held.push(limit.scope.clone());
                        done.taken.push(limit.scope.clone());
                    }
                }
            }
            SlotChange::Release => done.freed = std::mem::take(&mut s.held),
        }
        let session = |t: &crate::task::Task| t.session.as_ref().map(|s| s.id.clone());
        if done.task_changed {
            if session(&s.task) != session(&change.task) {
                s.heartbeat_at = None;
            }
            s.task.clone_from(&change.task);
        }
        s.revision = s.revision.saturating_add(1);
        s.signals.retain(|x| !change.consumed.contains(&x.id));
        s.owed.retain(|o| !change.settled.contains(&o.effect.key));
        let since = change.task.updated_at;
        s.owed.extend(change.effects.iter().map(|effect| OwedEffect { effect: effect.clone(), since }));
        self.events = self.events.saturating_add(u64::try_from(change.events.len()).unwrap_or(u64::MAX));
        self.commits.push(commit.commit_id);
        let surplus = self.commits.len().saturating_sub(COMMITS_KEPT);
        self.commits.drain(..surplus);
        if !self.snapshot.task.status.is_waiting() {
            self.denied = false;
            self.woken = None;
        }
        if self.is_terminal() {
            self.lease = None;
            self.due = None;
        } else {
            match commit.lease {
                LeaseChange::Keep => {}
                LeaseChange::Release { due } => self.give_back(due),
            }
        }
        done
    }
}
