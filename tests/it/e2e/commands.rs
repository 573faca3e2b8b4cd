//! Build and test commands that misbehave.

use super::place::{CHECK, FIX, Place};

#[test]
fn a_command_that_never_ends_is_ended_and_said_to_have_been() {
    let place = Place::new();
    let repo = place.sample("repo");
    let endless = "echo begun; sleep 100000 & setsid sleep 100000 & wait";
    let (ran, json) = place.task_json(&repo, FIX, &["--build", endless, "--command-timeout", "1"]);
    assert_eq!(json["outcome"]["verification"][0]["before"], "timed_out", "{ran:#?}");
    assert_eq!(json["outcome"]["verification"][0]["after"], "timed_out");
    assert_eq!(json["outcome"]["verification"][0]["output_tail"], "begun\n");

    place.task(&repo, FIX, &["--command-timeout", "0"]).fails(2, &["--command-timeout", "1..=2592000"]);
}

#[test]
fn a_command_that_begins_to_hang_fails_the_task_and_the_work_is_kept() {
    let place = Place::new();
    let repo = place.sample("repo");
    let hangs = "if grep -q right file.txt; then sleep 100000; fi";
    let ran = place.task(&repo, FIX, &["--test", hangs, "--command-timeout", "1"]);
    ran.prints(1, &["FAILED", "passed before the agent's work and did not end in time after it", "refs/abca/wip/"]);
    ran.prints(1, &["TIMED OUT", "what to do"]);
}

#[test]
fn a_command_that_floods_its_output_is_clipped() {
    let place = Place::new();
    let repo = place.sample("repo");
    let flood = "yes 'a line of no interest' | head -c 1000000000; echo; echo the end";
    let (ran, json) = place.task_json(&repo, FIX, &["--build", flood]);
    ran.ends(0);
    let tail = json["outcome"]["verification"][0]["output_tail"].as_str().unwrap();
    assert!(tail.ends_with("the end\n") && tail.len() < 8_000, "{}", tail.len());
    let kept: u64 = walk(&place.state());
    assert!(kept < 8 << 20, "{kept} bytes were kept");
}

fn walk(dir: &std::path::Path) -> u64 {
    let size = |e: std::fs::DirEntry| {
        let meta = e.metadata().unwrap();
        if meta.is_dir() { walk(&e.path()) } else { meta.len() }
    };
    std::fs::read_dir(dir).unwrap().map(|e| size(e.unwrap())).sum()
}

#[test]
fn a_command_that_kills_its_parent_ends_in_a_clear_word_and_the_work_is_kept() {
    let place = Place::new();
    let repo = place.sample("repo");
    let (ran, json) = place.task_json(&repo, FIX, &["--build", "kill -9 $PPID; sleep 5; echo alive"]);
    ran.ends(1);
    let why = json["outcome"]["failure"]["message"].as_str().unwrap();
    assert!(why.contains("kill -9 $PPID") && why.contains("was killed together with the process that ran it"), "{why}");
    assert_eq!(json["outcome"]["verification"][0]["before"], "infra_failed");
    let kept = json["outcome"]["partial_work"]["reference"].as_str().unwrap();
    assert_eq!(place.git(&repo, ["show", &format!("{kept}:file.txt")]), "right\n");
}

#[test]
fn an_agent_that_kills_every_process_it_sees_goes_on() {
    let place = Place::new();
    let repo = place.sample("repo");
    let kills = r#"{"abca_trajectory": 1}
{"calls": [{"name": "Bash", "input": {"command": "kill -9 -1; kill -9 $PPID"}}]}
{"calls": [{"name": "Bash", "input": {"command": "sed -i s/wrong/right/ file.txt"}}]}
{"say": "Done."}
"#;
    let (ran, json) = place.task_json(&repo, kills, &["--test", CHECK]);
    ran.ends(0);
    assert_eq!(json["outcome"]["verification"][0]["after"], "passed");
}
