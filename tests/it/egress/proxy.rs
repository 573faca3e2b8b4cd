//! The proxy by itself: what gets through it, and where it leads.

use std::time::Duration;

use abca::egress::{Proxy, ProxyLimits};
use abca_core::egress::EgressMode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use super::{HELLO, Names, gate, noted, server, settings};

/// A proxy's socket.
struct Way {
    dir: tempfile::TempDir,
    _proxy: Proxy,
}

impl Way {
    fn open(gate: std::sync::Arc<abca::egress::Gate>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("s")).unwrap();
        Self { dir, _proxy: Proxy::start(listener, gate) }
    }

    /// Says something, and answers everything that comes back.
    async fn say(&self, text: &str) -> String {
        let mut stream = UnixStream::connect(self.dir.path().join("s")).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // A connection that is reset says no more.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    async fn connect(&self, target: &str) -> String {
        let answer = self.say(&format!("CONNECT {target} HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        answer.lines().next().unwrap_or_default().to_owned()
    }

    async fn get(&self, host: &str) -> String {
        let answer = self.say(&format!("GET http://{host}/a?b HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        answer.lines().next().unwrap_or_default().to_owned()
    }
}

#[tokio::test]
async fn a_listed_host_is_reached_at_the_checked_address_and_the_rest_is_refused() {
    let (port, heard) = server(HELLO).await;
    let (listed, here) = (format!("ok.test:{port}"), format!("127.0.0.1:{port}"));
    let names = Names::new(&[("ok.test", &[&["127.0.0.1"]])]);
    let (gate, ledger) = gate(settings(EgressMode::Enforce, &[&listed, &here]), names, ProxyLimits::default());
    let way = Way::open(gate);

    let answer = way.say(&format!("GET http://{listed}/a?b HTTP/1.1\r\nHost: {listed}\r\nX-Keep: 1\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("hello"), "{answer}");
    let tunnel = way.say(&format!("CONNECT {listed} HTTP/1.1\r\n\r\nGET /in HTTP/1.1\r\nHost: x\r\n\r\n")).await;
    assert!(tunnel.starts_with("HTTP/1.1 200 Connection established\r\n\r\nHTTP/1.1 200 OK"), "{tunnel}");
    assert_eq!(
        *heard.lock().unwrap(),
        [
            format!("GET /a?b HTTP/1.1\r\nHost: {listed}\r\nConnection: close\r\nX-Keep: 1\r\n\r\n"),
            "GET /in HTTP/1.1\r\nHost: x\r\n\r\n".to_owned()
        ]
    );
    assert_eq!(
        way.connect("evil.test:443").await,
        "HTTP/1.1 403 egress refused: `evil.test:443` is not on the allow-list"
    );
    assert_eq!(way.get("evil.test").await, "HTTP/1.1 403 egress refused: `evil.test:80` is not on the allow-list");
    assert_eq!(
        noted(&ledger),
        [
            format!("allowed {listed} GET"),
            "denied evil.test:443 CONNECT".to_owned(),
            "denied evil.test:80 GET".to_owned(),
            format!("allowed {listed} 1 more times"),
        ]
    );
    assert_eq!(heard.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn addresses_that_lead_elsewhere_are_refused_whoever_names_them_and_in_both_modes() {
    let (port, heard) = server(HELLO).await;
    let public = ["127.0.0.1", "::1", "169.254.169.254", "10.0.0.1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"];
    for mode in [EgressMode::Enforce, EgressMode::Observe] {
        for address in public {
            let names = Names::new(&[("ok.test", &[&["93.184.215.14", address]])]);
            let list = settings(mode, &[&format!("ok.test:{port}")]);
            let (gate, ledger) = gate(list, names, ProxyLimits::default());
            let answer = Way::open(gate).get(&format!("ok.test:{port}")).await;
            assert!(answer.starts_with("HTTP/1.1 403 egress refused: the address"), "{address}: {answer}");
            assert_eq!(noted(&ledger), [format!("denied ok.test:{port} GET")], "{address}");
        }
        let (gate, _) = gate(settings(mode, &[]), Names::new(&[]), ProxyLimits::default());
        let way = Way::open(gate);
        let literals = [format!("127.0.0.1:{port}"), format!("[::1]:{port}"), format!("[::ffff:127.0.0.1]:{port}")];
        for target in literals {
            assert!(way.connect(&target).await.starts_with("HTTP/1.1 403"), "{target}");
        }
        for odd in ["2130706433", "0x7f000001", "0177.0.0.1", "127.1", "127.0.0.1.", "0x7f.0.0.1"] {
            assert!(way.connect(&format!("{odd}:{port}")).await.starts_with("HTTP/1.1 400"), "{odd}");
            assert!(way.get(&format!("{odd}:{port}")).await.starts_with("HTTP/1.1 400"), "{odd}");
        }
    }
    assert_eq!(*heard.lock().unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn a_name_that_changes_its_address_is_checked_each_time() {
    let (port, heard) = server(HELLO).await;
    let (listed, here) = (format!("ok.test:{port}"), format!("127.0.0.1:{port}"));
    let names = Names::new(&[("ok.test", &[&["127.0.0.1"], &["127.0.0.2"]])]);
    let (gate, ledger) = gate(settings(EgressMode::Enforce, &[&listed, &here]), names, ProxyLimits::default());
    let way = Way::open(gate);
    assert_eq!(way.get(&listed).await, "HTTP/1.1 200 OK");
    assert!(way.get(&listed).await.starts_with("HTTP/1.1 403 egress refused: the address 127.0.0.2 is loopback"));
    assert_eq!(noted(&ledger), [format!("allowed {listed} GET"), format!("denied {listed} GET")]);
    assert_eq!(heard.lock().unwrap().len(), 1, "the address that was checked is the one that was used");
}

#[tokio::test]
async fn a_redirect_is_a_new_request_and_judged_as_one() {
    let to = "HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/latest/meta-data/\r\nConnection: close\r\n\r\n";
    let (port, _) = server(to).await;
    let (listed, here) = (format!("ok.test:{port}"), format!("127.0.0.1:{port}"));
    let names = Names::new(&[("ok.test", &[&["127.0.0.1"]])]);
    let (gate, ledger) = gate(settings(EgressMode::Observe, &[&listed, &here]), names, ProxyLimits::default());
    let way = Way::open(gate);
    assert_eq!(way.get(&listed).await, "HTTP/1.1 302 Found");
    assert!(
        way.get("169.254.169.254")
            .await
            .starts_with("HTTP/1.1 403 egress refused: the address 169.254.169.254 is metadata")
    );
    assert_eq!(noted(&ledger), [format!("allowed {listed} GET"), "denied 169.254.169.254:80 GET".to_owned()]);
}

#[tokio::test]
async fn an_observer_notes_what_a_list_would_need() {
    let (port, _) = server(HELLO).await;
    let here = format!("127.0.0.1:{port}");
    let names = Names::new(&[("new.test", &[&["127.0.0.1"]])]);
    let (gate, ledger) = gate(settings(EgressMode::Observe, &[&here]), names, ProxyLimits::default());
    let way = Way::open(gate);
    assert_eq!(way.get(&format!("new.test:{port}")).await, "HTTP/1.1 200 OK");
    assert!(way.get("gone.test").await.starts_with("HTTP/1.1 502"));
    assert_eq!(noted(&ledger), [format!("observed new.test:{port} GET"), "failed gone.test:80 GET".to_owned()]);
}

#[tokio::test]
async fn a_flood_of_denials_is_a_count() {
    let (gate, ledger) = gate(settings(EgressMode::Enforce, &[]), Names::new(&[]), ProxyLimits::default());
    let way = Way::open(gate);
    for number in 0..210 {
        way.get(&format!("leak-{number}.evil.test")).await;
    }
    for _ in 0..5 {
        way.get("leak-0.evil.test").await;
    }
    let noted = noted(&ledger);
    assert_eq!(noted.len(), 202);
    assert!(noted.contains(&"denied leak-0.evil.test:80 5 more times".to_owned()));
    assert_eq!(noted.last().unwrap(), "observed other hosts 10 more decisions");
}

#[tokio::test]
async fn heads_are_bounded_in_length_and_time() {
    let mut limits = ProxyLimits::default();
    limits.head = Duration::from_millis(50);
    let (gate, ledger) = gate(settings(EgressMode::Enforce, &[]), Names::new(&[]), limits);
    let way = Way::open(gate);
    let slow = way.say("GET http://a.b/ HTTP/1.1\r\nHost: a.b\r\n").await;
    assert!(slow.starts_with("HTTP/1.1 408"), "{slow}");
    let long = way.say(&format!("GET http://a.b/{} HTTP/1.1\r\n", "x".repeat(40 << 10))).await;
    assert!(long.starts_with("HTTP/1.1 431"), "{long}");
    let noise = way.say("\u{16}\u{3}\u{1} not HTTP").await;
    assert!(noise.starts_with("HTTP/1.1 400"), "{noise}");
    assert_eq!(noted(&ledger), ["denied request", "denied request 2 more times"]);
}

#[tokio::test]
async fn connections_end_when_nothing_moves_and_when_all_bytes_are_used() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let here = format!("127.0.0.1:{port}");
    let mut limits = ProxyLimits::default();
    limits.idle = Duration::from_millis(50);
    limits.out_bytes = 1_000;
    let (gate, ledger) = gate(settings(EgressMode::Enforce, &[&here]), Names::new(&[]), limits);
    let way = Way::open(gate);
    assert_eq!(way.connect(&here).await, "HTTP/1.1 200 Connection established");
    let flood = format!("CONNECT {here} HTTP/1.1\r\n\r\n{}", "x".repeat(2_000));
    assert_eq!(way.say(&flood).await.lines().next(), Some("HTTP/1.1 200 Connection established"));
    assert_eq!(
        noted(&ledger),
        [format!("allowed {here} CONNECT"), format!("denied {here}"), format!("allowed {here} 1 more times")]
    );
}

/// What curl says to `registry.example` first.
const CURL: &[u8] = include_bytes!("../../../fuzz/seeds/client_hello/curl");

#[tokio::test]
async fn a_tunnel_leads_to_the_host_that_tls_names() {
    for (mode, reaches) in [(EgressMode::Enforce, false), (EgressMode::Observe, true)] {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = silent.local_addr().unwrap().port();
        let (right, fronted) = (format!("registry.example:{port}"), format!("ok.test:{port}"));
        let list = settings(mode, &[&right, &fronted, &format!("127.0.0.1:{port}")]);
        let names = Names::new(&[("registry.example", &[&["127.0.0.1"]]), ("ok.test", &[&["127.0.0.1"]])]);
        let (gate, ledger) = gate(list, names, ProxyLimits::default());
        let way = Way::open(gate);
        for (target, passes) in [(&right, true), (&fronted, reaches)] {
            let mut client = UnixStream::connect(way.dir.path().join("s")).await.unwrap();
            client.write_all(format!("CONNECT {target} HTTP/1.1\r\n\r\n").as_bytes()).await.unwrap();
            let mut answer = [0; 39];
            client.read_exact(&mut answer).await.unwrap();
            // Cut, as a client that hopes for a proxy that looks at the first piece alone.
            let (first, rest) = CURL.split_at(100);
            client.write_all(first).await.unwrap();
            client.flush().await.unwrap();
            client.write_all(rest).await.unwrap();
            client.shutdown().await.unwrap();
            let (mut upstream, _) = silent.accept().await.unwrap();
            let mut came = Vec::new();
            upstream.read_to_end(&mut came).await.unwrap();
            assert_eq!(came, if passes { CURL } else { b"" }, "{target} {mode:?}");
            drop(upstream);
            let mut said = Vec::new();
            client.read_to_end(&mut said).await.unwrap();
            assert_eq!(said, if passes { &[][..] } else { &[21, 3, 3, 0, 2, 2, 112] }, "{target} {mode:?}");
        }
        let outcome = if reaches { "observed" } else { "denied" };
        assert_eq!(
            noted(&ledger),
            [
                format!("allowed {right} CONNECT"),
                format!("allowed {fronted} CONNECT"),
                format!("{outcome} {fronted} tunnel")
            ]
        );
    }
}

#[tokio::test]
async fn after_the_end_of_a_session_nothing_passes() {
    let (port, heard) = server(HELLO).await;
    let here = format!("127.0.0.1:{port}");
    let (gate, ledger) = gate(settings(EgressMode::Enforce, &[&here]), Names::new(&[]), ProxyLimits::default());
    let way = Way::open(gate);
    assert_eq!(way.get(&here).await, "HTTP/1.1 200 OK");
    assert_eq!(ledger.close().len(), 1);
    assert_eq!(way.get(&here).await, "HTTP/1.1 503 egress refused: the session is over");
    assert_eq!((heard.lock().unwrap().len(), noted(&ledger)), (1, Vec::new()));
}
