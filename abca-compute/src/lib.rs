//! ComputeStrategy adapters of abca, and the sandbox of the hands.
//!
//! | strategy | sessions are | outlive the worker |
//! | --- | --- | --- |
//! | [`InProcess`] | tasks of this process | no |
//! | [`Process`] | detached processes, each under a supervisor (Linux) | yes |
//!
//! [`sandbox`] builds the walls around the hands, whatever the strategy (Linux). A program that uses either calls
//! [`init`] first in its `main`.

pub mod in_process;
#[cfg(target_os = "linux")]
mod pipe;
#[cfg(target_os = "linux")]
pub mod process;
#[cfg(target_os = "linux")]
pub mod sandbox;
#[cfg(target_os = "linux")]
mod tree;

pub use in_process::{InProcess, SessionRunner};
#[cfg(target_os = "linux")]
pub use process::{Process, ProcessConfig};

use std::sync::atomic::{AtomicBool, Ordering};

/// The first argument by which this program, executed again, knows that it is to build walls.
pub const SANDBOX: &str = "__abca-sandbox";

static INITIALISED: AtomicBool = AtomicBool::new(false);

/// To be called first in `main`, before any thread is started: this program is executed again to build the walls of a
/// sandbox where bubblewrap is not, and then does not return from here.
pub fn init() {
    INITIALISED.store(true, Ordering::Relaxed);
    #[cfg(target_os = "linux")]
    {
        let mut args = std::env::args_os().skip(1);
        if args.next().is_some_and(|arg| arg == SANDBOX) {
            sandbox::enter(args);
        }
    }
}

/// Whether executing this program again leads back to us.
#[cfg(target_os = "linux")]
pub(crate) fn initialised() -> bool {
    INITIALISED.load(Ordering::Relaxed)
}
