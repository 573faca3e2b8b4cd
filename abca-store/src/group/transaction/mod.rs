//! One transaction: reads what its calls need, applies the core's rules in memory, writes what changed.

mod calls;
mod claims;
mod dead;
mod reading;

use std::collections::{BTreeMap, BTreeSet};

use abca_core::id::IdempotencyKey;
use abca_core::store::{Append, Slots, StoreError, TaskRow, check_append, check_commits, check_submit};
use abca_core::task::{SlotLimit, SlotScope};
use abca_core::{TaskId, Timestamp, UserId};

use super::bodies::Bodies;
use super::call::{Answer, Call};
use super::engine::{Engine, Scope};
use super::error::{Trouble, again};

#[derive(Debug, Default)]
struct Scopes(BTreeMap<SlotScope, Scope>);

impl Slots for Scopes {
    fn holders(&self, scope: &SlotScope) -> usize {
        self.0.get(scope).map_or(0, |s| s.holders)
    }

    fn earlier_waits(&self, scope: &SlotScope, order: u64) -> bool {
        self.0.get(scope).and_then(|s| s.waiting.first()).is_some_and(|first| *first < order)
    }
}

pub(crate) struct Transaction<'a, E: Engine> {
    engine: &'a mut E,
    /// Tasks that this transaction may change, as they are now.
    rows: BTreeMap<TaskId, TaskRow>,
    /// Tasks that it may only look at.
    peeked: BTreeMap<TaskId, TaskRow>,
    /// Rows to write.
    dirty: BTreeSet<TaskId>,
    /// Where what is fixed of new tasks lies.
    made: BTreeMap<TaskId, E::Place>,
    /// Where the new records of some of them lie.
    records: BTreeMap<TaskId, E::Place>,
    /// Places in queues that changed: waiting, and denied or not; or given up.
    places: BTreeMap<TaskId, Option<bool>>,
    taken: Vec<(SlotLimit, u64)>,
    keys: BTreeMap<(UserId, IdempotencyKey), TaskId>,
    scopes: Scopes,
    rooms: BTreeMap<SlotScope, (UserId, Timestamp)>,
    unreadable: BTreeMap<TaskId, StoreError>,
    /// Tasks that were looked for and are not there.
    absent: BTreeSet<TaskId>,
    /// How many waiting tasks this transaction can make leave.
    leavers: usize,
    /// It made something due.
    rings: bool,
}

type Answered = Result<Answer, StoreError>;

impl<'a, E: Engine> Transaction<'a, E> {
    pub(crate) fn new(engine: &'a mut E) -> Self {
        Self {
            engine,
            rows: BTreeMap::new(),
            peeked: BTreeMap::new(),
            dirty: BTreeSet::new(),
            made: BTreeMap::new(),
            records: BTreeMap::new(),
            places: BTreeMap::new(),
            taken: Vec::new(),
            keys: BTreeMap::new(),
            scopes: Scopes::default(),
            rooms: BTreeMap::new(),
            unreadable: BTreeMap::new(),
            absent: BTreeSet::new(),
            leavers: 0,
            rings: false,
        }
    }

    /// Applies the calls: claims and what ends leases first, since they look at what is stored, then the others in
    /// order. Answers are in the order of the calls.
    pub(crate) async fn apply(&mut self, calls: &[Call]) -> Result<Vec<Answered>, Trouble> {
        let mut answers: Vec<Option<Answered>> = Vec::with_capacity(calls.len());
        let mut claimed = BTreeSet::new();
        for call in calls {
            answers.push(match call {
                Call::Claim(query, _) => Some(Ok(Answer::Claim(self.claim(query, &mut claimed).await?))),
                Call::Expire(workers, now, _) => Some(Ok(Answer::Count(self.expire(workers, *now).await?))),
                Call::Submit(..)
                | Call::Commit(..)
                | Call::Renew(..)
                | Call::Release(..)
                | Call::Signal(..)
                | Call::Append(..)
                | Call::Heartbeat(..)
                | Call::Bury(..)
                | Call::Revive(..)
                | Call::Discard(..)
                | Call::Purge(..) => None,
            });
        }
        let mut all = Vec::with_capacity(calls.len());
        for (call, answer) in calls.iter().zip(answers) {
            all.push(match answer {
                Some(answer) => answer,
                None => match self.refusal(call) {
                    Some(error) => Err(error),
                    None => self.carry_out(call).await?,
                },
            });
        }
        Ok(all)
    }

    /// What speaks against a call before anything of it is done.
    fn refusal(&self, call: &Call) -> Option<StoreError> {
        let op = call.op();
        if let Call::Discard(..) = call {
            // Also of what cannot be read.
            return None;
        }
        if !self.unreadable.is_empty()
            && let Some(error) = call.tasks().iter().find_map(|id| self.unreadable.get(id))
        {
            return Some(again(op, error));
        }
        match call {
            Call::Submit(batch, _) => batch.iter().try_for_each(|(s, _)| check_submit(s)).err(),
            Call::Commit(batch, _) => check_commits(batch.iter().map(|(c, _)| c), |id| self.rows.get(&id)).err(),
            Call::Append(batch, _) => self.check_appends(batch).err(),
            Call::Claim(..)
            | Call::Renew(..)
            | Call::Release(..)
            | Call::Signal(..)
            | Call::Heartbeat(..)
            | Call::Expire(..)
            | Call::Bury(..)
            | Call::Revive(..)
            | Call::Discard(..)
            | Call::Purge(..) => None,
        }
    }

    fn check_appends(&self, batch: &[(Append, Bodies)]) -> Result<(), StoreError> {
        let mut ahead: BTreeMap<TaskId, u64> = BTreeMap::new();
        for (a, _) in batch {
            let Some(row) = self.rows.get(&a.task).filter(|r| r.hears(&a.session)) else { continue };
            let len = ahead.entry(a.task).or_insert(row.log_len);
            check_append(a, *len)?;
            *len = (*len).max(a.expect_seq - 1 + a.records.len() as u64);
        }
        Ok(())
    }

    async fn carry_out(&mut self, call: &Call) -> Result<Answered, Trouble> {
        Ok(Ok(match call {
            Call::Submit(batch, _) => {
                let mut outcomes = Vec::with_capacity(batch.len());
                for (submit, bodies) in batch {
                    outcomes.push(self.submit(submit, bodies).await?);
                }
                Answer::Submit(outcomes)
            }
            Call::Commit(batch, _) => {
                let mut outcomes = Vec::with_capacity(batch.len());
                for (commit, bodies) in batch {
                    self.look_up(commit).await?;
                    outcomes.push(self.commit(commit, bodies)?);
                }
                Answer::Commit(outcomes)
            }
            Call::Claim(..) => Answer::Claim(Vec::new()),
            Call::Expire(..) => Answer::Count(0),
            Call::Renew(batch, _) => {
                Answer::Flags(batch.iter().map(|r| self.change(r.task, |row| row.renew(r)).unwrap_or(false)).collect())
            }
            Call::Release(batch, _) => Answer::Flags(
                batch.iter().map(|r| self.change(r.task, |row| row.release(r)).unwrap_or(false)).collect(),
            ),
            Call::Signal(batch, _) => {
                let mut outcomes = Vec::with_capacity(batch.len());
                for new in batch {
                    outcomes.push(self.signal(new)?);
                }
                Answer::Signal(outcomes)
            }
            Call::Append(batch, _) => {
                let mut outcomes = Vec::with_capacity(batch.len());
                for (append, bodies) in batch {
                    outcomes.push(self.append(append, bodies).await?);
                }
                Answer::Append(outcomes)
            }
            Call::Bury(batch, _) => {
                let mut buried = Vec::with_capacity(batch.len());
                for burial in batch {
                    buried.push(self.bury(burial)?);
                }
                Answer::Flags(buried)
            }
            Call::Revive(id, now, _) => Answer::Flag(self.revive(*id, *now)?),
            Call::Discard(id, now, _) => Answer::Flag(self.discard(*id, *now).await?),
            Call::Purge(before, limit, _) => Answer::Count(self.purge(*before, *limit).await?),
            Call::Heartbeat(beat, _) => {
                Answer::Flag(self.change(beat.task, |row| row.heartbeat(&beat.session, beat.now)).unwrap_or(false))
            }
        }))
    }

    /// Makes the first waiting tasks due where there is room, writes everything, and ends the transaction.
    pub(crate) async fn finish(&mut self) -> Result<(), Trouble> {
        let rooms = std::mem::take(&mut self.rooms);
        let rooms: Vec<_> =
            rooms.into_iter().filter(|(scope, _)| self.scopes.0.get(scope).is_some_and(|s| s.denied)).collect();
        if !rooms.is_empty() {
            self.flush(false).await?;
            for (scope, (user, now)) in rooms {
                self.wake(&scope, &user, now).await?;
            }
        }
        self.flush(true).await?;
        self.engine.keep(std::mem::take(&mut self.rows));
        if self.rings {
            self.engine.ring();
        }
        Ok(())
    }

    async fn flush(&mut self, end: bool) -> Result<(), Trouble> {
        let mut records = std::mem::take(&mut self.records);
        let mut made = std::mem::take(&mut self.made);
        for id in std::mem::take(&mut self.dirty) {
            let Some(row) = self.rows.get(&id) else { continue };
            self.engine.state(row)?;
            if let Some(place) = made.remove(&id) {
                self.engine.task(row, place)?;
            }
            if let Some(place) = records.remove(&id) {
                self.engine.record(row, place)?;
            }
        }
        for (limit, order) in std::mem::take(&mut self.taken) {
            self.engine.taken(&limit, order)?;
        }
        for (id, place) in std::mem::take(&mut self.places) {
            let Some(row) = self.rows.get(&id) else { continue };
            for l in row.limits() {
                match place {
                    Some(denied) => self.engine.waiting(&l.scope, row, denied)?,
                    None => self.engine.waited(&l.scope, row.order)?,
                }
            }
        }
        self.engine.write(end).await
    }
}
