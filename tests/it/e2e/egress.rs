//! `--network proxy`: a whole task whose tools reach what is listed, and nothing else.

use std::io::{Read, Write};
use std::net::TcpListener;

use super::place::{FIX, Place};

/// A server on the machine's loopback interface; answers its port.
fn server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nright");
        }
    });
    port
}

#[test]
fn a_task_reaches_what_is_listed_and_each_decision_is_an_event() {
    let place = Place::new();
    let repo = place.sample("repo");
    let port = server();
    let asks = r#"{"abca_trajectory": 1}
{"say": "I fetch it.", "calls": [{"name": "Bash", "input": {"command": "ask() { exec 3<>/dev/tcp/127.0.0.1/3128 && printf \"$1 HTTP/1.1\\r\\nHost: $2\\r\\n\\r\\n\" >&3 && cat <&3; }; ask 'GET http://127.0.0.1:PORT/' 127.0.0.1:PORT > file.txt; ask 'CONNECT 169.254.169.254:80' 169.254.169.254:80; ask 'CONNECT evil.example:443' evil.example:443; git commit -qam 'fix: fetched'"}}]}
{"expect": ["403 egress refused: `169.254.169.254:80` is not on the allow-list"], "say": "The file is right now."}
"#;
    let list = format!("127.0.0.1:{port}");
    let (ran, json) = place.task_json(
        &repo,
        &asks.replace("PORT", &port.to_string()),
        &["--test", "sh check.sh", "--network", "proxy", "--allow-host", &list, "--allow-host", "*.example.com"],
    );
    ran.ends(0);
    let task = json["outcome"]["task_id"].as_str().unwrap();
    let events = place.run(["events", task, "--output", "json"]).json();
    let told: Vec<String> = events
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["metadata"]["stage"] == "egress")
        .map(|event| format!("{} {}", event["metadata"]["outcome"], event["metadata"]["subject"]).replace('"', ""))
        .collect();
    assert_eq!(
        told,
        [format!("allowed {list}"), "denied 169.254.169.254:80".to_owned(), "denied evil.example:443".to_owned()]
    );
}

#[test]
fn a_list_that_would_have_no_effect_is_refused() {
    let place = Place::new();
    let repo = place.sample("repo");
    let refused = |args: &[&str], says: &str| {
        place.task(&repo, FIX, args).fails(2, &[says]);
    };
    refused(&["--allow-host", "a.b"], "add `--network proxy`");
    refused(&["--network", "host", "--egress", "observe"], "add `--network proxy`");
    refused(&["--network", "proxy", "--unsandboxed"], "needs walls");
    refused(&["--network", "proxy", "--allow-host", "*"], "a `*` stands only at the beginning");
    refused(&["--network", "proxy", "--allow-host", "10.0.0.1"], "its port has to be named");
}

/// A registry with TLS of its own that shows the request it got, and the file of its authority.
#[cfg(feature = "web")]
fn registry(dir: &std::path::Path) -> (u16, String) {
    use crate::egress::secure::Authority;

    let (says, hears) = std::sync::mpsc::channel();
    let file = dir.join("authority.pem");
    let path = file.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let authority = Authority::new();
            authority.write(&path);
            let (port, _heard) = authority.server(&["localhost"]).await;
            says.send(port).unwrap();
            std::future::pending::<()>().await;
        });
    });
    (hears.recv().unwrap(), file.to_str().unwrap().to_owned())
}

#[cfg(feature = "web")]
#[test]
fn a_private_registry_is_used_and_its_token_is_seen_by_nobody() {
    const TOKEN: &str = "tok-4711-of-the-registry";
    let place = Place::new();
    let repo = place.sample("repo");
    let dir = tempfile::tempdir().unwrap();
    let (port, authority) = registry(dir.path());
    let file = dir.path().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    // The server shows what it got, in plain and in another form; and the tools look for it everywhere.
    let asks = r#"{"abca_trajectory": 1}
{"say": "I fetch it.", "calls": [{"name": "Bash", "input": {"command": "curl -sS --noproxy '' https://localhost:PORT/x | tee /tmp/got.txt; base64 /tmp/got.txt; printf right > file.txt; git commit -qam 'fix: fetched'; env; cat /proc/*/cmdline 2>/dev/null | tr '\\0' ' '; cat /tmp/egress-authorities.pem | tail -1; true"}}]}
{"expect": ["GET /x HTTP/1.1", "authorization: Bearer [", "SSL_CERT_FILE=/tmp/egress-authorities.pem", "-----END CERTIFICATE-----"], "say": "The file is right now."}
"#;
    let ways = [format!("127.0.0.1:{port}"), format!("[::1]:{port}")];
    let credential = format!("https://localhost:{port}=bearer:file:{}", file.display());
    let (ran, json) = place.task_json(
        &repo,
        &asks.replace("PORT", &port.to_string()),
        &[
            "--test",
            "sh check.sh",
            "--network",
            "proxy",
            "--allow-host",
            &ways[0],
            "--allow-host",
            &ways[1],
            "--credential",
            &credential,
            "--egress-ca",
            &authority,
        ],
    );
    ran.ends(0);
    let task = json["outcome"]["task_id"].as_str().unwrap();
    let told = place.run(["events", task, "--output", "json"]).json().to_string();
    assert!(
        told.contains(&format!("https://localhost:{port}")) && told.contains("credential `authorization` was added")
    );
    assert!(!told.contains(TOKEN));
    assert!(!json.to_string().contains(TOKEN));
}

#[test]
fn a_credential_without_value_or_place_is_refused() {
    let place = Place::new();
    let repo = place.sample("repo");
    let refused = |args: &[&str], says: &str| {
        place.task(&repo, FIX, args).fails(2, &[says]);
    };
    let proxy = ["--network", "proxy", "--credential"];
    refused(&["--credential", "https://a.b=bearer:env:ABCA_NO_SUCH"], "add `--network proxy`");
    refused(&[&proxy[..], &["https://a.b=bearer:env:ABCA_NO_SUCH"]].concat(), "the variable `ABCA_NO_SUCH` is not set");
    refused(&[&proxy[..], &["https://a.b=bearer:file:/no/such/file"]].concat(), "`/no/such/file` cannot be read");
    refused(&[&proxy[..], &["https://a.b=bearer"]].concat(), "end with `:env:NAME` or `:file:PATH`");
    refused(&[&proxy[..], &["https://*.b.c=bearer:env:X"]].concat(), "name one host");
}
