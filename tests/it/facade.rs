//! The facade, with sessions of this process and real time: nothing waits longer than it takes.

use std::sync::Arc;

use abca::clock::SystemClock;
use abca::{Abca, CancelAnswer, ErrorKind, EventSeq, NewTask, TaskStatus, Verdict};
use abca_compute::{InProcess as InProcessCompute, SessionRunner};
use abca_core::blueprint::PlatformDefaults;
use abca_core::compute::StartSession;
use abca_core::id::WorkerId;
use abca_core::link::{AppendLog, SessionLink};
use abca_core::session::{LogEntry, LogRecord};
use abca_core::store::{Burial, ClaimQuery, ListQuery, NUDGES_PENDING, TaskStore};
use abca_core::{Clock, Millis};
use abca_store::InProcess;
use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::orchestrator::world::{Ready, report};

/// A session that succeeds, unless the task says `hang`.
#[derive(Debug)]
struct Small(Arc<dyn SessionLink>);

#[async_trait]
impl SessionRunner for Small {
    async fn run(&self, request: StartSession, _stop: CancellationToken) -> i32 {
        let (task, session) = (request.task, &request.session);
        let Ok(registered) = self.0.register(task, session).await else { return 3 };
        let record = LogRecord {
            session: session.clone(),
            at: registered.task.created_at,
            entry: LogEntry::Checkpoint { turn: 1, sha: "abc".to_owned() },
        };
        let expect_seq = registered.log.len() as u64 + 1;
        let append =
            AppendLog { task, session: session.clone(), expect_seq, records: vec![record], events: Vec::new() };
        self.0.append(&append).await.unwrap();
        let mut verdict = Verdict::Succeeded;
        if registered.task.spec.task_description.as_deref() == Some("hang") {
            while self.0.listen(task, session, &[]).await.is_ok_and(|reply| reply.stop.is_none()) {}
            verdict = Verdict::Cancelled;
        }
        i32::from(self.0.report(task, session, &report(verdict)).await.is_err())
    }
}

fn small() -> abca::Builder {
    Abca::builder()
        .store(Arc::new(InProcess::new()))
        .compute_with(|platform| Ok(Arc::new(InProcessCompute::new(Arc::new(Small(platform.link.clone()))))))
        .preparer(Arc::new(Ready))
        .user("ann")
}

fn new_task(text: &str) -> NewTask {
    NewTask::new("acme/web", text).budget_usd("3.00")
}

#[tokio::test]
async fn four_verbs() {
    let abca = small().build().await.unwrap();
    let task = abca.submit(new_task("fix it")).await.unwrap();
    let mut events = task.events();
    let mut names = Vec::new();
    while let Some(event) = events.next().await {
        names.push(event.unwrap().event_type.as_str());
    }
    assert_eq!((names.first(), names.last()), (Some(&"task_created"), Some(&"task_completed")));
    let outcome = task.outcome().await.unwrap();
    assert!(outcome.is_success());
    assert_eq!((outcome.verdict, outcome.attempts, outcome.turns), (Some(Verdict::Succeeded), 1, 1));
    assert_eq!(outcome.partial_work, None);

    // Resumed from any place: the rest, and an end also when nothing is left.
    let place = EventSeq(names.len() as u64 - 1);
    let mut rest = abca.task(task.id()).events_after(place);
    assert_eq!(rest.next().await.unwrap().unwrap().event_type.as_str(), "task_completed");
    assert!(rest.next().await.is_none());
    assert!(task.events_after(rest.position()).next().await.is_none());
    assert_eq!(task.cancel().await.unwrap(), CancelAnswer::AlreadyEnded(TaskStatus::Completed));
    assert_eq!(task.nudge("too late").await.unwrap_err().kind(), ErrorKind::Ended);
    assert_eq!(task.log().await.unwrap().len(), 1);
}

#[tokio::test]
async fn nudges_that_nobody_hears_are_refused_beyond_their_limit() {
    let abca = small().worker(false).build().await.unwrap();
    let task = abca.submit(new_task("x")).await.unwrap();
    for _ in 0..NUDGES_PENDING {
        task.nudge("are you there?").await.unwrap();
    }
    let error = task.nudge("hello?").await.unwrap_err();
    let text = format!(
        "full: task `{}` has 20 nudges that its agent has not heard yet: wait until it has, or say all in one",
        task.id()
    );
    assert_eq!((error.to_string(), error.kind(), error.is_retryable()), (text, ErrorKind::Full, true));
    assert_eq!(task.cancel().await.unwrap(), CancelAnswer::Accepted);
}

#[tokio::test]
async fn dropping_the_handle_cancels_nothing_and_cancelling_does() {
    let abca = small().build().await.unwrap();
    let id = abca.submit(new_task("hang")).await.unwrap().id();
    let task = abca.task(id);
    let mut events = task.events();
    while events.next().await.unwrap().unwrap().event_type.as_str() != "session_started" {}
    task.nudge("still there?").await.unwrap();
    assert_eq!(task.nudge("  ").await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(task.status().await.unwrap(), TaskStatus::Running);
    assert_eq!(task.cancel_as("bob").await.unwrap(), CancelAnswer::Accepted);
    assert_eq!(task.cancel().await.unwrap(), CancelAnswer::Accepted);
    let outcome = task.outcome().await.unwrap();
    assert_eq!((outcome.status, outcome.cancelled_by.as_deref()), (TaskStatus::Cancelled, Some("bob")));
    let saved = outcome.partial_work.unwrap();
    assert_eq!((saved.reference, saved.sha.as_str()), (format!("refs/abca/wip/{id}"), "abc"));
}

#[tokio::test]
async fn a_key_names_one_task() {
    let abca = small().worker(false).build().await.unwrap();
    let first = abca.submit(new_task("a").idempotency_key("k")).await.unwrap();
    let again = abca.submit(new_task("a").idempotency_key("k")).await.unwrap();
    assert_eq!(first.id(), again.id());
    let other = abca.submit(new_task("b").idempotency_key("k")).await.unwrap_err();
    assert_eq!(other.kind(), ErrorKind::Conflict);
    assert!(other.message().contains(&first.id().to_string()), "{other}");
    assert_eq!(abca.list(ListQuery::default()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn bad_input_is_named() {
    let abca = small().worker(false).build().await.unwrap();
    let refused = |task: NewTask| async { abca.submit(task).await.unwrap_err() };
    let long = refused(new_task(&"x".repeat(10_001))).await;
    assert_eq!(long.kind(), ErrorKind::Invalid);
    assert!(
        long.message().contains("10000") || long.message().contains("10_000") || long.message().contains("10 000"),
        "{long}"
    );
    assert_eq!(refused(new_task("x").budget_usd("a lot")).await.kind(), ErrorKind::Invalid);
    assert_eq!(refused(NewTask::new("not a repo", "x")).await.kind(), ErrorKind::Invalid);
    let nobody = abca.task(abca_core::TaskId::from_parts(abca_core::Timestamp::from_millis(0), 1));
    assert_eq!(nobody.status().await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(nobody.cancel().await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(nobody.outcome().await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_missing_part_is_named_with_its_call() {
    let no_store = Abca::builder().build().await.unwrap_err();
    assert_eq!(no_store.kind(), ErrorKind::Config);
    assert!(no_store.message().contains("`.store(..)`"), "{no_store}");
    let no_compute = Abca::builder().store(Arc::new(InProcess::new())).build().await.unwrap_err();
    assert!(no_compute.message().contains("`.compute(..)`"), "{no_compute}");
}

#[tokio::test(start_paused = true)]
async fn an_outcome_is_not_waited_for_beyond_every_deadline() {
    let clock = Arc::new(crate::orchestrator::world::TokioClock::starting_now());
    let mut platform = PlatformDefaults::default();
    platform.limits.queue_timeout_ms = Some(Millis::secs(60));
    platform.limits.task_timeout_ms = Some(Millis::secs(60));
    let abca = small().worker(false).clock(clock).platform(platform).build().await.unwrap();
    let task = abca.submit(new_task("x")).await.unwrap();
    let error = task.outcome().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Deadline);
    assert!(error.message().contains("start a worker"), "{error}");
}

#[tokio::test]
async fn two_facades_on_one_store_and_a_drain() {
    let store: Arc<dyn TaskStore> = Arc::new(InProcess::new());
    let one = small().store(store.clone()).build().await.unwrap();
    let two = small().store(store).worker(false).build().await.unwrap();
    let task = two.submit(new_task("x")).await.unwrap();
    assert!(task.outcome().await.unwrap().is_success());
    let drained = one.run_until(async {}).await.unwrap();
    assert_eq!(drained.unfinished, 0);
    assert_eq!(one.shutdown().await, None);
    assert!(one.task(task.id()).outcome().await.unwrap().is_success(), "reading goes on");
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn a_state_folder_is_found_again_by_another_process() {
    let dir = tempfile::tempdir().unwrap();
    let build = |worker| {
        Abca::builder()
            .state_dir(dir.path().join("state"))
            .compute_with(|platform| Ok(Arc::new(InProcessCompute::new(Arc::new(Small(platform.link.clone()))))))
            .preparer(Arc::new(Ready))
            .worker(worker)
            .worker_config({
                let mut config = abca::orchestrator::WorkerConfig::default();
                config.poll = Millis(20);
                config
            })
            .build()
    };
    let submitting = build(false).await.unwrap();
    let id = submitting.submit(new_task("x")).await.unwrap().id();
    let working = [build(true).await.unwrap(), build(true).await.unwrap()];
    let outcome = submitting.task(id).outcome().await.unwrap();
    assert!(outcome.is_success());
    for abca in working {
        assert_eq!(abca.shutdown().await.unwrap().unfinished, 0);
    }
    drop(submitting);
    let later = build(false).await.unwrap();
    assert_eq!(later.task(id).outcome().await.unwrap(), outcome);
}

#[tokio::test]
async fn an_operator_decides_about_dead_letters() {
    let store = Arc::new(InProcess::new());
    let at_rest = Abca::builder().store(store.clone()).worker(false).user("ann").build().await.unwrap();
    let mut tasks = Vec::new();
    for text in ["one", "two", "three"] {
        tasks.push(at_rest.submit(new_task(text)).await.unwrap());
    }
    let operator = at_rest.operator();
    let now = SystemClock.now();
    let query = ClaimQuery {
        worker: WorkerId::from_parts(now, 7),
        task: None,
        signalled: false,
        now,
        lease_until: now.after(Millis::secs(30)),
        limit: 9,
    };
    let claimed = store.claim(&query).await.unwrap();
    let reason = "nobody knows how to go on".to_owned();
    let burials: Vec<Burial> =
        claimed.iter().map(|s| Burial { task: s.id(), epoch: s.epoch, reason: reason.clone(), now }).collect();
    assert_eq!(store.operator().bury(&burials).await.unwrap(), [true; 3]);
    assert_eq!(operator.counts().await.unwrap().dead, 3);

    operator.fail(tasks[0].id(), "its row was damaged").await.unwrap();
    let outcome = tasks[0].outcome().await.unwrap();
    assert_eq!(outcome.status, TaskStatus::Failed);
    assert!(outcome.failure.unwrap().message.contains("its row was damaged"));
    operator.discard(tasks[1].id()).await.unwrap();
    assert_eq!(tasks[1].record().await.unwrap_err().kind(), ErrorKind::NotFound);
    operator.revive(tasks[2].id()).await.unwrap();
    assert_eq!(operator.revive(tasks[2].id()).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(operator.dead_letters(9).await.unwrap(), []);

    let at_work = small().store(store).build().await.unwrap();
    assert!(at_work.task(tasks[2].id()).outcome().await.unwrap().is_success(), "it goes on where it was");
    assert_eq!(operator.purge(Millis::secs(3_600), 9).await.unwrap(), 0, "nothing ended an hour ago");
}

#[tokio::test]
async fn a_list_is_read_in_pages_and_a_waiting_task_knows_its_place() {
    let abca = Abca::builder().store(Arc::new(InProcess::new())).worker(false).user("ann").build().await.unwrap();
    let mut ids = Vec::new();
    for n in 0..5 {
        let task = abca.submit(new_task(&format!("task {n}"))).await.unwrap();
        let place = task.place().await.unwrap().unwrap();
        assert_eq!((place.ahead, place.estimate_ms), (n, None));
        ids.push(task.id());
    }
    // Ids of the same millisecond are in no order of submission.
    ids.sort_by(|a, b| b.cmp(a));
    let query = ListQuery { limit: 2, ..ListQuery::default() };
    let (mut read, mut cursor) = (Vec::new(), None);
    loop {
        let page = abca.page(query.clone(), cursor.as_ref()).await.unwrap();
        assert!(page.tasks.len() <= 2);
        read.extend(page.tasks.iter().map(|t| t.id));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(read, ids);
    let bad = "bm90IG1pbmU".parse().unwrap();
    assert_eq!(abca.page(query, Some(&bad)).await.unwrap_err().kind(), ErrorKind::Invalid);
}
