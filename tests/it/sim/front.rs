//! Everybody who is neither worker nor session: clients that submit, cancel, approve, nudge, and say it again until it is
//! heard.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use abca::orchestrator::{Bell, Wake};
use abca_core::id::SignalId;
use abca_core::store::{NewSignal, SignalOutcome, StoreError, Submit, TaskStore};
use abca_core::task::{Signal, SignalKind};
use abca_core::testing::Dice;
use abca_core::testing::faults::{Process, Weather};
use abca_core::{Clock, TaskId};

use super::runtime::Tokio;

/// Clones are the same front.
#[derive(Debug, Clone)]
pub struct Front(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Arc<dyn TaskStore>,
    bell: Bell,
    weather: Weather,
    clock: Arc<dyn Clock>,
    dice: Dice,
    clients: AtomicU64,
}

impl Front {
    pub fn new(store: Arc<dyn TaskStore>, bell: Bell, weather: Weather, clock: Arc<dyn Clock>, dice: Dice) -> Self {
        Self(Arc::new(Inner { store, bell, weather, clock, dice, clients: AtomicU64::new(0) }))
    }

    pub async fn submits(&self, submit: Submit) {
        self.until_heard(|store| {
            let submit = submit.clone();
            async move { store.submit(&[submit]).await }
        })
        .await;
    }

    pub async fn signals(&self, task: TaskId, id: &str, kind: SignalKind) -> SignalOutcome {
        let signal = Signal { id: SignalId::new(id).expect("a short id"), at: self.0.clock.now(), kind };
        self.tells(NewSignal { task, signal, expect_session: None }).await
    }

    pub async fn tells(&self, signal: NewSignal) -> SignalOutcome {
        let answers = self.until_heard(|store| {
            let signal = signal.clone();
            async move { store.signal(&[signal]).await }
        });
        answers.await[0]
    }

    /// A client for each try: it may die, and somebody tries again.
    async fn until_heard<T, F>(&self, call: impl Fn(Arc<dyn TaskStore>) -> F) -> T
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        loop {
            let number = self.0.clients.fetch_add(1, Ordering::SeqCst);
            let dice = self.0.dice.fork(&format!("client {number}"));
            let client = Process::new(dice, self.0.weather.clone(), Arc::new(Tokio));
            let store = Wake::new(Arc::new(client.store(self.0.store.clone())), self.0.bell.clone());
            let answer = tokio::select! {
                biased;
                answer = call(Arc::new(store)) => answer.ok(),
                () = client.died() => None,
            };
            match answer {
                Some(answer) => return answer,
                None => tokio::time::sleep(Duration::from_secs(5)).await,
            }
        }
    }
}
