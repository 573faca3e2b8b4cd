//! The tool host: judges a call, and runs it in the hands.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use abca_core::model::{Content, ToolCall};
use abca_core::policy::PolicyEngine;
use abca_core::prompt::ProjectSettings;
use abca_core::task::InitialScope;
use abca_core::text::Screen;
use abca_core::workflow::Tier;
use abca_core::{Millis, TaskId};
use async_trait::async_trait;
use tokio::sync::mpsc::UnboundedSender;

use super::agent::{Judged, SoFar, ToolHost, ToolRun};
use super::gate::Patience;
use super::hands::{ExecEnd, ExecRequest, HandsErrorKind};
use super::mcp::{Called, Servers};
use super::tools;
use super::verify::{Shell, ShellRun};
use super::workspace::Workspace;

/// The hands of one session, behind its policy. How a call is judged is in [`super::gate`].
pub(crate) struct Host {
    pub(crate) workspace: Arc<Workspace>,
    pub(crate) policy: Arc<dyn PolicyEngine>,
    pub(crate) screen: Arc<Screen>,
    pub(crate) task: TaskId,
    pub(crate) workflow: String,
    /// The repository, as `owner/name`, the task's branch and the one it is proposed to.
    pub(crate) repo: String,
    pub(crate) branch: String,
    pub(crate) base_branch: String,
    pub(crate) read_only: bool,
    pub(crate) tainted: bool,
    /// How long a human may take, and until when the task may last.
    pub(crate) patience: Patience,
    /// What humans approved when the task was submitted.
    pub(crate) granted: Vec<InitialScope>,
    /// The tier of tools, and the tools that it and the workflow grant.
    pub(crate) tier: Tier,
    pub(crate) allowed: BTreeSet<String>,
    /// The project's own settings, as its base branch has them.
    pub(crate) settings: ProjectSettings,
    pub(crate) todos: tools::Todos,
    /// The MCP servers, where the task has any.
    pub(crate) servers: Option<Servers>,
    /// Gets pages, where the session has a network.
    #[cfg(feature = "web")]
    pub(crate) web: crate::web::Web,
}

impl Host {
    /// A page of the web, as text from outside; what comes after it is judged as tainted.
    #[cfg(feature = "web")]
    async fn fetched(&mut self, args: &tools::WebFetchArgs) -> ToolRun {
        // A refusal too may hold words of the host's.
        self.tainted = true;
        match self.web.fetch(&args.url).await {
            Ok(page) => {
                let text = abca_core::prompt::web_page(&page.url, &page.text, args.offset, tools::MAX_RESULT_CHARS);
                ToolRun { content: vec![Content::text(text)], is_error: false, told: Vec::new() }
            }
            Err(why) => ToolRun { content: vec![Content::text(why)], is_error: true, told: Vec::new() },
        }
    }

    #[cfg(not(feature = "web"))]
    async fn fetched(&mut self, _args: &tools::WebFetchArgs) -> ToolRun {
        let why = "pages cannot be fetched here: this program is built without the feature `web`";
        ToolRun { content: vec![Content::text(why)], is_error: true, told: Vec::new() }
    }

    /// The project's variables for its commands, but for those that the walls themselves set.
    fn project_env(&self) -> BTreeMap<String, String> {
        let reserved = |name: &str| {
            ["PATH", "HOME", "TMPDIR", "SHELL"].contains(&name) || self.workspace.env_of_hands().contains_key(name)
        };
        self.settings.env.iter().filter(|(n, _)| !reserved(n)).map(|(n, v)| (n.clone(), v.clone())).collect()
    }
}

#[async_trait]
impl ToolHost for Host {
    async fn judge(&mut self, call: &ToolCall, so_far: SoFar<'_>) -> Judged {
        self.judged(call, so_far).await
    }

    async fn run(&mut self, call: &ToolCall, live: UnboundedSender<String>) -> ToolRun {
        if Servers::is_theirs(&call.name)
            && let Some(servers) = &mut self.servers
        {
            let Called { content, is_error, mut told } = servers.call(call).await;
            told.iter_mut().for_each(|event| event.task_id = Some(self.task));
            // What comes next may be what it said.
            self.tainted = true;
            return ToolRun { content, is_error, told };
        }
        let refused = |why: String| ToolRun { content: vec![Content::text(why)], is_error: true, told: Vec::new() };
        let mut request = match tools::parse(call) {
            Ok(request) => request,
            Err(why) => return refused(why),
        };
        if let tools::ToolRequest::Bash(args) = &mut request {
            args.env = self.project_env();
        }
        if let tools::ToolRequest::WebFetch(args) = &request {
            return self.fetched(args).await;
        }
        let client = match self.workspace.hands().client().await {
            Ok(client) => client,
            Err(error) => return refused(format!("the hands could not be started: {error}")),
        };
        let on_output = move |text: String| {
            let _nobody_looks = live.send(text);
        };
        match tools::run(&client, &request, &mut self.todos, on_output).await {
            Ok(outcome) => ToolRun { content: outcome.content, is_error: outcome.is_error, told: Vec::new() },
            Err(error) if error.kind() == HandsErrorKind::Died => refused(format!(
                "the tool server died while this call was running ({error}); it will be started anew. The call may or may \
                 not have taken effect: check before you repeat it."
            )),
            Err(error) => refused(error.to_string()),
        }
    }
}

#[async_trait]
impl Shell for Host {
    async fn shell(&mut self, command: &str, timeout: Millis) -> Result<ShellRun, String> {
        let client = self.workspace.hands().client().await.map_err(|e| e.to_string())?;
        let mut request = ExecRequest::shell(command).timeout(Some(timeout));
        request.env = self.project_env();
        let done = match client.exec(request, |_| {}).await {
            Ok(done) => done,
            Err(error) if error.kind() == HandsErrorKind::Died => {
                let output = format!("the command was killed together with the process that ran it: {error}");
                return Ok(ShellRun { status: None, timed_out: false, output });
            }
            Err(error) => return Err(error.to_string()),
        };
        let output = self.screen.scrub(&done.stdout.text()).text;
        Ok(match done.end {
            ExecEnd::Exited(code) => ShellRun { status: Some(code), timed_out: false, output },
            ExecEnd::Signaled(signal) => ShellRun { status: Some(128 + signal), timed_out: false, output },
            ExecEnd::TimedOut => ShellRun { status: None, timed_out: true, output },
            ExecEnd::Cancelled => ShellRun { status: None, timed_out: false, output },
            ExecEnd::Lost => {
                let output = format!("{output}\nthe command was killed together with the process that ran it");
                ShellRun { status: None, timed_out: false, output }
            }
        })
    }
}
