//! Requests that two programs could read differently never reach a host.

use std::sync::Arc;

use abca::egress::{Proxy, ProxyLimits};
use abca_core::egress::EgressMode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use super::{HELLO, Names, gate, server, settings};

#[tokio::test]
async fn ambiguous_requests_are_answered_with_400_and_reach_nobody() {
    let (port, heard) = server(HELLO).await;
    let at = format!("ok.test:{port}");
    let names = Names::new(&[("ok.test", &[&["127.0.0.1"]])]);
    let list = settings(EgressMode::Enforce, &[&at, &format!("127.0.0.1:{port}")]);
    let (gate, _) = gate(list, names, ProxyLimits::default());
    let dir = tempfile::tempdir().unwrap();
    let _proxy = Proxy::start(UnixListener::bind(dir.path().join("s")).unwrap(), Arc::clone(&gate));
    let said = async |text: String| {
        let mut stream = UnixStream::connect(dir.path().join("s")).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).get(..12).unwrap_or_default().to_owned()
    };
    let bad = [
        format!("GET http://{at}/ HTTP/1.1\r\nHost: other.test\r\n\r\n"),
        format!("GET http://{at}/ HTTP/1.1\r\nHost: {at}\r\nHost: other.test\r\n\r\n"),
        format!("GET http://other.test@{at}/ HTTP/1.1\r\nHost: {at}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {at}\r\n\r\n"),
        format!(
            "POST http://{at}/ HTTP/1.1\r\nHost: {at}\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        ),
        format!("POST http://{at}/ HTTP/1.1\r\nHost: {at}\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"),
        format!("POST http://{at}/ HTTP/1.1\r\nHost: {at}\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
        format!("CONNECT {at} HTTP/1.1\r\nHost: other.test:443\r\n\r\n"),
        format!("TRACE http://{at}/ HTTP/1.1\r\nHost: {at}\r\n\r\n"),
    ];
    for request in bad {
        assert_eq!(said(request.clone()).await, "HTTP/1.1 400", "{request:?}");
    }
    assert_eq!(*heard.lock().unwrap(), Vec::<String>::new());
    // A second request behind the first goes nowhere.
    let two = format!(
        "GET http://{at}/1 HTTP/1.1\r\nHost: {at}\r\n\r\nGET http://other.test/2 HTTP/1.1\r\nHost: other.test\r\n\r\n"
    );
    assert_eq!(said(two).await, "HTTP/1.1 200");
    assert_eq!(*heard.lock().unwrap(), [format!("GET /1 HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n")]);
}
