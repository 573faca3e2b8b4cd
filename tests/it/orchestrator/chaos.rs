//! Every call of a life goes wrong once, in every way; another worker takes over; the task ends once.

use std::sync::Arc;

use abca::orchestrator::{Worker, WorkerConfig};
use abca_core::task::TaskStatus;
use abca_core::testing::chaos::{Chaos, Fault};

use super::world::{Act, World};

/// A life whose first session crashes, so that the retry is in it too; and one that is cancelled while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Retried,
    Cancelled,
}

async fn live(life: Life, chaos: &Chaos) -> World {
    let world = World::new(if life == Life::Retried { Act::Succeed(1) } else { Act::Hang });
    let mut parts = world.parts();
    parts.store = Arc::new(chaos.store(parts.store));
    parts.compute = Arc::new(chaos.compute(parts.compute));
    let first = Worker::start(parts, WorkerConfig::default()).unwrap();
    let task = world.task(|_| {});
    if life == Life::Retried {
        world.act(task.id, 1, Act::Crash);
    }
    let id = world.submit(task).await;
    let ends = async {
        if life == Life::Cancelled {
            world.until(id, "running or ended", |s| s.task.status == TaskStatus::Running).await;
            world.cancel(id).await;
        }
        world.end(id).await
    };
    let takes_over = async {
        chaos.died().await;
        drop(first);
        let _second = world.worker();
        std::future::pending::<()>().await
    };
    let task = tokio::select! {
        task = ends => task,
        () = takes_over => unreachable!("it never ends by itself"),
    };
    match life {
        Life::Retried => {
            assert_eq!(task.status, TaskStatus::Completed);
            // A start whose answer is lost may cost an attempt; a session never runs twice (checked at the end).
            assert!((2..=3).contains(&task.attempt), "{} attempts", task.attempt);
        }
        Life::Cancelled => assert_eq!(task.status, TaskStatus::Cancelled),
    }
    world.quiet().await;
    world
}

async fn every_fault_of(life: Life) {
    let calm = Chaos::none();
    live(life, &calm).await;
    let calls = calm.calls();
    assert!(calls.len() > 10, "{calls:?}");
    for (at, call) in calls.iter().enumerate() {
        for fault in Fault::ALL {
            println!("{life:?}: call {at} ({call}): {fault:?}");
            live(life, &Chaos::at(at, fault)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_retried_life_survives_every_fault_at_every_call() {
    every_fault_of(Life::Retried).await;
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_life_survives_every_fault_at_every_call() {
    every_fault_of(Life::Cancelled).await;
}
