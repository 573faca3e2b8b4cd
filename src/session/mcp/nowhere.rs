//! Without the feature `mcp` no server is ever reached.

use abca_core::mcp::{Definition, McpServer};
use serde_json::{Map, Value};

use super::words::Answer;
use super::{Fault, FaultKind, Place};

#[derive(Debug)]
pub(super) enum Connection {}

impl Connection {
    pub(super) async fn open(_server: &McpServer, _place: &Place) -> Result<Self, Fault> {
        Err(Fault::new(FaultKind::Start, "this program is built without the feature `mcp`"))
    }

    pub(super) async fn tools(&self) -> Result<Vec<Definition>, Fault> {
        match *self {}
    }

    pub(super) async fn call(&self, _tool: &str, _arguments: Map<String, Value>) -> Result<Answer, Fault> {
        match *self {}
    }

    pub(super) fn asked(&self) -> Vec<(String, u32)> {
        match *self {}
    }

    pub(super) fn take_stale(&self) -> bool {
        match *self {}
    }

    pub(super) fn is_dead(&self) -> bool {
        match *self {}
    }

    pub(super) async fn close(self) {
        match self {}
    }
}
