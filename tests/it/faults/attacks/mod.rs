//! A model that means harm, through the real session: each attack ends contained, and an event says so.

mod approvals;
mod files;
mod processes;
mod reach;
mod rules;
mod secrets;
mod words;

use abca::{Event, TaskHandle};
use serde_json::{Value, json};

use super::server::{Ask, Model, text, tools};
use super::world::{Place, named};

/// A life whose model runs this script, from a file, so that the policy has nothing to say and the walls have to hold. What
/// it prints is in `seen.txt` on the branch that this answers.
async fn ran(script: &str, worker: &[&str]) -> (Place, TaskHandle, String) {
    let model = Model::start(|ask: &Ask| match ask.turn {
        0 => tools(0, &[("Bash", json!({"command": "bash attack.sh > seen.txt 2>&1; echo one >> ran.log"}))]),
        _ => text("Done."),
    });
    let mut place = Place::with(&model, &[("attack.sh", script)]).await;
    place.start_worker_with(worker);
    let task = place.submit(&[]).await;
    let outcome = place.delivered(&task).await;
    let seen = place.on_branch(&outcome, "seen.txt");
    (place, task, seen)
}

/// A life whose model makes these calls in one turn, and is done.
async fn attacked(files: &[(&str, &str)], calls: &[(&'static str, Value)]) -> (Place, TaskHandle) {
    let calls = calls.to_vec();
    let model = Model::start(move |ask: &Ask| match ask.turn {
        0 => tools(0, &calls),
        _ => text("Done."),
    });
    let mut place = Place::with(&model, files).await;
    place.start_worker();
    let task = place.submit(&[]).await;
    (place, task)
}

/// What guards decided, as `(outcome, rules)`.
fn decided(events: &[Event]) -> Vec<(String, Vec<String>)> {
    let rules = |e: &Event| {
        let all = e.metadata.get("rules").and_then(Value::as_array).cloned().unwrap_or_default();
        all.iter().filter_map(|r| Some(r["rule"].as_str()?.to_owned())).collect()
    };
    let outcome = |e: &Event| e.metadata["outcome"].as_str().unwrap_or_default().to_owned();
    events.iter().filter(|e| e.event_type.as_str() == "policy_decision").map(|e| (outcome(e), rules(e))).collect()
}

async fn denies_all(place: &Place, task: &TaskHandle, gates: usize) {
    for n in 1..=gates {
        let name = format!("gate-{n}");
        place
            .until(task, &name, |e| {
                named(e, "approval_requested") && e.metadata.get("request_id").and_then(Value::as_str) == Some(&name)
            })
            .await;
        let denied = place.abca(&["deny", &task.id().to_string(), "--request", &name]).await;
        assert!(denied.status.success(), "{denied:?}");
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
