//! Why the hands did not do what they were asked.

use std::fmt;

/// Classes of [`HandsError`] that callers branch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HandsErrorKind {
    /// The server is gone: it exited, was killed, or was never there. Everything it ran is lost; start a new one.
    Died,
    /// The server said something that is not of the protocol. The connection is closed for good, as after a death.
    Protocol,
    /// The server did not answer in the call's time. It may still live; nothing it says about the call counts any more.
    Unresponsive,
    /// The server understood the call and could not carry it out, for the reason in the message.
    Refused,
    /// The server could not be started.
    Launch,
}

/// Why the hands did not do what they were asked. Cheap to clone: one death fails every call in flight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandsError {
    kind: HandsErrorKind,
    message: String,
}

impl HandsError {
    /// An error of a kind. The message is lower-case and without a period.
    pub fn new(kind: HandsErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// What callers branch on.
    pub const fn kind(&self) -> HandsErrorKind {
        self.kind
    }

    /// The message without the kind.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether this connection is of no use any more and the hands have to be started anew.
    pub const fn needs_restart(&self) -> bool {
        match self.kind {
            HandsErrorKind::Died | HandsErrorKind::Protocol | HandsErrorKind::Unresponsive | HandsErrorKind::Launch => {
                true
            }
            HandsErrorKind::Refused => false,
        }
    }
}

impl fmt::Display for HandsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            HandsErrorKind::Died => "the hands died",
            HandsErrorKind::Protocol => "the hands broke the protocol",
            HandsErrorKind::Unresponsive => "the hands did not answer in time",
            HandsErrorKind::Refused => "the hands refused",
            HandsErrorKind::Launch => "the hands could not be started",
        };
        write!(f, "{kind}: {}", self.message)
    }
}

impl std::error::Error for HandsError {}
