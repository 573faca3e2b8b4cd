//! Slots: one item for each scope, with the set of its holders; never a counter.

use std::collections::{BTreeMap, BTreeSet};

use abca_core::store::{Slots, StoreError, TaskRow};
use abca_core::task::{SlotLimit, SlotScope};
use abca_core::{TaskId, Timestamp, UserId};
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use serde::{Deserialize, Serialize};

use super::DynamoDb;
use super::due::{PLAIN, time};
use super::edit::Edit;
use super::item::{Item, Key, n, number, s, size, text};
use super::wire::Part;

/// Most tasks that hold a slot in one scope: its item holds them all, and costs a write unit for every 40 of them.
pub const MOST_HOLDERS: u32 = 10_000;
/// Most scopes of one task: they move together with it in one transaction.
pub const MOST_SCOPES: usize = 32;
/// Longest name of a scope, in bytes: it is part of keys.
pub const LONGEST_SCOPE: usize = 512;

/// A holder's mark: when it took the slot, then who it is. 8 and 16 bytes.
const MARK: usize = 24;

/// Somebody made room, and those who were denied have not been looked at yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Waking {
    pub(super) user: UserId,
    pub(super) now: i64,
    /// Tells this one from another of the same user and moment.
    pub(super) mark: u64,
}

/// A scope as it was read.
#[derive(Debug, Default, Clone)]
pub(super) struct Scope {
    item: Item,
    /// Holders by the moment of taking.
    pub(super) holders: BTreeSet<(u64, u128)>,
    /// How many denials were written down since everybody had been let in; `None` for none.
    pub(super) denials: Option<u64>,
    /// The first earlier place of a waiting task that was asked for.
    earlier: bool,
}

/// Scopes as a commit sees them.
#[derive(Debug, Default)]
pub(super) struct View(pub(super) BTreeMap<SlotScope, Scope>);

impl Slots for View {
    fn holders(&self, scope: &SlotScope) -> usize {
        self.0.get(scope).map_or(0, |s| s.holders.len())
    }

    fn earlier_waits(&self, scope: &SlotScope, _: u64) -> bool {
        self.0.get(scope).is_some_and(|s| s.earlier)
    }
}

/// What a change does in one scope.
#[derive(Debug, Default, Clone)]
pub(super) struct Move {
    /// Takes a slot, marked so, if fewer than so many hold one; with `fifo`, if nothing else has changed either.
    pub(super) take: Option<(u64, u32, bool)>,
    /// Gives the slot back that is marked so.
    pub(super) free: Option<u64>,
    /// Somebody may move up.
    pub(super) room: bool,
    /// Something else changes on which denials and admissions depend.
    pub(super) bump: bool,
    /// A denial is written down; `true` where it was this scope that denied.
    pub(super) deny: Option<bool>,
}

pub(super) fn mark(taken: u64, id: TaskId) -> Vec<u8> {
    [taken.to_be_bytes().as_slice(), &number_of(id).to_be_bytes()].concat()
}

fn read_mark(bytes: &[u8]) -> Option<(u64, u128)> {
    if bytes.len() != MARK {
        return None;
    }
    let (taken, id) = bytes.split_at_checked(8)?;
    Some((u64::from_be_bytes(taken.try_into().ok()?), u128::from_be_bytes(id.try_into().ok()?)))
}

/// A ULID as its number: 26 digits of Crockford's base 32.
pub(super) fn number_of(id: TaskId) -> u128 {
    const DIGITS: &[u8] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let digit = |c: u8| DIGITS.iter().position(|d| *d == c).and_then(|p| u128::try_from(p).ok()).unwrap_or_default();
    id.to_string().bytes().fold(0, |sum, c| sum.wrapping_mul(32).wrapping_add(digit(c)))
}

/// The task of a number.
pub(super) fn id_of(number: u128) -> TaskId {
    let ms = i64::try_from(number >> 80).unwrap_or_default();
    TaskId::from_parts(Timestamp::from_millis(ms), number & ((1 << 80) - 1))
}

impl Scope {
    fn read(item: Item) -> Self {
        let set = match item.get("h") {
            Some(AttributeValue::Bs(set)) => set.iter().filter_map(|e| read_mark(e.as_ref())).collect(),
            Some(_) | None => BTreeSet::new(),
        };
        Self { holders: set, denials: number(&item, "dn"), item, earlier: false }
    }

    pub(super) fn waking(&self) -> Option<Waking> {
        serde_json::from_str(text(&self.item, "wk")?).ok()
    }

    /// What a task does here, as a part of a transaction.
    pub(super) fn part(&self, scope: &SlotScope, id: TaskId, moved: &Move, waking: &Waking, shard: u32) -> Part {
        let key = Key::scope(scope);
        let set = |taken: u64| AttributeValue::Bs(vec![Blob::new(mark(taken, id))]);
        let mut edit = Edit::new(key).set("ak", s(format!("z{shard}")));
        let mut bytes = size(&self.item).max(32 + scope.0.len());
        let mut index = u64::from(!self.item.contains_key("ak"));
        let changes = moved.take.is_some() || moved.free.is_some() || moved.room || moved.bump;
        if let Some((taken, cap, fifo)) = moved.take {
            edit = edit.add("h", set(taken)).when("attribute_not_exists(#h) OR size(#h) < :cap", &[(":cap", n(cap))]);
            if fifo {
                edit = edit.unchanged("n", &self.item);
            }
            bytes += MARK + 1;
        }
        if let Some(taken) = moved.free {
            edit = edit.delete("h", set(taken));
        }
        if changes {
            edit = edit.add("n", n(1));
        }
        if moved.room {
            // Whoever was denied meanwhile would not be woken.
            edit = match self.denials {
                None => edit.when("attribute_not_exists(#dn)", &[]),
                Some(_) => {
                    index += 2;
                    let now = Timestamp::from_millis(waking.now);
                    let note = serde_json::to_string(waking).unwrap_or_default();
                    bytes += note.len() + 16;
                    edit.set("wk", s(note)).set("dk", s(format!("{PLAIN}{shard}"))).set("da", time(now))
                }
            };
        }
        if let Some(denied) = moved.deny {
            edit = edit.add("dn", n(1));
            if denied {
                // Room that was made meanwhile would be missed.
                edit = edit.unchanged("n", &self.item);
            }
            bytes += 8;
        }
        Part::Update { edit, bytes, index }
    }

    /// Nobody has to be looked at any more on behalf of `waking`, nor at all when `empty`.
    pub(super) fn woken(&self, scope: &SlotScope, waking: &Waking, empty: bool) -> Part {
        let note = serde_json::to_string(waking).unwrap_or_default();
        let mut edit = Edit::new(Key::scope(scope)).remove("wk").remove("dk").remove("da");
        edit = edit.when("#wk = :wk", &[(":wk", s(note))]);
        if empty {
            edit = edit.remove("dn").unchanged("dn", &self.item);
        }
        Part::Update { edit, bytes: size(&self.item), index: 1 }
    }
}

impl DynamoDb {
    /// Scopes as they are now.
    pub(super) async fn view(&self, op: &'static str, scopes: &BTreeSet<SlotScope>) -> Result<View, StoreError> {
        let keys: BTreeMap<String, &SlotScope> = scopes.iter().map(|scope| (Key::scope(scope).pk, scope)).collect();
        let found = self.wire.get_all(op, scopes.iter().map(Key::scope).collect()).await?;
        let mut view: BTreeMap<SlotScope, Scope> =
            scopes.iter().map(|scope| (scope.clone(), Scope::default())).collect();
        for item in found {
            if let Some(scope) = text(&item, "pk").and_then(|pk| keys.get(pk)) {
                view.insert((*scope).clone(), Scope::read(item));
            }
        }
        Ok(View(view))
    }

    /// The same for a task that wants slots: also whether somebody is before it.
    pub(super) async fn view_for(
        &self,
        op: &'static str,
        row: &TaskRow,
        wanted: &[SlotLimit],
        scopes: &BTreeSet<SlotScope>,
    ) -> Result<View, StoreError> {
        // First the scopes, then the places: who takes a place in between changes the scope.
        let mut view = self.view(op, scopes).await?;
        for limit in wanted.iter().filter(|l| l.fifo && !row.snapshot.held.contains(&l.scope)) {
            if let Some(scope) = view.0.get_mut(&limit.scope) {
                let full = u32::try_from(scope.holders.len()).is_ok_and(|held| held >= limit.cap);
                scope.earlier = !full && self.is_behind(op, &limit.scope, row.order).await?;
            }
        }
        Ok(view)
    }

    /// The parts of a transaction by which a task moves in scopes.
    pub(super) fn parts(
        &self,
        view: &View,
        id: TaskId,
        moves: &BTreeMap<SlotScope, Move>,
        user: &UserId,
        now: Timestamp,
    ) -> Vec<Part> {
        let waking = Waking { user: user.clone(), now: now.as_millis(), mark: fastrand::u64(..) };
        let none = Scope::default();
        let part = |(scope, moved): (&SlotScope, &Move)| {
            view.0.get(scope).unwrap_or(&none).part(scope, id, moved, &waking, self.scope_shard(scope))
        };
        moves.iter().map(part).collect()
    }

    pub(super) fn scope_shard(&self, scope: &SlotScope) -> u32 {
        let sum = scope.0.bytes().fold(7_u32, |sum, b| sum.wrapping_mul(31).wrapping_add(b.into()));
        sum % self.shards.max(1)
    }
}

/// What can never be, found before anything is written.
pub(super) fn limits_fault(limits: &[SlotLimit]) -> Option<String> {
    if limits.len() > MOST_SCOPES {
        let message = format!("{} slot scopes are listed, dynamodb moves at most {MOST_SCOPES} at once", limits.len());
        return Some(message);
    }
    limits.iter().find_map(|l| {
        if l.cap > MOST_HOLDERS {
            let cap = l.cap;
            return Some(format!(
                "slot `{}` has a cap of {cap}, one dynamodb item holds at most {MOST_HOLDERS} holders: lower the cap, or leave the scope out",
                l.scope
            ));
        }
        (l.scope.0.len() > LONGEST_SCOPE || l.scope.0.is_empty())
            .then(|| format!("the name of a slot scope has {} bytes: use 1 to {LONGEST_SCOPE}", l.scope.0.len()))
    })
}

#[cfg(test)]
mod tests {
    use abca_core::testing::fixtures::{at, limit};

    use super::*;

    #[test]
    fn marks_tell_when_and_who() {
        for n in [0, 1, 77, u128::from(u64::MAX), (1 << 80) - 1] {
            let id = TaskId::from_parts(at(5), n);
            assert_eq!(id_of(number_of(id)), id);
            assert_eq!(read_mark(&mark(9, id)), Some((9, number_of(id))));
        }
        assert_eq!(read_mark(b"nonsense"), None);
    }

    #[test]
    fn a_cap_that_cannot_be_kept_is_refused() {
        assert_eq!(limits_fault(&[limit("system", MOST_HOLDERS, false)]), None);
        let fault = limits_fault(&[limit("system", MOST_HOLDERS + 1, false)]).unwrap();
        assert!(fault.starts_with("slot `system` has a cap of 10001"), "{fault}");
        assert!(limits_fault(&vec![limit("x", 1, false); MOST_SCOPES + 1]).is_some());
        assert!(limits_fault(&[limit("", 1, false)]).is_some());
    }
}
