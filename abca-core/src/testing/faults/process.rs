//! One process: it lives, hangs, is cut off, dies.

use std::future::{pending, poll_fn};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Poll, Waker};

use super::{FaultyCompute, FaultyStore, Mishap, Runtime, Storm, Weather, Work};
use crate::compute::ComputeStrategy;
use crate::store::{StoreErrorKind, TaskStore};
use crate::testing::Dice;
use crate::time::Millis;

/// How long a process that is cut off waits for an answer.
const TIMEOUT: Millis = Millis::secs(5);
/// The latest that a late call is done: three hours.
const LATEST_MS: u64 = 3 * 3_600_000;

/// One process, as its store and its backend reach it. Clones are the same process.
///
/// After its death no call of it is answered any more: the test awaits [`Process::died`] and drops what belongs to it.
#[derive(Debug, Clone)]
pub struct Process(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    dice: Dice,
    weather: Weather,
    runtime: Arc<dyn Runtime>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    dead: bool,
    frozen: bool,
    cut: bool,
    wakers: Vec<Waker>,
}

/// How a call goes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Luck {
    Plain,
    Twice,
    AnswerLost,
    LandsLater(Millis),
    DiesAfter,
}

impl Process {
    /// A process that lives.
    pub fn new(dice: Dice, weather: Weather, runtime: Arc<dyn Runtime>) -> Self {
        Self(Arc::new(Inner { dice, weather, runtime, state: Mutex::default() }))
    }

    /// A store as this process reaches it.
    pub fn store(&self, inner: Arc<dyn TaskStore>) -> FaultyStore {
        FaultyStore::new(inner, self.clone())
    }

    /// A backend as this process reaches it.
    pub fn compute(&self, inner: Arc<dyn ComputeStrategy>) -> FaultyCompute {
        FaultyCompute::new(inner, self.clone())
    }

    /// Ends it, between any two steps: as SIGKILL does.
    pub fn kill(&self) {
        self.change(|s| s.dead = true);
    }

    /// Stops it, or lets it go on: as SIGSTOP and SIGCONT do. Its calls wait, and are done when it goes on.
    pub fn freeze(&self, frozen: bool) {
        self.change(|s| s.frozen = frozen);
    }

    /// Cuts it off from store and backend, or joins it again. Calls fail after five seconds meanwhile.
    pub fn cut_off(&self, cut: bool) {
        self.change(|s| s.cut = cut);
    }

    /// Answers when it has died.
    pub async fn died(&self) {
        self.when(|s| s.dead).await;
    }

    fn change(&self, f: impl FnOnce(&mut State)) {
        let wakers = {
            let mut state = self.state();
            f(&mut state);
            std::mem::take(&mut state.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    async fn when(&self, so: impl Fn(&State) -> bool) {
        poll_fn(|context| {
            let mut state = self.state();
            if so(&state) {
                return Poll::Ready(());
            }
            state.wakers.push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Passes while the process may act at all; for ever, once it is dead.
    async fn acts(&self) {
        let (dead, frozen) = {
            let state = self.state();
            (state.dead, state.frozen)
        };
        if dead {
            pending::<()>().await;
        }
        if frozen {
            self.when(|s| !s.frozen || s.dead).await;
            if self.state().dead {
                pending::<()>().await;
            }
        }
    }

    /// What becomes of a call of the store that is about to be made, after whatever it has to wait for.
    pub(super) async fn store_luck(&self, changes: bool) -> Result<Luck, StoreErrorKind> {
        self.acts().await;
        if self.state().cut {
            self.sleep(TIMEOUT).await;
            return Err(StoreErrorKind::Unavailable);
        }
        match self.0.weather.current() {
            Some(Storm::Store(StoreErrorKind::Full)) if !changes => {}
            Some(Storm::Store(StoreErrorKind::Unknown)) if changes && self.0.dice.chance(500) => {
                return Ok(Luck::AnswerLost);
            }
            Some(Storm::Store(kind)) => return Err(kind),
            Some(Storm::SlowStore(wait)) => self.sleep(wait).await,
            Some(Storm::Backend) | None => {}
        }
        self.luck("store", changes).await.map_err(|()| {
            *self.0.dice.pick(&[StoreErrorKind::Unavailable, StoreErrorKind::Throttled, StoreErrorKind::Unknown])
        })
    }

    /// The same for a call of the backend.
    pub(super) async fn compute_luck(&self, changes: bool) -> Result<Luck, ()> {
        self.acts().await;
        if self.state().cut {
            self.sleep(TIMEOUT).await;
            return Err(());
        }
        if self.0.weather.current() == Some(Storm::Backend) {
            return Err(());
        }
        self.luck("backend", changes).await
    }

    async fn luck(&self, of: &'static str, changes: bool) -> Result<Luck, ()> {
        let Some(mishap) = self.0.weather.mishap(self.0.dice.below(1_000)) else { return Ok(Luck::Plain) };
        let to_changes = match mishap {
            Mishap::AnswerLost | Mishap::Twice | Mishap::LandsLater => true,
            Mishap::Fails | Mishap::Slow | Mishap::VerySlow | Mishap::DiesBefore | Mishap::DiesAfter => false,
        };
        if to_changes && !changes {
            return Ok(Luck::Plain);
        }
        self.0.weather.count(name(of, mishap));
        match mishap {
            Mishap::Fails => return Err(()),
            Mishap::AnswerLost => return Ok(Luck::AnswerLost),
            Mishap::Twice => return Ok(Luck::Twice),
            Mishap::Slow => self.sleep(Millis(self.0.dice.between(100, 20_000))).await,
            Mishap::VerySlow => self.sleep(self.late()).await,
            Mishap::LandsLater => return Ok(Luck::LandsLater(self.late())),
            Mishap::DiesBefore => self.die().await,
            Mishap::DiesAfter => return Ok(Luck::DiesAfter),
        }
        // It may have been killed or stopped while it waited.
        self.acts().await;
        Ok(Luck::Plain)
    }

    fn late(&self) -> Millis {
        // As often seconds as minutes as hours.
        let most = *self.0.dice.pick(&[20_000, 600_000, LATEST_MS]);
        Millis(self.0.dice.between(1, most))
    }

    /// Does something after a while, whatever becomes of this process.
    pub(super) fn later(&self, wait: Millis, work: Work) {
        let (weather, sleep) = (self.0.weather.clone(), self.0.runtime.sleep(wait));
        weather.launched();
        self.0.runtime.spawn(Box::pin(async move {
            sleep.await;
            work.await;
            weather.landed();
        }));
    }

    pub(super) async fn die<T>(&self) -> T {
        self.kill();
        pending().await
    }

    async fn sleep(&self, wait: Millis) {
        self.0.runtime.sleep(wait).await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("nothing panics while it holds the process")
    }
}

fn name(of: &'static str, mishap: Mishap) -> &'static str {
    macro_rules! both {
        ($($mishap:ident $store:literal $backend:literal;)+) => {
            match (of, mishap) {
                $(("store", Mishap::$mishap) => $store, (_, Mishap::$mishap) => $backend,)+
            }
        };
    }
    both! {
        Fails "store: fails" "backend: fails";
        AnswerLost "store: answer lost" "backend: answer lost";
        Twice "store: done twice" "backend: done twice";
        Slow "store: slow" "backend: slow";
        VerySlow "store: hours late" "backend: hours late";
        LandsLater "store: lands later" "backend: lands later";
        DiesBefore "store: dies before" "backend: dies before";
        DiesAfter "store: dies after" "backend: dies after";
    }
}
