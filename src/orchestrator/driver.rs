//! Drives one task: decide, find out or do what the decision says, commit, and decide again.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use abca_core::compute::{ComputeErrorKind, ComputeStrategy, SessionView, StopSession};
use abca_core::store::{Burial, Commit, CommitOutcome, LeaseChange, Release, StoreError, StoreErrorKind, TaskStore};
use abca_core::task::{
    Backend, Change, Decision, Effect, EffectKind, Failure, FailureReason, Observation, Query, SessionPhase,
    SignalKind, SlotChange, Snapshot, Task, apply, decide,
};
use abca_core::{Clock, Millis, SessionId, Timestamp};
use sha2::{Digest, Sha256};

use super::delivery::delivery;
use super::driving::{News, Ticket};
use super::seams::{Launcher, PrepareFailure, Preparer};
use super::watch::Watchers;
use super::worker::WorkerConfig;
use crate::guardrail::Guard;

/// So many decisions without a commit in between mean that the machine runs in a circle.
const FUSE: u32 = 64;
/// Waits between repeats of a commit whose answer got lost.
const COMMIT_RETRIES: [Duration; 3] =
    [Duration::from_millis(20), Duration::from_millis(80), Duration::from_millis(320)];
/// How long the end of a session that has reported is waited for while its task is being driven.
const LAST_STEPS: Duration = Duration::from_millis(50);
/// How long the first word of a session that was just started is waited for while its task is being driven.
const FIRST_WORD: Duration = Duration::from_millis(50);
/// When a task is looked at again after the store failed while it was driven.
const AFTER_TROUBLE: Millis = Millis::secs(2);
/// When a task is looked at again after something that should not happen.
const AFTER_FAULT: Millis = Millis::secs(30);

/// Everything that a loop needs to drive tasks.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) store: Arc<dyn TaskStore>,
    pub(crate) compute: Arc<dyn ComputeStrategy>,
    pub(crate) preparer: Arc<dyn Preparer>,
    pub(crate) guard: Guard,
    pub(crate) launcher: Arc<dyn Launcher>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) watchers: Watchers,
    pub(crate) backend: Backend,
    pub(crate) config: WorkerConfig,
}

/// Something that takes time, asked for by a decision.
#[derive(Debug, Clone, PartialEq)]
enum Step {
    Ask(Query),
    Run(Effect),
}

/// How a loop goes on after a commit.
enum Committed {
    /// From this snapshot, with no observations.
    Fresh(Box<Snapshot>),
    /// From this snapshot; somebody else changed it.
    Moved(Box<Snapshot>),
    /// As before, with an observation more.
    Denied(Observation),
    /// Not at all.
    Done,
}

impl Driver {
    /// Drives a task until it waits, has ended, or is somebody else's.
    pub(crate) async fn run(self: Arc<Self>, ticket: Ticket, snapshot: Snapshot) {
        let mut next = Some((ticket, snapshot));
        while let Some((ticket, snapshot)) = next {
            self.drive(&ticket, snapshot).await;
            next = ticket.leave();
        }
    }

    async fn drive(&self, ticket: &Ticket, mut snap: Snapshot) {
        let mut observations: Vec<Observation> = Vec::new();
        let mut since_commit = 0u32;
        let mut just_started = false;
        loop {
            match ticket.news() {
                Some(News::Newer(newer)) => adopt(&mut snap, *newer, &mut observations),
                Some(News::Lost) => return,
                None => {}
            }
            since_commit += 1;
            if since_commit > FUSE {
                return self.bury(&snap, format!("decisions run in a circle in {}", snap.task.status)).await;
            }
            let now = self.clock.now();
            let step = match decide(&snap, &observations, &self.backend, now) {
                // A session registers at once, as a rule: cheaper than to give the task back and claim it again.
                Decision::Wait { .. }
                    if std::mem::take(&mut just_started)
                        && tokio::time::timeout(FIRST_WORD, ticket.arrived()).await.is_ok() =>
                {
                    continue;
                }
                Decision::Wait { until } => return self.release(&snap, until).await,
                Decision::Ask(query) => Step::Ask(query),
                Decision::Run(effect) => Step::Run(effect),
                Decision::Commit(mut change) => {
                    if let SlotChange::Acquire(slots) = &mut change.slots {
                        self.config.caps.narrow(slots);
                    }
                    match self.commit(ticket, &snap, *change, now).await {
                        Committed::Fresh(current) => {
                            since_commit = 0;
                            snap = *current;
                            observations.clear();
                        }
                        Committed::Moved(current) => adopt(&mut snap, *current, &mut observations),
                        Committed::Denied(observation) => observations.push(observation),
                        Committed::Done => return,
                    }
                    continue;
                }
            };
            let mut work = std::pin::pin!(self.carry_out(snap.task.clone(), step.clone(), has_reported(&snap)));
            let found = loop {
                tokio::select! {
                    biased;
                    found = &mut work => break found,
                    () = ticket.arrived() => match ticket.news() {
                        None => {}
                        Some(News::Lost) => return,
                        Some(News::Newer(newer)) => {
                            adopt(&mut snap, *newer, &mut observations);
                            // What is no longer wanted is dropped, which every backend allows. A view is always taken
                            // afresh: it may be older than the signal that came.
                            if matches!(step, Step::Ask(Query::Observe(_))) || self.step(&snap, &observations) != Some(step.clone()) {
                                break Vec::new();
                            }
                        }
                    }
                }
            };
            just_started = matches!(found.last(), Some(Observation::Started(_)));
            observations.extend(found);
        }
    }

    /// What a decision would have done now, if it is something that takes time.
    fn step(&self, snap: &Snapshot, observations: &[Observation]) -> Option<Step> {
        match decide(snap, observations, &self.backend, self.clock.now()) {
            Decision::Ask(query) => Some(Step::Ask(query)),
            Decision::Run(effect) => Some(Step::Run(effect)),
            Decision::Wait { .. } | Decision::Commit(_) => None,
        }
    }

    // -- the store -----------------------------------------------------------------------------------------------

    async fn commit(&self, ticket: &Ticket, snap: &Snapshot, change: Change, now: Timestamp) -> Committed {
        let after = apply(snap, &change);
        let lease = match decide(&after, &proof_of_life(snap, &after), &self.backend, now) {
            Decision::Wait { until } => LeaseChange::Release { due: until },
            Decision::Ask(_) | Decision::Run(_) | Decision::Commit(_) => LeaseChange::Keep,
        };
        let commit_id = commit_id(snap, &change);
        let commit = Commit {
            task: snap.id(),
            expect_revision: snap.revision,
            epoch: snap.epoch,
            commit_id,
            change,
            lease,
            now,
        };
        let mut retries = COMMIT_RETRIES.into_iter();
        let outcome = loop {
            match one(self.store.commit(std::slice::from_ref(&commit)).await, "commit") {
                Ok(outcome) => break outcome,
                Err(error) if error.is_retryable() => match retries.next() {
                    Some(wait) if !ticket.is_lost() => tokio::time::sleep(wait).await,
                    Some(_) | None => {
                        tracing::warn!(task = %snap.id(), %error, "could not commit; looking again later");
                        self.set_aside(snap, AFTER_TROUBLE).await;
                        return Committed::Done;
                    }
                },
                Err(error) => {
                    self.bury(snap, format!("the store refuses a commit: {error}")).await;
                    return Committed::Done;
                }
            }
        };
        match (outcome, commit.lease) {
            (CommitOutcome::Applied(current) | CommitOutcome::AlreadyApplied(current), LeaseChange::Keep) => {
                Committed::Fresh(current)
            }
            (CommitOutcome::Applied(_) | CommitOutcome::AlreadyApplied(_), LeaseChange::Release { .. }) => {
                Committed::Done
            }
            (CommitOutcome::Stale(current), _) if current.epoch == snap.epoch => Committed::Moved(current),
            (CommitOutcome::SlotDenied(scope), _) => Committed::Denied(Observation::SlotDenied(scope)),
            (CommitOutcome::Stale(_) | CommitOutcome::Fenced | CommitOutcome::NotFound, _) => Committed::Done,
        }
    }

    async fn release(&self, snap: &Snapshot, due: Option<Timestamp>) {
        let release = Release { task: snap.id(), epoch: snap.epoch, expect_revision: snap.revision, due };
        // A release that fails costs time, not truth: the lease expires by itself.
        if let Err(error) = self.store.release(&[release]).await {
            tracing::warn!(task = %snap.id(), %error, "could not give a lease back; it will expire");
        }
    }

    /// Back-off as data: the task is due later, whoever takes it then.
    async fn set_aside(&self, snap: &Snapshot, wait: Millis) {
        self.release(snap, Some(self.clock.now().after(wait))).await;
    }

    /// Makes a dead letter of a task that goes wrong the same way whoever drives it: it waits for an operator, not for a worker.
    async fn bury(&self, snap: &Snapshot, reason: String) {
        tracing::error!(task = %snap.id(), reason, "the task cannot go on; it is put aside as a dead letter");
        if self.store.capabilities().operator {
            let burial = Burial { task: snap.id(), epoch: snap.epoch, reason, now: self.clock.now() };
            match self.store.operator().bury(&[burial]).await {
                Ok(_) => return,
                Err(error) => {
                    tracing::warn!(task = %snap.id(), %error, "could not put a task aside; looking again later")
                }
            }
        }
        self.set_aside(snap, AFTER_FAULT).await;
    }

    // -- the world -----------------------------------------------------------------------------------------------

    async fn carry_out(&self, task: Task, step: Step, reported: bool) -> Vec<Observation> {
        let found = match step {
            Step::Ask(Query::Prepare) => return self.prepare(&task).await,
            Step::Ask(Query::Observe(session)) => self.observe(session, reported).await,
            Step::Ask(Query::Delivered(session)) => {
                let limit = self.config.observe_timeout;
                let delivery = delivery(&*self.store, &*self.preparer, limit, &task).await;
                Observation::Delivered { session, delivery }
            }
            Step::Run(Effect { kind: EffectKind::StartSession { session, attempt }, .. }) => {
                self.start(&task, session, attempt).await
            }
            Step::Run(Effect { kind: EffectKind::StopSession { session, grace_ms }, .. }) => {
                self.stop(session, grace_ms).await
            }
        };
        vec![found]
    }

    async fn prepare(&self, task: &Task) -> Vec<Observation> {
        let late = |late| {
            let failure = Failure::new(FailureReason::Hydration, format!("preparation gave {late}"));
            vec![Observation::PrepareFailed { failure, retryable: true }]
        };
        within(self.config.prepare_timeout, self.prepare_guarded(task)).await.unwrap_or_else(late)
    }

    /// Prepares, and lets the guardrail judge what comes of it, whoever prepared it.
    async fn prepare_guarded(&self, task: &Task) -> Vec<Observation> {
        let prepared = match self.preparer.prepare(task).await {
            Ok(prepared) => prepared,
            Err(PrepareFailure { failure, retryable }) => {
                return vec![Observation::PrepareFailed { failure, retryable }];
            }
        };
        let (judged, decision) = self.guard.prompt(task, prepared).await;
        let told = decision.map(|d| Observation::Guarded(vec![d.into_event(self.guard.screen(), self.clock.now())]));
        let found = match judged {
            Ok(prepared) => Observation::Prepared(Box::new(prepared)),
            Err(PrepareFailure { failure, retryable }) => Observation::PrepareFailed { failure, retryable },
        };
        told.into_iter().chain([found]).collect()
    }

    async fn observe(&self, session: SessionId, reported: bool) -> Observation {
        // A session that has reported ends at once, as a rule: cheaper than to look away and be called back.
        if reported && self.compute.capabilities().wait {
            let watching = self.watchers.pause(&session);
            let ended = tokio::time::timeout(LAST_STEPS, self.compute.wait(&session)).await;
            if let Ok(Ok(view)) = ended {
                watching.over();
                return Observation::Seen { session, view };
            }
        }
        match within(self.config.observe_timeout, self.compute.observe(&session)).await {
            Ok(Ok(view)) => Observation::Seen { session, view },
            Ok(Err(error)) => Observation::Unseen { session, message: error.to_string() },
            Err(late) => Observation::Unseen { session, message: late },
        }
    }

    async fn start(&self, task: &Task, session: SessionId, attempt: u32) -> Observation {
        let request = match self.launcher.launch(task, &session, attempt).await {
            Ok(request) => request,
            Err(message) => return Observation::StartFailed { session, message, retryable: false },
        };
        let (message, retryable) = match within(self.config.start_timeout, self.compute.start(&request)).await {
            Ok(Ok(())) => {
                self.watchers.watch(&session);
                return Observation::Started(session);
            }
            // The tombstone is this attempt's alone.
            Ok(Err(error)) => (error.to_string(), error.is_retryable() || error.kind() == ComputeErrorKind::Stopped),
            Err(late) => (late, true),
        };
        Observation::StartFailed { session, message, retryable }
    }

    async fn stop(&self, session: SessionId, grace_ms: Millis) -> Observation {
        let request = StopSession { session: session.clone(), grace_ms };
        let limit = Millis(self.config.stop_timeout.0.saturating_add(grace_ms.0));
        match within(limit, self.compute.stop(&request)).await {
            Ok(Ok(())) => Observation::Stopped(session),
            Ok(Err(error)) => Observation::StopFailed { session, message: error.to_string() },
            Err(late) => Observation::StopFailed { session, message: late },
        }
    }
}

/// Goes on from another snapshot: facts that it may contradict are found out again.
fn adopt(snap: &mut Snapshot, newer: Snapshot, observations: &mut Vec<Observation>) {
    *snap = newer;
    observations.retain(|o| match o {
        Observation::SlotDenied(_)
        | Observation::Seen { .. }
        | Observation::Unseen { .. }
        | Observation::Delivered { .. } => false,
        Observation::Prepared(_)
        | Observation::PrepareFailed { .. }
        | Observation::Guarded(_)
        | Observation::Started(_)
        | Observation::StartFailed { .. }
        | Observation::Stopped(_)
        | Observation::StopFailed { .. } => true,
    });
}

/// Whether the task's session has said its last word, and only its end is missing.
fn has_reported(snap: &Snapshot) -> bool {
    snap.task.report.is_some() || snap.signals.iter().any(|s| matches!(s.kind, SignalKind::SessionResult { .. }))
}

/// A session that has just registered is alive: nobody needs to look.
fn proof_of_life(before: &Snapshot, after: &Snapshot) -> Vec<Observation> {
    let live = |s: &Snapshot| s.task.session.as_ref().filter(|s| s.phase == SessionPhase::Live).map(|s| s.id.clone());
    match (live(before), live(after)) {
        (None, Some(session)) if !has_reported(before) => {
            vec![Observation::Seen { session, view: SessionView::Running { active_at: None } }]
        }
        (_, Some(_) | None) => Vec::new(),
    }
}

/// A function of what the commit does, and on what.
fn commit_id(snap: &Snapshot, change: &Change) -> u128 {
    let mut hash = Sha256::new();
    hash.update(snap.id().to_string());
    hash.update(snap.revision.to_le_bytes());
    hash.update(snap.epoch.to_le_bytes());
    // Struct fields in order and sorted maps: equal changes give equal bytes. Plain data always has a JSON form.
    hash.update(serde_json::to_vec(change).unwrap_or_default());
    let mut first = [0u8; 16];
    first.copy_from_slice(&hash.finalize()[..16]);
    u128::from_be_bytes(first)
}

/// The one answer to a batch of one.
fn one<T>(answers: Result<Vec<T>, StoreError>, op: &'static str) -> Result<T, StoreError> {
    let mut answers = answers?;
    match (answers.pop(), answers.is_empty()) {
        (Some(answer), true) => Ok(answer),
        (Some(_) | None, _) => {
            Err(StoreError::new(StoreErrorKind::Invalid, op, "the store did not answer one entry with one answer"))
        }
    }
}

async fn within<T>(limit: Millis, work: impl Future<Output = T>) -> Result<T, String> {
    tokio::time::timeout(limit.to_std(), work).await.map_err(|_| format!("no answer within {limit}"))
}

#[cfg(test)]
mod tests {
    use abca_core::compute::SessionView;
    use abca_core::testing::fixtures;

    use super::*;

    fn snapshot(epoch: u64) -> Snapshot {
        Snapshot { epoch, ..fixtures::claimed(fixtures::task(1)) }
    }

    #[test]
    fn a_view_older_than_a_signal_is_not_kept_and_what_was_done_is() {
        let session = SessionId::of(fixtures::task_id(1), 1);
        let done = Observation::Started(session.clone());
        let seen = Observation::Seen { session, view: SessionView::Running { active_at: None } };
        let mut observations = vec![seen, done.clone()];
        let mut snap = snapshot(1);
        adopt(&mut snap, snapshot(2), &mut observations);
        assert_eq!((snap.epoch, observations), (2, vec![done]));
    }

    #[test]
    fn a_commit_is_named_by_what_it_does_and_on_what() {
        let (one, two) = (snapshot(1), snapshot(2));
        let change = fixtures::note(&one, fixtures::at(1));
        assert_eq!(commit_id(&one, &change), commit_id(&one, &change));
        assert_ne!(commit_id(&one, &change), commit_id(&two, &change));
        assert_ne!(commit_id(&one, &change), commit_id(&one, &fixtures::note(&one, fixtures::at(2))));
    }
}
