//! One world from one seed: built, tormented, calmed, and judged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use abca::link::StoreLink;
use abca::orchestrator::{Bell, Wake};
use abca_core::store::TaskStore;
use abca_core::task::{SignalKind, TaskStatus};
use abca_core::testing::faults::{Process, Weather};
use abca_core::testing::proxy::Proxy;
use abca_core::testing::witness::{Finding, Promise, Witness};
use abca_core::testing::{Dice, SkewedClock, Trace};
use abca_core::{Clock, Millis};
use abca_store::InProcess;

use super::compute::Backend;
use super::front::Front;
use super::latch::Latch;
use super::mutants::{Broken, Mutant};
use super::plan::{Plan, Planned};
use super::runtime::Tokio;
use super::session::Platform;
use super::trouble::trouble;
use super::workers::{Incarnation, lane};
use crate::orchestrator::world::TokioClock;

/// Longer than any deadline of a task, retries and waiting for slots included.
const TOO_LONG: Duration = Duration::from_secs(7 * 24 * 3_600);

/// A run takes some hundreds of steps, and a wild one some thousands.
const MOST_STEPS: u64 = 30_000;

#[derive(Debug)]
pub struct World {
    pub dice: Dice,
    pub weather: Weather,
    pub truth: Arc<dyn Clock>,
    pub witness: Arc<Witness>,
    pub backend: Arc<Backend>,
    pub bell: Bell,
    pub one_bell: bool,
    pub living: Mutex<BTreeMap<u64, Incarnation>>,
    pub calm: Latch<bool>,
}

impl World {
    pub fn is_calm(&self) -> bool {
        self.calm.now()
    }

    pub async fn until_calm(&self) {
        self.calm.until(|calm| *calm).await;
    }
}

/// Where sessions are heard: a process of its own, that is begun again when it has died.
struct Gateway {
    dice: Dice,
    weather: Weather,
    witness: Arc<Witness>,
    clock: Arc<SkewedClock>,
    bell: Bell,
}

impl Gateway {
    fn opens(&self, number: u64) -> (Process, Arc<StoreLink>) {
        let dice = self.dice.fork(&format!("incarnation {number}"));
        let process = Process::new(dice, self.weather.clone(), Arc::new(Tokio));
        let store = Wake::new(Arc::new(process.store(self.witness.store())), self.bell.clone());
        let link = StoreLink::new(Arc::new(store), self.clock.clone(), self.bell.clone());
        (process, Arc::new(link))
    }

    async fn runs(self, world: Arc<World>, mut process: Process, link: Latch<Arc<StoreLink>>) {
        for number in 1u64.. {
            let incarnation = Incarnation { process: process.clone(), clock: self.clock.clone() };
            world.living.lock().unwrap().insert(u64::MAX, incarnation);
            process.died().await;
            self.weather.count("gateway: replaced");
            tokio::time::sleep(Duration::from_secs(self.dice.between(0, 60))).await;
            let (next, opened) = self.opens(number);
            process = next;
            link.set(opened);
        }
    }
}

/// How a run went.
#[derive(Debug)]
pub struct Outcome {
    pub findings: Vec<Finding>,
    pub hash: u64,
    pub steps: u64,
    pub lines: Vec<String>,
    pub tally: BTreeMap<&'static str, u64>,
    pub visited: BTreeSet<TaskStatus>,
    pub ends: BTreeMap<TaskStatus, u64>,
    pub lasted: Duration,
    pub sessions: usize,
}

/// Runs one seed to its end.
pub fn run(seed: u64, mutant: Option<Mutant>, trace: Trace) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(simulate(seed, mutant, trace))
}

async fn simulate(seed: u64, mutant: Option<Mutant>, trace: Trace) -> Outcome {
    let began = tokio::time::Instant::now();
    let (dice, trace) = (Dice::new(seed), Arc::new(trace));
    let truth: Arc<dyn Clock> = Arc::new(TokioClock::starting_now());
    let plan = Plan::new(&dice.fork("plan"), truth.now());
    let store: Arc<dyn TaskStore> = match mutant {
        None => Arc::new(InProcess::new()),
        Some(mutant) => Arc::new(Proxy(Broken::new(Arc::new(InProcess::new()), mutant))),
    };
    let witness = Witness::bounded(store, trace.clone(), MOST_STEPS);
    let weather = Weather::new(plan.rates.clone());
    let backend = Backend::new(plan.capabilities, witness.clone(), mutant);
    let bell = Bell::default();
    let calm = Latch::new(false);

    let gateway_clock = Arc::new(SkewedClock::new(truth.clone(), 0));
    let front = Front::new(witness.store(), bell.clone(), weather.clone(), truth.clone(), dice.fork("front"));
    let gateway = Gateway {
        dice: dice.fork("gateway"),
        weather: weather.clone(),
        witness: witness.clone(),
        clock: gateway_clock.clone(),
        bell: if plan.one_bell { bell.clone() } else { Bell::default() },
    };
    let (process, link) = gateway.opens(0);
    let link = Latch::new(link);
    backend.joins(Arc::new(Platform {
        link: link.clone(),
        front: front.clone(),
        clock: gateway_clock,
        witness: witness.clone(),
        backend: backend.clone(),
        weather: weather.clone(),
        dice: dice.fork("sessions"),
        heartbeats: plan.capabilities.heartbeats,
    }));

    let world = Arc::new(World {
        dice,
        weather: weather.clone(),
        truth,
        witness: witness.clone(),
        backend: backend.clone(),
        bell,
        one_bell: plan.one_bell,
        living: Mutex::default(),
        calm: calm.clone(),
    });
    tokio::spawn(gateway.runs(world.clone(), process, link));
    for number in 0..plan.lanes {
        tokio::spawn(lane(world.clone(), number));
    }
    tokio::spawn(trouble(world.clone()));
    let submitted: usize = plan.tasks.len();
    for planned in plan.tasks {
        tokio::spawn(person(front.clone(), weather.clone(), planned));
    }

    // Bad weather, until everything has ended or it is enough.
    let ended = || witness.tasks().len() == submitted && witness.all_ended();
    let end_of_chaos = began + plan.chaos.to_std();
    while !ended() && tokio::time::Instant::now() < end_of_chaos {
        tokio::time::sleep(Duration::from_secs(20)).await;
    }
    weather.calm();
    calm.set(true);
    for incarnation in world.living.lock().unwrap().values() {
        incarnation.process.freeze(false);
        incarnation.process.cut_off(false);
        incarnation.clock.set_offset_ms(0);
    }
    // Then time alone has to end every task, and the backend's last session.
    let is_over = || ended() && weather.under_way() == 0 && backend.live().is_empty();
    while !is_over() && began.elapsed() < TOO_LONG && witness.findings().is_empty() {
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    judge(&witness, &backend).await;
    let statuses = witness.tasks().into_iter().filter_map(|t| witness.status(t));
    let mut ends = BTreeMap::new();
    statuses.for_each(|s| *ends.entry(s).or_default() += 1);
    Outcome {
        findings: witness.findings(),
        hash: trace.hash(),
        steps: trace.steps(),
        lines: trace.lines(),
        tally: weather.tally(),
        visited: witness.visited(),
        ends,
        lasted: began.elapsed(),
        sessions: backend.begun(),
    }
}

async fn judge(witness: &Arc<Witness>, backend: &Backend) {
    // What a run that was broken off left behind says nothing more.
    if !witness.findings().is_empty() {
        return;
    }
    witness.audit(true).await.unwrap();
    for letter in witness.store().operator().dead_letters(10).await.unwrap() {
        let detail = format!("put aside: {}", letter.reason);
        witness.report(Finding { promise: Promise::Ends, task: Some(letter.task), detail });
    }
    let live = backend.live();
    if !live.is_empty() && witness.all_ended() {
        witness.report(Finding { promise: Promise::NoOrphan, task: None, detail: format!("still there: {live:?}") });
    }
}

/// Somebody who submits a task, and what they do to it then.
async fn person(front: Front, weather: Weather, planned: Planned) {
    tokio::time::sleep(planned.after.to_std()).await;
    let id = planned.submit.task.id;
    front.submits(planned.submit).await;
    if planned.lowers_cap {
        weather.count("operator: lowers a cap");
    }
    let after = async |wait: Millis, name: String, kind: SignalKind, what: &'static str, times: u64| {
        tokio::time::sleep(wait.to_std()).await;
        weather.count(what);
        for _ in 0..times {
            front.signals(id, &name, kind.clone()).await;
        }
    };
    let uploads = async {
        if let Some(wait) = planned.uploads_after {
            after(wait, "uploads".to_owned(), SignalKind::UploadsConfirmed, "person: uploads", 1).await;
        }
    };
    let cancel = async {
        if let Some((wait, times)) = planned.cancel_after {
            let kind = SignalKind::Cancel { by: "ann".to_owned() };
            let what = if times > 1 { "person: cancels, again and again" } else { "person: cancels" };
            after(wait, "cancel".to_owned(), kind, what, times).await;
        }
    };
    let nudges = async {
        for (n, wait) in planned.nudges.iter().enumerate() {
            let kind = SignalKind::Nudge { message: "please".to_owned() };
            after(*wait, format!("nudge/{n}"), kind, "person: nudges", 1).await;
        }
    };
    tokio::join!(uploads, cancel, nudges);
}
