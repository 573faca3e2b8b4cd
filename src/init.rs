//! What a program that embeds abca calls first: it is executed again for sessions, hands and walls.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::tell::tell;

static CALLED: AtomicBool = AtomicBool::new(false);

/// Whether executing this program again leads back to us.
pub(crate) fn called() -> bool {
    CALLED.load(Ordering::Relaxed)
}

/// To be called first in `main`, before any thread is started.
///
/// A session is a process of its own, and so are its hands: abca starts the very program that embeds it, with one
/// hidden argument (`__abca-session`, `__abca-hands`, `__abca-mcp`, `__abca-sandbox`). In those processes this function does not
/// return. In every other it returns at once, and notes that it was called.
pub fn init() {
    CALLED.store(true, Ordering::Relaxed);
    abca_compute::init();
    let Some(first) = std::env::args_os().nth(1) else { return };
    if first == crate::session::hands::HANDS_ARG {
        let code = match crate::session::hands::serve() {
            Ok(()) => 0,
            Err(error) => {
                tell(format_args!("abca hands: {error}"));
                1
            }
        };
        std::process::exit(code);
    }
    #[cfg(feature = "mcp")]
    if first == crate::session::mcp::MCP_ARG {
        std::process::exit(crate::session::mcp::serve_inside());
    }
    if first == abca_compute::process::SESSION {
        abca_compute::process::supervise(crate::brain::run);
    }
}
