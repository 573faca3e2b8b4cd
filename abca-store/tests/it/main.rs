//! Everything that the stores promise, checked from outside.

mod conformance;
#[cfg(any(feature = "sqlite", feature = "dynamodb"))]
mod differential;
#[cfg(feature = "dynamodb")]
mod dynamodb;
#[cfg(feature = "sqlite")]
mod faults;
#[cfg(feature = "sqlite")]
mod killed;
