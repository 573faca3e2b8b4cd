//! The one atomic commit: alone where only the task changes, a transaction where slots or the queue move with it.

use std::collections::BTreeSet;

use abca_core::store::{Applied, Commit, CommitOutcome, CommitVerdict, Slots, StoreError, TaskRow, check_commits};
use abca_core::task::{SlotChange, SlotLimit, SlotScope};

use super::DynamoDb;
use super::due::Lag;
use super::error::{invalid, partly};
use super::item::Key;
use super::kept::Kept;
use super::scopes::{Moves, View, limits_fault};
use super::wake::Rooms;
use super::wire::Attempts;

const OP: &str = "commit";

/// Where nobody holds anything: for verdicts that do not depend on slots.
struct Nobody;

impl Slots for Nobody {
    fn holders(&self, _: &SlotScope) -> usize {
        0
    }
    fn earlier_waits(&self, _: &SlotScope, _: u64) -> bool {
        false
    }
}

/// Scopes whose items a commit may have to change.
fn touched(row: &TaskRow, commit: &Commit) -> BTreeSet<SlotScope> {
    let mut scopes = BTreeSet::new();
    match &commit.change.slots {
        SlotChange::Keep => {}
        SlotChange::Acquire(limits) => {
            scopes.extend(limits.iter().chain(row.limits()).map(|l| l.scope.clone()));
        }
        SlotChange::Release => scopes.extend(row.snapshot.held.iter().cloned()),
    }
    if row.waits() != commit.change.task.status.is_waiting() {
        scopes.extend(row.limits().iter().map(|l| l.scope.clone()));
    }
    scopes
}

fn wanted(commit: &Commit) -> &[SlotLimit] {
    match &commit.change.slots {
        SlotChange::Acquire(limits) => limits,
        SlotChange::Keep | SlotChange::Release => &[],
    }
}

impl DynamoDb {
    pub(super) async fn commit_all(&self, batch: &[Commit]) -> Result<Vec<CommitOutcome>, StoreError> {
        let mut kept = self.readable(OP, batch.iter().map(|c| c.task)).await?;
        check_commits(batch, |id| kept.get(&id).map(|k| &k.row))?;
        if let Some(fault) = batch.iter().find_map(|c| limits_fault(wanted(c), self.cuts.from())) {
            return Err(invalid(OP, fault));
        }
        let mut rooms = Rooms::default();
        let mut outcomes = Vec::with_capacity(batch.len());
        for commit in batch {
            let first = kept.remove(&commit.task);
            match self.commit_one(commit, first, &mut rooms).await {
                Ok(outcome) => outcomes.push(outcome),
                Err(e) => {
                    self.wake_all(rooms).await;
                    let done = outcomes.iter().any(|o| matches!(o, CommitOutcome::Applied(_)));
                    return Err(if done { partly(e) } else { e });
                }
            }
        }
        self.wake_all(rooms).await;
        Ok(outcomes)
    }

    async fn commit_one(
        &self,
        commit: &Commit,
        first: Option<Kept>,
        rooms: &mut Rooms,
    ) -> Result<CommitOutcome, StoreError> {
        let id = commit.task;
        let _alone = self.locks.task(id).await;
        let mut attempts = Attempts::new(OP);
        let mut first = first;
        loop {
            let fresh = first.is_none();
            let before = match first.take() {
                Some(kept) => kept,
                None => match self.row(OP, id).await? {
                    Some(kept) => kept,
                    None => return Ok(CommitOutcome::NotFound),
                },
            };
            if !before.row.is_current(commit) {
                // What was read before the lock was had may be old.
                if !fresh {
                    continue;
                }
                let now = Box::new(before.row.snapshot.clone());
                return Ok(match before.row.clone().commit(commit, &Nobody)? {
                    CommitVerdict::AlreadyApplied => CommitOutcome::AlreadyApplied(now),
                    CommitVerdict::Fenced => CommitOutcome::Fenced,
                    CommitVerdict::Stale | CommitVerdict::Applied(_) | CommitVerdict::SlotDenied(_) => {
                        CommitOutcome::Stale(now)
                    }
                });
            }
            let scopes = touched(&before.row, commit);
            let turns: Vec<String> =
                self.parts_of(&before, &scopes).iter().map(|(scope, part)| Key::share(scope, *part).pk).collect();
            let _in_turn = self.locks.scopes(turns.iter().map(String::as_str)).await;
            let view = self.view_for(OP, &before, wanted(commit), &scopes).await?;
            let mut after = before.clone();
            let done = match after.row.commit(commit, &view)? {
                CommitVerdict::Applied(done) => {
                    if self.apply(commit, &before, &mut after, &view, &done, rooms).await? {
                        Some(CommitOutcome::Applied(Box::new(after.row.snapshot)))
                    } else {
                        None
                    }
                }
                CommitVerdict::SlotDenied(scope) => self
                    .deny(commit, &before, &mut after, &view, &scope, rooms)
                    .await?
                    .then_some(CommitOutcome::SlotDenied(scope)),
                CommitVerdict::AlreadyApplied | CommitVerdict::Stale | CommitVerdict::Fenced => None,
            };
            if let Some(outcome) = done {
                return Ok(outcome);
            }
            attempts.again().await?;
        }
    }

    /// Writes an applied commit; `false` when somebody was faster.
    async fn apply(
        &self,
        commit: &Commit,
        before: &Kept,
        after: &mut Kept,
        view: &View,
        done: &Applied,
        rooms: &mut Rooms,
    ) -> Result<bool, StoreError> {
        let id = commit.task;
        self.tell(OP, after, done.first_event, &commit.change.events).await?;
        let shares = view.0.values().flat_map(|seen| seen.shares.values());
        let last = shares.filter_map(|s| s.holders.last()).map(|(taken, _)| taken.saturating_add(1)).max();
        let taken = self.moment().max(last.unwrap_or_default());
        let mut moves = Moves::new();
        for limit in wanted(commit).iter().filter(|l| done.taken.contains(&l.scope)) {
            let seen = view.0.get(&limit.scope);
            let part = seen.and_then(|seen| seen.pick).unwrap_or(0);
            let cut = seen.and_then(|seen| seen.cut.as_ref());
            let most = cut.map_or(limit.cap, |cut| cut.quota(part));
            moves.entry((limit.scope.clone(), part)).or_default().take = Some((taken, most));
            if limit.fifo {
                moves.entry((limit.scope.clone(), 0)).or_default().in_order = true;
            }
            after.held.push((limit.scope.clone(), taken, part));
        }
        for (scope, taken, part) in before.held.iter().filter(|(scope, _, _)| done.freed.contains(scope)) {
            moves.entry((scope.clone(), *part)).or_default().free = Some(*taken);
        }
        after.held.retain(|(scope, _, _)| !done.freed.contains(scope));
        let now_waits = after.row.waits();
        let moved = before.row.waits() != now_waits;
        if moved {
            after.placed = false;
        }
        let up = if moved && !now_waits || !done.freed.is_empty() { after.row.rooms(done) } else { BTreeSet::new() };
        let part = |scope: &SlotScope| {
            let held = before.held.iter().find(|(held, _, _)| held == scope).map(|(_, _, part)| *part);
            held.unwrap_or_else(|| view.0.get(scope).map_or(0, |seen| seen.home(id)))
        };
        let up: BTreeSet<(SlotScope, u32)> = up.into_iter().map(|scope| (scope.clone(), part(&scope))).collect();
        for place in &up {
            moves.entry(place.clone()).or_default().room = true;
        }
        if moved && now_waits {
            self.take_places(OP, &after.row).await?;
            for limit in after.row.limits().iter().filter(|l| l.fifo) {
                moves.entry((limit.scope.clone(), 0)).or_default().bump = true;
            }
        }
        let ready = self.ready(OP, before, after, Lag::Since(commit.now)).await?;
        let others = self.parts(view, id, &moves, after.row.user(), commit.now);
        if !self.carry_out(OP, id, ready, others).await? {
            return Ok(false);
        }
        if moved && !now_waits {
            self.leave_places(OP, after, before.placed).await;
        }
        for (scope, part) in up {
            if view.0.get(&scope).is_some_and(|seen| seen.is_denied(part)) {
                rooms.add(scope, after.row.user(), commit.now, Some(part));
            }
        }
        Ok(true)
    }

    /// Writes down that a task was denied a slot, unless room was made meanwhile. In a scope that is cut room may be made in
    /// parts that this does not speak of: they are looked at once more after it.
    async fn deny(
        &self,
        commit: &Commit,
        before: &Kept,
        after: &mut Kept,
        view: &View,
        scope: &SlotScope,
        rooms: &mut Rooms,
    ) -> Result<bool, StoreError> {
        let id = after.id();
        if !before.row.denied {
            let mut moves = Moves::new();
            if after.row.waits() {
                if !after.placed {
                    self.take_denied_places(OP, &after.row).await?;
                    after.placed = true;
                }
                // Scopes that are cut and do not deny it learn of it when whoever is denied here could go on but for them.
                for limit in after.row.limits().iter().filter(|l| !view.is_cut(&l.scope)) {
                    moves.entry((limit.scope.clone(), 0)).or_default().deny = Some(limit.scope == *scope);
                }
                if view.is_cut(scope) && wanted(commit).iter().any(|l| l.fifo && l.scope == *scope) {
                    moves.entry((scope.clone(), 0)).or_default().in_order = true;
                }
            }
            let now = after.row.snapshot.task.updated_at;
            let ready = self.ready(OP, before, after, Lag::AsBefore).await?;
            let others = self.parts(view, id, &moves, after.row.user(), now);
            if !self.carry_out(OP, id, ready, others).await? {
                return Ok(false);
            }
        }
        if after.row.waits() && view.is_cut(scope) {
            let held = self.watch(OP, scope).await?.held();
            let limit = wanted(commit).iter().find(|l| l.scope == *scope);
            if limit.is_some_and(|l| !l.fifo && u32::try_from(held).is_ok_and(|held| held < l.cap)) {
                rooms.add(scope.clone(), after.row.user(), commit.now, None);
            }
        }
        Ok(true)
    }
}
