//! Which tasks this worker drives: one loop for each, and a mailbox where a newer claim of the same task arrives.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use abca_core::TaskId;
use abca_core::store::Renewal;
use abca_core::task::Snapshot;
use abca_core::time::{Millis, Timestamp};
use tokio::sync::Notify;

/// The tasks under way in one worker.
///
/// A signal makes a task due while its loop still runs, so the worker claims it again, under a higher epoch. The fresh
/// snapshot goes to the running loop, which would else be fenced by its own process.
#[derive(Debug, Default, Clone)]
pub(crate) struct Driving(Arc<Mutex<BTreeMap<TaskId, Slot>>>);

#[derive(Debug)]
struct Slot {
    epoch: u64,
    newer: Option<Snapshot>,
    lost: bool,
    notify: Arc<Notify>,
}

impl Driving {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<TaskId, Slot>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a claimed task: answers what a new loop needs, or `None` when the running loop was told.
    pub(crate) fn enter(&self, snapshot: Snapshot) -> Option<(Ticket, Snapshot)> {
        let task = snapshot.id();
        match self.lock().entry(task) {
            Entry::Occupied(mut slot) => {
                let slot = slot.get_mut();
                slot.epoch = snapshot.epoch;
                slot.newer = Some(snapshot);
                slot.lost = false;
                slot.notify.notify_one();
                None
            }
            Entry::Vacant(slot) => {
                let notify = Arc::new(Notify::new());
                slot.insert(Slot { epoch: snapshot.epoch, newer: None, lost: false, notify: notify.clone() });
                Some((Ticket { task, driving: self.clone(), notify, left: false }, snapshot))
            }
        }
    }

    /// Leases to extend.
    pub(crate) fn renewals(&self, now: Timestamp, lease: Millis) -> Vec<Renewal> {
        let until = now.after(lease);
        self.lock().iter().map(|(task, s)| Renewal { task: *task, epoch: s.epoch, lease_until: until }).collect()
    }

    /// Tells a loop that its lease is gone, unless it was claimed again since.
    pub(crate) fn lost(&self, renewal: &Renewal) {
        if let Some(slot) = self.lock().get_mut(&renewal.task).filter(|s| s.epoch == renewal.epoch) {
            slot.lost = true;
            slot.notify.notify_one();
        }
    }
}

/// The right to drive one task; given back on drop, also when its loop panics.
#[derive(Debug)]
pub(crate) struct Ticket {
    task: TaskId,
    driving: Driving,
    notify: Arc<Notify>,
    left: bool,
}

/// News for a loop from outside.
#[derive(Debug)]
pub(crate) enum News {
    /// The task was claimed again by this worker: go on from here.
    Newer(Box<Snapshot>),
    /// Another worker has claimed the task.
    Lost,
}

impl Ticket {
    /// What has arrived, if anything.
    pub(crate) fn news(&self) -> Option<News> {
        let mut all = self.driving.lock();
        let slot = all.get_mut(&self.task)?;
        match slot.newer.take() {
            Some(newer) => Some(News::Newer(Box::new(newer))),
            None => slot.lost.then_some(News::Lost),
        }
    }

    /// Whether the lease is known to be gone.
    pub(crate) fn is_lost(&self) -> bool {
        self.driving.lock().get(&self.task).is_some_and(|slot| slot.lost)
    }

    /// Waits until something may have arrived. Cancel-safe.
    pub(crate) async fn arrived(&self) {
        self.notify.notified().await;
    }

    /// Ends the loop, unless a newer snapshot has arrived in the meantime: then it goes on with that.
    pub(crate) fn leave(mut self) -> Option<(Self, Snapshot)> {
        let mut all = self.driving.lock();
        if let Some(newer) = all.get_mut(&self.task).and_then(|slot| slot.newer.take()) {
            drop(all);
            return Some((self, newer));
        }
        all.remove(&self.task);
        drop(all);
        self.left = true;
        None
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // After `leave` another loop may hold the entry.
        if !self.left {
            self.driving.lock().remove(&self.task);
        }
    }
}

#[cfg(test)]
mod tests {
    use abca_core::testing::fixtures;

    use super::*;

    fn claimed(epoch: u64) -> Snapshot {
        Snapshot { epoch, ..fixtures::claimed(fixtures::task(1)) }
    }

    #[test]
    fn a_task_has_one_loop_and_a_newer_claim_is_never_lost() {
        let driving = Driving::default();
        let (ticket, first) = driving.enter(claimed(1)).unwrap();
        assert_eq!(first, claimed(1));
        assert!(driving.enter(claimed(2)).is_none(), "the running loop is told instead");
        assert_eq!(driving.renewals(Timestamp::default(), Millis(5))[0].epoch, 2, "the newest lease is kept");
        // It came between the loop's last look and its end: the loop goes on with it.
        let (ticket, newer) = ticket.leave().unwrap();
        assert_eq!(newer, claimed(2));
        assert!(ticket.leave().is_none());
        assert!(driving.enter(claimed(3)).is_some());
    }

    #[test]
    fn a_lost_lease_is_told_unless_it_was_claimed_again_and_a_panic_frees_the_task() {
        let driving = Driving::default();
        let (ticket, _) = driving.enter(claimed(1)).unwrap();
        let old = driving.renewals(Timestamp::default(), Millis(5)).remove(0);
        assert!(driving.enter(claimed(2)).is_none());
        driving.lost(&old);
        assert!(!ticket.is_lost());
        assert!(matches!(ticket.news(), Some(News::Newer(_))));
        driving.lost(&Renewal { epoch: 2, ..old });
        assert!(matches!(ticket.news(), Some(News::Lost)));
        drop(ticket);
        assert!(driving.enter(claimed(3)).is_some());
    }
}
