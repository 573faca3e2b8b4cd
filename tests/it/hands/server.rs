//! A server that dies, and many calls at once.

use std::process::Stdio;
use std::time::Instant;

use abca::session::hands::{Client, ExecEnd, ExecRequest, HANDS_ARG, Hands, HandsConfig, HandsErrorKind};
use serde_json::json;

use super::{OwnProcess, Scene, said};

#[tokio::test]
async fn a_death_fails_what_is_in_flight_and_the_next_call_has_new_hands() {
    let scene = Scene::new();
    let hands = scene.hands();
    let client = hands.client().await.unwrap();
    let line = format!("kill -9 {}; sleep 60", client.info().pid);
    let (one, two) = tokio::join!(
        client.exec(ExecRequest::shell(line), |_| {}),
        client.exec(ExecRequest::shell("sleep 60"), |_| {})
    );
    assert_eq!((one.unwrap_err().kind(), two.unwrap_err().kind()), (HandsErrorKind::Died, HandsErrorKind::Died));
    assert_eq!(client.ping().await.unwrap_err().kind(), HandsErrorKind::Died);
    assert!(client.died().await.needs_restart());
    let again = hands.client().await.unwrap();
    assert_eq!(again.exec(ExecRequest::shell("echo on"), |_| {}).await.unwrap().stdout.text(), "on\n");
    assert_eq!(hands.starts().await, 2);
}

#[tokio::test]
async fn as_process_one_of_a_namespace_the_server_survives_killing_everything() {
    let scene = Scene::new();
    let mut bwrap = tokio::process::Command::new("bwrap")
        .args(["--dev-bind", "/", "/", "--unshare-pid", "--as-pid-1", "--proc", "/proc", "--die-with-parent", "--"])
        .arg(std::env::current_exe().unwrap())
        .arg(HANDS_ARG)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let (from, to) = (bwrap.stdout.take().unwrap(), bwrap.stdin.take().unwrap());
    let client = Client::connect(from, to, &scene.config()).await.unwrap();
    assert_eq!(client.info().pid, 1);
    let other = client.clone();
    let two = tokio::spawn(async move {
        other.exec(ExecRequest::shell("touch up; setsid sleep 60 & sleep 60").timeout(None), |_| {}).await
    });
    while client.stat("up").await.is_err() {
        tokio::task::yield_now().await;
    }
    let one = client.exec(ExecRequest::shell("kill -9 -1; sleep 60"), |_| {}).await;
    // The killer is spared by its own signal, but dies with its supervisor.
    assert_eq!((one.unwrap().end, two.await.unwrap().unwrap().end), (ExecEnd::Lost, ExecEnd::Lost));
    let left = client.exec(ExecRequest::shell("ls -d /proc/[0-9]* | wc -l"), |_| {}).await.unwrap().stdout.text();
    // The server, a supervisor, the shell, ls and wc.
    assert!(left.trim().parse::<u32>().unwrap() <= 5, "{left}");
}

#[tokio::test]
async fn hands_that_die_for_ever_are_given_up() {
    let scene = Scene::new();
    let hands = scene.hands().most_starts(2);
    for _ in 0..2 {
        let client = hands.client().await.unwrap();
        let line = format!("kill -9 {}; sleep 60", client.info().pid);
        client.exec(ExecRequest::shell(line), |_| {}).await.unwrap_err();
    }
    let e = hands.client().await.unwrap_err();
    assert_eq!(
        (e.kind(), e.message()),
        (HandsErrorKind::Launch, "they were started 2 times already and died each time")
    );
}

#[tokio::test]
async fn a_configuration_that_does_not_hold_is_refused() {
    let e = Hands::new(OwnProcess, HandsConfig::new("/no/such/tree")).client().await.unwrap_err();
    assert_eq!(e.kind(), HandsErrorKind::Refused);
    assert!(e.message().starts_with("the work tree `/no/such/tree` is not there"), "{e}");
}

#[tokio::test]
async fn twenty_tools_at_once() {
    let scene = Scene::new();
    scene.file("a.txt", "alpha\n");
    let hands = scene.hands();
    let client = hands.client().await.unwrap();
    let calls = (0..20).map(|i| {
        let client = client.clone();
        tokio::spawn(async move {
            match i % 4 {
                0 => said(&client, "Bash", json!({"command": format!("sleep 0.2; echo {i}")})).await,
                1 => said(&client, "Read", json!({"file_path": "a.txt"})).await,
                2 => said(&client, "Grep", json!({"pattern": "alpha"})).await,
                _ => said(&client, "Write", json!({"file_path": format!("{i}.bin"), "content": ""})).await,
            }
        })
    });
    for (i, done) in calls.collect::<Vec<_>>().into_iter().enumerate() {
        let want = match i % 4 {
            0 => format!("{i}\n"),
            1 => "     1\talpha\n".into(),
            2 => "a.txt\n".into(),
            _ => format!("[`{i}.bin` made: 0 lines, 0 bytes]"),
        };
        assert_eq!(done.await.unwrap(), want);
    }
}

/// Not a test: prints what a call costs. `cargo test -p abca --test it -- --ignored --nocapture cost_of_a_call`
#[tokio::test]
#[ignore = "a measurement"]
async fn cost_of_a_call() {
    let scene = Scene::new();
    scene.file("a.txt", "alpha\n");
    let hands = scene.hands();
    let client = hands.client().await.unwrap();
    let mut report = Vec::new();
    for what in ["ping", "Read", "Edit", "true (bare)", "true (argv)", "true (bash -c)"] {
        let mut took = Vec::new();
        for i in 0..300u32 {
            let start = Instant::now();
            match what {
                "ping" => client.ping().await.unwrap(),
                "Read" => drop(said(&client, "Read", json!({"file_path": "a.txt"})).await),
                "Edit" => {
                    let (old, new) = if i % 2 == 0 { ("alpha", "beta") } else { ("beta", "alpha") };
                    drop(
                        said(&client, "Edit", json!({"file_path": "a.txt", "old_string": old, "new_string": new}))
                            .await,
                    );
                }
                // What starting a process costs anyway.
                "true (bare)" => drop(tokio::process::Command::new("true").output().await.unwrap()),
                "true (argv)" => {
                    let done = client.exec(ExecRequest::argv(["true"]), |_| {}).await.unwrap();
                    assert_eq!(done.end, ExecEnd::Exited(0));
                }
                _ => drop(client.exec(ExecRequest::shell("true"), |_| {}).await.unwrap()),
            }
            took.push(start.elapsed());
        }
        took.sort();
        report.push(format!("{what:<16} median {:>9.1?}  p95 {:>9.1?}", took[150], took[285]));
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", client.info().pid)).unwrap();
    report.extend(status.lines().filter(|l| l.starts_with("VmRSS") || l.starts_with("RssAnon")).map(str::to_owned));
    println!("{}", report.join("\n"));
}
