//! What the service's refusals mean to a caller.

use std::error::Error;

use abca_core::store::{StoreError, StoreErrorKind};
use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};

/// Longest piece of the service's own words that gets into an error, in characters.
const CLIP_CHARS: usize = 300;

/// A request, for its errors: what it is part of, what it is called, and whether it changes something.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) op: &'static str,
    /// Its name, as in a policy: `dynamodb:UpdateItem`.
    pub(super) action: &'static str,
    pub(super) writes: bool,
    pub(super) table: &'a str,
}

/// Stored bytes that this program did not write.
pub(super) fn corrupt(op: &'static str, what: &str, error: impl std::fmt::Display) -> StoreError {
    StoreError::new(StoreErrorKind::Corrupt, op, format!("{what} cannot be read: {error}"))
}

pub(super) fn invalid(op: &'static str, message: impl Into<String>) -> StoreError {
    StoreError::new(StoreErrorKind::Invalid, op, message)
}

pub(super) fn throttled(op: &'static str, message: impl Into<String>) -> StoreError {
    StoreError::new(StoreErrorKind::Throttled, op, message)
}

/// An error of a call of which something was done: repeated as it is, it does the rest.
pub(super) fn partly(error: StoreError) -> StoreError {
    let (op, message) = (error.op(), format!("a part was done, then: {}; repeat the same call", error.message()));
    StoreError::new(StoreErrorKind::Unknown, op, message).with_source(error)
}

/// What a failed request means.
pub(super) fn of<E>(request: Request<'_>, error: &SdkError<E, HttpResponse>) -> StoreError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    use StoreErrorKind as Kind;
    let Request { op, action, writes, table } = request;
    let lost = if writes { Kind::Unknown } else { Kind::Unavailable };
    let (kind, message) = match error {
        SdkError::ServiceError(service) => {
            let status = service.raw().status().as_u16();
            let words = clip(service.err().message().unwrap_or("no reason given"));
            said(request, service.err().code().unwrap_or(""), status, &words)
        }
        SdkError::DispatchFailure(failure) if is_refused(error) => {
            let what = failure.as_connector_error().map(|e| clip(&chain(e))).unwrap_or_default();
            (Kind::Unavailable, format!("dynamodb cannot be reached; check the endpoint and the network ({what})"))
        }
        SdkError::DispatchFailure(failure) => {
            let what = failure.as_connector_error().map_or_else(|| "no connection".to_owned(), |e| clip(&chain(e)));
            (lost, format!("the connection to dynamodb failed: {what}"))
        }
        SdkError::TimeoutError(_) => (lost, format!("dynamodb did not answer `{action}` in time")),
        SdkError::ConstructionFailure(_) => {
            let what = clip(&chain(error));
            (Kind::Unavailable, format!("the request cannot be made; check the aws credentials and region ({what})"))
        }
        _ => (lost, format!("the answer to `{action}` on table `{table}` cannot be read: {}", clip(&chain(error)))),
    };
    let advice = if kind == Kind::Unknown { "; it may or may not have happened: repeat the same call" } else { "" };
    StoreError::new(kind, op, format!("{message}{advice}"))
}

fn said(request: Request<'_>, code: &str, status: u16, words: &str) -> (StoreErrorKind, String) {
    use StoreErrorKind as Kind;
    let Request { action, writes, table, .. } = request;
    match code {
        "ProvisionedThroughputExceededException"
        | "ThrottlingException"
        | "Throttling"
        | "RequestLimitExceeded"
        | "TransactionConflictException"
        | "TransactionInProgressException"
        | "LimitExceededException" => (Kind::Throttled, format!("dynamodb is busy with table `{table}`: {words}")),
        "ResourceNotFoundException" => (
            Kind::Incompatible,
            format!(
                "there is no table `{table}` as abca makes it here; run `abca store init --store dynamodb:{table}` ({words})"
            ),
        ),
        "ResourceInUseException" => {
            (Kind::Unavailable, format!("table `{table}` is being made or changed; repeat later ({words})"))
        }
        "AccessDeniedException" | "AccessDenied" => (
            Kind::Unavailable,
            format!("access denied: allow `dynamodb:{action}` on table `{table}` and its indexes ({words})"),
        ),
        "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "InvalidSignatureException"
        | "IncompleteSignature"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "ExpiredTokenException"
        | "ExpiredToken"
        | "SignatureDoesNotMatch" => (
            Kind::Unavailable,
            format!("dynamodb does not accept the aws credentials; renew or replace them ({words})"),
        ),
        "ItemCollectionSizeLimitExceededException" => (Kind::Full, format!("an item collection is full: {words}")),
        "ValidationException" | "SerializationException" => {
            (Kind::Invalid, format!("dynamodb refuses `{action}` on table `{table}`: {words}"))
        }
        "IdempotentParameterMismatchException" => {
            (Kind::Unknown, format!("dynamodb took `{action}` for the repeat of another request: {words}"))
        }
        _ if status >= 500 => {
            let kind = if writes { Kind::Unknown } else { Kind::Unavailable };
            (kind, format!("dynamodb failed ({status} {code}): {words}"))
        }
        _ => (Kind::Unavailable, format!("dynamodb refused `{action}` on table `{table}` ({status} {code}): {words}")),
    }
}

/// Whether nobody listens there: nothing was sent then.
fn is_refused(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(e) = next {
        if e.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == std::io::ErrorKind::ConnectionRefused) {
            return true;
        }
        next = e.source();
    }
    false
}

fn chain(error: &dyn Error) -> String {
    let mut words = error.to_string();
    let mut next = error.source();
    while let Some(e) = next {
        let more = e.to_string();
        if !words.contains(&more) {
            words.push_str(": ");
            words.push_str(&more);
        }
        next = e.source();
    }
    words
}

fn clip(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(CLIP_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use abca_core::store::StoreErrorKind as Kind;

    use super::*;

    fn kind(code: &str, status: u16, writes: bool) -> Kind {
        said(Request { op: "commit", action: "UpdateItem", writes, table: "tasks" }, code, status, "words").0
    }

    #[test]
    fn refusals_are_told_apart() {
        assert_eq!(kind("ProvisionedThroughputExceededException", 400, true), Kind::Throttled);
        assert_eq!(kind("ResourceNotFoundException", 400, true), Kind::Incompatible);
        assert_eq!(kind("ValidationException", 400, true), Kind::Invalid);
        assert_eq!(kind("InternalServerError", 500, true), Kind::Unknown);
        assert_eq!(kind("InternalServerError", 500, false), Kind::Unavailable);
        assert_eq!(kind("SomethingNew", 400, true), Kind::Unavailable);
        let denied = Request { op: "commit", action: "UpdateItem", writes: true, table: "tasks" };
        let (kind, message) = said(denied, "AccessDeniedException", 400, "not you");
        assert_eq!(kind, Kind::Unavailable);
        assert_eq!(message, "access denied: allow `dynamodb:UpdateItem` on table `tasks` and its indexes (not you)");
    }
}
