//! What a transaction writes: columns by table, and the one statement that writes them all.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::mem::take;

use abca_core::Timestamp;
use abca_core::id::SignalId;
use abca_core::store::{StoreError, TaskRow};
use abca_core::task::{Signal, SlotLimit, SlotScope};
use sqlx::postgres::PgArguments;
use sqlx::{Arguments, Encode, Postgres, Type};

use crate::group::{commits_text, corrupt, signed};

fn json(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|e| corrupt("commit", "a row to write", e))
}

fn ms(t: Option<Timestamp>) -> Option<i64> {
    t.map(Timestamp::as_millis)
}

/// JSON that serde wrote is UTF-8.
fn text(json: &[u8]) -> String {
    String::from_utf8_lossy(json).into_owned()
}

/// A statement under way: its text and its arguments.
#[derive(Default)]
struct Draft {
    text: String,
    arguments: PgArguments,
    count: usize,
}

impl Draft {
    fn add<T>(&mut self, value: T) -> Result<String, sqlx::Error>
    where
        for<'q> T: Encode<'q, Postgres> + Type<Postgres>,
    {
        self.arguments.add(value).map_err(sqlx::Error::Encode)?;
        self.count += 1;
        Ok(format!("${}", self.count))
    }

    /// A part that reads `#`, the columns as arguments.
    fn part(&mut self, text: &str, columns: &[String]) {
        self.text.push_str(", ");
        self.text.push_str(&text.replace('#', &columns.join(", ")));
    }
}

macro_rules! tables {
    ($($(#[$doc:meta])* $table:ident { $($name:ident: $type:ty),+ $(,)? })+) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Default)]
            struct $table {
                $($name: Vec<$type>),+
            }

            impl $table {
                fn is_empty(&self) -> bool {
                    true $(&& self.$name.is_empty())+
                }

                /// Takes every column as an argument, in order.
                fn take(&mut self, draft: &mut Draft) -> Result<Vec<String>, sqlx::Error> {
                    Ok(vec![$(draft.add(take(&mut self.$name))?),+])
                }
            }
        )+
    };
}

tables! {
    /// New tasks with their records.
    Tasks {
        ord: i64, id: String, usr: String, idem: Option<String>, hash: String, repo: Option<String>, fixed: String,
        status: &'static str, moving: String,
    }
    /// Changed records.
    Records { ord: i64, status: &'static str, ended: Option<i64>, moving: String }
    /// States, new or changed.
    States {
        ord: i64, v: i64, told: i64, revision: i64, epoch: i64, look_at: Option<i64>, due: Option<i64>,
        lease_until: Option<i64>, worker: Option<String>, denied: bool, woken: Option<i64>, heartbeat: Option<i64>,
        events: i64, log_len: i64, commits: String, owed: Option<String>,
    }
    /// Tasks that were looked at from memory: they must be as they were.
    Looked { ord: i64, v: i64 }
    Events { ord: i64, seq: i64, told: i64, body: String }
    Logs { ord: i64, seq: i64, body: String }
    /// New signals; one that was consumed at once has no body.
    Signals { ord: i64, id: String, n: i64, body: Option<String> }
    /// Signals that were consumed.
    Consumed { ord: i64, id: String }
    /// Tasks that give back their slots.
    Freed { ord: i64 }
    /// Slots that pass from a task that gives them back to one that takes them.
    Passed { scope: String, from: i64, to: i64, cap: i64 }
    Taken { scope: String, ord: i64, cap: i64 }
    Waiting { scope: String, ord: i64, usr: String, denied: bool, cap: i64 }
    /// Places in queues that were given up.
    Waited { scope: String, ord: i64 }
    /// Tasks of which no wake-up counts any more.
    Cleared { ord: i64 }
    /// Wake-ups that are part of a row by now, or are of no use.
    Merged { n: i64 }
    Woken { ord: i64, at: i64 }
    Dead { ord: i64, since: i64, reason: String }
    Alive { ord: i64 }
}

/// What is to be written.
#[derive(Debug, Default)]
pub(super) struct Columns {
    tasks: Tasks,
    records: Records,
    made: States,
    states: States,
    looked: Looked,
    events: Events,
    logs: Logs,
    signals: Signals,
    consumed: Consumed,
    freed: Freed,
    /// What the freed tasks held.
    free: Vec<(String, i64)>,
    passed: Passed,
    taken: Taken,
    waiting: Waiting,
    waited: Waited,
    cleared: Cleared,
    merged: Merged,
    woken: Woken,
    dead: Dead,
    alive: Alive,
}

/// How every statement begins.
const ME: &str = "WITH me AS MATERIALIZED (SELECT pg_current_xact_id()::text::bigint AS n)";

/// The columns of a state, as a statement names them.
const STATE: &str = "ord, v, told, revision, epoch, look_at, due, lease_until, worker, denied, woken, heartbeat, events, log_len, \
                     commits, owed";

impl Columns {
    /// Takes everything as one statement, which answers with the transaction's number; `None` where there is nothing. It
    /// fails with `serialization_failure`, having changed nothing, when a task is not as it was.
    ///
    /// Of a statement's parts none sees what another does: each row is written by one of them.
    pub(super) fn take(&mut self) -> Result<Option<(String, PgArguments)>, sqlx::Error> {
        let mut draft = Draft::default();
        let d = &mut draft;
        let mut tests = Vec::new();
        if !self.states.is_empty() {
            let n = d.add(signed(self.states.ord.len() as u64))?;
            tests.push(format!("(SELECT count(*) FROM s) = {n}"));
            let columns = self.states.take(d)?;
            let text = format!(
                "s AS (UPDATE @.state o SET v = u.v, told = greatest(u.told, (SELECT n FROM me)), revision = u.revision, \
                 epoch = u.epoch, look_at = u.look_at, due = u.due, lease_until = u.lease_until, worker = u.worker, \
                 denied = u.denied, woken = u.woken, heartbeat = u.heartbeat, events = u.events, log_len = u.log_len, \
                 commits = u.commits, owed = u.owed FROM unnest(#) AS u ({STATE}) \
                 WHERE o.ord = u.ord AND o.v = u.v - 1 RETURNING 1)"
            );
            d.part(&text, &columns);
        }
        if !self.made.is_empty() {
            let columns = self.made.take(d)?;
            let text = format!(
                "i AS (INSERT INTO @.state ({STATE}) SELECT u.ord, u.v, (SELECT n FROM me), u.revision, u.epoch, u.look_at, \
                 u.due, u.lease_until, u.worker, u.denied, u.woken, u.heartbeat, u.events, u.log_len, u.commits, u.owed \
                 FROM unnest(#) AS u ({STATE}))"
            );
            d.part(&text, &columns);
        }
        if !self.looked.is_empty() {
            let n = d.add(signed(self.looked.ord.len() as u64))?;
            tests.push(format!("(SELECT count(*) FROM y) = {n}"));
            let columns = self.looked.take(d)?;
            d.part(
                "y AS (SELECT 1 FROM unnest(#) AS u (ord, v) JOIN @.state o ON o.ord = u.ord AND o.v = u.v)",
                &columns,
            );
        }
        if !self.tasks.is_empty() {
            let columns = self.tasks.take(d)?;
            let (status, moving) = (columns.get(7).cloned(), columns.get(8).cloned());
            let task = columns.get(..7).unwrap_or_default();
            d.part("t AS (INSERT INTO @.task (ord, id, usr, idem, hash, repo, fixed) SELECT * FROM unnest(#))", task);
            let record: Vec<String> = columns.into_iter().take(2).chain(status).chain(moving).collect();
            d.part("n AS (INSERT INTO @.record (ord, id, status, moving) SELECT * FROM unnest(#))", &record);
        }
        let mut part =
            |empty: bool, text: &str, columns: &mut dyn FnMut(&mut Draft) -> Result<Vec<String>, sqlx::Error>| {
                if !empty {
                    let columns = columns(d)?;
                    d.part(text, &columns);
                }
                Ok::<(), sqlx::Error>(())
            };
        part(
            self.records.is_empty(),
            "r AS (UPDATE @.record o SET status = u.status, ended = u.ended, moving = u.moving \
             FROM unnest(#) AS u (ord, status, ended, moving) WHERE o.ord = u.ord)",
            &mut |d| self.records.take(d),
        )?;
        part(
            self.events.is_empty(),
            "e AS (INSERT INTO @.event (ord, seq, told, body) SELECT u.ord, u.seq, greatest(u.told, (SELECT n FROM me)), \
             u.body FROM unnest(#) AS u (ord, seq, told, body))",
            &mut |d| self.events.take(d),
        )?;
        part(self.logs.is_empty(), "l AS (INSERT INTO @.log (ord, seq, body) SELECT * FROM unnest(#))", &mut |d| {
            self.logs.take(d)
        })?;
        part(
            self.signals.is_empty(),
            "g AS (INSERT INTO @.signal (ord, id, n, body) SELECT * FROM unnest(#))",
            &mut |d| self.signals.take(d),
        )?;
        part(
            self.consumed.is_empty(),
            "h AS (UPDATE @.signal o SET body = NULL FROM unnest(#) AS u (ord, id) WHERE o.ord = u.ord AND o.id = u.id)",
            &mut |d| self.consumed.take(d),
        )?;
        part(
            self.waiting.is_empty(),
            "w AS (INSERT INTO @.waiting (scope, ord, usr, denied, cap) SELECT * FROM unnest(#) \
             ON CONFLICT (scope, ord) DO UPDATE SET denied = excluded.denied)",
            &mut |d| self.waiting.take(d),
        )?;
        part(
            self.waited.is_empty(),
            "x AS (DELETE FROM @.waiting o USING unnest(#) AS u (scope, ord) CROSS JOIN LATERAL (SELECT w.ctid AS at \
             FROM @.waiting w WHERE w.scope = u.scope AND w.ord = u.ord OFFSET 0) d WHERE o.ctid = d.at)",
            &mut |d| self.waited.take(d),
        )?;
        part(self.cleared.is_empty(), "c AS (DELETE FROM @.woken WHERE ord = ANY (#))", &mut |d| self.cleared.take(d))?;
        part(self.merged.is_empty(), "m AS (DELETE FROM @.woken WHERE n = ANY (#))", &mut |d| self.merged.take(d))?;
        part(
            self.woken.is_empty(),
            "k AS (INSERT INTO @.woken (ord, at) SELECT u.ord, u.at FROM unnest(#) AS u (ord, at) \
             WHERE NOT EXISTS (SELECT 1 FROM @.woken o WHERE o.ord = u.ord))",
            &mut |d| self.woken.take(d),
        )?;
        part(self.alive.is_empty(), "a AS (DELETE FROM @.dead WHERE ord = ANY (#))", &mut |d| self.alive.take(d))?;
        part(
            self.dead.is_empty(),
            "b AS (INSERT INTO @.dead (ord, since, reason) SELECT * FROM unnest(#) \
             ON CONFLICT (ord) DO UPDATE SET since = excluded.since, reason = excluded.reason)",
            &mut |d| self.dead.take(d),
        )?;
        self.pass();
        let slots = !(self.freed.is_empty() && self.taken.is_empty() && self.passed.is_empty());
        if draft.text.is_empty() && !slots {
            return Ok(None);
        }
        let done = "(SELECT n FROM me)";
        let answer = if tests.is_empty() {
            done.to_owned()
        } else {
            format!("CASE WHEN {} THEN {done} ELSE @.stale() END", tests.join(" AND "))
        };
        // Writing to a string does not fail.
        let _ = write!(draft.text, " SELECT {answer}");
        if slots {
            let mut columns = self.passed.take(&mut draft)?;
            columns.extend(self.freed.take(&mut draft)?);
            columns.extend(self.taken.take(&mut draft)?);
            let _ = write!(draft.text, ", @.slots({})", columns.join(", "));
        }
        Ok(Some((format!("{ME}{}", draft.text), draft.arguments)))
    }

    pub(super) fn push_task(&mut self, row: &TaskRow, fixed: String) {
        let task = &row.snapshot.task;
        let to = &mut self.tasks;
        to.ord.push(signed(row.order));
        to.id.push(task.id.to_string());
        to.usr.push(task.user.as_str().to_owned());
        to.idem.push(task.idempotency_key.as_ref().map(|k| k.as_str().to_owned()));
        to.hash.push(row.payload_hash.clone());
        to.repo.push(task.spec.repo.as_ref().map(ToString::to_string));
        to.fixed.push(fixed);
    }

    /// A new task's record is written with the task.
    pub(super) fn push_record(&mut self, row: &TaskRow, moving: String) {
        let task = &row.snapshot.task;
        let order = signed(row.order);
        let new = &mut self.tasks;
        if new.ord.len() > new.moving.len() && new.ord.last() == Some(&order) {
            new.status.push(task.status.as_str());
            new.moving.push(moving);
            return;
        }
        let to = &mut self.records;
        to.ord.push(order);
        to.status.push(task.status.as_str());
        to.ended.push(task.status.is_terminal().then(|| task.updated_at.as_millis()));
        to.moving.push(moving);
    }

    /// The first version of a task's state is inserted.
    pub(super) fn push_state(&mut self, row: &TaskRow, v: i64, told: i64) -> Result<(), StoreError> {
        let s = &row.snapshot;
        let owed = if s.owed.is_empty() { None } else { Some(json(&s.owed)?) };
        let to = if v == 1 { &mut self.made } else { &mut self.states };
        to.ord.push(signed(row.order));
        to.v.push(v);
        to.told.push(told);
        to.revision.push(signed(s.revision));
        to.epoch.push(signed(s.epoch));
        to.look_at.push(ms(row.claimable_from()));
        to.due.push(ms(row.due));
        to.lease_until.push(ms(row.lease.map(|l| l.until)));
        to.worker.push(row.lease.map(|l| l.worker.to_string()));
        to.denied.push(row.denied);
        to.woken.push(ms(row.woken));
        to.heartbeat.push(ms(s.heartbeat_at));
        to.events.push(signed(row.events));
        to.log_len.push(signed(row.log_len));
        to.commits.push(commits_text(row));
        to.owed.push(owed);
        Ok(())
    }

    /// `told`: see the table `state`.
    pub(super) fn push_events<'b>(
        &mut self,
        row: &TaskRow,
        told: i64,
        first: u64,
        bodies: impl Iterator<Item = &'b [u8]>,
    ) {
        for (seq, body) in (first..).zip(bodies) {
            self.events.ord.push(signed(row.order));
            self.events.seq.push(signed(seq));
            self.events.told.push(told);
            self.events.body.push(text(body));
        }
    }

    pub(super) fn push_log<'b>(&mut self, row: &TaskRow, first: u64, bodies: impl Iterator<Item = &'b [u8]>) {
        for (seq, body) in (first..).zip(bodies) {
            self.logs.ord.push(signed(row.order));
            self.logs.seq.push(signed(seq));
            self.logs.body.push(text(body));
        }
    }

    pub(super) fn push_signal(
        &mut self,
        order: u64,
        id: &SignalId,
        body: Option<(u64, &Signal)>,
    ) -> Result<(), StoreError> {
        let order = signed(order);
        if let Some((n, signal)) = body {
            self.signals.ord.push(order);
            self.signals.id.push(id.as_str().to_owned());
            self.signals.n.push(signed(n));
            self.signals.body.push(Some(json(signal)?));
            return Ok(());
        }
        let new = self.signals.ord.iter().zip(&self.signals.id).position(|(o, i)| *o == order && i == id.as_str());
        match new.and_then(|place| self.signals.body.get_mut(place)) {
            Some(body) => *body = None,
            None => {
                self.consumed.ord.push(order);
                self.consumed.id.push(id.as_str().to_owned());
            }
        }
        Ok(())
    }

    pub(super) fn push_freed(&mut self, order: u64, scopes: &[SlotScope]) {
        self.freed.ord.push(signed(order));
        self.free.extend(scopes.iter().map(|scope| (scope.0.clone(), signed(order))));
    }

    /// Lets those who take slots take over those that are given back, as far as there are: one row is written for each, and no
    /// place becomes free.
    fn pass(&mut self) {
        let mut free: BTreeMap<String, Vec<i64>> = BTreeMap::new();
        for (scope, from) in take(&mut self.free) {
            free.entry(scope).or_default().push(from);
        }
        let all = take(&mut self.taken);
        for ((scope, to), cap) in all.scope.into_iter().zip(all.ord).zip(all.cap) {
            // Whoever gives back what it had may take the same again.
            let from = if self.freed.ord.contains(&to) { None } else { free.get_mut(&scope).and_then(Vec::pop) };
            match from {
                Some(from) => {
                    self.passed.scope.push(scope);
                    self.passed.from.push(from);
                    self.passed.to.push(to);
                    self.passed.cap.push(cap);
                }
                None => {
                    self.taken.scope.push(scope);
                    self.taken.ord.push(to);
                    self.taken.cap.push(cap);
                }
            }
        }
    }

    pub(super) fn push_taken(&mut self, limit: &SlotLimit, order: u64) {
        self.taken.scope.push(limit.scope.0.clone());
        self.taken.ord.push(signed(order));
        self.taken.cap.push(i64::from(limit.cap));
    }

    pub(super) fn push_waiting(&mut self, scope: &SlotScope, row: &TaskRow, denied: bool) {
        let order = signed(row.order);
        let to = &mut self.waiting;
        let mut same = to.ord.iter().zip(&to.scope).rev().take_while(|(o, _)| **o == order);
        if same.any(|(_, s)| *s == scope.0) {
            // A task may name a scope twice.
            return;
        }
        to.scope.push(scope.0.clone());
        to.ord.push(order);
        to.usr.push(row.user().as_str().to_owned());
        to.denied.push(denied);
        let caps = row.limits().iter().filter(|l| l.scope == *scope).map(|l| i64::from(l.cap));
        to.cap.push(caps.min().unwrap_or(i64::MAX));
    }

    pub(super) fn push_waited(&mut self, scope: &SlotScope, order: u64) {
        self.waited.scope.push(scope.0.clone());
        self.waited.ord.push(signed(order));
    }

    /// No wake-up of the task that has been told counts any more.
    pub(super) fn push_cleared(&mut self, order: u64) {
        self.cleared.ord.push(signed(order));
    }

    /// These wake-ups are part of the row by now, or are of no use.
    pub(super) fn push_merged(&mut self, numbers: &[i64]) {
        self.merged.n.extend_from_slice(numbers);
    }

    pub(super) fn push_woken(&mut self, order: u64, at: Timestamp) {
        self.woken.ord.push(signed(order));
        self.woken.at.push(at.as_millis());
    }

    pub(super) fn push_dead(&mut self, order: u64, since: Timestamp, reason: &str) {
        self.alive.ord.retain(|o| *o != signed(order));
        self.dead.ord.push(signed(order));
        self.dead.since.push(since.as_millis());
        // PostgreSQL's texts hold no NUL.
        self.dead.reason.push(reason.replace('\0', "\u{fffd}"));
    }

    /// A task that was looked at from memory: refused when it is not as it was.
    pub(super) fn push_looked_at(&mut self, order: i64, v: i64) {
        self.looked.ord.push(order);
        self.looked.v.push(v);
    }

    pub(super) fn push_alive(&mut self, order: u64) {
        while let Some(place) = self.dead.ord.iter().position(|o| *o == signed(order)) {
            self.dead.ord.remove(place);
            self.dead.since.remove(place);
            self.dead.reason.remove(place);
        }
        self.alive.ord.push(signed(order));
    }
}
