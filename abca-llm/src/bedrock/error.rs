//! The SDK's errors as ours.

use std::time::Duration;

use abca_core::Millis;
use abca_core::model::{ModelError, ModelErrorKind};
use aws_sdk_bedrockruntime::config::http::HttpResponse;
use aws_sdk_bedrockruntime::error::{ProvideErrorMetadata, SdkError};

use super::NAME;
use crate::fault::{Complaint, Scrub, complaint};

/// The error of a call that was not accepted.
pub(super) fn of_call<E>(op: &'static str, e: &SdkError<E, HttpResponse>, scrub: &Scrub) -> ModelError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let response = e.raw_response();
    let status = response.map(|r| r.status().as_u16());
    let wait = response.and_then(|r| r.headers().get("retry-after")).and_then(|v| v.trim().parse::<f64>().ok());
    let wait = wait.filter(|s| *s >= 0.0).map(|s| Millis((s * 1000.0).ceil() as u64));
    of(op, e, status, wait, scrub)
}

/// The error of a stream that had begun.
pub(super) fn of_stream<E, R>(e: &SdkError<E, R>, scrub: &Scrub) -> ModelError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug,
{
    of("stream", e, None, None, scrub)
}

pub(super) fn silent(op: &'static str, idle: Duration) -> ModelError {
    ModelError::new(ModelErrorKind::TimedOut, op, format!("{NAME} was silent for {} s", idle.as_secs_f32()))
}

fn of<E, R>(
    op: &'static str,
    e: &SdkError<E, R>,
    status: Option<u16>,
    wait: Option<Millis>,
    scrub: &Scrub,
) -> ModelError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug,
{
    let plain = |kind, what: &str, cause: &dyn std::error::Error| {
        ModelError::new(kind, op, format!("{NAME}: {what}: {}", scrub.text(&root_cause(cause))))
    };
    match e {
        SdkError::ServiceError(service) => {
            let class = service.err().code().unwrap_or("");
            let message = service.err().message().unwrap_or("");
            said(op, class, message, status, wait, scrub)
        }
        SdkError::TimeoutError(_) => {
            ModelError::new(ModelErrorKind::TimedOut, op, format!("{NAME} did not answer in time"))
        }
        SdkError::DispatchFailure(failure) => {
            let cause = failure.as_connector_error();
            let kind = if failure.is_timeout() {
                ModelErrorKind::TimedOut
            } else if cause.is_some_and(|c| c.is_user()) {
                ModelErrorKind::Config
            } else {
                ModelErrorKind::Network
            };
            match cause {
                Some(cause) => plain(kind, "cannot send", cause),
                None => ModelError::new(kind, op, format!("{NAME}: cannot send")),
            }
        }
        SdkError::ConstructionFailure(_) => {
            let what = format!(
                "{NAME}: cannot make the request: {}; check the aws credentials and region",
                scrub.text(&chain(e))
            );
            ModelError::new(ModelErrorKind::Config, op, what)
        }
        SdkError::ResponseError(_) if status.is_some_and(|s| s >= 500) => {
            plain(ModelErrorKind::Overloaded, "broken answer", &Text(chain(e)))
        }
        // In a stream: the connection was cut, or the frames make no sense. The SDK tells by its words only.
        SdkError::ResponseError(_) => {
            let words = chain(e);
            let lower = words.to_lowercase();
            let cut = ["connection", "eof", "unexpected end", "incomplete", "body", "reset", "closed"];
            let kind = if status.is_none() && cut.iter().any(|w| lower.contains(w)) {
                ModelErrorKind::Network
            } else {
                ModelErrorKind::Malformed
            };
            plain(kind, "broken answer", &Text(words))
        }
        _ => ModelError::new(ModelErrorKind::Network, op, format!("{NAME}: {}", scrub.text(&chain(e)))),
    }
}

/// An exception by its name.
fn said(
    op: &'static str,
    class: &str,
    message: &str,
    status: Option<u16>,
    wait: Option<Millis>,
    scrub: &Scrub,
) -> ModelError {
    // The exceptions' names say more than their statuses, and in a stream there is no status.
    let status = match class {
        "ThrottlingException" | "TooManyRequestsException" | "ServiceQuotaExceededException" => Some(429),
        "AccessDeniedException" | "UnrecognizedClientException" | "ExpiredTokenException" => Some(403),
        "ResourceNotFoundException" => Some(404),
        "ModelTimeoutException" => Some(408),
        "InternalServerException"
        | "ModelErrorException"
        | "ModelNotReadyException"
        | "ServiceUnavailableException"
        | "ModelStreamErrorException" => Some(503),
        "ValidationException" => Some(400),
        _ => status,
    };
    let c = Complaint { status, class, code: "", message };
    // The word for a model that is not there is the same as for a wrong path.
    let c = if class == "ResourceNotFoundException" { Complaint { status: Some(403), ..c } } else { c };
    complaint(NAME, op, &c, scrub, wait)
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Text(String);

fn chain(e: &dyn std::error::Error) -> String {
    let mut words = e.to_string();
    let mut next = e.source();
    while let Some(e) = next {
        words.push_str(": ");
        words.push_str(&e.to_string());
        next = e.source();
    }
    words
}

fn root_cause(e: &dyn std::error::Error) -> String {
    let mut e = e;
    while let Some(source) = e.source() {
        e = source;
    }
    e.to_string()
}
