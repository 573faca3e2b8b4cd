//! What happened in a run, as a number to compare and, on request, as lines to read.

use std::fmt::{self, Write as _};
use std::sync::{Mutex, MutexGuard};

use super::dice::{FNV_OFFSET, FNV_PRIME};

/// A running hash over everything that was noted: two runs of one seed are the same run when their hashes are equal.
#[derive(Debug)]
pub struct Trace {
    state: Mutex<State>,
    keep: bool,
    print: bool,
}

#[derive(Debug)]
struct State {
    hash: u64,
    steps: u64,
    lines: Vec<String>,
}

impl Trace {
    /// Hashes only.
    pub fn hashing() -> Self {
        Self { state: Mutex::new(State { hash: FNV_OFFSET, steps: 0, lines: Vec::new() }), keep: false, print: false }
    }

    /// Keeps every line too.
    pub fn keeping() -> Self {
        Self { keep: true, ..Self::hashing() }
    }

    /// Prints every line to standard error as it happens: also a run that never ends can be read.
    pub fn printing() -> Self {
        Self { print: true, ..Self::hashing() }
    }

    /// Notes one thing that happened.
    pub fn note(&self, what: fmt::Arguments<'_>) {
        let mut state = self.state();
        let mut hash = Hash(state.hash);
        let _ = hash.write_fmt(what);
        state.hash = hash.byte(b'\n');
        state.steps += 1;
        if self.print {
            eprintln!("{what}");
        }
        if self.keep {
            state.lines.push(what.to_string());
        }
    }

    /// The hash so far.
    pub fn hash(&self) -> u64 {
        self.state().hash
    }

    /// How many things were noted.
    pub fn steps(&self) -> u64 {
        self.state().steps
    }

    /// The lines so far; none unless they are kept.
    pub fn lines(&self) -> Vec<String> {
        self.state().lines.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the trace")
    }
}

struct Hash(u64);

impl Hash {
    fn byte(&mut self, byte: u8) -> u64 {
        self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(FNV_PRIME);
        self.0
    }
}

impl fmt::Write for Hash {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        s.bytes().for_each(|byte| {
            self.byte(byte);
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_content_count() {
        let run = |words: &[&str]| {
            let trace = Trace::keeping();
            words.iter().for_each(|w| trace.note(format_args!("{w}")));
            (trace.hash(), trace.steps(), trace.lines())
        };
        assert_eq!(run(&["a", "b"]), run(&["a", "b"]));
        assert_ne!(run(&["a", "b"]).0, run(&["b", "a"]).0);
        assert_ne!(run(&["ab"]).0, run(&["a", "b"]).0);
    }
}
