//! What crosses between people, model and tools: nudges in, secrets out of nothing, settings of the project.

use serde_json::json;

use super::server::{Ask, Model, bash, text, tools};
use super::world::{KEY, Place, gate, held, named, open_gate, signal};

/// Fabricated.
const TOKEN: &str = "ghp_0123456789abcdefghijklmnopqrstuvwxyz";

#[tokio::test]
async fn a_nudge_reaches_the_model_between_turns() {
    let (place, task) = held().await;
    let said = place.abca(&["nudge", &task.id().to_string(), "Mind the <gap> & the \"dog\"."]).await;
    assert!(said.status.success(), "{said:?}");
    open_gate(&place.tree(&task), "go");
    place.delivered(&task).await;
    // Before the next turn or, when it came too late for that, before the agent may end.
    let heard = place.model.asks().last().unwrap().text();
    assert_eq!(heard.matches("<user_nudge ").count(), 1, "{heard}\n{}", place.story(&task).await);
    assert!(heard.contains("Mind the &lt;gap&gt; &amp; the"));
    assert!(place.events(&task).await.iter().any(|e| named(e, "nudge_acknowledged")));
}

#[tokio::test]
async fn a_secret_in_a_file_is_withheld_from_model_log_and_events() {
    let model = Model::start(|ask: &Ask| match ask.turn {
        0 => tools(
            0,
            &[
                ("Read", json!({"file_path": "config.txt"})),
                ("Bash", json!({"command": "cat config.txt"})),
                ("Grep", json!({"pattern": "token", "output_mode": "content"})),
                ("Bash", json!({"command": "echo x >> ran.log"})),
            ],
        ),
        _ => text("Done."),
    });
    let mut place = Place::with(&model, &[("config.txt", &format!("token = {TOKEN}\n"))]).await;
    place.start_worker();
    let task = place.submit(&[]).await;
    place.delivered(&task).await;
    let seen = model.asks()[1].text();
    assert!(!seen.contains(TOKEN), "{seen}");
    assert!(seen.matches("[REDACTED-").count() >= 3, "{seen}");
    assert!(!place.record_of(&task).await.contains(TOKEN));
}

#[tokio::test]
async fn the_brain_shows_no_tool_what_it_holds() {
    let look = "env; cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\0' '\\n'; ls /proc; \
                cat ../brain.git/config ../../../link.secret 2>&1; id";
    let model = Model::start(|ask: &Ask| match ask.turn {
        // From a script, which the policy does not look into: the walls have to hold by themselves.
        0 => bash(0, "bash look.sh > seen.txt 2>&1; wc -c seen.txt"),
        _ => text("Done."),
    });
    let mut place = Place::with(&model, &[("look.sh", look)]).await;
    place.start_worker();
    let task = place.submit(&[]).await;
    let outcome = place.delivered(&task).await;
    let seen = place.on_branch(&outcome, "seen.txt");
    assert!(seen.contains("PATH="), "{seen}");
    let state = place.state().display().to_string();
    for hidden in [KEY, "ANTHROPIC", "ABCA_SESSION_DIR", "__abca-session", &format!("ABCA_STATE={state}")] {
        assert!(!seen.contains(hidden), "{hidden}\n{seen}");
    }
    let story = place.record_of(&task).await;
    assert!(!story.contains(KEY));
}

#[tokio::test]
async fn the_projects_settings_hold_from_the_first_attempt_to_the_last() {
    let settings = json!({
        "permissions": {"deny": ["Bash(git push:*)", "Read(./secrets/**)", "WebFetch"]},
        "env": {"PROJECT_MODE": "strict", "PATH": "/nowhere", "HOME": "/nowhere"}
    });
    let calls = |turn: usize, more: &str| {
        tools(
            turn,
            &[
                ("Bash", json!({"command": "echo hi && git push origin main"})),
                ("Read", json!({"file_path": "secrets/key.txt"})),
                (
                    "Bash",
                    json!({"command": format!("echo {turn} $PROJECT_MODE >> ran.log; test $HOME != /nowhere; bash strip.sh; {more}")}),
                ),
            ],
        )
    };
    let model = Model::start(move |ask: &Ask| match ask.turn {
        0 => calls(0, "touch begun; git checkout -q .claude"),
        1 => bash(1, &format!("bash strip.sh; touch waits; {}", gate("go"))),
        2 => calls(2, "git checkout -q .claude"),
        _ => text("Done."),
    });
    let files = [
        (".claude/settings.json", settings.to_string()),
        ("secrets/key.txt", "the dog's name".to_owned()),
        // Written out, the policy would ask a human.
        ("strip.sh", "rm -rf .claude\n".to_owned()),
        ("test.sh", "test \"$PROJECT_MODE\" = strict\n".to_owned()),
        (".gitignore", "go\nbegun\nwaits\n".to_owned()),
    ];
    let files: Vec<(&str, &str)> = files.iter().map(|(n, c)| (*n, c.as_str())).collect();
    let mut place = Place::with(&model, &files).await;
    place.start_worker();
    let task = place.submit(&[]).await;
    // The agent has removed the settings, and its brain dies: the next attempt holds them all the same.
    place.until_true(&task, "the second tool runs", || place.tree(&task).join("waits").exists()).await;
    signal(place.session_process("brain").unwrap(), "KILL");
    let outcome = place.delivered(&task).await;
    let story = place.story(&task).await;
    assert_eq!(place.on_branch(&outcome, "ran.log"), "0 strict\n2 strict\n", "{story}");
    let seen = model.asks().last().unwrap().text();
    assert!(!seen.contains("the dog's name"), "{seen}");
    assert_eq!(seen.matches("settings.json` denies this call: `Bash(git push:*)`").count(), 2, "{seen}");
    assert_eq!(seen.matches("settings.json` denies this call: `Read(./secrets/**)`").count(), 2, "{seen}");
    assert_eq!(outcome.attempts, 2);
    let passed = Some(abca_core::task::CheckResult::Passed);
    assert_eq!((outcome.verification[0].before, outcome.verification[0].after), (passed, passed));
}

#[tokio::test]
async fn what_the_policy_denies_does_not_run_and_the_story_tells_why() {
    let model = Model::start(|ask: &Ask| match ask.turn {
        0 => bash(0, "bash link.sh"),
        // By the letters a file of the work tree; the link that the script made leads to git's own.
        1 => tools(
            1,
            &[
                ("Bash", json!({"command": "echo owned >> innocent/config; echo never >> ran.log"})),
                ("Bash", json!({"command": "sh -c 'cat /proc/self/environ'"})),
                ("Bash", json!({"command": "echo fine >> ran.log"})),
            ],
        ),
        _ => text("Done."),
    });
    let files = [("link.sh", "ln -s .git innocent\n"), (".gitignore", "innocent\n")];
    let mut place = Place::with(&model, &files).await;
    place.start_worker();
    let task = place.submit(&[]).await;
    let outcome = place.delivered(&task).await;
    assert_eq!(place.on_branch(&outcome, "ran.log"), "fine\n");
    let seen = model.asks()[2].text();
    assert!(seen.contains("write_git_internals") && seen.contains("process_secrets"), "{seen}");
    let events = place.events(&task).await;
    let told: Vec<_> = events.iter().filter(|e| e.event_type.as_str() == "policy_decision").collect();
    let brief: Vec<_> =
        told.iter().map(|e| (e.metadata["outcome"].clone(), e.metadata["rules"][0]["rule"].clone())).collect();
    assert_eq!(brief, [(json!("denied"), json!("write_git_internals")), (json!("denied"), json!("process_secrets"))]);
}
