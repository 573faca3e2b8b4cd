//! The pure centre of [abca](https://docs.rs/abca): what decides, without doing.
//!
//! Nothing here reads a clock, a file, the network, the environment or a random number: time, ids and randomness are
//! arguments. Two machines decide everything: [`task::decide`] moves a task, [`session::Machine`] drives the agent
//! loop. The traits are the seams a backend implements; each states its contract first.
//!
//! | module | one sentence |
//! | --- | --- |
//! | [`id`], [`time`], [`money`] | the newtypes everything is written in |
//! | [`task`] | the task record, its closed transition table and `decide` |
//! | [`session`] | the session log and the agent loop as a sans-IO machine |
//! | [`workflow`] | kinds of task as data, with their cross-field rules |
//! | [`store`], [`compute`], [`git`], [`model`], [`memory`], [`policy`] | the six core traits |
//! | [`guardrail`] | may this text come in: at submission, hydration, nudge and memory write |
//! | [`egress`] | hosts, addresses and the allow-list of the hands' way out |
//! | [`mcp`] | MCP servers: their configuration, and what of their tools a model may see |
//! | [`link`] | what a session may say to the platform |
//! | [`prompt`], [`text`], [`names`] | what the model and the reviewer are told, cutting and cleaning of texts, names in git |
//! | [`testing`] (feature `testing`) | conformance suites, fakes and a virtual clock |

pub mod blueprint;
pub mod classify;
pub mod compute;
pub mod egress;
pub mod error;
pub mod event;
pub mod git;
pub mod guardrail;
pub mod id;
pub mod link;
pub mod mcp;
pub mod memory;
pub mod model;
pub mod money;
pub mod names;
pub mod policy;
pub mod prompt;
pub mod session;
mod shared;
pub mod store;
pub mod task;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod text;
pub mod time;
pub mod workflow;

pub use error::{BoxError, Kind};
pub use id::{EffectKey, EventSeq, SessionId, SignalId, TaskId, UserId};
pub use money::MicroUsd;
pub use shared::Shared;
pub use time::{Clock, IdSource, Millis, Timestamp};
