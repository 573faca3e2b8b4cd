//! The local forge: [`LocalForge`], a whole `GitProvider` over repositories on this machine.
//!
//! Pull requests, issues, comments, reviews and checks are JSON files in the folder `abca` of the repository's own git
//! folder (`<repository>/.git/abca`, or `<repository>.git/abca` of a bare one), so they live, move and vanish with it:
//!
//! ```text
//! abca/format.json               {"version":1}: a newer version is refused
//! abca/lock                      taken (flock) by whoever writes
//! abca/last.json                 the last number and id; counted anew when it is missing
//! abca/index/<hash>.json         the number of the last pull request of a head, of an issue's key
//! abca/pulls/7.json  abca/issues/8.json
//! abca/comments/7/1.json  abca/reviews/7/2.json
//! abca/checks/<commit>/<hash of the name>.json
//! ```
//!
//! A file is written whole beside its place, synced, and renamed, so a reader sees the old or the new record, never half of
//! one, and any number of processes may work on one repository.

mod locate;
mod merge;
mod provider;
mod records;

use std::path::PathBuf;
use std::sync::Arc;

use abca_core::git::GitError;
use abca_core::time::Clock;

use crate::program::Git;

/// How a [`LocalForge`] works.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LocalForgeConfig {
    /// Where `owner/name` is looked for: `<root>/owner/name.git`, else `<root>/owner/name`. `None`: only absolute paths name
    /// a repository.
    pub root: Option<PathBuf>,
    /// Where times come from.
    pub clock: Arc<dyn Clock>,
    /// Who opens, comments and merges; default `abca`.
    pub author: String,
    /// The git program; default the one on the `PATH` of this process.
    pub git: Option<Git>,
}

impl LocalForgeConfig {
    /// Absolute paths only, in the name of `abca`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { root: None, clock, author: "abca".to_owned(), git: None }
    }

    /// Looks for `owner/name` below this folder too.
    #[must_use]
    pub fn with_root(mut self, root: impl Into<PathBuf>) -> Self {
        self.root = Some(root.into());
        self
    }

    /// Another author.
    #[must_use]
    pub fn with_author(mut self, author: impl Into<String>) -> Self {
        self.author = author.into();
        self
    }

    /// Another git program.
    #[must_use]
    pub fn with_git(mut self, git: Git) -> Self {
        self.git = Some(git);
        self
    }
}

/// A forge over bare repositories or work trees on this machine.
///
/// It changes nothing of a repository but its own records and, on a merge, the base branch: never the work tree, the
/// index or HEAD; a base branch that is checked out somewhere is not merged into. No hook, filter, merge driver or
/// monitor of the repository runs.
///
/// Needs a tokio runtime. Dropping a future does not interrupt what it began: the call is done or not done.
#[derive(Debug, Clone)]
pub struct LocalForge {
    git: Option<Git>,
    config: LocalForgeConfig,
}

impl LocalForge {
    /// A forge of this configuration. Without a git program every call answers `NotFound`, saying what to install.
    pub fn new(config: LocalForgeConfig) -> Self {
        let git = config.git.clone().or_else(|| Git::find().ok());
        Self { git, config }
    }

    fn git(&self) -> Result<Git, GitError> {
        self.git.clone().map_or_else(Git::find, Ok)
    }
}
