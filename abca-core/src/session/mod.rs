//! The session: its log, and the agent loop as a machine over it.

mod log;
mod machine;
mod state;
pub mod stuck;

pub use log::{LogEntry, LogRecord, StepName, StepStatus};
pub use machine::{Input, Machine, MachineConfig, Output, Prompt};
pub use state::{AgentEnd, PendingCall, SessionState, TRIMMED};
