use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};
use std::task::{Poll, Waker};

use async_trait::async_trait;

use crate::compute::{
    ComputeCapabilities, ComputeError, ComputeErrorKind, ComputeStrategy, SessionView, StartSession, StopSession,
};
use crate::id::SessionId;

/// A strategy whose sessions are entries in a table: a test starts them through the driver under test, and ends them
/// with [`FakeCompute::finish`]. Nothing runs.
///
/// It can be told to fail: [`FakeCompute::fail_next`] queues errors for the next calls.
#[derive(Debug)]
pub struct FakeCompute {
    capabilities: ComputeCapabilities,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    sessions: BTreeMap<SessionId, Entry>,
    tombstones: BTreeSet<SessionId>,
    failures: Vec<(&'static str, ComputeErrorKind)>,
}

#[derive(Debug)]
struct Entry {
    request: StartSession,
    view: SessionView,
    starts: usize,
    wakers: Vec<Waker>,
}

impl Default for FakeCompute {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeCompute {
    /// With exit status, tombstones, `wait`, and sessions that outlive the worker.
    pub fn new() -> Self {
        let mut capabilities = ComputeCapabilities::none();
        capabilities.exit_status = true;
        capabilities.tombstones = true;
        capabilities.outlives_worker = true;
        capabilities.wait = true;
        Self::with_capabilities(capabilities)
    }

    /// With capabilities of the test's choice. Without `exit_status`, an end shows neither code nor signal; without
    /// `tombstones`, a start after a stop starts.
    pub fn with_capabilities(capabilities: ComputeCapabilities) -> Self {
        Self { capabilities, state: Mutex::default() }
    }

    /// The next call of `op` (`start`, `observe`, `stop`, `wait` or `sessions`) fails with this kind, and does
    /// nothing. Several calls queue up.
    pub fn fail_next(&self, op: &'static str, kind: ComputeErrorKind) {
        self.state().failures.push((op, kind));
    }

    /// Ends a running session with an exit code. Whether one was running.
    pub fn finish(&self, session: &SessionId, code: i32) -> bool {
        let status = self.capabilities.exit_status;
        self.end(session, SessionView::Exited { code: status.then_some(code), signal: None, detail: None })
    }

    /// Kills a running session with a signal, as an operator or the kernel would. Whether one was running.
    pub fn kill(&self, session: &SessionId, signal: i32) -> bool {
        let status = self.capabilities.exit_status;
        self.end(session, SessionView::Exited { code: None, signal: status.then_some(signal), detail: None })
    }

    /// Forgets a session, as a backend does that lost its state. Whether it was known.
    pub fn forget(&self, session: &SessionId) -> bool {
        let gone = self.state().sessions.remove(session);
        let known = gone.is_some();
        gone.into_iter().flat_map(|entry| entry.wakers).for_each(Waker::wake);
        known
    }

    /// What a session was started with.
    pub fn request(&self, session: &SessionId) -> Option<StartSession> {
        self.state().sessions.get(session).map(|entry| entry.request.clone())
    }

    /// How many `start` calls a session has seen, repeated ones included.
    pub fn starts(&self, session: &SessionId) -> usize {
        self.state().sessions.get(session).map_or(0, |entry| entry.starts)
    }

    /// Every session ever started, with its view.
    pub fn views(&self) -> BTreeMap<SessionId, SessionView> {
        self.state().sessions.iter().map(|(id, entry)| (id.clone(), entry.view.clone())).collect()
    }

    fn end(&self, session: &SessionId, view: SessionView) -> bool {
        let mut state = self.state();
        let Some(entry) = state.sessions.get_mut(session) else { return false };
        if matches!(entry.view, SessionView::Exited { .. }) {
            return false;
        }
        entry.view = view;
        let wakers = std::mem::take(&mut entry.wakers);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        true
    }

    fn failure(&self, op: &'static str) -> Result<(), ComputeError> {
        let mut state = self.state();
        match state.failures.iter().position(|(of, _)| *of == op) {
            None => Ok(()),
            Some(i) => {
                let (_, kind) = state.failures.remove(i);
                Err(ComputeError::new(kind, op, "the test asked for this failure"))
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while it holds the table")
    }
}

#[async_trait]
impl ComputeStrategy for FakeCompute {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn capabilities(&self) -> ComputeCapabilities {
        self.capabilities
    }

    async fn start(&self, request: &StartSession) -> Result<(), ComputeError> {
        self.failure("start")?;
        let mut state = self.state();
        if self.capabilities.tombstones && state.tombstones.contains(&request.session) {
            let message = format!("session `{}` was stopped before", request.session);
            return Err(ComputeError::new(ComputeErrorKind::Stopped, "start", message));
        }
        let entry = state.sessions.entry(request.session.clone()).or_insert_with(|| Entry {
            request: request.clone(),
            view: SessionView::Running { active_at: None },
            starts: 0,
            wakers: Vec::new(),
        });
        entry.starts += 1;
        Ok(())
    }

    async fn observe(&self, session: &SessionId) -> Result<SessionView, ComputeError> {
        self.failure("observe")?;
        Ok(self.state().sessions.get(session).map_or(SessionView::Unknown, |entry| entry.view.clone()))
    }

    async fn stop(&self, request: &StopSession) -> Result<(), ComputeError> {
        self.failure("stop")?;
        self.state().tombstones.insert(request.session.clone());
        self.kill(&request.session, 15);
        Ok(())
    }

    async fn wait(&self, session: &SessionId) -> Result<SessionView, ComputeError> {
        self.failure("wait")?;
        let view = std::future::poll_fn(|cx| {
            let mut state = self.state();
            match state.sessions.get_mut(session) {
                None => Poll::Ready(SessionView::Unknown),
                Some(entry) if matches!(entry.view, SessionView::Exited { .. }) => Poll::Ready(entry.view.clone()),
                Some(entry) => {
                    entry.wakers.push(cx.waker().clone());
                    Poll::Pending
                }
            }
        });
        Ok(view.await)
    }

    async fn sessions(&self) -> Result<Vec<SessionId>, ComputeError> {
        self.failure("sessions")?;
        let state = self.state();
        let running = |entry: &Entry| !matches!(entry.view, SessionView::Exited { .. });
        Ok(state.sessions.iter().filter(|(_, entry)| running(entry)).map(|(id, _)| id.clone()).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::Context;

    use super::*;
    use crate::id::TaskId;
    use crate::time::{Millis, Timestamp};

    fn now<T>(future: impl Future<Output = T>) -> Option<T> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    fn request() -> StartSession {
        let task = TaskId::from_parts(Timestamp::from_millis(0), 1);
        StartSession {
            session: SessionId::of(task, 1),
            task,
            attempt: 1,
            payload: String::new(),
            token: String::from("t").into(),
            secrets: BTreeMap::new(),
            limits: Default::default(),
        }
    }

    #[test]
    fn the_fake_keeps_the_contract() {
        let (fake, req) = (FakeCompute::new(), request());
        assert_eq!(now(fake.observe(&req.session)).unwrap().unwrap(), SessionView::Unknown);
        fake.fail_next("start", ComputeErrorKind::Unavailable);
        assert_eq!(now(fake.start(&req)).unwrap().unwrap_err().kind(), ComputeErrorKind::Unavailable);
        now(fake.start(&req)).unwrap().unwrap();
        now(fake.start(&req)).unwrap().unwrap();
        assert_eq!(fake.starts(&req.session), 2);
        assert!(now(fake.wait(&req.session)).is_none(), "it still runs");
        assert!(fake.finish(&req.session, 3));
        let end = SessionView::Exited { code: Some(3), signal: None, detail: None };
        assert_eq!(now(fake.wait(&req.session)).unwrap().unwrap(), end);
        now(fake.stop(&StopSession { session: req.session.clone(), grace_ms: Millis(0) })).unwrap().unwrap();
        assert_eq!(now(fake.observe(&req.session)).unwrap().unwrap(), end, "a stop keeps the end");
        assert_eq!(now(fake.start(&req)).unwrap().unwrap_err().kind(), ComputeErrorKind::Stopped);
    }
}
