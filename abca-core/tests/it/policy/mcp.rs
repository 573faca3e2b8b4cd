//! Calls of MCP servers' tools.

use abca_core::policy::PolicyRequest;
use serde_json::json;

use super::{builtin, judge, request, rules};

#[test]
fn files_that_a_call_names_are_judged_as_files() {
    let call = |path: &str| {
        let judged = judge(builtin(), &request("mcp__files__edit", json!({"edits": [{"filePath": path}]})));
        (judged.decision.as_str(), rules(&judged).join(","))
    };
    assert_eq!(call("src/lib.rs"), ("allow", String::new()));
    assert_eq!(call(".git/hooks/pre-push").0, "deny");
    assert_eq!(call("file:///work/repo/.git/config").0, "deny");
    assert_eq!(call(".github/workflows/ci.yml"), ("ask", "workflow_files".to_owned()));
    assert_eq!(call("src/../.mcp.json"), ("ask", "agent_configuration".to_owned()));
    assert!(call("/etc/passwd").1.contains("outside_work_tree"), "{:?}", call("/etc/passwd"));
}

#[test]
fn what_may_change_nothing_and_what_is_not_looked_into_asks() {
    let of = |request: &PolicyRequest| rules(&judge(builtin(), request)).join(",");
    let plain = request("mcp__a__b", json!({"x": 1}));
    assert_eq!(of(&plain), "");
    assert_eq!(of(&PolicyRequest { read_only: true, ..plain.clone() }), "mcp_read_only");
    let many: Vec<_> = (0..1_000).map(|n| json!({"k": n})).collect();
    assert_eq!(of(&request("mcp__a__b", json!({"many": many, "path": ".git/config"}))), "mcp_unknown");
    // A name that only looks like one is no server's.
    assert_eq!(of(&PolicyRequest { read_only: true, ..request("mcp__a", json!({})) }), "");
}
