//! From a name to a repository on disk, with errors that say what to do.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use abca_core::git::{GitError, GitErrorKind, Permission, RepoRef};
use rustix::fs::{Access, access};

use super::LocalForge;
use crate::program::{Call, Git, classify};
use crate::refs::is_sha;

/// A repository that was found.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) git: Git,
    /// As it was named, links resolved: what git fetches from.
    pub(super) path: PathBuf,
    /// The git folder of this work tree (its HEAD), and the one that all its work trees share.
    pub(super) git_dir: PathBuf,
    pub(super) common: PathBuf,
}

impl LocalForge {
    /// Finds the repository.
    ///
    /// `NotFound`: nothing there, or not a repository. `Access`: not readable. `Invalid`: a folder inside a work tree.
    pub(super) async fn locate(&self, op: &'static str, repo: &RepoRef) -> Result<Place, GitError> {
        let path = match repo {
            RepoRef::Local(path) => PathBuf::from(path),
            RepoRef::Hosted { owner, name } => {
                let Some(root) = &self.config.root else {
                    let message =
                        format!("the local forge has no folder for `{repo}`: give the repository's absolute path");
                    return Err(GitError::new(GitErrorKind::NotFound, op, message));
                };
                let bare = root.join(owner).join(format!("{name}.git"));
                if bare.exists() { bare } else { root.join(owner).join(name) }
            }
        };
        let io = |e: std::io::Error| {
            let shown = path.display();
            let (kind, message) = match e.kind() {
                std::io::ErrorKind::NotFound => (GitErrorKind::NotFound, format!("`{shown}` does not exist")),
                std::io::ErrorKind::NotADirectory => (GitErrorKind::NotFound, format!("`{shown}` is not a folder")),
                std::io::ErrorKind::PermissionDenied => (
                    GitErrorKind::Access,
                    format!("`{shown}` is not readable for this user: change its mode or its owner"),
                ),
                _ => (GitErrorKind::Unavailable, format!("`{shown}` cannot be read: {e}")),
            };
            GitError::new(kind, op, message).with_source(e)
        };
        let real = tokio::fs::canonicalize(&path).await.map_err(io)?;
        drop(tokio::fs::read_dir(&real).await.map_err(io)?);
        let git = self.git()?;
        let call = git.call(op).read_only().dir(&real);
        // Git looks no higher than here: a folder inside a work tree is another thing than the repository.
        let call = call.env("GIT_CEILING_DIRECTORIES", real.parent().unwrap_or(Path::new("/")));
        let call = call.args(["rev-parse", "--path-format=absolute", "--git-dir", "--git-common-dir"]);
        let out = call.run_any().await?;
        if out.status != 0 {
            let error = classify(op, "rev-parse", &out);
            return Err(match error.kind() {
                GitErrorKind::NotFound => not_a_repository(&git, op, &real).await,
                _ => error,
            });
        }
        let mut lines = out.stdout.split(|b| *b == b'\n').map(|l| PathBuf::from(OsStr::from_bytes(l)));
        match (lines.next(), lines.next()) {
            (Some(git_dir), Some(common)) => Ok(Place { git: git.clone(), path: real, git_dir, common }),
            _ => Err(GitError::new(GitErrorKind::Corrupt, op, "git's answer to `rev-parse` cannot be read")),
        }
    }
}

async fn not_a_repository(git: &Git, op: &'static str, path: &Path) -> GitError {
    let shown = path.display();
    let top = git.call(op).read_only().dir(path).args(["rev-parse", "--show-toplevel"]).text().await;
    match top {
        Ok(top) if !top.is_empty() => {
            let message = format!("`{shown}` is inside the repository `{top}`: give that path");
            GitError::new(GitErrorKind::Invalid, op, message)
        }
        _ => {
            let message =
                format!("`{shown}` is not a git repository: give another path, or `git init` and commit there");
            GitError::new(GitErrorKind::NotFound, op, message)
        }
    }
}

impl Place {
    pub(super) fn call(&self, op: &'static str) -> Call<'_> {
        self.git.call(op).git_dir(&self.common)
    }

    /// The branch that HEAD of this work tree is on, if it has commits; and whether there is no branch with commits at all.
    pub(super) async fn head(&self, op: &'static str) -> Result<(Option<String>, bool), GitError> {
        let head = self.git.call(op).git_dir(&self.git_dir).read_only().args(["symbolic-ref", "--quiet", "HEAD"]);
        let head = head.run_any().await?;
        let any = self.call(op).read_only().args(["for-each-ref", "--count=1", "--format=%(refname)", "refs/heads/"]);
        let empty = any.run().await?.stdout.is_empty();
        let name = String::from_utf8_lossy(&head.stdout).trim_end().strip_prefix("refs/heads/").map(str::to_owned);
        match name {
            Some(name) if self.branch(op, &name).await?.is_some() => Ok((Some(name), false)),
            _ => Ok((None, empty)),
        }
    }

    /// The commit of a branch.
    pub(super) async fn branch(&self, op: &'static str, name: &str) -> Result<Option<String>, GitError> {
        let call = self.call(op).read_only().args(["rev-parse", "--verify", "--quiet", "--end-of-options"]);
        let out = call.arg(format!("refs/heads/{name}^{{commit}}")).run_any().await?;
        let sha = String::from_utf8_lossy(&out.stdout).trim_end().to_owned();
        Ok((out.status == 0 && is_sha(&sha)).then_some(sha))
    }

    /// All branches with their commits.
    pub(super) async fn branches(&self, op: &'static str) -> Result<BTreeMap<String, String>, GitError> {
        let call = self.call(op).read_only().args(["for-each-ref", "--format=%(objectname) %(refname)", "refs/heads/"]);
        let out = call.run().await?;
        let text = String::from_utf8_lossy(&out.stdout);
        let line = |l: &str| {
            let (sha, name) = l.split_once(" refs/heads/")?;
            Some((name.to_owned(), sha.to_owned()))
        };
        Ok(text.lines().filter_map(line).collect())
    }

    pub(super) async fn is_ancestor(&self, op: &'static str, old: &str, new: &str) -> Result<bool, GitError> {
        let out = self.call(op).read_only().args(["merge-base", "--is-ancestor", old, new]).run_any().await?;
        match out.status {
            0 => Ok(true),
            1 => Ok(false),
            _ => Err(classify(op, "merge-base", &out)),
        }
    }

    /// Whether this process may write there.
    pub(super) fn permission(&self) -> Permission {
        let writable = |sub: &str| access(self.common.join(sub), Access::WRITE_OK).is_ok();
        if writable("") && writable("objects") && writable("refs") { Permission::Admin } else { Permission::Read }
    }
}
