//! What the hands' repository begins with: copies of the brain's objects, and its tags.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use abca_core::git::{GitError, GitErrorKind};

/// Gives a new repository its own copy of another one's objects and tags, and puts a branch at a commit.
///
/// Plain copies (of blocks shared by the file system, where it can): never hard links, by which the hands could change
/// what the brain reads. Faster than git's own protocol, which would pack, unpack, hash and check what was checked
/// when the brain fetched it.
///
/// Cancel safety: dropped, it stops at the next file; the folder is to be removed.
pub(super) async fn give(op: &'static str, from: &Path, to: &Path, branch: &str, sha: &str) -> Result<(), GitError> {
    let stop = Stop::default();
    let (copy, from, to) = (Copy { stop: stop.0.clone() }, from.to_owned(), to.to_owned());
    let (branch, sha) = (branch.to_owned(), sha.to_owned());
    let work = move || {
        copy.folder(&from.join("objects"), &to.join("objects"))?;
        copy.folder(&from.join("refs/tags"), &to.join("refs/tags"))?;
        if let Ok(packed) = fs::read_to_string(from.join("packed-refs")) {
            // Tags only: the hands know one branch.
            let tags = |line: &&str| line.contains(" refs/tags/");
            let text: String = packed.lines().filter(tags).map(|line| format!("{line}\n")).collect();
            fs::write(to.join("packed-refs"), text)?;
        }
        let head = to.join("refs/heads").join(branch);
        head.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(head, format!("{sha}\n"))
    };
    let done = tokio::task::spawn_blocking(work).await.map_err(io::Error::other).and_then(|done| done);
    drop(stop);
    done.map_err(|e| {
        let kind = match e.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => GitErrorKind::Full,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => GitErrorKind::Access,
            _ => GitErrorKind::Unavailable,
        };
        GitError::new(kind, op, format!("cannot copy the objects of the repository: {e}")).with_source(e)
    })
}

/// Stops the copying when the future that waits for it is dropped.
#[derive(Default)]
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Copy {
    stop: Arc<AtomicBool>,
}

impl Copy {
    fn folder(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            if self.stop.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let (name, kind) = (entry.file_name(), entry.file_type()?);
            if kind.is_dir() {
                self.folder(&entry.path(), &to.join(&name))?;
            } else if kind.is_file() && !name.to_string_lossy().starts_with("tmp_") {
                fs::copy(entry.path(), to.join(&name))?;
            }
        }
        Ok(())
    }
}
