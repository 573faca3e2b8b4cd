//! Those who were denied a slot are made due when there is room: the first of each user, users in turn.

use std::collections::{BTreeMap, BTreeSet};

use abca_core::store::{StoreError, TaskRow};
use abca_core::task::SlotScope;
use abca_core::{TaskId, Timestamp, UserId};

use super::DynamoDb;
use super::due::Lag;
use super::edit::Edit;
use super::item::{BETWEEN, Item, Key, denied_pk, s, text};
use super::scopes::View;
use super::wire::Ask;

const OP: &str = "wake";
const PAGE: usize = 16;

/// Scopes where somebody may move up, each with who made room and when.
pub(super) type Rooms = BTreeMap<SlotScope, (UserId, Timestamp)>;

/// A walk along the denied of a scope.
struct Walk {
    view: View,
    woken: usize,
    met: bool,
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
        for (scope, (user, now)) in rooms {
            if let Err(e) = self.wake(&scope, &user, now).await {
                tracing::warn!(scope = %scope, error = %e, "those who wait for a slot are not woken yet; the next claim does it");
            }
        }
    }

    /// Finishes what another process has begun and not ended.
    pub(super) async fn finish_wake(&self, pk: &str) {
        let Some(scope) = pk.strip_prefix("S#").map(|name| SlotScope(name.to_owned())) else { return };
        let finish = async {
            let view = self.view(OP, &BTreeSet::from([scope.clone()])).await?;
            let Some(waking) = view.0.get(&scope).and_then(|s| s.waking()) else { return Ok(()) };
            self.wake(&scope, &waking.user, Timestamp::from_millis(waking.now)).await
        };
        if let Err(e) = finish.await {
            tracing::warn!(scope = %scope, error = %e, "those who wait for a slot are not woken yet; the next claim does it");
        }
    }

    /// Walks from the user after `user` once around.
    async fn wake(&self, scope: &SlotScope, user: &UserId, now: Timestamp) -> Result<(), StoreError> {
        let seen = self.view(OP, &BTreeSet::from([scope.clone()])).await?;
        let Some(at_first) = seen.0.get(scope).cloned() else { return Ok(()) };
        let note = at_first.waking();
        let mut walk = Walk { view: seen, woken: 0, met: false };
        // After everything of this user, and up to it.
        let own = format!("{user}{BETWEEN}~");
        let over = self.walk(scope, now, ("sk > :a", &own), &mut walk).await?;
        if !over {
            self.walk(scope, now, ("sk <= :a", &own), &mut walk).await?;
        }
        let Some(note) = note else { return Ok(()) };
        self.wire.write(OP, at_first.woken(scope, &note, !walk.met)).await.map(drop)
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
