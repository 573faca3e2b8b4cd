//! Fault injection as a layer: a store and a compute strategy that fail, or whose process dies, at a chosen call.

use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, pending, poll_fn};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Poll, Waker};

use async_trait::async_trait;

use crate::compute::{
    ComputeCapabilities, ComputeError, ComputeErrorKind, ComputeStrategy, SessionView, StartSession, StopSession,
};
use crate::event::Event;
use crate::id::{IdempotencyKey, SessionId, TaskId, UserId, WorkerId};
use crate::session::LogRecord;
use crate::store::{
    Append, AppendOutcome, ClaimQuery, Commit, CommitOutcome, EventQuery, ListQuery, LogQuery, NewSignal,
    OperatorStore, Release, Renewal, SignalOutcome, SlotUsage, StoreCapabilities, StoreError, StoreErrorKind, Submit,
    SubmitOutcome, TaskStore,
};
use crate::task::{Snapshot, Task};
use crate::time::Timestamp;

/// What goes wrong at a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// It is not done, and says so.
    Fails,
    /// It is done, and the answer gets lost.
    AnswerLost,
    /// The process dies before it is done.
    DiesBefore,
    /// The process dies once it is done.
    DiesAfter,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Self; 4] = [Self::Fails, Self::AnswerLost, Self::DiesBefore, Self::DiesAfter];
}

/// One process, as its adapters see it: counts their calls, and lets some of them go wrong. Clones count together, and so do
/// the processes that follow it ([`Chaos::successor`]).
///
/// Counted is whatever changes something, asks for work or asks a backend; plain reads for display and
/// [`TaskStore::next_due`] pass uncounted. After a death no call of this process is answered any more: the test drops
/// whatever belongs to it.
#[derive(Debug, Clone, Default)]
pub struct Chaos {
    script: Arc<Mutex<Script>>,
    state: Arc<Mutex<State>>,
}

/// What all incarnations share.
#[derive(Debug, Default)]
struct Script {
    calls: Vec<&'static str>,
    plan: BTreeMap<usize, Fault>,
}

#[derive(Debug, Default)]
struct State {
    dead: bool,
    unreadable: BTreeSet<(&'static str, TaskId)>,
    wakers: Vec<Waker>,
}

impl Chaos {
    /// Nothing goes wrong: for counting the calls of a fault-free life.
    pub fn none() -> Self {
        Self::default()
    }

    /// The `call`-th call, from 0, goes wrong.
    pub fn at(call: usize, fault: Fault) -> Self {
        Self::at_each([(call, fault)])
    }

    /// Each of these calls, counted from 0, goes wrong.
    pub fn at_each(plan: impl IntoIterator<Item = (usize, Fault)>) -> Self {
        let script = Script { calls: Vec::new(), plan: plan.into_iter().collect() };
        Self { script: Arc::new(Mutex::new(script)), ..Self::default() }
    }

    /// The process that takes over after a death: it lives, and its calls count on.
    #[must_use]
    pub fn successor(&self) -> Self {
        Self { script: self.script.clone(), ..Self::default() }
    }

    /// What `op` (`load` or `log`) reads of this task cannot be read from now on, as if the disk had lost it.
    pub fn unreadable(&self, op: &'static str, task: TaskId) {
        self.state().unreadable.insert((op, task));
    }

    fn read(&self, op: &'static str, tasks: &[TaskId]) -> Result<(), StoreError> {
        let state = self.state();
        match tasks.iter().find(|task| state.unreadable.contains(&(op, **task))) {
            Some(task) => Err(StoreError::new(StoreErrorKind::Corrupt, op, format!("chaos: `{task}` cannot be read"))),
            None => Ok(()),
        }
    }

    /// The calls so far, by method, in the order of their beginning.
    pub fn calls(&self) -> Vec<&'static str> {
        self.script().calls.clone()
    }

    /// Answers when the process dies.
    pub async fn died(&self) {
        poll_fn(|context| {
            let mut state = self.state();
            if state.dead {
                return Poll::Ready(());
            }
            state.wakers.push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// A store as this process reaches it.
    pub fn store(&self, inner: Arc<dyn TaskStore>) -> ChaosStore {
        ChaosStore { inner, chaos: self.clone() }
    }

    /// A compute strategy as this process reaches it.
    pub fn compute(&self, inner: Arc<dyn ComputeStrategy>) -> ChaosCompute {
        ChaosCompute { inner, chaos: self.clone() }
    }

    async fn pass<T, E>(
        &self,
        op: &'static str,
        call: impl Future<Output = Result<T, E>> + Send,
        error: fn(&'static str, bool) -> E,
    ) -> Result<T, E> {
        let fault = {
            let dead = self.state().dead;
            let mut script = self.script();
            let number = script.calls.len();
            // What is left of a dead process does not count.
            if dead {
                Some(Fault::DiesBefore)
            } else {
                script.calls.push(op);
                script.plan.get(&number).copied()
            }
        };
        match fault {
            None => call.await,
            Some(Fault::Fails) => Err(error(op, false)),
            Some(Fault::AnswerLost) => {
                call.await?;
                Err(error(op, true))
            }
            Some(Fault::DiesBefore) => self.die().await,
            Some(Fault::DiesAfter) => {
                let _ = call.await;
                self.die().await
            }
        }
    }

    async fn die<T>(&self) -> T {
        let wakers = {
            let mut state = self.state();
            state.dead = true;
            std::mem::take(&mut state.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
        pending().await
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the state")
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().expect("nothing panics while it holds the script")
    }
}

fn store_error(op: &'static str, lost: bool) -> StoreError {
    if lost {
        StoreError::new(StoreErrorKind::Unknown, op, "chaos: the answer got lost")
    } else {
        StoreError::new(StoreErrorKind::Unavailable, op, "chaos: the store cannot be reached")
    }
}

fn compute_error(op: &'static str, _lost: bool) -> ComputeError {
    ComputeError::new(ComputeErrorKind::Unavailable, op, "chaos: the backend cannot be reached")
}

/// A [`TaskStore`] behind a [`Chaos`].
#[derive(Debug)]
pub struct ChaosStore {
    inner: Arc<dyn TaskStore>,
    chaos: Chaos,
}

#[async_trait]
impl TaskStore for ChaosStore {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn capabilities(&self) -> StoreCapabilities {
        self.inner.capabilities()
    }

    async fn submit(&self, batch: &[Submit]) -> Result<Vec<SubmitOutcome>, StoreError> {
        self.chaos.pass("submit", self.inner.submit(batch), store_error).await
    }

    async fn commit(&self, batch: &[Commit]) -> Result<Vec<CommitOutcome>, StoreError> {
        self.chaos.pass("commit", self.inner.commit(batch), store_error).await
    }

    async fn claim(&self, query: &ClaimQuery) -> Result<Vec<Snapshot>, StoreError> {
        self.chaos.pass("claim", self.inner.claim(query), store_error).await
    }

    async fn renew(&self, batch: &[Renewal]) -> Result<Vec<bool>, StoreError> {
        self.chaos.pass("renew", self.inner.renew(batch), store_error).await
    }

    async fn expire(&self, workers: &[WorkerId], now: Timestamp) -> Result<u64, StoreError> {
        self.chaos.pass("expire", self.inner.expire(workers, now), store_error).await
    }

    async fn release(&self, batch: &[Release]) -> Result<Vec<bool>, StoreError> {
        self.chaos.pass("release", self.inner.release(batch), store_error).await
    }

    async fn signal(&self, batch: &[NewSignal]) -> Result<Vec<SignalOutcome>, StoreError> {
        self.chaos.pass("signal", self.inner.signal(batch), store_error).await
    }

    async fn append(&self, batch: &[Append]) -> Result<Vec<AppendOutcome>, StoreError> {
        self.chaos.pass("append", self.inner.append(batch), store_error).await
    }

    async fn heartbeat(&self, task: TaskId, session: &SessionId, now: Timestamp) -> Result<bool, StoreError> {
        self.chaos.pass("heartbeat", self.inner.heartbeat(task, session, now), store_error).await
    }

    async fn load(&self, ids: &[TaskId]) -> Result<Vec<Option<Snapshot>>, StoreError> {
        self.chaos.read("load", ids)?;
        self.chaos.pass("load", self.inner.load(ids), store_error).await
    }

    async fn find(&self, user: &UserId, key: &IdempotencyKey) -> Result<Option<TaskId>, StoreError> {
        self.inner.find(user, key).await
    }

    async fn events(&self, query: &EventQuery) -> Result<Vec<Event>, StoreError> {
        self.inner.events(query).await
    }

    async fn log(&self, query: &LogQuery) -> Result<Vec<(u64, LogRecord)>, StoreError> {
        self.chaos.read("log", &[query.task])?;
        self.inner.log(query).await
    }

    async fn list(&self, query: &ListQuery) -> Result<Vec<Task>, StoreError> {
        self.inner.list(query).await
    }

    async fn slots(&self) -> Result<Vec<SlotUsage>, StoreError> {
        self.inner.slots().await
    }

    async fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        self.inner.next_due().await
    }

    async fn rung(&self) {
        self.inner.rung().await;
    }

    fn operator(&self) -> &dyn OperatorStore {
        self.inner.operator()
    }
}

/// A [`ComputeStrategy`] behind a [`Chaos`].
#[derive(Debug)]
pub struct ChaosCompute {
    inner: Arc<dyn ComputeStrategy>,
    chaos: Chaos,
}

#[async_trait]
impl ComputeStrategy for ChaosCompute {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn capabilities(&self) -> ComputeCapabilities {
        self.inner.capabilities()
    }

    async fn start(&self, request: &StartSession) -> Result<(), ComputeError> {
        self.chaos.pass("start", self.inner.start(request), compute_error).await
    }

    async fn observe(&self, session: &SessionId) -> Result<SessionView, ComputeError> {
        self.chaos.pass("observe", self.inner.observe(session), compute_error).await
    }

    async fn stop(&self, request: &StopSession) -> Result<(), ComputeError> {
        self.chaos.pass("stop", self.inner.stop(request), compute_error).await
    }

    async fn wait(&self, session: &SessionId) -> Result<SessionView, ComputeError> {
        self.chaos.pass("wait", self.inner.wait(session), compute_error).await
    }

    async fn sessions(&self) -> Result<Vec<SessionId>, ComputeError> {
        self.chaos.pass("sessions", self.inner.sessions(), compute_error).await
    }
}
