//! Small, valid values to test with: tasks, submissions, and changes along the transition table.

use std::collections::BTreeMap;

use super::VirtualClock;
use crate::event::{EventType, NewEvent};
use crate::id::{EffectKey, SessionId, SignalId, TaskId, UserId, WorkerId};
use crate::model::Usage;
use crate::money::MicroUsd;
use crate::policy::Severity;
use crate::session::{LogEntry, LogRecord};
use crate::store::{ClaimQuery, Commit, LeaseChange, NewSignal, Submit};
use crate::task::{
    ApprovalScope, Cause, Change, DiffStat, Effect, EffectKind, Failure, FailureReason, Gate, GateDecision, Prepared,
    ResolvedLimits, SessionPhase, SessionRecord, SessionReport, Signal, SignalKind, SlotChange, SlotLimit, SlotScope,
    Snapshot, Task, TaskSpec, TaskStatus, Transition, Unanswered, Verdict,
};
use crate::text::ScreenConfig;
use crate::time::{Millis, Timestamp};

/// A moment `ms` milliseconds after [`VirtualClock::EPOCH`].
pub fn at(ms: u64) -> Timestamp {
    VirtualClock::EPOCH.after(Millis(ms))
}

/// The `n`th task: ids grow with `n`.
pub fn task_id(n: u64) -> TaskId {
    TaskId::from_parts(at(n), u128::from(n))
}

/// The `n`th worker.
pub fn worker(n: u64) -> WorkerId {
    WorkerId::from_parts(at(0), u128::from(n))
}

/// A user.
pub fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

/// A slot to hold.
pub fn limit(scope: &str, cap: u32, fifo: bool) -> SlotLimit {
    SlotLimit { scope: SlotScope(scope.to_owned()), cap, fifo }
}

/// A specification without limits on slots.
pub fn spec() -> TaskSpec {
    TaskSpec {
        repo: Some("acme/app".parse().unwrap()),
        task_description: Some("fix the bug".to_owned()),
        issue_number: None,
        pr_number: None,
        workflow_id: "coding/new-task-v1".to_owned(),
        workflow_version: "1.0.0".to_owned(),
        model: None,
        build_command: None,
        test_command: None,
        lint_command: None,
        base_branch: None,
        trace: false,
        read_only: false,
        tools: crate::workflow::Tier::Standard,
        system_prompt_overrides: None,
        egress_allowlist: Vec::new(),
        cedar_policies: Vec::new(),
        screening: ScreenConfig::default(),
        attachments: Vec::new(),
        initial_approvals: Vec::new(),
        channel_source: crate::task::ChannelSource::Api,
        channel_metadata: BTreeMap::new(),
        limits: ResolvedLimits::default(),
    }
}

/// The `n`th task of user `ann`: `SUBMITTED` at [`at`]`(n)`, holding nothing.
pub fn task(n: u64) -> Task {
    task_at(task_id(n), at(n))
}

/// [`task`] that needs these slots.
pub fn task_with_slots(n: u64, slots: Vec<SlotLimit>) -> Task {
    let mut task = task(n);
    task.spec.limits.slots = slots;
    task
}

/// [`task`] under another id, accepted at another moment.
pub fn task_at(id: TaskId, now: Timestamp) -> Task {
    Task::accepted(id, user("ann"), spec(), None, now)
}

/// A task that a worker has just claimed for the first time, with nothing around it.
pub fn claimed(task: Task) -> Snapshot {
    Snapshot {
        task,
        revision: 1,
        epoch: 1,
        held: Vec::new(),
        signals: Vec::new(),
        owed: Vec::new(),
        heartbeat_at: None,
    }
}

/// What preparation finds for a task without an issue.
pub fn prepared() -> Prepared {
    Prepared {
        base_branch: "main".to_owned(),
        branch: "bgagent/x/y".to_owned(),
        user_prompt: "fix it".to_owned(),
        sources: vec!["task_description".to_owned()],
        token_estimate: 2,
        truncated: false,
    }
}

/// What a session reports that took one turn, with a reason where it failed.
pub fn report(verdict: Verdict) -> SessionReport {
    SessionReport {
        verdict,
        failure: (verdict == Verdict::Failed).then(|| Failure::new(FailureReason::Verification, "broke the build")),
        pull_request: None,
        branch: None,
        head_sha: None,
        code_changed: true,
        answer_text: None,
        cost: MicroUsd(5),
        usage: Usage::default(),
        turns_attempted: 1,
        turns_completed: 1,
        verification: Vec::new(),
        diff: DiffStat::default(),
        phases: Vec::new(),
        prompt_version: "0".repeat(12),
        model: None,
    }
}

/// A gate of that name about a forced push, until then.
pub fn gate(request: &str, deadline: Timestamp) -> Gate {
    Gate {
        request: request.to_owned(),
        tool: "Bash".to_owned(),
        preview: "git push --force".to_owned(),
        rules: vec!["force_push_any".to_owned()],
        reason: "`force_push_any`: rewrites what others may have".to_owned(),
        severity: Severity::Medium,
        scopes: vec!["rule:force_push_any".to_owned()],
        asked_at: at(1),
        deadline,
    }
}

/// The question of that gate.
pub fn asked(request: &str, deadline: Timestamp) -> SignalKind {
    SignalKind::ApprovalRequested { gate: Box::new(gate(request, deadline)) }
}

/// The answer to that gate.
pub fn decided(request: &str, approved: bool) -> SignalKind {
    let decision =
        if approved { GateDecision::approve("ann", ApprovalScope::ThisCall) } else { GateDecision::expired() };
    SignalKind::ApprovalDecided { request: request.to_owned(), decision }
}

/// A forge that has failed to answer twice.
pub fn unanswered() -> Unanswered {
    Unanswered { times: 2, since: at(1), at: at(2), message: "the forge answered 503".to_owned() }
}

/// Submits a task: one event, due at once.
pub fn submit(task: Task) -> Submit {
    let due_at = task.created_at;
    Submit {
        payload_hash: "payload".to_owned(),
        events: vec![NewEvent::new(EventType::TaskCreated, due_at).with("repo", "acme/app")],
        due_at,
        task,
    }
}

/// A change that only tells something.
pub fn note(from: &Snapshot, now: Timestamp) -> Change {
    let mut task = from.task.clone();
    task.updated_at = now;
    Change {
        task,
        transition: None,
        events: vec![NewEvent::new(EventType::AgentMilestone, now).with("milestone", "noted")],
        effects: Vec::new(),
        settled: Vec::new(),
        consumed: Vec::new(),
        slots: SlotChange::Keep,
    }
}

/// A step along the table: tells its event, takes the slots on admission, gives them back and settles at the end.
///
/// # Panics
/// When the table has no such row.
pub fn step(from: &Snapshot, to: TaskStatus, cause: Cause, now: Timestamp) -> Change {
    let status = from.task.status;
    let row = Transition::find(status, to, cause).unwrap_or_else(|| panic!("no step {status} to {to} for {cause:?}"));
    let mut change = note(from, now);
    change.transition = Some(row);
    change.events = vec![NewEvent::new(row.event, now)];
    change.task.status = to;
    change.task.status_at = now;
    if status.is_waiting() && to.holds_slots() {
        change.slots = SlotChange::Acquire(from.task.spec.limits.slots.clone());
    }
    if status.holds_slots() && !to.holds_slots() {
        change.slots = SlotChange::Release;
    }
    if to.is_terminal() {
        change.task.completed_at = Some(now);
        change.settled = from.owed.iter().map(|o| o.effect.key.clone()).collect();
        if let Some(session) = &mut change.task.session {
            session.phase = SessionPhase::Over;
        }
    }
    change
}

/// From waiting to `HYDRATING`.
pub fn admit(from: &Snapshot, now: Timestamp) -> Change {
    step(from, TaskStatus::Hydrating, Cause::Admitted, now)
}

/// Owes the start of the next attempt's session.
pub fn start_intent(from: &Snapshot, now: Timestamp) -> Change {
    let mut change = note(from, now);
    let attempt = from.task.attempt + 1;
    let id = SessionId::of(from.task.id, attempt);
    change.task.attempt = attempt;
    change.task.session = Some(SessionRecord {
        id: id.clone(),
        attempt,
        phase: SessionPhase::Starting,
        compute: "fake".to_owned(),
        intent_at: now,
        registered_at: None,
        stopping: None,
    });
    change.events = vec![NewEvent::new(EventType::SessionStarting, now).with("attempt", attempt)];
    change.effects = vec![Effect {
        key: EffectKey::of(from.task.id, attempt, "start"),
        kind: EffectKind::StartSession { session: id, attempt },
    }];
    change
}

/// From `HYDRATING` to `RUNNING`: the start is settled, the session live, the inbox read.
pub fn running(from: &Snapshot, now: Timestamp) -> Change {
    let mut change = step(from, TaskStatus::Running, Cause::SessionRegistered, now);
    if let Some(session) = &mut change.task.session {
        session.phase = SessionPhase::Live;
        session.registered_at = Some(now);
    }
    change.settled = from.owed.iter().map(|o| o.effect.key.clone()).collect();
    change.consumed = from.signals.iter().map(|s| s.id.clone()).collect();
    change
}

/// From `RUNNING` to `COMPLETED`, the inbox read.
pub fn complete(from: &Snapshot, now: Timestamp) -> Change {
    let mut change = step(from, TaskStatus::Completed, Cause::SessionEnded, now);
    change.consumed = from.signals.iter().map(|s| s.id.clone()).collect();
    change
}

/// To `CANCELLED`.
pub fn cancelled(from: &Snapshot, now: Timestamp) -> Change {
    step(from, TaskStatus::Cancelled, Cause::Cancelled, now)
}

/// A commit of a change on the snapshot that it was made from, keeping the lease. `salt` tells commits of the same
/// revision apart.
pub fn commit(from: &Snapshot, change: Change, salt: u64) -> Commit {
    Commit {
        task: from.task.id,
        expect_revision: from.revision,
        epoch: from.epoch,
        commit_id: (u128::from(from.revision) << 64) | u128::from(salt),
        now: change.task.updated_at,
        change,
        lease: LeaseChange::Keep,
    }
}

/// Asks for at most `limit` due tasks, for a minute.
pub fn claim(n: u64, now: Timestamp, limit: usize) -> ClaimQuery {
    let lease_until = now.after(Millis::secs(60));
    ClaimQuery { worker: worker(n), task: None, signalled: false, now, lease_until, limit }
}

/// A signal from anybody.
pub fn signal(task: TaskId, id: &str, kind: SignalKind, now: Timestamp) -> NewSignal {
    let signal = Signal { id: SignalId::new(id).unwrap(), at: now, kind };
    NewSignal { task, signal, expect_session: None }
}

/// A nudge.
pub fn nudge(task: TaskId, id: &str, now: Timestamp) -> NewSignal {
    signal(task, id, SignalKind::Nudge { message: format!("nudge {id}") }, now)
}

/// A session's registration, guarded by its own name.
pub fn registration(session: &SessionId, task: TaskId, now: Timestamp) -> NewSignal {
    let kind = SignalKind::SessionRegistered { session: session.clone() };
    NewSignal { expect_session: Some(session.clone()), ..signal(task, &format!("registered/{session}"), kind, now) }
}

/// A record of a session's log.
pub fn record(session: &SessionId, n: u64) -> LogRecord {
    let entry = LogEntry::Injected { signal: None, origin: "nudge".to_owned(), text: format!("record {n}") };
    LogRecord { session: session.clone(), at: at(n), entry }
}
