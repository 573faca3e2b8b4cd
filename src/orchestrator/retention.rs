//! Lets tasks go that ended long ago.

use std::sync::Arc;
use std::time::Duration;

use abca_core::store::StoreErrorKind;
use abca_core::{Millis, Timestamp};
use tokio_util::sync::CancellationToken;

use super::driver::Driver;

/// So many tasks are removed in one call: the store does other work in between.
const AT_ONCE: usize = 200;
/// And so long it is left to that.
const BETWEEN: Duration = Duration::from_secs(1);
/// The shortest and the longest time between two looks.
const LOOKS: (Millis, Millis) = (Millis::secs(60), Millis::secs(3_600));

/// The time between two looks: a 24th of what is kept, so that nothing is kept much longer than was wanted.
fn every(keep: Millis) -> Millis {
    Millis(keep.0 / 24).clamp(LOOKS.0, LOOKS.1)
}

/// Removes what ended longer ago than this, now and from time to time, until told to stop.
///
/// Workers need not agree: a batch is removed by one of them, and another finds nothing. They begin at odd times, so that
/// as a rule they do not look at once.
pub(super) async fn retain(driver: Arc<Driver>, keep: Millis, odd: u64, stop: CancellationToken) {
    let every = every(keep);
    let first = Duration::from_millis(every.0 / 60 + odd % (every.0 / 2));
    let mut wait = first;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        if !driver.store.capabilities().operator {
            tracing::warn!("this store removes no tasks: `retention` is of no effect");
            return;
        }
        let keep_ms = i64::try_from(keep.0).unwrap_or(i64::MAX);
        let before = Timestamp::from_millis(driver.clock.now().as_millis().saturating_sub(keep_ms));
        wait = match driver.store.operator().purge(before, AT_ONCE).await {
            Ok(0) => every.to_std(),
            Ok(removed) => {
                tracing::info!(removed, %before, "tasks that ended long ago are removed");
                if removed < AT_ONCE as u64 { every.to_std() } else { BETWEEN }
            }
            Err(error) if error.kind() == StoreErrorKind::Unsupported => {
                return tracing::warn!(%error, "this store removes no tasks: `retention` is of no effect");
            }
            Err(error) => {
                tracing::warn!(%error, "could not remove tasks that ended long ago; trying again later");
                every.to_std()
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_seldom_and_never_far_apart() {
        assert_eq!(every(Millis::secs(3_600)), Millis::secs(150));
        assert_eq!(every(Millis::secs(600)), Millis::secs(60));
        assert_eq!(every(Millis::secs(30 * 24 * 3_600)), Millis::secs(3_600));
    }
}
