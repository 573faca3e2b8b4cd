//! What befalls the world: storms, partitions, frozen and killed workers, clocks that jump, stolen leases.

use std::sync::Arc;
use std::time::Duration;

use abca_core::Millis;
use abca_core::id::WorkerId;
use abca_core::store::{ClaimQuery, StoreErrorKind};
use abca_core::testing::Dice;
use abca_core::testing::faults::Storm;

use super::workers::Incarnation;
use super::world::World;

/// Makes trouble until it is calm.
pub async fn trouble(world: Arc<World>) {
    let dice = world.dice.fork("trouble");
    let often = *dice.pick(&[120_000, 600_000, 1_800_000]);
    loop {
        tokio::time::sleep(Duration::from_millis(dice.between(1, often))).await;
        if world.is_calm() {
            return;
        }
        incident(&world, &dice).await;
    }
}

async fn incident(world: &Arc<World>, dice: &Dice) {
    let victim = {
        let living = world.living.lock().unwrap();
        let all: Vec<Incarnation> = living.values().cloned().collect();
        if all.is_empty() { None } else { Some(dice.pick(&all).clone()) }
    };
    let count = |what| world.weather.count(what);
    match (dice.below(10), victim) {
        (0, _) => {
            let (name, storm) = *dice.pick(&[
                ("storm: outcomes unknown", Storm::Store(StoreErrorKind::Unknown)),
                ("storm: throttled", Storm::Store(StoreErrorKind::Throttled)),
                ("storm: store away", Storm::Store(StoreErrorKind::Unavailable)),
                ("storm: disk full", Storm::Store(StoreErrorKind::Full)),
                ("storm: slow store", Storm::SlowStore(Millis(3_000))),
                ("storm: backend away", Storm::Backend),
            ]);
            count(name);
            world.weather.storm(Some(storm));
            let (weather, lasts) = (world.weather.clone(), lasts(dice, 600_000));
            tokio::spawn(async move {
                tokio::time::sleep(lasts).await;
                weather.storm(None);
            });
        }
        (1 | 2, Some(victim)) => {
            count("worker: killed between two calls");
            victim.process.kill();
        }
        (3, Some(victim)) => {
            count("worker: cut off");
            victim.process.cut_off(true);
            let lasts = lasts(dice, 3_600_000);
            tokio::spawn(async move {
                tokio::time::sleep(lasts).await;
                victim.process.cut_off(false);
            });
        }
        (4 | 5, Some(victim)) => {
            count("worker: frozen");
            victim.process.freeze(true);
            let lasts = lasts(dice, 2 * 3_600_000);
            tokio::spawn(async move {
                tokio::time::sleep(lasts).await;
                victim.process.freeze(false);
            });
        }
        (6, Some(victim)) => {
            count("clock: jumps ahead");
            victim.clock.set_offset_ms(victim.clock.offset_ms() + jump(dice));
        }
        (7, Some(victim)) => {
            count("clock: jumps back");
            victim.clock.set_offset_ms(victim.clock.offset_ms() - jump(dice));
        }
        (8, _) => {
            count("worker: its lease is stolen");
            // Somebody whose clock is ahead takes what is not due, and dies at once.
            let now = world.truth.now().after(Millis::secs(3_601));
            let worker = WorkerId::from_parts(now, u128::from(dice.bits()));
            let lease_until = world.truth.now().after(Millis::secs(*dice.pick(&[1, 30, 600])));
            let query = ClaimQuery { worker, task: None, signalled: false, now, lease_until, limit: 3 };
            let _stolen = world.witness.store().claim(&query).await;
        }
        (_, _) => {}
    }
}

fn lasts(dice: &Dice, most: u64) -> Duration {
    let most = *dice.pick(&[2_000, most / 10, most]);
    Duration::from_millis(dice.between(1, most))
}

fn jump(dice: &Dice) -> i64 {
    i64::try_from(dice.between(1, *dice.pick(&[60_000, 3_600_000, 5 * 3_600_000]))).unwrap()
}
