//! Scopes that many share, cut into parts: items of their own, each with a quota of the cap, that admit side by side.
//!
//! The scope's own item is part 0 and says how it is cut: a generation, the cap, the quotas. A part admits only in its
//! generation and below its quota, and the quotas add up to the cap, so whatever races, no more than the cap hold a slot. A task
//! begins at a part that its id says; where that is full it looks at all parts and goes to one that has room: rooms are
//! not moved to tasks, tasks go to rooms.
//!
//! Another cap is another generation: first every part is set to it with a quota of nothing, so that nobody is admitted any
//! more; then holders are counted, which can only become fewer; then the quotas are decided, once, in part 0, and from
//! there given to the parts. Whoever dies on the way leaves something that the next one who looks for room carries on with.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use abca_core::TaskId;
use abca_core::store::StoreError;
use abca_core::task::{SlotLimit, SlotScope};
use serde::{Deserialize, Serialize};

use super::DynamoDb;
use super::edit::Edit;
use super::item::{Key, n, s, size, text};
use super::scopes::{Scope, Seen, number_of};
use super::wire::{Attempts, Part, Wrote, together};

/// Most parts of a scope: whoever is denied reads them all.
pub const MOST_PARTS: u32 = 128;
/// Scopes of which it is remembered how they are cut.
const REMEMBERED: usize = 4_096;

/// How a scope is cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cut {
    #[serde(rename = "g")]
    pub(super) generation: u64,
    #[serde(rename = "c")]
    pub(super) cap: u32,
    #[serde(rename = "p")]
    pub(super) parts: u32,
    /// The parts' quotas; none while the parts are being set to the generation.
    #[serde(rename = "q", default, skip_serializing_if = "Vec::is_empty")]
    quotas: Vec<u32>,
}

impl Cut {
    pub(super) fn is_open(&self) -> bool {
        !self.quotas.is_empty()
    }

    pub(super) fn quota(&self, part: u32) -> u32 {
        usize::try_from(part).ok().and_then(|i| self.quotas.get(i)).copied().unwrap_or(0)
    }

    /// The part where a task begins to look for room.
    pub(super) fn home(&self, id: TaskId) -> u32 {
        // The end of a ULID is random; a multiplication spreads those of tests.
        let random = u64::try_from(number_of(id) & u128::from(u64::MAX)).unwrap_or_default();
        let spread = random.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        u32::try_from(spread % u64::from(self.parts.max(1))).unwrap_or_default()
    }

    fn note(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// What is divided among parts that hold so many already: each keeps what it holds, the rest goes to those below their share.
fn quotas(cap: u32, held: &[usize]) -> Vec<u32> {
    let parts = u32::try_from(held.len()).unwrap_or(1).max(1);
    let held: Vec<u32> = held.iter().map(|h| u32::try_from(*h).unwrap_or(u32::MAX)).collect();
    let mut left = cap.saturating_sub(held.iter().fold(0, |sum, h| sum.saturating_add(*h)));
    (0..parts)
        .zip(&held)
        .map(|(part, held)| {
            let share = cap / parts + u32::from(part < cap % parts);
            let more = share.saturating_sub(*held).min(left);
            left -= more;
            held.saturating_add(more)
        })
        .collect()
}

/// How scopes are cut, as it was last seen: whoever relies on it finds the generation changed where it is not so any more.
#[derive(Debug)]
pub(super) struct Cuts {
    from: u32,
    slots_a_part: u32,
    seen: Mutex<BTreeMap<SlotScope, Cut>>,
}

impl Cuts {
    pub(super) fn new(from: u32, slots_a_part: u32) -> Self {
        Self { from, slots_a_part, seen: Mutex::default() }
    }

    /// The cap from which on scopes are cut.
    pub(super) const fn from(&self) -> u32 {
        self.from
    }

    pub(super) fn find(&self, scope: &SlotScope) -> Option<Cut> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(scope).cloned()
    }

    pub(super) fn keep(&self, scope: &SlotScope, cut: &Cut) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= REMEMBERED {
            seen.clear();
        }
        seen.insert(scope.clone(), cut.clone());
    }

    /// Whether a scope under such a limit is to be cut, if it is not.
    pub(super) fn wants(&self, limit: &SlotLimit) -> bool {
        !limit.fifo && limit.cap >= self.from
    }

    fn parts(&self, cap: u32) -> u32 {
        cap.div_ceil(self.slots_a_part.max(1)).clamp(2, MOST_PARTS)
    }
}

impl DynamoDb {
    /// A scope with all its parts as they are now, one after the other.
    pub(super) async fn whole(&self, op: &'static str, scope: &SlotScope) -> Result<Seen, StoreError> {
        let first = self.wire.get(op, &Key::scope(scope)).await?.map(Scope::read).unwrap_or_default();
        let cut = first.cut();
        let mut shares = BTreeMap::from([(0, first)]);
        if let Some(cut) = &cut {
            self.cuts.keep(scope, cut);
            let keys = (1..cut.parts).map(|part| Key::share(scope, part)).collect();
            for item in self.wire.get_all(op, keys).await? {
                let part = text(&item, "pk").and_then(super::item::scope_of);
                shares.extend(part.map(|(_, part)| (part, Scope::read(item))));
            }
        }
        Ok(Seen { shares, cut, ..Seen::default() })
    }

    /// Finds the part of a cut scope where a task may take a slot, or that there is none; cuts the scope where that is due.
    pub(super) async fn pick(
        &self,
        op: &'static str,
        id: TaskId,
        limit: &SlotLimit,
        seen: &mut Seen,
    ) -> Result<(), StoreError> {
        if let Some(cut) = seen.cut.as_ref().filter(|cut| cut.cap <= limit.cap && cut.is_open()) {
            let home = cut.home(id);
            if seen.shares.get(&home).is_some_and(|share| share.free(cut, home) > 0) {
                seen.pick = Some(home);
                return Ok(());
            }
        }
        let mut attempts = Attempts::new(op);
        loop {
            let all = self.whole(op, &limit.scope).await?;
            let held = all.held();
            let earlier = seen.earlier;
            *seen = all;
            seen.earlier = earlier;
            let Some(cut) = seen.cut.clone() else {
                if !self.cuts.wants(limit) {
                    return Ok(());
                }
                self.recut(op, &limit.scope, limit.cap, None).await?;
                attempts.again().await?;
                continue;
            };
            if u32::try_from(held).is_ok_and(|held| held >= limit.cap) {
                seen.full = true;
                return Ok(());
            }
            if cut.cap <= limit.cap && cut.is_open() {
                if self.spread(op, &limit.scope, &cut, seen).await? {
                    continue;
                }
                let rooms: Vec<u32> =
                    seen.shares.iter().filter(|(part, s)| s.free(&cut, **part) > 0).map(|(part, _)| *part).collect();
                if let Some(part) = rooms.get(fastrand::usize(..rooms.len().max(1))) {
                    seen.pick = Some(*part);
                    return Ok(());
                }
                if cut.cap == limit.cap {
                    // The parts were not read at once.
                    attempts.again().await?;
                    continue;
                }
            }
            self.recut(op, &limit.scope, limit.cap, Some(cut)).await?;
            attempts.again().await?;
        }
    }

    /// Gives parts the quotas that are decided; `true` when one did not have it.
    async fn spread(&self, op: &'static str, scope: &SlotScope, cut: &Cut, seen: &Seen) -> Result<bool, StoreError> {
        let late = (1..cut.parts).filter(|part| {
            seen.shares.get(part).is_none_or(|share| share.lease() != Some((cut.generation, cut.quota(*part))))
        });
        let give = async |part: u32| {
            let edit = Edit::new(Key::share(scope, part)).set("q", n(cut.quota(part)));
            let edit = edit.when("#g = :g", &[(":g", n(cut.generation))]);
            let bytes = seen.shares.get(&part).map_or(0, |share| size(&share.item));
            self.wire.write(op, Part::Update { edit, bytes, index: 0 }).await
        };
        let given = together(late.map(give).collect()).await?;
        Ok(!given.is_empty())
    }

    /// Goes on towards a scope that is cut for this cap, from what was seen of it. Whoever else does the same may be faster: the
    /// caller looks again.
    async fn recut(&self, op: &'static str, scope: &SlotScope, cap: u32, seen: Option<Cut>) -> Result<(), StoreError> {
        let root = self.wire.get(op, &Key::scope(scope)).await?.map(Scope::read).unwrap_or_default();
        if root.cut() != seen {
            return Ok(());
        }
        let cut = match seen {
            Some(cut) if cut.cap == cap => cut,
            other => {
                let (generation, parts) = other.map_or((0, 0), |cut| (cut.generation, cut.parts));
                let parts = parts.max(self.cuts.parts(cap));
                let cut = Cut { generation: generation.saturating_add(1), cap, parts, quotas: Vec::new() };
                let edit = Edit::new(Key::scope(scope)).set("ct", s(cut.note())).set("g", n(cut.generation));
                let edit = edit.set("q", n(0)).set("ak", s(format!("z{}", self.scope_shard(scope))));
                let edit = edit.unchanged("ct", &root.item);
                // Who was denied before there were parts is known to the scope's own item alone.
                let edit = if generation == 0 { edit.unchanged("dn", &root.item) } else { edit };
                let (bytes, index) = (size(&root.item) + 128, u64::from(root.item.is_empty()));
                if self.wire.write(op, Part::Update { edit, bytes, index }).await? != Wrote::Done {
                    return Ok(());
                }
                cut
            }
        };
        if cut.is_open() {
            return Ok(());
        }
        // Nobody is admitted any more in a part that is set to the generation. Whoever was denied while the scope had fewer parts
        // must be found by those who make room in the new ones.
        let denied = cut.generation > 1 || root.denials.is_some();
        let stop = async |part: u32| {
            let edit = Edit::new(Key::share(scope, part)).set("g", n(cut.generation)).set("q", n(0));
            let edit = edit.set("ak", s(format!("z{}", self.scope_shard(scope))));
            let edit = if denied { edit.add("dn", n(1)).remove("cl") } else { edit };
            let edit = edit.when("attribute_not_exists(#g) OR #g < :g", &[(":g", n(cut.generation))]);
            self.wire.write(op, Part::Update { edit, bytes: 0, index: 1 }).await
        };
        together((1..cut.parts).map(stop).collect()).await?;
        let all = self.whole(op, scope).await?;
        let holds = |part: u32| all.shares.get(&part).filter(|s| s.lease().is_some_and(|(g, _)| g == cut.generation));
        let held: Option<Vec<usize>> = (0..cut.parts).map(|part| Some(holds(part)?.holders.len())).collect();
        let Some(held) = held.filter(|_| all.cut.as_ref() == Some(&cut)) else { return Ok(()) };
        if u32::try_from(held.iter().sum::<usize>()).is_ok_and(|sum| sum >= cap) {
            return Ok(());
        }
        let Some(root) = all.shares.get(&0) else { return Ok(()) };
        let open = Cut { quotas: quotas(cap, &held), ..cut };
        let edit = Edit::new(Key::scope(scope)).set("ct", s(open.note())).set("q", n(open.quota(0)));
        let edit = edit.unchanged("ct", &root.item);
        let bytes = size(&root.item) + 4 * held.len();
        if self.wire.write(op, Part::Update { edit, bytes, index: 0 }).await? == Wrote::Done {
            self.spread(op, scope, &open, &all).await?;
        }
        Ok(())
    }

    /// Sees to it that whoever makes room in any part looks for those who were denied; answers the parts as they are after that.
    pub(super) async fn watch(&self, op: &'static str, scope: &SlotScope) -> Result<Seen, StoreError> {
        let all = self.whole(op, scope).await?;
        let Some(cut) = &all.cut else { return Ok(all) };
        let blind = (0..cut.parts).filter(|part| all.shares.get(part).is_none_or(|share| !share.is_watched()));
        let mark = async |part: u32| {
            // Also where the part is only being made.
            let edit = Edit::new(Key::share(scope, part)).add("dn", n(1)).remove("cl");
            let bytes = all.shares.get(&part).map_or(0, |share| size(&share.item));
            self.wire.write(op, Part::Update { edit, bytes, index: 0 }).await
        };
        let marked = together(blind.map(mark).collect()).await?;
        if marked.is_empty() { Ok(all) } else { self.whole(op, scope).await }
    }
}

#[cfg(test)]
mod tests {
    use abca_core::testing::fixtures::task_id;

    use super::*;

    #[test]
    fn quotas_add_up_to_the_cap_and_take_nothing_from_who_holds() {
        for (cap, held) in
            [(10, vec![0, 0, 0]), (10, vec![9, 0, 0]), (10, vec![7, 1, 1]), (1, vec![0, 0]), (5, vec![0; 8])]
        {
            let quotas = quotas(cap, &held);
            assert_eq!(quotas.iter().sum::<u32>(), cap, "{quotas:?}");
            assert!(quotas.iter().zip(&held).all(|(q, h)| *q as usize >= *h), "{quotas:?} for {held:?}");
        }
        assert_eq!(quotas(10, &[0, 0, 0]), [4, 3, 3]);
        assert_eq!(quotas(10, &[9, 0, 0]), [9, 1, 0]);
    }

    #[test]
    fn tasks_begin_at_different_parts() {
        let cut = Cut { generation: 1, cap: 100, parts: 4, quotas: vec![25; 4] };
        let homes: std::collections::BTreeSet<u32> = (1..40).map(|n| cut.home(task_id(n))).collect();
        assert_eq!(homes.len(), 4);
    }
}
