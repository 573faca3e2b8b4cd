//! Where in the text as it was given a place of the text as it is now comes from.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::Edit;

/// Most changes that are listed; all are counted.
pub const MAX_CHANGES: usize = 1_000;
/// Most stretches of the text that are told apart. A text built to have more has its places told less exactly.
const MAX_STRETCHES: usize = 100_000;

/// What was changed in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ChangeKind {
    /// Characters that nobody sees, and codes for terminals.
    Invisible,
    /// An element that carries code or takes input, with its content.
    ActiveElement,
    /// An element that is not shown, with its content.
    HiddenElement,
    /// A comment, or what is shown as little as one.
    Comment,
    /// Another tag; its content stays.
    Tag,
    /// A header that claims a role, or a mark of a chat template.
    RoleHeader,
    /// A phrase that calls off instructions.
    Instruction,
    /// Every `<` of a text that goes on uncovering tags.
    Brackets,
}

/// One change: what, and where in the text as it was given, in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// What.
    pub kind: ChangeKind,
    /// Where. Of a text built to have more than a hundred thousand changes, about where.
    pub range: Range<usize>,
}

/// A stretch that was kept.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    /// Where it begins now.
    now: usize,
    /// Where it began.
    then: usize,
    /// Where it ended.
    end: usize,
}

/// The history of a text's changes.
#[derive(Debug)]
pub(super) struct Trace {
    stretches: Vec<Stretch>,
    len: usize,
    pub(super) changes: Vec<Change>,
    pub(super) counts: BTreeMap<ChangeKind, usize>,
}

impl Trace {
    pub(super) fn new(len: usize) -> Self {
        let whole = Stretch { now: 0, then: 0, end: len };
        Self { stretches: vec![whole], len, changes: Vec::new(), counts: BTreeMap::new() }
    }

    /// Takes note of edits, in order, of the text as it is now.
    pub(super) fn note(&mut self, edits: &[Edit], len: usize) {
        let mut next: Vec<Stretch> =
            Vec::with_capacity(self.stretches.len().saturating_add(edits.len()).min(MAX_STRETCHES));
        let mut old = 0usize;
        let (mut from, mut now) = (0usize, 0usize);
        for edit in edits {
            let range = edit.range.start.max(from)..edit.range.end.max(from);
            self.keep(&mut next, &mut old, from..range.start, now);
            now = now.saturating_add(range.start.saturating_sub(from)).saturating_add(edit.with.len());
            from = range.end;
            if let Some(kind) = edit.kind {
                let count = self.counts.entry(kind).or_default();
                *count = count.saturating_add(1);
                if self.changes.len() < MAX_CHANGES {
                    let range = self.origin(&range);
                    self.changes.push(Change { kind, range });
                }
            }
        }
        self.keep(&mut next, &mut old, from..len, now);
        self.stretches = next;
    }

    /// Takes over what is kept of a range of the text as it is, which then begins at `now`. Ranges come in order.
    fn keep(&self, next: &mut Vec<Stretch>, old: &mut usize, range: Range<usize>, now: usize) {
        if range.is_empty() {
            return;
        }
        while let Some(stretch) = self.stretches.get(*old) {
            let end = stretch.now.saturating_add(stretch.end.saturating_sub(stretch.then));
            let (start, stop) = (range.start.max(stretch.now), range.end.min(end));
            if start < stop {
                let then = stretch.then.saturating_add(start.saturating_sub(stretch.now));
                let piece = Stretch {
                    now: now.saturating_add(start.saturating_sub(range.start)),
                    then,
                    end: then.saturating_add(stop.saturating_sub(start)),
                };
                let is_full = next.len() >= MAX_STRETCHES;
                match next.last_mut().filter(|_| is_full) {
                    Some(last) => last.end = piece.end,
                    None => next.push(piece),
                }
            }
            if end > range.end {
                break;
            }
            *old = old.saturating_add(1);
        }
    }

    /// The range of the text as it was given.
    fn origin(&self, range: &Range<usize>) -> Range<usize> {
        let start = self.place(range.start, false);
        let end = self.place(range.end, true);
        start..end.max(start)
    }

    fn place(&self, at: usize, is_end: bool) -> usize {
        let after = self.stretches.partition_point(|s| if is_end { s.now < at } else { s.now <= at });
        match after.checked_sub(1).and_then(|last| self.stretches.get(last)) {
            Some(s) => s.then.saturating_add(at.saturating_sub(s.now)).min(s.end),
            None => self.stretches.first().map_or(self.len, |s| if is_end { 0 } else { s.then }),
        }
    }
}
