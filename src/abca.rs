//! The facade: submit tasks, find them again, and run an orchestrator beside them.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use abca_core::blueprint::{Blueprint, PlatformDefaults};
use abca_core::git::RepoRef;
use abca_core::store::{ListQuery, SlotUsage, Submit, SubmitOutcome, TaskStore};
use abca_core::task::{NewTask, Task, accept};
use abca_core::{Clock, IdSource, TaskId, Timestamp, UserId};

use crate::builder::Builder;
use crate::error::{Error, ErrorKind};
use crate::guardrail::Guard;
use crate::handle::TaskHandle;
use crate::link::{LinkSecret, LinkServer};
use crate::orchestrator::{Bell, Drained, Worker};
use crate::state::StateDir;

/// Most tasks that a list answers when nobody says how many.
pub(crate) const LIST: usize = 100;

/// A place where tasks live and, unless told otherwise, are worked on. Cheap to clone.
///
/// When the last clone and the last [`TaskHandle`] are dropped, an orchestrator that runs in this process stops at once,
/// as in a crash: nothing is lost, and the next one goes on. [`Abca::shutdown`] drains instead.
#[derive(Clone)]
pub struct Abca {
    pub(crate) inner: Arc<Inner>,
}

/// What handles and clones share.
pub(crate) struct Inner {
    pub(crate) store: Arc<dyn TaskStore>,
    pub(crate) bell: Bell,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn IdSource>,
    pub(crate) user: UserId,
    pub(crate) platform: PlatformDefaults,
    pub(crate) repositories: BTreeMap<RepoRef, Blueprint>,
    pub(crate) secret: LinkSecret,
    pub(crate) guard: Guard,
    pub(crate) state: Option<StateDir>,
    pub(crate) worker: Option<Worker>,
    pub(crate) server: Option<LinkServer>,
    pub(crate) sweeper: Option<tokio_util::task::AbortOnDropHandle<()>>,
}

impl fmt::Debug for Abca {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Abca")
            .field("store", &self.inner.store.name())
            .field("state", &self.inner.state)
            .field("user", &self.inner.user)
            .field("worker", &self.inner.worker.as_ref().map(Worker::id))
            .finish_non_exhaustive()
    }
}

impl Abca {
    /// Opens a state folder with every default, and makes it if it is not there.
    ///
    /// # Errors
    /// As [`Builder::build`].
    pub async fn open(state_dir: impl Into<PathBuf>) -> Result<Self, Error> {
        Self::builder().state_dir(state_dir).build().await
    }

    /// Chooses every part.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Submits a task as this facade's user. That alone starts the work, here or in another process on the same store.
    ///
    /// With an idempotency key the same submission may be repeated: it answers the same task.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] with the field, the limit and what to do; [`ErrorKind::Conflict`] when the idempotency key
    /// came before with another payload; [`ErrorKind::Blocked`] when the guardrail does not let it through;
    /// [`ErrorKind::Unavailable`] when the store or the guardrail does not answer.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the task submitted or not; with an idempotency key a repeat finds out.
    pub async fn submit(&self, task: NewTask) -> Result<TaskHandle, Error> {
        self.submit_as(&self.inner.user, task).await
    }

    /// Submits a task in somebody's name.
    ///
    /// # Errors
    /// As [`Self::submit`].
    pub async fn submit_as(&self, user: &UserId, task: NewTask) -> Result<TaskHandle, Error> {
        let inner = &self.inner;
        let submit = self.accepted(user, task).await?;
        let id = submit.task.id;
        let ring = inner.bell.task(id);
        // The id makes a repeat of this very call the same task, also without an idempotency key.
        let mut tries = 0;
        let outcomes = loop {
            match inner.store.submit(std::slice::from_ref(&submit)).await {
                Ok(outcomes) => break outcomes,
                Err(error) if error.is_retryable() && tries < 3 => {
                    tries += 1;
                    tokio::time::sleep(std::time::Duration::from_millis(50 << tries)).await;
                }
                Err(error) => return Err(error.into()),
            }
        };
        match outcomes.into_iter().next() {
            Some(SubmitOutcome::Created(_)) => Ok(TaskHandle::submitted(id, inner.clone(), ring)),
            Some(SubmitOutcome::Existing(snapshot)) => Ok(self.task(snapshot.id())),
            Some(SubmitOutcome::Conflict { task }) => {
                let key = submit.task.idempotency_key.as_ref().map_or("", |k| k.as_str());
                let text = format!("idempotency key `{key}` was used before, with another payload, for task `{task}`");
                Err(Error::new(ErrorKind::Conflict, text))
            }
            None => Err(Error::new(ErrorKind::Internal, "the store gave no answer")),
        }
    }

    /// Checks a submission, and lets the guardrail judge it.
    async fn accepted(&self, user: &UserId, task: NewTask) -> Result<Submit, Error> {
        let inner = &self.inner;
        // One that is no repository is refused by `accept`.
        let repo = task.repo.as_deref().and_then(|repo| repo.parse().ok());
        let blueprint = repo.and_then(|repo: RepoRef| inner.repositories.get(&repo));
        let checked = |task: NewTask, id: TaskId, now: Timestamp| {
            accept(task, user, id, now, blueprint, &inner.platform)
                .map_err(|e| Error::new(ErrorKind::Invalid, e.message.clone()).with_source(e))
        };
        let now = inner.clock.now();
        let id = TaskId::from_parts(now, inner.ids.random());
        if inner.guard.is_off() {
            return checked(task, id, now);
        }
        // Before the guardrail, which may cost time and money; and the hash that a repeat is known by is that of the words as
        // they came.
        let Submit { payload_hash, task: accepted, .. } = checked(task.clone(), id, now)?;
        let (task, decision) = inner.guard.submission(task, id, &accepted.spec.screening).await?;
        let now = inner.clock.now();
        let mut submit = Submit { payload_hash, ..checked(task, id, now)? };
        submit.events.extend(decision.map(|d| d.into_event(inner.guard.screen(), now)));
        Ok(submit)
    }

    /// The handle of a task that was submitted before, by whatever process. Whether it exists shows at its first use.
    pub fn task(&self, id: TaskId) -> TaskHandle {
        TaskHandle::new(id, self.inner.clone())
    }

    /// Tasks, newest first. A limit of 0 means 100.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn list(&self, mut query: ListQuery) -> Result<Vec<Task>, Error> {
        if query.limit == 0 {
            query.limit = LIST;
        }
        Ok(self.inner.store.list(&query).await?)
    }

    /// Who holds which concurrency slots.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn slots(&self) -> Result<Vec<SlotUsage>, Error> {
        Ok(self.inner.store.slots().await?)
    }

    /// The state folder, if there is one.
    pub fn state_dir(&self) -> Option<&StateDir> {
        self.inner.state.as_ref()
    }

    /// The orchestrator in this process, if one was wanted.
    pub fn worker(&self) -> Option<&Worker> {
        self.inner.worker.as_ref()
    }

    /// Stops the orchestrator of this process: it claims nothing more, finishes what it is about, and leaves sessions
    /// running. `None` when there is none, or it was stopped before. Reading and submitting go on.
    pub async fn shutdown(&self) -> Option<Drained> {
        let drained = match &self.inner.worker {
            Some(worker) => worker.shutdown().await,
            None => None,
        };
        // Last, so that sessions can speak while their tasks are being finished.
        if let Some(server) = &self.inner.server {
            server.shutdown().await;
        }
        drained
    }

    /// Works until `signal` is ready, e.g. a Ctrl-C, and then drains as [`Self::shutdown`] does.
    pub async fn run_until(&self, signal: impl Future<Output = ()>) -> Option<Drained> {
        signal.await;
        self.shutdown().await
    }
}
