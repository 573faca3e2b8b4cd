//! One task at a time.

use std::time::Duration;

use abca_core::Millis;
use abca_core::task::{FailureReason, TaskStatus};

use super::world::{Act, World};

#[tokio::test(start_paused = true)]
async fn a_task_runs_once_and_completes() {
    let world = World::new(Act::Succeed(5));
    let _worker = world.worker();
    let id = world.submit(world.task(|_| {})).await;
    let task = world.end(id).await;
    assert_eq!(task.status, TaskStatus::Completed);
    assert_eq!(task.report.unwrap().turns_completed, 1);
    assert_eq!(
        world.names(id).await,
        [
            "task_created",
            "task_admitted",
            "hydration_complete",
            "session_starting",
            "session_started",
            "session_walls",
            "task_completed"
        ]
    );
    assert!(world.elapsed() < Millis(5_100), "wake-ups come at once: {}", world.elapsed());
    world.quiet().await;
}

#[tokio::test(start_paused = true)]
async fn without_a_bell_it_is_found_by_due_time() {
    let world = World::new(Act::Succeed(0));
    let mut parts = world.parts();
    parts.bell = Default::default();
    let _worker = abca::orchestrator::Worker::start(parts, Default::default()).unwrap();
    let id = world.submit(world.task(|_| {})).await;
    assert_eq!(world.end(id).await.status, TaskStatus::Completed);
    assert!(world.elapsed() < Millis::secs(2), "{}", world.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_the_sessions_own_and_final() {
    let world = World::new(Act::Fail);
    let _worker = world.worker();
    let id = world.submit(world.task(|_| {})).await;
    let task = world.end(id).await;
    assert_eq!((task.status, task.attempt), (TaskStatus::Failed, 1));
    assert_eq!(task.failure.unwrap().reason, FailureReason::Verification);
    world.quiet().await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_prepared_fails_without_a_session() {
    let world = World::new(Act::Fail);
    let _worker = world.worker();
    let id = world.submit(world.task(|t| t.spec.task_description = Some("unpreparable".to_owned()))).await;
    let task = world.end(id).await;
    assert_eq!((task.status, task.attempt), (TaskStatus::Failed, 0));
    assert_eq!(task.failure.unwrap().reason, FailureReason::Preflight);
    assert_eq!(world.sessions().0, 0);
}

#[tokio::test(start_paused = true)]
async fn a_crash_is_tried_again_at_once_noticed_and_after_a_pause() {
    let world = World::new(Act::Succeed(1));
    let _worker = world.worker();
    let task = world.task(|_| {});
    world.act(task.id, 1, Act::Crash);
    world.act(task.id, 2, Act::CrashEarly);
    let id = world.submit(task).await;
    let task = world.end(id).await;
    assert_eq!((task.status, task.attempt), (TaskStatus::Completed, 3));
    assert_eq!(world.last_words(), ["crashed", "crashed early", "reported"]);
    // Back-off of 2 and 4 seconds, and a second of work: a crash is noticed by its exit, not by silence.
    assert!(world.elapsed() < Millis(7_500), "{}", world.elapsed());
    world.quiet().await;
}

#[tokio::test(start_paused = true)]
async fn after_the_last_attempt_it_fails() {
    let world = World::new(Act::Crash);
    let _worker = world.worker();
    let id = world.submit(world.task(|_| {})).await;
    let task = world.end(id).await;
    assert_eq!((task.status, task.attempt), (TaskStatus::Failed, 3));
    let failure = task.failure.unwrap();
    assert_eq!(failure.reason, FailureReason::SessionLost);
    assert!(failure.message.contains("attempt 3 of 3"), "{}", failure.message);
    assert_eq!(world.sessions().0, 3);
    world.quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_deaf_session_is_killed_and_replaced() {
    let world = World::new(Act::Succeed(0));
    let _worker = world.worker();
    let task = world.task(|_| {});
    world.act(task.id, 1, Act::Deaf);
    let id = world.submit(task).await;
    let task = world.end(id).await;
    assert_eq!((task.status, task.attempt), (TaskStatus::Completed, 2));
    let names = world.names(id).await;
    assert!(names.contains(&"session_stopping") && names.contains(&"session_start_retry"), "{names:?}");
    world.quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_what_never_ends() {
    let world = World::new(Act::Hang);
    let _worker = world.worker();
    let id = world.submit(world.task(|t| t.spec.limits.task_timeout_ms = Millis::secs(600))).await;
    let task = world.end(id).await;
    assert_eq!(task.status, TaskStatus::TimedOut);
    assert_eq!(task.failure.unwrap().reason, FailureReason::Deadline);
    assert!(world.elapsed() < Millis::secs(620), "{}", world.elapsed());
    world.quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_session_that_reports_but_stays_is_ended() {
    let world = World::new(Act::Linger);
    let _worker = world.worker();
    let id = world.submit(world.task(|_| {})).await;
    let task = world.end(id).await;
    assert_eq!((task.status, task.attempt), (TaskStatus::Completed, 1));
    world.quiet().await;
}

#[tokio::test(start_paused = true)]
async fn cancelled_before_a_worker_looks_it_never_starts() {
    let world = World::new(Act::Succeed(1));
    let id = world.submit(world.task(|_| {})).await;
    world.cancel(id).await;
    let _worker = world.worker();
    let task = world.end(id).await;
    assert_eq!((task.status, task.attempt), (TaskStatus::Cancelled, 0));
    assert_eq!(world.sessions().0, 0);
}

#[tokio::test(start_paused = true)]
async fn cancelled_while_it_starts_leaves_nothing_running() {
    let world = World::new(Act::Hang);
    let _worker = world.worker();
    let id = world.submit(world.task(|_| {})).await;
    world.until(id, "starting", |s| s.task.session.is_some()).await;
    world.cancel(id).await;
    assert_eq!(world.end(id).await.status, TaskStatus::Cancelled);
    world.quiet().await;
}

#[tokio::test(start_paused = true)]
async fn cancelled_while_running_the_session_hears_it_at_once() {
    let world = World::new(Act::Hang);
    let _worker = world.worker();
    let id = world.submit(world.task(|_| {})).await;
    world.until_status(id, TaskStatus::Running).await;
    tokio::time::sleep(Duration::from_secs(100)).await;
    let before = abca_core::Clock::now(&*world.clock);
    world.cancel(id).await;
    let task = world.end(id).await;
    assert_eq!(task.status, TaskStatus::Cancelled);
    assert_eq!(task.cancel.unwrap().by, "bob");
    assert!(task.completed_at.unwrap().since(before) < Millis(100));
    assert!(world.last_words()[0].starts_with("stopped: "), "{:?}", world.last_words());
    world.quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_drained_worker_leaves_sessions_and_another_ends_their_tasks() {
    let world = World::new(Act::Succeed(60));
    let first = world.worker();
    let id = world.submit(world.task(|_| {})).await;
    world.until_status(id, TaskStatus::Running).await;
    let drained = first.shutdown().await.unwrap();
    assert_eq!((drained.unfinished, drained.sessions, drained.sessions_outlive_worker), (0, 1, false));
    assert_eq!(first.shutdown().await, None);
    let waiting = world.submit(world.task(|_| {})).await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(world.snapshot(waiting).await.task.status, TaskStatus::Submitted, "nobody claims any more");
    let _second = world.worker();
    assert_eq!(world.end(id).await.status, TaskStatus::Completed);
    assert_eq!(world.end(waiting).await.status, TaskStatus::Completed);
    world.quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_session_that_no_task_expects_is_stopped() {
    let world = World::new(Act::Hang);
    let first = world.worker();
    let id = world.submit(world.task(|_| {})).await;
    world.until_status(id, TaskStatus::Running).await;
    drop(first);
    // Starts that came late, under a name that the record does not hold: one speaks and is refused, one is silent.
    let parts = world.parts();
    let snapshot = world.snapshot(id).await;
    let late = [2, 3].map(|attempt| (abca_core::SessionId::of(id, attempt), attempt));
    world.act(id, 3, Act::Mute);
    for (session, attempt) in &late {
        let request = parts.launcher.launch(&snapshot.task, session, *attempt).await.unwrap();
        world.compute.start(&request).await.unwrap();
    }
    let _second = world.worker();
    tokio::time::sleep(Duration::from_secs(1)).await;
    for (session, _) in &late {
        let view = world.compute.observe(session).await.unwrap();
        assert!(matches!(view, abca_core::compute::SessionView::Exited { .. }), "{session}: {view:?}");
    }
    assert!(world.last_words()[0].contains("does not expect"), "{:?}", world.last_words());
    world.cancel(id).await;
    assert_eq!(world.end(id).await.status, TaskStatus::Cancelled);
    world.quiet().await;
}
