//! What is remembered across tasks: the trait [`MemoryStore`].

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::adapter_error;
use crate::time::Timestamp;

adapter_error! {
    /// Why memory did not answer. A task goes on without it.
    MemoryError,
    /// Classes of memory errors.
    MemoryErrorKind {
        /// Not reachable for now.
        Unavailable = "unavailable", true;
        /// The actor, kind or text is not acceptable.
        Invalid = "invalid", false;
        /// A guardrail did not let the text through.
        Blocked = "blocked by a guardrail", false;
    }
}

/// What a memory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemoryKind {
    /// A fact about a repository.
    Knowledge,
    /// How a task went.
    Episode,
}

/// Something remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryRecord {
    /// Whose: `owner/repo` or `user:<id>`.
    pub actor: String,
    /// What it is.
    pub kind: MemoryKind,
    /// The text, sanitised.
    pub text: String,
    /// Lower-case hex SHA-256 of the text's UTF-8: the record's identity within actor and kind.
    pub content_sha256: String,
    /// When it was written.
    pub at: Timestamp,
}

/// Asks for memories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecallQuery {
    /// Whose.
    pub actor: String,
    /// What kind.
    pub kind: MemoryKind,
    /// What it should be about; empty for the newest.
    pub about: String,
    /// At most so many, best first.
    pub limit: usize,
}

/// Remembers across tasks.
///
/// # Contract
/// * `remember` is idempotent per `(actor, kind, content_sha256)`.
/// * A failure never fails a task.
///
/// Whoever writes to one goes through [`GuardedMemory`](crate::guardrail::GuardedMemory).
#[async_trait]
pub trait MemoryStore: fmt::Debug + Send + Sync + 'static {
    /// Short lower-case name for logs.
    fn name(&self) -> &'static str;

    /// Reads memories, best first.
    async fn recall(&self, query: &RecallQuery) -> Result<Vec<MemoryRecord>, MemoryError>;

    /// Writes memories.
    async fn remember(&self, records: &[MemoryRecord]) -> Result<(), MemoryError>;
}
