//! Words on standard error that cannot end the program.

use std::fmt;
use std::io::Write;

/// Writes a line to standard error. Where it cannot be written, a closed terminal or a log on a full disk, it is lost:
/// `eprintln!` would panic there, and a worker would die of what it wanted to say.
pub(crate) fn tell(line: fmt::Arguments<'_>) {
    let _lost = writeln!(std::io::stderr().lock(), "{line}");
}
