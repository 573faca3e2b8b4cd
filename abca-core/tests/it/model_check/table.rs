//! Every state with every cause, observation and moment, in bounded form: `decide` always has an answer, the same one,
//! along the table, that waits for something to come and never runs in a circle.

use abca_core::compute::SessionView;
use abca_core::id::{EffectKey, SignalId};
use abca_core::store::check_change;
use abca_core::task::{
    CancelRequest, Decision, Effect, EffectKind, Failure, FailureReason, Observation, OwedEffect, SessionPhase,
    SessionRecord, SessionReport, Signal, SignalKind, Snapshot, StopCause, Stopping, TaskSpec, TaskStatus, Verdict,
    apply, decide,
};
use abca_core::{Millis, SessionId, Timestamp, UserId};

use super::fixtures::{TICK, at, backend, limits, prepared, report, task, task_id};

/// How the record's session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stands {
    None,
    Prepared,
    Phase(SessionPhase),
    Stopping(StopCause, bool),
    Torn,
}

const STANDS: [Stands; 13] = [
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
fn snapshot(status: TaskStatus, stands: Stands, attempt: u32) -> Option<Snapshot> {
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
        task.awaiting = Some("g".to_owned());
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

/// Inboxes: a cancel or none, times a registration, times a report, times the rest.
fn inboxes() -> Vec<Vec<Signal>> {
    let result = |attempt, verdict| {
        let report: Box<SessionReport> = Box::new(report(verdict));
        SignalKind::SessionResult { session: id(attempt), report }
    };
    let cancels = [None, Some(SignalKind::Cancel { by: "ann".to_owned() })];
    let registrations = [None, Some(SignalKind::SessionRegistered { session: id(1) })];
    let results = [
        None,
        Some(result(1, Verdict::Succeeded)),
        Some(result(1, Verdict::Failed)),
        Some(result(1, Verdict::Cancelled)),
        Some(result(9, Verdict::Succeeded)),
    ];
    let asked = SignalKind::ApprovalRequested { request: "g".to_owned(), deadline: at(2) };
    let decided = SignalKind::ApprovalDecided { request: "g".to_owned(), approved: false, reason: None };
    let rest = [
        vec![],
        vec![SignalKind::SessionExited { session: id(1) }, SignalKind::UploadsConfirmed],
        vec![decided, asked, SignalKind::Nudge { message: "go".to_owned() }],
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

fn observations() -> Vec<Vec<Observation>> {
    let session = id(1);
    let failure = || Failure::new(FailureReason::Preflight, "no");
    let seen = |view| Observation::Seen { session: session.clone(), view };
    let no = || "no".to_owned();
    vec![
        vec![],
        vec![Observation::SlotDenied(abca_core::task::SlotScope("user:ann".to_owned()))],
        vec![Observation::Prepared(Box::new(prepared()))],
        vec![Observation::PrepareFailed { failure: failure(), retryable: false }],
        vec![Observation::PrepareFailed { failure: failure(), retryable: true }],
        vec![Observation::Started(session.clone())],
        vec![Observation::StartFailed { session: session.clone(), message: no(), retryable: true }],
        vec![Observation::StartFailed { session: session.clone(), message: no(), retryable: false }],
        vec![Observation::Stopped(session.clone())],
        vec![Observation::StopFailed { session: session.clone(), message: no() }],
        vec![seen(SessionView::Unknown)],
        vec![seen(SessionView::Running { active_at: None })],
        vec![seen(SessionView::Suspended)],
        vec![seen(SessionView::Exited { code: Some(1), signal: None, detail: None })],
        vec![Observation::Unseen { session: session.clone(), message: no() }],
    ]
}

/// An hour before it came to be, a moment after, past every patience, past the short deadlines, past all.
fn moments() -> [Timestamp; 5] {
    let since = at(1);
    [
        Timestamp::from_millis(since.as_millis() - 3_600_000),
        since.after(Millis(1)),
        since.after(Millis::secs(20)),
        since.after(TICK),
        since.after(Millis(10 * TICK.0)),
    ]
}

/// Checks one input; what is wrong with the answer, if anything.
fn fault(s: &Snapshot, seen: &[Observation], now: Timestamp) -> Option<String> {
    let backend = backend();
    let first = decide(s, seen, &backend, now);
    if decide(s, seen, &backend, now) != first {
        return Some("another answer to the same question".to_owned());
    }
    let mut at_hand = s.clone();
    let mut decision = first;
    for _ in 0..6 {
        match decision {
            Decision::Wait { until: None } if at_hand.task.status.is_terminal() => return None,
            Decision::Wait { until: None } => return Some(format!("waits for ever in {}", at_hand.task.status)),
            Decision::Wait { .. } if at_hand.task.status.is_terminal() => {
                return Some("waits after the end".to_owned());
            }
            Decision::Wait { until: Some(until) } if until <= now => return Some("waits for the past".to_owned()),
            // Clocks may be behind by what `moments` says; nothing waits longer than the longest limit for that.
            Decision::Wait { until: Some(until) } if until.since(now) > Millis(5 * TICK.0) => {
                return Some(format!("waits for {}", until.since(now)));
            }
            Decision::Wait { .. } | Decision::Ask(_) | Decision::Run(_) if at_hand.task.status.is_terminal() => {
                return Some("goes on after the end".to_owned());
            }
            Decision::Wait { .. } | Decision::Ask(_) | Decision::Run(_) => return None,
            Decision::Commit(change) => {
                if let Err(error) = check_change(&at_hand, &change) {
                    return Some(format!("decides what no store takes: {error}"));
                }
                at_hand = apply(&at_hand, &change);
                decision = decide(&at_hand, &[], &backend, now);
            }
        }
    }
    Some(format!("commits in a circle in {}", at_hand.task.status))
}

/// Asks everything of one attempt's records; how much that was, and what is wrong.
fn ask(attempt: u32) -> (u32, Vec<String>) {
    let (inboxes, observations) = (inboxes(), observations());
    let (mut asked, mut faults) = (0, Vec::new());
    for status in TaskStatus::ALL {
        for stands in STANDS {
            let Some(mut s) = snapshot(status, stands, attempt) else { continue };
            // What has ended has an empty inbox.
            for inbox in inboxes.iter().take(if status.is_terminal() { 1 } else { inboxes.len() }) {
                s.signals.clone_from(inbox);
                for (seen, now) in observations.iter().flat_map(|o| moments().map(|now| (o, now))) {
                    asked += 1;
                    if let Some(why) = fault(&s, seen, now) {
                        let kinds: Vec<_> = s.signals.iter().map(|s| std::mem::discriminant(&s.kind)).collect();
                        faults
                            .push(format!("{status} {stands:?} attempt {attempt} {seen:?} {kinds:?} at {now}: {why}"));
                    }
                }
            }
        }
    }
    (asked, faults)
}

#[test]
fn every_state_and_cause_has_one_answer_within_the_table() {
    let (first, last) = std::thread::scope(|scope| {
        let first = scope.spawn(|| ask(1));
        (ask(2), first.join().unwrap())
    });
    let asked = first.0 + last.0;
    let faults: Vec<String> = first.1.into_iter().chain(last.1).collect();
    eprintln!("{asked} combinations");
    assert!(asked >= 100_000, "only {asked} combinations");
    assert!(faults.is_empty(), "{} of {asked} are wrong, e.g. {:#?}", faults.len(), &faults[..faults.len().min(8)]);
}
