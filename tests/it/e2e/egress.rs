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
