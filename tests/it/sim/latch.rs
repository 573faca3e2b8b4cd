//! A value that is waited for. Tokio's `watch` wakes its receivers in random order; a seed could not be replayed with it.

use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

/// Clones are the same value.
#[derive(Debug)]
pub struct Latch<T>(Arc<(Mutex<T>, Notify)>);

impl<T> Clone for Latch<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Clone> Latch<T> {
    pub fn new(value: T) -> Self {
        Self(Arc::new((Mutex::new(value), Notify::new())))
    }

    pub fn set(&self, value: T) {
        *self.0.0.lock().unwrap() = value;
        self.0.1.notify_waiters();
    }

    pub fn now(&self) -> T {
        self.0.0.lock().unwrap().clone()
    }

    pub async fn until(&self, so: impl Fn(&T) -> bool) -> T {
        loop {
            let next = self.0.1.notified();
            let now = self.now();
            if so(&now) {
                return now;
            }
            next.await;
        }
    }
}
