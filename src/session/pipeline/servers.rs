//! The MCP servers of a task: which there are, and that their tools stay what they are.

use std::collections::BTreeMap;

use abca_core::event::{EventType, NewEvent};
use abca_core::mcp::{CONFIG_BYTES, CONFIG_PATH, McpServer, McpSettings, ServerName};
use abca_core::model::{Content, ToolSpec};
use abca_core::policy::{GuardOutcome, GuardStage, PolicyDecisionEvent};
use abca_core::session::{LogEntry, SessionState};

use super::super::host::Host;
use super::super::mcp::{Place, Servers};
use super::super::workspace::HandsProgram;
use super::{Break, Pipeline, git_break};

impl Pipeline {
    /// Gives the host the servers that the task has, and the model their tools. Answers what the model has to be told of
    /// those that are missing.
    pub(super) async fn servers(&mut self, host: &mut Host, specs: &mut Vec<ToolSpec>) -> Result<String, Break> {
        let begun_before = self.state.model.is_some();
        if !self.task.spec.tools.has_mcp() || (begun_before && self.state.pinned.is_empty()) {
            return Ok(String::new());
        }
        let configs = self.configured(host).await?;
        if configs.is_empty() && self.state.pinned.is_empty() {
            return Ok(String::new());
        }
        let place = Place {
            walls: host.workspace.walls().clone(),
            in_process: matches!(self.parts.program, HandsProgram::InProcess),
            dir: self.parts.work_root.join(self.task.id.to_string()),
            gate: self.gate.clone(),
            authorities: self.start.limits.egress.authorities.clone(),
        };
        let mut servers = Servers::new(configs, &place, self.state.pinned.clone());
        let mut missing = String::new();
        if !begun_before {
            let screen = self.screen.clone();
            let told = self.shown(servers.pin_all(&screen)).await?;
            self.tell_guards(told);
            let tools = servers.pins().to_vec();
            self.keep(LogEntry::ToolsPinned { tools });
            let names: Vec<String> = servers.without_tools().iter().map(|name| format!("`{name}`")).collect();
            if !names.is_empty() {
                missing = format!(
                    "\nTools of these MCP servers are not there, because the servers could not be started or have none: {}.\n",
                    names.join(", ")
                );
            }
            let names: Vec<&str> = servers.pins().iter().map(|pin| pin.spec.name.as_str()).collect();
            let event = NewEvent::new(EventType::AgentMilestone, self.journal.now())
                .with("milestone", "mcp_tools_pinned")
                .with("details", names.join(", "));
            self.journal.keep([], vec![event]);
        }
        host.allowed.extend(servers.pins().iter().map(|pin| pin.spec.name.clone()));
        specs.extend(servers.specs());
        host.servers = Some(servers);
        Ok(missing)
    }

    /// The operator's servers, and where that is switched on those of the repository as its base branch has them. A file of
    /// the repository that cannot be used is told and counts for nothing.
    async fn configured(&mut self, host: &Host) -> Result<BTreeMap<ServerName, McpServer>, Break> {
        let mut configs = self.parts.mcp.servers.clone();
        let base = self.state.base.as_ref().map(|(_, base)| base.clone());
        let Some(base) = base.filter(|_| self.parts.mcp.from_repository) else { return Ok(configs) };
        // One byte more, so that a file that is too large is none that was cut.
        let found = host.workspace.file_at(&base, CONFIG_PATH, CONFIG_BYTES + 1).await.map_err(|e| git_break(&e))?;
        let Some(file) = found else { return Ok(configs) };
        let refused = |reason: String| {
            let mut told =
                PolicyDecisionEvent::new(GuardStage::ToolCall, "mcp", GuardOutcome::Denied, CONFIG_PATH, reason);
            told.detail = Some("configuration".to_owned());
            told
        };
        let mut told = Vec::new();
        match McpSettings::parse(&String::from_utf8_lossy(&file)) {
            Err(error) => told.push(refused(format!("the repository's file cannot be used: {error}"))),
            Ok(theirs) => {
                for (name, server) in theirs {
                    if configs.contains_key(&name) {
                        told.push(refused(format!("`{name}` is the operator's server: the repository's is left out")));
                    } else if configs.len() >= abca_core::mcp::SERVERS {
                        told.push(refused(format!("`{name}` is one server too many: it is left out")));
                    } else {
                        configs.insert(name, server);
                    }
                }
            }
        }
        self.tell_guards(told);
        Ok(configs)
    }

    fn tell_guards(&mut self, told: Vec<PolicyDecisionEvent>) {
        let now = self.journal.now();
        let events = told.into_iter().map(|mut told| {
            told.task_id = Some(self.task.id);
            told.into_event(&self.screen, now)
        });
        let events: Vec<NewEvent> = events.collect();
        self.journal.keep([], events);
    }
}

/// Whether the conversation holds words of a server.
pub(super) fn were_called(state: &SessionState) -> bool {
    let parts = state.request.messages.iter().flat_map(|m| &m.content);
    parts.into_iter().any(|part| matches!(part, Content::ToolUse(call) if Servers::is_theirs(&call.name)))
}
