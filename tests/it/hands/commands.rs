//! Commands: how they end, and that nothing of them stays.

use std::collections::BTreeMap;

use abca::session::hands::{Client, ExecEnd, ExecRequest, HandsErrorKind};
use abca_core::Millis;
use serde_json::json;
use tokio::sync::oneshot;

use super::{Scene, running, said, server_process};

/// A word that no other process has on its command line, as a number for `sleep`.
fn unique() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("77{}{:03}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

#[tokio::test]
async fn a_command_tells_its_output_code_and_place() {
    let scene = Scene::new();
    let client = scene.client().await;
    let done = client.exec(ExecRequest::shell("pwd; echo e >&2; exit 3"), |_| {}).await.unwrap();
    assert_eq!(done.end, ExecEnd::Exited(3));
    assert_eq!(done.stdout.text(), format!("{}\ne\n", scene.root().canonicalize().unwrap().display()));
    let done = client.exec(ExecRequest::argv(["sh", "-c", "echo o; echo e >&2"]), |_| {}).await.unwrap();
    assert_eq!((done.stdout.text(), done.stderr.text()), ("o\n".into(), "e\n".into()));
    let mut request = ExecRequest::argv(["cat"]);
    request.stdin = b"\xff\0in".repeat(100_000);
    let done = client.exec(ExecRequest { output_bytes: 1 << 20, ..request.clone() }, |_| {}).await.unwrap();
    assert_eq!(done.stdout.whole(), Some(request.stdin));
    let gone = client.exec(ExecRequest::argv(["no-such-program"]), |_| {}).await.unwrap_err();
    assert_eq!(
        (gone.kind(), gone.message()),
        (HandsErrorKind::Refused, "there is no program `no-such-program` in `PATH`")
    );
    let done = client.exec(ExecRequest::shell("kill -SEGV $$"), |_| {}).await.unwrap();
    assert_eq!(done.end, ExecEnd::Signaled(11));
}

#[tokio::test]
async fn the_environment_is_ours_alone() {
    let scene = Scene::new();
    let client = scene.client().await;
    let mut request = ExecRequest::argv(["env"]);
    request.env = BTreeMap::from([("EXTRA".into(), "1".into())]);
    let env = client.exec(request, |_| {}).await.unwrap().stdout.text();
    let names: Vec<&str> = env.lines().filter_map(|l| Some(l.split_once('=')?.0)).collect();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    assert_eq!(
        sorted,
        [
            "CI",
            "DEBIAN_FRONTEND",
            "EXTRA",
            "GIT_AUTHOR_EMAIL",
            "GIT_AUTHOR_NAME",
            "GIT_COMMITTER_EMAIL",
            "GIT_COMMITTER_NAME",
            "GIT_EDITOR",
            "GIT_PAGER",
            "GIT_TERMINAL_PROMPT",
            "HOME",
            "LANG",
            "NO_COLOR",
            "PAGER",
            "PATH",
            "SHELL",
            "TERM",
            "TMPDIR",
        ]
    );
}

#[tokio::test]
async fn what_a_command_leaves_behind_is_killed_with_it() {
    let scene = Scene::new();
    let client = scene.client().await;
    let mark = unique();
    let line = format!("(setsid sh -c 'sleep {mark} & sleep {mark} &' &) ; nohup sleep {mark} >/dev/null & echo done");
    let done = client.exec(ExecRequest::shell(line), |_| {}).await.unwrap();
    assert_eq!((done.end, done.stdout.text(), done.killed_leftovers), (ExecEnd::Exited(0), "done\n".into(), true));
    assert_eq!(running(&mark), 0);
}

#[tokio::test]
async fn a_timeout_kills_also_what_forked_twice_and_ignores_signals() {
    let scene = Scene::new();
    let client = scene.client().await;
    let mark = unique();
    let line = format!(
        "trap '' TERM HUP; (setsid sh -c 'trap \"\" TERM; sleep {mark} & sleep {mark}' &); echo before; sleep {mark}"
    );
    let done = client.exec(ExecRequest::shell(line).timeout(Some(Millis(300))), |_| {}).await.unwrap();
    assert_eq!((done.end, done.stdout.text()), (ExecEnd::TimedOut, "before\n".into()));
    assert_eq!(running(&mark), 0);
}

#[tokio::test]
async fn dropping_the_call_stops_the_command() {
    let scene = Scene::new();
    let client = scene.client().await;
    let mark = unique();
    let (seen, started) = oneshot::channel();
    let mut seen = Some(seen);
    let line = format!("echo here; exec sleep {mark}");
    {
        let call = client.exec(ExecRequest::shell(line).timeout(None), |_| {
            seen.take().map(|s| s.send(()));
        });
        tokio::select! {
            _ = call => panic!("it sleeps"),
            _ = started => assert_eq!(running(&mark), 1),
        }
    }
    while running(&mark) > 0 {
        client.ping().await.unwrap();
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn closing_the_connection_stops_everything() {
    let scene = Scene::new();
    let mut server = server_process().unwrap();
    let (from, to) = (server.stdout.take().unwrap(), server.stdin.take().unwrap());
    let client = Client::connect(from, to, &scene.config()).await.unwrap();
    let mark = unique();
    let line = format!("setsid sleep {mark} & sleep {mark}");
    assert!(said(&client, "Bash", json!({"command": line, "run_in_background": true})).await.contains("bash_1"));
    while running(&format!("sleep\0{mark}")) < 2 {
        client.ping().await.unwrap();
    }
    drop(client);
    assert!(server.wait().await.unwrap().success());
    assert_eq!(running(&mark), 0);
}

#[tokio::test]
async fn a_gigabyte_of_output_costs_bounded_memory() {
    let scene = Scene::new();
    let hands = scene.hands();
    let client = hands.client().await.unwrap();
    let mut live = 0;
    let request = ExecRequest::shell("echo first; head -c 1G /dev/zero; echo last").timeout(Some(Millis::secs(300)));
    let done = client.exec(request, |chunk| live += chunk.bytes.len()).await.unwrap();
    assert_eq!((done.end, done.stdout.total_bytes), (ExecEnd::Exited(0), (1 << 30) + 11));
    assert!(done.stdout.head.starts_with(b"first\n\0") && done.stdout.tail.ends_with(b"\0last\n"));
    assert_eq!(done.stdout.bytes().len(), abca::session::hands::DEFAULT_OUTPUT_BYTES);
    assert!(live > 0);
    let status = std::fs::read_to_string(format!("/proc/{}/status", client.info().pid)).unwrap();
    let peak: u64 =
        status.lines().find_map(|l| l.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok()).unwrap();
    println!("peak resident memory of the server: {peak} KiB");
    assert!(peak < 64 << 10, "{peak} KiB");
}

#[tokio::test]
async fn a_flood_that_never_ends_is_stopped_and_both_ends_are_shown() {
    let scene = Scene::new();
    let client = scene.client().await;
    let text = said(&client, "Bash", json!({"command": "echo first; yes", "timeout": 400})).await;
    assert!(
        text.starts_with("ERROR [killed: not done after 400 ms; what it wrote follows]\nfirst\ny\n"),
        "{}",
        &text[..99]
    );
    assert!(text.contains("bytes: only its beginning and its end are shown ...]"));
    assert!(text.chars().count() <= abca::session::tools::MAX_RESULT_CHARS + 6);
}

#[tokio::test]
async fn a_command_that_kills_its_parent_is_lost_and_leaves_nothing() {
    let scene = Scene::new();
    let hands = scene.hands();
    let client = hands.client().await.unwrap();
    let mark = unique();
    let line = format!("setsid sleep {mark} & kill -9 $PPID; sleep {mark}");
    let done = client.exec(ExecRequest::shell(line), |_| {}).await.unwrap();
    assert_eq!(done.end, ExecEnd::Lost);
    assert_eq!(running(&mark), 0);
    // The server is none the worse.
    assert_eq!(client.exec(ExecRequest::shell("echo on"), |_| {}).await.unwrap().stdout.text(), "on\n");
    assert_eq!(hands.starts().await, 1);
}

#[tokio::test]
async fn a_fork_bomb_is_put_out() {
    let scene = Scene::new();
    let client = scene.client().await;
    let mark = unique();
    // Each one makes another one and dies, for ever.
    let line = format!("f() {{ sleep 0.0{mark} & (f &) ; }}; f; sleep {mark}");
    let done = client.exec(ExecRequest::shell(line).timeout(Some(Millis(300))), |_| {}).await.unwrap();
    assert_eq!(done.end, ExecEnd::TimedOut);
    assert_eq!(running(&mark), 0);
}

#[tokio::test]
async fn background_commands_run_on_until_they_are_stopped() {
    let scene = Scene::new();
    let client = scene.client().await;
    let mark = unique();
    let line = format!("echo up; sleep {mark}");
    let started = said(&client, "Bash", json!({"command": line, "run_in_background": true})).await;
    assert_eq!(started, "[started in the background as `bash_1`; see BashOutput and KillShell]\n");
    let mut news = String::new();
    while !news.contains("up") {
        news = said(&client, "BashOutput", json!({"bash_id": "bash_1"})).await;
    }
    assert_eq!(news, "[still running]\nup\n");
    said(&client, "KillShell", json!({"shell_id": "bash_1"})).await;
    while !news.contains("ended") {
        news = said(&client, "BashOutput", json!({"bash_id": "bash_1"})).await;
    }
    assert_eq!(news, "[ended: cancelled; what it wrote follows]\n[no new output]\n");
    assert_eq!(running(&mark), 0);
    let gone = said(&client, "BashOutput", json!({"bash_id": "bash_1"})).await;
    assert_eq!(gone, "ERROR there is no background command `bash_1`; none is running");
}

#[tokio::test]
async fn output_that_is_no_text_is_shown_as_text() {
    let scene = Scene::new();
    let client = scene.client().await;
    let text = said(&client, "Bash", json!({"command": r"printf 'a\xffb\0\033[31mred\033[0m\n'; true"})).await;
    assert_eq!(text, "a\u{fffd}b\\x00red\n");
    assert_eq!(said(&client, "Bash", json!({"command": "true"})).await, "[no output]\n");
    assert_eq!(said(&client, "Bash", json!({"command": "echo no; false"})).await, "ERROR [exit code 1]\nno\n");
}

#[tokio::test]
async fn nobody_below_can_look_into_the_server() {
    let scene = Scene::new();
    let hands = scene.hands();
    let client = hands.client().await.unwrap();
    let pid = client.info().pid;
    let line = format!("stat -c %u /proc/{pid}/fd; grep -c . /proc/{pid}/status >/dev/null && echo seen");
    // The descriptors of a process that is not dumpable belong to root, whoever runs it.
    assert_eq!(client.exec(ExecRequest::shell(line), |_| {}).await.unwrap().stdout.text(), "0\nseen\n");
}
