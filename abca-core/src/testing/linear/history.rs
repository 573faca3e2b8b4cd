//! What was asked, when, and what was answered.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::id::{SessionId, TaskId};
use crate::store::{
    Append, AppendOutcome, ClaimQuery, Commit, CommitOutcome, NewSignal, Release, Renewal, SignalOutcome, StoreError,
    StoreErrorKind, StoreModel, TaskStore,
};
use crate::task::Snapshot;
use crate::time::Timestamp;

/// A call about one task.
#[derive(Debug, Clone, PartialEq)]
pub enum Call {
    /// [`TaskStore::commit`] of one.
    Commit(Box<Commit>),
    /// [`TaskStore::claim`] by name.
    Claim(ClaimQuery),
    /// [`TaskStore::renew`] of one.
    Renew(Renewal),
    /// [`TaskStore::release`] of one.
    Release(Release),
    /// [`TaskStore::signal`] of one.
    Signal(NewSignal),
    /// [`TaskStore::append`] of one.
    Append(Append),
    /// [`TaskStore::heartbeat`].
    Heartbeat(TaskId, SessionId, Timestamp),
    /// [`TaskStore::load`] of one.
    Load(TaskId),
}

/// What it was told.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// Of a commit.
    Commit(CommitOutcome),
    /// Of a claim.
    Claim(Vec<Snapshot>),
    /// Of a renewal, a release or a heartbeat.
    Flag(bool),
    /// Of a signal.
    Signal(SignalOutcome),
    /// Of an append.
    Append(AppendOutcome),
    /// Of a load.
    Load(Option<Box<Snapshot>>),
    /// Nothing was changed, for whatever reason.
    Failed,
    /// It may have happened.
    Unknown,
}

impl Call {
    /// Whose.
    pub fn task(&self) -> TaskId {
        match self {
            Self::Commit(c) => c.task,
            Self::Claim(q) => q.task.expect("claims of a history name their task"),
            Self::Renew(r) => r.task,
            Self::Release(r) => r.task,
            Self::Signal(s) => s.task,
            Self::Append(a) => a.task,
            Self::Heartbeat(task, ..) | Self::Load(task) => *task,
        }
    }

    /// Makes it.
    pub async fn make(&self, store: &dyn TaskStore) -> Answer {
        fn one<T>(answers: Result<Vec<T>, StoreError>, wrap: impl FnOnce(T) -> Answer) -> Answer {
            match answers {
                Ok(mut all) => wrap(all.pop().expect("one entry, one answer")),
                Err(e) => failed(&e),
            }
        }
        fn failed(error: &StoreError) -> Answer {
            match error.kind() {
                StoreErrorKind::Unknown => Answer::Unknown,
                StoreErrorKind::Throttled
                | StoreErrorKind::Unavailable
                | StoreErrorKind::Full
                | StoreErrorKind::Corrupt
                | StoreErrorKind::Incompatible
                | StoreErrorKind::Invalid
                | StoreErrorKind::Unsupported => Answer::Failed,
            }
        }
        match self {
            Self::Commit(c) => one(store.commit(std::slice::from_ref(&**c)).await, Answer::Commit),
            Self::Claim(q) => store.claim(q).await.map_or_else(|e| failed(&e), Answer::Claim),
            Self::Renew(r) => one(store.renew(std::slice::from_ref(r)).await, Answer::Flag),
            Self::Release(r) => one(store.release(std::slice::from_ref(r)).await, Answer::Flag),
            Self::Signal(s) => one(store.signal(std::slice::from_ref(s)).await, Answer::Signal),
            Self::Append(a) => one(store.append(std::slice::from_ref(a)).await, Answer::Append),
            Self::Heartbeat(task, session, now) => {
                store.heartbeat(*task, session, *now).await.map_or_else(|e| failed(&e), Answer::Flag)
            }
            Self::Load(task) => one(store.load(&[*task]).await, |s| Answer::Load(s.map(Box::new))),
        }
    }

    /// What the model says to it; an invalid call changes nothing there either.
    pub(super) fn model(&self, model: &mut StoreModel) -> Answer {
        match self {
            Self::Commit(c) => match model.commit(std::slice::from_ref(&**c)) {
                Ok(mut all) => Answer::Commit(all.pop().expect("one entry, one answer")),
                Err(_) => Answer::Failed,
            },
            Self::Claim(q) => Answer::Claim(model.claim(q)),
            Self::Renew(r) => Answer::Flag(model.renew(std::slice::from_ref(r))[0]),
            Self::Release(r) => Answer::Flag(model.release(std::slice::from_ref(r))[0]),
            Self::Signal(s) => Answer::Signal(model.signal(std::slice::from_ref(s))[0]),
            Self::Append(a) => match model.append(std::slice::from_ref(a)) {
                Ok(all) => Answer::Append(all[0]),
                Err(_) => Answer::Failed,
            },
            Self::Heartbeat(task, session, now) => Answer::Flag(model.heartbeat(*task, session, *now)),
            Self::Load(task) => Answer::Load(model.load(&[*task]).pop().flatten().map(Box::new)),
        }
    }
}

/// A call of a history. Moments are places in one order that all clients share.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// What was asked.
    pub call: Call,
    /// When it began.
    pub began: u64,
    /// When it was answered.
    pub ended: u64,
    /// What it was told.
    pub answer: Answer,
}

/// Records calls as they are made.
#[derive(Debug, Default)]
pub struct Recorder {
    clock: AtomicU64,
    history: Mutex<Vec<Recorded>>,
}

impl Recorder {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    /// Makes a call, and records it.
    pub async fn call(&self, store: &dyn TaskStore, call: Call) -> Answer {
        let began = self.tick();
        let answer = call.make(store).await;
        let ended = self.tick();
        let recorded = Recorded { call, began, ended, answer: answer.clone() };
        self.history.lock().unwrap_or_else(PoisonError::into_inner).push(recorded);
        answer
    }

    /// What was recorded so far, in the order of the beginnings.
    pub fn history(&self) -> Vec<Recorded> {
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner).clone();
        history.sort_by_key(|r| r.began);
        history
    }
}
