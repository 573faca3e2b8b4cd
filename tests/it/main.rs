//! The facade's integration tests: one binary.

#[cfg(feature = "cli")]
mod e2e;
mod egress;
mod examples;
mod facade;
#[cfg(feature = "cli")]
mod faults;
mod guardrail;
mod hands;
mod orchestrator;
mod sim;
