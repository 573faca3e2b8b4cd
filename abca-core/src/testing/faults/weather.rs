//! What all processes of a test share: how often what goes wrong, and how often it did.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use super::Mishap;
use crate::store::StoreErrorKind;
use crate::time::Millis;

/// In how many of a thousand calls a mishap happens, by mishap.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Rates(BTreeMap<Mishap, u64>);

impl Rates {
    /// Nothing goes wrong.
    pub fn none() -> Self {
        Self::default()
    }

    /// Lets a mishap happen in so many of a thousand calls.
    #[must_use]
    pub fn with(mut self, mishap: Mishap, per_mille: u64) -> Self {
        self.0.insert(mishap, per_mille);
        self
    }

    pub(super) fn at(&self, mut roll: u64) -> Option<Mishap> {
        for (mishap, rate) in &self.0 {
            match roll.checked_sub(*rate) {
                None => return Some(*mishap),
                Some(rest) => roll = rest,
            }
        }
        None
    }
}

/// Every call of every process meets the same trouble for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storm {
    /// Calls of the store fail with this kind. With [`StoreErrorKind::Unknown`] every second one is done all the same; with
    /// [`StoreErrorKind::Full`] reads still work.
    Store(StoreErrorKind),
    /// Calls of the store take so long.
    SlowStore(Millis),
    /// Calls of the backend fail.
    Backend,
}

/// What all processes of a test share. Clones are the same weather.
#[derive(Debug, Clone)]
pub struct Weather(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    rates: Rates,
    storm: Option<Storm>,
    tally: BTreeMap<&'static str, u64>,
    under_way: usize,
}

impl Weather {
    /// Mishaps at these rates, and no storm.
    pub fn new(rates: Rates) -> Self {
        Self(Arc::new(Mutex::new(State { rates, storm: None, tally: BTreeMap::new(), under_way: 0 })))
    }

    /// Begins a storm, or ends it.
    pub fn storm(&self, storm: Option<Storm>) {
        self.state().storm = storm;
    }

    /// From now on nothing goes wrong. What was to land later still does.
    pub fn calm(&self) {
        let mut state = self.state();
        state.rates = Rates::none();
        state.storm = None;
    }

    /// Counts something that happened.
    pub fn count(&self, what: &'static str) {
        *self.state().tally.entry(what).or_default() += 1;
    }

    /// What happened, and how often.
    pub fn tally(&self) -> BTreeMap<&'static str, u64> {
        self.state().tally.clone()
    }

    /// How many calls are still to land.
    pub fn under_way(&self) -> usize {
        self.state().under_way
    }

    pub(super) fn launched(&self) {
        self.state().under_way += 1;
    }

    pub(super) fn landed(&self) {
        self.state().under_way -= 1;
    }

    pub(super) fn mishap(&self, roll: u64) -> Option<Mishap> {
        self.state().rates.at(roll)
    }

    pub(super) fn current(&self) -> Option<Storm> {
        self.state().storm
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nothing panics while it holds the weather")
    }
}
