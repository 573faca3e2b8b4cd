//! Watches sessions: says when one ends, and stops those that no task expects.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use abca_core::compute::{ComputeStrategy, StopSession};
use abca_core::store::{ListQuery, NewSignal, TaskStore, signal_id};
use abca_core::task::{SessionPhase, Signal, SignalKind, Snapshot, TaskStatus};
use abca_core::{Clock, Millis, SessionId};
use tokio_util::sync::CancellationToken;

use super::readable::load_readable;
use super::seams::task_of;

/// The longest wait between tries when a backend or the store does not answer.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Sessions end right after their report, as a rule, and the report brings the task's loop here by itself: so long it may
/// take before the end is told apart.
const AFTER_REPORT: Duration = Duration::from_millis(100);

/// Tasks read at once.
const LIST_PAGE: usize = 256;

/// Waits for the end of sessions and tells their tasks. Clones share what they watch.
///
/// A ring, not a fact: whoever hears it looks for itself, and would look anyway, every `observe_every_ms`.
#[derive(Debug, Clone)]
pub(crate) struct Watchers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Arc<dyn TaskStore>,
    compute: Arc<dyn ComputeStrategy>,
    /// The name that sessions of this strategy are recorded under.
    backend: String,
    clock: Arc<dyn Clock>,
    end: CancellationToken,
    watched: Mutex<BTreeMap<SessionId, CancellationToken>>,
}

impl Watchers {
    /// Watchers that live until `end`.
    pub(crate) fn new(
        store: Arc<dyn TaskStore>,
        compute: Arc<dyn ComputeStrategy>,
        backend: String,
        clock: Arc<dyn Clock>,
        end: CancellationToken,
    ) -> Self {
        Self(Arc::new(Inner { store, compute, backend, clock, end, watched: Mutex::default() }))
    }

    /// Watches a session, once, where the backend can.
    pub(crate) fn watch(&self, session: &SessionId) {
        if !self.0.compute.capabilities().wait || task_of(session).is_none() {
            return;
        }
        let mut watched = self.0.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if watched.contains_key(session) {
            return;
        }
        let enough = CancellationToken::new();
        watched.insert(session.clone(), enough.clone());
        let (inner, session) = (self.0.clone(), session.clone());
        tokio::spawn(async move {
            let done = inner.end.clone();
            tokio::select! {
                biased;
                () = done.cancelled() => {}
                () = enough.cancelled() => return,
                () = inner.follow(&session) => {}
            }
            let mut watched = inner.watched.lock().unwrap_or_else(PoisonError::into_inner);
            // It may be watched anew by now.
            if !enough.is_cancelled() {
                watched.remove(&session);
            }
        });
    }

    /// Leaves a session alone while somebody else waits for its end, so that its task is not told what it hears anyway.
    /// Dropped, the session is watched again, unless [`Watching::over`] was called.
    pub(crate) fn pause(&self, session: &SessionId) -> Watching<'_> {
        let watched = self.0.watched.lock().unwrap_or_else(PoisonError::into_inner).remove(session);
        if let Some(enough) = watched {
            enough.cancel();
        }
        Watching { watchers: self, session: Some(session.clone()) }
    }

    /// Watches every session that a task expects, also one that ended while nobody watched. For the start of a worker.
    ///
    /// Only registered ones: of a session that was never started there is nothing to wait for.
    pub(crate) async fn resume(&self) {
        let inner = &self.0;
        let mut before = None;
        let statuses = vec![TaskStatus::Running, TaskStatus::AwaitingApproval, TaskStatus::Finalizing];
        loop {
            let query = ListQuery { statuses: statuses.clone(), before, limit: LIST_PAGE, ..ListQuery::default() };
            let page = match inner.store.list(&query).await {
                Ok(page) => page,
                Err(error) => return tracing::warn!(%error, "could not list tasks; their sessions are looked at later"),
            };
            for session in page.iter().filter_map(|task| task.session.as_ref()) {
                if session.phase == SessionPhase::Live && session.compute == inner.backend {
                    self.watch(&session.id);
                }
            }
            match page.last() {
                Some(last) if page.len() >= LIST_PAGE => before = Some(last.id),
                Some(_) | None => return,
            }
        }
    }

    /// Looks at every session that may run: watches those that belong to a task, stops those that do not.
    pub(crate) async fn sweep(&self) {
        let inner = &self.0;
        let sessions = match inner.compute.sessions().await {
            Ok(sessions) => sessions,
            Err(error) => return tracing::warn!(%error, "could not list sessions; orphans stay for now"),
        };
        let named: Vec<_> = sessions.iter().filter_map(|s| Some((s, task_of(s)?))).collect();
        let ids: Vec<_> = named.iter().map(|(_, task)| *task).collect();
        if ids.is_empty() {
            return;
        }
        // The tasks are read after the sessions were listed: a record can only have moved on since.
        let snapshots = match load_readable(&*inner.store, &ids).await {
            Ok(snapshots) => snapshots,
            Err(error) => return tracing::warn!(%error, "could not read the tasks of sessions; orphans stay for now"),
        };
        for ((session, task), snapshot) in named.into_iter().zip(snapshots) {
            match snapshot {
                // Perhaps another installation's: not ours to stop.
                None => tracing::warn!(%session, %task, "a session runs for a task that this store does not know"),
                Some(snapshot) if is_orphan(&snapshot, session) => {
                    tracing::warn!(%session, status = %snapshot.task.status, "stopping a session that no task expects");
                    let request = StopSession { session: session.clone(), grace_ms: Millis(0) };
                    if let Err(error) = inner.compute.stop(&request).await {
                        tracing::warn!(%session, %error, "could not stop an orphan; trying again later");
                    }
                }
                Some(_) => self.watch(session),
            }
        }
    }
}

/// Somebody waits for the end of a session himself.
#[derive(Debug)]
pub(crate) struct Watching<'a> {
    watchers: &'a Watchers,
    session: Option<SessionId>,
}

impl Watching<'_> {
    /// The session has ended.
    pub(crate) fn over(mut self) {
        self.session = None;
    }
}

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        if let Some(session) = &self.session {
            self.watchers.watch(session);
        }
    }
}

/// Whether nobody expects this session any more. What is stopping is its task's own to stop.
fn is_orphan(snapshot: &Snapshot, session: &SessionId) -> bool {
    let task = &snapshot.task;
    match &task.session {
        _ if task.status.is_terminal() => true,
        Some(current) if current.id == *session => current.phase == SessionPhase::Over,
        Some(_) | None => true,
    }
}

impl Inner {
    async fn follow(&self, session: &SessionId) {
        let mut pause = Duration::from_millis(200);
        while let Err(error) = self.compute.wait(session).await {
            if !error.is_retryable() {
                return tracing::warn!(%session, %error, "cannot wait for a session; it is looked at from time to time");
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
        tokio::time::sleep(AFTER_REPORT).await;
        let (Some(task), Some(id)) = (task_of(session), signal_id(&["exited", session.as_str()])) else { return };
        let kind = SignalKind::SessionExited { session: session.clone() };
        let signal = NewSignal { task, signal: Signal { id, at: self.clock.now(), kind }, expect_session: None };
        let mut pause = Duration::from_millis(50);
        while let Err(error) = self.store.signal(std::slice::from_ref(&signal)).await {
            if !error.is_retryable() {
                return tracing::warn!(%session, %error, "could not tell a task that its session ended");
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }
}
