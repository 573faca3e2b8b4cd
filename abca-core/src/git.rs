//! Repositories and forges: [`RepoRef`] and the trait [`GitProvider`].

use std::fmt;
use std::str::FromStr;

use async_trait::async_trait;
use secrecy::SecretString;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::adapter_error;
use crate::time::Timestamp;

adapter_error! {
    /// Why a forge or a git operation failed.
    GitError,
    /// Classes of git and forge errors.
    GitErrorKind {
        /// No such repository, or no right to see it.
        NotFound = "not found or no access", false;
        /// The credential is missing, wrong or too weak.
        Access = "access denied", false;
        /// It is there already, with other content.
        Conflict = "conflict", false;
        /// The request is not acceptable as it is.
        Invalid = "invalid", false;
        /// Too many requests; repeat later.
        Throttled = "throttled", true;
        /// Not reachable for now.
        Unavailable = "unavailable", true;
        /// No space left on the device.
        Full = "no space left", true;
        /// It did not end in time.
        TimedOut = "timed out", true;
        /// The repository is damaged, or holds what cannot be handled.
        Corrupt = "corrupt", false;
        /// This forge cannot do that.
        Unsupported = "unsupported", false;
    }
}

/// Names a repository: `owner/name` on a forge, or an absolute path on this machine.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RepoRef {
    /// On a forge: both parts of `[A-Za-z0-9._-]`, neither only dots.
    Hosted {
        /// Before the slash.
        owner: String,
        /// After it.
        name: String,
    },
    /// On this machine: an absolute path.
    Local(String),
}

/// Text names no repository.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a repository: write `owner/name`, or the absolute path of a local git repository")]
pub struct InvalidRepo(String);

impl FromStr for RepoRef {
    type Err = InvalidRepo;

    fn from_str(s: &str) -> Result<Self, InvalidRepo> {
        let bad = || InvalidRepo(s.chars().take(200).collect());
        if s.starts_with('/') {
            return if s.contains('\0') { Err(bad()) } else { Ok(Self::Local(s.to_owned())) };
        }
        let part = |p: &str| {
            !p.is_empty()
                && p.len() <= 100
                && p.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
                && p.bytes().any(|b| b != b'.')
        };
        match s.split_once('/') {
            Some((owner, name)) if part(owner) && part(name) => {
                Ok(Self::Hosted { owner: owner.to_owned(), name: name.to_owned() })
            }
            _ => Err(bad()),
        }
    }
}

impl fmt::Display for RepoRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hosted { owner, name } => write!(f, "{owner}/{name}"),
            Self::Local(path) => f.write_str(path),
        }
    }
}

impl fmt::Debug for RepoRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for RepoRef {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RepoRef {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What a forge can do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GitCapabilities {
    /// Issues.
    pub issues: bool,
    /// Reviews of pull requests.
    pub reviews: bool,
    /// Checks on commits.
    pub checks: bool,
    /// Can merge a pull request.
    pub merge: bool,
}

impl GitCapabilities {
    /// Pull requests and comments only.
    pub const fn minimal() -> Self {
        Self { issues: false, reviews: false, checks: false, merge: false }
    }

    /// Everything.
    pub const fn all() -> Self {
        Self { issues: true, reviews: true, checks: true, merge: true }
    }
}

/// What the platform's credential may do in a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Permission {
    /// Read.
    Read,
    /// Comment and label.
    Triage,
    /// Push.
    Write,
    /// Everything.
    Admin,
}

/// A repository as its forge knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repository {
    /// Which.
    pub repo: RepoRef,
    /// The branch that pull requests go to by default. `None`: no commit yet, or HEAD is detached and no branch is known.
    pub default_branch: Option<String>,
    /// What the platform may do.
    pub permission: Permission,
    /// There is no commit yet.
    pub empty: bool,
}

/// Asks for branches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListBranches {
    /// Where.
    pub repo: RepoRef,
    /// Only these, by their full names without `refs/heads/`; empty for all. One that does not exist, or that no branch
    /// can be named, is left out of the answer.
    pub names: Vec<String>,
    /// At most so many.
    pub limit: usize,
}

/// A branch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Branch {
    /// Its name, without `refs/heads/`.
    pub name: String,
    /// The commit at its head.
    pub sha: String,
}

/// Where the git program fetches from and pushes to.
#[derive(Debug, Clone)]
pub struct Remote {
    /// A path or an `https` address without user information.
    pub url: String,
    /// The credential, handed to git through a helper; never in the address, argv or environment of the hands.
    pub credential: Option<Credential>,
}

/// A user name and a secret for one remote.
#[derive(Debug, Clone)]
pub struct Credential {
    /// E.g. `x-access-token`.
    pub username: String,
    /// The token.
    pub password: SecretString,
}

/// State of a pull request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PullRequestState {
    /// Open.
    Open,
    /// Closed without a merge.
    Closed,
    /// Merged.
    Merged,
}

/// A pull request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullRequest {
    /// Its number in the repository; issues share the numbers.
    pub number: u64,
    /// Where to see it.
    pub url: String,
    /// Its state.
    pub state: PullRequestState,
    /// Its title.
    pub title: String,
    /// Its body, Markdown.
    pub body: String,
    /// The proposed branch.
    pub head: String,
    /// The commit at the head, when it was last looked at.
    pub head_sha: String,
    /// The branch it goes to.
    pub base: String,
    /// Who opened it.
    pub author: String,
    /// When it was opened.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// Opens a pull request, or finds the open one of the same head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenPullRequest {
    /// Where.
    pub repo: RepoRef,
    /// The pushed branch.
    pub head: String,
    /// The branch it goes to.
    pub base: String,
    /// One line, at most 256 characters.
    pub title: String,
    /// Markdown, at most 65 536 characters.
    pub body: String,
}

/// Changes a pull request; `None` leaves a part as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdatePullRequest {
    /// Where.
    pub repo: RepoRef,
    /// Which.
    pub number: u64,
    /// New title.
    pub title: Option<String>,
    /// New body.
    pub body: Option<String>,
    /// New base.
    pub base: Option<String>,
    /// Closed or open again. `Merged` is refused: use [`GitProvider::merge`].
    pub state: Option<PullRequestState>,
}

/// Names a repository's numbered thing: an issue or a pull request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbered {
    /// Where.
    pub repo: RepoRef,
    /// Which.
    pub number: u64,
}

/// Asks for pull requests, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListPullRequests {
    /// Where.
    pub repo: RepoRef,
    /// Only of this head branch.
    pub head: Option<String>,
    /// Only in this state.
    pub state: Option<PullRequestState>,
    /// At most so many.
    pub limit: usize,
}

/// Merges a pull request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergePullRequest {
    /// Where.
    pub repo: RepoRef,
    /// Which.
    pub number: u64,
    /// Refuse with `Conflict` unless the head is still this commit.
    pub expect_head_sha: String,
}

/// An issue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issue {
    /// Its number in the repository.
    pub number: u64,
    /// Where to see it.
    pub url: String,
    /// Its title.
    pub title: String,
    /// Its body, Markdown, as its author wrote it: not to be trusted.
    pub body: String,
    /// Whether it is open.
    pub open: bool,
    /// Who opened it.
    pub author: String,
    /// When.
    pub created_at: Timestamp,
}

/// Opens an issue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewIssue {
    /// Where.
    pub repo: RepoRef,
    /// Its title.
    pub title: String,
    /// Its body.
    pub body: String,
    /// The same key twice is one issue.
    pub key: String,
}

/// A comment on an issue or a pull request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comment {
    /// Its id in the repository.
    pub id: u64,
    /// What it is on.
    pub number: u64,
    /// Markdown, as its author wrote it: not to be trusted.
    pub body: String,
    /// Who wrote it.
    pub author: String,
    /// When.
    pub created_at: Timestamp,
}

/// Writes a comment; the same key again rewrites it instead of adding another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewComment {
    /// Where.
    pub repo: RepoRef,
    /// On what.
    pub number: u64,
    /// Markdown.
    pub body: String,
    /// A marker that the forge keeps with the comment, e.g. hidden in the body.
    pub key: String,
}

/// What a review says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReviewEvent {
    /// Findings, no judgement.
    Comment,
    /// Approves.
    Approve,
    /// Wants changes.
    RequestChanges,
}

/// A finding at a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReviewComment {
    /// The file, from the repository's root.
    pub path: String,
    /// The line in the new version.
    pub line: u64,
    /// The first line, when it spans several.
    pub start_line: Option<u64>,
    /// Markdown.
    pub body: String,
}

/// A review of a pull request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Review {
    /// Its id in the repository.
    pub id: u64,
    /// The pull request.
    pub number: u64,
    /// What it says.
    pub event: ReviewEvent,
    /// Its text.
    pub body: String,
    /// Its findings.
    pub comments: Vec<ReviewComment>,
    /// The commit it is on.
    pub commit_sha: String,
    /// Who wrote it.
    pub author: String,
    /// When.
    pub created_at: Timestamp,
}

/// Writes a review in one piece; the same key twice is one review.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewReview {
    /// Where.
    pub repo: RepoRef,
    /// On which pull request.
    pub number: u64,
    /// What it says.
    pub event: ReviewEvent,
    /// Its text.
    pub body: String,
    /// Its findings.
    pub comments: Vec<ReviewComment>,
    /// The commit that was reviewed.
    pub commit_sha: String,
    /// De-duplicates.
    pub key: String,
}

/// How a check stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckState {
    /// Not ended.
    Pending,
    /// Good.
    Success,
    /// Bad.
    Failure,
    /// Neither.
    Neutral,
}

/// A check on a commit; one per name and commit, the last one counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// The commit.
    pub sha: String,
    /// Its name.
    pub name: String,
    /// How it stands.
    pub state: CheckState,
    /// For people.
    pub summary: String,
}

/// Sets a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetCheck {
    /// Where.
    pub repo: RepoRef,
    /// The check.
    pub check: Check,
}

/// A forge: repositories, pull requests, comments, reviews, checks, issues.
///
/// # Contract
/// * What it does to the world is idempotent: `open_pull_request` per open head branch, the rest per key. A repeat
///   answers what is there.
/// * Texts that others wrote are answered as they are; whoever shows them to a model sanitises them.
/// * Credentials appear only in [`Remote::credential`].
/// * What a forge cannot do answers [`GitErrorKind::Unsupported`], as its capabilities say.
/// * **Cancel safety.** Dropping a future leaves the call done or not done.
#[async_trait]
pub trait GitProvider: fmt::Debug + Send + Sync + 'static {
    /// Short lower-case name for logs, e.g. `local`.
    fn name(&self) -> &'static str;

    /// What it can do.
    fn capabilities(&self) -> GitCapabilities;

    /// Looks at a repository.
    async fn repository(&self, repo: &RepoRef) -> Result<Repository, GitError>;

    /// Lists branches, in the byte order of their names. A repository without commits has none.
    async fn branches(&self, query: &ListBranches) -> Result<Vec<Branch>, GitError>;

    /// Where to fetch from and push to, with a credential that is good for at least ten minutes.
    async fn remote(&self, repo: &RepoRef) -> Result<Remote, GitError>;

    /// Opens a pull request, or finds the open one of the same head; then title and body stay as they are.
    async fn open_pull_request(&self, request: &OpenPullRequest) -> Result<PullRequest, GitError>;

    /// Reads a pull request, with the head as it is now.
    async fn pull_request(&self, which: &Numbered) -> Result<PullRequest, GitError>;

    /// Lists pull requests, newest first.
    async fn pull_requests(&self, query: &ListPullRequests) -> Result<Vec<PullRequest>, GitError>;

    /// Changes a pull request.
    async fn update_pull_request(&self, request: &UpdatePullRequest) -> Result<PullRequest, GitError>;

    /// Merges a pull request. Requires `capabilities().merge`. A merged one is answered as it is.
    async fn merge(&self, request: &MergePullRequest) -> Result<PullRequest, GitError>;

    /// Reads an issue. Requires `capabilities().issues`.
    async fn issue(&self, which: &Numbered) -> Result<Issue, GitError>;

    /// Opens an issue. Requires `capabilities().issues`.
    async fn open_issue(&self, request: &NewIssue) -> Result<Issue, GitError>;

    /// Reads comments of an issue or pull request, oldest first.
    async fn comments(&self, which: &Numbered) -> Result<Vec<Comment>, GitError>;

    /// Writes a comment.
    async fn comment(&self, request: &NewComment) -> Result<Comment, GitError>;

    /// Reads reviews, oldest first. Requires `capabilities().reviews`.
    async fn reviews(&self, which: &Numbered) -> Result<Vec<Review>, GitError>;

    /// Writes a review. Requires `capabilities().reviews`.
    async fn review(&self, request: &NewReview) -> Result<Review, GitError>;

    /// Reads the checks of a commit, by name. Requires `capabilities().checks`.
    async fn checks(&self, repo: &RepoRef, sha: &str) -> Result<Vec<Check>, GitError>;

    /// Sets a check. Requires `capabilities().checks`.
    async fn set_check(&self, request: &SetCheck) -> Result<(), GitError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_named_by_owner_and_name_or_by_path() {
        for good in ["acme/web.app", "a/b", "/srv/repo", "/srv/with space"] {
            assert_eq!(good.parse::<RepoRef>().unwrap().to_string(), good);
        }
        for bad in ["", "acme", "acme/", "/\0", "a/b/c", "../x", "a/..", "a b/c", "https://x/y"] {
            assert!(bad.parse::<RepoRef>().is_err(), "{bad}");
        }
    }
}
