//! The task: its record, its closed transition table, and the machine that moves it.

mod attachments;
mod builder;
mod caps;
mod change;
mod decide;
mod gate;
mod infer;
mod liveness;
mod parts;
mod record;
mod scope;
mod snapshot;
mod spec;
mod status;
mod submit;

pub use attachments::{ATTACHMENT_BYTES, ATTACHMENT_TYPES, ATTACHMENTS_TOTAL_BYTES};
pub use caps::Caps;
pub use change::{apply, fail_dead_letter};
pub use decide::{Backend, decide};
pub use gate::{ApprovalScope, GATE_PREVIEW_CHARS, GATE_REASON_CHARS, Gate, GateDecision};
pub use infer::{Ending, Inference, Shown, Signs, infer};
pub use liveness::{Liveness, judge};
pub use parts::{FixedPart, MovingPart};
pub use record::{
    CancelRequest, CheckResult, DiffStat, Failure, FailureReason, PhaseTiming, Prepared, PullRequestRef, SessionPhase,
    SessionRecord, SessionReport, StopCause, Stopping, Task, Unanswered, Unprepared, Verdict, Verification,
};
pub use scope::{InitialScope, InvalidScope};
pub use snapshot::{
    Change, Decision, Delivery, Effect, EffectKind, Observation, OwedEffect, Query, Signal, SignalKind, SlotChange,
    SlotLimit, SlotScope, Snapshot,
};
pub use spec::{Attachment, ChannelSource, NewTask, ResolvedLimits, TaskSpec, limits};
pub use status::{Cause, TRANSITIONS, TaskStatus, Transition};
pub use submit::{COMMAND_BYTES, SubmitError, SubmitErrorCode, accept};
pub(crate) use submit::{check_command, check_model_name, write_canonical};
