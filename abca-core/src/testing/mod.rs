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
mod dice;
pub mod faults;
pub mod fixtures;
pub mod forge;
pub mod guardrail;
pub mod linear;
pub mod model;
pub mod proxy;
mod skew;
pub mod store;
#[cfg(feature = "proptest")]
pub mod strategies;
mod trace;
pub mod witness;

pub use clock::{SeededIds, VirtualClock};
pub use dice::Dice;
pub use skew::SkewedClock;
pub use trace::Trace;
