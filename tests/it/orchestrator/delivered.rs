//! A session ends without saying what came of its work, and the forge knows.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use abca::orchestrator::{ForgePreparer, OnForge, PrepareFailure, Preparer, Worker, WorkerConfig, WorkerParts};
use abca_core::git::{GitErrorKind, GitProvider, OpenPullRequest, PullRequestState, RepoRef, UpdatePullRequest};
use abca_core::prompt::{PullRequestText, pull_request_text};
use abca_core::task::{DiffStat, FailureReason, Prepared, PullRequestRef, Task, TaskStatus};
use abca_core::testing::forge::FakeForge;
use abca_core::{MicroUsd, TaskId};
use async_trait::async_trait;

use super::world::{Act, Ready, World};

/// A forge that shows what it is told to, in turn; the last for ever. It counts.
#[derive(Debug, Clone)]
struct Shows(Arc<Mutex<(Vec<OnForge>, usize)>>);

impl Shows {
    fn new(answers: impl IntoIterator<Item = OnForge>) -> Self {
        Self(Arc::new(Mutex::new((answers.into_iter().collect(), 0))))
    }

    fn asked(&self) -> usize {
        self.0.lock().unwrap().1
    }
}

#[async_trait]
impl Preparer for Shows {
    async fn prepare(&self, task: &Task) -> Result<Prepared, PrepareFailure> {
        Ready.prepare(task).await
    }

    async fn on_forge(&self, _task: &Task, heads: &[String]) -> OnForge {
        assert!(
            !heads.is_empty() && heads.iter().all(|h| *h == sha()),
            "only of commits that were to be pushed: {heads:?}"
        );
        let mut state = self.0.lock().unwrap();
        state.1 += 1;
        if state.0.len() > 1 { state.0.remove(0) } else { state.0[0].clone() }
    }
}

fn sha() -> String {
    "a".repeat(40)
}

fn proposed() -> OnForge {
    let pull_request = PullRequestRef { number: 7, url: "https://forge/7".to_owned() };
    OnForge::Proposed { pull_request, head_sha: sha() }
}

fn away() -> OnForge {
    OnForge::NoAnswer { message: "the forge answered 503".to_owned() }
}

fn worker(world: &World, preparer: impl Preparer) -> Worker {
    let parts = WorkerParts { preparer: Arc::new(preparer), ..world.parts() };
    Worker::start(parts, WorkerConfig::default()).unwrap()
}

/// A life whose sessions do this, with so many attempts, on a forge that shows that. Answers the task, and how often the
/// forge was asked.
async fn life(act: Act, attempts: u32, shows: impl IntoIterator<Item = OnForge>) -> (Task, usize) {
    let world = World::new(act);
    let shows = Shows::new(shows);
    let _worker = worker(&world, shows.clone());
    let id = world.submit(world.task(|t| t.spec.limits.max_attempts = attempts)).await;
    let task = world.end(id).await;
    world.quiet().await;
    (task, shows.asked())
}

const PUSHING: Act = Act::CrashPushing('a');

#[tokio::test(start_paused = true)]
async fn a_session_that_died_after_its_pull_request_has_delivered() {
    for attempts in [1, 3] {
        let (task, asked) = life(PUSHING, attempts, [proposed()]).await;
        assert_eq!((task.status, task.attempt, asked), (TaskStatus::Completed, 1, 1));
        let report = task.report.unwrap().into_inner();
        assert_eq!(report.pull_request.map(|p| p.number), Some(7));
        assert_eq!((report.head_sha, task.failure), (Some(sha()), None));
        assert!(task.inferred.unwrap().contains("its pull request stands"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_pushed_nothing_costs_the_forge_no_question() {
    let (task, asked) = life(Act::Crash, 1, [proposed()]).await;
    assert_eq!((task.status, task.failure.unwrap().reason, asked), (TaskStatus::Failed, FailureReason::SessionLost, 0));
    // Nor does one that has its own say.
    let (task, asked) = life(Act::Fail, 1, [proposed()]).await;
    assert_eq!(
        (task.status, task.failure.unwrap().reason, asked),
        (TaskStatus::Failed, FailureReason::Verification, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn commits_without_a_pull_request_are_no_delivery() {
    let (task, _) = life(PUSHING, 1, [OnForge::Pushed { sha: sha() }]).await;
    assert_eq!(task.status, TaskStatus::Failed);
    let message = task.failure.unwrap().message;
    assert!(message.contains("its commits are on the branch `bgagent/"), "{message}");
    let (task, _) = life(PUSHING, 2, [OnForge::Pushed { sha: sha() }]).await;
    assert_eq!((task.status, task.attempt), (TaskStatus::Failed, 2));
    for shown in [OnForge::Nothing, OnForge::Unknowable] {
        let (task, asked) = life(PUSHING, 1, [shown]).await;
        assert_eq!((task.status, task.inferred, asked), (TaskStatus::Failed, None, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_forge_that_is_away_is_asked_again_and_not_for_ever() {
    let (task, asked) = life(PUSHING, 1, [away(), away(), away(), proposed()]).await;
    assert_eq!((task.status, asked), (TaskStatus::Completed, 4));
    assert_eq!(task.unanswered, None);
    let (task, asked) = life(PUSHING, 1, [away()]).await;
    assert_eq!(task.status, TaskStatus::Failed);
    let message = task.failure.unwrap().message;
    assert!(message.contains("could not be found out: the forge answered 503"), "{message}");
    // Ten minutes, at 5, 10, 20, 40 and then 60 seconds.
    assert!((10..=16).contains(&asked), "{asked}");
}

#[tokio::test(start_paused = true)]
async fn a_failure_around_the_work_is_made_good_by_the_pull_request() {
    let (task, asked) = life(Act::FailPushing('a'), 3, [proposed()]).await;
    assert_eq!((task.status, task.failure, asked), (TaskStatus::Completed, None, 1));
    assert!(task.inferred.unwrap().contains("the session reported `the pull request is not open`"));
    let (task, _) = life(Act::FailPushing('a'), 3, [OnForge::Pushed { sha: sha() }]).await;
    assert_eq!((task.status, task.failure.unwrap().reason), (TaskStatus::Failed, FailureReason::Delivery));
}

#[tokio::test(start_paused = true)]
async fn a_session_that_hangs_after_its_pull_request_is_not_timed_out() {
    let (task, asked) = life(Act::HangPushing('a'), 1, [proposed()]).await;
    assert_eq!((task.status, asked), (TaskStatus::Completed, 1));
    // Its deadline has passed: a forge that is away is not waited for.
    let (task, asked) = life(Act::HangPushing('a'), 1, [away()]).await;
    assert_eq!((task.status, asked), (TaskStatus::TimedOut, 1));
}

#[tokio::test(start_paused = true)]
async fn a_cancel_stands_whatever_the_forge_shows() {
    let world = World::new(Act::HangPushing('a'));
    let shows = Shows::new([proposed()]);
    let _worker = worker(&world, shows.clone());
    let id = world.submit(world.task(|_| {})).await;
    world.until_status(id, TaskStatus::Running).await;
    world.cancel(id).await;
    assert_eq!((world.end(id).await.status, shows.asked()), (TaskStatus::Cancelled, 0));
    // Also while the forge is waited for.
    let shows = Shows::new([away()]);
    let world = World::new(PUSHING);
    let _worker = worker(&world, shows.clone());
    let id = world.submit(world.task(|_| {})).await;
    world.until(id, "asked in vain", |s| s.task.unanswered.is_some()).await;
    world.cancel(id).await;
    assert_eq!(world.end(id).await.status, TaskStatus::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_dies_while_the_forge_is_away_leaves_the_question_to_the_next() {
    let world = World::new(PUSHING);
    let first = worker(&world, Shows::new([away()]));
    let id = world.submit(world.task(|t| t.spec.limits.max_attempts = 1)).await;
    world.until(id, "asked in vain", |s| s.task.unanswered.is_some()).await;
    drop(first);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let _second = worker(&world, Shows::new([proposed()]));
    assert_eq!(world.end(id).await.status, TaskStatus::Completed);
}

/// A pull request as a session opens it, or as somebody else might.
async fn open(fake: &FakeForge, repo: &RepoRef, head: &str, marked: TaskId) -> u64 {
    let text = pull_request_text(&PullRequestText {
        task: marked,
        attempt: 1,
        issue_number: None,
        description: None,
        title: "a title",
        commits: &[],
        verification: &[],
        diff: DiffStat::default(),
        cost: MicroUsd::ZERO,
        turns: 1,
        model: None,
        prompt_version: "v",
        notes: "",
    });
    let request = OpenPullRequest {
        repo: repo.clone(),
        head: head.to_owned(),
        base: "main".to_owned(),
        title: text.title,
        body: text.body,
    };
    fake.open_pull_request(&request).await.unwrap().number
}

#[tokio::test]
async fn a_forge_shows_the_pull_request_of_this_task_and_of_no_other() {
    let world = World::new(Act::Mute);
    let fake = Arc::new(FakeForge::new(world.clock.clone()));
    let repo: RepoRef = "acme/web".parse().unwrap();
    fake.commit(&repo, "main", "README.md", "hello");
    let preparer = ForgePreparer::new(fake.clone());
    let mut task = world.task(|_| {});
    task.prepared = Some(preparer.prepare(&task).await.unwrap().into());
    let branch = task.prepared.as_ref().unwrap().branch.clone();
    assert_eq!(preparer.on_forge(&task, &[sha()]).await, OnForge::Nothing);
    let head = fake.commit(&repo, &branch, "a", "b");
    let heads = [head.clone()];
    assert_eq!(preparer.on_forge(&task, &heads).await, OnForge::Pushed { sha: head.clone() });
    // Commits of somebody else on the branch are not the task's, and neither is a pull request with another mark.
    assert_eq!(preparer.on_forge(&task, &[sha()]).await, OnForge::Nothing);
    let number = open(&fake, &repo, &branch, TaskId::from_parts(abca_core::Timestamp::from_millis(1), 1)).await;
    assert_eq!(preparer.on_forge(&task, &heads).await, OnForge::Pushed { sha: head.clone() });
    let close = |number, state| UpdatePullRequest {
        repo: repo.clone(),
        number,
        title: None,
        body: None,
        base: None,
        state: Some(state),
    };
    fake.update_pull_request(&close(number, PullRequestState::Closed)).await.unwrap();
    let number = open(&fake, &repo, &branch, task.id).await;
    let found = preparer.on_forge(&task, &heads).await;
    assert!(
        matches!(&found, OnForge::Proposed { pull_request, head_sha } if pull_request.number == number && *head_sha == head)
    );
    // Closed since, it was delivered all the same.
    fake.update_pull_request(&close(number, PullRequestState::Closed)).await.unwrap();
    assert_eq!(preparer.on_forge(&task, &heads).await, found);
    fake.fail_next(GitErrorKind::Unavailable);
    assert!(matches!(preparer.on_forge(&task, &heads).await, OnForge::NoAnswer { .. }));
    fake.fail_next(GitErrorKind::Access);
    assert_eq!(preparer.on_forge(&task, &heads).await, OnForge::Unknowable);
}
