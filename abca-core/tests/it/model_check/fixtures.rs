//! A task, what preparation finds, and what a session reports: as small as the types allow.

use std::collections::BTreeMap;

use abca_core::compute::ComputeCapabilities;
use abca_core::id::UserId;
use abca_core::model::Usage;
use abca_core::money::MicroUsd;
use abca_core::task::{
    Backend, ChannelSource, DiffStat, Failure, FailureReason, Prepared, ResolvedLimits, SessionReport, SlotLimit, Task,
    TaskSpec, TaskStatus, Verdict,
};
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
    Task {
        id: task_id(n),
        user: UserId::new("ann").unwrap(),
        spec: TaskSpec {
            repo: None,
            task_description: None,
            issue_number: None,
            pr_number: None,
            workflow_id: "w".to_owned(),
            workflow_version: "1".to_owned(),
            model: None,
            build_command: None,
            test_command: None,
            lint_command: None,
            base_branch: None,
            trace: false,
            read_only: false,
            system_prompt_overrides: None,
            attachments: Vec::new(),
            initial_approvals: Vec::new(),
            channel_source: ChannelSource::Api,
            channel_metadata: BTreeMap::new(),
            limits,
        },
        idempotency_key: None,
        status: TaskStatus::Submitted,
        status_at: at(0),
        created_at: at(0),
        updated_at: at(0),
        admitted_at: None,
        queued_at: None,
        admission_attempts: 0,
        started_at: None,
        completed_at: None,
        attempt: 0,
        not_before: None,
        prepared: None,
        session: None,
        awaiting: None,
        cancel: None,
        report: None,
        failure: None,
    }
}

pub fn prepared() -> Prepared {
    Prepared {
        base_branch: "main".to_owned(),
        branch: "b".to_owned(),
        user_prompt: "p".to_owned(),
        sources: Vec::new(),
        token_estimate: 1,
        truncated: false,
    }
}

pub fn report(verdict: Verdict) -> SessionReport {
    SessionReport {
        verdict,
        failure: (verdict == Verdict::Failed).then(|| Failure::new(FailureReason::Verification, "broke the build")),
        pull_request: None,
        branch: None,
        head_sha: None,
        code_changed: true,
        answer_text: None,
        cost: MicroUsd(1),
        usage: Usage::default(),
        turns_attempted: 1,
        turns_completed: 1,
        verification: Vec::new(),
        diff: DiffStat::default(),
        phases: Vec::new(),
        prompt_version: String::new(),
        model: None,
    }
}

/// A backend that can do everything that matters for liveness.
pub fn backend() -> Backend {
    let mut capabilities = ComputeCapabilities::none();
    capabilities.heartbeats = true;
    capabilities.exit_status = true;
    capabilities.tombstones = true;
    Backend { name: "fake".to_owned(), capabilities }
}
