//! Repositories and forges: the git program behind guards, the two repositories of a session, and the local forge.
//!
//! | type | one sentence |
//! | --- | --- |
//! | [`Git`] | the git program, hardened against what a repository may carry |
//! | [`Bare`] | the brain's repository: clones, takes the agent's work over the git protocol, adds trailers, pushes |
//! | [`HandsRepo`] | the hands' repository, where the agent works; everything after its creation runs in the sandbox |
//! | [`LocalForge`] | a whole `GitProvider` over repositories on this machine, its records beside each repository |
//!
//! Every write, and so far every read too, is done by the `git` program (2.38 or later): one dependency less than with
//! `gix` for what the demo compiles. Nothing here reads the user's or the system's git configuration.

mod bare;
mod hands;
mod local;
mod program;
mod refs;

pub use bare::{Bare, BinaryFiles, CloneLimits, Commit, DiffStat, FileStat, ServedRepo, Trailer};
pub use hands::{ExecOutput, HandsExec, HandsRepo, PlainExec, SafetyNet, ServedGuard, Snapshot};
pub use local::{LocalForge, LocalForgeConfig};
pub use program::Git;
pub use refs::{check_branch, is_sha};
