//! Crash points: every call of a life before, after and without an answer; every ordered pair of them; takeover at once,
//! after the lease, and after nine hours.

use std::time::{Duration, Instant};

use abca::orchestrator::{Worker, WorkerConfig};
use abca_core::task::{TaskSpec, TaskStatus};
use abca_core::testing::chaos::{Chaos, Fault};
use abca_core::testing::fixtures;
use abca_core::{Clock, Millis, TaskId};

use crate::orchestrator::world::{Act, World};

/// What is lived while the workers die.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    /// Its session works a second and reports.
    Plain,
    /// It is cancelled while its session runs.
    Cancelled,
    /// Two tasks, one slot.
    Queued,
    /// Its session asks a human, who agrees.
    Approved,
}

/// Before, after, and done without an answer.
const POSITIONS: [Fault; 3] = [Fault::DiesBefore, Fault::DiesAfter, Fault::AnswerLost];
/// How long nobody works after a death.
const TAKEOVERS: [Duration; 3] = [Duration::ZERO, Duration::from_secs(31), Duration::from_secs(9 * 3_600)];

/// Lives a life in a world of its own; answers the calls that were made, by all incarnations.
fn live(life: Life, plan: &[(usize, Fault)], takeover: Duration) -> Vec<&'static str> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let chaos = Chaos::at_each(plan.iter().copied());
        let world = World::new(if life == Life::Cancelled { Act::Hang } else { Act::Succeed(1) });
        tokio::select! {
            biased;
            () = lived(&world, life) => {}
            () = workers(&world, &chaos, takeover) => unreachable!("it never ends by itself"),
        }
        world.quiet().await;
        chaos.calls()
    })
}

/// One incarnation after another.
async fn workers(world: &World, chaos: &Chaos, takeover: Duration) {
    let mut process = chaos.clone();
    loop {
        let mut parts = world.parts();
        parts.store = std::sync::Arc::new(process.store(parts.store));
        parts.compute = std::sync::Arc::new(process.compute(parts.compute));
        // A ring in this process is not what is tested: the longer waits cost nothing.
        let mut config = WorkerConfig::default();
        config.poll = Millis::secs(10);
        config.sweep_every = Millis::secs(3_600);
        let worker = Worker::start(parts, config).unwrap();
        process.died().await;
        drop(worker);
        // Sessions do what they do; then nothing happens for hours, at once, or whoever looks every second would look on.
        let lively = Duration::from_secs(60).min(takeover);
        tokio::time::sleep(lively).await;
        if takeover > lively {
            tokio::time::advance(takeover - lively).await;
        }
        process = process.successor();
    }
}

async fn lived(world: &World, life: Life) {
    let slots = |t: &mut abca_core::task::Task| t.spec.limits.slots = vec![TaskSpec::user_slot(&t.user, 1)];
    let id = world.submit(world.task(slots)).await;
    match life {
        Life::Plain => ends(world, id, TaskStatus::Completed).await,
        Life::Cancelled => {
            running(world, id).await;
            world.cancel(id).await;
            ends(world, id, TaskStatus::Cancelled).await;
        }
        Life::Queued => {
            let second = world.submit(world.task(slots)).await;
            ends(world, id, TaskStatus::Completed).await;
            ends(world, second, TaskStatus::Completed).await;
        }
        Life::Approved => {
            let running = running(world, id).await;
            let now = world.clock.now();
            let ask = fixtures::asked("gate", now.after(Millis::secs(300)));
            world.store.signal(&[fixtures::signal(id, "ask", ask, now)]).await.unwrap();
            if running {
                world.until(id, "asked or ended", |s| s.task.awaiting.is_some() || s.task.status.is_terminal()).await;
            }
            let yes = fixtures::decided("gate", true);
            world.store.signal(&[fixtures::signal(id, "yes", yes, world.clock.now())]).await.unwrap();
            ends(world, id, TaskStatus::Completed).await;
        }
    }
}

async fn running(world: &World, id: TaskId) -> bool {
    let after =
        world.until(id, "running or ended", |s| s.task.status == TaskStatus::Running || s.task.status.is_terminal());
    after.await.task.status == TaskStatus::Running
}

/// It ends once, as it should or because nine hours were too long for it.
async fn ends(world: &World, id: TaskId, wanted: TaskStatus) {
    let task = world.end(id).await;
    let late = task.status == TaskStatus::TimedOut && world.elapsed() >= Millis::secs(9 * 3_600);
    assert!(task.status == wanted || late, "{} instead of {wanted} after {}", task.status, world.elapsed());
}

/// Names what was tried when it goes wrong.
struct Tried(Life, Vec<(usize, Fault)>, Duration);

impl Drop for Tried {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{:?} with {:?} and takeover after {:?}", self.0, self.1, self.2);
        }
    }
}

fn try_out(life: Life, plan: &[(usize, Fault)], takeover: Duration) -> usize {
    let _tried = Tried(life, plan.to_vec(), takeover);
    live(life, plan, takeover).len()
}

fn every_pair(life: Life, takeover: Duration) {
    let began = Instant::now();
    let calm = try_out(life, &[], Duration::ZERO);
    let (mut singles, mut pairs) = (0u32, 0u32);
    for first in 0..calm {
        for fault in POSITIONS {
            let calls = try_out(life, &[(first, fault)], takeover);
            singles += 1;
            // The second may hit whoever takes over, wherever that one is.
            for second in first + 1..calls {
                for next in POSITIONS {
                    try_out(life, &[(first, fault), (second, next)], takeover);
                    pairs += 1;
                }
            }
        }
    }
    println!(
        "{life:?}, takeover after {takeover:?}: {calm} calls, {singles} crash points, {pairs} pairs, {:?}",
        began.elapsed()
    );
}

macro_rules! lives {
    ($($name:ident $life:ident;)+) => {
        $(mod $name {
            use super::*;

            #[test]
            fn taken_over_at_once() {
                every_pair(Life::$life, TAKEOVERS[0]);
            }

            #[test]
            fn taken_over_after_the_lease() {
                every_pair(Life::$life, TAKEOVERS[1]);
            }

            #[test]
            fn taken_over_after_nine_hours() {
                every_pair(Life::$life, TAKEOVERS[2]);
            }
        })+
    };
}

lives! {
    plain Plain;
    cancelled Cancelled;
    queued Queued;
    approved Approved;
}
