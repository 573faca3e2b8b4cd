//! Drives tasks: a thin loop around the pure machine of `abca-core`.
//!
//! A [`Worker`] claims due tasks under leases, asks [`decide`](abca_core::task::decide) what to do with each, commits
//! under compare-and-swap, carries out what is owed, and feeds back what it saw. Several workers may share a store, in one
//! process or in many: a claim is fenced, an effect has a key, and whatever one of them leaves undone another takes up.

mod delivery;
mod driver;
mod driving;
mod nearest;
mod prepare;
mod readable;
mod retention;
mod roster;
mod seams;
mod wake;
mod watch;
mod worker;

pub(crate) use delivery::session_state;
pub use prepare::ForgePreparer;
pub(crate) use readable::load_readable;
pub use seams::{Launcher, OnForge, PlainLauncher, PrepareFailure, Preparer, task_of};
pub use wake::{Bell, TaskRing, Wake, WorkRing};
pub(crate) use worker::backend_name;
pub use worker::{Drained, Worker, WorkerConfig, WorkerParts};
