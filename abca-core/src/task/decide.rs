//! The task machine: what to do next with a task, decided from frozen data alone.

use serde_json::Value;

use super::change::Draft;
use super::liveness::{Liveness, judge};
use super::{
    CancelRequest, Cause, Decision, Effect, EffectKind, Failure, FailureReason, Observation, Prepared, Query,
    ResolvedLimits, SessionPhase, SessionRecord, SessionReport, SignalKind, Snapshot, StopCause, Stopping, Task,
    TaskStatus, Verdict,
};
use crate::compute::{ComputeCapabilities, SessionView};
use crate::event::{EventType, NewEvent};
use crate::id::{EffectKey, SessionId};
use crate::time::{Millis, Timestamp};

/// How long an unreachable backend is left alone before it is asked again.
const ASK_AGAIN: Millis = Millis::secs(5);
/// How long a session that has reported may take to end before that is written down.
const EXIT_PATIENCE: Millis = Millis::secs(2);
/// A waiting task looks for a free slot this often; a release wakes it earlier.
const QUEUE_POLL: Millis = Millis::secs(30);
/// What a human gate's own deadline is given on top before the platform steps in.
const GATE_MARGIN: Millis = Millis::secs(120);
/// The wait between attempts never grows beyond this.
const MAX_BACKOFF: Millis = Millis::secs(300);

/// The compute strategy that a worker drives tasks with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// Its name.
    pub name: String,
    /// What it can tell.
    pub capabilities: ComputeCapabilities,
}

/// Decides the next step for one task.
///
/// Precedence, highest first: terminal, cancel, session outcome, deadline, liveness, progress. A stop that is under
/// way is finished before anything else but the recording of a cancel. Total and deterministic: equal inputs give
/// equal outputs. `observations` are what the driver found out since it loaded the snapshot.
pub fn decide(snapshot: &Snapshot, observations: &[Observation], backend: &Backend, now: Timestamp) -> Decision {
    Facts { s: snapshot, task: &snapshot.task, observations, backend, now, unconfirmed: None }.decide()
}

/// Everything a decision looks at.
#[derive(Clone, Copy)]
struct Facts<'a> {
    s: &'a Snapshot,
    task: &'a Task,
    observations: &'a [Observation],
    backend: &'a Backend,
    now: Timestamp,
    /// Why the backend never confirmed a stop, once nobody waits for it any longer.
    unconfirmed: Option<&'a str>,
}

impl<'a> Facts<'a> {
    fn decide(&self) -> Decision {
        if self.task.status.is_terminal() {
            return Decision::Wait { until: None };
        }
        if let Some(decision) = self.cancel() {
            return decision;
        }
        if let Some((session, stopping)) = self.stopping() {
            return self.finish_stop(session, stopping);
        }
        if let Some(decision) = self.outcome() {
            return decision;
        }
        if let Some(decision) = self.deadline() {
            return decision;
        }
        match self.task.status {
            TaskStatus::PendingUploads => self.uploads(),
            TaskStatus::Submitted | TaskStatus::Queued => self.admission(),
            TaskStatus::Hydrating => match self.current() {
                Some(session) => self.starting(session),
                None => self.preparation(),
            },
            TaskStatus::Running | TaskStatus::AwaitingApproval | TaskStatus::Finalizing => match self.current() {
                Some(session) => self.alive(session),
                // A record that says running without a session was written by nobody: end it rather than keep it.
                None => self.lost("the record names no session"),
            },
            TaskStatus::Completed | TaskStatus::Failed | TaskStatus::Cancelled | TaskStatus::TimedOut => {
                Decision::Wait { until: None }
            }
        }
    }

    // -- cancel ------------------------------------------------------------------------------------------------

    /// A cancel is written down as soon as it is seen, and confirmed once nothing of the task can run any more.
    fn cancel(&self) -> Option<Decision> {
        let asked = self.s.signals.iter().find_map(|s| match &s.kind {
            SignalKind::Cancel { by } => Some(CancelRequest { by: by.clone(), at: s.at }),
            SignalKind::UploadsConfirmed
            | SignalKind::SessionRegistered { .. }
            | SignalKind::SessionResult { .. }
            | SignalKind::SessionExited { .. }
            | SignalKind::Nudge { .. }
            | SignalKind::ApprovalRequested { .. }
            | SignalKind::ApprovalDecided { .. } => None,
        });
        let request = match (&self.task.cancel, asked) {
            (Some(_), _) | (None, None) => return None,
            (None, Some(request)) => request,
        };
        let by = request.by.clone();
        let draft = self
            .draft()
            .consume_where(|k| matches!(k, SignalKind::Cancel { .. }))
            .tell(NewEvent::new(EventType::CancelRequested, self.now).with("cancelled_by", by.clone()))
            .set(|t| t.cancel = Some(request));
        Some(match self.current() {
            None => draft.go(TaskStatus::Cancelled, Cause::Cancelled, &[("cancelled_by", Value::from(by))]).done(),
            Some(session) => match session.phase {
                SessionPhase::Starting | SessionPhase::Live => {
                    draft.stop_session(StopCause::Cancelled, &format!("cancelled by {by}")).done()
                }
                // A stop is owed already: the cancel only changes what follows it.
                SessionPhase::Stopping | SessionPhase::Over => draft.done(),
            },
        })
    }

    // -- a stop under way ----------------------------------------------------------------------------------------

    fn stopping(&self) -> Option<(&'a SessionRecord, &'a Stopping)> {
        let session = self.task.session.as_ref()?;
        match session.phase {
            SessionPhase::Stopping => session.stopping.as_ref().map(|s| (session, s)),
            SessionPhase::Starting | SessionPhase::Live | SessionPhase::Over => None,
        }
    }

    fn finish_stop(&self, session: &SessionRecord, stopping: &Stopping) -> Decision {
        let owed = self.s.owed.iter().find(|o| match &o.effect.kind {
            EffectKind::StopSession { session: id, .. } => *id == session.id,
            EffectKind::StartSession { .. } => false,
        });
        let give_up = stopping.at.after(self.limits().finalize_timeout_ms);
        let stopped = self.observations.iter().any(|o| matches!(o, Observation::Stopped(id) if *id == session.id));
        let failed = self.observations.iter().find_map(|o| match o {
            Observation::StopFailed { session: id, message } if *id == session.id => Some(message.as_str()),
            Observation::StopFailed { .. }
            | Observation::SlotDenied(_)
            | Observation::Prepared(_)
            | Observation::PrepareFailed { .. }
            | Observation::Started(_)
            | Observation::StartFailed { .. }
            | Observation::Stopped(_)
            | Observation::Seen { .. }
            | Observation::Unseen { .. } => None,
        });
        let foreign = self.foreign();
        match (stopped, failed.or(foreign.as_deref()), owed) {
            (true, _, _) | (false, _, None) => self.after_stop(stopping),
            (false, Some(why), Some(_)) if self.now >= give_up => {
                let given_up = Facts { unconfirmed: Some(why), ..*self };
                given_up.after_stop(stopping)
            }
            (false, Some(_), Some(_)) => Decision::Wait { until: Some(self.now.after(ASK_AGAIN).min(give_up)) },
            (false, None, Some(owed)) => Decision::Run(owed.effect.clone()),
        }
    }

    /// What follows a stop, confirmed or not.
    fn after_stop(&self, stopping: &Stopping) -> Decision {
        let detail = match self.unconfirmed {
            None => stopping.detail.clone(),
            Some(why) => format!("{}; the backend did not confirm the stop: {why}", stopping.detail),
        };
        if let Some(cancel) = &self.task.cancel {
            let by = Value::from(cancel.by.clone());
            let mut draft = self.draft().set(|t| t.report = self.result().cloned());
            if self.unconfirmed.is_some() {
                draft = draft.set(|t| t.failure = Some(Failure::new(FailureReason::Infrastructure, &detail)));
            }
            return draft.go(TaskStatus::Cancelled, Cause::Cancelled, &[("cancelled_by", by)]).done();
        }
        // A session that was never let in has nothing to report.
        if let Some(report) = self.result()
            && report.verdict != Verdict::Cancelled
            && self.task.status != TaskStatus::Hydrating
        {
            return self.end(report);
        }
        match stopping.cause {
            StopCause::Deadline => self.draft().time_out(Failure::new(FailureReason::Deadline, &detail)).done(),
            StopCause::StartRefused => self.start_failed(&detail),
            StopCause::Cancelled | StopCause::Lost | StopCause::StartFailed | StopCause::Lingering => {
                self.lost(&detail)
            }
        }
    }

    // -- the session's outcome -----------------------------------------------------------------------------------

    /// What the current session reported, if it has.
    fn result(&self) -> Option<&'a SessionReport> {
        let session = &self.task.session.as_ref()?.id;
        let reported = self.s.signals.iter().find_map(|s| match &s.kind {
            SignalKind::SessionResult { session: id, report } if id == session => Some(report.as_ref()),
            SignalKind::SessionResult { .. }
            | SignalKind::Cancel { .. }
            | SignalKind::UploadsConfirmed
            | SignalKind::SessionRegistered { .. }
            | SignalKind::SessionExited { .. }
            | SignalKind::Nudge { .. }
            | SignalKind::ApprovalRequested { .. }
            | SignalKind::ApprovalDecided { .. } => None,
        });
        reported.or(self.task.report.as_ref())
    }

    fn outcome(&self) -> Option<Decision> {
        let session = self.current()?;
        let report = self.result()?;
        if self.task.status == TaskStatus::Hydrating {
            return Some(self.registered(session));
        }
        let over = match self.view(&session.id) {
            None => return Some(Decision::Ask(Query::Observe(session.id.clone()))),
            Some(Ok(SessionView::Exited { .. } | SessionView::Unknown)) => true,
            Some(Ok(SessionView::Running { .. } | SessionView::Suspended)) => false,
            Some(Err(_)) => false,
        };
        if over {
            return Some(if report.verdict == Verdict::Cancelled {
                self.lost("the session was interrupted from outside")
            } else {
                self.end(report)
            });
        }
        Some(self.lingering(session, report))
    }

    /// The session has reported but is still there: wait a little, write it down, and in the end stop it.
    fn lingering(&self, session: &SessionRecord, report: &SessionReport) -> Decision {
        // A moment to come is a clock that was wrong: nobody waits for it.
        let waits = |since: Timestamp, until: Timestamp| {
            self.backend.capabilities.exit_status && since <= self.now && self.now < until
        };
        if self.task.status == TaskStatus::Finalizing {
            let until = self.task.status_at.after(self.limits().stop_grace_ms);
            if waits(self.task.status_at, until) {
                return Decision::Wait { until: Some(until) };
            }
            return self.draft().stop_session(StopCause::Lingering, "the session reported but did not end").done();
        }
        let reported_at = self.s.signals.iter().find_map(|s| match &s.kind {
            SignalKind::SessionResult { session: id, .. } if *id == session.id => Some(s.at),
            SignalKind::SessionResult { .. }
            | SignalKind::Cancel { .. }
            | SignalKind::UploadsConfirmed
            | SignalKind::SessionRegistered { .. }
            | SignalKind::SessionExited { .. }
            | SignalKind::Nudge { .. }
            | SignalKind::ApprovalRequested { .. }
            | SignalKind::ApprovalDecided { .. } => None,
        });
        let reported_at = reported_at.unwrap_or(self.task.updated_at);
        let patience = reported_at.after(EXIT_PATIENCE);
        if waits(reported_at, patience) {
            return Decision::Wait { until: Some(patience) };
        }
        // What was interrupted is not final: once it is gone, another attempt may follow.
        if report.verdict == Verdict::Cancelled {
            let detail = "the session was interrupted from outside and did not end";
            return self.draft().stop_session(StopCause::Lost, detail).done();
        }
        let report = report.clone();
        self.draft()
            .consume_where(|k| matches!(k, SignalKind::SessionResult { .. }))
            .set(|t| t.report = Some(report))
            .go(TaskStatus::Finalizing, Cause::SessionReported, &[])
            .done()
    }

    /// Ends the task as its session judged.
    fn end(&self, report: &SessionReport) -> Decision {
        let stored = report.clone();
        let draft = self.draft().set(|t| t.report = Some(stored));
        let pr = report.pull_request.as_ref().map_or(Value::Null, |p| Value::from(p.url.clone()));
        let details = [
            ("pr_url", pr),
            ("code_changed", Value::from(report.code_changed)),
            ("cost_micro_usd", Value::from(report.cost.0)),
            ("turns", Value::from(report.turns_completed)),
        ];
        match report.verdict {
            Verdict::Succeeded | Verdict::NothingToDo => {
                draft.go(TaskStatus::Completed, Cause::SessionEnded, &details).done()
            }
            Verdict::Failed | Verdict::Cancelled => {
                let failure = report.failure.clone().unwrap_or_else(|| {
                    Failure::new(FailureReason::Infrastructure, "the session reported a failure without a reason")
                });
                draft.fail(Cause::SessionEnded, failure).done()
            }
        }
    }

    // -- deadlines -----------------------------------------------------------------------------------------------

    /// Until when the task may stay in its state; the earliest of all that apply.
    fn deadline_at(&self) -> Timestamp {
        let l = self.limits();
        let whole = self.task.admitted_at.map(|t| t.after(l.task_timeout_ms));
        let of_state = match self.task.status {
            TaskStatus::PendingUploads => self.task.created_at.after(l.upload_window_ms),
            TaskStatus::Submitted | TaskStatus::Queued => self.task.created_at.after(l.queue_timeout_ms),
            TaskStatus::Hydrating => {
                let intent_at = self.current().map(|s| s.intent_at);
                let attempt_at = self.task.not_before.into_iter().chain(intent_at).fold(self.task.status_at, Ord::max);
                attempt_at.after(l.hydration_timeout_ms)
            }
            TaskStatus::Running => self.task.status_at.after(l.task_timeout_ms),
            TaskStatus::AwaitingApproval => self.task.status_at.after(l.approval_timeout_ms).after(GATE_MARGIN),
            TaskStatus::Finalizing => self.task.status_at.after(l.finalize_timeout_ms),
            TaskStatus::Completed | TaskStatus::Failed | TaskStatus::Cancelled | TaskStatus::TimedOut => self.now,
        };
        whole.map_or(of_state, |w| w.min(of_state))
    }

    fn deadline(&self) -> Option<Decision> {
        if self.now < self.deadline_at() {
            return None;
        }
        let message = format!("{} for {}: its deadline passed", self.task.status, self.now.since(self.task.status_at));
        if self.current().is_some() {
            return Some(self.draft().stop_session(StopCause::Deadline, &message).done());
        }
        Some(match self.task.status {
            TaskStatus::PendingUploads => self
                .draft()
                .set(|t| t.failure = Some(Failure::new(FailureReason::Deadline, "Upload window expired")))
                .go(
                    TaskStatus::Cancelled,
                    Cause::UploadWindowExpired,
                    &[("reason", Value::from("upload_window_expired"))],
                )
                .done(),
            TaskStatus::Submitted | TaskStatus::Queued => {
                let waited = self.now.since(self.task.created_at);
                let text = format!("Admission queue timeout: task waited {waited}");
                self.draft().time_out(Failure::new(FailureReason::Deadline, text)).done()
            }
            TaskStatus::Hydrating
            | TaskStatus::Running
            | TaskStatus::AwaitingApproval
            | TaskStatus::Finalizing
            | TaskStatus::Completed
            | TaskStatus::Failed
            | TaskStatus::Cancelled
            | TaskStatus::TimedOut => self.draft().time_out(Failure::new(FailureReason::Deadline, message)).done(),
        })
    }

    // -- progress ------------------------------------------------------------------------------------------------

    fn uploads(&self) -> Decision {
        if self.s.signals.iter().any(|s| matches!(s.kind, SignalKind::UploadsConfirmed)) {
            return self
                .draft()
                .consume_where(|k| matches!(k, SignalKind::UploadsConfirmed))
                .go(TaskStatus::Submitted, Cause::UploadsConfirmed, &[])
                .done();
        }
        Decision::Wait { until: Some(self.deadline_at()) }
    }

    fn admission(&self) -> Decision {
        let denied = self.observations.iter().find_map(|o| match o {
            Observation::SlotDenied(scope) => Some(scope),
            Observation::Prepared(_)
            | Observation::PrepareFailed { .. }
            | Observation::Started(_)
            | Observation::StartFailed { .. }
            | Observation::Stopped(_)
            | Observation::StopFailed { .. }
            | Observation::Seen { .. }
            | Observation::Unseen { .. } => None,
        });
        let attempts = self.task.admission_attempts.saturating_add(1);
        match (denied, self.task.status) {
            // The ordinary life takes one commit less when what the start needs is found out before the slots are taken.
            // A task that had to queue takes its slots first: else every look at the queue would ask the forge.
            (None, TaskStatus::Submitted) => match self.preparing() {
                Preparing::Ask => Decision::Ask(Query::Prepare),
                Preparing::Done(prepared) => self.start_intent(self.prepared(self.admit(), prepared)),
                Preparing::Failed(failure) => self.preparation_failed(failure),
                Preparing::Later => self.admit().done(),
            },
            (None, _) => self.admit().done(),
            (Some(scope), TaskStatus::Submitted) => {
                let now = self.now;
                let details = [
                    ("reason", Value::from("concurrency_limit")),
                    ("scope", Value::from(scope.0.clone())),
                    ("admission_attempts", Value::from(attempts)),
                ];
                self.draft()
                    .set(|t| {
                        t.queued_at = Some(t.queued_at.unwrap_or(now));
                        t.admission_attempts = attempts;
                    })
                    .go(TaskStatus::Queued, Cause::SlotDenied, &details)
                    .done()
            }
            (Some(_), _) => Decision::Wait { until: Some(self.now.after(QUEUE_POLL).min(self.deadline_at())) },
        }
    }

    /// Takes the slots.
    fn admit(&self) -> Draft<'a> {
        let now = self.now;
        let waited = self.task.queued_at.map_or(0, |q| now.since(q).0 / 1000);
        let details =
            [("queued_for_s", Value::from(waited)), ("admission_attempts", Value::from(self.task.admission_attempts))];
        self.draft().set(|t| t.admitted_at = Some(now)).acquire().go(TaskStatus::Hydrating, Cause::Admitted, &details)
    }

    /// Admitted, no session under way: prepare, then decide a start.
    fn preparation(&self) -> Decision {
        if let Some(not_before) = self.task.not_before
            && self.now < not_before
        {
            return Decision::Wait { until: Some(not_before.min(self.deadline_at())) };
        }
        if self.task.prepared.is_some() {
            return self.start_intent(self.draft());
        }
        match self.preparing() {
            Preparing::Ask => Decision::Ask(Query::Prepare),
            Preparing::Done(prepared) => self.start_intent(self.prepared(self.draft(), prepared)),
            Preparing::Failed(failure) => self.preparation_failed(failure),
            Preparing::Later => Decision::Wait { until: Some(self.now.after(ASK_AGAIN).min(self.deadline_at())) },
        }
    }

    /// What the driver found out about preparation.
    fn preparing(&self) -> Preparing<'a> {
        for observation in self.observations {
            match observation {
                Observation::Prepared(prepared) => return Preparing::Done(prepared),
                Observation::PrepareFailed { failure, retryable: false } => return Preparing::Failed(failure),
                Observation::PrepareFailed { retryable: true, .. } => return Preparing::Later,
                Observation::SlotDenied(_)
                | Observation::Started(_)
                | Observation::StartFailed { .. }
                | Observation::Stopped(_)
                | Observation::StopFailed { .. }
                | Observation::Seen { .. }
                | Observation::Unseen { .. } => {}
            }
        }
        Preparing::Ask
    }

    /// Freezes what preparation found.
    fn prepared(&self, draft: Draft<'a>, prepared: &Prepared) -> Draft<'a> {
        let event = NewEvent::new(EventType::HydrationComplete, self.now)
            .with("sources", prepared.sources.clone())
            .with("token_estimate", prepared.token_estimate)
            .with("truncated", prepared.truncated);
        let prepared = prepared.clone();
        draft.set(|t| t.prepared = Some(prepared)).tell(event)
    }

    fn preparation_failed(&self, failure: &Failure) -> Decision {
        let kind = match failure.reason {
            FailureReason::Guardrail => EventType::GuardrailBlocked,
            FailureReason::Preflight
            | FailureReason::Hydration
            | FailureReason::SessionStart
            | FailureReason::SessionLost
            | FailureReason::RepoSetup
            | FailureReason::MaxTurns
            | FailureReason::Budget
            | FailureReason::Model
            | FailureReason::Refusal
            | FailureReason::Verification
            | FailureReason::Delivery
            | FailureReason::Infrastructure
            | FailureReason::Blocked
            | FailureReason::Deadline => EventType::PreflightFailed,
        };
        let event = NewEvent::new(kind, self.now)
            .with("reason", super::change::reason_value(failure))
            .with("detail", failure.message.clone());
        self.draft().tell(event).fail(Cause::PreparationFailed, failure.clone()).done()
    }

    fn start_intent(&self, draft: Draft<'_>) -> Decision {
        let attempt = self.task.attempt.saturating_add(1);
        let id = SessionId::of(self.task.id, attempt);
        let record = SessionRecord {
            id: id.clone(),
            attempt,
            phase: SessionPhase::Starting,
            compute: self.backend.name.clone(),
            intent_at: self.now,
            registered_at: None,
            stopping: None,
        };
        let event = NewEvent::new(EventType::SessionStarting, self.now)
            .with("session_id", id.as_str())
            .with("attempt", attempt);
        let effect = Effect {
            key: EffectKey::of(self.task.id, attempt, "start"),
            kind: EffectKind::StartSession { session: id, attempt },
        };
        draft
            .set(|t| {
                t.attempt = attempt;
                t.not_before = None;
                t.session = Some(record);
            })
            .tell(event)
            .owe(effect)
            .done()
    }

    /// A start is owed; the session has not registered.
    fn starting(&self, session: &SessionRecord) -> Decision {
        let registered = self.s.signals.iter().any(|s| match &s.kind {
            SignalKind::SessionRegistered { session: id } => *id == session.id,
            SignalKind::SessionResult { .. }
            | SignalKind::Cancel { .. }
            | SignalKind::UploadsConfirmed
            | SignalKind::SessionExited { .. }
            | SignalKind::Nudge { .. }
            | SignalKind::ApprovalRequested { .. }
            | SignalKind::ApprovalDecided { .. } => false,
        });
        if registered {
            return self.registered(session);
        }
        let register_by = session.intent_at.after(self.limits().registration_timeout_ms);
        if self.now >= register_by {
            let waited = self.limits().registration_timeout_ms;
            let detail = format!("Session never started: no registration within {waited}");
            return self.draft().stop_session(StopCause::Lost, &detail).done();
        }
        if self.exit_was_seen(&session.id) {
            match self.view(&session.id) {
                None => return Decision::Ask(Query::Observe(session.id.clone())),
                Some(Ok(SessionView::Exited { .. } | SessionView::Unknown)) => {
                    return self.draft().stop_session(StopCause::Lost, &self.exit_detail(&session.id)).done();
                }
                Some(Ok(SessionView::Running { .. } | SessionView::Suspended) | Err(_)) => {}
            }
        }
        for observation in self.observations {
            match observation {
                Observation::Started(id) if *id == session.id => {
                    return Decision::Wait { until: Some(register_by.min(self.deadline_at())) };
                }
                Observation::StartFailed { session: id, message, retryable } if *id == session.id => {
                    let cause = if *retryable { StopCause::StartFailed } else { StopCause::StartRefused };
                    let detail = format!("Session start failed: {message}");
                    return self.draft().stop_session(cause, &detail).done();
                }
                Observation::Started(_)
                | Observation::StartFailed { .. }
                | Observation::SlotDenied(_)
                | Observation::Prepared(_)
                | Observation::PrepareFailed { .. }
                | Observation::Stopped(_)
                | Observation::StopFailed { .. }
                | Observation::Seen { .. }
                | Observation::Unseen { .. } => {}
            }
        }
        let owed = self.s.owed.iter().find(|o| match &o.effect.kind {
            EffectKind::StartSession { session: id, .. } => *id == session.id,
            EffectKind::StopSession { .. } => false,
        });
        let until = register_by.min(self.deadline_at());
        match owed {
            Some(_) if self.foreign().is_some() => Decision::Wait { until: Some(self.now.after(ASK_AGAIN).min(until)) },
            Some(owed) => Decision::Run(owed.effect.clone()),
            None => Decision::Wait { until: Some(until) },
        }
    }

    fn registered(&self, session: &SessionRecord) -> Decision {
        let now = self.now;
        let details = [
            ("session_id", Value::from(session.id.as_str())),
            ("attempt", Value::from(session.attempt)),
            ("compute_type", Value::from(session.compute.clone())),
        ];
        self.draft()
            .consume_where(|k| matches!(k, SignalKind::SessionRegistered { .. }))
            .settle_all()
            .set(|t| {
                t.started_at = Some(t.started_at.unwrap_or(now));
                if let Some(s) = &mut t.session {
                    s.phase = SessionPhase::Live;
                    s.registered_at = Some(now);
                }
            })
            .go(TaskStatus::Running, Cause::SessionRegistered, &details)
            .done()
    }

    /// A registered session without a report: gates first, then its liveness.
    fn alive(&self, session: &SessionRecord) -> Decision {
        if let Some(decision) = self.gate() {
            return decision;
        }
        let last_sign =
            self.s.heartbeat_at.into_iter().chain(session.registered_at).fold(session.intent_at, Timestamp::max);
        let soon = self.now.after(ASK_AGAIN);
        match self.view(&session.id) {
            None => Decision::Ask(Query::Observe(session.id.clone())),
            Some(Err(())) => Decision::Wait { until: Some(soon.min(self.deadline_at())) },
            Some(Ok(view)) => {
                let capabilities = self.backend.capabilities;
                match judge(view, capabilities, self.task.status, last_sign, self.limits(), self.now) {
                    Liveness::Alive { look_again } => {
                        Decision::Wait { until: Some(look_again.min(self.deadline_at())) }
                    }
                    Liveness::Gone { detail } => self.lost(&detail),
                    Liveness::Lost { detail } => self.draft().stop_session(StopCause::Lost, &detail).done(),
                }
            }
        }
    }

    fn gate(&self) -> Option<Decision> {
        for signal in &self.s.signals {
            match (&signal.kind, self.task.status) {
                (SignalKind::ApprovalRequested { request, .. }, TaskStatus::Running) => {
                    let details = [
                        ("milestone", Value::from("approval_requested")),
                        ("request_id", Value::from(request.clone())),
                    ];
                    let request = request.clone();
                    return Some(
                        self.draft()
                            .consume(&signal.id)
                            .set(|t| t.awaiting = Some(request))
                            .go(TaskStatus::AwaitingApproval, Cause::ApprovalRequested, &details)
                            .done(),
                    );
                }
                // Not consumed: the session still has to hear it.
                (SignalKind::ApprovalDecided { request, approved, .. }, TaskStatus::AwaitingApproval)
                    if self.task.awaiting.as_ref() == Some(request) =>
                {
                    let details = [("request_id", Value::from(request.clone())), ("approved", Value::from(*approved))];
                    return Some(
                        self.draft()
                            .set(|t| t.awaiting = None)
                            .go(TaskStatus::Running, Cause::ApprovalDecided, &details)
                            .done(),
                    );
                }
                (
                    SignalKind::ApprovalRequested { .. }
                    | SignalKind::ApprovalDecided { .. }
                    | SignalKind::Cancel { .. }
                    | SignalKind::UploadsConfirmed
                    | SignalKind::SessionRegistered { .. }
                    | SignalKind::SessionResult { .. }
                    | SignalKind::SessionExited { .. }
                    | SignalKind::Nudge { .. },
                    _,
                ) => {}
            }
        }
        None
    }

    // -- a session that is no more -------------------------------------------------------------------------------

    /// The session is over without a usable report: another attempt, or the end.
    fn lost(&self, detail: &str) -> Decision {
        let limits = self.limits();
        let attempt = self.task.attempt;
        let registered = match self.task.status {
            TaskStatus::Running | TaskStatus::AwaitingApproval | TaskStatus::Finalizing => true,
            TaskStatus::PendingUploads
            | TaskStatus::Queued
            | TaskStatus::Submitted
            | TaskStatus::Hydrating
            | TaskStatus::Completed
            | TaskStatus::Failed
            | TaskStatus::Cancelled
            | TaskStatus::TimedOut => false,
        };
        // What is being finalized has its report: it is never tried again. Nor is what may still run: never two at once.
        let last = attempt >= limits.max_attempts || self.unconfirmed.is_some();
        if last || self.task.status == TaskStatus::Finalizing {
            let text = if registered { format!("Agent session lost: {detail}") } else { detail.to_owned() };
            let (cause, reason) = match (self.task.status, registered) {
                (TaskStatus::Finalizing, _) => (Cause::SessionEnded, FailureReason::SessionLost),
                (_, true) => (Cause::SessionLost, FailureReason::SessionLost),
                (_, false) => (Cause::StartFailed, FailureReason::SessionStart),
            };
            let text = format!("{text} (attempt {attempt} of {})", limits.max_attempts);
            return self.draft().fail(cause, Failure::new(reason, text)).done();
        }
        let not_before = self.now.after(backoff(limits, attempt));
        let details = [
            ("reason", Value::from(detail)),
            ("attempt", Value::from(attempt)),
            ("not_before", Value::from(not_before.to_string())),
        ];
        let draft = self
            .draft()
            .consume_where(|k| {
                matches!(
                    k,
                    SignalKind::SessionRegistered { .. }
                        | SignalKind::SessionExited { .. }
                        | SignalKind::SessionResult { .. }
                        | SignalKind::ApprovalRequested { .. }
                )
            })
            .settle_all()
            .set(|t| {
                t.not_before = Some(not_before);
                t.awaiting = None;
                if let Some(s) = &mut t.session {
                    s.phase = SessionPhase::Over;
                }
            });
        if registered {
            draft.go(TaskStatus::Hydrating, Cause::SessionLostRetry, &details).done()
        } else {
            let event = details
                .iter()
                .fold(NewEvent::new(EventType::SessionStartRetry, self.now), |e, (k, v)| e.with(k, v.clone()));
            draft.tell(event).done()
        }
    }

    fn start_failed(&self, detail: &str) -> Decision {
        self.draft().fail(Cause::StartFailed, Failure::new(FailureReason::SessionStart, detail)).done()
    }

    // -- facts ---------------------------------------------------------------------------------------------------

    fn draft(&self) -> Draft<'a> {
        Draft::new(self.s, self.now).unconfirmed(self.unconfirmed)
    }

    fn limits(&self) -> &'a ResolvedLimits {
        &self.task.spec.limits
    }

    /// The session that may run, if any.
    fn current(&self) -> Option<&'a SessionRecord> {
        self.task.session.as_ref().filter(|s| match s.phase {
            SessionPhase::Starting | SessionPhase::Live | SessionPhase::Stopping => true,
            SessionPhase::Over => false,
        })
    }

    /// Why this worker can neither see nor stop the current session: it runs on another backend, which does not know
    /// a session of this one, and would call it gone or stopped. A worker of that backend, or time, settles it.
    fn foreign(&self) -> Option<String> {
        let theirs = &self.current()?.compute;
        let ours = &self.backend.name;
        (theirs != ours).then(|| format!("the session runs on `{theirs}`, this worker drives `{ours}`"))
    }

    /// The last view of a session among the observations; `Err` when the backend could not be asked.
    fn view(&self, id: &SessionId) -> Option<Result<&'a SessionView, ()>> {
        if self.foreign().is_some() {
            return Some(Err(()));
        }
        self.observations.iter().rev().find_map(|o| match o {
            Observation::Seen { session, view } if session == id => Some(Ok(view)),
            Observation::Unseen { session, .. } if session == id => Some(Err(())),
            Observation::Seen { .. }
            | Observation::Unseen { .. }
            | Observation::SlotDenied(_)
            | Observation::Prepared(_)
            | Observation::PrepareFailed { .. }
            | Observation::Started(_)
            | Observation::StartFailed { .. }
            | Observation::Stopped(_)
            | Observation::StopFailed { .. } => None,
        })
    }

    fn exit_was_seen(&self, id: &SessionId) -> bool {
        self.s.signals.iter().any(|s| matches!(&s.kind, SignalKind::SessionExited { session } if session == id))
    }

    fn exit_detail(&self, id: &SessionId) -> String {
        let never = "Session never started";
        match self.view(id) {
            Some(Ok(view)) => {
                match judge(view, self.backend.capabilities, self.task.status, self.now, self.limits(), self.now) {
                    Liveness::Gone { detail } | Liveness::Lost { detail } => format!("{never}: {detail}"),
                    Liveness::Alive { .. } => never.to_owned(),
                }
            }
            Some(Err(())) | None => never.to_owned(),
        }
    }
}

/// How preparation stands.
enum Preparing<'a> {
    /// Nobody has looked.
    Ask,
    /// It is done.
    Done(&'a Prepared),
    /// It failed for good.
    Failed(&'a Failure),
    /// It failed, and may succeed later.
    Later,
}

/// The wait before the attempt after this one: doubles, up to five minutes.
fn backoff(limits: &ResolvedLimits, attempt: u32) -> Millis {
    let factor = 1u64.checked_shl(attempt.saturating_sub(1)).unwrap_or(u64::MAX);
    Millis(limits.retry_backoff_ms.0.saturating_mul(factor)).min(MAX_BACKOFF)
}
