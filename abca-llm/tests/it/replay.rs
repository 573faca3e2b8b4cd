//! Trajectories: recorded, written by hand, resumed, departed from.

use abca_core::model::{
    Content, Message, ModelClient, ModelClientExt, ModelErrorKind, ModelReply, ModelRequest, Price, Role, StopReason,
    ToolCall, ToolInput, ToolResult, ToolSpec, Usage,
};
use abca_core::testing::model::{FakeModel, Step};
use abca_llm::{Match, ModelSpec, ProviderConfig, Recorder, Replay, connect};
use serde_json::json;

fn request(prompt: &str) -> ModelRequest {
    ModelRequest {
        model: "any".into(),
        system: "you work in /tmp/abca-1/work on task 01JD8Y0K3QZ5V9T7W2X4R6S8AB".into(),
        messages: vec![Message::text(Role::User, prompt)],
        tools: vec![ToolSpec {
            name: "Bash".into(),
            description: "runs".into(),
            input_schema: json!({"type": "object"}),
        }],
        max_output_tokens: 99,
        cache: true,
    }
}

fn answered(request: &mut ModelRequest, reply: &ModelReply, result: &str) {
    request.messages.push(Message { role: Role::Assistant, content: reply.content.clone() });
    let results = reply.tool_calls().map(|c| {
        let content = vec![Content::text(result)];
        Content::ToolResult(ToolResult { tool_use_id: c.id.clone(), content, is_error: false })
    });
    request.messages.push(Message { role: Role::User, content: results.collect() });
}

fn steps() -> Vec<Step> {
    vec![
        Step::tool("a", "Bash", json!({"command": "cargo test"})),
        Step::tool("b", "Bash", json!({"command": "sed"})),
        Step::text("fixed"),
    ]
}

/// Runs a conversation of three calls; the results are what the tools say on this "machine".
async fn converse(model: &dyn ModelClient, home: &str, second: &str) -> Result<Vec<ModelReply>, (usize, String)> {
    let mut r = request("fix the bug");
    r.system = r.system.replace("/tmp/abca-1", home);
    let mut replies = Vec::new();
    for (i, result) in ["1 failed in 0.01s", second, ""].iter().enumerate() {
        let reply = model.complete(&r).await.map_err(|e| {
            assert_eq!(e.kind(), ModelErrorKind::ReplayDeparted);
            (i + 1, e.to_string())
        })?;
        answered(&mut r, &reply, result);
        replies.push(reply);
    }
    Ok(replies)
}

async fn recorded(dir: &tempfile::TempDir, mode: Match) -> (std::path::PathBuf, Vec<ModelReply>) {
    let path = dir.path().join("t.jsonl");
    let recorder = Recorder::create(FakeModel::new(steps()), &path, mode).unwrap();
    let replies = converse(&recorder, "/tmp/abca-1", "ok 1a2b3c4").await.unwrap();
    (path, replies)
}

#[tokio::test]
async fn a_recording_plays_on_another_machine() {
    let dir = tempfile::tempdir().unwrap();
    let (path, replies) = recorded(&dir, Match::Normalised).await;
    let replay = Replay::open(&path).unwrap();
    assert_eq!(converse(&replay, "/home/ada/.abca", "ok 99ffaa1").await.unwrap(), replies);
    assert_eq!(converse(&replay, "/tmp/abca-1", "ok 1a2b3c4").await.unwrap(), replies); // Any number of times.
    assert_eq!(replay.capabilities("x").price, Some(Price::default()));
}

#[tokio::test]
async fn a_departure_says_where_and_what() {
    let dir = tempfile::tempdir().unwrap();
    let (path, _) = recorded(&dir, Match::Normalised).await;
    let (call, words) = converse(&Replay::open(&path).unwrap(), "/tmp/x", "error: no such file").await.unwrap_err();
    assert_eq!(call, 3);
    for part in ["call 3", "messages[4].content[0] (result#b)", "recorded `ok <hash>", "now `error: no such file"] {
        assert!(words.contains(part), "`{part}` is not in {words}");
    }
    let replay = Replay::open(&path).unwrap();
    let e = replay.complete(&request("something else")).await.unwrap_err();
    assert!(e.to_string().contains("messages[0].content[0] (text)"), "{e}");
    let mut other_tools = request("fix the bug");
    other_tools.tools.clear();
    assert!(replay.complete(&other_tools).await.unwrap_err().to_string().contains("tools: recorded [\"Bash\"]"));
}

#[tokio::test]
async fn strict_and_shape() {
    let dir = tempfile::tempdir().unwrap();
    let (path, _) = recorded(&dir, Match::Strict).await;
    let (call, words) = converse(&Replay::open(&path).unwrap(), "/tmp/abca-2", "ok 1a2b3c4").await.unwrap_err();
    assert!(call == 1 && words.contains("system prompt: at character"), "{words}");
    let dir = tempfile::tempdir().unwrap();
    let (path, replies) = recorded(&dir, Match::Shape).await;
    assert_eq!(converse(&Replay::open(&path).unwrap(), "/x", "anything").await.unwrap(), replies);
}

#[tokio::test]
async fn a_resumed_conversation_finds_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let (path, replies) = recorded(&dir, Match::Normalised).await;
    let replay = Replay::open(&path).unwrap(); // A new process, with a conversation that has two turns already.
    let mut r = request("fix the bug");
    answered(&mut r, &replies[0], "1 failed in 7.00s");
    answered(&mut r, &replies[1], "ok abcdef0");
    assert_eq!(replay.complete(&r).await.unwrap(), replies[2]);
    answered(&mut r, &replies[2], "");
    let e = replay.complete(&r).await.unwrap_err();
    assert_eq!(e.kind(), ModelErrorKind::ReplayDeparted);
    assert!(e.to_string().contains("call 4") && e.to_string().contains("ends after call 3"), "{e}");
    let mut foreign = request("fix the bug");
    let Step::Reply(other) = Step::tool("z", "Read", json!({})) else { unreachable!() };
    answered(&mut foreign, &other, "1 failed");
    let e = replay.complete(&foreign).await.unwrap_err();
    assert!(e.to_string().contains("messages[1] (assistant)"), "{e}");
}

#[tokio::test]
async fn a_recording_goes_on_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.jsonl");
    let first = Recorder::resume(FakeModel::new(steps()), &path, Match::Normalised).unwrap();
    let mut r = request("fix the bug");
    let reply = first.complete(&r).await.unwrap();
    answered(&mut r, &reply, "1 failed in 0.01s");
    first.complete(&r).await.unwrap(); // Recorded, but the crash comes before the session has it.
    drop(first);
    let cut = std::fs::read_to_string(&path).unwrap() + "{\"call\": 3, \"requ";
    std::fs::write(&path, cut).unwrap();
    let second = Recorder::resume(FakeModel::new(steps().split_off(1)), &path, Match::Strict).unwrap();
    let reply = second.complete(&r).await.unwrap();
    answered(&mut r, &reply, "ok");
    second.complete(&r).await.unwrap();
    let replay = Replay::open(&path).unwrap();
    assert_eq!(replay.steps(), 3);
    assert_eq!(converse(&replay, "/tmp/other", "ok").await.unwrap().len(), 3);
    let e = Recorder::create(FakeModel::new([]), &path, Match::Strict).unwrap_err();
    assert!(e.to_string().contains("name a file that does not exist"), "{e}");
}

#[tokio::test]
async fn written_by_hand() {
    let text = r#"
// The demo.
{"abca_trajectory": 1, "note": "by hand"}
{"say": "I look.", "calls": [{"name": "Bash", "input": {"command": "cargo test"}}, {"name": "TodoWrite", "id": "todo"}]}

{"expect": ["1 failed", "left: 3"], "say": "Fixed.", "usage": {"input_tokens": 7, "output_tokens": 1, "cache_read_tokens": 0, "cache_write_tokens": 0}}
"#;
    let replay: Replay = text.parse().unwrap();
    let mut r = request("anything");
    let first = replay.complete(&r).await.unwrap();
    let call = |id: &str, name: &str, input| {
        Content::ToolUse(ToolCall { id: id.into(), name: name.into(), input: ToolInput::Json(input) })
    };
    assert_eq!(
        first.content,
        [
            Content::text("I look."),
            call("call_1_1", "Bash", json!({"command": "cargo test"})),
            call("todo", "TodoWrite", json!({})),
        ]
    );
    assert_eq!(first.stop, StopReason::ToolUse);
    assert!(first.usage.input_tokens > 0, "usage is estimated");
    let mut fits = r.clone();
    answered(&mut fits, &first, "1 failed\nleft: 3");
    let last = replay.complete(&fits).await.unwrap();
    assert_eq!(
        (last.text().as_str(), last.stop, last.usage),
        ("Fixed.", StopReason::EndTurn, Usage { input_tokens: 7, output_tokens: 1, ..Usage::default() })
    );
    let mut foreign = r.clone();
    let Step::Reply(other) = Step::tool("z", "Read", json!({})) else { unreachable!() };
    answered(&mut foreign, &other, "1 failed\nleft: 3");
    let e = replay.complete(&foreign).await.unwrap_err();
    assert!(e.to_string().contains("messages[1] (assistant)"), "{e}");
    answered(&mut r, &first, "1 failed\nleft: 4");
    let e = replay.complete(&r).await.unwrap_err();
    assert_eq!(e.kind(), ModelErrorKind::ReplayDeparted);
    assert!(e.to_string().contains("expected `left: 3`, now `1 failed"), "{e}");
}

#[test]
fn files_that_are_no_trajectories() {
    let head = "{\"abca_trajectory\": 1}\n";
    for (text, words) in [
        (String::new(), "empty"),
        ("{\"say\": \"x\"}".into(), "line 1: want"),
        ("{\"abca_trajectory\": 2}\n{\"say\": \"x\"}".into(), "format 2"),
        ("{\"abca_trajectory\": 1, \"match\": \"fuzzy\"}\n{\"say\": \"x\"}".into(), "line 1: unknown variant"),
        (head.into(), "no steps"),
        (format!("{head}{{\"say\": "), "line 2: EOF"),
        (format!("{head}{{\"says\": \"x\"}}"), "line 2: unknown field `says`"),
        (format!("{head}{{\"expect\": [\"x\"]}}"), "line 2: a step wants"),
    ] {
        let e = text.parse::<Replay>().unwrap_err();
        assert_eq!(e.kind(), ModelErrorKind::Config);
        assert!(e.to_string().contains(words), "{e}");
    }
    assert!(Replay::open("/nonexistent/t").unwrap_err().to_string().contains("`/nonexistent/t`"));
}

#[tokio::test]
async fn a_spec_becomes_a_client() {
    let dir = tempfile::tempdir().unwrap();
    let (path, _) = recorded(&dir, Match::Shape).await;
    let spec: ModelSpec = format!("replay:{}", path.display()).parse().unwrap();
    assert_eq!(connect(&spec, ProviderConfig::default()).await.unwrap().name(), "replay");
    for spec in ["anthropic:x", "openai:x"] {
        let e = connect(&spec.parse().unwrap(), ProviderConfig::default()).await.unwrap_err();
        assert_eq!(e.kind(), ModelErrorKind::Config, "{e}"); // No key, or not compiled in.
    }
}
