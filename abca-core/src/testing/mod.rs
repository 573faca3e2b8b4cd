//! Conformance suites, in-memory fakes and a virtual clock: what tests of an adapter need, yours as well as ours.
//!
//! Nothing here belongs into a running product: a broken promise panics, naming the case that found it.

// A test says what is wrong by panicking; sizes and indices are its own.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

pub mod chaos;
mod clock;
pub mod compute;
pub mod fixtures;
pub mod forge;
pub mod linear;
pub mod model;
pub mod store;

pub use clock::{SeededIds, VirtualClock};
