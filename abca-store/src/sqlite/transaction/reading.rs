//! What a transaction reads: the tasks, keys and scopes that its calls speak of.

use std::collections::BTreeSet;

use abca_core::id::IdempotencyKey;
use abca_core::store::Commit;
use abca_core::task::{SlotChange, SlotScope};
use abca_core::{TaskId, UserId};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Arguments, Row};

use super::super::call::Call;
use super::super::error::{code, convert, corrupt};
use super::super::rows::{limit, list, select_rows, task_id, task_row};
use super::{Scope, Transaction, Trouble};

/// Tasks by their ids, a JSON array.
macro_rules! select_missing {
    () => {
        select_rows!("WHERE t.id IN (SELECT value FROM json_each(?))")
    };
}

/// The first so many tasks that wait in each scope of a JSON array, and how full it is. One row for all: every row
/// wakes the thread that waits for it.
macro_rules! select_scopes {
    () => {
        "SELECT json_group_array(json_array(j.key, (SELECT count(*) FROM slot WHERE scope = j.value), \
         EXISTS (SELECT 1 FROM waiting WHERE scope = j.value AND denied = 1), json((SELECT json_group_array(ord) FROM \
         (SELECT ord FROM waiting WHERE scope = j.value ORDER BY ord LIMIT ? + 0))))), 'scopes' FROM json_each(?) j"
    };
}

/// What tells the rows of one round trip apart.
const VERSION_COLUMNS: usize = 1;
const SCOPES_COLUMNS: usize = 2;

impl Transaction<'_> {
    /// Takes the write lock, forgets what is remembered when another connection has written since, and reads what the
    /// calls speak of: all in one round trip, since each costs a change of threads.
    pub(in crate::sqlite) async fn begin(&mut self, calls: &[Call], version: &mut i64) -> Result<(), Trouble> {
        let trouble = |e: sqlx::Error| Trouble { alone: !matches!(code(&e), Some(5 | 6)), error: convert("begin", e) };
        let ids: BTreeSet<TaskId> = calls.iter().flat_map(Call::tasks).collect();
        let missing: Vec<TaskId> = ids.into_iter().filter(|id| self.shelf.row(*id).is_none()).collect();
        let mut scopes = BTreeSet::new();
        for call in calls {
            if let Call::Commit(batch, _) = call {
                self.leavers += batch.len();
                batch.iter().for_each(|(c, _)| self.scopes_of(c, &mut scopes));
            }
        }
        let scopes: Vec<SlotScope> = scopes.into_iter().collect();
        let mut arguments = SqliteArguments::default();
        let text = match (missing.is_empty(), scopes.is_empty()) {
            (true, true) => "BEGIN IMMEDIATE; PRAGMA data_version",
            (false, true) => concat!("BEGIN IMMEDIATE; PRAGMA data_version; ", select_missing!()),
            (true, false) => concat!("BEGIN IMMEDIATE; PRAGMA data_version; ", select_scopes!()),
            (false, false) => {
                concat!("BEGIN IMMEDIATE; PRAGMA data_version; ", select_missing!(), "; ", select_scopes!())
            }
        };
        if !missing.is_empty() {
            arguments.add(list(&missing)).map_err(sqlx::Error::Encode).map_err(trouble)?;
        }
        if !scopes.is_empty() {
            arguments.add(limit(self.leavers + 1)).map_err(sqlx::Error::Encode).map_err(trouble)?;
            arguments.add(list(&scopes)).map_err(sqlx::Error::Encode).map_err(trouble)?;
        }
        let rows = sqlx::query_with(text, arguments).fetch_all(&mut *self.conn).await.map_err(trouble)?;
        let (mut found, mut tasks) = (*version, Vec::new());
        for row in rows {
            match row.len() {
                VERSION_COLUMNS => found = row.try_get(0).map_err(trouble)?,
                SCOPES_COLUMNS => self.scopes(&scopes, &row)?,
                _ => tasks.push(row),
            }
        }
        if found != *version {
            self.shelf.clear();
            *version = found;
        }
        self.shelve(&tasks)?;
        self.absent.extend(missing);
        self.prefetch(calls).await
    }

    /// Reads what the calls speak of and what is not there yet.
    pub(super) async fn prefetch(&mut self, calls: &[Call]) -> Result<(), Trouble> {
        let ids: BTreeSet<TaskId> = calls.iter().flat_map(Call::tasks).collect();
        self.load(ids.into_iter()).await?;
        let mut keys = Vec::new();
        let mut scopes = BTreeSet::new();
        for call in calls {
            match call {
                Call::Submit(batch, _) => keys.extend(
                    batch.iter().filter_map(|(s, _)| Some((s.task.user.clone(), s.task.idempotency_key.clone()?))),
                ),
                Call::Commit(batch, _) => batch.iter().for_each(|(c, _)| self.scopes_of(c, &mut scopes)),
                Call::Claim(..)
                | Call::Expire(..)
                | Call::Renew(..)
                | Call::Release(..)
                | Call::Signal(..)
                | Call::Append(..)
                | Call::Heartbeat(..) => {}
            }
        }
        if !keys.is_empty() {
            self.load_keys(&keys).await?;
        }
        self.load_scopes(scopes).await
    }

    /// Scopes that a commit may take, free or leave.
    pub(super) fn scopes_of(&self, commit: &Commit, scopes: &mut BTreeSet<SlotScope>) {
        let Some(row) = self.shelf.row(commit.task) else { return };
        let leaves = row.snapshot.task.status.is_waiting() && !commit.change.task.status.is_waiting();
        match &commit.change.slots {
            SlotChange::Keep if !leaves => return,
            SlotChange::Keep | SlotChange::Release => {}
            SlotChange::Acquire(limits) => scopes.extend(limits.iter().map(|l| l.scope.clone())),
        }
        scopes.extend(row.limits().iter().map(|l| l.scope.clone()));
        scopes.extend(row.snapshot.held.iter().cloned());
    }

    /// Reads the scopes of a commit of a task that this very transaction made or moved.
    pub(super) async fn look_up(&mut self, commit: &Commit) -> Result<(), Trouble> {
        let mut scopes = BTreeSet::new();
        self.scopes_of(commit, &mut scopes);
        if scopes.iter().any(|s| !self.scopes.0.contains_key(s)) {
            self.flush(false).await.map_err(Trouble::sql("commit"))?;
            self.load_scopes(scopes).await?;
        }
        Ok(())
    }

    /// Reads rows that are not on the shelf.
    pub(super) async fn load(&mut self, ids: impl Iterator<Item = TaskId>) -> Result<(), Trouble> {
        let unknown = |id: &TaskId| self.shelf.row(*id).is_none() && !self.absent.contains(id);
        let missing: Vec<TaskId> = ids.filter(unknown).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let rows = sqlx::query(select_missing!())
            .bind(list(&missing))
            .fetch_all(&mut *self.conn)
            .await
            .map_err(Trouble::sql("load"))?;
        self.shelve(&rows)
    }

    pub(super) fn shelve(&mut self, rows: &[SqliteRow]) -> Result<(), Trouble> {
        for row in rows {
            match task_row("load", row) {
                Ok(row) => self.shelf.put(row),
                Err(error) => {
                    tracing::error!(error = %error, "a task cannot be read");
                    self.unreadable.insert(task_id("load", row)?, error);
                }
            }
        }
        Ok(())
    }

    pub(super) async fn load_keys(&mut self, keys: &[(UserId, IdempotencyKey)]) -> Result<(), Trouble> {
        let text = serde_json::to_string(keys).map_err(|e| corrupt("submit", "a key", e))?;
        let found = sqlx::query(
            "SELECT x.id, x.user, x.idem FROM json_each(?1) k CROSS JOIN task x \
             ON x.user = k.value ->> 0 AND x.idem = k.value ->> 1",
        )
        .bind(text)
        .fetch_all(&mut *self.conn)
        .await
        .map_err(Trouble::sql("submit"))?;
        let mut ids = Vec::with_capacity(found.len());
        for row in &found {
            let id = task_id("submit", row)?;
            let user: &str = row.try_get(1).map_err(Trouble::sql("submit"))?;
            let key: &str = row.try_get(2).map_err(Trouble::sql("submit"))?;
            let bad = |e| corrupt("submit", "a key", e);
            self.keys.insert((UserId::new(user).map_err(bad)?, IdempotencyKey::new(key).map_err(bad)?), id);
            ids.push(id);
        }
        self.load(ids.into_iter()).await
    }

    pub(super) async fn load_scopes(&mut self, scopes: BTreeSet<SlotScope>) -> Result<(), Trouble> {
        let missing: Vec<SlotScope> = scopes.into_iter().filter(|s| !self.scopes.0.contains_key(s)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let row = sqlx::query(select_scopes!())
            .bind(limit(self.leavers + 1))
            .bind(list(&missing))
            .fetch_one(&mut *self.conn)
            .await
            .map_err(Trouble::sql("commit"))?;
        self.scopes(&missing, &row)
    }

    /// Takes in the row of [`select_scopes`], asked for these scopes.
    pub(super) fn scopes(&mut self, asked: &[SlotScope], row: &SqliteRow) -> Result<(), Trouble> {
        let text: &str = row.try_get(0).map_err(Trouble::sql("commit"))?;
        let found: Vec<(usize, usize, u8, BTreeSet<u64>)> =
            serde_json::from_str(text).map_err(|e| corrupt("commit", "the queue", e))?;
        for (place, holders, denied, waiting) in found {
            if let Some(name) = asked.get(place) {
                self.scopes.0.insert(name.clone(), Scope { holders, waiting, denied: denied != 0 });
            }
        }
        Ok(())
    }

    pub(super) async fn accepted(&mut self) -> Result<u64, Trouble> {
        if let Some(known) = self.shelf.accepted {
            return Ok(known);
        }
        let last: i64 = sqlx::query_scalar("SELECT coalesce(max(ord), 0) FROM task")
            .fetch_one(&mut *self.conn)
            .await
            .map_err(Trouble::sql("submit"))?;
        Ok(u64::try_from(last).unwrap_or(0))
    }
}
