//! The one thread that writes: takes whatever has queued up into one transaction, and answers once it is durable.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use abca_core::store::{StoreError, StoreErrorKind};
use sqlx::{Connection, SqliteConnection};
use tokio::sync::{mpsc, oneshot};

use super::call::{Answer, Call};
use super::error::{classify, code, convert};
use super::shelf::Shelf;
use super::transaction::{Transaction, Trouble};
use super::write::Texts;

/// A message to the writer.
#[derive(Debug)]
pub(super) enum Message {
    /// Do this.
    Call(Call),
    /// Do what has queued up before this, close the database, and answer.
    Close(oneshot::Sender<Result<(), StoreError>>),
}

#[derive(Debug)]
pub(super) struct Writer {
    conn: SqliteConnection,
    batch: usize,
    shelf: Shelf,
    texts: Texts,
    version: i64,
    transactions: Arc<AtomicU64>,
}

impl Writer {
    pub(super) fn new(conn: SqliteConnection, batch: usize, transactions: Arc<AtomicU64>) -> Self {
        let (shelf, texts) = (Shelf::default(), Texts::default());
        Self { conn, batch: batch.max(1), shelf, texts, version: i64::MIN, transactions }
    }

    /// Runs on a thread of its own: among a runtime's tasks it would wait its turn behind those it has just answered.
    pub(super) fn spawn(self, inbox: mpsc::Receiver<Message>) -> Result<(), StoreError> {
        let failed = |e: std::io::Error| {
            StoreError::new(StoreErrorKind::Unavailable, "open", format!("the writer's thread does not start: {e}"))
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(failed)?;
        let run = move || runtime.block_on(self.run(inbox));
        std::thread::Builder::new().name("abca-sqlite".to_owned()).spawn(run).map(drop).map_err(failed)
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
                let closed = self.conn.close().await.map_err(|e| convert("close", e));
                // Whoever asked may have gone.
                let _ = reply.send(closed);
                return;
            }
        }
        if let Err(e) = self.conn.close().await {
            tracing::warn!(error = %e, "the database did not close cleanly; it recovers when it is opened next");
        }
    }

    /// One transaction for all; when it fails as a whole, one for each, so that nobody fails for a neighbour.
    async fn carry_out(&mut self, calls: &mut Vec<Call>) {
        match self.together(calls).await {
            Ok(answers) => calls.drain(..).zip(answers).for_each(|(call, answer)| call.answer(answer)),
            Err(Trouble { error, alone: true }) if calls.len() > 1 => {
                tracing::debug!(error = %error, calls = calls.len(), "a transaction failed: repeating its calls alone");
                for call in calls.drain(..) {
                    match self.together(std::slice::from_ref(&call)).await {
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

    async fn together(&mut self, calls: &[Call]) -> Result<Vec<Result<Answer, StoreError>>, Trouble> {
        let mut tx = Transaction::new(&mut self.conn, &mut self.shelf, &mut self.texts);
        let result = match tx.begin(calls, &mut self.version).await {
            Ok(()) => match tx.apply(calls).await {
                Ok(answers) => tx.finish().await.map(|()| answers).map_err(unknown_or_not),
                Err(trouble) => Err(trouble),
            },
            Err(trouble) => Err(trouble),
        };
        if result.is_ok() {
            self.transactions.fetch_add(1, Ordering::Relaxed);
        } else {
            self.shelf.clear();
            // Fails when SQLite has rolled back by itself.
            let _ = sqlx::query("ROLLBACK").execute(&mut self.conn).await;
        }
        result
    }
}

/// What the end of a transaction that failed means: full and busy are known not to have happened; a disk that did not
/// write or a connection that broke may have kept it.
fn unknown_or_not(error: sqlx::Error) -> Trouble {
    match code(&error) {
        Some(10) | None => {
            let (_, advice) = classify(&error);
            let message = format!("{advice}; it may or may not be stored: repeat the same call ({error})");
            let error = StoreError::new(StoreErrorKind::Unknown, "commit", message).with_source(error);
            Trouble { error, alone: false }
        }
        Some(_) => Trouble { error: convert("commit", error), alone: true },
    }
}
