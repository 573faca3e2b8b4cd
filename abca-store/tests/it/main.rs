//! Everything that the stores promise, checked from outside.

mod conformance;
#[cfg(feature = "sqlite")]
mod differential;
#[cfg(feature = "dynamodb")]
mod dynamodb;
#[cfg(feature = "sqlite")]
mod faults;
#[cfg(feature = "sqlite")]
mod killed;
