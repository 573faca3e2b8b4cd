//! Tests for models: a scripted [`FakeModel`], the rules of a request ([`check_request`]), and the conformance suite
//! that every [`ModelClient`](crate::model::ModelClient) runs.
//!
//! The suite never talks to a provider. An adapter's test gives it a [`ModelHarness`]: a function from a script of
//! [`Step`]s to a client whose provider answers just so, on loopback and in the provider's own wire format.

mod conformance;
mod fake;
mod invariants;

pub use conformance::{ModelHarness, ModelReport, cases, run};
pub use fake::{FakeModel, Step};
pub use invariants::check_request;
