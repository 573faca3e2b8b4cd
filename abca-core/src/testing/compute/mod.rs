//! The conformance suite of [`ComputeStrategy`](crate::compute::ComputeStrategy), and a fake one for tests of drivers.
//!
//! A backend's test gives a [`Fixture`]: the strategy, and a way to say what a session does. The suite says it as a
//! [`Script`]; the backend's session program reads it from the payload and does it.

mod cases;
mod fake;

pub use cases::{Fixture, Report, Script, cases, run};
pub use fake::FakeCompute;
