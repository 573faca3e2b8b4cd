#![doc = include_str!("../README.md")]
#![doc = include_str!("../docs/src/embedding.md")]

mod abca;
mod approval;
mod brain;
mod builder;
#[cfg(feature = "cli")]
pub mod cli;
pub mod clock;
pub mod egress;
mod error;
mod forge;
pub mod guardrail;
mod handle;
mod init;
pub mod link;
mod models;
mod operator;
pub mod orchestrator;
mod outcome;
mod pages;
mod preflight;
pub mod session;
mod sessions;
mod settings;
mod state;
mod stores;
mod sweep;
mod tell;
#[cfg(feature = "web")]
mod web;

pub use self::abca::Abca;
pub use abca_core::event::{Event, EventType};
pub use abca_core::task::{NewTask, Task, TaskStatus, Verdict};
pub use abca_core::{EventSeq, MicroUsd, SessionId, TaskId, UserId};
pub use approval::PendingApproval;
pub use builder::{Builder, Platform};
pub use error::{Error, ErrorKind};
pub use forge::ForgeSettings;
pub use guardrail::GuardrailSettings;
pub use handle::{CancelAnswer, EventStream, TaskHandle};
pub use init::init;
pub use models::ModelSettings;
pub use operator::{Operator, QueuePlace};
pub use outcome::{PartialWork, TaskOutcome};
pub use pages::{ListCursor, TaskPage};
pub use settings::Settings;
pub use state::StateDir;
pub use stores::StoreUrl;

/// The crates beneath, so that whoever brings parts of their own needs one dependency. Their versions move together.
pub use {abca_compute, abca_core, abca_git, abca_llm, abca_store};
