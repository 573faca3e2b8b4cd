//! Tools of MCP servers in a session.
//!
//! A server is hostile: a program in a sandbox of its own beside the hands', with the same walls, or a host on the other side
//! of the egress proxy. What it says is bounded while it is read ([`wire`]), its tools are pinned when the conversation
//! begins ([`abca_core::mcp::pin`]), and whatever it does besides answering calls is refused and told. A call goes the way of
//! every other tool: policy, human gates, the log, the breaker, the screen.

#[cfg(feature = "mcp")]
mod connection;
#[cfg(feature = "mcp")]
mod http;
#[cfg(feature = "mcp")]
mod inside;
#[cfg(not(feature = "mcp"))]
mod nowhere;
#[cfg(feature = "mcp")]
mod process;
mod servers;
#[cfg(all(feature = "mcp", feature = "web"))]
mod tls;
mod words;

#[cfg(feature = "mcp")]
use connection::Connection;
#[cfg(not(feature = "mcp"))]
use nowhere::Connection;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use abca_core::mcp::{McpConfigError, McpSettings};

#[cfg(feature = "mcp")]
pub(crate) use inside::{MCP_ARG, serve as serve_inside};
pub(crate) use servers::{Called, Servers};

use super::workspace::Walled;
use crate::egress::Gate;

/// How long a server has to start, shake hands and list its tools.
const START: Duration = Duration::from_secs(30);
/// How often a server is started in a session: once, and anew after it died or was ended.
const STARTS: u32 = 3;

/// Where servers run.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) walls: Arc<Walled>,
    /// The hands have no process of their own, and so no walls that a server could stand behind.
    pub(crate) in_process: bool,
    /// The folder of the workspace, which the inside does not see.
    pub(crate) dir: PathBuf,
    /// What judges hosts.
    pub(crate) gate: Arc<Gate>,
    /// Files of authorities that may vouch for hosts beside the system's.
    pub(crate) authorities: Vec<String>,
}

/// What became of a server. Its text may hold the server's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// One word, stable: what an event is found by.
    pub(crate) kind: FaultKind,
    /// What happened.
    pub(crate) text: String,
}

/// Kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// It could not be started or reached.
    Start,
    /// It did not answer in time.
    Hang,
    /// It sent more than anybody asked for.
    Flood,
    /// It sent what is no message.
    Garbage,
    /// It ended.
    Died,
    /// It was started too often.
    GivenUp,
}

impl FaultKind {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Hang => "hang",
            Self::Flood => "flood",
            Self::Garbage => "garbage",
            Self::Died => "died",
            Self::GivenUp => "given_up",
        }
    }
}

impl Fault {
    fn new(kind: FaultKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }
}

/// Checks what an embedder or an operator gave.
///
/// # Errors
/// [`McpConfigError`] for a server that cannot be used; any server at all where this program cannot speak to them.
pub(crate) fn check(settings: &McpSettings) -> Result<(), McpConfigError> {
    settings.check()?;
    if cfg!(feature = "mcp") || settings.is_empty() {
        return Ok(());
    }
    let problem = "were given and this program is built without the feature `mcp`, which speaks to them".to_owned();
    Err(McpConfigError { place: "MCP servers".to_owned(), problem })
}
