//! What ended long ago is let go.

use std::time::Duration;

use abca::orchestrator::{Worker, WorkerConfig};
use abca_core::task::TaskStatus;
use abca_core::{Millis, TaskId};

use super::world::{Act, World};

const HOUR: u64 = 3_600;

fn config(hours: Option<u64>) -> WorkerConfig {
    let mut config = WorkerConfig::default();
    config.retention = hours.map(|h| Millis::secs(h * HOUR));
    // Days pass here, and nothing comes from elsewhere.
    config.poll = Millis::secs(60);
    config
}

async fn is_there(world: &World, task: TaskId) -> bool {
    world.store.load(&[task]).await.unwrap()[0].is_some()
}

#[tokio::test(start_paused = true)]
async fn tasks_go_once_they_ended_long_ago_and_not_before() {
    let world = World::new(Act::Succeed(0));
    let worker = Worker::start(world.parts(), config(Some(24))).unwrap();
    let mut ended = Vec::new();
    for _ in 0..250 {
        ended.push(world.submit(world.task(|_| {})).await);
    }
    for task in &ended {
        world.end(*task).await;
    }
    let long = world.task(|t| t.spec.limits.task_timeout_ms = Millis::secs(1_000 * HOUR));
    world.act(long.id, 1, Act::Hang);
    let long = world.submit(long).await;
    tokio::time::sleep(Duration::from_secs(23 * HOUR)).await;
    assert!(is_there(&world, ended[249]).await);
    // More than one batch, while other work goes on.
    tokio::time::sleep(Duration::from_secs(3 * HOUR)).await;
    for task in ended {
        assert!(!is_there(&world, task).await);
    }
    assert!(!world.snapshot(long).await.task.status.is_terminal(), "what runs is never let go, however old");
    assert_eq!(worker.shutdown().await.map(|d| d.unfinished), Some(0));
}

#[tokio::test(start_paused = true)]
async fn nothing_goes_by_itself_unless_wanted_nor_once_a_worker_drains() {
    let world = World::new(Act::Succeed(0));
    let first = Worker::start(world.parts(), config(None)).unwrap();
    let task = world.submit(world.task(|_| {})).await;
    assert_eq!(world.end(task).await.status, TaskStatus::Completed);
    tokio::time::sleep(Duration::from_secs(60 * HOUR)).await;
    assert!(is_there(&world, task).await);
    first.shutdown().await;
    let second = Worker::start(world.parts(), config(Some(1))).unwrap();
    second.shutdown().await;
    tokio::time::sleep(Duration::from_secs(HOUR)).await;
    assert!(is_there(&world, task).await);
}

#[tokio::test]
async fn less_than_an_hour_is_refused() {
    let mut config = config(Some(1));
    config.check().unwrap();
    config.retention = Some(Millis::secs(HOUR - 1));
    let refused = config.check().unwrap_err().to_string();
    assert!(refused.contains("`retention` is 59 m 59 s: set at least 1 h 00 m"), "{refused}");
}
