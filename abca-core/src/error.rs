//! The shape that every adapter's error has: a stable kind, the operation, a message and a source.

use std::fmt;

/// Any error, boxed, as a source.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// A stable class of errors that callers branch on.
pub trait Kind: Copy + Eq + fmt::Debug + Send + Sync + 'static {
    /// Whether repeating the very same call may succeed.
    fn is_retryable(self) -> bool;
    /// Lower-case words for messages, e.g. `not found`.
    fn as_str(self) -> &'static str;
}

macro_rules! adapter_error {
    ($(#[$doc:meta])* $name:ident, $(#[$kdoc:meta])* $kind:ident { $( $(#[$vdoc:meta])* $variant:ident = $text:literal, $retry:literal; )+ }) => {
        $(#[$kdoc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[non_exhaustive]
        pub enum $kind { $( $(#[$vdoc])* $variant, )+ }

        impl $crate::error::Kind for $kind {
            fn is_retryable(self) -> bool {
                match self { $( Self::$variant => $retry, )+ }
            }
            fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $text, )+ }
            }
        }

        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name {
            kind: $kind,
            op: &'static str,
            message: String,
            source: Option<$crate::error::BoxError>,
        }

        impl $name {
            /// An error of a kind, of the operation `op` (the method's name). The message is lower-case, without a
            /// period and without secrets.
            pub fn new(kind: $kind, op: &'static str, message: impl Into<String>) -> Self {
                Self { kind, op, message: message.into(), source: None }
            }

            /// Adds the cause.
            #[must_use]
            pub fn with_source(mut self, source: impl Into<$crate::error::BoxError>) -> Self {
                self.source = Some(source.into());
                self
            }

            /// What callers branch on.
            pub const fn kind(&self) -> $kind {
                self.kind
            }

            /// The operation that failed.
            pub const fn op(&self) -> &'static str {
                self.op
            }

            /// The message without kind and operation.
            pub fn message(&self) -> &str {
                &self.message
            }

            /// Whether repeating the very same call may succeed.
            pub fn is_retryable(&self) -> bool {
                $crate::error::Kind::is_retryable(self.kind)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}: {}: {}", self.op, $crate::error::Kind::as_str(self.kind), self.message)
            }
        }

        impl std::error::Error for $name {
            fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
                self.source.as_ref().map(|e| e.as_ref() as &(dyn std::error::Error + 'static))
            }
        }
    };
}
pub(crate) use adapter_error;
