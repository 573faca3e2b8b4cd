//! What was worked out once. The checker meets the same row and the same job in many worlds: what comes of them the real
//! code says the first time, and it is remembered by all that it depends on. Rows are the same when nothing of them
//! differs, revision, epoch and known commits included.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use abca_core::store::{SignalOutcome, TaskRow};

use super::drain::Drive;
use super::jobs::{Job, Seen};
use super::machine::Word;
use super::rows::{Detail, Others, Row};
use super::workers::Committed;

/// A job, or none, where a worker has nothing more to do.
pub type Next = Option<Arc<Job>>;

#[derive(Debug)]
pub struct Memo<K, V>(Mutex<HashMap<K, V>>);

impl<K, V> Default for Memo<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Hash + Eq, V: Clone> Memo<K, V> {
    pub fn get(&self, key: K, work_out: impl FnOnce() -> V) -> V {
        let known = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = known().get(&key) {
            return value.clone();
        }
        let value = work_out();
        known().entry(key).or_insert(value).clone()
    }
}

/// Things that are equal, once each and numbered. The key only narrows the search.
#[derive(Debug)]
struct Same<K, V>(Mutex<(HashMap<K, Vec<V>>, u32)>);

impl<K, V> Default for Same<K, V> {
    fn default() -> Self {
        Self(Mutex::new((HashMap::new(), 0)))
    }
}

impl<K: Hash + Eq, V: Clone> Same<K, V> {
    fn get(&self, key: K, is: impl Fn(&V) -> bool, numbered: impl FnOnce(u32) -> V) -> V {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (things, count) = &mut *known;
        let alike = things.entry(key).or_default();
        if let Some(same) = alike.iter().find(|v| is(v)) {
            return same.clone();
        }
        *count += 1;
        alike.push(numbered(*count));
        alike[alike.len() - 1].clone()
    }
}

/// Rows and jobs stand for themselves by number.
#[derive(Debug, Default)]
pub struct Memory {
    rows: Same<(u64, u64, u64, usize, u64), Row>,
    jobs: Same<(u32, usize, u64, bool), Arc<Job>>,
    pub idle: Memo<(u32, u64), bool>,
    pub awaited: Memo<(u32, u64), bool>,
    pub claims: Memo<(u32, u64), (Row, Next)>,
    pub answers: Memo<(u32, Seen, u64), Next>,
    pub commits: Memo<(u32, u32, Others, bool, u64), Arc<Committed>>,
    pub releases: Memo<(u32, u32), Row>,
    pub signals: Memo<(u32, Word, u64), (Row, SignalOutcome)>,
    pub drives: Memo<Drive, Option<Row>>,
    ways: AtomicU32,
}

impl Memory {
    pub fn row(&self, row: TaskRow, detail: Detail) -> Row {
        let s = &row.snapshot;
        let print = detail.print(&row);
        let commits = row.commits.iter().fold(0, |sum: u64, id| sum.wrapping_mul(31).wrapping_add(*id as u64));
        let key = (print, s.revision, s.epoch, row.seen.len(), commits);
        // The search ends with a row that equals this one; without one, this one is kept.
        let row = Arc::new(row);
        self.rows.get(key, |known| *known.row == *row, |id| Row::new(Arc::clone(&row), print, id))
    }

    pub fn job(&self, job: Job) -> Arc<Job> {
        let key = (job.row.id(), job.observations.len(), job.decided, job.applied);
        let is = |known: &Arc<Job>| known.observations == job.observations;
        self.jobs.get(key, is, |id| Arc::new(Job { id, ..job.clone() }))
    }

    /// The first time that something is seen: finding it once is enough.
    pub fn first(&self, way: u32, holds: impl FnOnce() -> bool) -> bool {
        let bit = 1 << way;
        self.ways.load(Ordering::Relaxed) & bit == 0 && holds() && self.ways.fetch_or(bit, Ordering::Relaxed) & bit == 0
    }
}
