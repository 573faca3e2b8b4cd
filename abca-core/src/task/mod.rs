//! The task: its record, its closed transition table, and the machine that moves it.

mod record;
mod snapshot;
mod spec;
mod status;

pub use record::{
    CancelRequest, CheckResult, DiffStat, Failure, FailureReason, PhaseTiming, Prepared, PullRequestRef, SessionPhase,
    SessionRecord, SessionReport, Task, Verdict, Verification,
};
pub use snapshot::{
    Change, Decision, Effect, EffectKind, Observation, OwedEffect, Query, Signal, SignalKind, SlotChange, SlotLimit,
    SlotScope, Snapshot,
};
pub use spec::{Attachment, ChannelSource, NewTask, ResolvedLimits, TaskSpec, limits};
pub use status::{Cause, TRANSITIONS, TaskStatus, Transition};
