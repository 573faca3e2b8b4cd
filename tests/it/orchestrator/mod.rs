//! Whole lives of tasks under the real driver, with sessions that are tokio tasks, in virtual time.

mod caps;
mod chaos;
mod delivered;
mod gates;
mod guarded;
mod leases;
mod link;
mod lives;
mod many;
mod prepare;
mod retention;
pub mod world;
