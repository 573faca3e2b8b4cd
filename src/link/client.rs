//! The session's end of the local socket.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use abca_core::id::SignalId;
use abca_core::link::{AppendLog, LinkError, LinkErrorKind, LinkReply, Registered, SessionLink};
use abca_core::task::SessionReport;
use abca_core::{Millis, SessionId, TaskId};
use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::frame::{Answer, MAX_FRAME, Request, encode, read};
use super::socket;

/// Waits between tries to reach a worker.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The link of a session in another process than the store, through the socket of any worker that lives.
///
/// When its worker dies, it looks for another one, again and again, until its patience ends: only then a call answers
/// [`LinkErrorKind::Unavailable`]. Every word may be repeated safely, so a lost answer is asked for again.
pub struct SocketLink {
    dir: PathBuf,
    task: TaskId,
    session: SessionId,
    token: SecretString,
    patience: Millis,
    words: Mutex<Option<Connection>>,
    // A second one, so that hearing does not keep from speaking.
    hearing: Mutex<Option<Connection>>,
}

impl fmt::Debug for SocketLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketLink").field("dir", &self.dir).field("session", &self.session).finish_non_exhaustive()
    }
}

impl SocketLink {
    /// A link for one session, through the sockets in `dir`. Patience is 10 minutes. Nothing is connected yet.
    pub fn new(dir: impl Into<PathBuf>, task: TaskId, session: SessionId, token: SecretString) -> Self {
        let (words, hearing) = (Mutex::default(), Mutex::default());
        Self { dir: dir.into(), task, session, token, patience: Millis::secs(600), words, hearing }
    }

    /// How long a call looks for a worker before it gives up.
    #[must_use]
    pub fn patience(mut self, patience: Millis) -> Self {
        self.patience = patience;
        self
    }

    fn check(&self, task: TaskId, session: &SessionId, op: &'static str) -> Result<(), LinkError> {
        if task == self.task && *session == self.session {
            return Ok(());
        }
        let message = format!("this link is for session `{}`, not `{session}`", self.session);
        Err(LinkError::new(LinkErrorKind::Access, op, message))
    }

    /// Says something until it is answered, or until patience ends.
    async fn say(
        &self,
        over: &Mutex<Option<Connection>>,
        request: &Request,
        op: &'static str,
    ) -> Result<Conversation, LinkError> {
        let frame = encode(request).map_err(|e| LinkError::new(LinkErrorKind::Invalid, op, e.to_string()))?;
        let give_up = Instant::now() + self.patience.to_std();
        let mut pause = FIRST_PAUSE;
        loop {
            let error = match self.once(over, &frame, op).await {
                Ok(conversation) => return Ok(conversation),
                Err(error) if !error.is_retryable() => return Err(error),
                Err(error) => error,
            };
            if Instant::now() + pause > give_up {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn once(
        &self,
        over: &Mutex<Option<Connection>>,
        frame: &[u8],
        op: &'static str,
    ) -> Result<Conversation, LinkError> {
        let mut slot = over.lock().await;
        // Taken out while it is used: a call that is dropped halfway takes its connection with it.
        let mut connection = match slot.take() {
            Some(connection) => connection,
            None => self.connect(op).await?,
        };
        let mut conversation = connection.exchange(frame).await.map_err(|e| unavailable(op, e))?;
        *slot = Some(connection);
        match conversation.pop() {
            Some(Answer::Failed { kind, message }) => Err(LinkError::new(kind, op, message)),
            Some(last) => {
                conversation.push(last);
                Ok(conversation)
            }
            None => Err(LinkError::new(LinkErrorKind::Unavailable, op, "the platform said nothing")),
        }
    }

    /// Connects to the first worker that answers.
    async fn connect(&self, op: &'static str) -> Result<Connection, LinkError> {
        let dir = self.dir.display();
        let sockets = socket::all(&self.dir).map_err(|e| unavailable(op, e))?;
        let mut last = LinkError::new(LinkErrorKind::Unavailable, op, format!("no worker listens in `{dir}`"));
        for path in sockets {
            let hello = Request::Hello {
                task: self.task,
                session: self.session.clone(),
                token: self.token.expose_secret().to_owned(),
            };
            let greeted = async {
                let mut connection = Connection(BufReader::new(socket::connect(&path).await?));
                let answer = connection.exchange(&encode(&hello)?).await?.pop();
                Ok::<_, io::Error>((connection, answer))
            };
            last = match greeted.await {
                Ok((connection, Some(Answer::Hello))) => return Ok(connection),
                Ok((_, Some(Answer::Failed { kind, message }))) => return Err(LinkError::new(kind, op, message)),
                Ok(_) => LinkError::new(LinkErrorKind::Invalid, op, "the platform does not speak the protocol"),
                Err(error) => unavailable(op, error),
            };
        }
        Err(last)
    }

    async fn reply(
        &self,
        over: &Mutex<Option<Connection>>,
        request: &Request,
        op: &'static str,
    ) -> Result<LinkReply, LinkError> {
        match self.say(over, request, op).await?.pop() {
            Some(Answer::Reply(reply)) => Ok(reply),
            _ => Err(unexpected(op)),
        }
    }
}

#[async_trait]
impl SessionLink for SocketLink {
    async fn register(&self, task: TaskId, session: &SessionId) -> Result<Registered, LinkError> {
        let op = "register";
        self.check(task, session, op)?;
        let mut registered = None;
        let mut log = Vec::new();
        for answer in self.say(&self.words, &Request::Register, op).await? {
            match answer {
                Answer::Log(part) => log.extend(part),
                Answer::Registered(task) => registered = Some(*task),
                Answer::Hello | Answer::Reply(_) | Answer::Done | Answer::Failed { .. } => return Err(unexpected(op)),
            }
        }
        registered.map(|task| Registered { task, log }).ok_or_else(|| unexpected(op))
    }

    async fn heartbeat(&self, task: TaskId, session: &SessionId) -> Result<LinkReply, LinkError> {
        self.check(task, session, "heartbeat")?;
        self.reply(&self.words, &Request::Heartbeat, "heartbeat").await
    }

    async fn listen(&self, task: TaskId, session: &SessionId, known: &[SignalId]) -> Result<LinkReply, LinkError> {
        self.check(task, session, "listen")?;
        self.reply(&self.hearing, &Request::Listen { known: known.to_vec() }, "listen").await
    }

    async fn append(&self, request: &AppendLog) -> Result<LinkReply, LinkError> {
        self.check(request.task, &request.session, "append")?;
        self.reply(&self.words, &Request::Append(Box::new(request.clone())), "append").await
    }

    async fn report(&self, task: TaskId, session: &SessionId, report: &SessionReport) -> Result<(), LinkError> {
        let op = "report";
        self.check(task, session, op)?;
        match self.say(&self.words, &Request::Report(Box::new(report.clone())), op).await?.pop() {
            Some(Answer::Done) => Ok(()),
            _ => Err(unexpected(op)),
        }
    }
}

/// The answers to one request: any number of log parts, then the one that ends it.
type Conversation = Vec<Answer>;

struct Connection(BufReader<UnixStream>);

impl Connection {
    async fn exchange(&mut self, frame: &[u8]) -> io::Result<Conversation> {
        self.0.write_all(frame).await?;
        self.0.flush().await?;
        let mut answers = Vec::new();
        loop {
            let answer = read(&mut self.0, MAX_FRAME).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
            let more = matches!(answer, Answer::Log(_));
            answers.push(answer);
            if !more {
                return Ok(answers);
            }
        }
    }
}

fn unavailable(op: &'static str, error: io::Error) -> LinkError {
    let kind =
        if error.kind() == io::ErrorKind::InvalidData { LinkErrorKind::Invalid } else { LinkErrorKind::Unavailable };
    LinkError::new(kind, op, format!("the platform cannot be reached: {error}")).with_source(error)
}

fn unexpected(op: &'static str) -> LinkError {
    LinkError::new(LinkErrorKind::Invalid, op, "the platform gave another answer than was asked for")
}
