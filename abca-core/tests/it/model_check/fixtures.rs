//! A task with limits in whole ticks of the clock, and a backend that can tell everything.

use abca_core::compute::ComputeCapabilities;
use abca_core::task::{Backend, ResolvedLimits, SlotLimit, Task};
use abca_core::testing::fixtures;
pub use abca_core::testing::fixtures::{prepared, report};
use abca_core::{Millis, TaskId, Timestamp};

/// One step of the virtual clock. Every short wait of the machine (grace, patience, back-off, polls) is within one.
pub const TICK: Millis = Millis::secs(300);

/// The moment of a tick.
pub fn at(tick: u64) -> Timestamp {
    Timestamp::from_millis(1_000_000).after(Millis(tick * TICK.0))
}

pub fn task_id(n: usize) -> TaskId {
    TaskId::from_parts(at(0), n as u128 + 1)
}

/// Limits in whole ticks: one for a registration, a silence and a stop, two for a preparation, three in the queue.
pub fn limits(slots: Vec<SlotLimit>, max_attempts: u32) -> ResolvedLimits {
    ResolvedLimits {
        max_attempts,
        retry_backoff_ms: Millis::secs(1),
        upload_window_ms: TICK,
        queue_timeout_ms: Millis(3 * TICK.0),
        hydration_timeout_ms: Millis(2 * TICK.0),
        registration_timeout_ms: TICK,
        task_timeout_ms: Millis(4 * TICK.0),
        approval_timeout_ms: Millis(TICK.0 / 2),
        finalize_timeout_ms: TICK,
        stop_grace_ms: Millis::secs(1),
        heartbeat_timeout_ms: TICK,
        observe_every_ms: TICK,
        slots,
        ..ResolvedLimits::default()
    }
}

/// The `n`th accepted task of one user.
pub fn task(n: usize, limits: ResolvedLimits) -> Task {
    let mut task = fixtures::task_at(task_id(n), at(0));
    task.spec.limits = limits;
    task
}

/// A backend that can do everything that matters for liveness.
pub fn backend() -> Backend {
    let mut capabilities = ComputeCapabilities::none();
    capabilities.heartbeats = true;
    capabilities.exit_status = true;
    capabilities.tombstones = true;
    Backend { name: "fake".to_owned(), capabilities }
}
