//! Which forge sessions propose to, as settings that can cross into a session's own process.

use std::path::PathBuf;
use std::sync::Arc;

use abca_core::git::{GitError, GitProvider};
use abca_core::time::Clock;
use abca_git::{Git, LocalForge, LocalForgeConfig};
use serde::{Deserialize, Serialize};

/// The local forge: repositories on this machine, pull requests as records beside them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ForgeSettings {
    /// Where `owner/name` is found: `<root>/owner/name.git`. Without it only paths name repositories.
    pub root: Option<PathBuf>,
}

impl ForgeSettings {
    /// The forge.
    ///
    /// # Errors
    /// When there is no git program.
    pub(crate) fn connect(&self, clock: Arc<dyn Clock>) -> Result<Arc<dyn GitProvider>, GitError> {
        let mut config = LocalForgeConfig::new(clock);
        config.root.clone_from(&self.root);
        Ok(Arc::new(LocalForge::new(config.with_git(Git::find()?))))
    }
}
