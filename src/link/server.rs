//! The platform's end of the local socket: one in every worker process.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use abca_core::id::WorkerId;
use abca_core::link::{LinkError, LinkErrorKind, Registered, SessionLink};
use abca_core::session::LogRecord;
use abca_core::{SessionId, TaskId};
use secrecy::SecretString;
use tokio::io::BufReader;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::frame::{Answer, MAX_FRAME, MAX_HELLO, Request, read, write};
use super::secret::LinkSecret;
use super::socket;

/// The log is sent in parts of about this many bytes.
const LOG_PART: usize = 4 << 20;
/// The token must come within this time.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// A socket that nobody answers at is removed once it is this old; a younger one may be about to listen.
const STALE_AFTER: Duration = Duration::from_secs(10);
/// What requests under way get to finish at shutdown.
const DRAIN: Duration = Duration::from_secs(5);

/// Serves session links at `<folder>/<worker>.sock`.
///
/// A connection begins with the session's token and is bound to that task and session from then on; it carries one
/// request at a time. Dropping the server stops it at once and removes the socket.
#[derive(Debug)]
pub struct LinkServer {
    path: PathBuf,
    stop: CancellationToken,
    connections: TaskTracker,
}

impl LinkServer {
    /// Listens in `dir`, which must exist and be the owner's alone, and removes sockets that dead workers left there.
    ///
    /// # Errors
    /// When the folder cannot be read, or the socket cannot be made.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn start(
        dir: &Path,
        worker: WorkerId,
        link: Arc<dyn SessionLink>,
        secret: LinkSecret,
    ) -> io::Result<Self> {
        remove_stale(dir).await;
        let (listener, path) = socket::bind(dir, &worker.to_string())?;
        let server = Self { path, stop: CancellationToken::new(), connections: TaskTracker::new() };
        let (stop, connections) = (server.stop.clone(), server.connections.clone());
        server.connections.spawn(async move {
            loop {
                let accepted = tokio::select! {
                    () = stop.cancelled() => return,
                    accepted = listener.accept() => accepted,
                };
                match accepted {
                    Ok((stream, _)) => {
                        let conversation =
                            Connection { link: link.clone(), stop: stop.clone() }.serve(stream, secret.clone());
                        connections.spawn(async move {
                            if let Err(error) = conversation.await {
                                tracing::debug!(%error, "a session's connection ended");
                            }
                        });
                    }
                    Err(error) => {
                        // Out of descriptors: they come back as connections end.
                        tracing::warn!(%error, "could not accept a session's connection");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        });
        Ok(server)
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Stops listening, and lets requests under way finish. Sessions look for another worker.
    pub async fn shutdown(&self) {
        self.close();
        let _ = tokio::time::timeout(DRAIN, self.connections.wait()).await;
    }

    fn close(&self) {
        if !self.stop.is_cancelled() {
            let _ = std::fs::remove_file(&self.path);
        }
        self.stop.cancel();
        self.connections.close();
    }
}

impl Drop for LinkServer {
    fn drop(&mut self) {
        self.close();
    }
}

/// One session's connection.
struct Connection {
    link: Arc<dyn SessionLink>,
    stop: CancellationToken,
}

impl Connection {
    async fn serve(self, stream: UnixStream, secret: LinkSecret) -> io::Result<()> {
        let (from, mut to) = stream.into_split();
        let mut from = BufReader::new(from);
        let hello = tokio::time::timeout(HELLO_TIMEOUT, read(&mut from, MAX_HELLO)).await??;
        let Some(Request::Hello { task, session, token }) = hello else {
            return refuse(&mut to, LinkErrorKind::Invalid, "the first word must be a token").await;
        };
        let theirs = crate::orchestrator::task_of(&session) == Some(task);
        if !theirs || !secret.verify(&session, &SecretString::from(token)) {
            return refuse(&mut to, LinkErrorKind::Access, "the session token is not this session's").await;
        }
        write(&mut to, &Answer::Hello).await?;
        while let Some(request) = self.next(&mut from).await? {
            if let Request::Register = request {
                match self.link.register(task, &session).await {
                    Ok(registered) => send_registered(&mut to, registered).await?,
                    Err(error) => write(&mut to, &Answer::from(error)).await?,
                }
                continue;
            }
            let answer = self.answer(task, &session, request).await.unwrap_or_else(Answer::from);
            write(&mut to, &answer).await?;
        }
        Ok(())
    }

    async fn next(&self, from: &mut BufReader<OwnedReadHalf>) -> io::Result<Option<Request>> {
        tokio::select! {
            () = self.stop.cancelled() => Ok(None),
            request = read(from, MAX_FRAME) => request,
        }
    }

    async fn answer(&self, task: TaskId, session: &SessionId, request: Request) -> Result<Answer, LinkError> {
        match request {
            Request::Hello { .. } | Request::Register => {
                Err(LinkError::new(LinkErrorKind::Invalid, "hello", "this word is said once, at the beginning"))
            }
            Request::Heartbeat => self.link.heartbeat(task, session).await.map(Answer::Reply),
            Request::Listen { known } => tokio::select! {
                () = self.stop.cancelled() => {
                    Err(LinkError::new(LinkErrorKind::Unavailable, "listen", "this worker is shutting down"))
                }
                reply = self.link.listen(task, session, &known) => reply.map(Answer::Reply),
            },
            Request::Append(append) => {
                if append.task != task || append.session != *session {
                    let message = "the token is not for the task and session of this append";
                    return Err(LinkError::new(LinkErrorKind::Access, "append", message));
                }
                self.link.append(&append).await.map(Answer::Reply)
            }
            Request::Report(report) => self.link.report(task, session, &report).await.map(|()| Answer::Done),
        }
    }
}

async fn refuse(to: &mut OwnedWriteHalf, kind: LinkErrorKind, message: &str) -> io::Result<()> {
    write(to, &Answer::Failed { kind, message: message.to_owned() }).await
}

async fn send_registered(to: &mut OwnedWriteHalf, registered: Registered) -> io::Result<()> {
    let mut part: Vec<LogRecord> = Vec::new();
    let mut bytes = 0;
    for record in registered.log {
        let size = serde_json::to_vec(&record).map_or(0, |json| json.len());
        if !part.is_empty() && bytes + size > LOG_PART {
            write(to, &Answer::Log(std::mem::take(&mut part))).await?;
            bytes = 0;
        }
        bytes += size;
        part.push(record);
    }
    if !part.is_empty() {
        write(to, &Answer::Log(part)).await?;
    }
    write(to, &Answer::Registered(Box::new(registered.task))).await
}

/// Removes sockets at which nobody listens any more.
async fn remove_stale(dir: &Path) {
    for path in socket::all(dir).unwrap_or_default() {
        let age = std::fs::metadata(&path).and_then(|m| m.modified()).ok().and_then(|at| at.elapsed().ok());
        if age.is_none_or(|age| age < STALE_AFTER) {
            continue;
        }
        if socket::connect(&path).await.is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused) {
            tracing::debug!(path = %path.display(), "removing the socket of a worker that is gone");
            let _ = std::fs::remove_file(&path);
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connection")
    }
}
