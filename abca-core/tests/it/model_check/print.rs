//! Fingerprints of what a decision looks at, and of nothing else: texts, counters and moments that only people read
//! are left out, so that states which behave alike are one state.

use std::hash::{DefaultHasher, Hash, Hasher};

use abca_core::SessionId;
use abca_core::compute::SessionView;
use abca_core::task::{
    Change, Decision, Delivery, EffectKind, Observation, Query, SessionRecord, Signal, SignalKind, SlotChange,
    Snapshot, Task,
};

pub fn of(write: impl FnOnce(&mut DefaultHasher)) -> u64 {
    let mut h = DefaultHasher::new();
    write(&mut h);
    h.finish()
}

pub fn snapshot(s: &Snapshot, h: &mut DefaultHasher) {
    task(&s.task, h);
    // Revision and epoch count up for ever; what matters is whether a worker still has the row's, which its job says.
    s.held.len().hash(h);
    s.signals.len().hash(h);
    s.signals.iter().for_each(|x| signal(x, h));
    s.owed.len().hash(h);
    s.owed.iter().for_each(|o| o.effect.key.hash(h));
    s.heartbeat_at.hash(h);
}

fn task(t: &Task, h: &mut DefaultHasher) {
    (t.status, t.status_at, t.admitted_at, t.attempt, t.not_before, t.prepared.is_some()).hash(h);
    t.unprepared.as_ref().map(|u| u.at).hash(h);
    t.started_at.is_some().hash(h);
    t.unanswered.as_ref().map(|u| (u.times, u.since, u.at)).hash(h);
    t.inferred.is_some().hash(h);
    t.session.is_some().hash(h);
    t.session.iter().for_each(|s| session(s, h));
    (t.awaiting.is_some(), t.cancel.is_some(), t.report.as_ref().map(|r| r.verdict as u8)).hash(h);
    t.failure.as_ref().map(|f| f.reason).hash(h);
}

fn session(s: &SessionRecord, h: &mut DefaultHasher) {
    (s.attempt, s.phase, s.intent_at, s.registered_at).hash(h);
    s.stopping.as_ref().map(|s| (s.at, s.cause)).hash(h);
}

fn signal(s: &Signal, h: &mut DefaultHasher) {
    match &s.kind {
        SignalKind::Cancel { .. } => 0u8.hash(h),
        SignalKind::UploadsConfirmed => 1u8.hash(h),
        SignalKind::SessionRegistered { session } => (2u8, session).hash(h),
        SignalKind::SessionResult { session, report } => (3u8, session, report.verdict as u8, s.at).hash(h),
        SignalKind::SessionExited { session } => (4u8, session).hash(h),
        SignalKind::Nudge { .. } => 5u8.hash(h),
        SignalKind::ApprovalRequested { gate } => (6u8, &gate.request).hash(h),
        SignalKind::ApprovalDecided { request, decision } => (7u8, request, decision.approved).hash(h),
    }
}

pub fn observation(o: &Observation, h: &mut DefaultHasher) {
    match o {
        Observation::SlotDenied(_) => 0u8.hash(h),
        Observation::Prepared(_) => 1u8.hash(h),
        Observation::PrepareFailed { retryable, .. } => (2u8, retryable).hash(h),
        Observation::Started(id) => (3u8, id).hash(h),
        Observation::StartFailed { session, retryable, .. } => (4u8, session, retryable).hash(h),
        Observation::Stopped(id) => (5u8, id).hash(h),
        Observation::StopFailed { session, .. } => (6u8, session).hash(h),
        Observation::Seen { session, view: v } => (7u8, session, view(v)).hash(h),
        Observation::Unseen { session, .. } => (8u8, session).hash(h),
        Observation::Delivered { session, delivery: d } => (9u8, session, delivery(d)).hash(h),
        Observation::Guarded(events) => (10u8, events.len()).hash(h),
    }
}

fn delivery(d: &Delivery) -> u8 {
    match d {
        Delivery::Proposed(_) => 0,
        Delivery::Pushed { .. } => 1,
        Delivery::Nothing => 2,
        Delivery::NoAnswer { .. } => 3,
        Delivery::Unknowable => 4,
    }
}

fn view(v: &SessionView) -> u8 {
    match v {
        SessionView::Unknown => 0,
        SessionView::Running { .. } => 1,
        SessionView::Suspended => 2,
        SessionView::Exited { .. } => 3,
    }
}

pub fn decision(d: &Decision, h: &mut DefaultHasher) {
    match d {
        Decision::Wait { until } => (0u8, until).hash(h),
        Decision::Ask(Query::Prepare) => 1u8.hash(h),
        Decision::Ask(Query::Observe(id)) => (2u8, id).hash(h),
        Decision::Ask(Query::Delivered(id)) => (5u8, id).hash(h),
        Decision::Run(effect) => (3u8, &effect.key).hash(h),
        Decision::Commit(c) => {
            4u8.hash(h);
            change(c, h);
        }
    }
}

fn change(c: &Change, h: &mut DefaultHasher) {
    task(&c.task, h);
    c.transition.hash(h);
    c.effects.iter().for_each(|e| e.key.hash(h));
    (&c.settled, &c.consumed).hash(h);
    match &c.slots {
        SlotChange::Keep => 0u8.hash(h),
        SlotChange::Acquire(_) => 1u8.hash(h),
        SlotChange::Release => 2u8.hash(h),
    }
}

/// Which session an effect is about.
pub fn target(effect: &EffectKind) -> &SessionId {
    match effect {
        EffectKind::StartSession { session, .. } | EffectKind::StopSession { session, .. } => session,
    }
}
