//! The facade's integration tests: one binary.

mod facade;
mod hands;
mod orchestrator;
