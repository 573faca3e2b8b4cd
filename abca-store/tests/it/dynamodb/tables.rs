//! Tables that are missing, somebody else's, or out of reach.

use abca_core::store::{StoreErrorKind, SubmitOutcome, TaskStore};
use abca_core::testing::fixtures::{submit, task};
use abca_store::DynamoDb;
use abca_store::dynamodb::definition;

use super::{config, fresh, raw, unused};

#[tokio::test]
async fn a_missing_table_is_named_with_what_to_do() {
    let table = unused();
    let error = DynamoDb::open(config(&table)).await.expect_err("nobody made it");
    assert_eq!(error.kind(), StoreErrorKind::Incompatible);
    assert!(error.message().contains(&format!("run `abca store init --store dynamodb:{table}`")), "{error}");
}

#[tokio::test]
async fn init_may_be_repeated_and_keeps_what_is_there() {
    let (table, store) = fresh().await;
    store.submit(&[submit(task(1))]).await.unwrap();
    let mut other = config(&table);
    other.shards = 7;
    let again = DynamoDb::init(other).await.unwrap();
    again.verify().await.unwrap();
    assert!(matches!(again.submit(&[submit(task(1))]).await.unwrap()[..], [SubmitOutcome::Existing(_)]));
    // It goes by what the table says, not by its own configuration: both find what the other writes.
    again.submit(&[submit(task(2))]).await.unwrap();
    let claim = abca_core::testing::fixtures::claim(1, abca_core::testing::fixtures::at(9_000), 9);
    assert_eq!(store.claim(&claim).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_table_made_from_the_definition_is_one() {
    let table = unused();
    raw("CreateTable", &definition(&table));
    let store = DynamoDb::init(config(&table)).await.unwrap();
    store.verify().await.unwrap();
}

#[tokio::test]
async fn somebody_elses_table_is_left_alone() {
    let table = unused();
    raw(
        "CreateTable",
        &format!(
            r#"{{"TableName":"{table}","BillingMode":"PAY_PER_REQUEST","AttributeDefinitions":[{{"AttributeName":"id","AttributeType":"S"}}],"KeySchema":[{{"AttributeName":"id","KeyType":"HASH"}}]}}"#
        ),
    );
    let error = DynamoDb::init(config(&table)).await.expect_err("it is another program's");
    assert_eq!(error.kind(), StoreErrorKind::Incompatible);
    let message = error.message();
    assert!(message.contains("its key is not `pk`, `sk`"), "{message}");
    assert!(message.contains("index `due` on `dk`, `da` is missing"), "{message}");
}

#[tokio::test]
async fn a_newer_table_is_refused_by_both_versions() {
    let (table, _) = fresh().await;
    let item = r#""Item":{"pk":{"S":"M#"},"sk":{"S":"0"},"version":{"N":"99"},"shards":{"N":"4"}}"#;
    raw("PutItem", &format!(r#"{{"TableName":"{table}",{item}}}"#));
    let error = DynamoDb::open(config(&table)).await.expect_err("it is newer");
    assert_eq!(error.kind(), StoreErrorKind::Incompatible);
    assert!(error.message().contains("has version 99, this program knows versions up to 2"), "{error}");
}

#[tokio::test]
async fn an_endpoint_where_nobody_listens_is_unavailable() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let mut config = config(&unused()).endpoint_url(endpoint);
    config.attempts = 1;
    let error = DynamoDb::open(config).await.expect_err("nobody is there");
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(error.message().contains("cannot be reached"), "{error}");
    assert!(!format!("{error:?}").contains("test-secret-key"));
}
