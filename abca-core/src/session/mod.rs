//! The session: its log, and the agent loop as a machine over it.

mod approvals;
mod log;
mod machine;
mod state;
pub mod stuck;

pub use approvals::{Approvals, OpenGate};
pub use log::{LogEntry, LogRecord, StepName, StepStatus};
pub use machine::{CallVerdict, GateDraft, Input, Machine, MachineConfig, Output, Prompt};
pub use state::{AgentEnd, PendingCall, SessionState, TRIMMED};
