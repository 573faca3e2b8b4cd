//! abca

mod abca;
mod builder;
pub mod clock;
mod error;
mod handle;
pub mod link;
pub mod orchestrator;
mod outcome;
pub mod session;
mod state;

pub use self::abca::Abca;
pub use abca_core::event::{Event, EventType};
pub use abca_core::task::{NewTask, Task, TaskStatus, Verdict};
pub use abca_core::{EventSeq, MicroUsd, SessionId, TaskId, UserId};
pub use builder::{Builder, Platform};
pub use error::{Error, ErrorKind};
pub use handle::{CancelAnswer, EventStream, TaskHandle};
pub use outcome::{PartialWork, TaskOutcome};
pub use state::StateDir;
