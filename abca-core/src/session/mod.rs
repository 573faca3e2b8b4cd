//! The session: its log, and the agent loop as a machine over it.

mod approvals;
mod breaker;
mod log;
mod machine;
mod state;
pub mod stuck;

pub use approvals::{Approvals, OpenGate};
pub use breaker::{Breaker, BreakerAction, BreakerLimits, Churn, Tripped};
pub use log::{LogEntry, LogRecord, StepName, StepStatus};
pub use machine::{CallVerdict, GateDraft, Input, Machine, MachineConfig, Output, Prompt};
pub use state::{AgentEnd, PendingCall, SessionState, TRIMMED};
