//! MCP servers from the command line.

use abca_core::mcp::{CONFIG_BYTES, McpSettings};
use abca_core::workflow::Tier;

use super::args::McpArgs;
use super::common::{Failed, absolute};

/// The servers of the files, and whether those of repositories count.
pub(super) fn settings(args: &McpArgs) -> Result<McpSettings, Failed> {
    let mut settings = McpSettings { from_repository: args.mcp_from_repository, ..McpSettings::default() };
    for file in &args.mcp {
        let shown = file.display();
        let bad = |what: String| Failed::new(2, format!("the MCP servers of `{shown}` cannot be used: {what}"));
        let path = absolute(file)?;
        let size = std::fs::metadata(&path).map_err(|e| bad(e.to_string()))?.len();
        if size > CONFIG_BYTES {
            return Err(bad(format!("the file is larger than {CONFIG_BYTES} bytes")));
        }
        let text = std::fs::read_to_string(&path).map_err(|e| bad(e.to_string()))?;
        for (name, server) in McpSettings::parse(&text).map_err(|e| bad(e.to_string()))? {
            if settings.servers.contains_key(&name) {
                return Err(bad(format!("there is another server `{name}` in another file")));
            }
            settings.servers.insert(name, server);
        }
    }
    settings.check().map_err(|e| Failed::new(2, format!("the MCP servers cannot be used: {e}")))?;
    Ok(settings)
}

/// Servers for a task that is not allowed any would be a wish without effect.
pub(super) fn fits(settings: &McpSettings, tools: Option<Tier>) -> Result<(), Failed> {
    if settings.is_empty() || tools == Some(Tier::Elevated) {
        return Ok(());
    }
    let text =
        "`--mcp` and `--mcp-from-repository` are for tasks whose tier of tools reaches servers: add `--tools elevated`";
    Err(Failed::new(2, text))
}
