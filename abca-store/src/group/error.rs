//! Errors that every database makes alike, and what may be tried about them.

use abca_core::store::{StoreError, StoreErrorKind};

/// Stored bytes that cannot be read.
pub(crate) fn corrupt(op: &'static str, what: &str, error: impl std::fmt::Display) -> StoreError {
    StoreError::new(StoreErrorKind::Corrupt, op, format!("{what} cannot be read: {error}"))
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
