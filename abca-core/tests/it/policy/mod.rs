//! The Cedar engine: what it must not let through, what it must not ask about, and the reference's vectors.

mod evasions;
mod innocent;
mod like_bash;
mod load;
mod mcp;
mod parity;
mod properties;
mod same_as_cedar;

use std::pin::pin;
use std::sync::OnceLock;
use std::task::{Context, Poll, Waker};

use abca_core::policy::cedar::CedarPolicy;
use abca_core::policy::{Judgement, LexicalPaths, PolicyRequest};
use abca_core::{TaskId, Timestamp};
use serde_json::{Value, json};

/// The built-in policies.
fn builtin() -> &'static CedarPolicy {
    static ENGINE: OnceLock<CedarPolicy> = OnceLock::new();
    ENGINE.get_or_init(|| CedarPolicy::builtin().unwrap())
}

/// Nothing here waits.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => panic!("it waits"),
    }
}

fn request(tool: &str, input: Value) -> PolicyRequest {
    PolicyRequest {
        task: TaskId::from_parts(Timestamp::from_millis(0), 0),
        workflow: "coding/new-task-v1".to_owned(),
        repo: "owner/repo".to_owned(),
        branch: "bgagent/01/fix".to_owned(),
        base_branch: "trunk-of-theirs".to_owned(),
        tool: tool.to_owned(),
        input,
        read_only: false,
        tainted: true,
    }
}

fn judge(engine: &CedarPolicy, request: &PolicyRequest) -> Judgement {
    let paths = LexicalPaths { root: "/work/repo".to_owned(), home: "/tmp/home".to_owned() };
    now(engine.explain(request, &paths)).unwrap().judgement
}

fn bash(command: &str) -> Judgement {
    judge(builtin(), &request("Bash", json!({ "command": command })))
}

fn rules(judged: &Judgement) -> Vec<&str> {
    judged.decision.rules().iter().map(|r| r.rule.as_str()).collect()
}
