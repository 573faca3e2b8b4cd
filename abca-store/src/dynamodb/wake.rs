//! Those who were denied a slot are made due when there is room: the first of each user, users in turn.

use std::collections::{BTreeMap, BTreeSet};

use abca_core::store::{StoreError, TaskRow};
use abca_core::task::SlotScope;
use abca_core::{TaskId, Timestamp, UserId};

use super::DynamoDb;
use super::due::Lag;
use super::edit::Edit;
use super::item::{BETWEEN, Item, Key, denied_pk, s, scope_of, text};
use super::scopes::{Scope, View};
use super::wire::Ask;

const OP: &str = "wake";
const PAGE: usize = 16;

/// Scopes where somebody may move up, each with who made room, when, and in which parts that is noted.
#[derive(Debug, Default)]
pub(super) struct Rooms(BTreeMap<SlotScope, (UserId, Timestamp, BTreeSet<u32>)>);

impl Rooms {
    pub(super) fn add(&mut self, scope: SlotScope, user: &UserId, now: Timestamp, part: Option<u32>) {
        let room = self.0.entry(scope).or_insert_with(|| (user.clone(), now, BTreeSet::new()));
        (room.0, room.1) = (user.clone(), now);
        room.2.extend(part);
    }
}

/// A walk along the denied of a scope.
struct Walk {
    view: View,
    woken: usize,
    met: bool,
    /// Scopes that are cut and know of those who are denied there.
    watched: BTreeSet<SlotScope>,
}

/// What follows after a task on the way.
enum Next {
    Further,
    User,
    Over,
}

impl DynamoDb {
    /// Looks at everybody who was denied where room was made. What fails here is noted in the scopes' items, and found in
    /// the index of what is due.
    pub(super) async fn wake_all(&self, rooms: Rooms) {
        for (scope, (user, now, parts)) in rooms.0 {
            if let Err(e) = self.wake(&scope, &user, now, &parts).await {
                tracing::warn!(scope = %scope, error = %e, "those who wait for a slot are not woken yet; the next claim does it");
            }
        }
    }

    /// Finishes what another process has begun and not ended.
    pub(super) async fn finish_wake(&self, pk: &str) {
        let Some((scope, part)) = scope_of(pk) else { return };
        let finish = async {
            let view = self.view(OP, &BTreeSet::from([scope.clone()])).await?;
            let share = view.0.get(&scope).and_then(|seen| seen.shares.get(&part));
            let Some(waking) = share.and_then(Scope::waking) else { return Ok(()) };
            self.wake(&scope, &waking.user, Timestamp::from_millis(waking.now), &BTreeSet::from([part])).await
        };
        if let Err(e) = finish.await {
            tracing::warn!(scope = %scope, error = %e, "those who wait for a slot are not woken yet; the next claim does it");
        }
    }

    /// Walks from the user after `user` once around; then what was noted in `parts` is done.
    async fn wake(
        &self,
        scope: &SlotScope,
        user: &UserId,
        now: Timestamp,
        parts: &BTreeSet<u32>,
    ) -> Result<(), StoreError> {
        let seen = self.view(OP, &BTreeSet::from([scope.clone()])).await?;
        let Some(at_first) = seen.0.get(scope).cloned() else { return Ok(()) };
        let met = self.round(scope, user, now, seen).await?;
        let clears = at_first.cut.as_ref().map(|_| fastrand::u64(..));
        let mut done = Vec::new();
        for part in parts {
            let Some(share) = at_first.shares.get(part) else { continue };
            let Some(note) = share.waking() else { continue };
            self.wire.write(OP, share.woken(Key::share(scope, *part), &note, !met, clears)).await?;
            done.push((*part, share));
        }
        let Some(clears) = clears.filter(|_| !met && !done.is_empty()) else { return Ok(()) };
        // Whoever is denied now takes back what was said; whoever was denied before is met.
        if !self.round(scope, user, now, self.view(OP, &BTreeSet::from([scope.clone()])).await?).await? {
            for (part, share) in done {
                self.wire.write(OP, share.cleared(Key::share(scope, part), clears)).await?;
            }
        }
        Ok(())
    }

    /// Wakes those there is room for; answers whether it met anybody who waits.
    async fn round(&self, scope: &SlotScope, user: &UserId, now: Timestamp, view: View) -> Result<bool, StoreError> {
        let mut walk = Walk { view, woken: 0, met: false, watched: BTreeSet::new() };
        // After everything of this user, and up to it.
        let own = format!("{user}{BETWEEN}~");
        let over = self.walk(scope, now, ("sk > :a", &own), &mut walk).await?;
        if !over {
            self.walk(scope, now, ("sk <= :a", &own), &mut walk).await?;
        }
        Ok(walk.met)
    }

    /// Walks one half of the round; `true` when there is no room for more.
    async fn walk(
        &self,
        scope: &SlotScope,
        now: Timestamp,
        half: (&'static str, &str),
        walk: &mut Walk,
    ) -> Result<bool, StoreError> {
        let first_half = half.0 == "sk > :a";
        let mut after = if first_half { half.1.to_owned() } else { String::new() };
        let mut lane: Option<String> = None;
        let mut ahead = 0;
        loop {
            let range = if first_half {
                ("sk > :a", vec![s(&after)])
            } else if after.is_empty() {
                ("sk <= :a", vec![s(half.1)])
            } else if after.as_str() >= half.1 {
                return Ok(false);
            } else {
                ("sk BETWEEN :a AND :b", vec![s(&after), s(half.1)])
            };
            let ask =
                Ask { index: None, hash: ("pk", denied_pk(scope)), range: Some(range), forward: true, limit: PAGE };
            let (items, _) = self.wire.page(OP, &ask, None).await?;
            let items: Vec<Item> =
                items.into_iter().filter(|i| text(i, "sk").is_some_and(|sk| sk > after.as_str())).collect();
            if items.is_empty() {
                return Ok(false);
            }
            for item in items {
                let Some(sk) = text(&item, "sk") else { continue };
                after = sk.to_owned();
                let user = sk.rsplit_once(BETWEEN).map_or(sk, |(user, _)| user).to_owned();
                if lane.as_ref() != Some(&user) {
                    (lane, ahead) = (Some(user.clone()), 0);
                }
                match self.look_at(scope, now, &item, &mut ahead, walk).await? {
                    Next::Further => {}
                    Next::User => {
                        after = format!("{user}{BETWEEN}~");
                        break;
                    }
                    Next::Over => return Ok(true),
                }
            }
        }
    }

    async fn look_at(
        &self,
        scope: &SlotScope,
        now: Timestamp,
        place: &Item,
        ahead: &mut usize,
        walk: &mut Walk,
    ) -> Result<Next, StoreError> {
        let id: Option<TaskId> = text(place, "id").and_then(|id| id.parse().ok());
        let found = match id {
            Some(id) => self.rows(OP, &[id]).await?.pop().map(|(_, found)| found),
            None => None,
        };
        let row: TaskRow = match found {
            Some(Ok(kept)) if kept.row.waits() => kept.row,
            // It cannot be read now: whoever claims it puts it aside.
            Some(Err(_)) => return Ok(Next::Further),
            Some(Ok(_)) | None => {
                if let Some(key) = Key::of(place) {
                    let same = Edit::new(key.clone()).unchanged("t", place);
                    self.wire.delete(OP, &key, Some(same)).await?;
                }
                return Ok(Next::Further);
            }
        };
        walk.met = true;
        if !row.denied {
            return Ok(Next::Further);
        }
        let scopes = row.limits().iter().map(|l| l.scope.clone());
        let missing: BTreeSet<SlotScope> = scopes.filter(|scope| !walk.view.0.contains_key(scope)).collect();
        if !missing.is_empty() {
            walk.view.0.extend(self.view(OP, &missing).await?.0);
        }
        if row.room_in(scope, &walk.view) <= walk.woken {
            return Ok(Next::Over);
        }
        for limit in row.limits().iter().filter(|l| l.scope != *scope) {
            let held_up = walk.view.is_cut(&limit.scope) && row.room_in(&limit.scope, &walk.view) <= *ahead;
            if held_up && walk.watched.insert(limit.scope.clone()) {
                // From now on it waits for room there.
                let seen = self.watch(OP, &limit.scope).await?;
                walk.view.0.insert(limit.scope.clone(), seen);
            }
        }
        if row.room(&walk.view) <= *ahead {
            return Ok(Next::User);
        }
        self.change(OP, row.snapshot.id(), Lag::Never, |kept| {
            if kept.row.waits() && kept.row.denied {
                kept.row.wake(now);
            }
        })
        .await?;
        walk.woken += 1;
        *ahead += 1;
        Ok(Next::Further)
    }
}
