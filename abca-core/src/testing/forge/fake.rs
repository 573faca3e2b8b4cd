//! A forge in memory.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use sha2::{Digest, Sha256};

use crate::git::{
    Branch, Check, Comment, GitCapabilities, GitError, GitErrorKind, GitProvider, Issue, ListBranches,
    ListPullRequests, MergePullRequest, NewComment, NewIssue, NewReview, Numbered, OpenPullRequest, Permission,
    PullRequest, PullRequestState, Remote, RepoRef, Repository, Review, SetCheck, UpdatePullRequest,
};
use crate::time::Clock;

/// A whole forge in memory, with a model of commits that is good enough to propose, move and merge branches.
///
/// It has no remote that git could talk to: [`GitProvider::remote`] answers an address under `.invalid`. Faults are
/// injected with [`FakeForge::fail_next`].
#[derive(Debug)]
pub struct FakeForge {
    clock: Arc<dyn Clock>,
    capabilities: GitCapabilities,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    repos: BTreeMap<RepoRef, Repo>,
    faults: VecDeque<GitErrorKind>,
}

#[derive(Debug, Default)]
struct Repo {
    commits: BTreeMap<String, Commit>,
    branches: BTreeMap<String, String>,
    pulls: BTreeMap<u64, PullRequest>,
    issues: BTreeMap<u64, (String, Issue)>,
    comments: BTreeMap<u64, (String, Comment)>,
    reviews: BTreeMap<u64, (String, Review)>,
    checks: BTreeMap<(String, String), Check>,
    last_number: u64,
    last_id: u64,
}

#[derive(Debug, Clone)]
struct Commit {
    parents: Vec<String>,
    files: BTreeMap<String, String>,
}

const AUTHOR: &str = "fake";

impl FakeForge {
    /// An empty forge that can do everything.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, capabilities: GitCapabilities::all(), state: Mutex::default() }
    }

    /// The same with other capabilities.
    #[must_use]
    pub fn with_capabilities(mut self, capabilities: GitCapabilities) -> Self {
        self.capabilities = capabilities;
        self
    }

    /// Makes an empty repository; one that exists stays as it is.
    pub fn create(&self, repo: &RepoRef) {
        self.lock().repos.entry(repo.clone()).or_default();
    }

    /// Adds a commit that writes one file to a branch of a repository, which is made if need be. A new branch starts at
    /// `main`. Answers the commit's id.
    pub fn commit(&self, repo: &RepoRef, branch: &str, path: &str, text: &str) -> String {
        let mut state = self.lock();
        let repo = state.repos.entry(repo.clone()).or_default();
        let parent = repo.branches.get(branch).or_else(|| repo.branches.get("main")).cloned();
        let mut files = parent.as_ref().map(|p| repo.commits[p].files.clone()).unwrap_or_default();
        files.insert(path.to_owned(), text.to_owned());
        let sha = repo.add(Commit { parents: parent.into_iter().collect(), files });
        repo.branches.insert(branch.to_owned(), sha.clone());
        sha
    }

    /// The next call fails so, before it does anything. Faults queue up.
    pub fn fail_next(&self, kind: GitErrorKind) {
        self.lock().faults.push_back(kind);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(
        &self,
        op: &'static str,
        repo: &RepoRef,
        offered: bool,
        act: impl FnOnce(&mut Repo) -> Result<T, GitError>,
    ) -> Result<T, GitError> {
        let mut state = self.lock();
        if let Some(kind) = state.faults.pop_front() {
            return Err(GitError::new(kind, op, "injected by the test"));
        }
        if !offered {
            return Err(GitError::new(GitErrorKind::Unsupported, op, "not among this forge's capabilities"));
        }
        match state.repos.get_mut(repo) {
            Some(repo) => act(repo),
            None => Err(GitError::new(GitErrorKind::NotFound, op, format!("no repository `{repo}`"))),
        }
    }
}

impl Repo {
    fn add(&mut self, commit: Commit) -> String {
        let mut hash = Sha256::new();
        hash.update(format!("{} {commit:?}", self.commits.len()));
        let mut sha = String::new();
        for byte in hash.finalize().iter().take(20) {
            let _ = write!(sha, "{byte:02x}");
        }
        self.commits.insert(sha.clone(), commit);
        sha
    }

    fn ancestors(&self, sha: &str) -> BTreeSet<String> {
        let mut seen = BTreeSet::new();
        let mut todo = vec![sha.to_owned()];
        while let Some(next) = todo.pop() {
            if seen.insert(next.clone()) {
                todo.extend(self.commits[&next].parents.iter().cloned());
            }
        }
        seen
    }

    fn branch(&self, op: &'static str, name: &str) -> Result<String, GitError> {
        let missing = || GitError::new(GitErrorKind::Invalid, op, format!("no branch `{name}`"));
        self.branches.get(name).cloned().ok_or_else(missing)
    }

    fn pull(&mut self, op: &'static str, number: u64) -> Result<&mut PullRequest, GitError> {
        let missing = || GitError::new(GitErrorKind::NotFound, op, format!("no pull request {number}"));
        self.pulls.get_mut(&number).ok_or_else(missing)
    }

    fn numbered(&self, op: &'static str, number: u64) -> Result<(), GitError> {
        if self.pulls.contains_key(&number) || self.issues.contains_key(&number) {
            return Ok(());
        }
        Err(GitError::new(GitErrorKind::NotFound, op, format!("no issue or pull request {number}")))
    }

    fn open_of(&self, head: &str) -> Option<&PullRequest> {
        self.pulls.values().find(|p| p.head == head && p.state == PullRequestState::Open)
    }

    fn live(&self, pull: &PullRequest) -> PullRequest {
        let mut pull = pull.clone();
        if pull.state == PullRequestState::Open
            && let Some(sha) = self.branches.get(&pull.head)
        {
            pull.head_sha.clone_from(sha);
        }
        pull
    }

    /// Three-way, file by file.
    fn merged(&self, base: &str, head: &str) -> Option<BTreeMap<String, String>> {
        let theirs = self.ancestors(head);
        // Commits are added after their parents, but are keyed by hash: the fork is the shared one with most ancestors.
        let shared = self.ancestors(base).into_iter().filter(|s| theirs.contains(s));
        let fork = shared.max_by_key(|s| self.ancestors(s).len());
        let files = |sha: &str| self.commits[sha].files.clone();
        let (ours, theirs) = (files(base), files(head));
        let before = fork.map(|f| files(&f)).unwrap_or_default();
        let mut out = ours.clone();
        for (path, text) in theirs {
            let old = before.get(&path);
            match (ours.get(&path) == old, old == Some(&text)) {
                (_, true) => {}
                (true, false) => drop(out.insert(path, text)),
                (false, false) if ours.get(&path) == Some(&text) => {}
                (false, false) => return None,
            }
        }
        Some(out)
    }
}

fn check_title(op: &'static str, title: &str) -> Result<(), GitError> {
    if title.trim().is_empty() || title.chars().count() > 256 || title.contains(['\n', '\r']) {
        return Err(GitError::new(GitErrorKind::Invalid, op, "a title is one line of 1 to 256 characters"));
    }
    Ok(())
}

fn check_body(op: &'static str, body: &str) -> Result<(), GitError> {
    if body.chars().count() > 65_536 {
        return Err(GitError::new(GitErrorKind::Invalid, op, "a body has at most 65536 characters"));
    }
    Ok(())
}

#[async_trait]
impl GitProvider for FakeForge {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn capabilities(&self) -> GitCapabilities {
        self.capabilities.clone()
    }

    async fn repository(&self, repo: &RepoRef) -> Result<Repository, GitError> {
        self.with("repository", repo, true, |r| {
            let default_branch = r.branches.contains_key("main").then(|| "main".to_owned());
            let empty = r.branches.is_empty();
            Ok(Repository { repo: repo.clone(), default_branch, permission: Permission::Admin, empty })
        })
    }

    async fn branches(&self, query: &ListBranches) -> Result<Vec<Branch>, GitError> {
        self.with("branches", &query.repo, true, |r| {
            let asked = |name: &str| query.names.is_empty() || query.names.iter().any(|n| n == name);
            let found = r.branches.iter().filter(|(name, _)| asked(name)).take(query.limit);
            Ok(found.map(|(name, sha)| Branch { name: name.clone(), sha: sha.clone() }).collect())
        })
    }

    async fn remote(&self, repo: &RepoRef) -> Result<Remote, GitError> {
        let url = format!("https://fake.invalid/{}", repo.to_string().trim_start_matches('/'));
        self.with("remote", repo, true, |_| Ok(Remote { url, credential: None }))
    }

    async fn open_pull_request(&self, request: &OpenPullRequest) -> Result<PullRequest, GitError> {
        const OP: &str = "open_pull_request";
        let now = self.clock.now();
        self.with(OP, &request.repo, true, |repo| {
            check_title(OP, &request.title)?;
            check_body(OP, &request.body)?;
            if let Some(open) = repo.open_of(&request.head) {
                return Ok(repo.live(open));
            }
            let (head_sha, base_sha) = (repo.branch(OP, &request.head)?, repo.branch(OP, &request.base)?);
            if repo.ancestors(&base_sha).contains(&head_sha) {
                let message = format!("`{}` has no commits that `{}` has not", request.head, request.base);
                return Err(GitError::new(GitErrorKind::Invalid, OP, message));
            }
            repo.last_number += 1;
            let number = repo.last_number;
            let pull = PullRequest {
                number,
                url: format!("https://fake.invalid/{}/pull/{number}", request.repo),
                state: PullRequestState::Open,
                title: request.title.clone(),
                body: request.body.clone(),
                head: request.head.clone(),
                head_sha,
                base: request.base.clone(),
                author: AUTHOR.to_owned(),
                created_at: now,
                updated_at: now,
            };
            repo.pulls.insert(number, pull.clone());
            Ok(pull)
        })
    }

    async fn pull_request(&self, which: &Numbered) -> Result<PullRequest, GitError> {
        const OP: &str = "pull_request";
        self.with(OP, &which.repo, true, |repo| {
            let pull = repo.pull(OP, which.number)?.clone();
            Ok(repo.live(&pull))
        })
    }

    async fn pull_requests(&self, query: &ListPullRequests) -> Result<Vec<PullRequest>, GitError> {
        self.with("pull_requests", &query.repo, true, |repo| {
            let fits = |p: &&PullRequest| {
                query.head.as_ref().is_none_or(|h| *h == p.head) && query.state.is_none_or(|s| s == p.state)
            };
            Ok(repo.pulls.values().rev().filter(fits).take(query.limit).map(|p| repo.live(p)).collect())
        })
    }

    async fn update_pull_request(&self, request: &UpdatePullRequest) -> Result<PullRequest, GitError> {
        const OP: &str = "update_pull_request";
        let now = self.clock.now();
        self.with(OP, &request.repo, true, |repo| {
            let mut pull = repo.pull(OP, request.number)?.clone();
            let invalid = |m: &str| Err(GitError::new(GitErrorKind::Invalid, OP, m));
            if let Some(title) = &request.title {
                check_title(OP, title)?;
                pull.title.clone_from(title);
            }
            if let Some(body) = &request.body {
                check_body(OP, body)?;
                pull.body.clone_from(body);
            }
            if let Some(base) = &request.base {
                repo.branch(OP, base)?;
                if *base == pull.head {
                    return invalid("the base is the head");
                }
                pull.base.clone_from(base);
            }
            match (pull.state, request.state) {
                (_, Some(PullRequestState::Merged)) => return invalid("to merge, call merge"),
                (PullRequestState::Merged, Some(_)) => return invalid("it is merged"),
                (PullRequestState::Closed, Some(PullRequestState::Open)) if repo.open_of(&pull.head).is_some() => {
                    return Err(GitError::new(GitErrorKind::Conflict, OP, "another one of this head is open"));
                }
                (PullRequestState::Open, Some(PullRequestState::Closed)) => pull = repo.live(&pull),
                (_, Some(_) | None) => {}
            }
            pull.state = request.state.unwrap_or(pull.state);
            pull.updated_at = now;
            repo.pulls.insert(request.number, pull.clone());
            Ok(repo.live(&pull))
        })
    }

    async fn merge(&self, request: &MergePullRequest) -> Result<PullRequest, GitError> {
        const OP: &str = "merge";
        let now = self.clock.now();
        self.with(OP, &request.repo, self.capabilities.merge, |repo| {
            let pull = repo.pull(OP, request.number)?.clone();
            let mut pull = repo.live(&pull);
            let conflict = |m: String| Err(GitError::new(GitErrorKind::Conflict, OP, m));
            match pull.state {
                PullRequestState::Merged => return Ok(pull),
                PullRequestState::Closed => return conflict("it is closed".to_owned()),
                PullRequestState::Open => {}
            }
            if pull.head_sha != request.expect_head_sha {
                return conflict(format!("the head moved to {}", pull.head_sha));
            }
            let base = repo.branch(OP, &pull.base)?;
            let Some(files) = repo.merged(&base, &pull.head_sha) else {
                return conflict("both sides changed the same file".to_owned());
            };
            let sha = repo.add(Commit { parents: vec![base, pull.head_sha.clone()], files });
            repo.branches.insert(pull.base.clone(), sha);
            pull.state = PullRequestState::Merged;
            pull.updated_at = now;
            repo.pulls.insert(request.number, pull.clone());
            Ok(pull)
        })
    }

    async fn issue(&self, which: &Numbered) -> Result<Issue, GitError> {
        const OP: &str = "issue";
        self.with(OP, &which.repo, self.capabilities.issues, |repo| {
            let missing = || GitError::new(GitErrorKind::NotFound, OP, format!("no issue {}", which.number));
            repo.issues.get(&which.number).map(|(_, issue)| issue.clone()).ok_or_else(missing)
        })
    }

    async fn open_issue(&self, request: &NewIssue) -> Result<Issue, GitError> {
        const OP: &str = "open_issue";
        let now = self.clock.now();
        self.with(OP, &request.repo, self.capabilities.issues, |repo| {
            check_title(OP, &request.title)?;
            check_body(OP, &request.body)?;
            if let Some((_, issue)) = repo.issues.values().find(|(key, _)| *key == request.key) {
                return Ok(issue.clone());
            }
            repo.last_number += 1;
            let number = repo.last_number;
            let issue = Issue {
                number,
                url: format!("https://fake.invalid/{}/issues/{number}", request.repo),
                title: request.title.clone(),
                body: request.body.clone(),
                open: true,
                author: AUTHOR.to_owned(),
                created_at: now,
            };
            repo.issues.insert(number, (request.key.clone(), issue.clone()));
            Ok(issue)
        })
    }

    async fn comments(&self, which: &Numbered) -> Result<Vec<Comment>, GitError> {
        self.with("comments", &which.repo, true, |repo| {
            repo.numbered("comments", which.number)?;
            let comments = repo.comments.values().map(|(_, c)| c).filter(|c| c.number == which.number);
            Ok(comments.cloned().collect())
        })
    }

    async fn comment(&self, request: &NewComment) -> Result<Comment, GitError> {
        const OP: &str = "comment";
        let now = self.clock.now();
        self.with(OP, &request.repo, true, |repo| {
            check_body(OP, &request.body)?;
            repo.numbered(OP, request.number)?;
            let same = |(key, c): &&mut (String, Comment)| c.number == request.number && *key == request.key;
            if let Some((_, comment)) = repo.comments.values_mut().find(same) {
                comment.body.clone_from(&request.body);
                return Ok(comment.clone());
            }
            repo.last_id += 1;
            let comment = Comment {
                id: repo.last_id,
                number: request.number,
                body: request.body.clone(),
                author: AUTHOR.to_owned(),
                created_at: now,
            };
            repo.comments.insert(comment.id, (request.key.clone(), comment.clone()));
            Ok(comment)
        })
    }

    async fn reviews(&self, which: &Numbered) -> Result<Vec<Review>, GitError> {
        const OP: &str = "reviews";
        self.with(OP, &which.repo, self.capabilities.reviews, |repo| {
            repo.pull(OP, which.number)?;
            Ok(repo.reviews.values().map(|(_, r)| r).filter(|r| r.number == which.number).cloned().collect())
        })
    }

    async fn review(&self, request: &NewReview) -> Result<Review, GitError> {
        const OP: &str = "review";
        let now = self.clock.now();
        self.with(OP, &request.repo, self.capabilities.reviews, |repo| {
            check_body(OP, &request.body)?;
            repo.pull(OP, request.number)?;
            let same = |(key, r): &&(String, Review)| r.number == request.number && *key == request.key;
            if let Some((_, review)) = repo.reviews.values().find(same) {
                return Ok(review.clone());
            }
            repo.last_id += 1;
            let review = Review {
                id: repo.last_id,
                number: request.number,
                event: request.event,
                body: request.body.clone(),
                comments: request.comments.clone(),
                commit_sha: request.commit_sha.clone(),
                author: AUTHOR.to_owned(),
                created_at: now,
            };
            repo.reviews.insert(review.id, (request.key.clone(), review.clone()));
            Ok(review)
        })
    }

    async fn checks(&self, repo: &RepoRef, sha: &str) -> Result<Vec<Check>, GitError> {
        self.with("checks", repo, self.capabilities.checks, |repo| {
            Ok(repo.checks.values().filter(|c| c.sha == sha).cloned().collect())
        })
    }

    async fn set_check(&self, request: &SetCheck) -> Result<(), GitError> {
        self.with("set_check", &request.repo, self.capabilities.checks, |repo| {
            let key = (request.check.sha.clone(), request.check.name.clone());
            repo.checks.insert(key, request.check.clone());
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::testing::VirtualClock;
    use crate::testing::forge::{ForgeHarness, cases, run};

    struct Harness(Arc<FakeForge>, AtomicU64);

    impl Harness {
        fn new(capabilities: GitCapabilities) -> Self {
            let forge = FakeForge::new(Arc::new(VirtualClock::new())).with_capabilities(capabilities);
            Self(Arc::new(forge), AtomicU64::new(0))
        }
    }

    #[async_trait]
    impl ForgeHarness for Harness {
        fn forge(&self) -> Arc<dyn GitProvider> {
            self.0.clone()
        }

        async fn repository(&self) -> RepoRef {
            let repo = self.empty_repository().await;
            self.0.commit(&repo, "main", "README", "hello");
            repo
        }

        async fn empty_repository(&self) -> RepoRef {
            let repo = format!("acme/r{}", self.1.fetch_add(1, Ordering::Relaxed)).parse().unwrap();
            self.0.create(&repo);
            repo
        }

        fn missing(&self) -> RepoRef {
            "acme/none".parse().unwrap()
        }

        async fn commit(&self, repo: &RepoRef, branch: &str, path: &str, text: &str) -> String {
            self.0.commit(repo, branch, path, text)
        }
    }

    /// The fake never waits, so one poll runs it to its end.
    fn now<T>(future: impl Future<Output = T>) -> T {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::pin!(future).poll(&mut context) {
            std::task::Poll::Ready(value) => value,
            std::task::Poll::Pending => panic!("the fake waited"),
        }
    }

    #[test]
    fn conforms() {
        let report = now(run(&Harness::new(GitCapabilities::all()), &[]));
        assert_eq!(report.passed, cases());
    }

    #[test]
    fn conforms_with_little() {
        let skips = [
            "a_review_key_is_one_review",
            "the_last_check_counts",
            "issues_and_pull_requests_share_numbers",
            "an_issue_key_is_one_issue",
            "merging_needs_the_expected_head",
            "merging_twice_is_once",
            "merging_refuses_conflicts",
            "merging_refuses_what_is_closed",
        ];
        let report = now(run(&Harness::new(GitCapabilities::minimal()), &skips));
        assert_eq!(report.skipped, skips);
    }

    #[test]
    fn faults_come_once_in_order() {
        let harness = Harness::new(GitCapabilities::all());
        let repo = now(harness.repository());
        harness.0.fail_next(GitErrorKind::Throttled);
        assert_eq!(now(harness.0.repository(&repo)).unwrap_err().kind(), GitErrorKind::Throttled);
        assert!(now(harness.0.repository(&repo)).is_ok());
    }
}
