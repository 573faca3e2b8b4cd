//! The facade's integration tests: one binary.

mod examples;
mod facade;
mod hands;
mod orchestrator;
