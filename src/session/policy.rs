//! The default policy: what holds in every session until an operator brings a policy engine of their own.

use abca_core::policy::{Judgement, PathResolver, PolicyEngine, PolicyError, PolicyRequest};
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

    async fn judge(&self, request: &PolicyRequest, _paths: &dyn PathResolver) -> Result<Judgement, PolicyError> {
        let writes = matches!(request.tool.as_str(), "Write" | "Edit");
        if writes && request.read_only {
            return Ok(Judgement::deny("read_only", "this workflow is read-only: it may not change files"));
        }
        if writes
            && let Some(path) = request.input.get("file_path").and_then(Value::as_str)
            && path.split('/').any(|part| part == ".git")
        {
            return Ok(Judgement::deny("git_internals", "files under `.git` are git's own: use git commands"));
        }
        Ok(Judgement::allow())
    }
}

#[cfg(test)]
mod tests {
    use abca_core::policy::LexicalPaths;
    use abca_core::{TaskId, Timestamp};
    use serde_json::json;

    use super::*;

    async fn judged(tool: &str, input: Value, read_only: bool) -> &'static str {
        let request = PolicyRequest {
            task: TaskId::from_parts(Timestamp::from_millis(0), 0),
            workflow: "coding/new-task-v1".to_owned(),
            repo: "o/r".to_owned(),
            branch: "bgagent/1/x".to_owned(),
            base_branch: "main".to_owned(),
            tool: tool.to_owned(),
            input,
            read_only,
            tainted: false,
        };
        DefaultPolicy.judge(&request, &LexicalPaths::default()).await.unwrap().decision.as_str()
    }

    #[tokio::test]
    async fn git_internals_and_read_only_trees_are_not_written() {
        assert_eq!(judged("Write", json!({"file_path": "a/.git/config"}), false).await, "deny");
        assert_eq!(judged("Edit", json!({"file_path": "src/a.rs"}), true).await, "deny");
        assert_eq!(judged("Write", json!({"file_path": ".gitignore"}), false).await, "allow");
        assert_eq!(judged("Read", json!({"file_path": ".git/config"}), true).await, "allow");
    }
}
