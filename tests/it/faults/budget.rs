//! A budget is a limit, not a wish; so is the turn cap.

use abca_core::MicroUsd;
use abca_core::task::FailureReason;
use serde_json::json;

use super::server::{Answer, Ask, Model, bash, tool_blocks};
use super::world::Place;

#[tokio::test]
async fn less_than_one_call_makes_no_call() {
    let mut place = Place::new(&Model::start(|_: &Ask| Answer::Silence)).await;
    place.start_worker();
    let task = place.submit(&["--budget", "0.01"]).await;
    let outcome = place.end(&task).await;
    let failure = outcome.failure.unwrap();
    assert_eq!(failure.reason, FailureReason::Budget, "{failure:?}");
    assert!(failure.message.contains("the budget of $0.0100 does not allow another call"), "{failure:?}");
    assert_eq!((place.model.calls(), outcome.cost, outcome.attempts), (0, MicroUsd::ZERO, 1));
}

#[tokio::test]
async fn no_server_can_make_a_run_cost_more() {
    // Each answer uses all that the call allowed, and each input all that was counted and a little more.
    let model = Model::start(|ask: &Ask| {
        let output = ask.body["max_tokens"].as_u64().unwrap();
        let input = u64::try_from(ask.body.to_string().len() / 3).unwrap();
        Answer::Bill(
            tool_blocks(ask.turn, &[("Bash", json!({"command": format!("echo {}", ask.turn), "description": "x"}))]),
            "tool_use",
            input,
            output,
        )
    });
    let mut place = Place::new(&model).await;
    place.start_worker();
    let task = place.submit(&["--budget", "0.60"]).await;
    let outcome = place.end(&task).await;
    let failure = outcome.failure.clone().unwrap();
    assert_eq!(failure.reason, FailureReason::Budget, "{failure:?}");
    assert!(outcome.cost <= MicroUsd(600_000), "{}", outcome.cost);
    assert!(outcome.cost > MicroUsd(300_000) && place.model.calls() >= 2, "it is used, too: {}", outcome.cost);
}

#[tokio::test]
async fn a_budget_without_a_price_is_refused_in_words() {
    let mut place = Place::new(&Model::start(|_: &Ask| Answer::Silence)).await;
    place.start_worker();
    let task = place.submit(&["--budget", "1.00", "--model", "anthropic:nobody-knows-9"]).await;
    let outcome = place.end(&task).await;
    let failure = outcome.failure.unwrap();
    assert_eq!((failure.reason, outcome.attempts), (FailureReason::Preflight, 0), "before any compute: {failure:?}");
    assert!(failure.message.contains("no price is known for `anthropic:nobody-knows-9`"), "{failure:?}");
    assert!(failure.message.contains("`--price IN,OUT`"), "{failure:?}");
    assert_eq!(abca_core::classify::classify_failure(&failure).category, abca_core::classify::Category::Config);
    assert_eq!(place.model.calls(), 0);
    // Where the model's server is known, not even a task is made.
    let repo = place.repo();
    let args =
        ["run", "--repo", repo.to_str().unwrap(), "--budget", "1.00", "--model", "anthropic:nobody-knows-9", "x"];
    let done = place.abca(&args).await;
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(2), "{said}");
    assert!(said.contains("`--price IN,OUT`"), "{said}");
    assert_eq!(place.json(&["list"]).await["tasks"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn the_turn_cap_holds_and_the_work_is_kept() {
    let model = Model::start(|ask: &Ask| bash(ask.turn, &format!("echo {} >> ran.log", ask.turn)));
    let mut place = Place::new(&model).await;
    place.start_worker();
    let task = place.submit(&["--max-turns", "3"]).await;
    let outcome = place.end(&task).await;
    let failure = outcome.failure.unwrap();
    assert_eq!(failure.reason, FailureReason::MaxTurns, "{failure:?}");
    assert!(failure.message.contains("used all 3 turns"), "{failure:?}");
    assert_eq!((place.model.calls(), outcome.turns, outcome.attempts), (3, 3, 1));
    assert_eq!(place.git(&["show", &format!("refs/abca/wip/{}:ran.log", task.id())]), "0\n1\n2\n");
    assert_eq!(place.pull_requests().await.len(), 0);
}
