//! Writing to the remote: branches under a lease, hidden refs by force, and never the base branch.

use std::sync::atomic::Ordering;

use abca_core::git::{GitError, GitErrorKind, Remote};

use super::{Bare, own_ref, serving, serving_with, transport};
use crate::program::classify;
use crate::refs::{check_branch, check_sha, is_sha};

/// A push of so much to a repository on this machine is not compressed there: that would take most of its time. The
/// repository's next `git gc` does it.
const LARGE_BYTES: u64 = 32 << 20;

impl Bare {
    /// Pushes a commit to a branch of the remote.
    ///
    /// `expect` is what the branch must be there: `None`, it does not exist; `Some`, the commit that we pushed before. The
    /// remote checks that in the same step. A branch that already is `sha` is a success.
    ///
    /// A local remote's own hooks are not run, and a branch that is checked out there is refused, whatever its
    /// configuration says (`receive.denyCurrentBranch=updateInstead` would change the user's work tree).
    ///
    /// # Errors
    /// `Invalid` for the base branch. `Conflict`: the branch holds other commits, or it is checked out there. `Access`: a
    /// hook or a rule of the forge refused it.
    pub async fn push(&self, remote: &Remote, branch: &str, sha: &str, expect: Option<&str>) -> Result<(), GitError> {
        const OP: &str = "push";
        check_branch(OP, branch)?;
        if branch == self.base_branch {
            let message = format!("`{branch}` is the base branch: work is proposed to it, never pushed");
            return Err(GitError::new(GitErrorKind::Invalid, OP, message));
        }
        if let Some(expect) = expect {
            check_sha(OP, expect)?;
        }
        let name = format!("refs/heads/{branch}");
        let lease = format!("--force-with-lease={name}:{}", expect.unwrap_or_default());
        self.send(OP, remote, Some(lease), &name, sha).await
    }

    /// Pushes a commit to a hidden ref (`refs/abca/…`), over whatever is there.
    ///
    /// # Errors
    /// `Invalid` for other refs; as [`Bare::push`].
    pub async fn push_wip(&self, remote: &Remote, name: &str, sha: &str) -> Result<(), GitError> {
        const OP: &str = "push_wip";
        own_ref(OP, name)?;
        self.send(OP, remote, Some("--force".to_owned()), name, sha).await
    }

    /// Removes a hidden ref (`refs/abca/…`) of the remote; one that is not there is a success.
    ///
    /// # Errors
    /// `Invalid` for other refs; as [`Bare::push`].
    pub async fn delete_ref(&self, remote: &Remote, name: &str) -> Result<(), GitError> {
        const OP: &str = "delete_ref";
        own_ref(OP, name)?;
        let call = transport(self.call(OP).read_only(), OP, remote)?.arg("ls-remote");
        let listed = call.args(serving(remote, "upload-pack")).arg("--").args([&remote.url, name]).run().await?;
        if listed.stdout.is_empty() {
            return Ok(());
        }
        self.update(OP, remote, None, &format!(":{name}")).await
    }

    async fn send(
        &self,
        op: &'static str,
        remote: &Remote,
        mode: Option<String>,
        name: &str,
        sha: &str,
    ) -> Result<(), GitError> {
        check_sha(op, sha)?;
        self.resolve(sha).await?;
        self.update(op, remote, mode, &format!("{sha}:{name}")).await
    }

    async fn update(
        &self,
        op: &'static str,
        remote: &Remote,
        mode: Option<String>,
        spec: &str,
    ) -> Result<(), GitError> {
        let call = transport(self.call(op), op, remote)?;
        let call = call.args(["push", "--quiet", "--porcelain", "--no-verify", "--no-signed", "--no-follow-tags"]);
        let large = self.taken.load(Ordering::Relaxed) >= LARGE_BYTES;
        let more: &[&str] = if large { &["core.looseCompression=0"] } else { &[] };
        let call = call.args(mode).args(serving_with(remote, "receive-pack", more));
        let mut out = call.arg("--").arg(&remote.url).arg(spec).run_any().await?;
        if out.status == 0 {
            self.taken.store(0, Ordering::Relaxed);
            return Ok(());
        }
        // The reason of a refusal stands on stdout: `! TAB from:to TAB [rejected] (reason)`.
        let said = String::from_utf8_lossy(&out.stdout);
        let reason = said.lines().find(|l| l.starts_with('!')).and_then(|l| l.split('\t').nth(2)).unwrap_or_default();
        let target = spec.rsplit(':').next().unwrap_or_default();
        let branch = target.strip_prefix("refs/heads/").unwrap_or(target);
        if reason.contains("stale info") || reason.contains("non-fast-forward") || reason.contains("fetch first") {
            let head = self.head_there(op, remote, target).await;
            let head = head.map_or(String::new(), |sha| format!(", its head is {sha}"));
            let message = format!(
                "the branch `{branch}` of the remote holds commits that this task did not push{head}: they are left as they \
                 are; rename or delete that branch (`git branch -m {branch} another-name`), then run the task again"
            );
            return Err(GitError::new(GitErrorKind::Conflict, op, message));
        }
        if let Some(there) = in_the_way(&out.stderr).or_else(|| in_the_way(reason)) {
            let message = format!(
                "the remote has a branch `{there}`, beside which git cannot make `{branch}`: rename or delete it (`git branch \
                 -m {there} another-name`), then run the task again"
            );
            return Err(GitError::new(GitErrorKind::Conflict, op, message));
        }
        if reason.contains("checked out") {
            let message = format!("`{target}` is checked out there: switch to another branch, then repeat");
            return Err(GitError::new(GitErrorKind::Conflict, op, message));
        }
        out.stderr = format!("{reason} {}", out.stderr).trim().to_owned();
        Err(classify(op, "push", &out))
    }

    /// The commit of a ref of the remote, for an error message.
    async fn head_there(&self, op: &'static str, remote: &Remote, name: &str) -> Option<String> {
        let call = transport(self.call(op).read_only(), op, remote).ok()?.arg("ls-remote");
        let listed = call.args(serving(remote, "upload-pack")).arg("--").args([&remote.url, name]).run().await.ok()?;
        let text = String::from_utf8_lossy(&listed.stdout);
        text.split('\t').next().filter(|sha| is_sha(sha)).map(str::to_owned)
    }
}

/// The branch that git names when a file of a ref and a folder of refs would have the same name: `cannot lock ref 'refs/heads/a/b':
/// 'refs/heads/a' exists; cannot create 'refs/heads/a/b'`.
fn in_the_way(said: &str) -> Option<&str> {
    let (before, _) = said.split_once("' exists; cannot create")?;
    before.rsplit('\'').next()?.strip_prefix("refs/heads/")
}
