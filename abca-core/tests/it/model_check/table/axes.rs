//! What a decision may be asked about: records, inboxes, observations, moments, backends.

use abca_core::compute::{ComputeCapabilities, SessionView};
use abca_core::id::{EffectKey, SignalId};
use abca_core::task::{
    Backend, CancelRequest, Delivery, Effect, EffectKind, Failure, FailureReason, Observation, OwedEffect,
    SessionPhase, SessionRecord, Signal, SignalKind, SlotScope, Snapshot, StopCause, Stopping, TaskSpec, TaskStatus,
    Verdict,
};
use abca_core::testing::fixtures;
use abca_core::{Millis, SessionId, Timestamp, UserId};

use crate::model_check::fixtures::{TICK, at, backend, limits, prepared, report, task, task_id};

/// How the record's session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stands {
    None,
    Prepared,
    Phase(SessionPhase),
    Stopping(StopCause, bool),
    Torn,
}

pub const STANDS: [Stands; 13] = [
    Stands::None,
    Stands::Prepared,
    Stands::Phase(SessionPhase::Starting),
    Stands::Phase(SessionPhase::Live),
    Stands::Phase(SessionPhase::Over),
    Stands::Stopping(StopCause::Cancelled, true),
    Stands::Stopping(StopCause::Deadline, true),
    Stands::Stopping(StopCause::Lost, true),
    Stands::Stopping(StopCause::StartFailed, true),
    Stands::Stopping(StopCause::StartRefused, true),
    Stands::Stopping(StopCause::Lingering, true),
    Stands::Stopping(StopCause::Lost, false),
    // Stopping, but nobody wrote why.
    Stands::Torn,
];

fn id(attempt: u32) -> SessionId {
    SessionId::of(task_id(0), attempt)
}

/// A record that some sequence of commits may leave behind; `None` for what none can.
pub fn snapshot(status: TaskStatus, stands: Stands, attempt: u32) -> Option<Snapshot> {
    let waits = matches!(status, TaskStatus::PendingUploads | TaskStatus::Submitted | TaskStatus::Queued);
    if waits && stands != Stands::None {
        return None;
    }
    let slot = TaskSpec::user_slot(&UserId::new("ann").unwrap(), 1);
    let mut task = task(0, limits(vec![slot.clone()], 2));
    (task.status, task.status_at, task.created_at, task.updated_at) = (status, at(1), at(1), at(1));
    let holds = status.holds_slots();
    task.admitted_at = holds.then(|| at(1));
    task.prepared = (stands != Stands::None).then(|| prepared().into());
    // What runs was let in, and so was an attempt before this one.
    task.started_at = (holds && (status != TaskStatus::Hydrating || attempt > 1)).then(|| at(1));
    let (phase, stopping) = match stands {
        Stands::None | Stands::Prepared => (None, None),
        Stands::Phase(phase) => (Some(phase), None),
        Stands::Torn => (Some(SessionPhase::Stopping), None),
        Stands::Stopping(cause, _) => {
            let stopping = Stopping { at: at(1), cause, detail: "why".to_owned() };
            (Some(SessionPhase::Stopping), Some(stopping))
        }
    };
    if stands == Stands::Stopping(StopCause::Cancelled, true) {
        task.cancel = Some(CancelRequest { by: "ann".to_owned(), at: at(1) });
    }
    if status == TaskStatus::Finalizing {
        task.report = Some(report(Verdict::Succeeded).into());
    }
    if status == TaskStatus::AwaitingApproval {
        task.awaiting = Some(Box::new(fixtures::gate("g", at(2))));
    }
    task.attempt = if phase.is_some() { attempt } else { attempt - 1 };
    task.session = phase.map(|phase| SessionRecord {
        id: id(attempt),
        attempt,
        phase,
        compute: "fake".to_owned(),
        intent_at: at(1),
        registered_at: (phase == SessionPhase::Live).then(|| at(1)),
        stopping,
    });
    let start = EffectKind::StartSession { session: id(attempt), attempt };
    let stop = EffectKind::StopSession { session: id(attempt), grace_ms: Millis(0) };
    let owed = match stands {
        _ if status.is_terminal() => None,
        Stands::Phase(SessionPhase::Starting) => Some(("start", start)),
        Stands::Stopping(_, true) => Some(("stop", stop)),
        Stands::None | Stands::Prepared | Stands::Phase(_) | Stands::Stopping(_, false) | Stands::Torn => None,
    };
    let owed = owed.map(|(step, kind)| {
        let effect = Effect { key: EffectKey::of(task_id(0), attempt, step), kind };
        OwedEffect { effect, since: at(1) }
    });
    Some(Snapshot {
        task,
        revision: 3,
        epoch: 1,
        held: holds.then_some(slot.scope).into_iter().collect(),
        signals: Vec::new(),
        owed: owed.into_iter().collect(),
        heartbeat_at: None,
    })
}

/// A session that is not the record's.
fn foreign() -> SessionId {
    id(9)
}

/// Inboxes: a cancel or none, times a registration, times a report, times the rest; words of this session and of another.
pub fn inboxes(attempt: u32) -> Vec<Vec<Signal>> {
    let result = |session, verdict| SignalKind::SessionResult { session, report: Box::new(report(verdict)) };
    let registered = |session| SignalKind::SessionRegistered { session };
    let exited = |session| SignalKind::SessionExited { session };
    let cancels = [None, Some(SignalKind::Cancel { by: "ann".to_owned() })];
    let registrations = [None, Some(registered(id(attempt))), Some(registered(foreign()))];
    let results = [
        None,
        Some(result(id(attempt), Verdict::Succeeded)),
        Some(result(id(attempt), Verdict::NothingToDo)),
        Some(result(id(attempt), Verdict::Failed)),
        Some(result(id(attempt), Verdict::Cancelled)),
        Some(result(foreign(), Verdict::Succeeded)),
    ];
    let asked = || fixtures::asked("g", at(2));
    let decided = |approved| fixtures::decided("g", approved);
    let rest = [
        vec![],
        vec![exited(id(attempt)), SignalKind::UploadsConfirmed],
        vec![exited(foreign())],
        vec![asked()],
        vec![decided(true)],
        // Out of order: the answer before its question.
        vec![decided(false), asked(), SignalKind::Nudge { message: "go".to_owned() }],
    ];
    let mut all = Vec::new();
    for cancel in &cancels {
        for registered in &registrations {
            for result in &results {
                for rest in &rest {
                    let kinds = rest.iter().chain(result).chain(registered).chain(cancel);
                    let signal = |(n, kind): (usize, &SignalKind)| Signal {
                        id: SignalId::new(format!("s{n}")).unwrap(),
                        at: at(1),
                        kind: kind.clone(),
                    };
                    all.push(kinds.enumerate().map(signal).collect());
                }
            }
        }
    }
    all
}

/// Every kind of observation, those that come together, and those of another session.
pub fn observations(attempt: u32) -> Vec<Vec<Observation>> {
    let session = || id(attempt);
    let failure = || Failure::new(FailureReason::Preflight, "no");
    let seen = |view| Observation::Seen { session: session(), view };
    let no = || "no".to_owned();
    let running = |active_at| SessionView::Running { active_at };
    let exited = || SessionView::Exited { code: Some(1), signal: None, detail: None };
    let denied = || Observation::SlotDenied(SlotScope("user:ann".to_owned()));
    let unseen = || Observation::Unseen { session: session(), message: no() };
    let delivered = |delivery| Observation::Delivered { session: session(), delivery };
    let proposed = || Delivery::Proposed(Box::new(report(Verdict::Succeeded)));
    let stop_failed = || Observation::StopFailed { session: session(), message: no() };
    vec![
        vec![],
        vec![denied()],
        vec![Observation::Prepared(Box::new(prepared()))],
        vec![Observation::Prepared(Box::new(prepared())), denied()],
        vec![Observation::PrepareFailed { failure: failure(), retryable: false }],
        vec![Observation::PrepareFailed { failure: failure(), retryable: true }],
        vec![Observation::Started(session())],
        vec![Observation::Started(session()), seen(running(None))],
        vec![Observation::StartFailed { session: session(), message: no(), retryable: true }],
        vec![Observation::StartFailed { session: session(), message: no(), retryable: false }],
        vec![Observation::Stopped(session())],
        vec![stop_failed()],
        vec![stop_failed(), Observation::Stopped(session())],
        vec![seen(SessionView::Unknown)],
        vec![seen(running(None))],
        vec![seen(running(Some(at(2))))],
        vec![seen(SessionView::Suspended)],
        vec![seen(exited())],
        vec![unseen()],
        vec![seen(exited()), delivered(proposed())],
        vec![seen(exited()), delivered(Delivery::Pushed { branch: "b".to_owned(), sha: "0".repeat(40) })],
        vec![seen(SessionView::Unknown), delivered(Delivery::Nothing)],
        vec![seen(exited()), delivered(Delivery::NoAnswer { message: no() })],
        vec![seen(exited()), delivered(Delivery::Unknowable)],
        vec![Observation::Stopped(session()), delivered(proposed())],
        vec![Observation::Stopped(session()), delivered(Delivery::NoAnswer { message: no() })],
        vec![stop_failed(), delivered(proposed())],
        vec![delivered(proposed())],
        vec![
            Observation::Stopped(foreign()),
            Observation::Started(foreign()),
            Observation::Seen { session: foreign(), view: exited() },
            Observation::Delivered { session: foreign(), delivery: proposed() },
        ],
    ]
}

/// An hour before it came to be, a moment after, past every patience, right before, at and past the short deadlines,
/// past all.
pub fn moments() -> [Timestamp; 7] {
    let since = at(1);
    [
        Timestamp::from_millis(since.as_millis() - 3_600_000),
        since.after(Millis(1)),
        since.after(Millis::secs(20)),
        since.after(Millis(TICK.0 - 1)),
        since.after(TICK),
        since.after(Millis(2 * TICK.0)),
        since.after(Millis(10 * TICK.0)),
    ]
}

/// Who asks: a backend that can tell everything, one that can tell nothing, those between, and one that is not the session's.
pub fn backends() -> Vec<Backend> {
    let with = |heartbeats, exit_status, suspend| {
        let mut capabilities = ComputeCapabilities::none();
        (capabilities.heartbeats, capabilities.exit_status, capabilities.suspend) = (heartbeats, exit_status, suspend);
        Backend { name: "fake".to_owned(), capabilities }
    };
    vec![
        backend(),
        with(false, false, false),
        with(true, false, true),
        with(false, true, true),
        Backend { name: "other".to_owned(), ..backend() },
    ]
}

/// When the session was heard last: never, right after it registered, or at a moment that only a wrong clock shows.
pub fn heartbeats() -> [Option<Timestamp>; 3] {
    [None, Some(at(1).after(Millis(1))), Some(at(100))]
}
