//! A backend whose sessions are tasks of the simulation, and which counts what it begins.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use abca::orchestrator::task_of;
use abca_core::compute::{
    ComputeCapabilities, ComputeError, ComputeErrorKind, ComputeStrategy, SessionView, StartSession, StopSession,
};
use abca_core::testing::witness::{Finding, Promise, Witness};
use abca_core::{SessionId, TaskId};
use async_trait::async_trait;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use super::latch::Latch;
use super::mutants::Mutant;
use super::session::{Platform, run};

#[derive(Debug)]
pub struct Backend {
    capabilities: ComputeCapabilities,
    witness: Arc<Witness>,
    mutant: Option<Mutant>,
    platform: OnceLock<Arc<Platform>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    sessions: BTreeMap<SessionId, Entry>,
    tombstones: BTreeSet<SessionId>,
    working: BTreeMap<TaskId, BTreeSet<SessionId>>,
}

#[derive(Debug)]
struct Entry {
    begun: usize,
    stop: CancellationToken,
    abort: AbortHandle,
    view: Latch<SessionView>,
}

/// A session works from its registration until its end, whatever ends it.
pub struct Working {
    backend: Arc<Backend>,
    task: TaskId,
    session: SessionId,
}

impl Drop for Working {
    fn drop(&mut self) {
        if let Some(working) = self.backend.state().working.get_mut(&self.task) {
            working.remove(&self.session);
        }
    }
}

impl Backend {
    pub fn new(capabilities: ComputeCapabilities, witness: Arc<Witness>, mutant: Option<Mutant>) -> Arc<Self> {
        Arc::new(Self { capabilities, witness, mutant, platform: OnceLock::new(), state: Mutex::default() })
    }

    /// Where its sessions find the platform.
    pub fn joins(&self, platform: Arc<Platform>) {
        self.platform.set(platform).expect("a backend joins one platform");
    }

    /// A session has registered, and begins to work.
    pub fn works(self: &Arc<Self>, task: TaskId, session: &SessionId) -> Working {
        let mut state = self.state();
        let working = state.working.entry(task).or_default();
        working.insert(session.clone());
        if working.len() > 1 && !self.witness.is_unconfirmed(task) {
            let detail = format!("at work: {working:?}");
            self.witness.report(Finding { promise: Promise::OneSession, task: Some(task), detail });
        }
        Working { backend: self.clone(), task, session: session.clone() }
    }

    /// How many sessions were begun.
    pub fn begun(&self) -> usize {
        self.state().sessions.values().map(|e| e.begun).sum()
    }

    /// Sessions that run.
    pub fn live(&self) -> Vec<SessionId> {
        let state = self.state();
        state.sessions.iter().filter(|(_, e)| !ended(&e.view.now())).map(|(id, _)| id.clone()).collect()
    }

    /// Where stops leave tombstones no start comes too late, and no session runs beside another of its task.
    fn expects(&self, state: &State, request: &StartSession) {
        let find = |promise, detail| self.witness.report(Finding { promise, task: Some(request.task), detail });
        if self.witness.is_unconfirmed(request.task) {
            return;
        }
        if let Some(status) = self.witness.status(request.task).filter(|s| s.is_terminal()) {
            find(Promise::NoOrphan, format!("`{}` begins after {status}", request.session));
        }
        let others = state.sessions.iter().filter(|(id, e)| task_of(id) == Some(request.task) && !ended(&e.view.now()));
        let others: Vec<_> = others.map(|(id, _)| id).filter(|id| **id != request.session).collect();
        if !others.is_empty() {
            find(Promise::OneSession, format!("`{}` begins beside {others:?}", request.session));
        }
    }

    fn begin(&self, request: &StartSession, begun: usize) -> Entry {
        let stop = CancellationToken::new();
        let platform = self.platform.get().expect("the backend has joined its platform").clone();
        let view = Latch::new(SessionView::Running { active_at: None });
        let work = tokio::spawn(run(platform, request.clone(), stop.clone()));
        let abort = work.abort_handle();
        let (status, tell) = (self.capabilities.exit_status, view.clone());
        tokio::spawn(async move {
            let code = work.await.ok().filter(|_| status);
            tell.set(SessionView::Exited { code, signal: None, detail: None });
        });
        Entry { begun, stop, abort, view }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the sessions")
    }

    fn view(&self, session: &SessionId) -> Option<Latch<SessionView>> {
        self.state().sessions.get(session).map(|e| e.view.clone())
    }
}

fn ended(view: &SessionView) -> bool {
    matches!(view, SessionView::Exited { .. })
}

#[async_trait]
impl ComputeStrategy for Backend {
    fn name(&self) -> &'static str {
        "simulated"
    }

    fn capabilities(&self) -> ComputeCapabilities {
        self.capabilities
    }

    async fn start(&self, request: &StartSession) -> Result<(), ComputeError> {
        let mut state = self.state();
        let tombstones = self.capabilities.tombstones && self.mutant != Some(Mutant::NoTombstone);
        if tombstones && state.tombstones.contains(&request.session) {
            return Err(ComputeError::new(ComputeErrorKind::Stopped, "start", "stopped before"));
        }
        let begun = state.sessions.get(&request.session).map_or(0, |e| e.begun);
        if begun > 0 && self.mutant != Some(Mutant::StartsAgain) {
            return Ok(());
        }
        if begun > 0 {
            let detail = format!("`{}` begins again", request.session);
            self.witness.report(Finding { promise: Promise::StartOnce, task: Some(request.task), detail });
        }
        if self.capabilities.tombstones {
            self.expects(&state, request);
        }
        let entry = self.begin(request, begun + 1);
        state.sessions.insert(request.session.clone(), entry);
        Ok(())
    }

    async fn observe(&self, session: &SessionId) -> Result<SessionView, ComputeError> {
        Ok(self.view(session).map_or(SessionView::Unknown, |view| view.now()))
    }

    async fn stop(&self, request: &StopSession) -> Result<(), ComputeError> {
        if self.mutant == Some(Mutant::StopsNothing) {
            return Ok(());
        }
        let (view, abort) = {
            let mut state = self.state();
            state.tombstones.insert(request.session.clone());
            let Some(entry) = state.sessions.get(&request.session) else { return Ok(()) };
            entry.stop.cancel();
            (entry.view.clone(), entry.abort.clone())
        };
        if tokio::time::timeout(request.grace_ms.to_std(), view.until(ended)).await.is_err() {
            abort.abort();
            view.until(ended).await;
        }
        Ok(())
    }

    async fn wait(&self, session: &SessionId) -> Result<SessionView, ComputeError> {
        match self.view(session) {
            Some(view) => Ok(view.until(ended).await),
            None => Ok(SessionView::Unknown),
        }
    }

    async fn sessions(&self) -> Result<Vec<SessionId>, ComputeError> {
        Ok(self.live())
    }
}
