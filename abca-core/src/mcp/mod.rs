//! MCP servers, as far as they are data: how they are configured, what their tools are called, and what of a tool's
//! definition a model may see.
//!
//! A server's words are hostile: names, descriptions and schemas of its tools go into the prompt of every turn. So
//! [`pin`] takes over what it has cleaned and bounded, once; a definition that is another later counts for nothing.

mod config;
mod pin;

pub use config::{
    CONFIG_BYTES, CONFIG_PATH, McpConfigError, McpServer, McpSettings, McpTransport, McpUrl, SERVERS, ServerName,
};
pub use pin::{
    DESCRIPTION_CHARS, Definition, PinnedTool, Pins, RefusedTool, SCHEMA_BYTES, TOOL_NAME_CHARS, TOOLS, digest, pin,
    tool_of,
};
