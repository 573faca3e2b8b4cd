//! What calls cost, in the service's request units.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::item::Item;
use super::table::INDEXES;

/// Request units of one kind of call, counted from the items' sizes by the published rules: a write unit for each begun KB of
/// the larger of an item's old and new version, twice within a transaction; one for each entry that an index loses or gets;
/// a read unit for each begun 4 KB, half of it where the read may lag.
///
/// An estimate: attributes that only the service sees, and repeats by the SDK, are not in it.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Units {
    /// Requests sent.
    pub requests: u64,
    /// Write units on the table.
    pub writes: u64,
    /// Write units on its indexes.
    pub index_writes: u64,
    /// Read units, on the table and its indexes.
    pub reads: f64,
}

impl Units {
    fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.writes += other.writes;
        self.index_writes += other.index_writes;
        self.reads += other.reads;
    }

    /// The sum.
    #[must_use]
    pub fn sum<'a>(all: impl IntoIterator<Item = &'a Self>) -> Self {
        all.into_iter().fold(Self::default(), |mut sum, u| {
            sum.add(*u);
            sum
        })
    }

    pub(super) fn write(bytes: usize) -> Self {
        Self { requests: 1, writes: kib(bytes), ..Self::default() }
    }

    pub(super) fn read(bytes: usize, consistent: bool) -> Self {
        let units = bytes.div_ceil(4_096).max(1) as f64;
        Self { requests: 1, reads: if consistent { units } else { units / 2.0 }, ..Self::default() }
    }
}

/// Begun KB, at least one.
pub(super) fn kib(bytes: usize) -> u64 {
    bytes.div_ceil(1_024).max(1) as u64
}

/// How many index entries a change of an item touches.
pub(super) fn index_writes(before: &Item, after: &Item) -> u64 {
    let writes = |(_, hash, range): &(&str, &str, &str)| {
        let entry = |item: &Item| match (item.get(*hash), item.get(*range)) {
            (Some(h), Some(r)) => Some((h.clone(), r.clone())),
            _ => None,
        };
        match (entry(before), entry(after)) {
            (None, None) => 0,
            (Some(_), None) | (None, Some(_)) => 1,
            (Some(b), Some(a)) => 2 * u64::from(a != b),
        }
    };
    INDEXES.iter().map(writes).sum()
}

/// What was used so far, by the kind of call.
#[derive(Debug, Default)]
pub(super) struct Meter(Mutex<BTreeMap<&'static str, Units>>);

impl Meter {
    pub(super) fn count(&self, op: &'static str, units: Units) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(op).or_default().add(units);
    }

    pub(super) fn so_far(&self) -> BTreeMap<&'static str, Units> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::super::item::{n, s};
    use super::*;

    #[test]
    fn an_index_entry_that_moves_is_lost_and_made_anew() {
        let item = |due: Option<i64>| {
            let mut item = Item::from([("pk".to_owned(), s("T#1")), ("u".to_owned(), s("ann"))]);
            if let Some(due) = due {
                item.insert("dk".to_owned(), s("d0"));
                item.insert("da".to_owned(), n(due));
            }
            item
        };
        assert_eq!(index_writes(&Item::new(), &item(Some(1))), 2, "by user, and due");
        assert_eq!(index_writes(&item(Some(1)), &item(Some(1))), 0);
        assert_eq!(index_writes(&item(Some(1)), &item(Some(2))), 2);
        assert_eq!(index_writes(&item(Some(1)), &item(None)), 1);
    }
}
