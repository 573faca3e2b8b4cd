//! A compute strategy of one's own: every session on a thread of its own, so that a busy one holds nobody up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use abca::abca_compute::SessionRunner;
use abca::abca_core::SessionId;
use abca::abca_core::compute::{
    ComputeCapabilities, ComputeError, ComputeErrorKind, ComputeStrategy, SessionView, StartSession, StopSession,
};
use async_trait::async_trait;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

#[derive(Debug)]
pub struct Threads {
    runner: Arc<dyn SessionRunner>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    sessions: BTreeMap<SessionId, Entry>,
    tombstones: BTreeSet<SessionId>,
}

#[derive(Debug, Clone)]
struct Entry {
    /// Asks the session to save its work and end.
    stop: CancellationToken,
    /// Ends it where it stands.
    kill: CancellationToken,
    view: watch::Receiver<SessionView>,
}

impl Threads {
    pub fn new(runner: Arc<dyn SessionRunner>) -> Self {
        Self { runner, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entry(&self, session: &SessionId) -> Option<Entry> {
        self.state().sessions.get(session).cloned()
    }
}

#[async_trait]
impl ComputeStrategy for Threads {
    fn name(&self) -> &'static str {
        "threads"
    }

    /// What is declared here decides how sessions are watched over, and which cases of the suite must pass.
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
            let text = format!("session `{}` was stopped before", request.session);
            return Err(ComputeError::new(ComputeErrorKind::Stopped, "start", text));
        }
        if state.sessions.contains_key(&request.session) {
            return Ok(());
        }
        let (stop, kill) = (CancellationToken::new(), CancellationToken::new());
        let (tell, view) = watch::channel(SessionView::Running { active_at: None });
        let entry = Entry { stop: stop.clone(), kill: kill.clone(), view };
        let (runner, start) = (self.runner.clone(), request.clone());
        std::thread::Builder::new()
            .name(request.session.to_string())
            .spawn(move || {
                let ended = run(runner, start, stop, kill);
                tell.send_replace(ended);
            })
            .map_err(|e| ComputeError::new(ComputeErrorKind::Throttled, "start", "no thread").with_source(e))?;
        state.sessions.insert(request.session.clone(), entry);
        Ok(())
    }

    async fn observe(&self, session: &SessionId) -> Result<SessionView, ComputeError> {
        Ok(self.entry(session).map_or(SessionView::Unknown, |entry| entry.view.borrow().clone()))
    }

    async fn stop(&self, request: &StopSession) -> Result<(), ComputeError> {
        self.state().tombstones.insert(request.session.clone());
        let Some(entry) = self.entry(&request.session) else { return Ok(()) };
        entry.stop.cancel();
        if tokio::time::timeout(request.grace_ms.to_std(), ended(&entry)).await.is_err() {
            entry.kill.cancel();
            ended(&entry).await;
        }
        Ok(())
    }

    async fn wait(&self, session: &SessionId) -> Result<SessionView, ComputeError> {
        match self.entry(session) {
            Some(entry) => Ok(ended(&entry).await),
            None => Ok(SessionView::Unknown),
        }
    }

    async fn sessions(&self) -> Result<Vec<SessionId>, ComputeError> {
        let state = self.state();
        Ok(state.sessions.iter().filter(|(_, e)| !is_end(&e.view.borrow())).map(|(id, _)| id.clone()).collect())
    }
}

/// A session's thread.
fn run(
    runner: Arc<dyn SessionRunner>,
    start: StartSession,
    stop: CancellationToken,
    kill: CancellationToken,
) -> SessionView {
    let end = |code, detail: Option<String>| SessionView::Exited { code, signal: None, detail };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return end(None, Some(format!("no runtime: {error}"))),
    };
    let session = async {
        tokio::select! {
            code = runner.run(start, stop) => end(Some(code), None),
            () = kill.cancelled() => end(None, Some("stopped without having ended by itself".to_owned())),
        }
    };
    // A panic is an end too.
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(session)))
        .unwrap_or_else(|_| end(None, Some("the session panicked".to_owned())))
}

fn is_end(view: &SessionView) -> bool {
    matches!(view, SessionView::Exited { .. })
}

async fn ended(entry: &Entry) -> SessionView {
    let mut view = entry.view.clone();
    match view.wait_for(is_end).await {
        Ok(end) => end.clone(),
        Err(_) => unreachable!("a session's thread tells its end before it goes"),
    }
}
