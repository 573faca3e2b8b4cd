//! Turns within this process: whoever waits here does not fail there.

use std::collections::BTreeSet;

use abca_core::TaskId;
use tokio::sync::{Mutex, MutexGuard};

const STRIPES: usize = 64;

/// One writer at a time for a task, one for a scope. Only against waste: what is true is guarded by conditions. Always first a
/// task's, then scopes', so that nobody waits for ever.
#[derive(Debug)]
pub(super) struct Locks {
    tasks: Vec<Mutex<()>>,
    scopes: Vec<Mutex<()>>,
}

fn stripe(text: &str) -> usize {
    let sum = text.bytes().fold(7_u32, |sum, b| sum.wrapping_mul(31).wrapping_add(b.into()));
    usize::try_from(sum).unwrap_or_default() % STRIPES
}

impl Locks {
    pub(super) fn new() -> Self {
        let stripes = || (0..STRIPES).map(|_| Mutex::new(())).collect();
        Self { tasks: stripes(), scopes: stripes() }
    }

    pub(super) async fn task(&self, id: TaskId) -> Option<MutexGuard<'_, ()>> {
        Some(self.tasks.get(stripe(&id.to_string()))?.lock().await)
    }

    pub(super) async fn scopes<'a>(&'a self, scopes: impl Iterator<Item = &str>) -> Vec<MutexGuard<'a, ()>> {
        let stripes: BTreeSet<usize> = scopes.map(stripe).collect();
        let mut held = Vec::with_capacity(stripes.len());
        for stripe in stripes {
            if let Some(lock) = self.scopes.get(stripe) {
                held.push(lock.lock().await);
            }
        }
        held
    }
}
