//! A link to the server that can be cut off without anybody being told, as by a firewall.

use std::sync::Arc;

use abca_core::store::{SubmitOutcome, TaskStore};
use abca_core::testing::fixtures::{at, claim, submit, task, task_id};
use abca_store::{Postgres, PostgresConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::Schema;

/// Passes bytes on while the link is there; holds them back while it is not.
async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, mut there: watch::Receiver<bool>) {
    let mut bytes = vec![0; 16 * 1024];
    while let Ok(n) = from.read(&mut bytes).await {
        if n == 0 || there.wait_for(|there| *there).await.is_err() || to.write_all(&bytes[..n]).await.is_err() {
            return;
        }
    }
}

/// A link to the server of a URL: the URL through it, and the switch.
async fn link(url: &str) -> (String, Arc<watch::Sender<bool>>) {
    let (head, rest) = url.split_once('@').unwrap();
    let (place, path) = rest.split_once('/').unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let through = format!("{head}@{}/{path}", listener.local_addr().unwrap());
    let switch = Arc::new(watch::Sender::new(true));
    let (place, there) = (place.to_owned(), switch.subscribe());
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let Ok(far) = TcpStream::connect(&place).await else { continue };
            let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
            tokio::spawn(pass(near_in, far_out, there.clone()));
            tokio::spawn(pass(far_in, near_out, there.clone()));
        }
    });
    (through, switch)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_is_told_in_time_and_loses_and_doubles_nothing() {
    let schema = Schema::new().await;
    let (url, switch) = link(schema.url()).await;
    let mut config = PostgresConfig::new(&url).unwrap();
    (config.answer_timeout_ms, config.connect_timeout_ms) = (300, 300);
    let cut_off = Postgres::open_with(config).await.unwrap();
    let other = schema.open().await;
    cut_off.submit(&[submit(task(1))]).await.unwrap();
    let [mine] = &cut_off.claim(&claim(1, at(10), 1)).await.unwrap()[..] else { panic!("task 1 is due") };
    for n in 2..=5 {
        switch.send_replace(false);
        let batch = [submit(task(n))];
        let error = cut_off.submit(&batch).await.unwrap_err();
        assert!(error.is_retryable() || error.kind() == abca_core::store::StoreErrorKind::Unknown, "{error}");
        assert!(cut_off.load(&[task_id(1)]).await.unwrap_err().is_retryable());
        // Others go on meanwhile; also with what the one that is cut off has begun.
        other.submit(&[submit(task(100 + n))]).await.unwrap();
        switch.send_replace(true);
        let again = loop {
            match cut_off.submit(&batch).await {
                Ok(outcomes) => break outcomes,
                Err(error) => assert!(
                    error.is_retryable() || error.kind() == abca_core::store::StoreErrorKind::Unknown,
                    "{error}"
                ),
            }
        };
        assert!(matches!(again[..], [SubmitOutcome::Created(_) | SubmitOutcome::Existing(_)]), "{again:?}");
    }
    let theirs = other.claim(&claim(2, at(100_000), 100)).await.unwrap();
    let theirs: Vec<_> = theirs.iter().map(|s| (s.id(), s.epoch)).collect();
    assert_eq!(theirs.len(), 9, "each once: {theirs:?}");
    assert!(theirs.contains(&(task_id(1), mine.epoch + 1)), "taken over: {theirs:?}");
}
