//! Workers: one incarnation after another in each lane, each with its own clock, version and luck.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use abca::guardrail::Guard;
use abca::link::LinkSecret;
use abca::orchestrator::{Bell, PlainLauncher, PrepareFailure, Preparer, Worker, WorkerParts};
use abca_core::compute::SessionLimits;
use abca_core::task::{Failure, FailureReason, Prepared, Task};
use abca_core::testing::faults::{Process, Weather};
use abca_core::testing::{Dice, SeededIds, SkewedClock, fixtures};
use async_trait::async_trait;

use super::latch::Latch;
use super::plan;
use super::runtime::Tokio;
use super::world::World;

/// An incarnation, for whoever makes trouble.
#[derive(Debug, Clone)]
pub struct Incarnation {
    pub process: Process,
    pub clock: Arc<SkewedClock>,
}

/// Keeps a worker in this lane until the world ends.
pub async fn lane(world: Arc<World>, lane: u64) {
    let dice = world.dice.fork(&format!("lane {lane}"));
    for number in 0u64.. {
        let dice = dice.fork(&format!("incarnation {number}"));
        let process = Process::new(dice.fork("process"), world.weather.clone(), Arc::new(Tokio));
        let clock = Arc::new(SkewedClock::new(world.truth.clone(), skew(&world, &dice)));
        let incarnation = Incarnation { process: process.clone(), clock: clock.clone() };
        world.living.lock().unwrap().insert(lane, incarnation);
        let seed = dice.bits();
        let parts = WorkerParts {
            store: Arc::new(process.store(world.witness.store())),
            bell: if world.one_bell { world.bell.clone() } else { Bell::default() },
            compute: Arc::new(process.compute(world.backend.clone())),
            preparer: Arc::new(Prepares {
                dice: dice.fork("preparer"),
                weather: world.weather.clone(),
                calm: world.calm.clone(),
            }),
            guard: Guard::default(),
            launcher: Arc::new(PlainLauncher {
                secret: LinkSecret::random(&SeededIds::new(7)),
                payload: "{}".to_owned(),
                secrets: BTreeMap::new(),
                limits: SessionLimits::default(),
            }),
            clock,
            ids: Arc::new(SeededIds::new(seed)),
        };
        let worker = Worker::start(parts, plan::config(&dice)).unwrap();
        let drains = (!world.is_calm() && dice.chance(300)).then(|| Duration::from_millis(dice.between(1, 1_800_000)));
        let told = async {
            match drains {
                Some(after) => tokio::time::sleep(after).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = process.died() => {}
            () = told => {
                world.weather.count("worker: drained for a new version");
                tokio::select! {
                    biased;
                    () = process.died() => {}
                    _ = worker.shutdown() => {}
                }
            }
        }
        drop(worker);
        world.living.lock().unwrap().remove(&lane);
        world.weather.count("worker: replaced");
        let pause = *dice.pick(&[0, 0, 1_000, 60_000, 600_000, 9 * 3_600_000]);
        tokio::select! {
            biased;
            () = world.until_calm() => {}
            () = tokio::time::sleep(Duration::from_millis(pause)) => {}
        }
    }
}

fn skew(world: &World, dice: &Dice) -> i64 {
    if world.is_calm() {
        return 0;
    }
    let hour = i64::try_from(dice.between(1, 3_600_000)).unwrap();
    match dice.below(4) {
        0 => {
            world.weather.count("clock: an hour ahead at most");
            hour
        }
        1 => {
            world.weather.count("clock: an hour behind at most");
            -hour
        }
        _ => 0,
    }
}

/// Prepares, or fails to.
#[derive(Debug)]
struct Prepares {
    dice: Dice,
    weather: Weather,
    calm: Latch<bool>,
}

#[async_trait]
impl Preparer for Prepares {
    async fn prepare(&self, task: &Task) -> Result<Prepared, PrepareFailure> {
        let failed = |text: &str| Failure::new(FailureReason::Preflight, text);
        // Whether a task can be prepared at all is the task's own; the rest is luck.
        if task.id.to_string().ends_with('3') && task.spec.limits.max_attempts == 1 {
            self.weather.count("forge: refuses a task");
            return Err(PrepareFailure { failure: failed("the repository is gone"), retryable: false });
        }
        match self.dice.below(40) {
            0 if !self.calm.now() => {
                self.weather.count("forge: cannot be reached");
                return Err(PrepareFailure { failure: failed("the forge is away"), retryable: true });
            }
            1 if !self.calm.now() => {
                self.weather.count("forge: does not answer");
                std::future::pending::<()>().await;
            }
            2 => tokio::time::sleep(Duration::from_secs(self.dice.between(1, 100))).await,
            _ => {}
        }
        Ok(Prepared { branch: format!("bgagent/{}/x", task.id), ..fixtures::prepared() })
    }
}
