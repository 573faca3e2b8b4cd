//! The model answers whatever it likes, and the wire does what it likes.

use abca::TaskOutcome;
use abca_core::task::{Failure, FailureReason};
use serde_json::{Value, json};

use super::lives::script;
use super::server::{Answer, Ask, Model, bash, error, text, tool_blocks, tools};
use super::world::Place;

async fn life(model: &Model) -> (Place, abca::TaskHandle) {
    let mut place = Place::new(model).await;
    place.start_worker();
    let task = place.submit(&[]).await;
    (place, task)
}

/// A life that fails, once, and says why.
async fn fails(model: &Model, reason: FailureReason, words: &str) -> (TaskOutcome, Failure) {
    let (place, task) = life(model).await;
    let outcome = place.end(&task).await;
    let failure = outcome.failure.clone().unwrap_or_else(|| panic!("it did not fail: {outcome:?}"));
    let story = place.story(&task).await;
    assert_eq!((failure.reason, outcome.attempts), (reason, 1), "{failure:?}\n{story}");
    assert!(failure.message.contains(words), "{failure:?}\n{story}");
    assert_eq!(place.pull_requests().await.len(), 0);
    (outcome, failure)
}

fn result_of(ask: &Ask, id: &str) -> Value {
    let messages = ask.body["messages"].as_array().unwrap();
    let parts = messages.iter().flat_map(|m| m["content"].as_array().cloned().unwrap_or_default());
    let found = parts.into_iter().find(|p| p["tool_use_id"] == id);
    found.unwrap_or_else(|| panic!("no result of {id} in {}", ask.text()))
}

#[tokio::test]
async fn neither_text_nor_tool() {
    let once = Model::start(|ask: &Ask| match ask.turn {
        0 => Answer::Say(Vec::new(), "end_turn"),
        n => script(&Ask { turn: n - 1, ..ask.clone() }),
    });
    let (place, task) = life(&once).await;
    assert_eq!(place.delivered(&task).await.turns, 5);
    assert!(place.model.asks()[1].last().contains("neither text nor a tool call"));
    let always = Model::start(|_: &Ask| Answer::Say(Vec::new(), "end_turn"));
    fails(&always, FailureReason::Model, "3 empty or cut-off answers in a row").await;
    assert_eq!(always.calls(), 3);
}

#[tokio::test]
async fn an_unknown_tool_and_broken_arguments() {
    let model = Model::start(|ask: &Ask| match ask.turn {
        0 => tools(
            0,
            &[
                ("LaunchMissiles", json!({"target": "moon"})),
                ("Bash", json!("{\"command\": \"echo bad >> ran.log")),
                ("Bash", json!({"cmd": "echo bad >> ran.log"})),
                ("Read", json!({"file_path": 7})),
                ("Bash", json!({"command": "echo good >> ran.log"})),
            ],
        ),
        _ => text("Done."),
    });
    let (place, task) = life(&model).await;
    let outcome = place.delivered(&task).await;
    assert_eq!(place.on_branch(&outcome, "ran.log"), "good\n");
    let asks = model.asks();
    let told = |n: usize| result_of(&asks[1], &format!("toolu_0_{n}"));
    for (n, words) in
        [(0, "there is no tool `LaunchMissiles`; there are: "), (1, "JSON"), (2, "command"), (3, "file_path")]
    {
        let result = told(n);
        assert_eq!(result["is_error"], true, "{result}");
        assert!(result.to_string().contains(words), "{result}");
    }
    assert!(told(4).get("is_error").is_none_or(|e| e == false));
}

#[tokio::test]
async fn the_same_call_for_ever() {
    let model = Model::start(|ask: &Ask| bash(ask.turn, "false"));
    let (_, failure) = fails(&model, FailureReason::MaxTurns, "the agent is stuck").await;
    assert!(failure.message.contains("Bash"), "{failure:?}");
    assert!(model.calls() < 20, "{}", model.calls());
    assert!(
        model.asks().iter().any(|a| a.last().matches("text").count() > 1 && a.last().contains("same")),
        "it was warned"
    );
}

#[tokio::test]
async fn twenty_tools_at_once_and_two_megabytes() {
    let model = Model::start(|ask: &Ask| match ask.turn {
        0 => {
            let calls: Vec<(&str, Value)> =
                (0..20).map(|n| ("Bash", json!({"command": format!("echo {n} >> ran.log")}))).collect();
            tools(0, &calls)
        }
        1 => tools(
            1,
            &[
                ("Write", json!({"file_path": "big.txt", "content": "x".repeat(2 << 20)})),
                ("Bash", json!({"command": format!("echo {}", "y".repeat(2 << 20))})),
            ],
        ),
        _ => text("Done."),
    });
    let (place, task) = life(&model).await;
    let outcome = place.delivered(&task).await;
    assert_eq!(place.on_branch(&outcome, "ran.log"), (0..20).map(|n| format!("{n}\n")).collect::<String>());
    let last = &model.asks()[2];
    for id in ["toolu_1_0", "toolu_1_1"] {
        let result = result_of(last, id);
        assert_eq!(result["is_error"], true);
        assert!(result.to_string().contains("longer") || result.to_string().contains("limit"), "{result}");
    }
}

#[tokio::test]
async fn a_refusal() {
    let model =
        Model::start(|_: &Ask| Answer::Say(vec![json!({"type": "text", "text": "I will not do that."})], "refusal"));
    let (_, failure) = fails(&model, FailureReason::Refusal, "I will not do that.").await;
    assert_eq!(failure.message, "the model refused: I will not do that.");
    assert_eq!(model.calls(), 1);
}

#[tokio::test]
async fn throttled_overloaded_cut_and_garbage_pass() {
    let model = Model::start(|ask: &Ask| match ask.nth {
        0 => error(429, "rate_limit_error", "slow down", &[("retry-after", "1")]),
        1 => error(529, "overloaded_error", "later", &[]),
        2 => Answer::Cut(tool_blocks(0, &[("Bash", json!({"command": "echo never >> ran.log"}))]), 700),
        3 => Answer::Garbage(b"\x00\xff\xfe what".to_vec()),
        _ => script(ask),
    });
    let (place, task) = life(&model).await;
    let outcome = place.delivered(&task).await;
    assert_eq!(place.on_branch(&outcome, "ran.log"), super::lives::LINES);
    assert_eq!((model.calls(), outcome.turns, outcome.attempts), (8, 4, 1), "{}", place.story(&task).await);
}

#[tokio::test]
async fn streams_that_always_break_end_the_task_once() {
    let model = Model::start(|_: &Ask| Answer::Cut(vec![json!({"type": "text", "text": "Half of"})], 500));
    let (outcome, _) = fails(&model, FailureReason::Model, "the model could not be called").await;
    // The first and three more: each may be billed.
    assert_eq!(model.calls(), 4);
    assert!(outcome.cost.0 > 0, "what may have been billed counts");
}

#[tokio::test]
async fn a_context_that_is_too_long_is_trimmed_once() {
    let long = |ask: &Ask| {
        let blocks: Vec<Value> =
            tool_blocks(ask.turn, &[("Bash", json!({"command": format!("echo {}; seq 3000", ask.turn)}))]);
        Answer::Say(blocks, "tool_use")
    };
    let too_long = || error(400, "invalid_request_error", "prompt is too long: 250000 tokens > 200000 maximum", &[]);
    let passes = Model::start(move |ask: &Ask| match ask.turn {
        n if n < 8 => long(ask),
        8 if !ask.text().contains("was removed to make room") => too_long(),
        8 => bash(8, "echo done >> ran.log"),
        _ => text("Done."),
    });
    let (place, task) = life(&passes).await;
    let outcome = place.delivered(&task).await;
    assert_eq!(place.on_branch(&outcome, "ran.log"), "done\n");
    let never = Model::start(move |_: &Ask| too_long());
    fails(&never, FailureReason::Model, "prompt is too long").await;
    assert!(never.calls() <= 2, "{}", never.calls());
}

#[tokio::test]
async fn access_denied_names_the_remedy() {
    let model = Model::start(|_: &Ask| error(401, "authentication_error", "invalid x-api-key", &[]));
    let (place, task) = life(&model).await;
    let outcome = place.end(&task).await;
    let failure = outcome.failure.unwrap();
    assert_eq!((failure.reason, outcome.attempts, model.calls()), (FailureReason::Model, 1, 1));
    assert!(failure.message.contains("invalid x-api-key"), "{failure:?}");
    assert!(!failure.message.contains(super::world::KEY));
    let shown = place.json(&["status", &task.id().to_string()]).await;
    let remedy = shown["error_classification"]["remedy"].as_str().unwrap_or_default().to_lowercase();
    assert!(remedy.contains("key") || remedy.contains("credential"), "{shown:#}");
}

#[tokio::test]
async fn a_server_that_is_down_ends_the_task_once() {
    let mut model = Model::start(|_: &Ask| Answer::Silence);
    // Nothing listens there: the port was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    model.url = format!("http://{free}");
    fails(&model, FailureReason::Model, "cannot connect").await;
}

#[tokio::test]
async fn a_replay_that_no_longer_fits_says_where() {
    let recording = Model::start(script);
    let mut place = Place::new(&recording).await;
    let file = place.state().join("recorded.jsonl");
    place.start_worker_with(&["--record", file.to_str().unwrap()]);
    let task = place.submit(&[]).await;
    place.delivered(&task).await;
    // The same task on another repository: the second call's conversation differs in what the tool said.
    let mut other = Place::with(&recording, &[("ran.log", "before\n")]).await;
    let replay = format!("replay:{}", file.display());
    other.start_worker();
    let fits = other.submit_plain(&["--model", &replay, "--test", "sh test.sh"]).await;
    other.delivered(&fits).await;
    let changed = std::fs::read_to_string(&file).unwrap().replace("echo one", "echo uno");
    let bent = place.state().join("bent.jsonl");
    std::fs::write(&bent, changed).unwrap();
    let departs = other.submit_plain(&["--model", &format!("replay:{}", bent.display()), "--max-turns", "7"]).await;
    let outcome = other.end(&departs).await;
    let failure = outcome.failure.unwrap();
    assert_eq!((failure.reason, outcome.attempts), (FailureReason::Model, 1), "{failure:?}");
    assert!(failure.message.contains("call ") || failure.message.contains("turn "), "{failure:?}");
}
