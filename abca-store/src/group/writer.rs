//! The loop of one writer: takes whatever has queued up into one transaction, and answers once it is durable.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use abca_core::store::{StoreError, StoreErrorKind};
use tokio::sync::{mpsc, oneshot};

use super::bell::Bell;
use super::call::{Answer, Call};
use super::engine::Engine;
use super::error::{Cure, Trouble};
use super::transaction::Transaction;

/// How often a transaction is begun again when others were quicker.
const TRIES: u32 = 8;

/// A message to the writer.
#[derive(Debug)]
pub(crate) enum Message {
    /// Do this.
    Call(Call),
    /// Do what has queued up before this, end, and answer.
    Close(oneshot::Sender<Result<(), StoreError>>),
}

#[derive(Debug)]
pub(crate) struct Writer<E> {
    engine: E,
    batch: usize,
    transactions: Arc<AtomicU64>,
    bell: Arc<Bell>,
}

impl<E: Engine + Send + 'static> Writer<E> {
    pub(crate) fn new(engine: E, batch: usize, transactions: Arc<AtomicU64>, bell: Arc<Bell>) -> Self {
        Self { engine, batch: batch.max(1), transactions, bell }
    }

    /// Runs on a thread of its own: among a runtime's tasks it would wait its turn behind those it has just answered.
    pub(crate) fn spawn(self, thread: &str, inbox: mpsc::Receiver<Message>) -> Result<(), StoreError> {
        let failed = |e: std::io::Error| {
            StoreError::new(StoreErrorKind::Unavailable, "open", format!("the writer's thread does not start: {e}"))
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let run = move || runtime.block_on(self.run(inbox));
        std::thread::Builder::new().name(thread.to_owned()).spawn(run).map(drop).map_err(failed)
    }

    /// Runs until told to close or until nobody can call any more.
    async fn run(mut self, mut inbox: mpsc::Receiver<Message>) {
        let mut calls = Vec::with_capacity(self.batch);
        while let Some(message) = inbox.recv().await {
            let mut next = Some(message);
            let mut closing = None;
            while let Some(message) = next.take() {
                match message {
                    Message::Call(call) => calls.push(call),
                    Message::Close(reply) => {
                        closing = Some(reply);
                        break;
                    }
                }
                if calls.len() < self.batch {
                    next = inbox.try_recv().ok();
                }
            }
            if !calls.is_empty() {
                self.carry_out(&mut calls).await;
            }
            if let Some(reply) = closing {
                inbox.close();
                // Whoever asked may have gone.
                let _ = reply.send(self.engine.close().await);
                return;
            }
        }
        if let Err(e) = self.engine.close().await {
            tracing::warn!(error = %e, "the database did not close cleanly; it recovers when it is opened next");
        }
    }

    /// One transaction for all; when it fails as a whole, one for each, so that nobody fails for a neighbour.
    async fn carry_out(&mut self, calls: &mut Vec<Call>) {
        match self.repeated(calls).await {
            Ok(answers) => {
                let _hold = self.bell.hold();
                calls.drain(..).zip(answers).for_each(|(call, answer)| call.answer(answer));
            }
            Err(Trouble { error, cure: Cure::Alone | Cure::Again }) if calls.len() > 1 => {
                tracing::debug!(error = %error, calls = calls.len(), "a transaction failed: repeating its calls alone");
                for call in calls.drain(..) {
                    match self.repeated(std::slice::from_ref(&call)).await {
                        Ok(mut answers) => match answers.pop() {
                            Some(answer) => call.answer(answer),
                            None => call.fail_like(&error),
                        },
                        Err(trouble) => call.fail_like(&trouble.error),
                    }
                }
            }
            Err(Trouble { error, .. }) => calls.drain(..).for_each(|call| call.fail_like(&error)),
        }
    }

    /// Tries again, a bounded number of times, where that helps.
    async fn repeated(&mut self, calls: &[Call]) -> Result<Vec<Result<Answer, StoreError>>, Trouble> {
        let mut tries = 1;
        loop {
            match self.together(calls).await {
                Err(Trouble { cure: Cure::Again, error }) if tries < TRIES => {
                    tracing::debug!(error = %error, tries, "a transaction is begun again");
                    // Whoever was quicker may need a moment; both must not meet again and again.
                    tokio::time::sleep(Duration::from_micros(500 << tries)).await;
                    tries += 1;
                }
                result => return result,
            }
        }
    }

    async fn together(&mut self, calls: &[Call]) -> Result<Vec<Result<Answer, StoreError>>, Trouble> {
        let mut tx = Transaction::new(&mut self.engine);
        let result = match tx.begin(calls).await {
            Ok(()) => match tx.apply(calls).await {
                Ok(answers) => tx.finish().await.map(|()| answers),
                Err(trouble) => Err(trouble),
            },
            Err(trouble) => Err(trouble),
        };
        if result.is_ok() {
            self.transactions.fetch_add(1, Ordering::Relaxed);
        } else {
            self.engine.undo().await;
        }
        result
    }
}
