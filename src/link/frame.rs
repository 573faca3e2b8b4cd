//! The words on the socket: one JSON value a line.

use std::io;

use abca_core::id::SignalId;
use abca_core::link::{AppendLog, LinkError, LinkErrorKind, LinkReply};
use abca_core::session::LogRecord;
use abca_core::task::{SessionReport, Task};
use abca_core::{SessionId, TaskId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite, AsyncWriteExt};

/// Longest frame in either direction: a batch of log records with images in it.
pub(super) const MAX_FRAME: usize = 64 << 20;
/// Longest first frame, before the token is known to be good.
pub(super) const MAX_HELLO: usize = 4 << 10;

/// From the session. No `Debug`: the first one carries the token.
#[derive(Serialize, Deserialize)]
#[serde(tag = "say", content = "data", rename_all = "snake_case")]
pub(super) enum Request {
    Hello { task: TaskId, session: SessionId, token: String },
    Register,
    Heartbeat,
    Listen { known: Vec<SignalId> },
    Append(Box<AppendLog>),
    Report(Box<SessionReport>),
}

/// From the platform. One for each request, except that parts of the log come before `Registered`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "answer", content = "data", rename_all = "snake_case")]
pub(super) enum Answer {
    Hello,
    Log(Vec<LogRecord>),
    Registered(Box<Task>),
    Reply(LinkReply),
    Done,
    Failed { kind: LinkErrorKind, message: String },
}

impl From<LinkError> for Answer {
    fn from(error: LinkError) -> Self {
        Self::Failed { kind: error.kind(), message: error.message().to_owned() }
    }
}

/// Reads one frame; `None` at the end of the stream. Cancel safety: a dropped read leaves the stream unusable.
pub(super) async fn read<T: DeserializeOwned>(
    from: &mut (impl AsyncBufRead + Unpin),
    limit: usize,
) -> io::Result<Option<T>> {
    let mut line = Vec::new();
    loop {
        let chunk = from.fill_buf().await?;
        if chunk.is_empty() {
            return if line.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
        let end = chunk.iter().position(|b| *b == b'\n');
        let taken = end.unwrap_or(chunk.len());
        if line.len() + taken > limit {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame is longer than {limit} bytes")));
        }
        line.extend_from_slice(&chunk[..taken]);
        from.consume(end.map_or(taken, |end| end + 1));
        if end.is_some() {
            // The parser's own message could quote what it read; what a peer says may be secret.
            return serde_json::from_slice(&line).map(Some).map_err(|e| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("a frame is not of the protocol, at column {}", e.column()),
                )
            });
        }
    }
}

/// One frame as bytes. JSON text never holds a raw newline.
///
/// # Errors
/// When it is longer than [`MAX_FRAME`].
pub(super) fn encode<T: Serialize>(frame: &T) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(frame)?;
    if line.len() > MAX_FRAME {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("a frame of {} bytes is longer than {MAX_FRAME}", line.len()),
        ));
    }
    line.push(b'\n');
    Ok(line)
}

/// Writes one frame.
pub(super) async fn write<T: Serialize>(to: &mut (impl AsyncWrite + Unpin), frame: &T) -> io::Result<()> {
    to.write_all(&encode(frame)?).await?;
    to.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_come_one_by_one_and_bad_ones_are_named_without_their_text() {
        let mut bytes = encode(&Request::Heartbeat).unwrap();
        bytes.extend(encode(&Request::Register).unwrap());
        bytes.extend(b"{\"say\":\"hunter2\"}\n");
        let mut stream = bytes.as_slice();
        assert!(matches!(read(&mut stream, 100).await.unwrap(), Some(Request::Heartbeat)));
        assert!(matches!(read(&mut stream, 100).await.unwrap(), Some(Request::Register)));
        let error = read::<Request>(&mut stream, 100).await.err().unwrap();
        assert!(error.to_string().starts_with("a frame is not of the protocol"), "{error}");
        assert!(read::<Request>(&mut stream, 100).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_long_frame_and_a_cut_one_are_errors() {
        let long = vec![b'x'; 200];
        assert_eq!(read::<Request>(&mut long.as_slice(), 100).await.err().unwrap().kind(), io::ErrorKind::InvalidData);
        let cut = read::<Request>(&mut &b"{\"say\""[..], 100).await.err().unwrap();
        assert_eq!(cut.kind(), io::ErrorKind::UnexpectedEof);
    }
}
