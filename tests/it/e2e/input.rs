//! Command lines that cannot be meant: refused before anything is stored, with what, where and what to do.

use serde_json::Value;

use super::place::{FIX, Place};

/// A run on a sample repository with these arguments is refused with exit status 2 and these words, and stores nothing.
#[track_caller]
fn refused(args: &[&str], says: &[&str]) {
    let place = Place::new();
    let repo = place.sample("repo");
    let model = place.replay("task.jsonl", FIX);
    let common = ["run", "--repo", repo.to_str().unwrap(), "--model", &model];
    let ran = place.run(common.iter().chain(args));
    ran.fails(2, says);
    assert_eq!((ran.stdout.as_str(), place.tasks()), ("", 0));
}

#[test]
fn a_description_of_10_001_characters_is_too_long_and_one_of_10_000_is_not() {
    refused(&[&"a".repeat(10_001)], &["`task_description` has 10001 characters", "at most 10000", "shorten it"]);
    let place = Place::new();
    let repo = place.sample("repo");
    place.run(["submit", "--repo", repo.to_str().unwrap(), &"a".repeat(10_000)]).ends(0);
}

#[test]
fn an_empty_description_is_no_description() {
    refused(&[""], &["`task_description`", "give at least one"]);
}

#[test]
fn turns_are_1_to_500() {
    for turns in ["0", "501"] {
        refused(&["x", "--max-turns", turns], &[&format!("`max_turns` is {turns}: set it from 1 to 500")]);
    }
    for turns in ["many", "-1", "1.5"] {
        refused(&["x", "--max-turns", turns], &["--max-turns"]);
    }
}

#[test]
fn a_budget_is_one_cent_to_a_hundred_dollars() {
    for (budget, shown) in [("0", "$0.00"), ("0.009", "$0.009"), ("100.01", "$100.01")] {
        let says = format!("`max_budget_usd` is {shown}: set it from $0.01 to $100.00");
        refused(&["x", "--budget", budget], &[&says]);
    }
    for budget in ["nan", "inf", "-1", "1e1", "", "3 dollars"] {
        let says = format!("`{budget}` is not an amount in dollars");
        refused(&["x", "--budget", budget], &["`max_budget_usd`", &says]);
    }
}

#[test]
fn without_a_model_the_error_lists_what_to_set() {
    let place = Place::new();
    let repo = place.sample("repo");
    let ran = place.run(["run", "--repo", repo.to_str().unwrap(), "x"]);
    let all =
        ["anthropic:ID", "ANTHROPIC_API_KEY", "bedrock:ID", "AWS_REGION", "openai:ID", "OPENAI_API_KEY", "replay:FILE"];
    ran.fails(2, &["no model is set"]).fails(2, &all);
    assert_eq!(ran.stderr.matches("one of").count(), 1, "{ran:#?}");
    assert_eq!(place.tasks(), 0);
    for (model, says) in [
        ("foo:bar", "`foo` is no provider"),
        ("gpt", "`gpt` names no provider"),
        ("anthropic:claude-x", "set ANTHROPIC_API_KEY"),
        ("openai:gpt-x", "set OPENAI_API_KEY, or OPENAI_BASE_URL"),
    ] {
        place.run(["run", "--repo", repo.to_str().unwrap(), "--model", model, "x"]).fails(2, &[says]);
    }
}

#[test]
fn a_trajectory_that_is_missing_or_is_none_is_refused_before_the_task_is_submitted() {
    let place = Place::new();
    let repo = place.sample("repo");
    let with = |model: &str| place.run(["run", "--repo", repo.to_str().unwrap(), "--model", model, "x"]);
    let missing = place.path("nothing.jsonl").display().to_string();
    let says = format!("there is no trajectory at `{missing}`: give a file that `--record` wrote");
    with(&format!("replay:{missing}")).fails(2, &[&says]);
    for (text, says) in [
        ("", "is empty"),
        ("not json\n", "line 1: want `{\"abca_trajectory\": 1}` first"),
        ("{\"abca_trajectory\": 1}\n", "has no steps"),
        ("{\"abca_trajectory\": 1}\n{\"say\": \"x\"\n", "line 2"),
        ("{\"abca_trajectory\": 1}\n{\"sya\": \"x\"}\n", "line 2"),
        ("{\"abca_trajectory\": 99}\n", "has format 99, this program knows up to 1"),
    ] {
        with(&place.replay("bad.jsonl", text)).fails(2, &["bad.jsonl", says]);
    }
    with(&format!("replay:{}", place.home().display())).fails(2, &["home"]);
    assert_eq!(place.tasks(), 0);
}

#[test]
fn an_unknown_task_is_said_to_be_and_a_mistyped_id_too() {
    let place = Place::new();
    place.run(["list"]).ends(0);
    let unknown = "01M83H0RVEQ63NN8MBSEZ40AAA";
    for command in [&["status"][..], &["cancel"], &["events"], &["watch"], &["log"], &["pr", "show"]] {
        let ran = place.run(command.iter().chain(&[unknown]));
        ran.fails(1, &[&format!("there is no task `{unknown}`")]);
        assert_eq!(ran.stdout, "");
        place.run(command.iter().chain(&["nope"])).fails(2, &["`nope` is n", "task"]);
    }
    place.run(["nudge", unknown, "hello"]).fails(1, &["there is no task"]);
    place.run(["list", "--status", "NOPE"]).fails(2, &["`NOPE`", "RUNNING"]);
}

#[test]
fn errors_are_json_on_standard_error_when_json_is_asked_for() {
    let place = Place::new();
    let repo = place.sample("repo");
    let repo = repo.to_str().unwrap();
    for (args, code, says) in [
        (&["status", "nope"][..], 2, "is not a task id"),
        (&["status", "01M83H0RVEQ63NN8MBSEZ40AAA"], 1, "there is no task"),
        (&["run", "--repo", repo, "x"], 2, "no model is set"),
        (&["run", "--repo", repo, "--max-turns", "many", "x"], 2, "--max-turns"),
        (&["bogus"], 2, "bogus"),
    ] {
        let ran = place.run(["--output", "json"].iter().chain(args));
        ran.ends(code);
        assert_eq!(ran.stdout, "");
        let error: Value = serde_json::from_str(&ran.stderr).unwrap_or_else(|e| panic!("{e}\n{ran:#?}"));
        assert_eq!(error["error"]["exit_status"], code);
        assert!(error["error"]["message"].as_str().unwrap().contains(says), "{ran:#?}");
    }
}
