//! The guardrail from the command line: what it refuses, what it takes out, and that neither is found on disk.

use std::path::Path;

use serde_json::Value;

use super::place::{FIX, Place, Ran};

/// A made-up token that looks like a real one.
const TOKEN: &str = concat!("ghp_", "16C7e42F292c6912E7710c838347Ae178B4a");
const KEY: &str = "FABRICATED-key-of-the-model";

/// Submits with a key of a model in the environment.
fn submit(place: &Place, more: &[&str]) -> Ran {
    let repo = place.sample("repo");
    let mut command = place.abca();
    command.env("ANTHROPIC_API_KEY", KEY).args(["submit", "--repo", repo.to_str().unwrap()]).args(more);
    command.output().unwrap().into()
}

/// Whether some file below a folder holds a text.
fn holds(folder: &Path, text: &str) -> bool {
    std::fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        let meta = std::fs::symlink_metadata(&path).unwrap();
        let found = |bytes: Vec<u8>| bytes.windows(text.len()).any(|w| w == text.as_bytes());
        if meta.is_dir() { holds(&path, text) } else { meta.is_file() && std::fs::read(&path).is_ok_and(found) }
    })
}

#[test]
fn a_key_that_the_platform_holds_is_sent_back_and_found_nowhere() {
    let place = Place::new();
    let ran = submit(&place, &["--output", "json", &format!("use {KEY} to log in")]);
    ran.ends(4);
    let error: Value = serde_json::from_str(&ran.stderr).unwrap();
    assert_eq!(error["error"]["decision"]["outcome"], "denied");
    assert_eq!(error["error"]["decision"]["rules"][0]["rule"], "secrets/known-secret");
    let message = error["error"]["message"].as_str().unwrap();
    assert!(message.contains("at character 5: take it out"), "{message}");
    assert!(!ran.stderr.contains(KEY) && !holds(&place.state(), KEY));
    assert_eq!(place.tasks(), 0);
}

#[test]
fn what_looks_like_a_secret_is_taken_out_said_and_found_nowhere() {
    let place = Place::new();
    let ran = submit(&place, &[&format!("log in with {TOKEN}")]);
    ran.ends(0);
    assert!(ran.stderr.contains("the guardrail took something out: secrets/github-token (high)"), "{ran:?}");
    assert!(!holds(&place.state(), TOKEN));
    let task = ran.stdout.trim();
    place.run(["events", task]).prints(0, &["policy_decision", "secrets/github-token"]);
    let mut nudge = place.abca();
    nudge.env("ANTHROPIC_API_KEY", KEY).args(["nudge", task, &format!("it is {KEY}")]);
    Ran::from(nudge.output().unwrap()).fails(4, &["the nudge was not taken, because of secrets/known-secret"]);
    assert!(!holds(&place.state(), KEY));
}

#[test]
fn a_guardrail_that_is_none_or_cannot_work_is_refused_before_anything_is_stored() {
    let place = Place::new();
    let bad = place.file("bad.json", "{\"nudges\": 1}");
    let bad = format!("local:{}", bad.display());
    for (guardrail, says) in [
        ("azure", vec!["`azure` is no guardrail", "bedrock:ID:VERSION"]),
        ("bedrock:GR:1", vec!["the guardrail cannot be used", "`GR` is no guardrail"]),
        ("local:/nowhere.json", vec!["the guardrail's file `/nowhere.json` cannot be used"]),
        (bad.as_str(), vec!["unknown field `nudges`"]),
    ] {
        submit(&place, &["--guardrail", guardrail, "x"]).fails(2, &says);
        std::fs::remove_dir_all(place.path("repo")).unwrap();
    }
    assert_eq!(place.tasks(), 0);
}

/// Answers every request like a service that lets nobody in.
fn closed_service() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            let (mut seen, mut some) = (Vec::new(), [0; 4096]);
            while !String::from_utf8_lossy(&seen).contains("fix it") {
                match std::io::Read::read(&mut socket, &mut some) {
                    Ok(1..) => seen.extend(some),
                    Ok(0) | Err(_) => break,
                }
            }
            let head = "HTTP/1.1 403 X\r\nx-amzn-errortype: AccessDeniedException\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}";
            let _gone = std::io::Write::write_all(&mut socket, head.as_bytes());
        }
    });
    url
}

#[test]
fn a_guardrail_of_bedrock_that_does_not_let_in_refuses_and_off_lets_through() {
    let place = Place::new();
    let repo = place.sample("repo");
    let mut command = place.abca();
    command.envs([("AWS_REGION", "eu-west-1"), ("AWS_ACCESS_KEY_ID", "FABRICATED")]);
    command.envs([("AWS_SECRET_ACCESS_KEY", "FABRICATED"), ("AWS_ENDPOINT_URL", &closed_service())]);
    command.args(["submit", "--repo", repo.to_str().unwrap(), "--guardrail", "bedrock:gr1:1", "fix it"]);
    let says = ["the guardrail gave no verdict", "403 AccessDeniedException", "may `bedrock:ApplyGuardrail` on `gr1`"];
    Ran::from(command.output().unwrap()).fails(2, &says);
    assert_eq!(place.tasks(), 0);
    place.run(["submit", "--repo", repo.to_str().unwrap(), "--guardrail", "off", "fix it"]).ends(0);
    assert_eq!(place.tasks(), 1);
}

#[test]
fn a_whole_task_under_a_guardrail_of_ones_own_settings() {
    let place = Place::new();
    let repo = place.sample("repo");
    let rules = r#"{"screen": {"rules": [{"id": "acme-word", "keywords": ["acme"], "pattern": "acme[0-9]{4}"}]}}"#;
    let rules = format!("local:{}", place.file("rules.json", rules).display());
    let model = place.replay("task.jsonl", FIX);
    let run = ["run", "--repo", repo.to_str().unwrap(), "--model", &model, "--guardrail", &rules];
    let ran = place.run(run.iter().chain(&["--output", "json", "set it right, acme1234"]));
    ran.ends(0);
    let task = ran.json()["outcome"]["task_id"].as_str().unwrap().to_owned();
    assert!(!holds(&place.state(), "acme1234"));
    place.run(["events", &task]).prints(0, &["secrets/acme-word"]);
}
