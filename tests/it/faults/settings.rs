//! What the operator sets for a repository, in a file: policies, screening, limits.

use abca::Event;
use serde_json::json;

use super::server::{Ask, Model, text, tools};
use super::world::{Place, named};

async fn file(place: &Place, settings: &serde_json::Value) -> String {
    let path = place.state().with_file_name("settings.json");
    std::fs::write(&path, settings.to_string()).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_repositorys_policies_screening_and_breaker_count_for_its_tasks() {
    let model = Model::start(|ask: &Ask| match ask.turn {
        0 => tools(
            0,
            &[
                ("Bash", json!({"command": "echo to ann.lee@corp-mail.io; echo ticket PRJ-00417"})),
                ("Bash", json!({"command": "make deploy"})),
                ("Bash", json!({"command": "echo one >> ran.log"})),
            ],
        ),
        _ => text("Done."),
    });
    let mut place = Place::new(&model).await;
    let policy = "forbid (principal, action == Agent::Action::\"execute_bash\", resource) \
                  when { context.program == \"make\" };";
    let of_repo = json!({
        "cedar_policies": [policy],
        "screening": {"rules": [{"id": "ticket", "keywords": ["prj-"], "pattern": "PRJ-[0-9]{5}"}]},
        "limits": {"max_turns": 7},
    });
    let repo = place.repo();
    let settings = json!({
        "platform": {"screening": {"personal": ["email"]}},
        "repositories": {repo.to_str().unwrap(): of_repo, "some/other": {"status": "removed"}},
    });
    let settings = file(&place, &settings).await;
    place.start_worker();
    let task = place.submit(&["--settings", &settings]).await;
    let by_rule = |e: &Event| e.metadata.get("rules").is_some_and(|r| r[0]["rule"] == "legacy_extra_1");
    place.until(&task, "the policy's word", |e| named(e, "policy_decision") && by_rule(e)).await;
    place.until_named(&task, "approval_requested").await;
    let denied = place.abca(&["deny", &task.id().to_string(), "--reason", "people deploy"]).await;
    assert!(denied.status.success(), "{denied:?}");
    let outcome = place.delivered(&task).await;
    assert_eq!(place.on_branch(&outcome, "ran.log"), "one\n");
    let heard = model.asks().last().unwrap().text();
    assert!(heard.contains("people deploy"), "{heard}");
    assert!(heard.contains("to [REDACTED-EMAIL]") && heard.contains("ticket [REDACTED-TICKET]"), "{heard}");
    assert_eq!(place.json(&["status", &task.id().to_string()]).await["task"]["spec"]["limits"]["max_turns"], 7);
}

/// Before anything is stored, with the file and the place.
#[tokio::test]
async fn settings_that_cannot_be_honoured_are_refused() {
    let place = Place::new(&Model::start(|_: &Ask| text("Done."))).await;
    let repo = place.repo();
    for (of_repo, expected) in [
        (
            json!({"cedar_policies": ["forbid (principal, action, resource) when { context.nothing };"]}),
            "cedar_policies[0]",
        ),
        (
            json!({"screening": {"rules": [{"id": "x", "keywords": ["x"], "pattern": "("}]}}),
            "`screening` cannot be used",
        ),
        (json!({"egress_allowlist": ["example.com"]}), "`egress_allowlist` needs the egress proxy"),
        (json!({"limits": {"max_turns": 0}}), "`limits.max_turns` is 0"),
    ] {
        let settings = file(&place, &json!({"repositories": {repo.to_str().unwrap(): of_repo}})).await;
        let said = place.abca(&["submit", "--repo", repo.to_str().unwrap(), "--settings", &settings, "Do it."]).await;
        let error = String::from_utf8_lossy(&said.stderr);
        assert_eq!(said.status.code(), Some(2), "{error}");
        assert!(error.contains(expected) && error.contains(repo.to_str().unwrap()), "{expected}: {error}");
    }
    assert_eq!(place.json(&["list"]).await["tasks"], json!([]));
}
