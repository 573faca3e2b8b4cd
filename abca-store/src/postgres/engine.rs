//! PostgreSQL under a group of calls: one connection that writes, beside those of other processes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use abca_core::id::{IdempotencyKey, SignalId, WorkerId};
use abca_core::session::LogRecord;
use abca_core::store::{ClaimQuery, Commit, FARTHEST, StoreError, StoreErrorKind, TaskRow};
use abca_core::task::{Signal, SlotChange, SlotLimit, SlotScope};
use abca_core::{TaskId, Timestamp, UserId};
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Postgres, Row};

use super::bell::Bell;
use super::config::PostgresConfig;
use super::error::{code, trouble, unknown_or_not, within};
use super::rows::{TASK_COLUMNS, column, head, task_id, task_row};
use super::sheet::Columns;
use crate::group::{
    Ask, Begun, Candidate, Cure, Engine, Found, Outline, Scope, Sheet, Shelf, Sketch, Trouble, corrupt, numbered,
    signed, unsigned,
};

/// What tells the rows of one round trip apart.
const ORDER_COLUMNS: usize = 1;
const KEY_COLUMNS: usize = 2;
const SCOPE_COLUMNS: usize = 4;

/// Makes a transaction known as a writer before it has a number: see `horizon`.
const BEGIN: &str = "BEGIN; SET LOCAL lock_timeout = '20s'; LOCK TABLE @.state IN ROW SHARE MODE";

/// How many tasks are looked at at once for a candidate for a free slot.
const LANES: i64 = 256;

/// How a writer remembers a row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tag {
    v: i64,
    /// See the table `state`.
    told: i64,
}

/// What the transaction knows of a task that it changes or answers about.
#[derive(Debug)]
struct Held {
    order: i64,
    /// It was taken from memory: the writing verifies it.
    remembered: bool,
    told: i64,
    /// It waited when it was taken in, so that it may have been woken.
    waited: bool,
    /// The version in the database, or of what was written last.
    v: i64,
    /// The epoch as it was found.
    epoch: u64,
    /// Wake-ups that are part of the row in memory and not yet of that in the database.
    merged: Vec<i64>,
}

/// Statement texts, with the schema in them.
#[derive(Debug)]
struct Texts {
    begin: String,
    hold: String,
    look: String,
    keys: String,
    enter: String,
    glance: String,
    order: String,
    due: String,
    leased: String,
    denied: String,
    records: String,
    aside: [String; 2],
    outline: String,
    ended: String,
    remove: String,
    widen: String,
}

impl Texts {
    fn new(config: &PostgresConfig) -> Self {
        let sql = |text: &str| config.sql(text);
        Self {
            begin: sql(BEGIN),
            hold: sql("SELECT * FROM @.hold($1, $2, true)"),
            look: sql("SELECT * FROM @.rows($1, ARRAY(SELECT -1::bigint FROM unnest($1)))"),
            keys: sql(
                "SELECT k.n, t.id FROM unnest($1, $2) WITH ORDINALITY AS k (usr, idem, n) JOIN @.task t ON t.usr = k.usr AND t.idem = k.idem",
            ),
            enter: sql("SELECT * FROM @.enter($1::json, '{}', '{}', $2, $3)"),
            glance: sql("SELECT * FROM @.glance($1::json)"),
            order: sql("SELECT nextval('@.task_ord')"),
            due: sql("SELECT * FROM @.due($1, $2, $3, $4)"),
            leased: sql("SELECT * FROM @.leased($1)"),
            denied: sql("SELECT * FROM @.lanes($1, $2, $3, $4, $5)"),
            records: sql("SELECT seq, body FROM @.log WHERE ord = $1 AND seq >= $2 ORDER BY seq LIMIT $3"),
            aside: [
                sql("UPDATE @.state SET look_at = NULL, v = v + 1 WHERE ord = (SELECT ord FROM @.task WHERE id = $1)"),
                sql(
                    "INSERT INTO @.dead (ord, since, reason) SELECT ord, $2, $3 FROM @.task WHERE id = $1 ON CONFLICT DO NOTHING",
                ),
            ],
            outline: sql("SELECT t.ord, t.usr, EXISTS (SELECT 1 FROM @.dead d WHERE d.ord = t.ord), \
                 (SELECT json_agg(l.scope)::text FROM @.slot l WHERE l.ord = t.ord) FROM @.task t WHERE t.id = $1"),
            ended: sql(
                "SELECT r.id, r.ord FROM @.record r WHERE r.ended < $1 AND r.ended IS NOT NULL ORDER BY r.ended, r.ord LIMIT $2 \
                 FOR UPDATE OF r SKIP LOCKED",
            ),
            remove: sql("SELECT @.remove($1)"),
            widen: sql("SELECT @.widen(greatest($1, (SELECT last_value FROM @.task_ord)))"),
        }
    }
}

/// What the writers of one handle remember.
pub(super) type Memory = Arc<Mutex<Shelf<Tag>>>;

fn shelf(memory: &Memory) -> MutexGuard<'_, Shelf<Tag>> {
    // Whoever panicked left whole rows.
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes a row out of memory, and says of which version it is.
fn recall(shelf: &mut Shelf<Tag>, recalled: &mut BTreeMap<TaskId, (TaskRow, Tag)>, id: TaskId) -> i64 {
    match shelf.take(id) {
        Some((row, tag)) => {
            recalled.insert(id, (row, tag));
            tag.v
        }
        None => -1,
    }
}

#[derive(Debug)]
pub(super) struct Server {
    config: Arc<PostgresConfig>,
    conn: Option<PgConnection>,
    texts: Texts,
    /// Shared by the writers of a handle.
    shelf: Memory,
    columns: Columns,
    /// Records that were put aside, until the task that they belong to is noted.
    bodies: Vec<String>,
    held: BTreeMap<TaskId, Held>,
    /// Rows from memory, until the database says whether they are still as they were.
    recalled: BTreeMap<TaskId, (TaskRow, Tag)>,
    /// Places in the order of acceptance that were read ahead.
    orders: Vec<u64>,
    /// Answers to keys that were read ahead.
    keys: Option<Vec<((UserId, IdempotencyKey), TaskId)>>,
    /// The transaction is begun: what needs none is one statement.
    begun: bool,
    /// Somebody was quicker: tasks are held before they are read.
    careful: bool,
    /// The transaction is inside scopes.
    inside: bool,
    /// The first place in the order of acceptance for which there is no partition, as far as is known.
    room: u64,
    last_order: u64,
    bell: Bell,
    /// How long an answer may take.
    limit: Duration,
}

/// JSON as a literal that needs no quoting, whatever it says.
fn hex_json(value: &impl serde::Serialize) -> Result<String, StoreError> {
    let json = serde_json::to_vec(value).map_err(|e| corrupt("begin", "a name", e))?;
    let mut text = String::with_capacity(json.len() * 2 + 40);
    text.push_str("convert_from(decode('");
    for byte in json {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text.push_str("', 'hex'), 'UTF8')::json");
    Ok(text)
}

/// Task ids as an array literal: they are of letters and digits.
fn ids_literal<'i>(ids: impl IntoIterator<Item = &'i TaskId>) -> String {
    let ids: Vec<String> = ids.into_iter().map(ToString::to_string).collect();
    format!("'{{{}}}'", ids.join(","))
}

/// Scopes that commits will need, as far as the commits themselves say so, tasks that may leave queues, and tasks that
/// may free slots.
fn wanted<'c>(commits: &[&'c Commit]) -> (BTreeSet<&'c SlotScope>, BTreeSet<TaskId>, BTreeSet<TaskId>) {
    let (mut names, mut leave, mut free) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for commit in commits {
        let own = commit.change.task.spec.limits.slots.iter().map(|l| &l.scope);
        match &commit.change.slots {
            SlotChange::Keep if commit.change.task.status.is_waiting() => {}
            SlotChange::Keep => drop(leave.insert(commit.task)),
            SlotChange::Acquire(limits) => names.extend(limits.iter().map(|l| &l.scope).chain(own)),
            SlotChange::Release => {
                names.extend(own);
                free.insert(commit.task);
            }
        }
    }
    (names, leave, free)
}

fn scope(op: &'static str, row: &PgRow) -> Result<(SlotScope, Scope), StoreError> {
    let waits: Option<&str> = column(row, op, 3)?;
    let waiting = waits.unwrap_or_default().split_ascii_whitespace().filter_map(|n| n.parse().ok()).collect();
    let holders = usize::try_from(column::<i64>(row, op, 1)?).unwrap_or(0);
    Ok((SlotScope(column(row, op, 0)?), Scope { holders, waiting, denied: column(row, op, 2)? }))
}

impl Server {
    pub(super) fn new(config: Arc<PostgresConfig>, conn: Option<PgConnection>, bell: Bell, shelf: Memory) -> Self {
        let (texts, limit) = (Texts::new(&config), config.answer_timeout());
        Self {
            config,
            conn,
            texts,
            shelf,
            columns: Columns::default(),
            bodies: Vec::new(),
            held: BTreeMap::new(),
            recalled: BTreeMap::new(),
            orders: Vec::new(),
            keys: None,
            begun: false,
            careful: false,
            inside: false,
            room: 0,
            last_order: 0,
            bell,
            limit,
        }
    }

    async fn all(&mut self, op: &'static str, query: Query<'_, Postgres, PgArguments>) -> Result<Vec<PgRow>, Trouble> {
        if !self.begun {
            let limit = self.limit;
            let text = format!("{}{}", self.texts.begin, self.config.for_transaction());
            within(limit, sqlx::raw_sql(AssertSqlSafe(text)).execute(self.conn()?)).await.map_err(trouble("begin"))?;
            self.begun = true;
        }
        let rows = within(self.limit, query.fetch_all(self.conn()?)).await;
        rows.map_err(|e| {
            self.doubt_partitions(&e);
            trouble(op)(e)
        })
    }

    /// A partition that is not there may be why a row was refused: it is made before the next transaction.
    fn doubt_partitions(&mut self, error: &sqlx::Error) {
        if code(error).as_deref() == Some("23514") {
            self.room = 0;
        }
    }

    fn conn(&mut self) -> Result<&mut PgConnection, Trouble> {
        let lost = || StoreError::new(StoreErrorKind::Unavailable, "begin", "the connection broke; repeat later");
        self.conn.as_mut().ok_or_else(|| Trouble { error: lost(), cure: Cure::Nothing })
    }

    /// A connection, made anew where the last one broke.
    async fn ready(&mut self) -> Result<(), Trouble> {
        if self.conn.is_none() {
            let conn = self.config.connect_writer().await;
            self.conn = Some(conn.map_err(|error| Trouble { error, cure: Cure::Nothing })?);
        }
        if self.last_order + super::SPAN / 2 >= self.room {
            let widen = sqlx::query(AssertSqlSafe(self.texts.widen.clone())).bind(signed(self.last_order));
            let row = within(self.limit, widen.fetch_one(self.conn()?)).await.map_err(trouble("begin"))?;
            self.room = unsigned(column(&row, "begin", 0)?);
        }
        Ok(())
    }

    /// Takes in a row of `hold`: what the row says, or what is remembered.
    fn take_in(&mut self, op: &'static str, row: &PgRow) -> Result<Found, Trouble> {
        let head = head(op, row)?;
        let kept = self.recalled.remove(&head.id);
        let found = match kept {
            Some((kept, tag)) if head.same && tag.v == head.v && signed(kept.order) == head.order => Ok(kept),
            Some(_) if head.same => {
                // Another task of the same name: what was remembered is forgotten by now.
                let error = StoreError::new(StoreErrorKind::Throttled, op, "a task was replaced; repeat later");
                return Err(Trouble { error, cure: Cure::Again });
            }
            Some(_) | None => task_row(op, row),
        };
        let mut found = match found {
            Ok(found) => found,
            Err(error) => return Ok((head.id, Err(error))),
        };
        let mut merged: Vec<i64> = head.wakes.iter().map(|(n, _)| *n).collect();
        let epoch = found.snapshot.epoch;
        if found.waits() {
            for (_, at) in &head.wakes {
                found.wake(*at);
            }
        } else {
            // Nobody waits for them any more.
            self.columns.push_merged(&std::mem::take(&mut merged));
        }
        let (order, waited) = (head.order, found.waits());
        let held = Held { order, remembered: false, told: head.told, waited, v: head.v, epoch, merged };
        self.held.insert(head.id, held);
        Ok((head.id, Ok(found)))
    }

    /// Takes rows from memory; answers those that must be asked for, each with the version that is remembered.
    fn remember(&mut self, ids: &BTreeSet<TaskId>, rows: &mut Vec<Found>) -> (Vec<TaskId>, Vec<String>) {
        let (mut unknown, mut versions) = (Vec::new(), Vec::new());
        let mut shelf = shelf(&self.shelf);
        for id in ids {
            // What was denied may have been woken: that is known to the database only.
            let kept = shelf.get(*id).is_some_and(|(row, _)| !(self.careful || row.waits() && row.denied));
            match kept.then(|| shelf.take(*id)).flatten() {
                Some((row, Tag { v, told })) => {
                    let (order, epoch, waited) = (signed(row.order), row.snapshot.epoch, row.waits());
                    let held = Held { order, remembered: true, told, waited, v, epoch, merged: Vec::new() };
                    self.held.insert(*id, held);
                    rows.push((*id, Ok(row)));
                }
                None => {
                    unknown.push(*id);
                    versions.push(recall(&mut shelf, &mut self.recalled, *id).to_string());
                }
            }
        }
        (unknown, versions)
    }

    async fn hold(&mut self, ids: &[TaskId]) -> Result<Vec<Found>, Trouble> {
        let names: Vec<String> = ids.iter().map(ToString::to_string).collect();
        let known: Vec<i64> = {
            let mut shelf = shelf(&self.shelf);
            ids.iter().map(|id| recall(&mut shelf, &mut self.recalled, *id)).collect()
        };
        let text = self.texts.hold.clone();
        let rows = self.all("load", sqlx::query(AssertSqlSafe(text)).bind(names).bind(known)).await?;
        rows.iter().map(|row| self.take_in("load", row)).collect()
    }

    fn body(&mut self, place: usize) -> String {
        self.bodies.get_mut(place).map(std::mem::take).unwrap_or_default()
    }
}

impl Sheet for Server {
    type Place = usize;

    fn fixed(&mut self, json: &[u8]) -> Self::Place {
        self.bodies.push(String::from_utf8_lossy(json).into_owned());
        self.bodies.len() - 1
    }

    fn moving(&mut self, json: &[u8]) -> Self::Place {
        self.fixed(json)
    }

    fn task(&mut self, row: &TaskRow, fixed: Self::Place) -> Result<(), StoreError> {
        let body = self.body(fixed);
        self.columns.push_task(row, body);
        Ok(())
    }

    fn record(&mut self, row: &TaskRow, moving: Self::Place) -> Result<(), StoreError> {
        let body = self.body(moving);
        self.columns.push_record(row, body);
        Ok(())
    }

    fn state(&mut self, row: &TaskRow) -> Result<(), StoreError> {
        let id = row.snapshot.id();
        let (order, epoch) = (signed(row.order), row.snapshot.epoch);
        let fresh = || Held { order, remembered: false, told: 0, waited: false, v: 0, epoch, merged: Vec::new() };
        let held = self.held.entry(id).or_insert_with(fresh);
        held.v += 1;
        held.remembered = false;
        self.columns.push_merged(&std::mem::take(&mut held.merged));
        if held.waited && (!row.waits() || row.snapshot.epoch != held.epoch) {
            // It waits no more, or somebody looks at it now: wake-ups have done what they are for.
            self.columns.push_cleared(row.order);
        }
        self.columns.push_state(row, held.v, held.told)
    }

    fn events<'b>(
        &mut self,
        row: &TaskRow,
        first: u64,
        bodies: impl Iterator<Item = &'b [u8]>,
    ) -> Result<(), StoreError> {
        let told = self.held.get(&row.snapshot.id()).map_or(0, |held| held.told);
        self.columns.push_events(row, told, first, bodies);
        Ok(())
    }

    fn log<'b>(&mut self, row: &TaskRow, first: u64, bodies: impl Iterator<Item = &'b [u8]>) -> Result<(), StoreError> {
        self.columns.push_log(row, first, bodies);
        Ok(())
    }

    fn signal(&mut self, order: u64, id: &SignalId, body: Option<(u64, &Signal)>) -> Result<(), StoreError> {
        self.columns.push_signal(order, id, body)
    }

    fn freed(&mut self, order: u64, scopes: &[SlotScope]) -> Result<(), StoreError> {
        self.columns.push_freed(order, scopes);
        Ok(())
    }

    fn taken(&mut self, limit: &SlotLimit, order: u64) -> Result<(), StoreError> {
        self.columns.push_taken(limit, order);
        Ok(())
    }

    fn waiting(&mut self, scope: &SlotScope, row: &TaskRow, denied: bool) -> Result<(), StoreError> {
        self.columns.push_waiting(scope, row, denied);
        Ok(())
    }

    fn waited(&mut self, scope: &SlotScope, order: u64) -> Result<(), StoreError> {
        self.columns.push_waited(scope, order);
        Ok(())
    }

    fn dead(&mut self, row: &TaskRow) -> Result<(), StoreError> {
        match &row.dead {
            Some((reason, since)) => self.columns.push_dead(row.order, *since, reason),
            None => self.columns.push_alive(row.order),
        }
        Ok(())
    }

    fn woken(&mut self, order: u64, at: Timestamp) -> Result<(), StoreError> {
        self.columns.push_woken(order, at);
        Ok(())
    }
}

impl Engine for Server {
    const ALONE: bool = false;

    /// Reads what the calls name in one round trip, inside a transaction only where scopes are entered: whoever writes finds
    /// out whether a task is still as it was read. Who was late once holds tasks first; always tasks before scopes, each in one
    /// order, so that two transactions do not wait for each other.
    async fn begin(&mut self, ask: &Ask<'_>) -> Result<Begun, Trouble> {
        self.ready().await?;
        let mut begun = Begun::default();
        let (unknown, versions) = self.remember(&ask.ids, &mut begun.rows);
        let mut text = String::new();
        if !unknown.is_empty() {
            let (ids, lock) = (ids_literal(&unknown), self.careful);
            let hold = format!("; SELECT * FROM @.hold({ids}, '{{{}}}', {lock})", versions.join(","));
            text.push_str(&self.config.sql(&hold));
        }
        let (names, mut leave, free) = wanted(&ask.commits);
        // What is known not to wait cannot leave a queue.
        leave.retain(|id| self.held.get(id).is_none_or(|held| held.waited));
        leave.extend(&ask.leave);
        self.inside = !(names.is_empty() && leave.is_empty() && free.is_empty());
        if self.inside {
            text.push_str(&self.config.sql("; SELECT * FROM @.enter("));
            text.push_str(&hex_json(&names)?);
            let first = ask.commits.len() + ask.leave.len() + 1;
            let _ = write!(text, ", {}, {}, {first}, false)", ids_literal(&leave), ids_literal(&free));
        }
        if !ask.keys.is_empty() {
            let keys = "; SELECT k.n, t.id FROM json_array_elements(#) WITH ORDINALITY AS k (x, n) JOIN @.task t \
                        ON t.usr = k.x ->> 0 AND t.idem = k.x ->> 1";
            text.push_str(&self.config.sql(keys).replace('#', &hex_json(&ask.keys)?));
        }
        if ask.submits > 0 {
            let orders = format!("; SELECT nextval('@.task_ord') FROM generate_series(1, {})", ask.submits);
            text.push_str(&self.config.sql(&orders));
        }
        let mut rows = Vec::new();
        let settings = self.config.for_transaction();
        // Settings that cannot be a connection's are each transaction's.
        self.begun = self.inside || self.careful || !settings.is_empty();
        if self.begun || !text.is_empty() {
            let limit = self.limit;
            let begin = if self.begun { self.texts.begin.as_str() } else { "" };
            let begin = format!("{begin}{settings}{text}");
            let begin = sqlx::raw_sql(AssertSqlSafe(begin)).fetch_all(self.conn()?);
            rows = within(limit, begin).await.map_err(trouble("begin"))?;
        }
        let mut keys = Vec::new();
        for row in &rows {
            match row.len() {
                TASK_COLUMNS => begun.rows.push(self.take_in("load", row)?),
                SCOPE_COLUMNS => begun.scopes.push(scope("begin", row)?),
                KEY_COLUMNS => {
                    let place = usize::try_from(column::<i64>(row, "begin", 0)? - 1).unwrap_or(usize::MAX);
                    if let Some(key) = ask.keys.get(place) {
                        keys.push((key.clone(), task_id("begin", row, 1)?));
                    }
                }
                ORDER_COLUMNS => self.orders.push(unsigned(column(row, "begin", 0)?)),
                _ => {}
            }
        }
        // They are handed out from the end.
        self.orders.sort_unstable_by(|a, b| b.cmp(a));
        self.keys = Some(keys);
        Ok(begun)
    }

    async fn load(&mut self, ids: &[TaskId]) -> Result<Vec<Found>, Trouble> {
        self.hold(ids).await
    }

    async fn peek(&mut self, ids: &[TaskId]) -> Result<Vec<Found>, Trouble> {
        let names: Vec<String> = ids.iter().map(ToString::to_string).collect();
        let text = self.texts.look.clone();
        let rows = self.all("load", sqlx::query(AssertSqlSafe(text)).bind(names)).await?;
        let found = |row: &PgRow| {
            let head = head("load", row)?;
            let mut found = task_row("load", row);
            if let Ok(row) = &mut found {
                for (_, at) in &head.wakes {
                    row.wake(*at);
                }
            }
            Ok((head.id, found))
        };
        rows.iter().map(found).collect()
    }

    async fn keys(
        &mut self,
        keys: &[(UserId, IdempotencyKey)],
    ) -> Result<Vec<((UserId, IdempotencyKey), TaskId)>, Trouble> {
        if let Some(found) = self.keys.take() {
            return Ok(found);
        }
        let users: Vec<&str> = keys.iter().map(|(u, _)| u.as_str()).collect();
        let words: Vec<&str> = keys.iter().map(|(_, k)| k.as_str()).collect();
        let text = self.texts.keys.clone();
        let rows = self.all("submit", sqlx::query(AssertSqlSafe(text)).bind(users).bind(words)).await?;
        let mut found = Vec::with_capacity(rows.len());
        for row in &rows {
            let place = usize::try_from(column::<i64>(row, "submit", 0)? - 1).unwrap_or(usize::MAX);
            if let Some(key) = keys.get(place) {
                found.push((key.clone(), task_id("submit", row, 1)?));
            }
        }
        Ok(found)
    }

    async fn scopes(&mut self, names: &[SlotScope], first: usize) -> Result<Vec<(SlotScope, Scope)>, Trouble> {
        let json = serde_json::to_string(names).map_err(|e| corrupt("commit", "a scope", e))?;
        let (text, more) = (self.texts.enter.clone(), self.inside);
        self.inside = true;
        let rows = self
            .all(
                "commit",
                sqlx::query(AssertSqlSafe(text)).bind(json).bind(i64::try_from(first).unwrap_or(i64::MAX)).bind(more),
            )
            .await?;
        rows.iter().map(|row| Ok(scope("commit", row)?)).collect()
    }

    async fn glance(&mut self, names: &[SlotScope]) -> Result<Vec<(SlotScope, Scope)>, Trouble> {
        let json = serde_json::to_string(names).map_err(|e| corrupt("commit", "a scope", e))?;
        let text = self.texts.glance.clone();
        let rows = self.all("commit", sqlx::query(AssertSqlSafe(text)).bind(json)).await?;
        let mut all: Vec<_> = names.iter().map(|n| (n.clone(), Scope::default())).collect();
        for row in &rows {
            let name: &str = column(row, "commit", 0)?;
            let holders = usize::try_from(column::<i64>(row, "commit", 1)?).unwrap_or(0);
            all.iter_mut().filter(|(n, _)| n.0 == name).for_each(|(_, scope)| scope.holders = holders);
        }
        Ok(all)
    }

    async fn next_order(&mut self) -> Result<u64, Trouble> {
        let order = match self.orders.pop() {
            Some(order) => order,
            None => {
                let text = self.texts.order.clone();
                let rows = self.all("submit", sqlx::query(AssertSqlSafe(text))).await?;
                rows.first().map(|row| column(row, "submit", 0)).transpose()?.map_or(0, unsigned)
            }
        };
        self.last_order = self.last_order.max(order);
        Ok(order)
    }

    async fn due(&mut self, query: &ClaimQuery, limit: usize) -> Result<Vec<TaskId>, Trouble> {
        let text = self.texts.due.clone();
        let rows = self
            .all(
                "claim",
                sqlx::query(AssertSqlSafe(text))
                    .bind(query.now.as_millis())
                    .bind(query.now.after(FARTHEST).as_millis())
                    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
                    .bind(query.signalled),
            )
            .await?;
        rows.iter().map(|row| Ok(task_id("claim", row, 0)?)).collect()
    }

    async fn leased(&mut self, workers: &[WorkerId]) -> Result<Vec<TaskId>, Trouble> {
        let names: Vec<String> = workers.iter().map(ToString::to_string).collect();
        let text = self.texts.leased.clone();
        let rows = self.all("expire", sqlx::query(AssertSqlSafe(text)).bind(names)).await?;
        rows.iter().map(|row| Ok(task_id("expire", row, 0)?)).collect()
    }

    async fn denied(
        &mut self,
        scope: &SlotScope,
        after: &(String, i64),
        ahead: usize,
    ) -> Result<Vec<Candidate>, Trouble> {
        let text = self.texts.denied.clone();
        let rows = self
            .all(
                "commit",
                sqlx::query(AssertSqlSafe(text))
                    .bind(scope.0.as_str())
                    .bind(after.0.as_str())
                    .bind(after.1)
                    .bind(i64::try_from(ahead).unwrap_or(i64::MAX))
                    .bind(LANES),
            )
            .await?;
        let candidate = |row: &PgRow| {
            let order = unsigned(column(row, "commit", 2)?);
            let cap = u32::try_from(column::<i64>(row, "commit", 3)?).unwrap_or(u32::MAX);
            let elsewhere = usize::try_from(column::<i64>(row, "commit", 4)?).unwrap_or(usize::MAX);
            let sketch = Some(Sketch { cap, elsewhere, woken: column(row, "commit", 5)? });
            Ok(Candidate { id: task_id("commit", row, 0)?, user: column(row, "commit", 1)?, order, sketch })
        };
        rows.iter().map(candidate).collect()
    }

    async fn records(
        &mut self,
        task: TaskId,
        order: u64,
        from: u64,
        limit: usize,
    ) -> Result<Vec<(u64, LogRecord)>, Trouble> {
        let text = self.texts.records.clone();
        let rows = self
            .all(
                "append",
                sqlx::query(AssertSqlSafe(text))
                    .bind(signed(order))
                    .bind(signed(from))
                    .bind(i64::try_from(limit).unwrap_or(i64::MAX)),
            )
            .await?;
        let record = |row: &PgRow| Ok(numbered("append", task, column(row, "append", 0)?, column(row, "append", 1)?)?);
        rows.iter().map(record).collect()
    }

    async fn put_aside(&mut self, id: TaskId, now: Timestamp, reason: &str) -> Result<(), Trouble> {
        let [sleep, letter] = self.texts.aside.clone();
        self.all("claim", sqlx::query(AssertSqlSafe(sleep)).bind(id.to_string())).await?;
        self.all(
            "claim",
            sqlx::query(AssertSqlSafe(letter))
                .bind(id.to_string())
                .bind(now.as_millis())
                .bind(reason.replace('\0', "\u{fffd}")),
        )
        .await
        .map(drop)
    }

    async fn outline(&mut self, id: TaskId) -> Result<Option<Outline>, Trouble> {
        let text = self.texts.outline.clone();
        let rows = self.all("discard", sqlx::query(AssertSqlSafe(text)).bind(id.to_string())).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let user = column::<&str>(row, "discard", 1)?;
        let held: Vec<SlotScope> = match column::<Option<&str>>(row, "discard", 3)? {
            Some(text) => serde_json::from_str(text).map_err(|e| corrupt("discard", "the slots", e))?,
            None => Vec::new(),
        };
        Ok(Some(Outline {
            order: unsigned(column(row, "discard", 0)?),
            user: UserId::new(user).map_err(|e| corrupt("discard", "a user", e))?,
            held,
            dead: column(row, "discard", 2)?,
        }))
    }

    async fn ended(&mut self, before: Timestamp, limit: usize) -> Result<Vec<(TaskId, u64)>, Trouble> {
        let text = self.texts.ended.clone();
        let rows = self
            .all(
                "purge",
                sqlx::query(AssertSqlSafe(text))
                    .bind(before.as_millis())
                    .bind(i64::try_from(limit).unwrap_or(i64::MAX)),
            )
            .await?;
        rows.iter().map(|row| Ok((task_id("purge", row, 0)?, unsigned(column(row, "purge", 1)?)))).collect()
    }

    async fn remove(&mut self, orders: &[u64]) -> Result<(), Trouble> {
        let orders: Vec<i64> = orders.iter().copied().map(signed).collect();
        self.held.retain(|_, held| !orders.contains(&held.order));
        let text = self.texts.remove.clone();
        self.all("purge", sqlx::query(AssertSqlSafe(text)).bind(orders)).await.map(drop)
    }

    async fn write(&mut self, end: bool) -> Result<(), Trouble> {
        if end {
            let looked_at = self.held.values().filter(|held| held.remembered);
            looked_at.for_each(|held| self.columns.push_looked_at(held.order, held.v));
        }
        let limit = self.limit;
        if let Some((text, arguments)) = self.columns.take().map_err(trouble("commit"))? {
            let put = sqlx::query_with(AssertSqlSafe(self.config.sql(&text)), arguments);
            let rows = if end && !self.begun {
                // One statement is a transaction of its own.
                let put = within(limit, put.fetch_all(self.conn()?)).await;
                put.map_err(|e| {
                    self.doubt_partitions(&e);
                    unknown_or_not(e)
                })?
            } else {
                self.all("commit", put).await?
            };
            if let Some(row) = rows.first() {
                let me: i64 = column(row, "commit", 0)?;
                self.held.values_mut().for_each(|held| held.told = held.told.max(me));
            }
        }
        self.bodies.clear();
        if end && self.begun {
            within(limit, sqlx::raw_sql("COMMIT").execute(self.conn()?)).await.map_err(unknown_or_not)?;
        }
        Ok(())
    }

    fn keep(&mut self, rows: BTreeMap<TaskId, TaskRow>) {
        let mut shelf = shelf(&self.shelf);
        for (id, row) in rows {
            if let Some(held) = self.held.remove(&id).filter(|held| held.merged.is_empty()) {
                // Another writer may have been quicker to remember what it wrote after this.
                if shelf.get(id).is_none_or(|(_, tag)| tag.v < held.v) {
                    shelf.put(row, Tag { v: held.v, told: held.told });
                }
            }
        }
        self.careful = false;
        self.held.clear();
        self.recalled.clear();
        self.orders.clear();
        self.keys = None;
    }

    async fn undo(&mut self) {
        self.columns = Columns::default();
        self.bodies.clear();
        self.held.clear();
        self.recalled.clear();
        self.orders.clear();
        self.keys = None;
        self.careful = true;
        if let Some(mut conn) = self.conn.take() {
            // A connection that cannot even undo is of no use: the server undoes when it is gone.
            // A statement that was cancelled may have left a scope locked by the session.
            let undo = sqlx::raw_sql("ROLLBACK; SELECT pg_advisory_unlock_all()").execute(&mut conn);
            let undone = tokio::time::timeout(self.config.timeout(), undo).await;
            if matches!(undone, Ok(Ok(_))) {
                self.conn = Some(conn);
            }
        }
    }

    fn ring(&mut self) {
        self.bell.ring();
    }

    async fn close(self) -> Result<(), StoreError> {
        match self.conn {
            Some(conn) => conn.close().await.map_err(|e| super::error::convert("close", e)),
            None => Ok(()),
        }
    }
}
