//! Texts that arrive in pieces.

use std::fmt;
use std::sync::Arc;

use super::engine::{Engine, Search, Sink, View};
use super::{Finding, Screened, WITHHELD};

/// A search is worth it from so many new bytes on.
const STEP_BYTES: usize = 256;

/// Screens a text that arrives in pieces: a secret that is cut by a piece's end, or by many, is found as in one whole.
///
/// What could be the beginning of a secret is held back: at most [`Self::hold_back_bytes`] bytes, and never more than that and one
/// piece is in memory. A secret of any length is followed to its end without being kept. What [`Self::push`] and
/// [`Self::finish`] give out is together what [`super::Screen::scrub`] makes of the whole.
pub struct ScreenStream {
    engine: Arc<Engine>,
    search: Search,
    held: String,
    /// Where in the whole the held text begins.
    base: usize,
    withheld: bool,
}

impl fmt::Debug for ScreenStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScreenStream").field("held_bytes", &self.held.len()).finish_non_exhaustive()
    }
}

impl ScreenStream {
    pub(super) fn new(engine: Arc<Engine>) -> Self {
        Self { engine, search: Search::default(), held: String::new(), base: 0, withheld: false }
    }

    /// Most bytes of what was pushed that are not given out yet: about 1.5 KiB for abca's own rules; six times
    /// the longest known value when that is more, twice.
    pub fn hold_back_bytes(&self) -> usize {
        self.engine.ahead.saturating_add(self.engine.back).saturating_add(STEP_BYTES)
    }

    /// Takes a piece; gives out what is certain by now, and what was found in it. Ranges are those in the whole text.
    pub fn push(&mut self, piece: &str) -> Screened {
        let mut out = Screened { text: String::new(), findings: Vec::new() };
        if !self.engine.is_ready() {
            if !std::mem::replace(&mut self.withheld, true) {
                out.text.push_str(WITHHELD);
            }
            return out;
        }
        self.held.push_str(piece);
        let to = self.end().saturating_sub(self.engine.ahead);
        if to < self.search.decided.saturating_add(STEP_BYTES) {
            return out;
        }
        let view = View { text: &self.held, base: self.base };
        let mut sink = Sink { text: &mut out.text, findings: &mut out.findings };
        self.search.advance(&self.engine, view, to, &mut sink);
        self.forget();
        out
    }

    /// Gives out what is held up to its last line's end, as if nothing more came: for a person who watches. What follows is
    /// screened as before; only a secret that goes on over that line's end may lose its beginning to the watcher. In a key block nothing
    /// is given out early.
    pub fn settle(&mut self) -> Screened {
        let mut out = Screened { text: String::new(), findings: Vec::new() };
        let Some(lines) = self.held.rfind(['\n', '\r']).and_then(|at| self.held.get(..=at)) else { return out };
        if !self.engine.is_ready() || lines.contains("-----BEGIN") {
            return out;
        }
        let view = View { text: lines, base: self.base };
        let mut sink = Sink { text: &mut out.text, findings: &mut out.findings };
        self.search.settle(&self.engine, view, &mut sink);
        self.forget();
        out
    }

    /// The rest.
    pub fn finish(mut self) -> Screened {
        let mut out = Screened { text: String::new(), findings: Vec::new() };
        if self.engine.is_ready() {
            let view = View { text: &self.held, base: self.base };
            let mut sink = Sink { text: &mut out.text, findings: &mut out.findings };
            self.search.finish(&self.engine, view, &mut sink);
        } else if !self.withheld {
            out.text.push_str(WITHHELD);
        }
        out
    }

    #[cfg(test)]
    pub(super) fn held_len(&self) -> usize {
        self.held.len()
    }

    fn end(&self) -> usize {
        self.base.saturating_add(self.held.len())
    }

    /// Lets go of what is given out and of no use to decide what comes.
    fn forget(&mut self) {
        let before = self.search.decided.saturating_sub(self.engine.back).min(self.search.emitted);
        let len = self.held.floor_char_boundary(before.saturating_sub(self.base));
        self.held.drain(..len);
        self.base = self.base.saturating_add(len);
    }
}

/// What both ends say together.
impl Extend<Screened> for Screened {
    fn extend<T: IntoIterator<Item = Screened>>(&mut self, parts: T) {
        for part in parts {
            self.text.push_str(&part.text);
            let findings: Vec<Finding> = part.findings;
            self.findings.extend(findings);
        }
    }
}
