//! Walking a folder: no links followed, `.git` left out, bounded.

use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};
use ignore::{WalkBuilder, types::Types};
use tokio_util::sync::CancellationToken;

/// Entries that are looked at before a walk gives up.
const MAX_ENTRIES: usize = 500_000;

/// The regular files below a folder, and whether it was all of them.
pub(super) fn files(
    dir: &Path,
    honour_ignores: bool,
    types: Option<Types>,
    cancel: &CancellationToken,
    mut each: impl FnMut(PathBuf) -> bool,
) -> Result<bool, String> {
    let mut walk = WalkBuilder::new(dir);
    walk.standard_filters(false)
        .git_ignore(honour_ignores)
        .ignore(honour_ignores)
        .parents(honour_ignores)
        // Work trees without a `.git` of their own count as well.
        .require_git(false)
        .follow_links(false)
        .sort_by_file_name(std::cmp::Ord::cmp)
        .filter_entry(|e| e.file_name() != ".git");
    if let Some(types) = types {
        walk.types(types);
    }
    for (n, entry) in walk.build().enumerate() {
        if cancel.is_cancelled() {
            return Err("the call was cancelled".into());
        }
        if n >= MAX_ENTRIES {
            return Ok(false);
        }
        // What cannot be read is not searched, as with every such tool.
        let Ok(entry) = entry else { continue };
        if entry.file_type().is_some_and(|t| t.is_file()) && !each(entry.into_path()) {
            break;
        }
    }
    Ok(true)
}

/// A glob in which `*` does not cross `/`.
pub(super) fn glob(pattern: &str) -> Result<GlobMatcher, String> {
    GlobBuilder::new(pattern)
        .literal_separator(true)
        .backslash_escape(true)
        .empty_alternates(true)
        .build()
        .map(|g| g.compile_matcher())
        .map_err(|e| format!("the pattern is not a valid glob: {e}"))
}
