//! `kill -9` of a brain during a call of an MCP server's tool.

use serde_json::{Value, json};

use super::server::{Ask, Model, text, tools};
use super::world::{Place, open_gate, signal};

const SERVER: &str = include_str!("../mcp/server.py");

#[tokio::test]
async fn a_call_that_a_dead_session_had_begun_is_not_repeated_and_the_tools_stay_the_same() {
    let model = Model::start(|ask: &Ask| match ask.turn {
        0 => tools(0, &[("mcp__test__echo", json!({"text": "one"}))]),
        1 => tools(1, &[("mcp__test__echo", json!({"text": "two"}))]),
        _ => text("Done."),
    });
    let mut place = Place::with(&model, &[("server.py", SERVER), (".gitignore", "go\n")]).await;
    let config = place.state().with_file_name("mcp.json");
    let servers = json!({"mcpServers": {"test": {"command": "python3", "args": ["server.py", "waits", &config]}}});
    std::fs::write(&config, servers.to_string()).unwrap();
    place.start_worker_with(&["--mcp", config.to_str().unwrap()]);
    let task = place.submit(&["--tools", "elevated"]).await;
    let log = place.tree(&task).join("ran.log");
    let called = || std::fs::read_to_string(&log).is_ok_and(|s| s.contains("one"));
    place.until_true(&task, "the server is called", called).await;
    assert!(!running(config.to_str().unwrap()).is_empty());
    signal(place.session_process("brain").unwrap(), "KILL");
    let second = |e: &abca::Event| e.event_type.as_str() == "session_started" && e.metadata["attempt"] == 2;
    place.until(&task, "the second session", second).await;
    open_gate(&place.tree(&task), "go");
    place.delivered(&task).await;
    assert_eq!(std::fs::read_to_string(place.repo().join("ran.log")).ok(), None, "the user's tree is not touched");
    let branch = task.outcome().await.unwrap().branch.unwrap();
    assert_eq!(place.git(&["show", &format!("{branch}:ran.log")]), "one\ntwo\n");
    let asks = place.model.asks();
    let offered: Vec<&Value> = asks.iter().map(|ask| &ask.body["tools"]).collect();
    assert!(offered.iter().all(|tools| *tools == offered[0]), "{offered:#?}");
    assert!(
        asks[1].text().contains("interrupted: the session ended while this call was running"),
        "{}",
        asks[1].text()
    );
    place.until_true(&task, "no server is left", || running(config.to_str().unwrap()).is_empty()).await;
}

/// Processes that were given this argument, the worker aside.
fn running(argument: &str) -> Vec<String> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = all.filter_map(|p| std::fs::read_to_string(p.path().join("cmdline")).ok());
    lines.filter(|line| line.contains(argument) && line.contains("server.py")).collect()
}
