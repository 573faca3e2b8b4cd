//! A layer that repeats what may be repeated.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use abca_core::model::{
    ModelCapabilities, ModelClient, ModelError, ModelErrorKind, ModelEvent, ModelRequest, ModelStream, TokenCount,
};
use abca_core::{IdSource, Millis};
use async_trait::async_trait;
use futures_util::stream::{self, StreamExt};
use tokio::time::Instant;

/// When to repeat and how long to wait.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RetryConfig {
    /// Most attempts, the first included. Default 6.
    pub max_attempts: u32,
    /// The first wait is random between nothing and this; each further one between nothing and twice as much.
    /// Default 1 s.
    pub base: Duration,
    /// Longest wait of our own choice. Default 30 s.
    pub max_wait: Duration,
    /// Longest wait of the provider's choice (`retry-after`) that is waited for. A longer one ends the retries, with
    /// the error that carries it: the caller can put the whole task off. Default 2 min.
    pub max_retry_after: Duration,
    /// No attempt begins later than this after the first. Default 5 min.
    pub max_total: Duration,
    /// Begin again when a stream breaks after deltas were delivered. The deltas of the new attempt start from the
    /// beginning, after a [`RetryNotice`]: right for a caller that shows deltas and keeps only
    /// [`ModelEvent::Done`], as abca's sessions do; wrong for one that forwards them. Default true.
    pub restart_streams: bool,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            max_attempts: 6,
            base: Duration::from_secs(1),
            max_wait: Duration::from_secs(30),
            max_retry_after: Duration::from_secs(120),
            max_total: Duration::from_secs(300),
            restart_streams: true,
        }
    }
}

/// Something failed and will be repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryNotice {
    /// The attempt that failed, from 1.
    pub attempt: u32,
    /// Most attempts.
    pub max_attempts: u32,
    /// The wait that begins now.
    pub wait: Millis,
    /// What failed.
    pub kind: ModelErrorKind,
    /// In words.
    pub message: String,
    /// The provider had accepted the call: it may bill it.
    pub accepted: bool,
}

type Observer = Arc<dyn Fn(&RetryNotice) + Send + Sync>;

/// A [`ModelClient`] over another one that repeats retryable errors
/// ([`ModelError::is_retryable`]) with exponential back-off and full jitter.
///
/// Waits use tokio's clock, so paused time works in tests. An error that is not retryable, or the last one, comes
/// back as it was. Dropping the stream stops everything, a wait included.
#[derive(Clone)]
pub struct Retry<C> {
    client: Arc<C>,
    policy: Policy,
}

#[derive(Clone)]
struct Policy {
    config: RetryConfig,
    random: Arc<dyn IdSource>,
    observer: Option<Observer>,
}

impl<C: ModelClient> fmt::Debug for Retry<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry")
            .field("client", &self.client)
            .field("config", &self.policy.config)
            .finish_non_exhaustive()
    }
}

impl<C: ModelClient> Retry<C> {
    /// The layer over a client. `random` is where the jitter comes from.
    pub fn new(client: C, config: RetryConfig, random: Arc<dyn IdSource>) -> Self {
        Self { client: Arc::new(client), policy: Policy { config, random, observer: None } }
    }

    /// Tells of every wait, before it begins. Called from the polling task: it should be quick.
    #[must_use]
    pub fn on_retry(mut self, observer: impl Fn(&RetryNotice) + Send + Sync + 'static) -> Self {
        self.policy.observer = Some(Arc::new(observer));
        self
    }
}

/// Attempts at one call.
struct Attempts {
    policy: Policy,
    started: Instant,
    /// Attempts that have failed.
    failed: u32,
}

impl Attempts {
    fn new(policy: &Policy) -> Self {
        Self { policy: policy.clone(), started: Instant::now(), failed: 0 }
    }

    /// Waits before the next attempt, or gives the error back.
    async fn again(&mut self, e: ModelError, accepted: bool) -> Result<(), ModelError> {
        self.failed = self.failed.saturating_add(1);
        let config = &self.policy.config;
        if !e.is_retryable() || self.failed >= config.max_attempts {
            return Err(e);
        }
        let wait = match e.retry_after {
            Some(asked) if asked.to_std() > config.max_retry_after => return Err(e),
            // A little more than asked, so that many waiters do not come back in the same instant.
            Some(asked) => asked.to_std() + self.part_of(config.base),
            None => {
                let doublings = self.failed.saturating_sub(1).min(20);
                self.part_of(config.base.saturating_mul(1 << doublings).min(config.max_wait))
            }
        };
        if self.started.elapsed() + wait > config.max_total {
            return Err(e);
        }
        let notice = RetryNotice {
            attempt: self.failed,
            max_attempts: config.max_attempts,
            wait: Millis(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
            kind: e.kind(),
            message: e.fault.message().to_owned(),
            accepted,
        };
        tracing::debug!(attempt = notice.attempt, wait = %notice.wait, kind = ?notice.kind, "model call is repeated");
        if let Some(observer) = &self.policy.observer {
            observer(&notice);
        }
        tokio::time::sleep(wait).await;
        Ok(())
    }

    /// A random part of a duration.
    fn part_of(&self, whole: Duration) -> Duration {
        let unit = (self.policy.random.random() >> 96) as u32;
        whole.mul_f64(f64::from(unit) / f64::from(u32::MAX))
    }
}

/// What a restartable stream is made of. Owns all it needs, since the stream outlives the borrow of the request.
struct Restartable<C> {
    client: Arc<C>,
    request: ModelRequest,
    attempts: Attempts,
    stream: ModelStream,
    delivered: bool,
    over: bool,
}

impl<C: ModelClient> Restartable<C> {
    async fn next(&mut self) -> Option<Result<ModelEvent, ModelError>> {
        if self.over {
            return None;
        }
        loop {
            let mut error = match self.stream.next().await {
                Some(Err(e)) => e,
                Some(Ok(event)) => {
                    self.delivered = true;
                    return Some(Ok(event));
                }
                None => ModelError::new(ModelErrorKind::Network, "stream", "the answer ended before it was whole"),
            };
            if self.delivered && !self.attempts.policy.config.restart_streams {
                return Some(Err(error));
            }
            let mut accepted = true;
            self.stream = loop {
                if let Err(e) = self.attempts.again(error, accepted).await {
                    return Some(Err(e));
                }
                match self.client.stream(&self.request).await {
                    Ok(stream) => break stream,
                    Err(e) => (error, accepted) = (e, false),
                }
            };
        }
    }
}

#[async_trait]
impl<C: ModelClient> ModelClient for Retry<C> {
    fn name(&self) -> &'static str {
        self.client.name()
    }

    fn capabilities(&self, model: &str) -> ModelCapabilities {
        self.client.capabilities(model)
    }

    async fn stream(&self, request: &ModelRequest) -> Result<ModelStream, ModelError> {
        let mut attempts = Attempts::new(&self.policy);
        let stream = loop {
            match self.client.stream(request).await {
                Ok(stream) => break stream,
                Err(e) => attempts.again(e, false).await?,
            }
        };
        let (client, request) = (self.client.clone(), request.clone());
        let state = Restartable { client, request, attempts, stream, delivered: false, over: false };
        Ok(Box::pin(stream::unfold(state, async |mut state| {
            let item = state.next().await?;
            state.over = matches!(item, Err(_) | Ok(ModelEvent::Done(_)));
            Some((item, state))
        })))
    }

    async fn count_tokens(&self, request: &ModelRequest) -> Result<TokenCount, ModelError> {
        let mut attempts = Attempts::new(&self.policy);
        loop {
            match self.client.count_tokens(request).await {
                Ok(count) => return Ok(count),
                Err(e) => attempts.again(e, false).await?,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use abca_core::model::{Message, ModelClientExt, Role};
    use abca_core::testing::model::{FakeModel, Step};

    /// Always the largest jitter.
    #[derive(Debug)]
    struct Most;

    impl IdSource for Most {
        fn random(&self) -> u128 {
            u128::MAX
        }
    }

    fn request() -> ModelRequest {
        ModelRequest {
            model: "m".into(),
            system: String::new(),
            messages: vec![Message::text(Role::User, "x")],
            tools: vec![],
            max_output_tokens: 9,
            cache: false,
        }
    }

    type Seen = Arc<Mutex<Vec<(u32, u64, bool)>>>;

    fn retry(steps: Vec<Step>, config: RetryConfig) -> (Retry<FakeModel>, Seen) {
        let seen = Seen::default();
        let notices = seen.clone();
        let layer = Retry::new(FakeModel::new(steps), config, Arc::new(Most))
            .on_retry(move |n| notices.lock().unwrap().push((n.attempt, n.wait.0, n.accepted)));
        (layer, seen)
    }

    fn fail(kind: ModelErrorKind, wait: Option<u64>) -> Step {
        Step::Fail(kind, wait.map(Millis))
    }

    #[tokio::test(start_paused = true)]
    async fn waits_double_and_the_provider_s_wish_counts() {
        use ModelErrorKind as K;
        let steps = vec![
            fail(K::Overloaded, None),
            fail(K::Network, None),
            Step::Cut("half".into()),
            fail(K::Throttled, Some(7_000)),
            Step::text("done"),
        ];
        let (layer, seen) = retry(steps, RetryConfig::default());
        let start = Instant::now();
        assert_eq!(layer.complete(&request()).await.unwrap().text(), "done");
        assert_eq!(*seen.lock().unwrap(), [(1, 1_000, false), (2, 2_000, false), (3, 4_000, true), (4, 8_000, false)]);
        assert_eq!(start.elapsed(), Duration::from_secs(15));
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_succeed_is_not_repeated() {
        use ModelErrorKind as K;
        for (step, want) in [
            (fail(K::BadRequest, None), K::BadRequest),
            (fail(K::ContextTooLong, None), K::ContextTooLong),
            (fail(K::Throttled, Some(3_600_000)), K::Throttled),
        ] {
            let (layer, seen) = retry(vec![step, Step::text("never")], RetryConfig::default());
            assert_eq!(layer.complete(&request()).await.unwrap_err().kind(), want);
            assert_eq!(*seen.lock().unwrap(), []);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_and_time_have_an_end() {
        let throttled = |n| vec![fail(ModelErrorKind::Throttled, Some(100_000)); n];
        let (layer, seen) = retry(throttled(10), RetryConfig::default());
        assert!(layer.complete(&request()).await.is_err());
        assert_eq!(seen.lock().unwrap().len(), 2); // 101 s, 102 s; a third would end after 5 min.
        let (layer, seen) = retry(vec![fail(ModelErrorKind::Network, None); 10], RetryConfig::default());
        assert!(layer.complete(&request()).await.is_err());
        assert_eq!(seen.lock().unwrap().len(), 5);
        assert_eq!(layer.client.requests().len(), 6);
    }

    #[tokio::test(start_paused = true)]
    async fn a_broken_stream_begins_again_only_where_that_is_wanted() {
        let steps = || vec![Step::Cut("half".into()), Step::text("whole")];
        let (layer, _) = retry(steps(), RetryConfig::default());
        let texts: Vec<String> = layer
            .stream(&request())
            .await
            .unwrap()
            .map(|e| match e.unwrap() {
                ModelEvent::TextDelta(t) => t,
                other => format!("{}", matches!(other, ModelEvent::Done(_))),
            })
            .collect()
            .await;
        assert_eq!(texts, ["half", "whole", "true"]);
        let (layer, _) = retry(steps(), RetryConfig { restart_streams: false, ..RetryConfig::default() });
        assert_eq!(layer.complete(&request()).await.unwrap_err().kind(), ModelErrorKind::Network);
    }
}
