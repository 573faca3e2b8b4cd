//! A place in a text, and what bounds the walk through it.

use super::{Limits, Problem};

/// Walks over bytes; never past the end.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) const fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    pub(super) const fn at(&self) -> usize {
        self.at
    }

    pub(super) const fn goto(&mut self, at: usize) {
        self.at = at;
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    pub(super) fn peek_at(&self, ahead: usize) -> Option<u8> {
        self.text.as_bytes().get(self.at.saturating_add(ahead)).copied()
    }

    pub(super) fn looking_at(&self, what: &str) -> bool {
        self.text.as_bytes().get(self.at..).is_some_and(|rest| rest.starts_with(what.as_bytes()))
    }

    /// One byte on.
    pub(super) fn skip(&mut self, bytes: usize) {
        self.at = self.at.saturating_add(bytes).min(self.text.len());
    }

    /// Takes what is expected, if it is there.
    pub(super) fn eat(&mut self, what: &str) -> bool {
        let there = self.looking_at(what);
        if there {
            self.skip(what.len());
        }
        there
    }

    /// The next whole character.
    pub(super) fn bump(&mut self) -> Option<char> {
        let c = self.text.get(self.at..)?.chars().next()?;
        self.at = self.at.saturating_add(c.len_utf8());
        Some(c)
    }

    pub(super) fn slice(&self, from: usize, to: usize) -> &'a str {
        self.text.get(from..to).unwrap_or_default()
    }

    /// Everything up to and with the next line break.
    pub(super) fn line(&mut self) -> Option<&'a str> {
        let rest = self.text.get(self.at..).filter(|r| !r.is_empty())?;
        let len = rest.find('\n').map_or(rest.len(), |i| i.saturating_add(1));
        self.skip(len);
        rest.get(..len)
    }
}

/// What is left of the limits; shared by a text and everything nested in it.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    pub(super) limits: Limits,
    pub(super) depth: usize,
    steps: usize,
}

impl Budget {
    pub(super) const fn new(limits: Limits) -> Self {
        Self { limits, depth: 0, steps: 0 }
    }

    /// Pays for work on so many bytes or items.
    pub(super) fn pay(&mut self, steps: usize) -> Result<(), Problem> {
        self.steps = self.steps.saturating_add(steps);
        if self.steps > self.limits.steps { Err(Problem::TooLong) } else { Ok(()) }
    }

    pub(super) fn deeper(&mut self) -> Result<(), Problem> {
        self.depth = self.depth.saturating_add(1);
        if self.depth > self.limits.depth { Err(Problem::TooDeep) } else { Ok(()) }
    }

    pub(super) const fn back(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }
}
