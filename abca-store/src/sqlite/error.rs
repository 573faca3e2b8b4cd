//! What SQLite's result codes mean to a caller.

use abca_core::store::{StoreError, StoreErrorKind};
use rusqlite::Error;

use crate::group::Trouble;

/// SQLite's primary result code, when the error is SQLite's.
pub(super) fn code(error: &Error) -> Option<i32> {
    Some(error.sqlite_error()?.extended_code & 0xff)
}

/// The class of an error and what to do about it.
pub(super) fn classify(error: &Error) -> (StoreErrorKind, &'static str) {
    use StoreErrorKind as Kind;
    match code(error) {
        Some(5 | 6) => (Kind::Throttled, "another process holds the database's write lock; repeat later"),
        Some(13) => (Kind::Full, "the disk or the database's quota is full; free some space, then repeat"),
        Some(8) => (Kind::Unavailable, "the database or its folder is read-only; make it writable"),
        Some(3 | 14 | 23) => (Kind::Unavailable, "the database cannot be opened; check the folder and its permissions"),
        Some(10) if is_no_space(error) => (Kind::Full, "the disk is full; free some space, then repeat"),
        Some(10) => (Kind::Unavailable, "the disk did not read or write; check the file system"),
        Some(11) => (Kind::Corrupt, "the database file is damaged; restore a backup, or save what `.recover` finds"),
        Some(26) => (Kind::Incompatible, "the file is not an SQLite database; choose another folder"),
        Some(18) => (Kind::Invalid, "a value is larger than SQLite's limit of 1 000 000 000 bytes"),
        Some(1 | 19 | 20) => (Kind::Corrupt, "the tables are not what this program made"),
        Some(_) => (Kind::Unavailable, "SQLite failed"),
        None => match error {
            Error::FromSqlConversionFailure(..) | Error::IntegralValueOutOfRange(..) | Error::InvalidColumnType(..) => {
                (Kind::Corrupt, "a column holds what this program did not write")
            }
            Error::StatementChangedRows(_) => (Kind::Corrupt, "the tables are not what this program made"),
            _ => (Kind::Unavailable, "the connection to the database failed"),
        },
    }
}

/// Whether an I/O error is one that a full disk gives: the index of the log beside the database could not grow.
fn is_no_space(error: &Error) -> bool {
    error.sqlite_error().is_some_and(|e| e.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE)
}

/// What SQLite said, with its extended result code.
pub(super) fn said(error: &Error) -> String {
    match error.sqlite_error() {
        Some(e) => format!("code {}: {error}", e.extended_code),
        None => error.to_string(),
    }
}

/// An error of an operation that changed nothing.
pub(super) fn convert(op: &'static str, error: Error) -> StoreError {
    let (kind, advice) = classify(&error);
    StoreError::new(kind, op, format!("{advice} ({})", said(&error))).with_source(error)
}

/// The same, to be handed to `map_err`.
pub(super) fn failed(op: &'static str) -> impl FnOnce(Error) -> StoreError {
    move |e| convert(op, e)
}

/// An error of a transaction that is not at its end.
pub(super) fn trouble(op: &'static str) -> impl FnOnce(Error) -> Trouble {
    move |e| convert(op, e).into()
}
