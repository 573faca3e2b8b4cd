//! The task machine under a model checker: the real `decide`, the store's real rules for a row, and a world that does
//! its worst. Every state within the bounds is visited, not sampled.

mod cases;
mod drain;
mod fixtures;
mod machine;
mod print;
mod properties;
mod table;
mod world;

use stateright::{Checker, Model};

use machine::Race;
use world::{Bounds, Guards};

const SMALL: Bounds = Bounds {
    tasks: 1,
    workers: 2,
    attempts: 2,
    cap: 1,
    ticks: 2,
    steals: 1,
    faults: 1,
    late: 0,
    cancels: 1,
    verdicts: false,
    gates: false,
    tombstones: true,
};

fn check(name: &str, race: Race) {
    let start = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let checker = race.checker().threads(2).timeout(std::time::Duration::from_secs(40)).spawn_bfs().join();
    let secs = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap() - start;
    eprintln!(
        "{name}: {} unique states, {} generated, depth {} {secs:?}",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth()
    );
    for (n, p) in checker.discoveries() {
        eprintln!("{n}: {:?}", p.into_actions());
    }
}

#[test]
fn one_task_two_workers() {
    let z = Bounds { ticks: 1, steals: 0, faults: 0, cancels: 0, workers: 1, ..SMALL };
    check("b", Race::new(Bounds { ticks: 2, ..z }, Guards::ALL));
    check("e", Race::new(Bounds { cancels: 1, workers: 2, steals: 1, ..z }, Guards::ALL));
    check("l", Race::new(Bounds { cancels: 1, late: 1, attempts: 1, faults: 1, ticks: 2, ..z }, Guards::ALL));
}
