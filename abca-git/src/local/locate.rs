//! From a name to a repository on disk, with errors that say what to do.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use abca_core::git::{GitError, GitErrorKind, Permission, RepoRef};
use rustix::fs::{Access, access};

use super::LocalForge;
use crate::program::{Call, Git, classify};
use crate::refs::{check_branch, is_sha};

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
        if let Some(git_dir) = plain(&real) {
            return Ok(Place { git, path: real, common: git_dir.clone(), git_dir });
        }
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

/// The git folder of an ordinary repository, bare or with a work tree, seen by its files as git itself sees it. `None`: ask
/// git, which knows linked work trees, submodules and what is wrong with the rest.
fn plain(real: &Path) -> Option<PathBuf> {
    let dot_git = real.join(".git");
    let git_dir = match std::fs::symlink_metadata(&dot_git) {
        Ok(found) if found.is_dir() => dot_git,
        Ok(_) => return None,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => real.to_owned(),
        Err(_) => return None,
    };
    let is_dir = |name: &str| git_dir.join(name).is_dir();
    let head = std::fs::read_to_string(git_dir.join("HEAD")).ok()?;
    let known_head = head.starts_with("ref: refs/") || is_sha(head.trim_end());
    let whole = known_head && is_dir("objects") && is_dir("refs") && !git_dir.join("commondir").exists();
    let config = std::fs::read_to_string(git_dir.join("config")).ok()?.to_ascii_lowercase();
    // Other formats, and a work tree elsewhere, are git's to judge.
    let ordinary = !config.contains("[extensions") && !config.contains("worktree") && !config.contains("[include");
    let first = config.contains("repositoryformatversion = 0");
    (whole && ordinary && first).then_some(git_dir)
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
        let call = self.git.call(op).git_dir(&self.git_dir).read_only();
        let out = call.args(["for-each-ref", "--format=%(HEAD) %(refname)", "refs/heads/"]).run().await?;
        let text = String::from_utf8_lossy(&out.stdout);
        let head = text.lines().find_map(|line| line.strip_prefix("* refs/heads/"));
        Ok((head.map(str::to_owned), text.is_empty()))
    }

    /// The commit of a branch.
    pub(super) async fn branch(&self, op: &'static str, name: &str) -> Result<Option<String>, GitError> {
        let call = self.call(op).read_only().args(["rev-parse", "--verify", "--quiet", "--end-of-options"]);
        let out = call.arg(format!("refs/heads/{name}^{{commit}}")).run_any().await?;
        let sha = String::from_utf8_lossy(&out.stdout).trim_end().to_owned();
        Ok((out.status == 0 && is_sha(&sha)).then_some(sha))
    }

    /// Those of these branches that exist, with their commits: one call of git for all.
    pub(super) async fn branches_named(
        &self,
        op: &'static str,
        names: &[String],
    ) -> Result<BTreeMap<String, String>, GitError> {
        let names: Vec<&String> = names.iter().filter(|name| check_branch(op, name).is_ok()).collect();
        if names.is_empty() {
            return Ok(BTreeMap::new());
        }
        let asked: String = names.iter().map(|name| format!("refs/heads/{name}^{{commit}}\n")).collect();
        let out =
            self.call(op).read_only().args(["cat-file", "--batch-check=%(objectname)"]).stdin(asked).run().await?;
        let text = String::from_utf8_lossy(&out.stdout);
        // One line for each, in order: an id, or `… missing`.
        let both = names.into_iter().zip(text.lines()).filter(|(_, sha)| is_sha(sha));
        Ok(both.map(|(name, sha)| (name.clone(), sha.to_owned())).collect())
    }

    /// All branches with their commits.
    pub(super) async fn branches(&self, op: &'static str) -> Result<BTreeMap<String, String>, GitError> {
        self.first_branches(op, 0).await
    }

    /// So many branches with their commits, first by name; 0 for all.
    pub(super) async fn first_branches(
        &self,
        op: &'static str,
        count: usize,
    ) -> Result<BTreeMap<String, String>, GitError> {
        let call = self.call(op).read_only().args(["for-each-ref", "--format=%(objectname) %(refname)"]);
        let out = call.arg(format!("--count={count}")).arg("refs/heads/").run().await?;
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
