//! Merging without a work tree.

use std::path::PathBuf;

use abca_core::git::{GitError, GitErrorKind, MergePullRequest, PullRequest, PullRequestState};

use super::LocalForge;
use super::locate::Place;
use super::provider::{blocking, live};
use super::records::Records;
use crate::bare::init;
use crate::program::{Call, classify};

const OP: &str = "merge";

impl LocalForge {
    pub(super) async fn merge_now(&self, request: &MergePullRequest) -> Result<PullRequest, GitError> {
        let place = self.locate(OP, &request.repo).await?;
        let records = Records::new(OP, &place.common);
        let conflict = |message: String| Err(GitError::new(GitErrorKind::Conflict, OP, message));
        // Before the lock, so that asking about a pull request that is not there writes nothing.
        let (number, reader) = (request.number, records.clone());
        blocking(OP, move || reader.check_format().and_then(|()| reader.pull(number))).await?;
        let locker = records.clone();
        let lock = blocking(OP, move || locker.lock()).await?;
        // While the lock is held, files are read and written here and not by the pool for blocking work: that may be full
        // of calls that wait for the lock.
        let mut pull = records.pull(number)?;
        match pull.state {
            PullRequestState::Merged => return Ok(pull),
            PullRequestState::Closed => {
                return conflict(format!("pull request {number} is closed: open it again first"));
            }
            PullRequestState::Open => {}
        }
        live(&mut pull, &place.branches(OP).await?);
        if pull.head_sha != request.expect_head_sha {
            return conflict(format!("the head of pull request {number} is {} by now", pull.head_sha));
        }
        let name = format!("refs/heads/{}", pull.base);
        let Some(base) = place.branch(OP, &pull.base).await? else {
            return conflict(format!("the base branch `{}` is gone", pull.base));
        };
        // True also after a merge whose record was not written, because the process died just then.
        if !place.is_ancestor(OP, &pull.head_sha, &base).await? {
            if let Some(tree) = place.checked_out(&name).await? {
                let advice = "switch it to another branch or merge there by hand";
                return conflict(format!("`{}` is checked out in `{}`: {advice}", pull.base, tree.display()));
            }
            let message = format!("Merge pull request #{number} from {}\n\n{}\n", pull.head, pull.title);
            let commit = self.merge_commit(&place, &base, &pull, &message).await?;
            let log = format!("abca: merge pull request {number}");
            place.call(OP).args(["update-ref", "-m", &log, &name, &commit, &base]).run().await?;
        }
        pull.state = PullRequestState::Merged;
        pull.updated_at = self.config.clock.now();
        records.put(&lock, "pulls", &number.to_string(), &pull)?;
        Ok(pull)
    }

    /// The merge, as a commit that no ref names yet. Done in an empty repository that borrows only the objects, so that
    /// merge drivers and filters that the repository configures do not run.
    async fn merge_commit(
        &self,
        place: &Place,
        base: &str,
        pull: &PullRequest,
        message: &str,
    ) -> Result<String, GitError> {
        let format = place.call(OP).read_only().args(["rev-parse", "--show-object-format"]).text().await?;
        let scratch = place.common.join("abca").join("merge.git");
        remove(&scratch)?;
        let git = place.git.clone().with_env("GIT_DEFAULT_HASH", &format);
        init(&git, OP, &scratch, true, "main").await?;
        let objects = place.common.join("objects");
        let call = || -> Call<'_> { git.call(OP).git_dir(&scratch).env("GIT_OBJECT_DIRECTORY", &objects) };
        let made = async {
            let out = call().args(["merge-tree", "--write-tree", "-z", base, &pull.head_sha]).run_any().await?;
            let tree = match out.status {
                0 => String::from_utf8_lossy(&out.stdout).trim_end_matches(['\0', '\n']).to_owned(),
                1 => {
                    let files = conflicts(&out.stdout);
                    let message = format!("`{}` and `{}` both changed {files}", pull.head, pull.base);
                    return Err(GitError::new(GitErrorKind::Conflict, OP, message));
                }
                _ => return Err(classify(OP, "merge-tree", &out)),
            };
            let email = format!("{}@localhost", self.config.author);
            let commit = call().args(["commit-tree", &tree, "-p", base, "-p", &pull.head_sha, "-F", "-"]);
            let commit = commit.env("GIT_AUTHOR_NAME", &self.config.author).env("GIT_AUTHOR_EMAIL", &email);
            let commit = commit.env("GIT_COMMITTER_NAME", &self.config.author).env("GIT_COMMITTER_EMAIL", &email);
            let date = format!("@{} +0000", self.config.clock.now().as_millis().div_euclid(1000));
            let commit = commit.env("GIT_AUTHOR_DATE", &date).env("GIT_COMMITTER_DATE", &date);
            commit.stdin(message.as_bytes()).text().await
        };
        let made = made.await;
        remove(&scratch)?;
        made
    }
}

impl Place {
    /// The work tree that has the branch checked out.
    async fn checked_out(&self, name: &str) -> Result<Option<PathBuf>, GitError> {
        use std::os::unix::ffi::OsStrExt;
        let out = self.call(OP).read_only().args(["worktree", "list", "--porcelain", "-z"]).run().await?;
        let want = format!("branch {name}").into_bytes();
        let mut tree: Option<&[u8]> = None;
        for line in out.stdout.split(|b| *b == 0) {
            if let Some(path) = line.strip_prefix(b"worktree ") {
                tree = Some(path);
            } else if line == want.as_slice() {
                return Ok(tree.map(|path| PathBuf::from(std::ffi::OsStr::from_bytes(path))));
            }
        }
        Ok(None)
    }
}

fn remove(dir: &std::path::Path) -> Result<(), GitError> {
    match std::fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            let message = format!("cannot remove `{}`: {e}", dir.display());
            Err(GitError::new(GitErrorKind::Unavailable, OP, message).with_source(e))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The first files of merge-tree's answer: `tree NUL (mode SP id SP stage TAB path NUL)… NUL messages`.
fn conflicts(stdout: &[u8]) -> String {
    let mut paths: Vec<String> = Vec::new();
    for record in stdout.split(|b| *b == 0).skip(1).take_while(|r| !r.is_empty()) {
        let path = record.splitn(2, |b| *b == b'\t').nth(1).unwrap_or_default();
        let shown = format!("`{}`", String::from_utf8_lossy(path).escape_debug());
        if paths.last() != Some(&shown) {
            paths.push(shown);
        }
    }
    let more = paths.len().saturating_sub(5);
    paths.truncate(5);
    let listed = paths.join(", ");
    if more == 0 { listed } else { format!("{listed} and {more} more files") }
}
