//! The error of the facade: one struct, a stable kind, a message that says what to do.

use std::fmt;

use abca_core::BoxError;
use abca_core::policy::PolicyDecisionEvent;
use abca_core::store::{StoreError, StoreErrorKind};

/// What callers branch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The input is not acceptable as it is; the message says what is.
    Invalid,
    /// No such task.
    NotFound,
    /// A guardrail does not let the text through; the message says why, and [`Error::decision`] in a form for programs.
    Blocked,
    /// The same idempotency key came before with another payload.
    Conflict,
    /// The task has ended, so this cannot be done with it any more.
    Ended,
    /// The task does not wait for this answer: for none, for another, or it was given already.
    NotAwaiting,
    /// Too many of these wait already; the same call may succeed later.
    Full,
    /// The state folder cannot be used: unreadable, not a folder, not abca's, or of a newer abca.
    State,
    /// A part that is needed was not configured.
    Config,
    /// The store or a backend does not answer for now; the same call may succeed later.
    Unavailable,
    /// The task's own deadline passed while it was waited for.
    Deadline,
    /// Something that should not happen.
    Internal,
}

impl ErrorKind {
    /// Lower-case words for messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::NotFound => "not found",
            Self::Blocked => "blocked by a guardrail",
            Self::Conflict => "conflict",
            Self::Ended => "ended",
            Self::NotAwaiting => "not awaiting an answer",
            Self::Full => "full",
            Self::State => "state folder",
            Self::Config => "not configured",
            Self::Unavailable => "unavailable",
            Self::Deadline => "deadline passed",
            Self::Internal => "internal",
        }
    }
}

/// Why the facade did not do what it was asked.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<BoxError>,
    decision: Option<Box<PolicyDecisionEvent>>,
}

impl Error {
    /// An error of a kind. The message is lower-case, without a period and without secrets.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None, decision: None }
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Adds what a guard decided.
    #[must_use]
    pub fn with_decision(mut self, decision: PolicyDecisionEvent) -> Self {
        self.decision = Some(Box::new(decision));
        self
    }

    /// What a guard decided, when that is why: for a refused submission there is no task whose events could tell it.
    pub fn decision(&self) -> Option<&PolicyDecisionEvent> {
        self.decision.as_deref()
    }

    /// What callers branch on.
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The message without its kind.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether the very same call may succeed later.
    pub const fn is_retryable(&self) -> bool {
        matches!(self.kind, ErrorKind::Unavailable | ErrorKind::Full)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.as_str(), self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|e| e.as_ref() as &(dyn std::error::Error + 'static))
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        let kind = match error.kind() {
            StoreErrorKind::Corrupt | StoreErrorKind::Incompatible => ErrorKind::State,
            StoreErrorKind::Invalid => ErrorKind::Internal,
            StoreErrorKind::Unsupported => ErrorKind::Config,
            _ if error.is_retryable() => ErrorKind::Unavailable,
            _ => ErrorKind::Internal,
        };
        Self::new(kind, error.to_string()).with_source(error)
    }
}
