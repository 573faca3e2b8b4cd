//! Words on standard error that cannot end the program.

use std::fmt;
use std::io::Write;
use std::sync::{LazyLock, PoisonError, RwLock};

use abca_core::text::Screen;
use secrecy::SecretString;

/// Writes a line to standard error. Where it cannot be written, a closed terminal or a log on a full disk, it is lost:
/// `eprintln!` would panic there, and a worker would die of what it wanted to say.
pub(crate) fn tell(line: fmt::Arguments<'_>) {
    let _lost = writeln!(std::io::stderr().lock(), "{line}");
}

static LOG_SCREEN: LazyLock<RwLock<Screen>> = LazyLock::new(RwLock::default);

/// Takes these values, too, out of this process's log from now on.
pub(crate) fn keep_out_of_log(secrets: impl IntoIterator<Item = SecretString>) {
    let mut screen = LOG_SCREEN.write().unwrap_or_else(PoisonError::into_inner);
    *screen = screen.clone().with_known(secrets);
}

/// Standard error for logs: each line is screened for secrets before it is written.
#[cfg(feature = "cli")]
#[derive(Debug, Default)]
pub(crate) struct ScreenedStderr;

#[cfg(feature = "cli")]
impl Write for ScreenedStderr {
    /// Takes whole lines, as the subscriber writes them.
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let screen = LOG_SCREEN.read().unwrap_or_else(PoisonError::into_inner).clone();
        let line = screen.scrub(&String::from_utf8_lossy(bytes)).text;
        std::io::stderr().lock().write_all(line.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().lock().flush()
    }
}
