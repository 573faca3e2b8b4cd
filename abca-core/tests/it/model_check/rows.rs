//! The store's real row of a task, with what the checker asks of it most; and the slots as rows say.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use abca_core::store::{Slots, TaskRow};
use abca_core::task::{EffectKind, SessionPhase, SlotScope, Snapshot, TaskStatus};

use super::print;

/// Every scope there may be: the system's, then the users'.
const SCOPES: [&str; 4] = ["system", "user:ann", "user:bob", "user:cat"];

/// A set of scopes, by number.
fn set<'a>(scopes: impl Iterator<Item = &'a SlotScope>) -> u8 {
    scopes.fold(0, |set, scope| set | 1 << number(scope))
}

fn number(scope: &SlotScope) -> usize {
    SCOPES.iter().position(|s| *s == scope.0).expect("scopes are of the system and of three users")
}

/// What of a row matters only in some worlds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Detail {
    pub timers: bool,
    pub words: bool,
}

impl Detail {
    /// Equal for rows that behave alike.
    pub fn print(self, row: &TaskRow) -> u64 {
        print::of(|h| {
            print::snapshot(&row.snapshot, h);
            if self.timers {
                (row.due, row.lease.map(|l| l.until), row.woken, row.denied).hash(h);
            }
            if self.words {
                row.seen.hash(h);
            }
        })
    }

    /// A row without a number.
    pub fn row(self, row: TaskRow) -> Row {
        let print = self.print(&row);
        Row::new(Arc::new(row), print, 0)
    }
}

#[derive(Clone)]
pub struct Row {
    pub row: Arc<TaskRow>,
    print: u64,
    id: u32,
    revision: u32,
    epoch: u32,
    pub status: TaskStatus,
    /// Which attempt it is at, from 1.
    pub attempt: u8,
    /// Which of its sessions works for it, from 0.
    pub live: Option<u8>,
    /// There is a word in its inbox, or it owes an effect.
    pub open: bool,
    held: u8,
    wanted: u8,
}

impl Row {
    pub fn new(row: Arc<TaskRow>, print: u64, id: u32) -> Self {
        let s = &row.snapshot;
        let small = |n: u64| u32::try_from(n).expect("worlds are small");
        let live = s.task.session.as_ref().filter(|s| s.phase == SessionPhase::Live);
        Self {
            print,
            id,
            revision: small(s.revision),
            epoch: small(s.epoch),
            status: s.task.status,
            attempt: s.task.attempt as u8,
            live: live.filter(|_| !s.task.status.is_terminal()).map(|s| s.attempt as u8 - 1),
            open: !s.signals.is_empty() || !s.owed.is_empty(),
            held: set(s.held.iter()),
            wanted: set(row.limits().iter().map(|l| &l.scope)),
            row,
        }
    }

    pub fn snapshot(&self) -> &Snapshot {
        &self.row.snapshot
    }

    /// Equal for rows that behave alike.
    pub const fn print(&self) -> u64 {
        self.print
    }

    /// Equal for equal rows only; 0 for those that have none.
    pub const fn id(&self) -> u32 {
        self.id
    }

    pub const fn revision(&self) -> u32 {
        self.revision
    }

    pub const fn epoch(&self) -> u32 {
        self.epoch
    }

    pub const fn is_terminal(&self) -> bool {
        self.status.is_terminal()
    }

    pub const fn holds_slots(&self) -> bool {
        self.held != 0
    }
}

/// The most holders that any scope has: first that of the system, then those of users.
pub fn holders(rows: &[Row]) -> (usize, usize) {
    let of = |n: usize| rows.iter().filter(|r| r.held & (1 << n) != 0).count();
    (of(0), (1..SCOPES.len()).map(of).max().unwrap_or(0))
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = self.snapshot();
        let session = s.task.session.as_ref().map(|s| (s.attempt, s.phase));
        let inbox: Vec<_> = s.signals.iter().map(|x| x.id.as_str()).collect();
        let owed: Vec<_> = s.owed.iter().map(|o| &o.effect.kind).map(kind).collect();
        write!(f, "{} rev {} {session:?} inbox {inbox:?} owed {owed:?}", s.task.status, s.revision)
    }
}

pub const fn kind(effect: &EffectKind) -> &'static str {
    match effect {
        EffectKind::StartSession { .. } => "start",
        EffectKind::StopSession { .. } => "stop",
    }
}

/// What other tasks hold and wait for, as far as a task that wants slots is told.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Others {
    /// Holders, by scope.
    holders: [u8; SCOPES.len()],
    /// Scopes that an earlier task waits for.
    earlier: u8,
}

impl Others {
    /// Those beside the `t`th, which are in the order of their acceptance.
    pub fn of(rows: &[Row], t: usize) -> Self {
        let mut others = Self::default();
        for (n, row) in rows.iter().enumerate().filter(|(n, _)| *n != t) {
            for (scope, holders) in others.holders.iter_mut().enumerate() {
                *holders += row.held >> scope & 1;
            }
            if n < t && row.status.is_waiting() {
                others.earlier |= row.wanted;
            }
        }
        others
    }

    /// Whether an earlier task of the same user waits.
    pub const fn overtaken_by(&self, row: &Row) -> bool {
        const SYSTEM: u8 = 1;
        self.earlier & row.wanted & !SYSTEM != 0
    }
}

/// The slots as a task's commit sees them.
pub struct Taken {
    others: Others,
    own: u8,
    cap: bool,
}

impl Taken {
    pub fn new(others: Others, row: &TaskRow, cap: bool) -> Self {
        Self { others, own: set(row.snapshot.held.iter()), cap }
    }
}

impl Slots for Taken {
    fn holders(&self, scope: &SlotScope) -> usize {
        let n = number(scope);
        if self.cap { usize::from(self.others.holders[n] + (self.own >> n & 1)) } else { 0 }
    }

    fn earlier_waits(&self, scope: &SlotScope, _: u64) -> bool {
        self.others.earlier & (1 << number(scope)) != 0
    }
}
