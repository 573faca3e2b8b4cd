//! Calls that queue up and are carried out in groups, one transaction for as many as there are: what does not depend on
//! the database. An [`Engine`] is the database under it.

mod bell;
mod bodies;
mod call;
mod engine;
mod error;
mod rows;
mod shelf;
mod transaction;
mod writer;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use abca_core::id::WorkerId;
use abca_core::store::{
    Append, AppendOutcome, Burial, ClaimQuery, Commit, CommitOutcome, NewSignal, Release, Renewal, SignalOutcome,
    StoreError, StoreErrorKind, Submit, SubmitOutcome,
};
use abca_core::task::Snapshot;
use abca_core::{SessionId, TaskId, Timestamp};
use tokio::sync::{mpsc, oneshot};

use bell::{Awaited, Bell};
use bodies::Bodies;
use call::{Beat, Call, Reply};
use writer::{Message, Writer};

#[cfg(feature = "postgres")]
pub(crate) use engine::Sketch;
#[cfg(feature = "sqlite")]
pub(crate) use engine::scopes_of;
pub(crate) use engine::{Ask, Begun, Candidate, Engine, Found, Outline, Scope, Sheet};
pub(crate) use error::{Cure, Trouble, corrupt};
pub(crate) use rows::{RawRow, Record, commits_text, event, numbered, signed, unsigned};
pub(crate) use shelf::Shelf;

/// The queue in front of the writers, and what they have done.
#[derive(Debug)]
pub(crate) struct Group {
    queues: Vec<mpsc::Sender<Message>>,
    transactions: Arc<AtomicU64>,
    bell: Arc<Bell>,
}

fn closed(op: &'static str) -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, op, "the store is closed")
}

impl Group {
    /// Starts one writer for each engine, in a thread of its own named `thread`.
    ///
    /// At most `batch` calls share a transaction, and at most `queue` wait for a writer.
    pub(crate) fn start<E: Engine + Send + 'static>(
        thread: &str,
        engines: Vec<E>,
        batch: usize,
        queue: usize,
    ) -> Result<Self, StoreError> {
        let (transactions, bell) = (Arc::new(AtomicU64::new(0)), Arc::new(Bell::default()));
        let mut queues = Vec::with_capacity(engines.len());
        for engine in engines {
            let (sender, inbox) = mpsc::channel(queue.max(1));
            Writer::new(engine, batch, transactions.clone(), bell.clone()).spawn(thread, inbox)?;
            queues.push(sender);
        }
        Ok(Self { queues, transactions, bell })
    }

    pub(crate) fn transactions(&self) -> u64 {
        self.transactions.load(Ordering::Relaxed)
    }

    /// Carries out what has been asked for before, and ends the writers.
    pub(crate) async fn close(&self) -> Result<(), StoreError> {
        let mut answers = Vec::with_capacity(self.queues.len());
        for queue in &self.queues {
            let (reply, answer) = oneshot::channel();
            queue.send(Message::Close(reply)).await.map_err(|_| closed("close"))?;
            answers.push(answer);
        }
        for answer in answers {
            answer.await.map_err(|_| closed("close"))??;
        }
        Ok(())
    }

    /// What takes, frees or leaves slots goes to the first writer: it takes turns with other processes'. The others need not
    /// wait for that; what speaks of a task goes to the same of them.
    fn queue(&self, call: &Call) -> Option<&mpsc::Sender<Message>> {
        let others = self.queues.len().saturating_sub(1) as u64;
        if others == 0 || call.is_about_slots() {
            return self.queues.first();
        }
        let place = match call.tasks().first() {
            Some(task) => {
                let mut hasher = DefaultHasher::new();
                task.hash(&mut hasher);
                1 + hasher.finish() % others
            }
            None => 1,
        };
        self.queues.get(usize::try_from(place).unwrap_or(0))
    }

    async fn ask<T>(&self, op: &'static str, call: impl FnOnce(Reply<T>) -> Call) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let call = call(reply);
        let queue = self.queue(&call).ok_or_else(|| closed(op))?;
        queue.send(Message::Call(call)).await.map_err(|_| closed(op))?;
        let gone =
            || StoreError::new(StoreErrorKind::Unknown, op, "the writer ended before it answered: repeat the call");
        Awaited { answer, bell: self.bell.clone() }.await.map_err(|_| gone())?
    }

    pub(crate) async fn submit(&self, batch: &[Submit]) -> Result<Vec<SubmitOutcome>, StoreError> {
        let with_bodies = |x: &Submit| Ok((x.clone(), Bodies::of_submit(x)?));
        let batch = batch.iter().map(with_bodies).collect::<Result<_, StoreError>>()?;
        self.ask("submit", |reply| Call::Submit(batch, reply)).await
    }

    pub(crate) async fn commit(&self, batch: &[Commit]) -> Result<Vec<CommitOutcome>, StoreError> {
        let with_bodies = |x: &Commit| Ok((x.clone(), Bodies::of_commit(x)?));
        let batch = batch.iter().map(with_bodies).collect::<Result<_, StoreError>>()?;
        self.ask("commit", |reply| Call::Commit(batch, reply)).await
    }

    pub(crate) async fn claim(&self, query: &ClaimQuery) -> Result<Vec<Snapshot>, StoreError> {
        let query = query.clone();
        self.ask("claim", |reply| Call::Claim(query, reply)).await
    }

    pub(crate) async fn renew(&self, batch: &[Renewal]) -> Result<Vec<bool>, StoreError> {
        let batch = batch.to_vec();
        self.ask("renew", |reply| Call::Renew(batch, reply)).await
    }

    pub(crate) async fn expire(&self, workers: &[WorkerId], now: Timestamp) -> Result<u64, StoreError> {
        let workers = workers.to_vec();
        self.ask("expire", |reply| Call::Expire(workers, now, reply)).await
    }

    pub(crate) async fn release(&self, batch: &[Release]) -> Result<Vec<bool>, StoreError> {
        let batch = batch.to_vec();
        self.ask("release", |reply| Call::Release(batch, reply)).await
    }

    pub(crate) async fn signal(&self, batch: &[NewSignal]) -> Result<Vec<SignalOutcome>, StoreError> {
        let batch = batch.to_vec();
        self.ask("signal", |reply| Call::Signal(batch, reply)).await
    }

    pub(crate) async fn append(&self, batch: &[Append]) -> Result<Vec<AppendOutcome>, StoreError> {
        let with_bodies = |x: &Append| Ok((x.clone(), Bodies::of_append(x)?));
        let batch = batch.iter().map(with_bodies).collect::<Result<_, StoreError>>()?;
        self.ask("append", |reply| Call::Append(batch, reply)).await
    }

    pub(crate) async fn heartbeat(
        &self,
        task: TaskId,
        session: &SessionId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let beat = Beat { task, session: session.clone(), now };
        self.ask("heartbeat", |reply| Call::Heartbeat(beat, reply)).await
    }

    pub(crate) async fn bury(&self, batch: &[Burial]) -> Result<Vec<bool>, StoreError> {
        let batch = batch.to_vec();
        self.ask("bury", |reply| Call::Bury(batch, reply)).await
    }

    pub(crate) async fn revive(&self, task: TaskId, now: Timestamp) -> Result<bool, StoreError> {
        self.ask("revive", |reply| Call::Revive(task, now, reply)).await
    }

    pub(crate) async fn discard(&self, task: TaskId, now: Timestamp) -> Result<bool, StoreError> {
        self.ask("discard", |reply| Call::Discard(task, now, reply)).await
    }

    pub(crate) async fn purge(&self, ended_before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        self.ask("purge", |reply| Call::Purge(ended_before, limit, reply)).await
    }
}
