//! The session: its log, and the agent loop as a machine over it.

mod log;

pub use log::{LogEntry, LogRecord, StepName, StepStatus};
