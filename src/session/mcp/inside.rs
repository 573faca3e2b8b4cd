//! Inside the sandbox, before the server's program: what it is and what it needs.
//!
//! The first bytes of standard input say what to start ([`Inside`]); all that follows is the server's own. With an egress proxy
//! the bridge to it stands here, in the network namespace that the server sees.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::process::Stdio;

use serde::{Deserialize, Serialize};
use tokio::process::Command;

use crate::egress::BridgeConfig;
use crate::tell::tell;

/// First argument that makes a program the starter of an MCP server.
pub(crate) const MCP_ARG: &str = "__abca-mcp";
/// Largest description of what to start.
const MAX_BYTES: usize = 2 << 20;
/// Exit code where the program cannot be started, as a shell's.
const NOT_STARTED: i32 = 127;

/// What to start.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Inside {
    pub(super) command: String,
    pub(super) args: Vec<String>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) bridge: Option<BridgeConfig>,
}

impl Inside {
    /// With its length in front.
    pub(super) fn encode(&self) -> io::Result<Vec<u8>> {
        let body = serde_json::to_vec(self)?;
        let length = u32::try_from(body.len()).ok().filter(|n| *n as usize <= MAX_BYTES);
        let length = length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "too much to start"))?;
        Ok([&length.to_be_bytes(), body.as_slice()].concat())
    }

    fn read(mut from: impl Read) -> io::Result<Self> {
        let mut length = [0; 4];
        from.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        if length > MAX_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "too much to start"));
        }
        let mut body = vec![0; length];
        from.read_exact(&mut body)?;
        Ok(serde_json::from_slice(&body)?)
    }
}

/// Starts the server that standard input describes, and waits for its end. Answers the exit code.
pub(crate) fn serve() -> i32 {
    match run() {
        Ok(code) => code,
        Err(why) => {
            tell(format_args!("{why}"));
            NOT_STARTED
        }
    }
}

fn run() -> Result<i32, String> {
    // Not through the standard library's buffer: what follows is not ours.
    let stdin = rustix::io::dup(rustix::stdio::stdin()).map_err(|e| format!("no standard input: {e}"))?;
    let inside = Inside::read(std::fs::File::from(stdin)).map_err(|e| format!("nothing to start: {e}"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|e| format!("no runtime: {e}"))?.block_on(async {
        if let Some(bridge) = &inside.bridge {
            let running = crate::egress::bridge(bridge)
                .await
                .map_err(|e| format!("the bridge to the egress proxy cannot listen on port {}: {e}", bridge.port))?;
            tokio::spawn(running);
        }
        let mut command = Command::new(&inside.command);
        command.args(&inside.args).envs(&inside.env).stdin(Stdio::inherit()).stdout(Stdio::inherit());
        command.stderr(Stdio::inherit()).kill_on_drop(true);
        let mut child = command.spawn().map_err(|e| format!("`{}` cannot be started: {e}", inside.command))?;
        // It holds them; with ours open, nobody would see it close its own.
        let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null");
        if let Ok(null) = null {
            let _ = rustix::stdio::dup2_stdin(&null);
            let _ = rustix::stdio::dup2_stdout(&null);
        }
        let status = child.wait().await.map_err(|e| format!("`{}` cannot be waited for: {e}", inside.command))?;
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        Ok(status.code().unwrap_or_else(|| 128 + signal.unwrap_or_default()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_the_description_is_left_where_it_is() {
        let inside = Inside { command: "x".to_owned(), args: vec!["y".to_owned()], env: BTreeMap::new(), bridge: None };
        let bytes = [inside.encode().unwrap(), b"{\"jsonrpc\"".to_vec()].concat();
        let mut from = bytes.as_slice();
        let read = Inside::read(&mut from).unwrap();
        assert_eq!((read.command.as_str(), from), ("x", &b"{\"jsonrpc\""[..]));
        assert!(Inside::read(&[0xff; 8][..]).is_err());
        assert!(Inside::read(&bytes[..9]).is_err());
    }
}
