//! Caps that an operator lowers while tasks wait.

use std::time::Duration;

use abca::orchestrator::{Worker, WorkerConfig};
use abca_core::task::{Caps, TaskStatus};
use abca_core::testing::fixtures::limit;

use super::world::{Act, World};

fn worker(world: &World, total: Option<u32>) -> Worker {
    let mut config = WorkerConfig::default();
    config.caps.total = total;
    Worker::start(world.parts(), config).unwrap()
}

async fn holders(world: &World) -> usize {
    world.store.slots().await.unwrap().iter().find(|u| u.scope.0 == "system").map_or(0, |u| u.holders.len())
}

#[tokio::test(start_paused = true)]
async fn a_cap_that_is_lowered_counts_for_what_waits_and_ends_nothing() {
    let world = World::new(Act::Succeed(100));
    let first = worker(&world, None);
    let mut tasks = Vec::new();
    for _ in 0..8 {
        let slots = vec![limit("user:ann", 10, true), limit("system", 4, false)];
        tasks.push(world.submit(world.task(|t| t.spec.limits.slots = slots)).await);
    }
    for task in &tasks[..4] {
        world.until_status(*task, TaskStatus::Running).await;
    }
    for task in &tasks[4..] {
        world.until_status(*task, TaskStatus::Queued).await;
    }
    first.shutdown().await;
    let second = worker(&world, Some(1));
    for task in &tasks[..4] {
        assert_eq!(world.end(*task).await.status, TaskStatus::Completed, "what runs goes on");
    }
    // One at a time from here, in their order.
    for (n, task) in tasks[4..6].iter().enumerate() {
        world.until_status(*task, TaskStatus::Running).await;
        tokio::time::sleep(Duration::from_secs(50)).await;
        assert_eq!(holders(&world).await, 1, "number {n}");
        world.end(*task).await;
    }
    // Raised again, what waits has what it was accepted under.
    world.until_status(tasks[6], TaskStatus::Running).await;
    second.shutdown().await;
    let _third = worker(&world, None);
    world.until_status(tasks[7], TaskStatus::Running).await;
    assert_eq!(holders(&world).await, 2);
    for task in tasks {
        assert_eq!(world.end(task).await.status, TaskStatus::Completed);
    }
    world.quiet().await;
}

#[tokio::test]
async fn a_cap_of_zero_is_refused() {
    let mut config = WorkerConfig::default();
    config.caps = Caps::default();
    config.caps.per_user = Some(0);
    let refused = config.check().unwrap_err().to_string();
    assert!(refused.contains("`caps.per_user` is zero"), "{refused}");
}
