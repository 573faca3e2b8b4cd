//! A clock that goes wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::time::{Clock, Timestamp};

/// Another clock, so many milliseconds off: one machine's idea of the time. Set it while it is in use, and it has jumped.
#[derive(Debug)]
pub struct SkewedClock {
    inner: Arc<dyn Clock>,
    offset_ms: AtomicI64,
}

impl SkewedClock {
    /// A clock that is `offset_ms` ahead of `inner`; behind it when negative.
    pub const fn new(inner: Arc<dyn Clock>, offset_ms: i64) -> Self {
        Self { inner, offset_ms: AtomicI64::new(offset_ms) }
    }

    /// How far ahead it is.
    pub fn offset_ms(&self) -> i64 {
        self.offset_ms.load(Ordering::SeqCst)
    }

    /// Sets how far ahead it is from now on.
    pub fn set_offset_ms(&self, offset_ms: i64) {
        self.offset_ms.store(offset_ms, Ordering::SeqCst);
    }
}

impl Clock for SkewedClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.inner.now().as_millis().saturating_add(self.offset_ms()))
    }
}
