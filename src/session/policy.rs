//! The default policy: what holds in every session until an operator brings a policy engine of their own.

use abca_core::policy::{PolicyDecision, PolicyEngine, PolicyError, PolicyRequest};
use async_trait::async_trait;
use serde_json::Value;

/// Structure only, no judgement of commands: the walls of the hands are what holds a command in.
///
/// * A read-only workflow writes no file through a tool.
/// * No tool writes git's own files; commits are made by git.
#[derive(Debug, Clone, Copy, Default)]
pub struct DefaultPolicy;

#[async_trait]
impl PolicyEngine for DefaultPolicy {
    fn name(&self) -> &'static str {
        "default"
    }

    async fn judge(&self, request: &PolicyRequest) -> Result<PolicyDecision, PolicyError> {
        let writes = matches!(request.tool.as_str(), "Write" | "Edit");
        if writes && request.read_only {
            return Ok(deny("read_only", "this workflow is read-only: it may not change files"));
        }
        if writes
            && let Some(path) = request.input.get("file_path").and_then(Value::as_str)
            && path.split('/').any(|part| part == ".git")
        {
            return Ok(deny("git_internals", "files under `.git` are git's own: use git commands"));
        }
        Ok(PolicyDecision::Allow)
    }
}

fn deny(rule: &str, reason: &str) -> PolicyDecision {
    PolicyDecision::Deny { rule: rule.to_owned(), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use abca_core::TaskId;
    use abca_core::Timestamp;
    use serde_json::json;

    use super::*;

    async fn judged(tool: &str, input: Value, read_only: bool) -> PolicyDecision {
        let request = PolicyRequest {
            task: TaskId::from_parts(Timestamp::from_millis(0), 0),
            workflow: "coding/new-task-v1".to_owned(),
            tool: tool.to_owned(),
            input,
            read_only,
            tainted: false,
        };
        DefaultPolicy.judge(&request).await.unwrap()
    }

    #[tokio::test]
    async fn git_internals_and_read_only_trees_are_not_written() {
        assert!(matches!(
            judged("Write", json!({"file_path": "a/.git/config"}), false).await,
            PolicyDecision::Deny { .. }
        ));
        assert!(matches!(judged("Edit", json!({"file_path": "src/a.rs"}), true).await, PolicyDecision::Deny { .. }));
        assert_eq!(judged("Write", json!({"file_path": ".gitignore"}), false).await, PolicyDecision::Allow);
        assert_eq!(judged("Read", json!({"file_path": ".git/config"}), true).await, PolicyDecision::Allow);
    }
}
