//! Drives the service through Restate's ingress: `restate_drive SECONDS IN_FLIGHT URL`.

use std::sync::Arc;

use abca_durable_peers::{lives, number};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

#[tokio::main]
async fn main() {
    let url: Arc<str> = std::env::args().nth(3).expect("an URL").into();
    let client: Client<_, Full<Bytes>> =
        Client::builder(TokioExecutor::new()).pool_max_idle_per_host(2_000).build_http();
    let run = std::process::id();
    lives("restate", number(1, 5), number(2, 16), move |i| {
        let (client, url) = (client.clone(), url.clone());
        async move {
            let request = hyper::Request::post(&*url)
                .header("content-type", "application/json")
                .header("idempotency-key", format!("{run}-{i}"))
                .body(Full::new(Bytes::from(i.to_string())))
                .unwrap();
            let reply = client.request(request).await.unwrap();
            assert!(reply.status().is_success(), "{}", reply.status());
            reply.into_body().collect().await.unwrap();
        }
    })
    .await;
}
