//! What a seed decides before anything runs: the tasks, the weather, the backend.

use abca::orchestrator::WorkerConfig;
use abca_core::compute::ComputeCapabilities;
use abca_core::event::{EventType, NewEvent};
use abca_core::store::Submit;
use abca_core::task::{SlotLimit, SlotScope, Task, TaskSpec, TaskStatus};
use abca_core::testing::Dice;
use abca_core::testing::faults::{Mishap, Rates};
use abca_core::testing::fixtures;
use abca_core::{Millis, TaskId, Timestamp, UserId};

/// How a world is.
#[derive(Debug)]
pub struct Plan {
    pub rates: Rates,
    pub capabilities: ComputeCapabilities,
    /// How many workers at once.
    pub lanes: u64,
    /// Whether everybody hears everybody's bell, as in one process.
    pub one_bell: bool,
    pub tasks: Vec<Planned>,
    /// When the weather calms down, at the latest.
    pub chaos: Millis,
}

/// A task, and what people do to it.
#[derive(Debug)]
pub struct Planned {
    pub after: Millis,
    pub submit: Submit,
    pub uploads_after: Option<Millis>,
    pub cancel_after: Option<(Millis, u64)>,
    pub nudges: Vec<Millis>,
    pub lowers_cap: bool,
}

impl Plan {
    pub fn new(dice: &Dice, now: Timestamp) -> Self {
        let mut capabilities = ComputeCapabilities::none();
        capabilities.outlives_worker = true;
        capabilities.heartbeats = dice.chance(800);
        capabilities.exit_status = dice.chance(800);
        capabilities.tombstones = dice.chance(800);
        capabilities.wait = dice.chance(700);
        let tasks = tasks(&dice.fork("tasks"), now);
        let chaos = *dice.weighted(&[(5, Millis::secs(600)), (4, Millis::secs(3_600)), (2, Millis::secs(6 * 3_600))]);
        Self {
            rates: rates(&dice.fork("rates")),
            capabilities,
            lanes: dice.between(1, 3),
            one_bell: dice.chance(500),
            tasks,
            chaos,
        }
    }
}

/// Each seed has some of the mishaps, some often: what hides behind another fault in one world comes alone in the next.
fn rates(dice: &Dice) -> Rates {
    let wild = *dice.weighted(&[(2, 0), (5, 10), (4, 40), (1, 120)]);
    Mishap::ALL.into_iter().fold(Rates::none(), |rates, mishap| {
        let most = match mishap {
            Mishap::DiesBefore | Mishap::DiesAfter => wild / 4,
            Mishap::VerySlow => wild / 8,
            Mishap::Fails | Mishap::AnswerLost | Mishap::Twice | Mishap::Slow | Mishap::LandsLater => wild,
        };
        if dice.chance(600) { rates.with(mishap, dice.between(0, most)) } else { rates }
    })
}

fn tasks(dice: &Dice, now: Timestamp) -> Vec<Planned> {
    let users = dice.between(1, 2);
    let cap = dice.between(1, 3);
    let system = dice.chance(300).then(|| dice.between(1, 3));
    let spread = *dice.pick(&[0, 5_000, 300_000]);
    let lowered = dice.chance(300);
    let count = dice.between(1, 5);
    let mut tasks: Vec<Planned> = (0..count)
        .map(|n| {
            let lowers_cap = lowered && n >= count / 2;
            let cap = if lowers_cap { 1 } else { cap };
            let after = Millis(dice.between(0, spread));
            let name = ["ann", "bob"][usize::try_from(dice.below(users)).unwrap()];
            let task = task(dice, now, n, name, cap, system);
            let waits = task.status == TaskStatus::PendingUploads;
            let people = dice.fork(&format!("people {n}"));
            let cancel_after = people.chance(250).then(|| {
                let late = *people.pick(&[200, 5_000, 120_000, 3_600_000]);
                (Millis(people.between(0, late)), people.between(1, 3))
            });
            let nudges = (0..people.below(3)).map(|_| Millis(people.between(0, 300_000))).collect();
            Planned {
                after,
                uploads_after: (waits && people.chance(700)).then(|| Millis(people.between(0, 600_000))),
                cancel_after,
                nudges: if people.chance(200) { nudges } else { Vec::new() },
                lowers_cap,
                submit: Submit {
                    payload_hash: task.id.to_string(),
                    events: vec![NewEvent::new(EventType::TaskCreated, now)],
                    due_at: now,
                    task,
                },
            }
        })
        .collect();
    tasks.sort_by_key(|t| t.after);
    tasks
}

fn task(dice: &Dice, now: Timestamp, n: u64, user: &str, cap: u64, system: Option<u64>) -> Task {
    let id = TaskId::from_parts(now, u128::from(n + 1));
    let user = UserId::new(user).unwrap();
    let mut spec = fixtures::spec();
    let limits = &mut spec.limits;
    let slot = |scope: &str, cap: u64, fifo| SlotLimit {
        scope: SlotScope(scope.to_owned()),
        cap: u32::try_from(cap).unwrap(),
        fifo,
    };
    limits.slots = vec![TaskSpec::user_slot(&user, u32::try_from(cap).unwrap())];
    limits.slots.extend(system.map(|cap| slot("system", cap, false)));
    limits.max_attempts = *dice.pick(&[1, 2, 3, 3]);
    limits.task_timeout_ms =
        *dice.weighted(&[(6, Millis::secs(1_200)), (3, Millis::secs(2 * 3_600)), (1, Millis::secs(9 * 3_600))]);
    limits.queue_timeout_ms = *dice.weighted(&[(1, Millis::secs(900)), (2, Millis::secs(8 * 3_600))]);
    limits.observe_every_ms = *dice.pick(&[Millis::secs(60), Millis::secs(300)]);
    limits.retry_backoff_ms = *dice.pick(&[Millis::secs(2), Millis::secs(60)]);
    limits.upload_window_ms = Millis::secs(900);
    spec.task_description = Some(n.to_string());
    let mut task = Task::accepted(id, user, spec, None, now);
    if dice.chance(150) {
        task.status = TaskStatus::PendingUploads;
    }
    task
}

/// How one version of the worker is configured.
pub fn config(dice: &Dice) -> WorkerConfig {
    let mut config = WorkerConfig::default();
    config.lease = *dice.pick(&[Millis::secs(30), Millis::secs(120), Millis::secs(600), Millis::secs(3_600)]);
    config.poll = *dice.pick(&[Millis::secs(5), Millis::secs(20), Millis::secs(60)]);
    config.max_driving = *dice.pick(&[1, 2, 256]);
    config.sweep_every = *dice.pick(&[Millis::secs(60), Millis::secs(600)]);
    config
}
