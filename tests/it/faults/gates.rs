//! A session that must ask a human, and the humans: the circuit breaker asks, the commands answer.

use abca::{TaskHandle, TaskStatus};
use abca_core::task::FailureReason;
use serde_json::json;

use super::server::{Ask, Model, text, tools};
use super::world::{Place, signal};

/// Two commands fail; the third is the one that the breaker stops at. After it the agent is done.
async fn asked() -> (Place, TaskHandle) {
    asked_with("failures=1").await
}

async fn asked_with(breaker: &str) -> (Place, TaskHandle) {
    let model = Model::start(|ask: &Ask| match ask.turn {
        0 => tools(
            0,
            &[
                ("Bash", json!({"command": "exit 7"})),
                ("Bash", json!({"command": "exit 8"})),
                ("Bash", json!({"command": "echo one >> ran.log"})),
            ],
        ),
        _ => text("Done."),
    });
    let mut place = Place::new(&model).await;
    place.start_worker();
    let task = place.submit(&["--breaker", breaker]).await;
    (place, task)
}

async fn waits(place: &Place, task: &TaskHandle) {
    place.until_named(task, "approval_requested").await;
    assert_eq!(task.status().await.unwrap(), TaskStatus::AwaitingApproval);
}

async fn says(place: &Place, args: &[&str]) -> Result<serde_json::Value, String> {
    let done = place.abca(args).await;
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    match done.status.success() {
        true => Ok(serde_json::from_str(&said).unwrap()),
        false => Err(format!("{said}{}", String::from_utf8_lossy(&done.stderr))),
    }
}

#[tokio::test]
async fn an_approval_lets_the_call_run() {
    let (place, task) = asked().await;
    waits(&place, &task).await;
    let id = task.id().to_string();
    let pending = place.json(&["pending"]).await;
    let gate = &pending[0]["gate"];
    assert_eq!(pending[0]["task"].as_str(), Some(id.as_str()));
    assert_eq!(gate["request"], "gate-1");
    assert_eq!((gate["preview"].as_str(), gate["tool"].as_str()), (Some("echo one >> ran.log"), Some("Bash")));
    assert!(gate["reason"].as_str().unwrap().contains("2 tool calls failed in a row"), "{gate}");
    let wrong = says(&place, &["approve", &id, "--request", "gate-7"]).await.unwrap_err();
    assert!(wrong.contains("waits for an answer to `gate-1`, not to `gate-7`"), "{wrong}");
    assert!(says(&place, &["approve", &id, "--scope", "everything"]).await.unwrap_err().contains("is not a scope"));
    says(&place, &["approve", &id]).await.unwrap();
    let outcome = place.delivered(&task).await;
    assert_eq!(place.on_branch(&outcome, "ran.log"), "one\n");
    let late = says(&place, &["deny", &id]).await.unwrap_err();
    assert!(late.contains("has ended: COMPLETED"), "{late}");
    assert_eq!(place.json(&["pending"]).await, json!([]));
}

#[tokio::test]
async fn a_denial_at_the_breaker_ends_the_task_with_its_reason() {
    let (place, task) = asked().await;
    waits(&place, &task).await;
    says(&place, &["deny", &task.id().to_string(), "--reason", "look at the build first"]).await.unwrap();
    let outcome = place.end(&task).await;
    // The model hears the reason; its next call would be the breaker's to end.
    let heard = place.model.asks().last().unwrap().text();
    assert!(heard.contains("They say: look at the build first"), "{heard}");
    assert!(!place.record_of(&task).await.contains("\\\"one\\\\n"), "it did not run");
    assert_eq!(outcome.status, TaskStatus::Completed, "the agent gave up by itself: {outcome:?}");
}

#[tokio::test]
async fn a_breaker_that_ends_fails_the_task() {
    let (place, task) = asked_with("failures=1,action=end").await;
    let outcome = place.end(&task).await;
    let failure = outcome.failure.unwrap();
    assert_eq!((outcome.status, failure.reason), (TaskStatus::Failed, FailureReason::CircuitBreaker));
    assert_eq!(failure.message, "circuit breaker: 2 tool calls failed in a row, and 1 are allowed");
    assert_eq!(place.model.calls(), 1);
}

#[tokio::test]
async fn whoever_takes_the_session_up_waits_at_the_same_gate() {
    let (place, task) = asked().await;
    waits(&place, &task).await;
    signal(place.session_process("brain").unwrap(), "KILL");
    place.until_named(&task, "session_start_retry").await;
    place
        .until(&task, "the second session asks", {
            let asked = std::cell::Cell::new(0);
            move |e| {
                asked.set(asked.get() + u32::from(super::world::named(e, "approval_requested")));
                asked.get() == 2
            }
        })
        .await;
    let pending = place.json(&["pending"]).await;
    assert_eq!(pending[0]["gate"]["request"], "gate-1", "{pending}");
    says(&place, &["approve", &task.id().to_string()]).await.unwrap();
    let outcome = place.delivered(&task).await;
    assert_eq!((outcome.attempts, place.on_branch(&outcome, "ran.log").as_str()), (2, "one\n"));
    assert_eq!(place.model.calls(), 2, "no call was made again");
}

#[tokio::test]
async fn a_cancel_while_it_waits_is_final() {
    let (place, task) = asked().await;
    waits(&place, &task).await;
    let id = task.id().to_string();
    assert!(place.abca(&["cancel", "--wait", &id]).await.status.success());
    let outcome = place.end(&task).await;
    assert_eq!(outcome.status, TaskStatus::Cancelled);
    assert_eq!(outcome.failure.map(|f| f.reason), None::<FailureReason>);
    assert!(says(&place, &["approve", &id]).await.unwrap_err().contains("has ended: CANCELLED"));
    place.nothing_runs(&task).await;
}
