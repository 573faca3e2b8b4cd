//! Slots: one item for each scope, or each part of a scope that is cut, with the set of its holders; never a counter.

use std::collections::{BTreeMap, BTreeSet};

use abca_core::store::{Slots, StoreError};
use abca_core::task::{SlotLimit, SlotScope};
use abca_core::{TaskId, Timestamp, UserId};
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use serde::{Deserialize, Serialize};

use super::DynamoDb;
use super::cut::{Cut, MOST_PARTS};
use super::due::{PLAIN, time};
use super::edit::Edit;
use super::item::{BETWEEN, Item, Key, n, number, s, scope_of, size, text};
use super::kept::Kept;
use super::wire::Part;

/// Most tasks that hold a slot in one scope, or in one part of a scope that is cut: its item holds them all, and costs a write
/// unit for every 40 of them.
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

/// A scope's item, or that of a part of it, as it was read.
#[derive(Debug, Default, Clone)]
pub(super) struct Scope {
    pub(super) item: Item,
    /// Holders by the moment of taking.
    pub(super) holders: BTreeSet<(u64, u128)>,
    /// How many denials were written down since everybody had been let in; `None` for none.
    pub(super) denials: Option<u64>,
}

/// A scope with those of its parts that were asked for: part 0 where it is not cut.
#[derive(Debug, Default, Clone)]
pub(super) struct Seen {
    pub(super) shares: BTreeMap<u32, Scope>,
    pub(super) cut: Option<Cut>,
    /// The part that has room for the task that asks.
    pub(super) pick: Option<u32>,
    /// There is none.
    pub(super) full: bool,
    /// The first earlier place of a waiting task that was asked for.
    pub(super) earlier: bool,
}

impl Seen {
    pub(super) fn held(&self) -> usize {
        self.shares.values().map(|share| share.holders.len()).sum()
    }

    /// The part where a task is looked for, or looks first.
    pub(super) fn home(&self, id: TaskId) -> u32 {
        self.cut.as_ref().map_or(0, |cut| cut.home(id))
    }

    pub(super) fn is_denied(&self, part: u32) -> bool {
        self.shares.get(&part).is_some_and(|share| share.denials.is_some())
    }
}

/// Scopes as a commit sees them.
#[derive(Debug, Default)]
pub(super) struct View(pub(super) BTreeMap<SlotScope, Seen>);

impl View {
    pub(super) fn is_cut(&self, scope: &SlotScope) -> bool {
        self.0.get(scope).is_some_and(|seen| seen.cut.is_some())
    }
}

impl Slots for View {
    fn holders(&self, scope: &SlotScope) -> usize {
        match self.0.get(scope) {
            Some(seen) if seen.full => usize::MAX,
            Some(seen) if seen.pick.is_some() => 0,
            Some(seen) => seen.held(),
            None => 0,
        }
    }

    fn earlier_waits(&self, scope: &SlotScope, _: u64) -> bool {
        self.0.get(scope).is_some_and(|s| s.earlier)
    }
}

/// What a change does in each part of scopes.
pub(super) type Moves = BTreeMap<(SlotScope, u32), Move>;

/// What a change does in one scope, or one part of it.
#[derive(Debug, Default, Clone)]
pub(super) struct Move {
    /// Takes a slot, marked so, if fewer than so many hold one, in the whole scope or, where it is cut, in this part.
    pub(super) take: Option<(u64, u32)>,
    /// Only if nothing else has changed.
    pub(super) in_order: bool,
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
    pub(super) fn read(item: Item) -> Self {
        let set = match item.get("h") {
            Some(AttributeValue::Bs(set)) => set.iter().filter_map(|e| read_mark(e.as_ref())).collect(),
            Some(_) | None => BTreeSet::new(),
        };
        Self { holders: set, denials: number(&item, "dn"), item }
    }

    /// How the scope is cut, as its own item says.
    pub(super) fn cut(&self) -> Option<Cut> {
        serde_json::from_str(text(&self.item, "ct")?).ok()
    }

    /// Its generation and quota, where the scope is cut.
    pub(super) fn lease(&self) -> Option<(u64, u32)> {
        Some((number(&self.item, "g")?, number(&self.item, "q").unwrap_or(0)))
    }

    /// How many slots this part has left.
    pub(super) fn free(&self, cut: &Cut, part: u32) -> usize {
        let quota = self.lease().filter(|lease| *lease == (cut.generation, cut.quota(part)));
        usize::try_from(quota.map_or(0, |(_, quota)| quota)).unwrap_or(usize::MAX).saturating_sub(self.holders.len())
    }

    /// Whether whoever makes room here looks for those who were denied, also after what is under way.
    pub(super) fn is_watched(&self) -> bool {
        self.denials.is_some() && !self.item.contains_key("cl")
    }

    pub(super) fn waking(&self) -> Option<Waking> {
        serde_json::from_str(text(&self.item, "wk")?).ok()
    }

    /// What a task does here, as a part of a transaction.
    pub(super) fn part(
        &self,
        key: Key,
        cut: Option<&Cut>,
        id: TaskId,
        moved: &Move,
        waking: &Waking,
        shard: u32,
    ) -> Part {
        let set = |taken: u64| AttributeValue::Bs(vec![Blob::new(mark(taken, id))]);
        let key_bytes = key.pk.len();
        let mut edit = Edit::new(key).set("ak", s(format!("z{shard}")));
        let mut bytes = size(&self.item).max(32 + key_bytes);
        if cut.is_none() {
            edit = edit.when("attribute_not_exists(#g)", &[]);
        }
        let mut index = u64::from(!self.item.contains_key("ak"));
        let changes = moved.take.is_some() || moved.free.is_some() || moved.room || moved.bump || moved.in_order;
        if let Some((taken, cap)) = moved.take {
            edit = edit.add("h", set(taken)).when("attribute_not_exists(#h) OR size(#h) < :cap", &[(":cap", n(cap))]);
            if let Some(cut) = cut {
                edit = edit.when("#g = :g AND #q = :cap", &[(":g", n(cut.generation))]);
            }
            bytes += MARK + 1;
        }
        if moved.in_order {
            edit = edit.unchanged("n", &self.item);
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

    /// Nobody has to be looked at any more on behalf of `waking`, nor at all when `empty`. In a part of a scope that is cut the
    /// latter is only said, as `clears`, and becomes true by [`Scope::cleared`]: others are denied without a word to this part.
    pub(super) fn woken(&self, key: Key, waking: &Waking, empty: bool, clears: Option<u64>) -> Part {
        let note = serde_json::to_string(waking).unwrap_or_default();
        let mut edit = Edit::new(key).remove("wk").remove("dk").remove("da");
        edit = edit.when("#wk = :wk", &[(":wk", s(note))]);
        match clears {
            Some(token) if empty => edit = edit.set("cl", n(token)),
            None if empty => edit = edit.remove("dn").unchanged("dn", &self.item).when("attribute_not_exists(#g)", &[]),
            Some(_) | None => {}
        }
        Part::Update { edit, bytes: size(&self.item), index: 1 }
    }

    /// Nobody waits any more, unless somebody has come since `clears` was said.
    pub(super) fn cleared(&self, key: Key, clears: u64) -> Part {
        let edit = Edit::new(key).remove("dn").remove("cl").when("#cl = :cl", &[(":cl", n(clears))]);
        Part::Update { edit, bytes: size(&self.item), index: 0 }
    }
}

impl DynamoDb {
    /// Scopes as they are now, with all parts of those that are cut.
    pub(super) async fn view(&self, op: &'static str, scopes: &BTreeSet<SlotScope>) -> Result<View, StoreError> {
        let mut view = self.glance(op, scopes.iter().map(|scope| (scope.clone(), 0)).collect()).await?;
        for (scope, seen) in &mut view.0 {
            if seen.shares.get(&0).is_some_and(|share| share.cut().is_some()) {
                *seen = self.whole(op, scope).await?;
            }
        }
        Ok(view)
    }

    /// Some parts of scopes as they are now.
    async fn glance(&self, op: &'static str, parts: BTreeSet<(SlotScope, u32)>) -> Result<View, StoreError> {
        let keys = parts.iter().map(|(scope, part)| Key::share(scope, *part)).collect();
        let mut view = View::default();
        for (scope, part) in &parts {
            view.0.entry(scope.clone()).or_default().shares.insert(*part, Scope::default());
        }
        for item in self.wire.get_all(op, keys).await? {
            let Some((scope, part)) = text(&item, "pk").and_then(scope_of) else { continue };
            if let Some(seen) = view.0.get_mut(&scope) {
                seen.shares.insert(part, Scope::read(item));
            }
        }
        Ok(view)
    }

    /// The parts of scopes in which a task moves: where it holds a slot, else where it begins to look.
    pub(super) fn parts_of(&self, kept: &Kept, scopes: &BTreeSet<SlotScope>) -> BTreeSet<(SlotScope, u32)> {
        let part = |scope: &SlotScope| {
            let held = kept.held.iter().find(|(held, _, _)| held == scope).map(|(_, _, part)| *part);
            held.or_else(|| Some(self.cuts.find(scope)?.home(kept.id()))).unwrap_or(0)
        };
        scopes.iter().map(|scope| (scope.clone(), part(scope))).collect()
    }

    /// Scopes as a task sees them that wants slots: of those that are cut only its own part, and where there is room; also whether
    /// somebody is before it.
    pub(super) async fn view_for(
        &self,
        op: &'static str,
        kept: &Kept,
        wanted: &[SlotLimit],
        scopes: &BTreeSet<SlotScope>,
    ) -> Result<View, StoreError> {
        // First the scopes, then the places: who takes a place in between changes the scope.
        let mut view = self.glance(op, self.parts_of(kept, scopes)).await?;
        let mut late = BTreeSet::new();
        for (scope, seen) in &mut view.0 {
            seen.cut = match seen.shares.get(&0).and_then(Scope::cut) {
                Some(cut) => {
                    self.cuts.keep(scope, &cut);
                    Some(cut)
                }
                None => self.cuts.find(scope).filter(|_| !seen.shares.contains_key(&0)),
            };
            let mut needed = BTreeSet::new();
            if seen.cut.is_some() {
                let held = kept.held.iter().find(|(held, _, _)| held == scope).map(|(_, _, part)| *part);
                needed.insert(held.unwrap_or_else(|| seen.home(kept.id())));
                if kept.row.limits().iter().chain(wanted).any(|l| l.fifo && l.scope == *scope) {
                    needed.insert(0);
                }
            }
            needed.retain(|part| !seen.shares.contains_key(part));
            late.extend(needed.into_iter().map(|part| (scope.clone(), part)));
        }
        for (scope, more) in if late.is_empty() { View::default() } else { self.glance(op, late).await? }.0 {
            view.0.entry(scope).or_default().shares.extend(more.shares);
        }
        let row = &kept.row;
        for limit in wanted.iter().filter(|l| !row.snapshot.held.contains(&l.scope)) {
            let Some(seen) = view.0.get_mut(&limit.scope) else { continue };
            if seen.cut.is_some() || self.cuts.wants(limit) {
                self.pick(op, kept.id(), limit, seen).await?;
            }
            let full = seen.full || u32::try_from(seen.held()).is_ok_and(|held| held >= limit.cap);
            if limit.fifo {
                seen.earlier = (seen.pick.is_some() || !full) && self.is_behind(op, &limit.scope, row.order).await?;
            }
        }
        Ok(view)
    }

    /// The parts of a transaction by which a task moves in scopes.
    pub(super) fn parts(&self, view: &View, id: TaskId, moves: &Moves, user: &UserId, now: Timestamp) -> Vec<Part> {
        let waking = Waking { user: user.clone(), now: now.as_millis(), mark: fastrand::u64(..) };
        let none = Scope::default();
        let part = |((scope, part), moved): (&(SlotScope, u32), &Move)| {
            let seen = view.0.get(scope);
            let share = seen.and_then(|seen| seen.shares.get(part)).unwrap_or(&none);
            let cut = seen.and_then(|seen| seen.cut.as_ref());
            share.part(Key::share(scope, *part), cut, id, moved, &waking, self.scope_shard(scope))
        };
        moves.iter().map(part).collect()
    }

    pub(super) fn scope_shard(&self, scope: &SlotScope) -> u32 {
        let sum = scope.0.bytes().fold(7_u32, |sum, b| sum.wrapping_mul(31).wrapping_add(b.into()));
        sum % self.shards.max(1)
    }
}

/// What can never be, found before anything is written; `cut_from` is the cap from which on scopes are cut.
pub(super) fn limits_fault(limits: &[SlotLimit], cut_from: u32) -> Option<String> {
    if limits.len() > MOST_SCOPES {
        let message = format!("{} slot scopes are listed, dynamodb moves at most {MOST_SCOPES} at once", limits.len());
        return Some(message);
    }
    limits.iter().find_map(|l| {
        let parts = if l.fifo || l.cap < cut_from { 1 } else { MOST_PARTS };
        if l.cap > MOST_HOLDERS.saturating_mul(parts) {
            let cap = l.cap;
            return Some(format!(
                "slot `{}` has a cap of {cap}, one dynamodb item holds at most {MOST_HOLDERS} holders, and there are at most \
                 {parts} of it: lower the cap, or leave the scope out",
                l.scope
            ));
        }
        if l.scope.0.contains(BETWEEN) {
            return Some(format!("the name of slot scope `{}` has a control character: leave it out", l.scope));
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
        assert_eq!(limits_fault(&[limit("user:ann", MOST_HOLDERS, true)], 100), None);
        assert_eq!(limits_fault(&[limit("system", MOST_HOLDERS + 1, false)], 100), None);
        for fault in [
            limits_fault(&[limit("user:ann", MOST_HOLDERS + 1, true)], 100).unwrap(),
            limits_fault(&[limit("system", MOST_HOLDERS + 1, false)], u32::MAX).unwrap(),
        ] {
            assert!(fault.contains("has a cap of 10001"), "{fault}");
        }
        assert!(limits_fault(&[limit("system", MOST_HOLDERS * MOST_PARTS + 1, false)], 100).is_some());
        assert!(limits_fault(&vec![limit("x", 1, false); MOST_SCOPES + 1], 100).is_some());
        assert!(limits_fault(&[limit("", 1, false)], 100).is_some());
        assert!(limits_fault(&[limit("a\u{1}7", 1, false)], 100).is_some());
    }
}
