//! A session: the brain that drives a model, and the hands that run its tools.

pub mod hands;
#[cfg_attr(not(feature = "mcp"), allow(dead_code, reason = "without the feature no server is reached"))]
pub(crate) mod mcp;
pub mod tools;

mod agent;
mod deliver;
mod gate;
mod host;
mod journal;
mod pipeline;
mod policy;
mod report;
mod runtime;
mod saving;
mod verify;
mod workspace;

pub(crate) use policy::usual_policy;
pub(crate) use report::delivered_report;

pub use policy::DefaultPolicy;
pub use runtime::{EXIT_NO_LINK, EXIT_REFUSED, EXIT_REPORTED, SessionParts, fail_session, run_session};
pub use workspace::HandsProgram;
