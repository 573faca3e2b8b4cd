//! Pre-flight and context through a forge.

use std::sync::Arc;

use abca::orchestrator::{ForgePreparer, PrepareFailure, Preparer};
use abca_core::git::{GitErrorKind, GitProvider, NewComment, NewIssue, Numbered, OpenPullRequest, RepoRef};
use abca_core::task::{FailureReason, Prepared, Task};
use abca_core::testing::forge::FakeForge;

use super::world::{Act, World};

struct Forge {
    world: World,
    fake: Arc<FakeForge>,
    repo: RepoRef,
}

impl Forge {
    fn new() -> Self {
        let world = World::new(Act::Mute);
        let fake = Arc::new(FakeForge::new(world.clock.clone()));
        let repo: RepoRef = "acme/web".parse().unwrap();
        fake.commit(&repo, "main", "README.md", "hello");
        Self { world, fake, repo }
    }

    async fn prepare(&self, change: impl FnOnce(&mut Task)) -> Result<Prepared, PrepareFailure> {
        ForgePreparer::new(self.fake.clone()).prepare(&self.world.task(change)).await
    }

    async fn refused(&self, change: impl FnOnce(&mut Task)) -> String {
        let refused = self.prepare(change).await.unwrap_err();
        assert_eq!((refused.failure.reason, refused.retryable), (FailureReason::Preflight, false), "{refused:?}");
        refused.failure.message
    }
}

#[tokio::test]
async fn a_new_task_starts_from_the_default_branch_or_from_the_one_named() {
    let forge = Forge::new();
    let task = forge.world.task(|_| {});
    let prepared = ForgePreparer::new(forge.fake.clone()).prepare(&task).await.unwrap();
    assert_eq!(prepared.base_branch, "main");
    assert_eq!(prepared.branch, format!("bgagent/{}/fix-it", task.id));
    assert_eq!(prepared.sources, ["task_description"]);
    assert!(prepared.user_prompt.contains("fix it"));
    forge.fake.commit(&forge.repo, "release", "a", "b");
    let named = forge.prepare(|t| t.spec.base_branch = Some("release".to_owned())).await.unwrap();
    assert_eq!(named.base_branch, "release");
}

#[tokio::test]
async fn an_issue_and_its_comments_are_shown_without_what_cannot_be_seen() {
    let forge = Forge::new();
    let repo = forge.repo.clone();
    let issue = NewIssue {
        repo: repo.clone(),
        title: "Vec<String> is lost".to_owned(),
        body: "hid\u{200b}den \u{202e}word\u{e0041}".to_owned(),
        key: "k".to_owned(),
    };
    let number = forge.fake.open_issue(&issue).await.unwrap().number;
    let on = Numbered { repo, number };
    let comment = NewComment { repo: on.repo.clone(), number, body: "me too".to_owned(), key: "m".to_owned() };
    forge.fake.comment(&comment).await.unwrap();
    let prepared = forge.prepare(|t| t.spec.issue_number = Some(number)).await.unwrap();
    assert_eq!(prepared.sources, ["issue", "task_description"]);
    for shown in ["Vec<String> is lost", "hidden word", "me too", "fix it"] {
        assert!(prepared.user_prompt.contains(shown), "{shown}: {}", prepared.user_prompt);
    }
    let message = forge.refused(|t| t.spec.issue_number = Some(99)).await;
    assert!(message.contains("there is no issue #99 in `acme/web`"), "{message}");
}

#[tokio::test]
async fn work_on_a_pull_request_goes_to_its_branch_while_it_is_open() {
    let forge = Forge::new();
    forge.fake.commit(&forge.repo, "theirs", "a", "b");
    let open = OpenPullRequest {
        repo: forge.repo.clone(),
        head: "theirs".to_owned(),
        base: "main".to_owned(),
        title: "t".to_owned(),
        body: String::new(),
    };
    let number = forge.fake.open_pull_request(&open).await.unwrap().number;
    let prepared = forge.prepare(|t| t.spec.pr_number = Some(number)).await.unwrap();
    assert_eq!((prepared.base_branch.as_str(), prepared.branch.as_str()), ("main", "theirs"));
    let message = forge.refused(|t| t.spec.pr_number = Some(99)).await;
    assert!(message.contains("PR_NOT_FOUND_OR_CLOSED"), "{message}");
}

#[tokio::test]
async fn what_cannot_be_worked_on_is_said_with_its_way_out() {
    let forge = Forge::new();
    let message = forge.refused(|t| t.spec.repo = Some("no/where".parse().unwrap())).await;
    assert!(message.starts_with("Pre-flight check failed: REPO_NOT_FOUND_OR_NO_ACCESS — "), "{message}");
    assert!(message.contains("`no/where`"), "{message}");
    let empty: RepoRef = "acme/empty".parse().unwrap();
    forge.fake.create(&empty);
    let message = forge.refused(|t| t.spec.repo = Some(empty)).await;
    assert!(message.contains("has no commits yet: make a first commit"), "{message}");
    // A bad credential is no reason to try again, a forge that is away is.
    forge.fake.fail_next(GitErrorKind::Access);
    assert!(forge.refused(|_| {}).await.contains("access denied"));
    forge.fake.fail_next(GitErrorKind::Unavailable);
    assert!(forge.prepare(|_| {}).await.unwrap_err().retryable);
}

#[tokio::test]
async fn a_base_that_is_not_there_is_answered_with_the_names_most_like_it() {
    let forge = Forge::new();
    let missing = |t: &mut Task| t.spec.base_branch = Some("mian".to_owned());
    let message = forge.refused(missing).await;
    assert!(message.starts_with("Pre-flight check failed: BASE_BRANCH_NOT_FOUND — "), "{message}");
    assert!(message.contains("`acme/web` has no branch `mian`; it has `main`: name one as"), "{message}");
    for n in 0..9 {
        forge.fake.commit(&forge.repo, &format!("feature/{n}"), "a", "b");
    }
    let message = forge.refused(missing).await;
    assert!(message.contains("the names most like it are `main`, `feature/0`"), "{message}");
    assert!(!message.contains("feature/8"), "{message}");
    // A folder of branches is no branch.
    let message = forge.refused(|t| t.spec.base_branch = Some("feature".to_owned())).await;
    assert!(message.contains("has no branch `feature`; the names most like it are `feature/0`"), "{message}");
}

#[tokio::test]
async fn what_is_in_the_way_of_the_tasks_branch_is_said_before_anything_is_spent() {
    for there in ["", "/fix-it"] {
        let forge = Forge::new();
        let task = forge.world.task(|_| {});
        let there = format!("bgagent/{}{there}", task.id);
        forge.fake.commit(&forge.repo, &there, "a", "b");
        let refused = ForgePreparer::new(forge.fake.clone()).prepare(&task).await.unwrap_err();
        assert_eq!((refused.failure.reason, refused.retryable), (FailureReason::Preflight, false));
        let message = refused.failure.message;
        assert!(message.contains(&format!("BRANCH_IN_THE_WAY — `acme/web` has a branch `{there}` ")), "{message}");
        assert!(message.contains(&format!("`git branch -m {there} another-name`")), "{message}");
    }
}

#[tokio::test]
async fn without_a_repository_there_is_no_branch() {
    let forge = Forge::new();
    let prepared = forge.prepare(|t| t.spec.repo = None).await.unwrap();
    assert_eq!((prepared.base_branch.as_str(), prepared.branch.as_str()), ("", ""));
}
