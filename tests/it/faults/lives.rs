//! An ordinary life, and the same over every kind of wire trouble that passes.

use serde_json::json;

use super::server::{Answer, Ask, Model, bash, text, tools};
use super::world::Place;

/// Four turns, five tool calls, each of which leaves a line.
pub fn script(ask: &Ask) -> Answer {
    let run = |words: &str| json!({"command": format!("echo {words} >> ran.log"), "description": "x"});
    match ask.turn {
        0 => bash(0, "echo one >> ran.log"),
        1 => tools(
            1,
            &[
                ("Bash", run("two")),
                ("Write", json!({"file_path": "new.txt", "content": "x\n"})),
                ("Bash", run("three")),
            ],
        ),
        2 => bash(
            2,
            "echo four >> ran.log && git add -A && git -c user.name=Agent -c user.email=a@b.c commit -qm 'Add lines'",
        ),
        _ => text("The lines are there."),
    }
}

pub const LINES: &str = "one\ntwo\nthree\nfour\n";

#[tokio::test]
async fn an_ordinary_life() {
    let mut place = Place::new(&Model::start(script)).await;
    place.start_worker();
    let task = place.submit(&["--budget", "1.00"]).await;
    let outcome = place.delivered(&task).await;
    assert_eq!(place.on_branch(&outcome, "ran.log"), LINES);
    assert_eq!((place.model.calls(), outcome.attempts, outcome.turns), (4, 1, 4));
}

#[tokio::test]
async fn work_that_the_agent_never_committed_is_named_after_the_task() {
    let model = Model::start(|ask: &Ask| match ask.turn {
        0 => bash(0, "echo one >> ran.log"),
        _ => text("Done."),
    });
    let mut place = Place::new(&model).await;
    place.start_worker();
    let task = place.submit(&[]).await;
    place.delivered(&task).await;
    assert_eq!(place.pull_requests().await[0]["title"], "chore: Append lines to `ran.log`");
}
