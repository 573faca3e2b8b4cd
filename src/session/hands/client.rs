//! The brain's side of the wire.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;

use super::error::{HandsError, HandsErrorKind};
use super::exec::{ExecRequest, ExecResult};
use super::protocol::{
    self, Answer, Call, FileBytes, FileStat, HandsConfig, HandsInfo, Op, PROTOCOL_VERSION, Reply, ToolReply,
};
use crate::session::tools::ToolRequest;

/// What a command's time limit is exceeded by before the server counts as unresponsive: killing takes a moment.
const EXEC_SLACK: Duration = Duration::from_secs(15);
/// How long the server has for anything but a command.
const CALL_LIMIT: Duration = Duration::from_secs(120);
/// How long the server has to say that it is ready.
const HELLO_LIMIT: Duration = Duration::from_secs(20);
/// Live output that waits to be shown, per command; what is over is dropped, the result has it.
const CHUNKS: usize = 64;

/// A piece of a running command's output, for showing. Pieces may be left out; the result is what counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// How much was left out after them.
    pub skipped_bytes: u64,
}

/// A connection to one hands server. Clones share it; the last one dropped closes it, and with that ends the server and
/// everything it runs.
///
/// **Cancel safety.** Every method may be dropped at any time: the server is told to stop what was asked.
#[derive(Debug, Clone)]
pub struct Client {
    shared: Arc<Shared>,
    /// Held for its drop.
    _tasks: Arc<Tasks>,
    info: HandsInfo,
}

impl Client {
    /// Says hello to a server over any pair of pipes.
    ///
    /// # Errors
    /// [`HandsErrorKind::Refused`] when the configuration does not hold there, else as for every call.
    pub async fn connect(
        mut from: impl AsyncRead + Unpin + Send + 'static,
        mut to: impl AsyncWrite + Unpin + Send + 'static,
        config: &HandsConfig,
    ) -> Result<Self, HandsError> {
        // Unbounded, but holds no more than the calls in flight.
        let (calls, mut queue) = mpsc::unbounded_channel::<Vec<u8>>();
        let shared = Arc::new(Shared {
            calls,
            last: AtomicU64::new(0),
            pending: Mutex::default(),
            dead: watch::channel(None).0,
        });
        let reader = {
            let shared = shared.clone();
            tokio::spawn(async move {
                let why = shared.listen(&mut from).await;
                shared.die(why);
            })
        };
        let writer = {
            let shared = shared.clone();
            tokio::spawn(async move {
                while let Some(frame) = queue.recv().await {
                    let wrote = async {
                        to.write_all(&frame).await?;
                        to.flush().await
                    };
                    if let Err(e) = wrote.await {
                        shared.die(HandsError::new(HandsErrorKind::Died, format!("writing to them failed: {e}")));
                        break;
                    }
                }
                let _ = to.shutdown().await;
            })
        };
        let tasks = Arc::new(Tasks { handles: [reader.abort_handle(), writer.abort_handle()] });
        let (reply, _) = shared.call(Op::Hello(config.clone()), &[], None, Some(HELLO_LIMIT)).await?;
        let Reply::Ready(info) = reply else { return Err(shared.broken("hello")) };
        if info.protocol != PROTOCOL_VERSION {
            let message = format!("they speak version {}, this side {PROTOCOL_VERSION}", info.protocol);
            return Err(HandsError::new(HandsErrorKind::Protocol, message));
        }
        Ok(Self { shared, _tasks: tasks, info })
    }

    /// A connection to a [`super::serve_in_process`] of its own.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub async fn in_process(config: &HandsConfig) -> Result<Self, HandsError> {
        let (brain, hands) = tokio::io::duplex(64 << 10);
        // It ends by itself when this connection is closed.
        let _ends_by_itself = super::serve_in_process(hands);
        let (from, to) = tokio::io::split(brain);
        Self::connect(from, to, config).await
    }

    /// What the server said of itself. Its word, not more.
    pub const fn info(&self) -> &HandsInfo {
        &self.info
    }

    /// Runs a command; `on_output` gets its output while it runs, now and then.
    ///
    /// # Errors
    /// [`HandsErrorKind::Refused`] when it cannot be started; a command that fails is a result, not an error.
    pub async fn exec(
        &self,
        mut request: ExecRequest,
        mut on_output: impl FnMut(Chunk) + Send,
    ) -> Result<ExecResult, HandsError> {
        let limit = request.timeout_ms.map(|t| Duration::from_millis(t.0).saturating_add(EXEC_SLACK));
        let stdin = std::mem::take(&mut request.stdin);
        let (send, mut chunks) = mpsc::channel(CHUNKS);
        let call = self.shared.call(Op::Exec(request), &stdin, Some(send), limit);
        tokio::pin!(call);
        let (reply, body) = loop {
            tokio::select! {
                biased;
                Some(chunk) = chunks.recv() => on_output(chunk),
                done = &mut call => break done?,
            }
        };
        while let Ok(chunk) = chunks.try_recv() {
            on_output(chunk);
        }
        let Reply::Exit(summary) = reply else { return Err(self.shared.broken("exec")) };
        ExecResult::join(summary, &body).ok_or_else(|| self.shared.broken("exec"))
    }

    /// Runs a tool in the hands. [`crate::session::tools::run`] is what sessions call.
    pub(crate) async fn tool(&self, request: &ToolRequest) -> Result<(ToolReply, Vec<u8>), HandsError> {
        let op = Op::Tool(Box::new(request.clone()));
        match self.shared.call(op, &[], None, Some(CALL_LIMIT)).await? {
            (Reply::Outcome(reply), body) => Ok((reply, body)),
            _ => Err(self.shared.broken("tool")),
        }
    }

    /// What a path in the work tree or the temporary folder is; does not follow a link at its end.
    ///
    /// # Errors
    /// [`HandsErrorKind::Refused`] when there is nothing, or it lies elsewhere.
    pub async fn stat(&self, path: &str) -> Result<FileStat, HandsError> {
        match self.simple(Op::Stat { path: path.into() }, &[]).await? {
            (Reply::Stat(stat), _) => Ok(stat),
            _ => Err(self.shared.broken("stat")),
        }
    }

    /// Where paths lead: links followed, relative to the work tree when they lead inside, else absolute.
    ///
    /// # Errors
    /// As for every call.
    pub async fn lead_to(&self, paths: &[String]) -> Result<Vec<String>, HandsError> {
        match self.simple(Op::LeadTo { paths: paths.to_vec() }, &[]).await? {
            (Reply::Paths { paths }, _) => Ok(paths),
            _ => Err(self.shared.broken("lead_to")),
        }
    }

    /// The first bytes of a regular file, at most 8 MiB.
    ///
    /// # Errors
    /// [`HandsErrorKind::Refused`] as for [`Client::stat`], and for anything but a regular file.
    pub async fn read(&self, path: &str, max_bytes: u64) -> Result<FileBytes, HandsError> {
        let mut files = self.files(Op::Fetch { path: path.into(), max_bytes }).await?;
        if files.len() != 1 {
            return Err(self.shared.broken("read"));
        }
        files.pop().ok_or_else(|| self.shared.broken("read"))
    }

    /// Writes a file whole and at once (temporary file, rename), with its folders; keeps the mode of one that exists.
    ///
    /// # Errors
    /// [`HandsErrorKind::Refused`] as for [`Client::stat`], for `.git`, and for more than 8 MiB.
    pub async fn write(&self, path: &str, content: &[u8]) -> Result<(), HandsError> {
        match self.simple(Op::Store { path: path.into() }, content).await? {
            (Reply::Done, _) => Ok(()),
            _ => Err(self.shared.broken("write")),
        }
    }

    /// The files by which a project instructs agents, where present: `CLAUDE.md`, `.claude/CLAUDE.md`, `AGENTS.md`,
    /// `.claude/rules/*.md`, `.claude/settings.json`; each at most 64 KiB, at most 64 of them, in that order.
    ///
    /// # Errors
    /// As for every call.
    pub async fn project_files(&self) -> Result<Vec<FileBytes>, HandsError> {
        self.files(Op::ProjectFiles).await
    }

    /// Asks for a sign of life.
    ///
    /// # Errors
    /// As for every call.
    pub async fn ping(&self) -> Result<(), HandsError> {
        match self.simple(Op::Ping, &[]).await? {
            (Reply::Done, _) => Ok(()),
            _ => Err(self.shared.broken("ping")),
        }
    }

    /// Why this connection is dead, if it is.
    pub fn death(&self) -> Option<HandsError> {
        self.shared.dead.borrow().clone()
    }

    /// Answers when this connection is dead, with the reason.
    pub async fn died(&self) -> HandsError {
        self.shared.dead().await
    }

    async fn simple(&self, op: Op, body: &[u8]) -> Result<(Reply, Vec<u8>), HandsError> {
        self.shared.call(op, body, None, Some(CALL_LIMIT)).await
    }

    async fn files(&self, op: Op) -> Result<Vec<FileBytes>, HandsError> {
        let (Reply::Files { files }, body) = self.simple(op, &[]).await? else {
            return Err(self.shared.broken("files"));
        };
        let mut rest = body.as_slice();
        let mut out = Vec::new();
        for head in files {
            let len = usize::try_from(head.len).unwrap_or(usize::MAX);
            let Some((bytes, after)) = rest.split_at_checked(len) else { return Err(self.shared.broken("files")) };
            rest = after;
            out.push(FileBytes { path: head.path, bytes: bytes.to_vec(), truncated: head.truncated });
        }
        Ok(out)
    }
}

#[derive(Debug)]
struct Shared {
    calls: mpsc::UnboundedSender<Vec<u8>>,
    last: AtomicU64,
    pending: Mutex<HashMap<u64, Pending>>,
    dead: watch::Sender<Option<HandsError>>,
}

#[derive(Debug)]
struct Pending {
    done: oneshot::Sender<(Reply, Vec<u8>)>,
    chunks: Option<mpsc::Sender<Chunk>>,
}

/// Takes a call back when its future is dropped.
struct Ticket<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if self.shared.pending().remove(&self.id).is_some() {
            self.shared.post(&Call { id: 0, op: Op::Cancel { call: self.id } }, &[]);
        }
    }
}

impl Shared {
    async fn call(
        &self,
        op: Op,
        body: &[u8],
        chunks: Option<mpsc::Sender<Chunk>>,
        limit: Option<Duration>,
    ) -> Result<(Reply, Vec<u8>), HandsError> {
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let frame = protocol::encode(&Call { id, op }, &[body])
            .map_err(|e| HandsError::new(HandsErrorKind::Refused, format!("the call cannot be sent: {e}")))?;
        let (done, answer) = oneshot::channel();
        self.pending().insert(id, Pending { done, chunks });
        let _ticket = Ticket { shared: self, id };
        let _ = self.calls.send(frame);
        let waited = async {
            match limit {
                Some(limit) => tokio::time::timeout(limit, answer).await.map_err(|_| limit),
                None => Ok(answer.await),
            }
        };
        tokio::select! {
            biased;
            answer = waited => match answer {
                Ok(Ok((Reply::Failed { message }, _))) => {
                    Err(HandsError::new(HandsErrorKind::Refused, cut(message, 2_000)))
                }
                Ok(Ok(answer)) => Ok(answer),
                Ok(Err(_)) => Err(self.dead().await),
                Err(limit) => Err(HandsError::new(
                    HandsErrorKind::Unresponsive,
                    format!("no answer within {} s", limit.as_secs()),
                )),
            },
            why = self.dead() => Err(why),
        }
    }

    fn post(&self, call: &Call, body: &[u8]) {
        if let Ok(frame) = protocol::encode(call, &[body]) {
            let _ = self.calls.send(frame);
        }
    }

    async fn listen(&self, from: &mut (impl AsyncRead + Unpin)) -> HandsError {
        loop {
            match protocol::read::<Answer>(from).await {
                Ok(Some((answer, body))) => self.take(answer, body),
                Ok(None) => return HandsError::new(HandsErrorKind::Died, "they closed the connection"),
                Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
                    return HandsError::new(HandsErrorKind::Died, "they closed the connection amid a message");
                }
                Err(e) => {
                    let kind = match e.kind() {
                        std::io::ErrorKind::InvalidData
                        | std::io::ErrorKind::InvalidInput
                        | std::io::ErrorKind::Other => HandsErrorKind::Protocol,
                        _ => HandsErrorKind::Died,
                    };
                    return HandsError::new(kind, format!("reading from them failed: {e}"));
                }
            }
        }
    }

    /// An answer to no call is ignored: it was cancelled, or somebody lies.
    fn take(&self, Answer { id, reply }: Answer, body: Vec<u8>) {
        let mut pending = self.pending();
        if let Reply::Output { skipped_bytes } = reply {
            if let Some(Pending { chunks: Some(chunks), .. }) = pending.get(&id) {
                // A slow watcher misses pieces; the reader never waits for it.
                let _ = chunks.try_send(Chunk { bytes: body, skipped_bytes });
            }
        } else if let Some(Pending { done, .. }) = pending.remove(&id) {
            let _ = done.send((reply, body));
        }
    }

    fn die(&self, why: HandsError) {
        self.dead.send_if_modified(|dead| match dead {
            None => {
                *dead = Some(why);
                true
            }
            Some(_) => false,
        });
    }

    /// For an answer that does not fit its call: nothing more is believed.
    fn broken(&self, call: &str) -> HandsError {
        let why = HandsError::new(HandsErrorKind::Protocol, format!("their answer does not fit the call `{call}`"));
        self.die(why.clone());
        why
    }

    async fn dead(&self) -> HandsError {
        let mut dead = self.dead.subscribe();
        // The sender lives as long as `self`.
        match dead.wait_for(Option::is_some).await.ok().and_then(|d| d.clone()) {
            Some(why) => why,
            None => HandsError::new(HandsErrorKind::Died, "the connection is closed"),
        }
    }

    fn pending(&self) -> MutexGuard<'_, HashMap<u64, Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends both tasks, and so closes the pipes, with the last client.
#[derive(Debug)]
struct Tasks {
    handles: [AbortHandle; 2],
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.handles.iter().for_each(AbortHandle::abort);
    }
}

fn cut(mut text: String, max_chars: usize) -> String {
    if let Some((at, _)) = text.char_indices().nth(max_chars) {
        text.truncate(at);
    }
    text
}
