//! What a transaction reads: the tasks, keys and scopes that its calls speak of.

use std::collections::BTreeSet;

use abca_core::TaskId;
use abca_core::store::Commit;
use abca_core::task::SlotScope;

use super::super::call::Call;
use super::super::engine::{Ask, Engine, Found, scopes_of};
use super::super::error::{is_newer, tell_newer};
use super::{Transaction, Trouble};

fn ask(calls: &[Call]) -> Ask<'_> {
    let mut ask = Ask { ids: calls.iter().flat_map(Call::tasks).collect(), ..Ask::default() };
    for call in calls {
        match call {
            Call::Submit(batch, _) => {
                ask.submits += batch.len();
                let keys = batch.iter().map(|(s, _)| &s.task);
                ask.keys.extend(keys.filter_map(|t| Some((t.user.clone(), t.idempotency_key.clone()?))));
            }
            Call::Commit(batch, _) => ask.commits.extend(batch.iter().map(|(c, _)| c)),
            Call::Bury(batch, _) => ask.leave.extend(batch.iter().map(|b| b.task)),
            Call::Revive(..)
            | Call::Discard(..)
            | Call::Purge(..)
            | Call::Claim(..)
            | Call::Expire(..)
            | Call::Renew(..)
            | Call::Release(..)
            | Call::Signal(..)
            | Call::Append(..)
            | Call::Heartbeat(..) => {}
        }
    }
    ask
}

impl<E: Engine> Transaction<'_, E> {
    /// Begins, and reads what the calls speak of.
    pub(crate) async fn begin(&mut self, calls: &[Call]) -> Result<(), Trouble> {
        let ask = ask(calls);
        self.leavers = ask.commits.len() + ask.leave.len();
        let begun = self.engine.begin(&ask).await?;
        self.take_in(begun.rows);
        self.scopes.0.extend(begun.scopes);
        self.absent.extend(ask.ids.iter().filter(|id| !self.rows.contains_key(id)));
        if !ask.keys.is_empty() {
            let found = self.engine.keys(&ask.keys).await?;
            let ids: Vec<TaskId> = found.iter().map(|(_, id)| *id).collect();
            self.keys.extend(found);
            if E::ALONE {
                self.load(ids.into_iter()).await?;
            } else {
                self.peek(&ids).await?;
            }
        }
        let mut scopes = BTreeSet::new();
        for commit in ask.commits {
            if let Some(row) = self.rows.get(&commit.task) {
                scopes_of(row, commit, &mut scopes);
            }
        }
        for row in ask.leave.iter().filter_map(|id| self.rows.get(id)).filter(|row| row.waits()) {
            scopes.extend(row.limits().iter().map(|l| l.scope.clone()));
        }
        self.load_scopes(scopes).await
    }

    /// Reads the scopes of a commit of a task that this very transaction made or moved.
    pub(super) async fn look_up(&mut self, commit: &Commit) -> Result<(), Trouble> {
        let mut scopes = BTreeSet::new();
        if let Some(row) = self.rows.get(&commit.task) {
            scopes_of(row, commit, &mut scopes);
        }
        if scopes.iter().any(|s| !self.scopes.0.contains_key(s)) {
            self.flush(false).await?;
            self.load_scopes(scopes).await?;
        }
        Ok(())
    }

    /// Reads tasks, to change them.
    pub(super) async fn load(&mut self, ids: impl Iterator<Item = TaskId>) -> Result<(), Trouble> {
        let unknown =
            |id: &TaskId| !self.rows.contains_key(id) && !self.absent.contains(id) && !self.unreadable.contains_key(id);
        let missing: Vec<TaskId> = ids.filter(unknown).collect();
        if !missing.is_empty() {
            let found = self.engine.load(&missing).await?;
            self.take_in(found);
        }
        Ok(())
    }

    /// Reads tasks, to look at them.
    pub(super) async fn peek(&mut self, ids: &[TaskId]) -> Result<(), Trouble> {
        let unknown = |id: &TaskId| {
            !self.rows.contains_key(id) && !self.peeked.contains_key(id) && !self.unreadable.contains_key(id)
        };
        let missing: Vec<TaskId> = ids.iter().copied().filter(unknown).collect();
        if missing.is_empty() {
            return Ok(());
        }
        for (id, found) in self.engine.peek(&missing).await? {
            match found {
                Ok(row) => drop(self.peeked.insert(id, row)),
                Err(error) => drop(self.unreadable.insert(id, error)),
            }
        }
        Ok(())
    }

    fn take_in(&mut self, found: Vec<Found>) {
        for (id, found) in found {
            match found {
                Ok(row) => drop(self.rows.insert(id, row)),
                Err(error) => {
                    if is_newer(&error) {
                        tell_newer(&error);
                    } else {
                        tracing::error!(error = %error, "a task cannot be read");
                    }
                    self.unreadable.insert(id, error);
                }
            }
        }
    }

    pub(super) async fn load_scopes(&mut self, scopes: BTreeSet<SlotScope>) -> Result<(), Trouble> {
        let missing: Vec<SlotScope> = scopes.into_iter().filter(|s| !self.scopes.0.contains_key(s)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let found = self.engine.scopes(&missing, self.leavers + 1).await?;
        self.scopes.0.extend(found);
        Ok(())
    }

    /// Reads scopes to see where there is room: one that somebody else works in may have some.
    pub(super) async fn glance(&mut self, scopes: BTreeSet<SlotScope>) -> Result<(), Trouble> {
        let missing: Vec<SlotScope> = scopes.into_iter().filter(|s| !self.scopes.0.contains_key(s)).collect();
        if !missing.is_empty() {
            let found = self.engine.glance(&missing).await?;
            self.scopes.0.extend(found);
        }
        Ok(())
    }
}
