//! abca

pub mod clock;
pub mod link;
pub mod orchestrator;
pub mod session;
