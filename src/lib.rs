//! abca

pub mod clock;
pub mod link;
pub mod orchestrator;
