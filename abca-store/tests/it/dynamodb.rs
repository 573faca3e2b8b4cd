//! The DynamoDB store against an emulator, each test in a table of its own. `ABCA_TEST_DYNAMODB` names the endpoint:
//! `scripts/dynamodb` starts one and prints it.

mod costs;
mod cut;
mod days;
mod feed;
mod model;
mod races;
mod tables;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use abca_core::store::TaskStore;
use abca_core::testing::store::{StoreHarness, cases, run};
use abca_store::dynamodb::DynamoDbKeys;
use abca_store::{DynamoDb, DynamoDbConfig};
use async_trait::async_trait;

/// How to reach a table of the emulator.
fn config(table: &str) -> DynamoDbConfig {
    let endpoint = std::env::var("ABCA_TEST_DYNAMODB").unwrap_or_default();
    assert!(
        !endpoint.is_empty(),
        "ABCA_TEST_DYNAMODB is not set: run these tests with ABCA_TEST_DYNAMODB=\"$(scripts/dynamodb)\""
    );
    let keys = DynamoDbKeys::new("test", "test-secret-key".to_owned());
    DynamoDbConfig::table(table).region("us-east-1").endpoint_url(endpoint).keys(keys)
}

/// The same where every scope without an order is cut, into parts of one slot.
fn in_parts(table: &str) -> DynamoDbConfig {
    let mut config = config(table);
    (config.cut_from, config.slots_a_part) = (1, 1);
    config
}

/// A name that no other test has, in this run or another.
fn unused() -> String {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let next = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    format!("abca-test-{now}-{}-{next}", std::process::id())
}

async fn fresh() -> (String, DynamoDb) {
    let table = unused();
    let store = DynamoDb::init(config(&table)).await.unwrap();
    (table, store)
}

/// A request that knows nothing of abca: what an operator does by hand. Answers the body.
fn raw(action: &str, body: &str) -> String {
    let endpoint = config("raw").endpoint_url.unwrap();
    let host = endpoint.strip_prefix("http://").expect("an emulator on this machine").trim_end_matches('/').to_owned();
    let mut stream = TcpStream::connect(&host).unwrap();
    let length = body.len();
    let request = format!(
        "POST / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: application/x-amz-json-1.0\r\n\
         X-Amz-Target: DynamoDB_20120810.{action}\r\nX-Amz-Date: 20260101T000000Z\r\n\
         Authorization: AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/dynamodb/aws4_request, \
         SignedHeaders=host;x-amz-date, Signature=0\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{action}: {answer}");
    answer.split_once("\r\n\r\n").expect("a body").1.to_owned()
}

/// Stores in tables of their own, found again by the store's address.
struct Tables {
    known: Mutex<BTreeMap<usize, String>>,
    config: fn(&str) -> DynamoDbConfig,
}

impl Tables {
    fn new(config: fn(&str) -> DynamoDbConfig) -> Self {
        Self { known: Mutex::default(), config }
    }

    fn keep(&self, table: String, store: DynamoDb) -> Arc<dyn TaskStore> {
        let store = Arc::new(store);
        self.known.lock().unwrap().insert(Arc::as_ptr(&store) as usize, table);
        store
    }

    fn known(&self, store: &Arc<dyn TaskStore>) -> String {
        let address = Arc::as_ptr(store).cast::<()>() as usize;
        self.known.lock().unwrap().get(&address).expect("a store of this harness").clone()
    }
}

#[async_trait]
impl StoreHarness for Tables {
    async fn fresh(&self) -> Arc<dyn TaskStore> {
        let table = unused();
        let store = DynamoDb::init((self.config)(&table)).await.unwrap();
        self.keep(table, store)
    }

    async fn reopen(&self, store: Arc<dyn TaskStore>) -> Arc<dyn TaskStore> {
        self.second(&store).await
    }

    async fn second(&self, store: &Arc<dyn TaskStore>) -> Arc<dyn TaskStore> {
        let table = self.known(store);
        let opened = DynamoDb::open((self.config)(&table)).await.unwrap();
        self.keep(table, opened)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dynamodb_keeps_the_contract() {
    let report = run(&Tables::new(config), &[]).await;
    assert_eq!(report.passed, cases());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dynamodb_keeps_the_contract_where_scopes_are_cut() {
    let report = run(&Tables::new(in_parts), &[]).await;
    assert_eq!(report.passed, cases());
}
