//! What PostgreSQL's codes mean to a caller.

use std::time::Duration;

use abca_core::store::{StoreError, StoreErrorKind};

use crate::group::{Cure, Trouble};

/// The SQLSTATE, when the error is the server's.
pub(super) fn code(error: &sqlx::Error) -> Option<String> {
    Some(error.as_database_error()?.code()?.into_owned())
}

/// Whether the connection is of no use any more.
pub(super) fn is_lost(error: &sqlx::Error) -> bool {
    match code(error) {
        Some(code) => {
            code.starts_with("08") || matches!(code.as_str(), "57P01" | "57P02" | "57P03" | "57P05" | "25P03")
        }
        None => matches!(error, sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::Tls(_)),
    }
}

/// The class of an error and what to do about it.
fn classify(error: &sqlx::Error) -> (StoreErrorKind, &'static str) {
    use StoreErrorKind as Kind;
    let Some(code) = code(error) else {
        return match error {
            sqlx::Error::PoolTimedOut => (Kind::Throttled, "every connection is busy; repeat later"),
            sqlx::Error::PoolClosed => (Kind::Unavailable, "the store is closed"),
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::TypeNotFound { .. } => {
                (Kind::Corrupt, "a column holds what this program did not write")
            }
            sqlx::Error::Tls(_) => (Kind::Unavailable, "TLS failed; check `sslmode` and the certificates"),
            _ => (Kind::Unavailable, "the server cannot be reached, or the connection broke; check that it runs"),
        };
    };
    match code.as_str() {
        "40001" | "40P01" | "23505" | "23514" | "55P03" => {
            (Kind::Throttled, "others change the same tasks; repeat later")
        }
        "53300" | "53400" => {
            (Kind::Throttled, "the server has no connection left; raise `max_connections`, or use fewer")
        }
        "53200" => (Kind::Throttled, "the server is out of memory or locks; raise `max_locks_per_transaction`"),
        "53100" | "58030" => (Kind::Full, "the server's disk is full or failed; free some space, then repeat"),
        "25006" => (Kind::Unavailable, "the server is read-only; connect to the primary"),
        "28P01" | "28000" => (Kind::Unavailable, "the server refuses the user or the password"),
        "3D000" => (Kind::Unavailable, "there is no such database; create it"),
        "42501" => (Kind::Unavailable, "the user may not do that; see the privileges that `abca store init` prints"),
        "57014" => (Kind::Unavailable, "the server cancelled the statement; see its `statement_timeout`"),
        "57P01" | "57P02" | "57P03" => (Kind::Unavailable, "the server stops or starts; repeat later"),
        "22021" | "22P05" => (Kind::Invalid, "a text holds a character that PostgreSQL does not store, such as NUL"),
        "54000" => (Kind::Invalid, "a value is larger than PostgreSQL's limit of 1 GB"),
        "42P05" | "26000" => (
            Kind::Incompatible,
            "a pooler gives each transaction another connection and does not keep prepared statements; let it pool sessions, \
             or keep them (PgBouncer 1.21: `max_prepared_statements`) and say `pooled=true` in the URL",
        ),
        "23502" => (Kind::Corrupt, "the rows are not what this program made"),
        c if c.starts_with("42") || c.starts_with("3F") => {
            (Kind::Incompatible, "the tables are not what this program made; run `abca store init --store URL`")
        }
        c if c.starts_with("XX") => (Kind::Corrupt, "the server found damage in its files; see its log"),
        c if c.starts_with("08") => (Kind::Unavailable, "the connection broke; repeat later"),
        _ => (Kind::Unavailable, "PostgreSQL failed"),
    }
}

/// An error of an operation that changed nothing.
pub(super) fn convert(op: &'static str, error: sqlx::Error) -> StoreError {
    let (kind, advice) = classify(&error);
    StoreError::new(kind, op, format!("{advice} ({error})")).with_source(error)
}

/// An error of a transaction that is not at its end: nothing was changed.
pub(super) fn trouble(op: &'static str) -> impl Fn(sqlx::Error) -> Trouble {
    move |e| {
        let again = is_lost(&e) || matches!(code(&e).as_deref(), Some("40001" | "40P01" | "23505" | "23514" | "55P03"));
        Trouble { cure: if again { Cure::Again } else { Cure::Alone }, error: convert(op, e) }
    }
}

/// What a failed end of a transaction means: the server may have kept it, unless it says that it did not.
pub(super) fn unknown_or_not(error: sqlx::Error) -> Trouble {
    let certain = code(&error).is_some_and(|c| !matches!(c.get(..2), Some("08" | "57" | "58" | "XX")));
    if certain {
        return trouble("commit")(error);
    }
    let (_, advice) = classify(&error);
    let message = format!("{advice}; it may or may not be stored: repeat the same call ({error})");
    Trouble {
        error: StoreError::new(StoreErrorKind::Unknown, "commit", message).with_source(error),
        cure: Cure::Nothing,
    }
}

/// A connection that took too long.
pub(super) fn too_slow(op: &'static str, after: Duration) -> StoreError {
    let message = format!("the server did not answer within {} ms; check that it runs", after.as_millis());
    StoreError::new(StoreErrorKind::Unavailable, op, message)
}

/// Waits so long for an answer; a server that gives none counts as lost.
pub(super) async fn within<T>(
    limit: Duration,
    answer: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    match tokio::time::timeout(limit, answer).await {
        Ok(answer) => answer,
        Err(_) => {
            let message = format!("no answer within {} ms", limit.as_millis());
            Err(sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, message)))
        }
    }
}
