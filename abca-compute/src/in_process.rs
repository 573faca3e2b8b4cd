//! Sessions as tasks of this process: for notebooks and tests. They end with the process.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use abca_core::SessionId;
use abca_core::compute::{
    ComputeCapabilities, ComputeError, ComputeErrorKind, ComputeStrategy, SessionView, StartSession, StopSession,
};

/// What a session does: the session runtime of the facade, or a test's own.
#[async_trait]
pub trait SessionRunner: fmt::Debug + Send + Sync + 'static {
    /// Runs one session to its end and gives its exit code. `stop` fires when the session shall save its work and
    /// end; after the grace of the stop the future is dropped.
    async fn run(&self, request: StartSession, stop: CancellationToken) -> i32;
}

/// Runs each session as a tokio task of this process. Name `in-process`.
///
/// The walls around the hands are the runner's business, as with every strategy. A session that blocks its thread can
/// only be stopped at its next await point: `stop` waits for that.
#[derive(Debug)]
pub struct InProcess {
    runner: Arc<dyn SessionRunner>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    sessions: BTreeMap<SessionId, Entry>,
    tombstones: BTreeSet<SessionId>,
}

#[derive(Debug, Clone)]
struct Entry {
    stop: CancellationToken,
    abort: AbortHandle,
    view: watch::Receiver<SessionView>,
}

impl InProcess {
    /// Over a runner, which every session shares.
    pub fn new(runner: Arc<dyn SessionRunner>) -> Self {
        Self { runner, state: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entry(&self, session: &SessionId) -> Option<Entry> {
        self.state().sessions.get(session).cloned()
    }
}

#[async_trait]
impl ComputeStrategy for InProcess {
    fn name(&self) -> &'static str {
        "in-process"
    }

    fn capabilities(&self) -> ComputeCapabilities {
        let mut can = ComputeCapabilities::none();
        can.heartbeats = true;
        can.exit_status = true;
        can.tombstones = true;
        can.wait = true;
        can
    }

    async fn start(&self, request: &StartSession) -> Result<(), ComputeError> {
        let mut state = self.state();
        if state.tombstones.contains(&request.session) {
            let message = format!("session `{}` was stopped before", request.session);
            return Err(ComputeError::new(ComputeErrorKind::Stopped, "start", message));
        }
        if state.sessions.contains_key(&request.session) {
            return Ok(());
        }
        let stop = CancellationToken::new();
        let (tell, view) = watch::channel(SessionView::Running { active_at: None });
        let (runner, request_, token) = (Arc::clone(&self.runner), request.clone(), stop.clone());
        let work = tokio::spawn(async move { runner.run(request_, token).await });
        let abort = work.abort_handle();
        tokio::spawn(async move {
            let (code, detail) = match work.await {
                Ok(code) => (Some(code), None),
                Err(ended) if ended.is_cancelled() => (None, Some("stopped without having ended by itself".to_owned())),
                Err(ended) => (None, Some(panic_text(ended.into_panic().as_ref()))),
            };
            tell.send_replace(SessionView::Exited { code, signal: None, detail });
        });
        state.sessions.insert(request.session.clone(), Entry { stop, abort, view });
        Ok(())
    }

    async fn observe(&self, session: &SessionId) -> Result<SessionView, ComputeError> {
        Ok(self.entry(session).map_or(SessionView::Unknown, |entry| entry.view.borrow().clone()))
    }

    async fn stop(&self, request: &StopSession) -> Result<(), ComputeError> {
        self.state().tombstones.insert(request.session.clone());
        let Some(mut entry) = self.entry(&request.session) else { return Ok(()) };
        entry.stop.cancel();
        let end = entry.view.wait_for(ended);
        if tokio::time::timeout(request.grace_ms.to_std(), end).await.is_err() {
            entry.abort.abort();
            // The sender lives until the end is told.
            let _ = entry.view.wait_for(ended).await;
        }
        Ok(())
    }

    async fn wait(&self, session: &SessionId) -> Result<SessionView, ComputeError> {
        let Some(mut entry) = self.entry(session) else { return Ok(SessionView::Unknown) };
        let _ = entry.view.wait_for(ended).await;
        let view = entry.view.borrow().clone();
        Ok(view)
    }

    async fn sessions(&self) -> Result<Vec<SessionId>, ComputeError> {
        let state = self.state();
        Ok(state.sessions.iter().filter(|(_, e)| !ended(&e.view.borrow())).map(|(id, _)| id.clone()).collect())
    }
}

fn ended(view: &SessionView) -> bool {
    matches!(view, SessionView::Exited { .. })
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text =
        panic.downcast_ref::<&str>().map(|s| (*s).to_owned()).or_else(|| panic.downcast_ref::<String>().cloned());
    let text = format!("the session panicked: {}", text.as_deref().unwrap_or("no message"));
    text.chars().take(1_000).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    use abca_core::TaskId;
    use abca_core::time::Timestamp;

    #[derive(Debug)]
    struct Panics;

    #[async_trait]
    impl SessionRunner for Panics {
        async fn run(&self, _: StartSession, _: CancellationToken) -> i32 {
            panic!("no more")
        }
    }

    #[tokio::test]
    async fn a_panic_is_an_end_with_its_words() {
        let task = TaskId::from_parts(Timestamp::from_millis(0), 1);
        let request = StartSession {
            session: SessionId::of(task, 1),
            task,
            attempt: 1,
            payload: String::new(),
            token: String::from("t").into(),
            secrets: BTreeMap::new(),
            limits: Default::default(),
        };
        let compute = InProcess::new(Arc::new(Panics));
        compute.start(&request).await.unwrap();
        let detail = Some("the session panicked: no more".to_owned());
        assert_eq!(
            compute.wait(&request.session).await.unwrap(),
            SessionView::Exited { code: None, signal: None, detail }
        );
    }
}
