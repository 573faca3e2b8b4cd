//! What a session may say to the platform: the trait [`SessionLink`].

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::adapter_error;
use crate::event::NewEvent;
use crate::id::{SessionId, TaskId};
use crate::session::LogRecord;
use crate::task::{SessionReport, Signal, Task};

adapter_error! {
    /// Why the link did not carry a word.
    LinkError,
    /// Classes of link errors.
    LinkErrorKind {
        /// Nobody answers for now; repeat.
        Unavailable = "unavailable", true;
        /// The task does not expect this session (any more): stop, say nothing further.
        Refused = "refused", false;
        /// The session token is wrong.
        Access = "access denied", false;
        /// The log is elsewhere than the session thinks: another writer, or a lost answer.
        Conflict = "conflict", false;
        /// The words are not of the protocol.
        Invalid = "invalid", false;
    }
}

/// What the platform answers to a registration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Registered {
    /// The task as it is.
    pub task: Task,
    /// The log so far, of all attempts.
    pub log: Vec<LogRecord>,
}

/// What the platform answers to every later word.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LinkReply {
    /// Somebody cancelled, or the platform stops the session: save the work and end.
    pub stop: Option<String>,
    /// Signals for the session that it has not acknowledged in its log, oldest first.
    pub signals: Vec<Signal>,
}

/// Joins a session to the platform: one credential, bound to one task and attempt.
///
/// # Contract
/// * `register` comes first and is refused unless the task expects exactly this session. Idempotent.
/// * `append` numbers records on from `expect_seq`; a repeat of the same bytes is accepted. It is also a heartbeat.
/// * `report` is the last word; it is idempotent, and durable once answered.
/// * Every reply may say stop; after that nothing but checkpoint records and `report` is accepted for long.
/// * **Cancel safety.** Dropping a future leaves the word said or not said.
#[async_trait]
pub trait SessionLink: fmt::Debug + Send + Sync + 'static {
    /// Says: I am this session of this task.
    async fn register(&self, task: TaskId, session: &SessionId) -> Result<Registered, LinkError>;

    /// Says: I live. Answers what there is to hear.
    async fn heartbeat(&self, task: TaskId, session: &SessionId) -> Result<LinkReply, LinkError>;

    /// Like [`Self::heartbeat`], but may answer late: as soon as there is something to hear that is not in `known`, and
    /// at the latest after some seconds, with nothing. How a cancel reaches a session at once.
    ///
    /// The default answers at once: whoever calls in a loop waits a second when nothing came.
    async fn listen(
        &self,
        task: TaskId,
        session: &SessionId,
        known: &[crate::id::SignalId],
    ) -> Result<LinkReply, LinkError> {
        let mut reply = self.heartbeat(task, session).await?;
        reply.signals.retain(|s| !known.contains(&s.id));
        Ok(reply)
    }

    /// Writes to the log, with the events that go with it.
    async fn append(&self, request: &AppendLog) -> Result<LinkReply, LinkError>;

    /// Says the last word.
    async fn report(&self, task: TaskId, session: &SessionId, report: &SessionReport) -> Result<(), LinkError>;
}

/// Records for the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AppendLog {
    /// Whose.
    pub task: TaskId,
    /// Who writes.
    pub session: SessionId,
    /// The number of the first record, from 1.
    pub expect_seq: u64,
    /// The records.
    pub records: Vec<LogRecord>,
    /// What is told with them.
    pub events: Vec<NewEvent>,
}
