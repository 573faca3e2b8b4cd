//! `https` servers: a socket of our own, behind which every connection is judged by the egress proxy's gate and verified.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use abca_core::mcp::McpUrl;
use tokio::io::{AsyncWriteExt, copy_bidirectional};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{AbortHandle, JoinSet};

use super::Place;
use crate::egress::{Gate, Verified};
use crate::link::socket;

/// Connections at once.
const CONNECTIONS: usize = 8;
/// What is wanted, in events.
const WHAT: &str = "MCP";

/// A way to one server; dropped, it ends with every connection.
#[derive(Debug)]
pub(super) struct Tunnel {
    task: AbortHandle,
    way: socket::Short,
    path: PathBuf,
}

impl Tunnel {
    /// Listens in the workspace's folder, which the inside does not see.
    pub(super) fn start(url: &McpUrl, place: &Place) -> io::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let verified = Verified::new(&place.authorities).map_err(io::Error::other)?;
        let name = format!("mcp-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let (listener, path) = socket::bind(&place.dir, &name)?;
        let way = socket::Short::of(&path)?;
        let task = tokio::spawn(accept(listener, url.clone(), place.gate.clone(), verified)).abort_handle();
        Ok(Self { task, way, path })
    }

    /// Where it listens.
    pub(super) fn path(&self) -> &Path {
        &self.way.path
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.task.abort();
        let _gone_already = std::fs::remove_file(&self.path);
    }
}

async fn accept(listener: UnixListener, url: McpUrl, gate: Arc<Gate>, verified: Verified) {
    let mut running = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while running.len() >= CONNECTIONS {
            running.join_next().await;
        }
        let (url, gate, verified) = (url.clone(), gate.clone(), verified.clone());
        running.spawn(async move {
            let mut client = client;
            if let Err(why) = connect(&mut client, &url, &gate, &verified).await {
                // Nobody may read it.
                let _ = refuse(&mut client, &why).await;
            }
        });
    }
}

async fn connect(client: &mut UnixStream, url: &McpUrl, gate: &Gate, verified: &Verified) -> Result<(), String> {
    let addresses = gate.admit(&url.host, url.port, WHAT).await.map_err(|e| e.reason)?;
    let stream = gate.connect(&addresses).await.map_err(|e| e.reason)?;
    let stream = verified.connect(&url.host, stream).await;
    let mut stream = stream.map_err(|e| format!("no TLS with `{}`: {e}", url.host))?;
    // Either side may break off at any time.
    let _ = copy_bidirectional(client, &mut stream).await;
    Ok(())
}

async fn refuse(client: &mut UnixStream, why: &str) -> io::Result<()> {
    let head = "HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: ";
    client.write_all(format!("{head}{}\r\n\r\n{why}", why.len()).as_bytes()).await?;
    client.shutdown().await
}
