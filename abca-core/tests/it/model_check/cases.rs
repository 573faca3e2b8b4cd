//! What the checker, the table and a hostile reading found once, each by name.

use abca_core::compute::SessionView;
use abca_core::event::EventType;
use abca_core::id::{EffectKey, SignalId};
use abca_core::task::{
    Backend, Decision, Effect, EffectKind, Observation, OwedEffect, Query, SessionPhase, SessionRecord, Signal,
    SignalKind, Snapshot, StopCause, Stopping, TaskSpec, TaskStatus, Verdict, apply, decide,
};
use abca_core::{Millis, SessionId, Timestamp, UserId};

use super::fixtures::{TICK, at, backend, limits, prepared, report, task, task_id};

fn id() -> SessionId {
    SessionId::of(task_id(0), 1)
}

/// A task with a session of the first of two attempts, one tick after its acceptance.
fn running(status: TaskStatus, phase: SessionPhase) -> Snapshot {
    let slot = TaskSpec::user_slot(&UserId::new("ann").unwrap(), 1);
    let mut task = task(0, limits(vec![slot.clone()], 2));
    (task.status, task.status_at, task.admitted_at) = (status, at(1), Some(at(1)));
    (task.attempt, task.prepared) = (1, Some(prepared().into()));
    task.session = Some(SessionRecord {
        id: id(),
        attempt: 1,
        phase,
        compute: "fake".to_owned(),
        intent_at: at(1),
        registered_at: (phase == SessionPhase::Live).then(|| at(1)),
        stopping: None,
    });
    Snapshot { task, revision: 1, epoch: 1, held: vec![slot.scope], signals: vec![], owed: vec![], heartbeat_at: None }
}

/// The same, while a stop is owed.
fn stopping(status: TaskStatus, cause: StopCause) -> Snapshot {
    let mut s = running(status, SessionPhase::Stopping);
    if let Some(session) = &mut s.task.session {
        session.stopping = Some(Stopping { at: at(1), cause, detail: "why".to_owned() });
    }
    let kind = EffectKind::StopSession { session: id(), grace_ms: Millis(0) };
    s.owed = vec![OwedEffect { effect: Effect { key: EffectKey::of(task_id(0), 1, "stop"), kind }, since: at(1) }];
    s
}

fn reported(s: &mut Snapshot, session: SessionId, verdict: Verdict, at: Timestamp) {
    let kind = SignalKind::SessionResult { session, report: Box::new(report(verdict)) };
    let id = SignalId::new(format!("s{}", s.signals.len())).unwrap();
    s.signals.push(Signal { id, at, kind });
}

fn seen(view: SessionView) -> Observation {
    Observation::Seen { session: id(), view }
}

fn alive() -> Observation {
    seen(SessionView::Running { active_at: None })
}

/// What a decision commits.
fn committed(s: &Snapshot, observations: &[Observation], now: Timestamp) -> abca_core::task::Change {
    match decide(s, observations, &backend(), now) {
        Decision::Commit(change) => *change,
        other => panic!("a commit was expected, not {other:?}"),
    }
}

#[test]
fn a_report_of_a_session_that_was_never_let_in_ends_nothing() {
    let mut s = stopping(TaskStatus::Hydrating, StopCause::StartRefused);
    reported(&mut s, id(), Verdict::Succeeded, at(1));
    let change = committed(&s, &[Observation::Stopped(id())], at(1));
    assert_eq!(change.task.status, TaskStatus::Failed);
    let mut s = stopping(TaskStatus::Hydrating, StopCause::Lost);
    reported(&mut s, id(), Verdict::Succeeded, at(1));
    let change = committed(&s, &[Observation::Stopped(id())], at(1));
    assert_eq!((change.task.status, change.consumed.len()), (TaskStatus::Hydrating, 1));
    assert_eq!(change.events.last().map(|e| e.event_type), Some(EventType::SessionStartRetry));
}

#[test]
fn a_record_that_runs_though_its_start_was_refused_comes_to_its_end() {
    // Only a row that was edited by hand says so. It was decided on again and again, along no row of the table.
    for status in [TaskStatus::Running, TaskStatus::AwaitingApproval, TaskStatus::Finalizing] {
        let s = stopping(status, StopCause::StartRefused);
        let change = committed(&s, &[Observation::StopFailed { session: id(), message: "no".to_owned() }], at(2));
        assert_eq!(change.task.status, TaskStatus::Failed, "{status}");
        assert_eq!(change.transition.map(|t| (t.from, t.to)), Some((status, TaskStatus::Failed)));
    }
}

#[test]
fn no_second_session_while_the_first_may_still_run() {
    let failed = Observation::StopFailed { session: id(), message: "unreachable".to_owned() };
    for status in [TaskStatus::Hydrating, TaskStatus::Running, TaskStatus::AwaitingApproval] {
        let s = stopping(status, StopCause::Lost);
        let change = committed(&s, std::slice::from_ref(&failed), at(2));
        assert_eq!(change.task.status, TaskStatus::Failed, "{status}");
        let end = change.events.last().unwrap();
        assert_eq!(end.metadata.get("stop_unconfirmed").and_then(|v| v.as_str()), Some("unreachable"));
    }
}

#[test]
fn an_end_by_report_says_that_the_stop_was_never_confirmed() {
    let mut s = stopping(TaskStatus::Running, StopCause::Deadline);
    reported(&mut s, id(), Verdict::Succeeded, at(1));
    let failed = Observation::StopFailed { session: id(), message: "unreachable".to_owned() };
    let change = committed(&s, &[failed], at(2));
    assert_eq!(change.task.status, TaskStatus::Completed);
    assert!(change.events.last().unwrap().metadata.contains_key("stop_unconfirmed"));
    let change = committed(&s, &[Observation::Stopped(id())], at(2));
    assert!(!change.events.last().unwrap().metadata.contains_key("stop_unconfirmed"));
}

#[test]
fn an_interrupted_session_that_lingers_is_tried_again() {
    let mut s = running(TaskStatus::Running, SessionPhase::Live);
    reported(&mut s, id(), Verdict::Cancelled, at(1));
    let stop = committed(&s, &[alive()], at(1).after(Millis::secs(3)));
    assert_eq!(stop.task.status, TaskStatus::Running);
    let next = apply(&s, &stop);
    let retry = committed(&next, &[Observation::Stopped(id())], at(1).after(Millis::secs(4)));
    assert_eq!((retry.task.status, retry.task.report.is_none()), (TaskStatus::Hydrating, true));
}

#[test]
fn every_attempt_has_the_whole_time_of_its_preparation() {
    let mut s = running(TaskStatus::Hydrating, SessionPhase::Over);
    let late = at(1).after(Millis(2 * TICK.0 - 1));
    s.task.not_before = Some(late);
    let started = apply(&s, &committed(&s, &[], late));
    assert_eq!(started.task.session.as_ref().map(|s| s.attempt), Some(2));
    let next = decide(&started, &[], &backend(), late.after(Millis(2)));
    assert!(matches!(next, Decision::Run(_)), "the second attempt is timed out by the first: {next:?}");
}

#[test]
fn patience_is_for_the_session_at_hand_and_for_no_moment_to_come() {
    // An older session's report, long ago, does not use up the patience with this one.
    let mut s = running(TaskStatus::Running, SessionPhase::Live);
    reported(&mut s, SessionId::of(task_id(0), 9), Verdict::Succeeded, at(0));
    reported(&mut s, id(), Verdict::Succeeded, at(1));
    let soon = at(1).after(Millis::secs(1));
    let patient = Decision::Wait { until: Some(at(1).after(Millis::secs(2))) };
    assert_eq!(decide(&s, &[alive()], &backend(), soon), patient);
    // A session whose clock is far ahead does not hold its task up.
    let mut s = running(TaskStatus::Running, SessionPhase::Live);
    reported(&mut s, id(), Verdict::Succeeded, at(100));
    assert_eq!(committed(&s, &[alive()], soon).task.status, TaskStatus::Finalizing);
}

#[test]
fn looking_ahead_forgets_the_heartbeat_of_the_session_before() {
    let mut s = running(TaskStatus::Hydrating, SessionPhase::Over);
    s.heartbeat_at = Some(at(1));
    let change = committed(&s, &[], at(1));
    assert_eq!(apply(&s, &change).heartbeat_at, None);
}

#[test]
fn a_failure_is_told_with_what_it_means() {
    let s = stopping(TaskStatus::Hydrating, StopCause::StartRefused);
    let change = committed(&s, &[Observation::Stopped(id())], at(1));
    let classification = abca_core::classify::classify_failure(change.task.failure.as_ref().unwrap());
    let told = change.events.last().unwrap().metadata.get("classification").cloned();
    assert_eq!(told, Some(serde_json::Value::from(classification.code)));
}

#[test]
fn a_worker_of_another_backend_neither_judges_nor_touches_a_session() {
    let other = Backend { name: "other".to_owned(), ..backend() };
    let soon = at(1).after(Millis::secs(1));
    for phase in [SessionPhase::Starting, SessionPhase::Live] {
        let status = if phase == SessionPhase::Live { TaskStatus::Running } else { TaskStatus::Hydrating };
        let mut s = running(status, phase);
        let kind = EffectKind::StartSession { session: id(), attempt: 1 };
        s.owed = vec![OwedEffect { effect: Effect { key: EffectKey::of(task_id(0), 1, "start"), kind }, since: at(1) }];
        let next = decide(&s, &[], &other, soon);
        assert!(matches!(next, Decision::Wait { until: Some(_) }), "{phase:?}: {next:?}");
    }
    // Its own stop must be confirmed by its own backend, or be given up, and said so.
    let s = stopping(TaskStatus::Running, StopCause::Deadline);
    let next = decide(&s, &[], &other, soon);
    assert!(matches!(next, Decision::Wait { until: Some(_) }), "{next:?}");
    let Decision::Commit(end) = decide(&s, &[], &other, at(2)) else { panic!("given up at its deadline") };
    assert_eq!(end.task.status, TaskStatus::TimedOut);
    let why = end.events.last().unwrap().metadata.get("stop_unconfirmed").cloned().unwrap_or_default().to_string();
    assert!(why.contains("`fake`") && why.contains("`other`"), "{why}");
    // What the session itself said counts, whoever reads it.
    let mut s = running(TaskStatus::Hydrating, SessionPhase::Starting);
    let kind = SignalKind::SessionRegistered { session: id() };
    s.signals = vec![Signal { id: SignalId::new("r").unwrap(), at: at(1), kind }];
    let Decision::Commit(change) = decide(&s, &[], &other, soon) else { panic!("registered") };
    assert_eq!(change.task.status, TaskStatus::Running);
    assert_eq!(
        decide(&running(TaskStatus::Running, SessionPhase::Live), &[], &backend(), soon),
        Decision::Ask(Query::Observe(id()))
    );
}
