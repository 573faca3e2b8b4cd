//! A server's program, and the pipes to it: lines of JSON, bounded while they are read.

use std::ffi::OsString;
use std::io;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use abca_compute::sandbox::{Child, Io};
use abca_core::mcp::McpTransport;
use abca_core::text::clip_tail;
use rmcp::RoleClient;
use rmcp::service::{RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::connection::News;
use super::inside::{Inside, MCP_ARG};
use super::{Fault, FaultKind, Place};

/// Longest line.
const LINE_BYTES: u64 = 4 << 20;
/// Most lines that are no messages: servers print greetings and warnings where they should not.
const ODD_LINES: u32 = 100;
/// Messages that wait, in each direction.
const QUEUE: usize = 32;
/// What is kept of standard error.
const STDERR_CHARS: usize = 2_000;
/// How long a dead server's last words are waited for.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// A running program.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    stderr: Arc<Mutex<String>>,
    tasks: Vec<AbortHandle>,
}

impl Process {
    /// Starts the program in a sandbox with the walls of the hands.
    pub(super) async fn start(
        transport: &McpTransport,
        place: &Place,
        news: &Arc<News>,
    ) -> Result<(Self, Pipes), Fault> {
        let failed = |why: String| Fault::new(FaultKind::Start, why);
        let McpTransport::Stdio { command, args, env } = transport else {
            return Err(failed("it is no program".to_owned()));
        };
        if place.in_process {
            return Err(failed("it needs hands in a process of their own".to_owned()));
        }
        let inside = Inside {
            command: command.clone(),
            args: args.clone(),
            env: env.clone(),
            bridge: place.walls.bridge().cloned(),
        };
        let head = inside.encode().map_err(|e| failed(e.to_string()))?;
        let io = Io { stdin: Stdio::piped(), stdout: Stdio::piped(), stderr: Stdio::piped() };
        let argv = |program: OsString| [program, OsString::from(MCP_ARG)];
        let mut child = place.walls.spawn_own(argv, io).await.map_err(|e| failed(e.to_string()))?;
        let (Some(mut to), Some(from), Some(stderr)) = (child.take_stdin(), child.take_stdout(), child.take_stderr())
        else {
            return Err(failed("it has no pipes".to_owned()));
        };
        to.write_all(&head).await.map_err(|e| failed(format!("it does not listen: {e}")))?;
        let said = Arc::new(Mutex::new(String::new()));
        let (outgoing, queue) = mpsc::channel(QUEUE);
        let (messages, incoming) = mpsc::channel(QUEUE);
        let tasks = [
            tokio::spawn(keep(stderr, said.clone())).abort_handle(),
            tokio::spawn(write(to, queue)).abort_handle(),
            tokio::spawn(read(BufReader::new(from), messages, news.clone())).abort_handle(),
        ];
        Ok((Self { child, stderr: said, tasks: tasks.to_vec() }, Pipes { incoming, outgoing }))
    }

    /// What a server that is gone said last, on standard error.
    pub(super) async fn last_words(&self) -> String {
        // Its end and its last words race.
        tokio::time::sleep(LAST_WORDS).await;
        self.stderr.lock().unwrap_or_else(PoisonError::into_inner).trim().to_owned()
    }

    /// Ends it with everything that it started.
    pub(super) async fn kill(mut self) {
        if let Err(error) = self.child.kill().await {
            tracing::warn!(%error, "an MCP server's end is not known");
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// The pipes to a server, as messages.
#[derive(Debug)]
pub(super) struct Pipes {
    incoming: mpsc::Receiver<RxJsonRpcMessage<RoleClient>>,
    outgoing: mpsc::Sender<Vec<u8>>,
}

impl Transport<RoleClient> for Pipes {
    type Error = io::Error;

    fn send(&mut self, item: TxJsonRpcMessage<RoleClient>) -> impl Future<Output = io::Result<()>> + Send + 'static {
        let line = serde_json::to_vec(&item).map(|mut line| {
            line.push(b'\n');
            line
        });
        let to = self.outgoing.clone();
        async move { to.send(line?).await.map_err(|_| io::ErrorKind::BrokenPipe.into()) }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        self.incoming.recv().await
    }

    async fn close(&mut self) -> io::Result<()> {
        self.incoming.close();
        Ok(())
    }
}

async fn write(mut to: impl AsyncWrite + Unpin, mut queue: mpsc::Receiver<Vec<u8>>) {
    while let Some(line) = queue.recv().await {
        if to.write_all(&line).await.is_err() || to.flush().await.is_err() {
            return;
        }
    }
}

/// Reads messages until the server says too much, or nothing more.
async fn read(mut from: impl AsyncBufRead + Unpin, to: mpsc::Sender<RxJsonRpcMessage<RoleClient>>, news: Arc<News>) {
    let mut odd = 0;
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut from).take(LINE_BYTES + 1).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return news.fail(Fault::new(FaultKind::Died, "it has ended")),
            Ok(n) if n as u64 > LINE_BYTES => {
                let text = format!("it sent a message of more than {LINE_BYTES} bytes");
                return news.fail(Fault::new(FaultKind::Flood, text));
            }
            Ok(n) => {
                if let Err(fault) = news.count(n) {
                    return news.fail(fault);
                }
            }
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        match serde_json::from_slice(&line) {
            Ok(message) => {
                if to.send(message).await.is_err() {
                    return;
                }
            }
            Err(_) if odd < ODD_LINES => odd += 1,
            Err(_) => {
                let text = format!("it sent more than {ODD_LINES} lines that are no messages");
                return news.fail(Fault::new(FaultKind::Garbage, text));
            }
        }
    }
}

/// Keeps the end of what a server says on standard error, however much that is.
async fn keep(mut from: impl AsyncRead + Unpin, said: Arc<Mutex<String>>) {
    let mut piece = vec![0; 4 << 10];
    while let Ok(n @ 1..) = from.read(&mut piece).await {
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        said.push_str(&String::from_utf8_lossy(piece.get(..n).unwrap_or_default()));
        *said = clip_tail(&said, STDERR_CHARS);
    }
}
