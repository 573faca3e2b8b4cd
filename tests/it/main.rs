//! The facade's integration tests: one binary.

mod orchestrator;
