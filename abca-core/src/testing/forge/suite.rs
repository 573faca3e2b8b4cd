//! The cases of the conformance suite.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use async_trait::async_trait;

use crate::git::{
    Branch, Check, CheckState, GitError, GitErrorKind, GitProvider, ListBranches, ListPullRequests, MergePullRequest,
    NewComment, NewIssue, NewReview, Numbered, OpenPullRequest, PullRequest, PullRequestState, RepoRef, ReviewComment,
    ReviewEvent, SetCheck, UpdatePullRequest,
};

/// Gives the suite a forge with repositories in it.
#[async_trait]
pub trait ForgeHarness: Send + Sync {
    /// The forge under test.
    fn forge(&self) -> Arc<dyn GitProvider>;

    /// A new repository whose default branch `main` has one commit.
    async fn repository(&self) -> RepoRef;

    /// A new repository without commits.
    async fn empty_repository(&self) -> RepoRef;

    /// A name that no repository has.
    fn missing(&self) -> RepoRef;

    /// Adds a commit that writes one file to a branch, as somebody who pushes would; a new branch starts at `main`. Answers
    /// the commit's id.
    async fn commit(&self, repo: &RepoRef, branch: &str, path: &str, text: &str) -> String;
}

/// What the suite did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForgeReport {
    /// Cases that passed.
    pub passed: Vec<&'static str>,
    /// Cases that the forge does not offer, all of them listed.
    pub skipped: Vec<&'static str>,
}

macro_rules! suite {
    ($($case:ident),+ $(,)?) => {
        /// The cases by name.
        pub fn cases() -> &'static [&'static str] {
            &[$(stringify!($case)),+]
        }

        async fn one(case: &str, h: &dyn ForgeHarness) -> Outcome {
            match case {
                $(stringify!($case) => $case(h).await,)+
                other => panic!("no such case: {other}"),
            }
        }
    };
}

suite![
    a_repository_is_described,
    an_empty_repository_is_told,
    a_missing_repository_is_not_found,
    branches_are_listed_by_name,
    a_remote_carries_no_user_information,
    opening_is_idempotent_per_open_head,
    many_callers_open_one,
    a_closed_one_does_not_block_a_new_one,
    opening_refuses_what_cannot_be_proposed,
    the_head_is_live,
    lists_are_newest_first_and_filtered,
    updates_change_what_they_name,
    reopening_keeps_one_open_per_head,
    texts_come_back_as_written,
    a_comment_key_rewrites,
    many_commenters_lose_nothing,
    comments_need_something_to_be_on,
    a_review_key_is_one_review,
    the_last_check_counts,
    issues_and_pull_requests_share_numbers,
    an_issue_key_is_one_issue,
    merging_needs_the_expected_head,
    merging_twice_is_once,
    merging_refuses_conflicts,
    merging_refuses_what_is_closed,
    what_is_not_offered_is_unsupported,
];

/// Runs all cases, each in a repository of its own.
///
/// # Panics
/// When cases fail, naming them; when a case is skipped that `skips` does not list; when one is listed that is not skipped
/// or does not exist.
pub async fn run(harness: &dyn ForgeHarness, skips: &[&str]) -> ForgeReport {
    let mut report = ForgeReport { passed: Vec::new(), skipped: Vec::new() };
    let mut wrong: Vec<String> = Vec::new();
    for case in cases() {
        match (one(case, harness).await, skips.contains(case)) {
            (Ok(()), false) => report.passed.push(case),
            (Err(Failed::Skip), true) => report.skipped.push(case),
            (Err(Failed::Because(why)), _) => wrong.push(format!("`{case}`: {why}")),
            (Ok(()), true) => wrong.push(format!("`{case}` is listed as skipped but runs")),
            (Err(Failed::Skip), false) => wrong.push(format!("`{case}` was skipped but is not listed")),
        }
    }
    wrong.extend(skips.iter().filter(|s| !cases().contains(s)).map(|s| format!("listed `{s}` is no case")));
    assert!(wrong.is_empty(), "forge conformance of `{}`:\n{}", harness.forge().name(), wrong.join("\n"));
    report
}

enum Failed {
    Skip,
    Because(String),
}

type Outcome = Result<(), Failed>;

impl From<GitError> for Failed {
    fn from(e: GitError) -> Self {
        Self::Because(format!("unexpected error: {e}"))
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, got: &T, want: &T) -> Outcome {
    if got == want { Ok(()) } else { Err(Failed::Because(format!("{what}: got {got:?}, want {want:?}"))) }
}

fn refused<T: std::fmt::Debug>(what: &str, got: Result<T, GitError>, kinds: &[GitErrorKind]) -> Outcome {
    match got {
        Err(e) if kinds.contains(&e.kind()) => Ok(()),
        Err(e) => Err(Failed::Because(format!("{what}: got `{e}`, want one of {kinds:?}"))),
        Ok(v) => Err(Failed::Because(format!("{what}: got {v:?}, want an error of {kinds:?}"))),
    }
}

fn needs(offered: bool) -> Outcome {
    if offered { Ok(()) } else { Err(Failed::Skip) }
}

/// Polls all of them together, as one task: interleaved, and parallel as far as the forge works elsewhere.
async fn together<'a, T>(futures: Vec<Pin<Box<dyn Future<Output = T> + Send + 'a>>>) -> Vec<T> {
    let mut running: Vec<Result<T, _>> = futures.into_iter().map(Err).collect();
    std::future::poll_fn(move |cx| {
        for slot in &mut running {
            if let Err(future) = slot
                && let Poll::Ready(value) = future.as_mut().poll(cx)
            {
                *slot = Ok(value);
            }
        }
        if running.iter().all(Result::is_ok) {
            Poll::Ready(running.drain(..).filter_map(Result::ok).collect())
        } else {
            Poll::Pending
        }
    })
    .await
}

fn proposal(repo: &RepoRef, head: &str) -> OpenPullRequest {
    let (title, body) = (format!("propose {head}"), "why".to_owned());
    OpenPullRequest { repo: repo.clone(), head: head.to_owned(), base: "main".to_owned(), title, body }
}

fn on(repo: &RepoRef, number: u64) -> Numbered {
    Numbered { repo: repo.clone(), number }
}

fn nothing_new(repo: &RepoRef, number: u64) -> UpdatePullRequest {
    UpdatePullRequest { repo: repo.clone(), number, title: None, body: None, base: None, state: None }
}

fn state(repo: &RepoRef, number: u64, state: PullRequestState) -> UpdatePullRequest {
    UpdatePullRequest { state: Some(state), ..nothing_new(repo, number) }
}

fn all(repo: &RepoRef) -> ListPullRequests {
    ListPullRequests { repo: repo.clone(), head: None, state: None, limit: 100 }
}

/// A repository with an open pull request from `work`.
async fn opened(h: &dyn ForgeHarness) -> Result<(RepoRef, PullRequest, String), Failed> {
    let repo = h.repository().await;
    let sha = h.commit(&repo, "work", "file", "work").await;
    let pull = h.forge().open_pull_request(&proposal(&repo, "work")).await?;
    Ok((repo, pull, sha))
}

async fn a_repository_is_described(h: &dyn ForgeHarness) -> Outcome {
    let repo = h.repository().await;
    let seen = h.forge().repository(&repo).await?;
    same("its name", &seen.repo, &repo)?;
    same("default branch", &seen.default_branch.as_deref(), &Some("main"))?;
    same("empty", &seen.empty, &false)
}

async fn an_empty_repository_is_told(h: &dyn ForgeHarness) -> Outcome {
    let repo = h.empty_repository().await;
    let seen = h.forge().repository(&repo).await?;
    same("default branch", &seen.default_branch, &None)?;
    same("empty", &seen.empty, &true)
}

async fn a_missing_repository_is_not_found(h: &dyn ForgeHarness) -> Outcome {
    let (forge, repo) = (h.forge(), h.missing());
    let kinds = [GitErrorKind::NotFound];
    refused("repository", forge.repository(&repo).await, &kinds)?;
    refused("open", forge.open_pull_request(&proposal(&repo, "work")).await, &kinds)?;
    refused("read", forge.pull_request(&on(&repo, 1)).await, &kinds)?;
    refused("list", forge.pull_requests(&all(&repo)).await, &kinds)
}

async fn branches_are_listed_by_name(h: &dyn ForgeHarness) -> Outcome {
    let (forge, repo) = (h.forge(), h.repository().await);
    let mut want = Vec::new();
    for name in ["a", "topic/one", "topic/two"] {
        want.push(Branch { name: name.to_owned(), sha: h.commit(&repo, name, "file", name).await });
    }
    let ask = |names: &[&str], limit| {
        let names = names.iter().map(|n| (*n).to_owned()).collect();
        ListBranches { repo: repo.clone(), names, limit }
    };
    let all = forge.branches(&ask(&[], 100)).await?;
    same("all", &all.iter().map(|b| b.name.as_str()).collect(), &vec!["a", "main", "topic/one", "topic/two"])?;
    same("the first two", &forge.branches(&ask(&[], 2)).await?, &all[..2].to_vec())?;
    // By the whole name: neither a part of one, nor a pattern, nor another kind of ref, nor what is no name at all.
    let others = ["topic", "topic/*", "refs/heads/a", "HEAD", "no/where", "", "-x", "a b", "a\n"];
    let named = forge.branches(&ask(&[&["topic/two", "topic/one", "a"][..], &others].concat(), 100)).await?;
    same("by name", &named, &want)?;
    same("no such one", &forge.branches(&ask(&["topic"], 100)).await?, &Vec::new())?;
    let empty = ListBranches { repo: h.empty_repository().await, ..ask(&[], 100) };
    same("without commits", &forge.branches(&empty).await?, &Vec::new())?;
    let missing = ListBranches { repo: h.missing(), ..ask(&[], 100) };
    refused("no repository", forge.branches(&missing).await, &[GitErrorKind::NotFound])
}

async fn a_remote_carries_no_user_information(h: &dyn ForgeHarness) -> Outcome {
    let remote = h.forge().remote(&h.repository().await).await?;
    let ok =
        remote.url.starts_with('/') || remote.url.starts_with("https://") || remote.url.starts_with("http://127.0.0.1");
    same("a path or https, without `@`", &(ok && !remote.url.contains('@')), &true)
}

async fn opening_is_idempotent_per_open_head(h: &dyn ForgeHarness) -> Outcome {
    let (repo, first, sha) = opened(h).await?;
    same("state", &first.state, &PullRequestState::Open)?;
    same("head", &(first.head.as_str(), first.base.as_str()), &("work", "main"))?;
    same("head commit", &first.head_sha, &sha)?;
    let other = OpenPullRequest { title: "other".into(), body: "other".into(), ..proposal(&repo, "work") };
    let second = h.forge().open_pull_request(&other).await?;
    same("the one that is there", &second, &first)?;
    same("read back", &h.forge().pull_request(&on(&repo, first.number)).await?, &first)
}

async fn many_callers_open_one(h: &dyn ForgeHarness) -> Outcome {
    let (forge, repo) = (h.forge(), h.repository().await);
    h.commit(&repo, "work", "file", "work").await;
    let request = proposal(&repo, "work");
    let calls = (0..8).map(|_| forge.open_pull_request(&request)).collect();
    let mut numbers = Vec::new();
    for pull in together(calls).await {
        numbers.push(pull?.number);
    }
    numbers.dedup();
    same("distinct pull requests", &numbers.len(), &1)?;
    same("in the list", &forge.pull_requests(&all(&repo)).await?.len(), &1)
}

async fn a_closed_one_does_not_block_a_new_one(h: &dyn ForgeHarness) -> Outcome {
    let (repo, first, _) = opened(h).await?;
    let closed = h.forge().update_pull_request(&state(&repo, first.number, PullRequestState::Closed)).await?;
    same("closed", &closed.state, &PullRequestState::Closed)?;
    let second = h.forge().open_pull_request(&proposal(&repo, "work")).await?;
    same("a new number", &(second.number > first.number), &true)
}

async fn opening_refuses_what_cannot_be_proposed(h: &dyn ForgeHarness) -> Outcome {
    let (forge, repo) = (h.forge(), h.repository().await);
    h.commit(&repo, "work", "file", "work").await;
    let good = proposal(&repo, "work");
    let both = [GitErrorKind::Invalid, GitErrorKind::NotFound];
    let invalid = [GitErrorKind::Invalid];
    let with = |change: &dyn Fn(&mut OpenPullRequest)| {
        let mut request = good.clone();
        change(&mut request);
        request
    };
    refused("no such head", forge.open_pull_request(&with(&|r| r.head = "none".into())).await, &both)?;
    refused("no such base", forge.open_pull_request(&with(&|r| r.base = "none".into())).await, &both)?;
    refused("head is base", forge.open_pull_request(&with(&|r| r.head = "main".into())).await, &invalid)?;
    refused("no title", forge.open_pull_request(&with(&|r| r.title = " ".into())).await, &invalid)?;
    refused("two lines", forge.open_pull_request(&with(&|r| r.title = "a\nb".into())).await, &invalid)?;
    refused("title too long", forge.open_pull_request(&with(&|r| r.title = "é".repeat(257))).await, &invalid)?;
    refused("body too long", forge.open_pull_request(&with(&|r| r.body = "é".repeat(65_537))).await, &invalid)?;
    same("nothing opened", &forge.pull_requests(&all(&repo)).await?, &Vec::new())?;
    forge.open_pull_request(&with(&|r| r.title = "é".repeat(256))).await?;
    Ok(())
}

async fn the_head_is_live(h: &dyn ForgeHarness) -> Outcome {
    let (repo, pull, _) = opened(h).await?;
    let sha = h.commit(&repo, "work", "file", "more").await;
    same("read", &h.forge().pull_request(&on(&repo, pull.number)).await?.head_sha, &sha)?;
    same("listed", &h.forge().pull_requests(&all(&repo)).await?[0].head_sha, &sha)
}

async fn lists_are_newest_first_and_filtered(h: &dyn ForgeHarness) -> Outcome {
    let (forge, repo) = (h.forge(), h.repository().await);
    let mut numbers = Vec::new();
    for head in ["a", "b", "c"] {
        h.commit(&repo, head, head, head).await;
        numbers.insert(0, forge.open_pull_request(&proposal(&repo, head)).await?.number);
    }
    forge.update_pull_request(&state(&repo, numbers[1], PullRequestState::Closed)).await?;
    let list = async |change: &dyn Fn(&mut ListPullRequests)| -> Result<Vec<u64>, Failed> {
        let mut query = all(&repo);
        change(&mut query);
        Ok(forge.pull_requests(&query).await?.into_iter().map(|p| p.number).collect())
    };
    same("all", &list(&|_| {}).await?, &numbers)?;
    same("open", &list(&|q| q.state = Some(PullRequestState::Open)).await?, &vec![numbers[0], numbers[2]])?;
    same("closed", &list(&|q| q.state = Some(PullRequestState::Closed)).await?, &vec![numbers[1]])?;
    same("merged", &list(&|q| q.state = Some(PullRequestState::Merged)).await?, &vec![])?;
    same("one head", &list(&|q| q.head = Some("c".into())).await?, &vec![numbers[0]])?;
    same("no such head", &list(&|q| q.head = Some("z".into())).await?, &vec![])?;
    same("limit", &list(&|q| q.limit = 2).await?, &numbers[..2].to_vec())?;
    same("limit of none", &list(&|q| q.limit = 0).await?, &vec![])
}

async fn updates_change_what_they_name(h: &dyn ForgeHarness) -> Outcome {
    let (forge, (repo, pull, _)) = (h.forge(), opened(h).await?);
    h.commit(&repo, "next", "n", "n").await;
    same("nothing", &forge.update_pull_request(&nothing_new(&repo, pull.number)).await?.title, &pull.title)?;
    let change =
        UpdatePullRequest { title: Some("new".into()), base: Some("next".into()), ..nothing_new(&repo, pull.number) };
    let new = forge.update_pull_request(&change).await?;
    let want = PullRequest { title: "new".into(), base: "next".into(), updated_at: new.updated_at, ..pull.clone() };
    same("title and base", &new, &want)?;
    same("read back", &forge.pull_request(&on(&repo, pull.number)).await?, &new)?;
    let invalid = [GitErrorKind::Invalid, GitErrorKind::NotFound];
    refused("merged", forge.update_pull_request(&state(&repo, pull.number, PullRequestState::Merged)).await, &invalid)?;
    let none = UpdatePullRequest { base: Some("none".into()), ..nothing_new(&repo, pull.number) };
    refused("no such base", forge.update_pull_request(&none).await, &invalid)?;
    let itself = UpdatePullRequest { base: Some("work".into()), ..nothing_new(&repo, pull.number) };
    refused("base is head", forge.update_pull_request(&itself).await, &invalid)?;
    let blank = UpdatePullRequest { title: Some(String::new()), ..nothing_new(&repo, pull.number) };
    refused("no title", forge.update_pull_request(&blank).await, &invalid)?;
    refused("unknown", forge.update_pull_request(&nothing_new(&repo, 9_999)).await, &[GitErrorKind::NotFound])
}

async fn reopening_keeps_one_open_per_head(h: &dyn ForgeHarness) -> Outcome {
    let (forge, (repo, first, _)) = (h.forge(), opened(h).await?);
    let (closed, open) = (PullRequestState::Closed, PullRequestState::Open);
    forge.update_pull_request(&state(&repo, first.number, closed)).await?;
    same("reopened", &forge.update_pull_request(&state(&repo, first.number, open)).await?.state, &open)?;
    forge.update_pull_request(&state(&repo, first.number, closed)).await?;
    forge.open_pull_request(&proposal(&repo, "work")).await?;
    let again = forge.update_pull_request(&state(&repo, first.number, open)).await;
    refused("a second open one", again, &[GitErrorKind::Conflict, GitErrorKind::Invalid])
}

async fn texts_come_back_as_written(h: &dyn ForgeHarness) -> Outcome {
    let (forge, repo) = (h.forge(), h.repository().await);
    let head = "bgagent/01J/ünï-çödé";
    h.commit(&repo, head, "file", "x").await;
    let title = "修正 🐛 \"quotes\" & <tags> \u{202e}rtl";
    let body = "# Ünï\n\n```rust\nlet x: Vec<String>;\n```\n<!-- hidden -->\n\ttab \\ back 🏳️‍🌈";
    let request = OpenPullRequest { title: title.into(), body: body.into(), ..proposal(&repo, head) };
    let pull = forge.open_pull_request(&request).await?;
    same("opened", &(pull.title.as_str(), pull.body.as_str(), pull.head.as_str()), &(title, body, head))?;
    same("read", &forge.pull_request(&on(&repo, pull.number)).await?, &pull)?;
    let comment = NewComment { repo: repo.clone(), number: pull.number, body: body.into(), key: "k/é".into() };
    same("comment", &forge.comment(&comment).await?.body.as_str(), &body)?;
    same("comment read", &forge.comments(&on(&repo, pull.number)).await?[0].body.as_str(), &body)
}

async fn a_comment_key_rewrites(h: &dyn ForgeHarness) -> Outcome {
    let (forge, (repo, pull, _)) = (h.forge(), opened(h).await?);
    let say = |key: &str, body: &str| NewComment {
        repo: repo.clone(),
        number: pull.number,
        body: body.to_owned(),
        key: key.to_owned(),
    };
    let first = forge.comment(&say("a", "one")).await?;
    let other = forge.comment(&say("b", "two")).await?;
    let again = forge.comment(&say("a", "three")).await?;
    same("same comment", &again.id, &first.id)?;
    let read = forge.comments(&on(&repo, pull.number)).await?;
    let got: Vec<_> = read.iter().map(|c| (c.id, c.number, c.body.as_str())).collect();
    same("oldest first", &got, &vec![(first.id, pull.number, "three"), (other.id, pull.number, "two")])
}

async fn many_commenters_lose_nothing(h: &dyn ForgeHarness) -> Outcome {
    let (forge, (repo, pull, _)) = (h.forge(), opened(h).await?);
    let requests: Vec<NewComment> = (0..8)
        .map(|i| NewComment {
            repo: repo.clone(),
            number: pull.number,
            body: format!("{i}"),
            key: format!("{}", i / 2),
        })
        .collect();
    for written in together(requests.iter().map(|r| forge.comment(r)).collect()).await {
        written?;
    }
    let read = forge.comments(&on(&repo, pull.number)).await?;
    let mut ids: Vec<u64> = read.iter().map(|c| c.id).collect();
    ids.sort_unstable();
    ids.dedup();
    same("one per key, distinct ids", &(read.len(), ids.len()), &(4, 4))
}

async fn comments_need_something_to_be_on(h: &dyn ForgeHarness) -> Outcome {
    let (forge, repo) = (h.forge(), h.repository().await);
    let comment = NewComment { repo: repo.clone(), number: 77, body: "x".into(), key: "k".into() };
    refused("write", forge.comment(&comment).await, &[GitErrorKind::NotFound])?;
    refused("read", forge.comments(&on(&repo, 77)).await, &[GitErrorKind::NotFound])
}

fn review(repo: &RepoRef, number: u64, sha: &str, key: &str) -> NewReview {
    let comments = vec![
        ReviewComment { path: "file".into(), line: 1, start_line: None, body: "a".into() },
        ReviewComment { path: "dir/ü".into(), line: 9, start_line: Some(7), body: "b".into() },
    ];
    NewReview {
        repo: repo.clone(),
        number,
        event: ReviewEvent::Comment,
        body: "seen".into(),
        comments,
        commit_sha: sha.to_owned(),
        key: key.to_owned(),
    }
}

async fn a_review_key_is_one_review(h: &dyn ForgeHarness) -> Outcome {
    let forge = h.forge();
    needs(forge.capabilities().reviews)?;
    let (repo, pull, sha) = opened(h).await?;
    let requests = vec![review(&repo, pull.number, &sha, "k"); 4];
    let mut reviews = Vec::new();
    for one in together(requests.iter().map(|r| forge.review(r)).collect()).await {
        reviews.push(one?);
    }
    let other = forge.review(&review(&repo, pull.number, &sha, "l")).await?;
    same("same review", &reviews.iter().all(|r| *r == reviews[0]), &true)?;
    same("its findings", &reviews[0].comments, &requests[0].comments)?;
    same("its commit", &reviews[0].commit_sha, &sha)?;
    same("read", &forge.reviews(&on(&repo, pull.number)).await?, &vec![reviews[0].clone(), other])?;
    refused("unknown", forge.review(&review(&repo, 77, &sha, "k")).await, &[GitErrorKind::NotFound])
}

async fn the_last_check_counts(h: &dyn ForgeHarness) -> Outcome {
    let forge = h.forge();
    needs(forge.capabilities().checks)?;
    let repo = h.repository().await;
    let sha = h.commit(&repo, "work", "file", "x").await;
    let check = |name: &str, state| Check { sha: sha.clone(), name: name.into(), state, summary: "für Leute".into() };
    same("none", &forge.checks(&repo, &sha).await?, &vec![])?;
    let (test, build) = (check("test/ünit ../x", CheckState::Success), check("build", CheckState::Pending));
    for check in [&build, &Check { state: CheckState::Failure, ..test.clone() }, &test, &test] {
        forge.set_check(&SetCheck { repo: repo.clone(), check: check.clone() }).await?;
    }
    same("by name", &forge.checks(&repo, &sha).await?, &vec![build, test])
}

async fn issues_and_pull_requests_share_numbers(h: &dyn ForgeHarness) -> Outcome {
    let forge = h.forge();
    needs(forge.capabilities().issues)?;
    let (repo, pull, _) = opened(h).await?;
    let ask = |key: &str| NewIssue { repo: repo.clone(), title: "t".into(), body: "b".into(), key: key.into() };
    let (one, two) = (ask("1"), ask("2"));
    let mut numbers = vec![pull.number];
    for issue in together(vec![forge.open_issue(&one), forge.open_issue(&two)]).await {
        numbers.push(issue?.number);
    }
    h.commit(&repo, "more", "m", "m").await;
    numbers.push(forge.open_pull_request(&proposal(&repo, "more")).await?.number);
    numbers.sort_unstable();
    numbers.dedup();
    same("distinct numbers", &numbers.len(), &4)?;
    let issue = forge.open_issue(&ask("1")).await?;
    let comment = NewComment { repo: repo.clone(), number: issue.number, body: "x".into(), key: "k".into() };
    forge.comment(&comment).await?;
    same("comment on an issue", &forge.comments(&on(&repo, issue.number)).await?.len(), &1)?;
    refused("not a pull request", forge.pull_request(&on(&repo, issue.number)).await, &[GitErrorKind::NotFound])
}

async fn an_issue_key_is_one_issue(h: &dyn ForgeHarness) -> Outcome {
    let forge = h.forge();
    needs(forge.capabilities().issues)?;
    let repo = h.repository().await;
    let ask = NewIssue { repo: repo.clone(), title: "t".into(), body: "b".into(), key: "k".into() };
    let first = forge.open_issue(&ask).await?;
    same("open", &(first.open, first.title.as_str(), first.body.as_str()), &(true, "t", "b"))?;
    same("again", &forge.open_issue(&NewIssue { title: "other".into(), ..ask }).await?, &first)?;
    same("read", &forge.issue(&on(&repo, first.number)).await?, &first)?;
    refused("unknown", forge.issue(&on(&repo, 77)).await, &[GitErrorKind::NotFound])
}

fn merge(repo: &RepoRef, number: u64, sha: &str) -> MergePullRequest {
    MergePullRequest { repo: repo.clone(), number, expect_head_sha: sha.to_owned() }
}

async fn merging_needs_the_expected_head(h: &dyn ForgeHarness) -> Outcome {
    let forge = h.forge();
    needs(forge.capabilities().merge)?;
    let (repo, pull, old) = opened(h).await?;
    let new = h.commit(&repo, "work", "file", "more").await;
    refused("an old head", forge.merge(&merge(&repo, pull.number, &old)).await, &[GitErrorKind::Conflict])?;
    same("still open", &forge.pull_request(&on(&repo, pull.number)).await?.state, &PullRequestState::Open)?;
    let merged = forge.merge(&merge(&repo, pull.number, &new)).await?;
    same("merged", &(merged.state, merged.head_sha), &(PullRequestState::Merged, new))?;
    refused("unknown", forge.merge(&merge(&repo, 77, &old)).await, &[GitErrorKind::NotFound])
}

async fn merging_twice_is_once(h: &dyn ForgeHarness) -> Outcome {
    let forge = h.forge();
    needs(forge.capabilities().merge)?;
    let (repo, pull, sha) = opened(h).await?;
    let request = merge(&repo, pull.number, &sha);
    let mut merged = Vec::new();
    for one in together((0..4).map(|_| forge.merge(&request)).collect()).await {
        merged.push(one?);
    }
    same("all alike", &merged.iter().all(|m| *m == merged[0]), &true)?;
    // What others push to the branch afterwards is no part of it.
    h.commit(&repo, "work", "file", "later").await;
    same("as it was", &forge.pull_request(&on(&repo, pull.number)).await?, &merged[0])?;
    let reopen = state(&repo, pull.number, PullRequestState::Open);
    let kinds = [GitErrorKind::Conflict, GitErrorKind::Invalid];
    refused("reopening a merged one", forge.update_pull_request(&reopen).await, &kinds)?;
    let next = forge.open_pull_request(&proposal(&repo, "work")).await?;
    same("the rest can be proposed", &(next.number > pull.number), &true)
}

async fn merging_refuses_conflicts(h: &dyn ForgeHarness) -> Outcome {
    let forge = h.forge();
    needs(forge.capabilities().merge)?;
    let (repo, pull, sha) = opened(h).await?;
    h.commit(&repo, "main", "file", "otherwise").await;
    refused("both changed it", forge.merge(&merge(&repo, pull.number, &sha)).await, &[GitErrorKind::Conflict])?;
    same("still open", &forge.pull_request(&on(&repo, pull.number)).await?.state, &PullRequestState::Open)
}

async fn merging_refuses_what_is_closed(h: &dyn ForgeHarness) -> Outcome {
    let forge = h.forge();
    needs(forge.capabilities().merge)?;
    let (repo, pull, sha) = opened(h).await?;
    forge.update_pull_request(&state(&repo, pull.number, PullRequestState::Closed)).await?;
    let kinds = [GitErrorKind::Conflict, GitErrorKind::Invalid];
    refused("closed", forge.merge(&merge(&repo, pull.number, &sha)).await, &kinds)
}

async fn what_is_not_offered_is_unsupported(h: &dyn ForgeHarness) -> Outcome {
    let (forge, (repo, pull, sha)) = (h.forge(), opened(h).await?);
    let offered = forge.capabilities();
    let kinds = [GitErrorKind::Unsupported];
    if !offered.issues {
        let ask = NewIssue { repo: repo.clone(), title: "t".into(), body: "b".into(), key: "k".into() };
        refused("open_issue", forge.open_issue(&ask).await, &kinds)?;
        refused("issue", forge.issue(&on(&repo, 1)).await, &kinds)?;
    }
    if !offered.reviews {
        refused("review", forge.review(&review(&repo, pull.number, &sha, "k")).await, &kinds)?;
        refused("reviews", forge.reviews(&on(&repo, pull.number)).await, &kinds)?;
    }
    if !offered.checks {
        let check = Check { sha: sha.clone(), name: "n".into(), state: CheckState::Success, summary: String::new() };
        refused("set_check", forge.set_check(&SetCheck { repo: repo.clone(), check }).await, &kinds)?;
        refused("checks", forge.checks(&repo, &sha).await, &kinds)?;
    }
    if !offered.merge {
        refused("merge", forge.merge(&merge(&repo, pull.number, &sha)).await, &kinds)?;
    }
    Ok(())
}
