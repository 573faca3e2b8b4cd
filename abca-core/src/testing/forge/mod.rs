//! Tests for forges: an in-memory [`FakeForge`], and the conformance suite that every
//! [`GitProvider`](crate::git::GitProvider) runs.
//!
//! An adapter's test gives the suite a [`ForgeHarness`]: the forge, and a way to make repositories and commits in it.
//! What the forge does not offer ([`GitCapabilities`](crate::git::GitCapabilities)) must be answered as unsupported; its
//! cases are skipped, and must be listed.

mod fake;
mod suite;

pub use fake::FakeForge;
pub use suite::{ForgeHarness, ForgeReport, cases, run};
