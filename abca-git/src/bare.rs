//! The brain's repository: [`Bare`].
//!
//! A bare repository that no tool of the agent can reach. What comes from the remote stands under `refs/heads/` and
//! `refs/tags/`; what comes from the hands only under `refs/abca/`. Its configuration is ours alone.

mod fresh;
mod history;
mod push;
mod served;
mod trailers;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use abca_core::git::{GitError, GitErrorKind, Remote};

use crate::program::{Call, Git};
use crate::refs::{check_branch, check_sha, is_sha};

pub use history::{BinaryFiles, Commit, DiffStat, FileStat};
pub use served::ServedRepo;
pub use trailers::Trailer;

/// Limits of what is taken over from the hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CloneLimits {
    /// Most bytes that one take-over from the hands may send; default 2 GiB.
    pub max_fetch_bytes: u64,
}

impl Default for CloneLimits {
    fn default() -> Self {
        Self { max_fetch_bytes: 2 << 30 }
    }
}

/// The brain's bare repository of one session.
#[derive(Debug, Clone)]
pub struct Bare {
    git: Git,
    dir: PathBuf,
    base_branch: String,
    limits: CloneLimits,
    /// Bytes taken over from the hands since the last push.
    taken: Arc<AtomicU64>,
}

/// What a remote answers about its refs.
struct Listing {
    head: Option<String>,
    head_sha: Option<String>,
    branches: Vec<String>,
}

impl Bare {
    /// Clones the base branch, whole history and the tags on it, into the new folder `dir`. `base_branch`: `None` takes the
    /// remote's default branch.
    ///
    /// A local source is read through its own upload-pack like any other: no hard links, no alternates, no hooks of the
    /// source. Nothing is checked out. LFS pointers stay pointers, submodules are not followed.
    ///
    /// # Errors
    /// `Invalid`: no commits yet; HEAD of the source is detached and no branch was named. `NotFound`: no such repository or
    /// branch. `Conflict`: `dir` exists and is not empty. `Access`, `Unavailable`, `Full`, `TimedOut` as git says.
    ///
    /// # Cancel safety
    /// Dropped, it leaves a folder that [`Bare::open`] refuses; remove it and repeat.
    pub async fn clone(git: &Git, remote: &Remote, dir: &Path, base_branch: Option<&str>) -> Result<Self, GitError> {
        const OP: &str = "clone";
        if let Some(branch) = base_branch {
            check_branch(OP, branch)?;
        }
        if dir.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
            let message = format!("`{}` exists and is not empty", dir.display());
            return Err(GitError::new(GitErrorKind::Conflict, OP, message));
        }
        let dir = &absolute(OP, dir)?;
        let base = match base_branch {
            Some(branch) => branch.to_owned(),
            None => choose_base(OP, remote, &list_remote(git, OP, remote).await?, None)?,
        };
        fresh::make_bare(OP, dir, &base)?;
        let bare = Self {
            git: git.clone(),
            dir: dir.to_owned(),
            base_branch: base,
            limits: CloneLimits::default(),
            taken: Arc::default(),
        };
        if let Err(error) = bare.fetch_branches(remote, &[&bare.base_branch]).await {
            // Only a clone that fails asks what there is: the answer says best what to do instead.
            fresh::remove(OP, dir)?;
            choose_base(OP, remote, &list_remote(git, OP, remote).await?, base_branch)?;
            return Err(error);
        }
        // Last, so that a clone that was cut short is not taken for a whole one.
        fresh::mark_whole(OP, dir, &bare.base_branch)?;
        Ok(bare)
    }

    /// Opens a repository that [`Bare::clone`] made.
    ///
    /// # Errors
    /// `NotFound` when there is none, or its clone did not end.
    pub async fn open(git: &Git, dir: &Path) -> Result<Self, GitError> {
        const OP: &str = "open";
        let dir = &absolute(OP, dir)?;
        let call = git.call(OP).git_dir(dir).read_only().args(["config", "--get", "abca.basebranch"]);
        let out = if dir.is_dir() { Some(call.run_any().await?) } else { None };
        match out {
            Some(out) if out.status == 0 => {
                let base_branch = String::from_utf8_lossy(&out.stdout).trim_end().to_owned();
                let limits = CloneLimits::default();
                Ok(Self { git: git.clone(), dir: dir.to_owned(), base_branch, limits, taken: Arc::default() })
            }
            _ => Err(GitError::new(
                GitErrorKind::NotFound,
                OP,
                format!("`{}` holds no whole clone: remove it and clone again", dir.display()),
            )),
        }
    }

    /// Other limits.
    #[must_use]
    pub fn with_limits(mut self, limits: CloneLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The branch that the work starts from and is proposed to; never pushed to.
    pub fn base_branch(&self) -> &str {
        &self.base_branch
    }

    /// The commit that the base branch had when it was fetched last.
    ///
    /// # Errors
    /// As [`Bare::resolve`].
    pub async fn base_sha(&self) -> Result<String, GitError> {
        // Nobody but us writes in this repository, and what was fetched stands in a file of its own.
        let file = self.dir.join("refs/heads").join(&self.base_branch);
        if let Ok(text) = tokio::fs::read_to_string(&file).await
            && let Some(sha) = text.strip_suffix('\n').filter(|sha| is_sha(sha))
        {
            return Ok(sha.to_owned());
        }
        self.resolve(&format!("refs/heads/{}", self.base_branch)).await
    }

    /// Fetches branches of the remote; they replace what was known of them.
    ///
    /// # Errors
    /// `NotFound` when the remote has no such branch.
    pub async fn fetch_branches(&self, remote: &Remote, branches: &[&str]) -> Result<(), GitError> {
        const OP: &str = "fetch";
        let mut specs = Vec::new();
        for branch in branches {
            check_branch(OP, branch)?;
            specs.push(format!("+refs/heads/{branch}:refs/heads/{branch}"));
        }
        self.fetch_specs(OP, remote, &specs).await
    }

    /// Fetches a hidden ref of the remote (`refs/abca/…`) under the same name. `None`: the remote has none.
    ///
    /// # Errors
    /// As git says.
    pub async fn fetch_ref(&self, remote: &Remote, name: &str) -> Result<Option<String>, GitError> {
        const OP: &str = "fetch_ref";
        crate::refs::check_ref(OP, name)?;
        match self.fetch_specs(OP, remote, &[format!("+{name}:{name}")]).await {
            Ok(()) => self.resolve(name).await.map(Some),
            Err(e) if e.kind() == GitErrorKind::NotFound && e.message().contains("remote ref") => Ok(None),
            Err(e) => Err(e),
        }
    }

    async fn fetch_specs(&self, op: &'static str, remote: &Remote, specs: &[String]) -> Result<(), GitError> {
        // Kept as it comes: no file for each object, which would be compressed anew.
        let call = transport(self.call(op), op, remote)?.config("fetch.unpackLimit=1");
        let call = call.args(["fetch", "--quiet", "--no-write-fetch-head", "--no-auto-maintenance"]);
        call.args(serving(remote, "upload-pack")).arg("--").arg(&remote.url).args(specs).run().await?;
        Ok(())
    }

    /// The commit that a revision names (a branch, a ref, an id, `x^`, …).
    ///
    /// # Errors
    /// `NotFound` when it names none here.
    pub async fn resolve(&self, rev: &str) -> Result<String, GitError> {
        let call = self.call("resolve").read_only().args(["rev-parse", "--verify", "--quiet", "--end-of-options"]);
        let out = call.arg(format!("{rev}^{{commit}}")).run_any().await?;
        let sha = String::from_utf8_lossy(&out.stdout).trim_end().to_owned();
        if out.status == 0 && is_sha(&sha) {
            return Ok(sha);
        }
        let shown: String = rev.chars().take(200).collect();
        let message = format!("`{}` names no commit in the session's repository", shown.escape_debug());
        Err(GitError::new(GitErrorKind::NotFound, "resolve", message))
    }

    /// Whether `old` is `new` or an ancestor of it.
    ///
    /// # Errors
    /// `NotFound` when one of them is not here.
    pub async fn is_ancestor(&self, old: &str, new: &str) -> Result<bool, GitError> {
        const OP: &str = "is_ancestor";
        check_sha(OP, old)?;
        check_sha(OP, new)?;
        let out = self.call(OP).read_only().args(["merge-base", "--is-ancestor", old, new]).run_any().await?;
        match out.status {
            0 => Ok(true),
            1 => Ok(false),
            _ => Err(crate::program::classify(OP, "merge-base", &out)),
        }
    }

    /// Sets a ref under `refs/abca/`, so that its commits are kept.
    ///
    /// # Errors
    /// `Invalid` for other refs.
    pub async fn set_ref(&self, name: &str, sha: &str) -> Result<(), GitError> {
        const OP: &str = "set_ref";
        own_ref(OP, name)?;
        check_sha(OP, sha)?;
        self.call(OP).args(["update-ref", name, sha]).run().await.map(drop)
    }

    /// A new commit with the tree of `tree_of` on top of `parent`, by the platform's identity. For work whose history was
    /// lost, e.g. when the agent removed its repository.
    ///
    /// # Errors
    /// `NotFound` when one of the two is not here.
    pub async fn regraft(&self, tree_of: &str, parent: &str, message: &str) -> Result<String, GitError> {
        const OP: &str = "regraft";
        check_sha(OP, tree_of)?;
        check_sha(OP, parent)?;
        let call = self.call(OP).args(["commit-tree", "-p", parent, "-F", "-"]).arg(format!("{tree_of}^{{tree}}"));
        identity(call).stdin(message.as_bytes()).text().await
    }

    fn call(&self, op: &'static str) -> Call<'_> {
        self.git.call(op).git_dir(&self.dir)
    }
}

/// The platform's name on what it commits.
pub(crate) const IDENTITY: (&str, &str) = ("bgagent", "bgagent@noreply.github.com");

pub(crate) fn identity(call: Call<'_>) -> Call<'_> {
    call.env("GIT_AUTHOR_NAME", IDENTITY.0)
        .env("GIT_AUTHOR_EMAIL", IDENTITY.1)
        .env("GIT_COMMITTER_NAME", IDENTITY.0)
        .env("GIT_COMMITTER_EMAIL", IDENTITY.1)
}

/// Git runs in other folders than this process.
pub(crate) fn absolute(op: &'static str, dir: &Path) -> Result<PathBuf, GitError> {
    std::path::absolute(dir).map_err(|e| {
        GitError::new(GitErrorKind::Invalid, op, format!("`{}` is not a path: {e}", dir.display())).with_source(e)
    })
}

/// Makes an empty repository without templates. Git finds out what the file system can.
pub(crate) async fn init(git: &Git, op: &'static str, dir: &Path, bare: bool, branch: &str) -> Result<(), GitError> {
    let mut call = git.call(op).args(["init", "--quiet", "--template="]).arg(format!("--initial-branch={branch}"));
    if bare {
        call = call.arg("--bare");
    }
    call.arg("--").arg(dir).run().await.map(drop)
}

fn own_ref(op: &'static str, name: &str) -> Result<(), GitError> {
    crate::refs::check_ref(op, name)?;
    if name.starts_with("refs/abca/") {
        return Ok(());
    }
    Err(GitError::new(GitErrorKind::Invalid, op, format!("`{name}` is not under `refs/abca/`")))
}

/// The option that names the guarded serving side, where it is a program on this machine.
fn serving(remote: &Remote, service: &str) -> Vec<String> {
    serving_with(remote, service, &[])
}

/// The same with settings more.
fn serving_with(remote: &Remote, service: &str, more: &[&str]) -> Vec<String> {
    let option = if service == "receive-pack" { "--receive-pack" } else { "--upload-pack" };
    match remote.url.starts_with('/') {
        true => vec![option.to_owned(), Git::serving(service, more)],
        false => Vec::new(),
    }
}

/// Allows the one transport that the address needs, and hands over the credential.
fn transport<'a>(call: Call<'a>, op: &'static str, remote: &Remote) -> Result<Call<'a>, GitError> {
    let url = remote.url.as_str();
    let refuse = |kind, what: String| Err(GitError::new(kind, op, what));
    if url.chars().any(char::is_control) {
        return refuse(GitErrorKind::Invalid, "the remote's address holds a control character".into());
    }
    if url.starts_with('/') {
        return Ok(call.allow("file"));
    }
    let Some((scheme, rest)) = url.split_once("://") else {
        return refuse(GitErrorKind::Invalid, "the remote is neither an absolute path nor an `https` address".into());
    };
    let authority = rest.split('/').next().unwrap_or_default();
    if authority.contains('@') {
        return refuse(GitErrorKind::Invalid, "the remote's address holds user information: use a credential".into());
    }
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    match scheme {
        "https" => {}
        "http" if matches!(host, "127.0.0.1" | "localhost" | "[::1]") => {}
        "http" => {
            return refuse(GitErrorKind::Invalid, format!("`{url}` is not encrypted: use `https`"));
        }
        other => return refuse(GitErrorKind::Unsupported, format!("`{other}` is no transport that is allowed here")),
    }
    call.allow(scheme).config("http.followRedirects=initial").credential(url, remote.credential.as_ref())
}

async fn list_remote(git: &Git, op: &'static str, remote: &Remote) -> Result<Listing, GitError> {
    let call = transport(git.call(op).read_only(), op, remote)?.args(["ls-remote", "--symref"]);
    let call = call.args(serving(remote, "upload-pack")).arg("--").arg(&remote.url).args(["HEAD", "refs/heads/*"]);
    let out = call.run().await?;
    let mut listing = Listing { head: None, head_sha: None, branches: Vec::new() };
    for line in String::from_utf8_lossy(&out.stdout).lines() {
        match line.split_once('\t') {
            Some((left, "HEAD")) => match left.strip_prefix("ref: ") {
                Some(target) => listing.head = target.strip_prefix("refs/heads/").map(str::to_owned),
                None => listing.head_sha = Some(left.to_owned()),
            },
            Some((_, name)) => listing.branches.extend(name.strip_prefix("refs/heads/").map(str::to_owned)),
            None => {}
        }
    }
    Ok(listing)
}

fn choose_base(op: &'static str, remote: &Remote, seen: &Listing, asked: Option<&str>) -> Result<String, GitError> {
    let url = &remote.url;
    let error = |kind, message: String| Err(GitError::new(kind, op, message));
    if seen.branches.is_empty() {
        let message = format!("`{url}` has no commits yet: make a first commit on its main branch, then submit again");
        return error(GitErrorKind::Invalid, message);
    }
    if let Some(asked) = asked {
        if seen.branches.iter().any(|b| b == asked) {
            return Ok(asked.to_owned());
        }
        let some = seen.branches.iter().take(5).map(|b| format!("`{b}`")).collect::<Vec<_>>().join(", ");
        return error(GitErrorKind::NotFound, format!("`{url}` has no branch `{asked}`; it has {some}"));
    }
    match (&seen.head, &seen.head_sha) {
        (Some(head), Some(_)) => Ok(head.clone()),
        (None, Some(sha)) => {
            let sha = sha.get(..12).unwrap_or(sha);
            let message = format!("HEAD of `{url}` is detached at {sha}: name the branch to start from");
            error(GitErrorKind::Invalid, message)
        }
        (_, None) => {
            let message = format!("HEAD of `{url}` points to a branch without commits: name the branch to start from");
            error(GitErrorKind::Invalid, message)
        }
    }
}
