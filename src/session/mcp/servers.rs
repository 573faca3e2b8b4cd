//! The servers of a session: started when needed, watched, ended with it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use abca_core::mcp::{Definition, McpServer, PinnedTool, ServerName, digest, pin, tool_of};
use abca_core::model::{Content, ToolCall, ToolInput, ToolSpec};
use abca_core::policy::{GuardOutcome, GuardStage, PolicyDecisionEvent};
use abca_core::text::Screen;
use futures_util::future::join_all;
use serde_json::{Map, Value};

use super::words::{Answer, marked, shown, word};
use super::{Connection, Fault, FaultKind, Place, START, STARTS};

/// Most tools of all servers together.
const TOOLS: usize = 128;
/// Largest arguments of a call, as JSON.
const ARGUMENTS_BYTES: usize = 1 << 20;

/// What came of a call.
#[derive(Debug)]
pub(crate) struct Called {
    pub(crate) content: Vec<Content>,
    pub(crate) is_error: bool,
    /// What guards decided on the way.
    pub(crate) told: Vec<PolicyDecisionEvent>,
}

/// The servers of a session, and the tools that the model knows of them.
#[derive(Debug)]
pub(crate) struct Servers {
    servers: BTreeMap<ServerName, Server>,
    pins: Vec<PinnedTool>,
}

/// One server.
struct Server {
    config: McpServer,
    place: Place,
    connection: Option<Connection>,
    starts: u32,
    /// Pinned tools that are gone or that are other ones now.
    changed: BTreeSet<String>,
    /// Other tools that it has meanwhile; told once.
    newer: BTreeSet<String>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("config", &self.config).field("starts", &self.starts).finish_non_exhaustive()
    }
}

/// A guard's word about a server or a tool of one. Whose task it is, whoever tells it adds.
fn told(
    outcome: GuardOutcome,
    subject: impl Into<String>,
    kind: &str,
    reason: impl Into<String>,
) -> PolicyDecisionEvent {
    let mut event = PolicyDecisionEvent::new(GuardStage::ToolCall, "mcp", outcome, subject, reason);
    event.detail = Some(kind.to_owned());
    event
}

fn failed(name: &ServerName, fault: &Fault) -> PolicyDecisionEvent {
    told(GuardOutcome::Failed, name.as_str(), fault.kind.as_str(), word(&fault.text))
}

impl Servers {
    /// Servers that are not started yet, with the tools that were pinned before.
    pub(crate) fn new(configs: BTreeMap<ServerName, McpServer>, place: &Place, pins: Vec<PinnedTool>) -> Self {
        let server = |config| Server {
            config,
            place: place.clone(),
            connection: None,
            starts: 0,
            changed: BTreeSet::new(),
            newer: BTreeSet::new(),
        };
        Self { servers: configs.into_iter().map(|(name, config)| (name, server(config))).collect(), pins }
    }

    /// Starts every server and pins its tools. One that cannot be started is left out, and told.
    pub(crate) async fn pin_all(&mut self, screen: &Screen) -> Vec<PolicyDecisionEvent> {
        let starting = self.servers.iter_mut().map(|(name, server)| async move {
            let listed = server.start().await;
            (name.clone(), listed)
        });
        let mut events = Vec::new();
        for (name, listed) in join_all(starting).await {
            let definitions = match listed {
                Ok(definitions) => definitions,
                Err(fault) => {
                    events.push(failed(&name, &fault));
                    continue;
                }
            };
            let pins = pin(&name, &definitions, screen);
            for refused in pins.refused {
                let subject = format!("{name}: {}", word(&refused.tool));
                events.push(told(GuardOutcome::Denied, subject, "definition", refused.why));
            }
            for tool in pins.tools {
                if self.pins.len() >= TOOLS {
                    let why = "the servers of this task have more tools than are taken over";
                    events.push(told(GuardOutcome::Denied, tool.spec.name, "definition", why));
                } else {
                    self.pins.push(tool);
                }
            }
        }
        events
    }

    /// The tools, as they are for the rest of the task.
    pub(crate) fn pins(&self) -> &[PinnedTool] {
        &self.pins
    }

    /// What the model is told of them.
    pub(crate) fn specs(&self) -> impl Iterator<Item = ToolSpec> + '_ {
        self.pins.iter().map(|pin| pin.spec.clone())
    }

    /// Servers that are configured and have no tool here.
    pub(crate) fn without_tools(&self) -> Vec<&ServerName> {
        self.servers.keys().filter(|name| !self.pins.iter().any(|pin| pin.server == **name)).collect()
    }

    /// Whether a call can be made at all; says what is wrong, for the model.
    pub(crate) fn check(&self, call: &ToolCall) -> Result<(), String> {
        self.arguments(call).map(drop)
    }

    fn arguments(&self, call: &ToolCall) -> Result<(&PinnedTool, Map<String, Value>), String> {
        let name = &call.name;
        let pin = self.pins.iter().find(|pin| pin.spec.name == *name);
        let pin = pin.ok_or_else(|| format!("there is no tool `{}`", word(name)))?;
        let arguments = match &call.input {
            ToolInput::Json(Value::Object(map)) => map.clone(),
            ToolInput::Json(_) => return Err(format!("the arguments of `{name}` have to be a JSON object")),
            ToolInput::Invalid { error, .. } => {
                return Err(format!("the arguments of `{name}` are not valid JSON ({}); repeat the call", word(error)));
            }
        };
        let size = serde_json::to_string(&arguments).map_or(usize::MAX, |text| text.len());
        if size > ARGUMENTS_BYTES {
            return Err(format!("the arguments of `{name}` are larger than {ARGUMENTS_BYTES} bytes: send less"));
        }
        Ok((pin, arguments))
    }

    /// Makes a call that was judged. Whatever the server does, this answers within its time, and says what happened.
    ///
    /// **Cancel safety.** Dropped, the call may or may not have taken effect.
    pub(crate) async fn call(&mut self, call: &ToolCall) -> Called {
        let mut events = Vec::new();
        let no = |text: String, told| Called { content: vec![Content::text(text)], is_error: true, told };
        let (pin, arguments) = match self.arguments(call) {
            Ok((pin, arguments)) => (pin.clone(), arguments),
            Err(why) => return no(why, events),
        };
        let Some(server) = self.servers.get_mut(&pin.server) else {
            let text = format!("the MCP server `{}` is not configured here any more: do without it", pin.server);
            events.push(told(
                GuardOutcome::Denied,
                call.name.clone(),
                "changed",
                "its server is not configured any more",
            ));
            return no(text, events);
        };
        let pins: Vec<&PinnedTool> = self.pins.iter().filter(|p| p.server == pin.server).collect();
        let done = server.called(&pin, &pins, arguments, &mut events).await;
        if let Some(connection) = &server.connection {
            for (what, times) in connection.asked() {
                let reason =
                    format!("it asked for `{}` ({times} times so far), which is refused to every server", word(&what));
                events.push(told(GuardOutcome::Denied, pin.server.as_str(), "asks", reason));
            }
        }
        match done {
            Ok((content, is_error)) => Called { content, is_error, told: events },
            Err(Refusal::Changed) => {
                let text = format!(
                    "the MCP server `{}` has changed or withdrawn the tool `{}` since this task began: it is not called any \
                     more. Do without it",
                    pin.server, pin.tool
                );
                let reason = "the server has changed or withdrawn it since the task began";
                events.push(told(GuardOutcome::Denied, call.name.clone(), "changed", reason));
                no(text, events)
            }
            Err(Refusal::Fault(fault)) => {
                server.end().await;
                let left = STARTS.saturating_sub(server.starts);
                let next = match left {
                    0 => "It is not started again: do without it",
                    _ => "It is started anew with the next call",
                };
                events.push(failed(&pin.server, &fault));
                let text = match fault.kind {
                    FaultKind::Start | FaultKind::GivenUp => {
                        format!("the MCP server `{}` cannot be reached: {}. {next}", pin.server, word(&fault.text))
                    }
                    FaultKind::Hang | FaultKind::Flood | FaultKind::Garbage | FaultKind::Died => format!(
                        "the MCP server `{}` was ended during this call: {}. {next}. The call may or may not have taken \
                         effect: check before you repeat it",
                        pin.server,
                        word(&fault.text)
                    ),
                };
                no(text, events)
            }
        }
    }

    /// Ends every server, with all its processes.
    pub(crate) async fn stop(&mut self) {
        join_all(self.servers.values_mut().map(Server::end)).await;
    }

    /// Whether a name is a tool of a server.
    pub(crate) fn is_theirs(name: &str) -> bool {
        tool_of(name).is_some()
    }
}

enum Refusal {
    Changed,
    Fault(Fault),
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl Server {
    /// Starts it and asks for its tools.
    async fn start(&mut self) -> Result<Vec<Definition>, Fault> {
        self.end().await;
        if self.starts >= STARTS {
            let text = format!("it was started {STARTS} times already and had to be ended each time");
            return Err(Fault::new(FaultKind::GivenUp, text));
        }
        self.starts += 1;
        let started = async {
            let connection = Connection::open(&self.config, &self.place).await?;
            let tools = connection.tools().await?;
            Ok((connection, tools))
        };
        let (connection, tools) = match tokio::time::timeout(START, started).await {
            Ok(started) => started?,
            Err(_) => {
                let text = format!("it was not ready within {} s", START.as_secs());
                return Err(Fault::new(FaultKind::Hang, text));
            }
        };
        self.connection = Some(connection);
        Ok(tools)
    }

    async fn called(
        &mut self,
        pin: &PinnedTool,
        pins: &[&PinnedTool],
        arguments: Map<String, Value>,
        events: &mut Vec<PolicyDecisionEvent>,
    ) -> Result<(Vec<Content>, bool), Refusal> {
        let listed = match &self.connection {
            Some(connection) if !connection.is_dead() => match connection.take_stale() {
                true => match tokio::time::timeout(START, connection.tools()).await {
                    Ok(tools) => Some(tools?),
                    Err(_) => {
                        let text = format!("it did not list its tools within {} s", START.as_secs());
                        return Err(Fault::new(FaultKind::Hang, text).into());
                    }
                },
                false => None,
            },
            Some(_) | None => Some(self.start().await?),
        };
        if let Some(definitions) = listed {
            self.compare(pin.server.as_str(), pins, &definitions, events);
        }
        if self.changed.contains(&pin.tool) {
            return Err(Refusal::Changed);
        }
        let Some(connection) = &self.connection else {
            return Err(Fault::new(FaultKind::Died, "it is gone").into());
        };
        let limit = self.config.timeout_ms;
        let Ok(answer) = tokio::time::timeout(limit.to_std(), connection.call(&pin.tool, arguments)).await else {
            return Err(Fault::new(FaultKind::Hang, format!("no answer within {} ms", limit.0)).into());
        };
        let server = pin.server.as_str();
        Ok(match answer? {
            Answer::Result { parts, is_error } => (shown(server, parts), is_error),
            Answer::Refused(why) => {
                (vec![Content::text(marked(server, &format!("the call was refused: {why}")))], true)
            }
            Answer::Wants(what) => {
                let reason = format!("it answered the call with a wish for `{}`, which is refused", word(&what));
                events.push(told(GuardOutcome::Denied, server, "asks", reason));
                let text =
                    format!("the MCP server `{server}` wants something that no server gets here: do without this call");
                (vec![Content::text(text)], true)
            }
        })
    }

    /// What of a list differs from the pinned tools: told once, for each of them.
    fn compare(
        &mut self,
        server: &str,
        pins: &[&PinnedTool],
        definitions: &[Definition],
        events: &mut Vec<PolicyDecisionEvent>,
    ) {
        for pin in pins {
            let same = definitions.iter().any(|d| d.name == pin.tool && digest(d) == pin.digest);
            if same {
                self.changed.remove(&pin.tool);
            } else if self.changed.insert(pin.tool.clone()) {
                let there = definitions.iter().any(|d| d.name == pin.tool);
                let how = if there { "another definition" } else { "no such tool" };
                let reason = format!("the server has {how} now: it is not called any more");
                events.push(told(GuardOutcome::Denied, pin.spec.name.clone(), "changed", reason));
            }
        }
        let newer = definitions.iter().filter(|d| !pins.iter().any(|p| p.tool == d.name));
        let before = self.newer.len();
        self.newer.extend(newer.map(|d| word(&d.name)));
        if self.newer.len() > before {
            let names = self.newer.iter().take(8).cloned().collect::<Vec<_>>().join(", ");
            let reason = format!("it has tools that were not there when the task began: {names}; they are not offered");
            events.push(told(GuardOutcome::Denied, server, "changed", reason));
        }
    }

    async fn end(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.close().await;
        }
    }
}
