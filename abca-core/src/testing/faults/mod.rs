//! Faults by chance: a store and a backend as a process sees them that may die, hang, be cut off or meet bad weather.
//!
//! Where [`super::chaos`] lets one chosen call go wrong, here every call may, as often as the [`Rates`] of the
//! [`Weather`] say and as the [`Dice`](super::Dice) of each [`Process`] fall. The layers know no runtime: waiting and work in the
//! background come from a [`Runtime`] of the test's.
//!
//! ```
//! # use std::sync::Arc;
//! # use abca_core::testing::Dice;
//! # use abca_core::testing::faults::{Mishap, Process, Rates, Runtime, Weather};
//! # use abca_core::store::TaskStore;
//! # fn of_a_test(store: Arc<dyn TaskStore>, runtime: Arc<dyn Runtime>) {
//! let weather = Weather::new(Rates::none().with(Mishap::AnswerLost, 20).with(Mishap::DiesAfter, 2));
//! let worker = Process::new(Dice::new(7).fork("worker 1"), weather.clone(), runtime);
//! let store: Arc<dyn TaskStore> = Arc::new(worker.store(store));
//! // ... hand `store` to a worker, await `worker.died()`, drop it, begin another ...
//! weather.calm();
//! # }
//! ```

mod compute;
mod process;
mod store;
mod weather;

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use crate::time::Millis;

pub use compute::FaultyCompute;
pub use process::Process;
pub use store::FaultyStore;
pub use weather::{Rates, Storm, Weather};

/// Work that a [`Runtime`] runs.
pub type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What fault layers need of the executor: under virtual time, virtual waiting.
pub trait Runtime: fmt::Debug + Send + Sync + 'static {
    /// Waits.
    fn sleep(&self, wait: Millis) -> Work;

    /// Runs something in the background, to its end.
    fn spawn(&self, work: Work);
}

/// What may go wrong with one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mishap {
    /// It is not done, and says so.
    Fails,
    /// It is done, and the answer gets lost.
    AnswerLost,
    /// It is done twice, as a network does that repeats; the second answer is given.
    Twice,
    /// It is done after some seconds.
    Slow,
    /// It is done after up to three hours.
    VerySlow,
    /// The caller hears that nobody knows; it is done up to three hours later, after whatever the caller does next.
    LandsLater,
    /// The process dies before it is done.
    DiesBefore,
    /// The process dies once it is done.
    DiesAfter,
}

impl Mishap {
    /// Every mishap.
    pub const ALL: [Self; 8] = [
        Self::Fails,
        Self::AnswerLost,
        Self::Twice,
        Self::Slow,
        Self::VerySlow,
        Self::LandsLater,
        Self::DiesBefore,
        Self::DiesAfter,
    ];
}
