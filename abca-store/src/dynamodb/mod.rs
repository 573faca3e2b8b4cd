//! Tasks in one DynamoDB table, for any number of processes anywhere.

mod commit;
mod config;
mod cut;
mod due;
mod edit;
mod error;
mod feed;
mod item;
mod kept;
mod lanes;
mod list;
mod locks;
mod log;
mod operator;
mod scopes;
mod signal;
mod submit;
mod table;
mod tasks;
mod told;
mod units;
mod wake;
mod wide;
mod wire;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use abca_core::event::Event;
use abca_core::id::{IdempotencyKey, WorkerId};
use abca_core::session::LogRecord;
use abca_core::store::{
    Append, AppendOutcome, ClaimQuery, Commit, CommitOutcome, EventQuery, ListQuery, LogQuery, NewSignal,
    OperatorStore, Release, Renewal, SignalOutcome, SlotUsage, StoreCapabilities, StoreError, StoreErrorKind, Submit,
    SubmitOutcome, TaskStore,
};
use abca_core::task::{Snapshot, Task};
use abca_core::{SessionId, TaskId, Timestamp, UserId};
use async_trait::async_trait;
use aws_credential_types::Credentials;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::{BehaviorVersion, Region, SharedCredentialsProvider};
use secrecy::ExposeSecret;
use tokio::sync::Mutex;

use due::Lag;
use item::{Item, Key, n, number, text};
use locks::Locks;
use units::Meter;
use wide::Remembered;
use wire::{Part, Wire};

pub use config::{DynamoDbConfig, DynamoDbKeys};
pub use cut::MOST_PARTS;
pub use scopes::{LONGEST_SCOPE, MOST_HOLDERS, MOST_SCOPES};
pub use table::{definition, policy};
pub use units::Units;

/// How long a new table is waited for.
const TABLE_WAIT: Duration = Duration::from_secs(120);

/// Tasks in one DynamoDB table.
#[doc = include_str!("README.md")]
#[derive(Debug)]
pub struct DynamoDb {
    wire: Wire,
    shards: u32,
    remembered: Remembered,
    locks: Locks,
    claiming: Mutex<()>,
    feeding: Mutex<()>,
    turns: feed::Turns,
    cuts: cut::Cuts,
    moment: AtomicU64,
}

impl DynamoDb {
    /// Opens a table that [`DynamoDb::init`] made.
    ///
    /// # Errors
    /// [`StoreErrorKind::Incompatible`] when there is no such table, or another program's, or a newer version's;
    /// [`StoreErrorKind::Invalid`] for a configuration that cannot be; else what the service says.
    pub async fn open(config: DynamoDbConfig) -> Result<Self, StoreError> {
        let client = client(&config, "open").await?;
        let mut store = Self::new(client, config, 1);
        store.shards = store.known_shards("open").await?;
        Ok(store)
    }

    /// Makes the table if it is not there, checks it if it is, and opens it. Idempotent; needs
    /// `dynamodb:CreateTable` and `dynamodb:DescribeTable`.
    ///
    /// # Errors
    /// As [`DynamoDb::open`]; [`StoreErrorKind::Incompatible`] also when keys or indexes are others than this program's.
    pub async fn init(config: DynamoDbConfig) -> Result<Self, StoreError> {
        const OP: &str = "init";
        let client = client(&config, OP).await?;
        let (table, shards) = (config.table.clone(), config.shards);
        let made = table::create(&client, &table).await?;
        let mut waited = Duration::ZERO;
        while table::check(&client, &table, OP).await?.is_none() {
            if waited > TABLE_WAIT {
                let message = format!("table `{table}` is still being made after {} s; repeat later", waited.as_secs());
                return Err(StoreError::new(StoreErrorKind::Unavailable, OP, message));
            }
            let pause = Duration::from_millis(if waited.is_zero() { 100 } else { 2_000 });
            tokio::time::sleep(pause).await;
            waited += pause;
        }
        if made {
            tracing::info!(table, "the table is made: switch on point-in-time recovery for it");
        }
        let mut store = Self::new(client, config, shards);
        let mut item = Key::table().item();
        item.insert("version".to_owned(), n(table::VERSION));
        item.insert("shards".to_owned(), n(shards));
        store.wire.write(OP, Part::Put { item, unless: "attribute_not_exists(pk)", index: 0 }).await?;
        store.shards = store.known_shards(OP).await?;
        Ok(store)
    }

    /// Checks keys, indexes and version of the table, and changes nothing; needs `dynamodb:DescribeTable`.
    ///
    /// # Errors
    /// [`StoreErrorKind::Incompatible`] naming everything that is not as it should be.
    pub async fn verify(&self) -> Result<(), StoreError> {
        const OP: &str = "verify";
        let table = &self.wire.table;
        if table::check(&self.wire.client, table, OP).await?.is_none() {
            let message = format!("table `{table}` or an index of it is being made or changed; repeat later");
            return Err(StoreError::new(StoreErrorKind::Unavailable, OP, message));
        }
        self.known_shards(OP).await.map(drop)
    }

    /// What this handle has used so far, by the kind of call.
    pub fn units(&self) -> BTreeMap<&'static str, Units> {
        self.wire.meter.so_far()
    }

    fn new(client: Client, config: DynamoDbConfig, shards: u32) -> Self {
        Self {
            wire: Wire { client, table: config.table, meter: Meter::default() },
            shards,
            remembered: Remembered::default(),
            locks: Locks::new(),
            claiming: Mutex::new(()),
            feeding: Mutex::new(()),
            turns: feed::Turns::default(),
            cuts: cut::Cuts::new(config.cut_from, config.slots_a_part),
            moment: AtomicU64::new(0),
        }
    }

    /// What the table says of itself.
    async fn known_shards(&self, op: &'static str) -> Result<u32, StoreError> {
        let table = &self.wire.table;
        let wrong = |what: String| Err(StoreError::new(StoreErrorKind::Incompatible, op, what));
        let Some(item) = self.wire.get(op, &Key::table()).await? else {
            return wrong(format!(
                "table `{table}` was not made by abca, or not to the end; run `abca store init --store dynamodb:{table}`"
            ));
        };
        match (number::<u32>(&item, "version"), number::<u32>(&item, "shards")) {
            (Some(found), _) if found < table::VERSION => wrong(format!(
                "table `{table}` has version {found}, of a program that was never released; make another table"
            )),
            (Some(found), _) if found > table::VERSION => wrong(format!(
                "table `{table}` has version {found}, this program knows versions up to {}; use a newer abca, or another table",
                table::VERSION
            )),
            (Some(_), Some(shards)) if (1..=256).contains(&shards) => Ok(shards),
            _ => wrong(format!(
                "the item `M#` of table `{table}` is not what abca wrote; restore it, or use another table"
            )),
        }
    }

    /// Microseconds since the epoch, growing with every call: the order of acceptance and of taking slots within this
    /// process. Between processes it is as good as their clocks, so whoever needs more looks at what is there too.
    fn moment(&self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros());
        let now = u64::try_from(now).unwrap_or(u64::MAX / 2);
        let next = |last: u64| Some(now.max(last.saturating_add(1)));
        match self.moment.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next) {
            Ok(last) | Err(last) => now.max(last.saturating_add(1)),
        }
    }

    /// Removes everything of a partition but its main item.
    async fn remove_partition(&self, op: &'static str, main: &Key) -> Result<(), StoreError> {
        let ask = wire::Ask { index: None, hash: ("pk", main.pk.clone()), range: None, forward: true, limit: 1_000 };
        loop {
            let (items, next) = self.wire.page(op, &ask, None).await?;
            let keys: Vec<Key> = items.iter().filter_map(Key::of).filter(|key| key != main).collect();
            let none = keys.is_empty();
            self.wire.delete_all(op, &keys).await?;
            if none || next.is_none() {
                return Ok(());
            }
        }
    }
}

async fn client(config: &DynamoDbConfig, op: &'static str) -> Result<Client, StoreError> {
    if let Some(fault) = config.fault() {
        return Err(error::invalid(op, fault));
    }
    let version = BehaviorVersion::latest();
    let credentials = config.keys.as_ref().map(|k| {
        let token = k.session_token.as_ref().map(|t| t.expose_secret().to_owned());
        let secret = k.secret_access_key.expose_secret();
        SharedCredentialsProvider::new(Credentials::new(k.access_key_id.clone(), secret, token, None, "abca"))
    });
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(config.connect_timeout)
        .read_timeout(config.timeout)
        .operation_attempt_timeout(config.timeout)
        .build();
    let mut builder = match (&config.region, credentials) {
        (Some(_), Some(keys)) => {
            aws_sdk_dynamodb::Config::builder().behavior_version(version).credentials_provider(keys)
        }
        (_, keys) => {
            let mut loader = aws_config::defaults(version);
            if let Some(profile) = &config.profile {
                loader = loader.profile_name(profile);
            }
            if let Some(keys) = keys {
                loader = loader.credentials_provider(keys);
            }
            let shared = loader.load().await;
            if config.region.is_none() && shared.region().is_none() {
                let message = "no aws region; set AWS_REGION, or `region` in the profile";
                return Err(error::invalid(op, message));
            }
            aws_sdk_dynamodb::config::Builder::from(&shared)
        }
    };
    if let Some(region) = &config.region {
        builder = builder.region(Region::new(region.clone()));
    }
    if let Some(url) = &config.endpoint_url {
        builder = builder.endpoint_url(url);
    }
    let retries = RetryConfig::standard().with_max_attempts(config.attempts.max(1));
    Ok(Client::from_conf(builder.retry_config(retries).timeout_config(timeouts).build()))
}

#[async_trait]
impl TaskStore for DynamoDb {
    fn name(&self) -> &'static str {
        "dynamodb"
    }

    fn capabilities(&self) -> StoreCapabilities {
        StoreCapabilities::new(true, true)
    }

    async fn submit(&self, batch: &[Submit]) -> Result<Vec<SubmitOutcome>, StoreError> {
        self.submit_all(batch).await
    }

    async fn commit(&self, batch: &[Commit]) -> Result<Vec<CommitOutcome>, StoreError> {
        self.commit_all(batch).await
    }

    async fn claim(&self, query: &ClaimQuery) -> Result<Vec<Snapshot>, StoreError> {
        match query.task {
            _ if query.limit == 0 => Ok(Vec::new()),
            Some(id) => Ok(self.claim_one(id, None, query).await?.into_iter().collect()),
            None => self.claim_due(query).await,
        }
    }

    async fn renew(&self, batch: &[Renewal]) -> Result<Vec<bool>, StoreError> {
        let mut renewed = Vec::with_capacity(batch.len());
        for r in batch {
            renewed.push(self.change("renew", r.task, Lag::Never, |k| k.row.renew(r)).await?.unwrap_or(false));
        }
        Ok(renewed)
    }

    async fn expire(&self, workers: &[WorkerId], now: Timestamp) -> Result<u64, StoreError> {
        self.expire_leases(workers, now).await
    }

    async fn release(&self, batch: &[Release]) -> Result<Vec<bool>, StoreError> {
        let mut released = Vec::with_capacity(batch.len());
        for r in batch {
            released.push(self.change("release", r.task, Lag::Never, |k| k.row.release(r)).await?.unwrap_or(false));
        }
        Ok(released)
    }

    async fn signal(&self, batch: &[NewSignal]) -> Result<Vec<SignalOutcome>, StoreError> {
        self.signal_all(batch).await
    }

    async fn append(&self, batch: &[Append]) -> Result<Vec<AppendOutcome>, StoreError> {
        self.append_all(batch).await
    }

    async fn heartbeat(&self, task: TaskId, session: &SessionId, now: Timestamp) -> Result<bool, StoreError> {
        self.beat(task, session, now).await
    }

    async fn load(&self, ids: &[TaskId]) -> Result<Vec<Option<Snapshot>>, StoreError> {
        let kept = self.readable("load", ids.iter().copied()).await?;
        Ok(ids.iter().map(|id| kept.get(id).map(|k| k.row.snapshot.clone())).collect())
    }

    async fn find(&self, user: &UserId, key: &IdempotencyKey) -> Result<Option<TaskId>, StoreError> {
        let found: Option<Item> = self.wire.get("find", &Key::idempotency(user, key)).await?;
        let Some(item) = found else { return Ok(None) };
        match text(&item, "id").and_then(|id| id.parse().ok()) {
            Some(id) => Ok(Some(id)),
            None => Err(error::corrupt("find", "an idempotency key", "it names no task")),
        }
    }

    async fn events(&self, query: &EventQuery) -> Result<Vec<Event>, StoreError> {
        self.events_of(query).await
    }

    async fn log(&self, query: &LogQuery) -> Result<Vec<(u64, LogRecord)>, StoreError> {
        self.log_of(query).await
    }

    async fn list(&self, query: &ListQuery) -> Result<Vec<Task>, StoreError> {
        self.listed(query).await
    }

    async fn slots(&self) -> Result<Vec<SlotUsage>, StoreError> {
        self.usage().await
    }

    async fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        self.earliest_due().await
    }

    fn operator(&self) -> &dyn OperatorStore {
        self
    }
}
