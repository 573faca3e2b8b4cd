//! A new bare repository, written without starting git: its layout is fixed and documented (`gitrepository-layout`).

use std::io::{self, Write};
use std::path::Path;

use abca_core::git::{GitError, GitErrorKind};

/// What `git init --bare` would write, without templates: nothing here depends on the file system, as there is no work tree.
const CONFIG: &str = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n";

/// Makes an empty bare repository.
pub(super) fn make_bare(op: &'static str, dir: &Path, branch: &str) -> Result<(), GitError> {
    let make = || {
        for folder in ["objects/info", "objects/pack", "refs/heads", "refs/tags"] {
            std::fs::create_dir_all(dir.join(folder))?;
        }
        std::fs::write(dir.join("HEAD"), format!("ref: refs/heads/{branch}\n"))?;
        std::fs::write(dir.join("config"), CONFIG)
    };
    make().map_err(|e| failed(op, dir, "make", e))
}

/// Notes that the clone is whole, and its base branch, where `git config abca.basebranch` finds it.
pub(super) fn mark_whole(op: &'static str, dir: &Path, branch: &str) -> Result<(), GitError> {
    // A branch name holds no backslash and no control character, but may hold a quote.
    let value = branch.replace('"', "\\\"");
    let write = || {
        let mut config = std::fs::File::options().append(true).open(dir.join("config"))?;
        config.write_all(format!("[abca]\n\tbasebranch = \"{value}\"\n").as_bytes())
    };
    write().map_err(|e| failed(op, dir, "write", e))
}

/// Removes what a clone that failed has made.
pub(super) fn remove(op: &'static str, dir: &Path) -> Result<(), GitError> {
    std::fs::remove_dir_all(dir).map_err(|e| failed(op, dir, "remove", e))
}

fn failed(op: &'static str, dir: &Path, what: &str, error: io::Error) -> GitError {
    let kind = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => GitErrorKind::Full,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => GitErrorKind::Access,
        _ => GitErrorKind::Unavailable,
    };
    GitError::new(kind, op, format!("cannot {what} `{}`: {error}", dir.display())).with_source(error)
}
