//! Many tasks, and several workers.

use abca_core::task::{TaskSpec, TaskStatus};
use abca_core::{Millis, UserId};

use super::world::{Act, World};

#[tokio::test(start_paused = true)]
async fn thirty_tasks_at_a_cap_of_two_go_first_in_first_out() {
    let world = World::new(Act::Succeed(10));
    let _worker = world.worker();
    let mut ids = Vec::new();
    for _ in 0..30 {
        let task = world.task(|t| t.spec.limits.slots = vec![TaskSpec::user_slot(&t.user, 2)]);
        ids.push(world.submit(task).await);
        tokio::time::advance(std::time::Duration::from_millis(1)).await;
    }
    let mut admitted = Vec::new();
    for id in &ids {
        let task = world.end(*id).await;
        assert_eq!(task.status, TaskStatus::Completed);
        admitted.push(task.admitted_at.unwrap());
    }
    assert!(admitted.is_sorted(), "first in, first out: {admitted:?}");
    assert_eq!(world.sessions(), (30, 2));
    // Fifteen rounds of ten seconds: a freed slot is taken at once.
    assert!(world.elapsed() < Millis::secs(152), "{}", world.elapsed());
    world.quiet().await;
}

#[tokio::test(start_paused = true)]
async fn users_do_not_wait_for_each_other() {
    let world = World::new(Act::Hang);
    let _worker = world.worker();
    for _ in 0..3 {
        world.submit(world.task(|t| t.spec.limits.slots = vec![TaskSpec::user_slot(&t.user, 1)])).await;
    }
    let other = world.task(|t| {
        t.user = UserId::new("zoe").unwrap();
        t.spec.limits.slots = vec![TaskSpec::user_slot(&t.user, 1)];
    });
    world.act(other.id, 1, Act::Succeed(1));
    let id = world.submit(other).await;
    assert_eq!(world.end(id).await.status, TaskStatus::Completed);
    assert!(world.elapsed() < Millis::secs(2));
}

#[tokio::test(start_paused = true)]
async fn two_workers_share_a_store_and_every_task_ends_once() {
    let world = World::new(Act::Succeed(3));
    let workers = [world.worker(), world.worker()];
    let mut ids = Vec::new();
    for i in 0..40u32 {
        let task = world.task(|t| t.spec.limits.slots = vec![TaskSpec::user_slot(&t.user, 5)]);
        if i % 7 == 3 {
            world.act(task.id, 1, Act::Crash);
        }
        ids.push(world.submit(task).await);
    }
    for id in ids {
        assert_eq!(world.end(id).await.status, TaskStatus::Completed);
    }
    assert!(world.sessions().1 <= 5);
    world.quiet().await;
    for worker in &workers {
        assert_eq!(worker.shutdown().await.unwrap().unfinished, 0);
    }
}
