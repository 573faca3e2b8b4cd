//! Errors that every database makes alike, and what may be tried about them.

use abca_core::store::{StoreError, StoreErrorKind};

/// Stored bytes that cannot be read.
pub(crate) fn corrupt(op: &'static str, what: &str, error: impl std::fmt::Display) -> StoreError {
    StoreError::new(StoreErrorKind::Corrupt, op, format!("{what} cannot be read: {error}"))
}

/// Whether a task is of a newer program: it is left alone.
pub(crate) fn is_newer(error: &StoreError) -> bool {
    error.kind() == StoreErrorKind::Incompatible
}

/// Says once in a process that there are such tasks: a worker that is not upgraded yet meets them again and again.
pub(crate) fn tell_newer(error: &StoreError) {
    static TOLD: std::sync::Once = std::sync::Once::new();
    TOLD.call_once(|| tracing::warn!(%error, "tasks of a newer abca are left to newer workers; this is said once"));
}

/// The same error for one more caller.
pub(crate) fn again(op: &'static str, error: &StoreError) -> StoreError {
    StoreError::new(error.kind(), op, error.message())
}

/// What may help the calls of a transaction that failed as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cure {
    /// Nothing: the callers are told.
    Nothing,
    /// One transaction for each, so that nobody fails for a neighbour.
    Alone,
    /// The same again: somebody else was quicker, and nothing was changed.
    #[allow(dead_code, reason = "SQLite has one transaction at a time")]
    Again,
}

/// Why a transaction failed as a whole.
#[derive(Debug)]
pub(crate) struct Trouble {
    pub(crate) error: StoreError,
    pub(crate) cure: Cure,
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self { error, cure: Cure::Alone }
    }
}
