//! Long work, lost leases, and loops that break.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use abca::orchestrator::{PrepareFailure, Preparer, Worker, WorkerConfig};
use abca_core::Millis;
use abca_core::id::WorkerId;
use abca_core::store::ClaimQuery;
use abca_core::task::{Failure, FailureReason, Prepared, Task, TaskStatus};
use abca_core::{Clock, IdSource, Timestamp};
use async_trait::async_trait;

use super::world::{Act, Ready, TokioClock, World};

/// Takes its time, and may panic the first time.
#[derive(Debug)]
struct Slow {
    seconds: u64,
    panics: bool,
    begun: AtomicU32,
    done: AtomicU32,
}

impl Slow {
    fn new(seconds: u64, panics: bool) -> Arc<Self> {
        Arc::new(Self { seconds, panics, begun: AtomicU32::new(0), done: AtomicU32::new(0) })
    }

    fn worker(self: &Arc<Self>, world: &World) -> Worker {
        let mut parts = world.parts();
        parts.preparer = self.clone();
        Worker::start(parts, WorkerConfig::default()).unwrap()
    }
}

#[async_trait]
impl Preparer for Slow {
    async fn prepare(&self, task: &Task) -> Result<Prepared, PrepareFailure> {
        let before = self.begun.fetch_add(1, Ordering::SeqCst);
        assert!(!self.panics || before > 0, "the test wants a panic");
        tokio::time::sleep(Duration::from_secs(self.seconds)).await;
        self.done.fetch_add(1, Ordering::SeqCst);
        Ready.prepare(task).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_kept_as_long_as_the_work_takes() {
    let world = World::new(Act::Succeed(0));
    let slow = Slow::new(100, false);
    let _workers = [slow.worker(&world), slow.worker(&world)];
    let id = world.submit(world.task(|_| {})).await;
    assert_eq!(world.end(id).await.status, TaskStatus::Completed);
    assert_eq!((slow.begun.load(Ordering::SeqCst), slow.done.load(Ordering::SeqCst)), (1, 1));
    world.quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_cancel_interrupts_long_work() {
    let world = World::new(Act::Succeed(0));
    let slow = Slow::new(100, false);
    let _worker = slow.worker(&world);
    let id = world.submit(world.task(|_| {})).await;
    world.until(id, "preparing", |_| slow.begun.load(Ordering::SeqCst) > 0).await;
    let before = world.elapsed();
    world.cancel(id).await;
    assert_eq!(world.end(id).await.status, TaskStatus::Cancelled);
    let took = Millis(world.elapsed().0 - before.0);
    assert!(took < Millis(100), "{took}");
    assert_eq!(slow.done.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_signal_that_changes_nothing_does_not_begin_long_work_anew() {
    let world = World::new(Act::Succeed(0));
    let slow = Slow::new(100, false);
    let _worker = slow.worker(&world);
    let id = world.submit(world.task(|_| {})).await;
    world.until(id, "preparing", |_| slow.begun.load(Ordering::SeqCst) > 0).await;
    world.nudge(id, "n1").await;
    assert_eq!(world.end(id).await.status, TaskStatus::Completed);
    assert_eq!((slow.begun.load(Ordering::SeqCst), slow.done.load(Ordering::SeqCst)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_panics_costs_a_lease_and_nothing_else() {
    let world = World::new(Act::Succeed(0));
    let slow = Slow::new(0, true);
    let _worker = slow.worker(&world);
    let ids = [world.submit(world.task(|_| {})).await, world.submit(world.task(|_| {})).await];
    for id in ids {
        assert_eq!(world.end(id).await.status, TaskStatus::Completed);
    }
    assert!(world.elapsed() < Millis::secs(32), "{}", world.elapsed());
    world.quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_whose_task_was_claimed_by_another_drops_it() {
    let world = World::new(Act::Succeed(0));
    let slow = Slow::new(60, false);
    let _worker = slow.worker(&world);
    let id = world.submit(world.task(|_| {})).await;
    world.until(id, "preparing", |_| slow.begun.load(Ordering::SeqCst) > 0).await;
    // Another process, whose clock is ahead, takes the task for expired, and dies at once.
    let now = world.clock.now().after(Millis::secs(31));
    let worker = WorkerId::from_parts(now, world.ids.random());
    let lease_until = now.after(Millis::secs(30));
    let query = ClaimQuery { worker, task: Some(id), signalled: false, now, lease_until, limit: 1 };
    let stolen = world.store.claim(&query).await.unwrap();
    assert_eq!(stolen.len(), 1);
    assert_eq!(world.end(id).await.status, TaskStatus::Completed);
    assert_eq!(slow.done.load(Ordering::SeqCst), 1, "what was begun under the lost lease is dropped");
    world.quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_cancel_is_heard_when_every_place_is_taken() {
    let world = World::new(Act::Succeed(0));
    let slow = Slow::new(100, false);
    let mut parts = world.parts();
    parts.preparer = slow.clone();
    let mut config = WorkerConfig::default();
    config.max_driving = 1;
    let _worker = Worker::start(parts, config).unwrap();
    let driven = world.submit(world.task(|_| {})).await;
    world.until(driven, "preparing", |_| slow.begun.load(Ordering::SeqCst) > 0).await;
    let mut waiting = Vec::new();
    for _ in 0..20 {
        waiting.push(world.submit(world.task(|_| {})).await);
    }
    // The youngest of those that wait for a place, and the one that has it.
    for id in [waiting[19], driven] {
        let before = world.elapsed();
        world.cancel(id).await;
        assert_eq!(world.end(id).await.status, TaskStatus::Cancelled);
        let took = Millis(world.elapsed().0 - before.0);
        assert!(took < Millis::secs(1), "{took}");
    }
    assert_eq!(slow.done.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_waits_for_its_session_holds_no_place() {
    let world = World::new(Act::Hang);
    let mut config = WorkerConfig::default();
    config.max_driving = 1;
    let _worker = Worker::start(world.parts(), config).unwrap();
    let mut running = Vec::new();
    for _ in 0..5 {
        let id = world.submit(world.task(|_| {})).await;
        world.until_status(id, TaskStatus::Running).await;
        running.push(id);
    }
    assert!(world.elapsed() < Millis::secs(5), "{}", world.elapsed());
    world.cancel(running[2]).await;
    assert_eq!(world.end(running[2]).await.status, TaskStatus::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn the_death_of_a_worker_of_this_machine_is_known_before_its_leases_end() {
    let world = World::new(Act::Succeed(0));
    let roster = tempfile::tempdir().unwrap();
    let mut config = WorkerConfig::default();
    config.roster = Some(roster.path().to_owned());
    let slow = Slow::new(100, false);
    let mut parts = world.parts();
    parts.preparer = slow.clone();
    let first = Worker::start(parts, config.clone()).unwrap();
    let id = world.submit(world.task(|_| {})).await;
    world.until(id, "preparing", |_| slow.begun.load(Ordering::SeqCst) > 0).await;
    let second = Worker::start(world.parts(), config.clone()).unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(world.snapshot(id).await.epoch, 1, "while it lives it keeps its task");
    // As a crash.
    drop(first);
    let before = world.elapsed();
    assert_eq!(world.end(id).await.status, TaskStatus::Completed);
    let took = Millis(world.elapsed().0 - before.0);
    assert!(took < Millis::secs(2), "{took}");
    second.shutdown().await.unwrap();
    assert_eq!(std::fs::read_dir(roster.path()).unwrap().count(), 0, "one was buried, the other left");
}

#[tokio::test(start_paused = true)]
async fn more_tasks_than_may_be_driven_at_once_take_turns() {
    let world = World::new(Act::Succeed(0));
    let slow = Slow::new(10, false);
    let mut parts = world.parts();
    parts.preparer = slow.clone();
    let mut config = WorkerConfig::default();
    config.max_driving = 3;
    let _worker = Worker::start(parts, config).unwrap();
    let mut ids = Vec::new();
    for _ in 0..9 {
        ids.push(world.submit(world.task(|_| {})).await);
    }
    for id in ids {
        assert_eq!(world.end(id).await.status, TaskStatus::Completed);
    }
    assert!(world.elapsed() >= Millis::secs(30) && world.elapsed() < Millis::secs(33), "{}", world.elapsed());
    world.quiet().await;
}

/// A clock that is a year ahead until somebody sets it.
#[derive(Debug)]
struct Ahead {
    right: Arc<TokioClock>,
    set: AtomicBool,
}

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        let ahead = if self.set.load(Ordering::SeqCst) { Millis(0) } else { Millis::secs(365 * 24 * 3_600) };
        self.right.now().after(ahead)
    }
}

/// Fails once in a way that may pass.
#[derive(Debug)]
struct Later(AtomicBool);

#[async_trait]
impl Preparer for Later {
    async fn prepare(&self, task: &Task) -> Result<Prepared, PrepareFailure> {
        if self.0.swap(true, Ordering::SeqCst) {
            return Ready.prepare(task).await;
        }
        let failure = Failure::new(FailureReason::Preflight, "the forge is away");
        Err(PrepareFailure { failure, retryable: true })
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_whose_clock_is_set_back_looks_after_what_it_had_put_off() {
    let world = World::new(Act::Succeed(0));
    let clock = Arc::new(Ahead { right: world.clock.clone(), set: AtomicBool::new(false) });
    let mut parts = world.parts();
    (parts.clock, parts.preparer) = (clock.clone(), Arc::new(Later(AtomicBool::new(false))));
    let _worker = Worker::start(parts, WorkerConfig::default()).unwrap();
    let now = clock.now();
    let task = world.task(|t| (t.created_at, t.status_at, t.updated_at) = (now, now, now));
    let id = world.submit(task).await;
    world.until(id, "put off", |s| s.task.unprepared.is_some()).await;
    clock.set.store(true, Ordering::SeqCst);
    assert_eq!(world.end(id).await.status, TaskStatus::Completed);
    assert!(world.elapsed() < Millis::secs(90), "{}", world.elapsed());
}

#[tokio::test]
async fn settings_that_no_worker_can_work_with_are_refused_by_name() {
    let world = World::new(Act::Mute);
    let refused = |change: fn(&mut WorkerConfig)| {
        let mut config = WorkerConfig::default();
        change(&mut config);
        Worker::start(world.parts(), config).unwrap_err().message().to_owned()
    };
    let range = "set one from 1.0 s to 1 h 00 m";
    assert_eq!(refused(|c| c.lease = Millis::secs(10_800)), format!("the worker's `lease` is 3 h 00 m: {range}"));
    assert_eq!(refused(|c| c.lease = Millis(0)), format!("the worker's `lease` is 0 ms: {range}"));
    assert_eq!(refused(|c| c.poll = Millis(0)), "the worker's `poll` is zero: set a time");
}
