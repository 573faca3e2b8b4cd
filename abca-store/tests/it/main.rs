//! Everything that the stores promise, checked from outside.

mod conformance;
mod days;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "dynamodb"))]
mod differential;
#[cfg(feature = "dynamodb")]
mod dynamodb;
#[cfg(feature = "sqlite")]
mod faults;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod killed;
mod linear;
#[cfg(feature = "postgres")]
mod postgres;
