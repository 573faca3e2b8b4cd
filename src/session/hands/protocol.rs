//! The wire between brain and hands: frames of a JSON head and raw bytes, and the messages in them.
//!
//! A frame is two big-endian `u32` lengths (head, body), then the head (JSON), then the body (raw bytes: command
//! output, file contents, images). Both together are at most [`MAX_FRAME_BYTES`]. The brain trusts nothing that
//! comes back: a frame that is too long or not decodable ends the connection, an answer to no call is ignored.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use abca_core::Millis;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::exec::{ExecRequest, ExecSummary};
use crate::egress::BridgeConfig;
use crate::session::tools::ToolRequest;

/// Largest frame, head and body together: a `Write` of 1 MiB, escaped as badly as JSON can, fits.
pub const MAX_FRAME_BYTES: usize = 16 << 20;

/// Version of the protocol; brain and hands are the same program, so a difference is an installation error.
pub const PROTOCOL_VERSION: u32 = 1;

/// What the server is told first: where it works and with what environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandsConfig {
    /// The work tree, as the hands see it; every command starts here. Must exist.
    pub root: PathBuf,
    /// The private temporary folder, as the hands see it. Must exist.
    pub tmp: PathBuf,
    /// `HOME` of commands; made if missing.
    pub home: PathBuf,
    /// `PATH` of commands.
    pub path: String,
    /// More variables of every command, over the built-in ones. No secrets: every command can read them.
    pub env: BTreeMap<String, String>,
    /// A bridge to the egress proxy, in a network of the hands' own. Default none.
    pub bridge: Option<BridgeConfig>,
}

impl HandsConfig {
    /// A work tree with `/tmp`, `/tmp/home` and the system's usual `PATH`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            tmp: "/tmp".into(),
            home: "/tmp/home".into(),
            path: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into(),
            env: BTreeMap::new(),
            bridge: None,
        }
    }
}

/// What the server says first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandsInfo {
    /// [`PROTOCOL_VERSION`] of the server.
    pub protocol: u32,
    /// Its process id, as it sees itself.
    pub pid: u32,
    /// The shell that runs command lines.
    pub shell: String,
}

/// What kind of thing a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link; `stat` does not follow.
    Symlink,
    /// FIFO, socket or device.
    Special,
}

/// What `stat` tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStat {
    /// What it is.
    pub kind: FileKind,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// Unix permission bits.
    pub mode: u32,
    /// Last change, in milliseconds since the epoch.
    pub modified_ms: i64,
}

/// A file's first bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileBytes {
    /// The path relative to the work tree.
    pub path: String,
    /// Its first bytes.
    pub bytes: Vec<u8>,
    /// Whether there is more.
    pub truncated: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Call {
    pub id: u64,
    pub op: Op,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Op {
    Hello(HandsConfig),
    Ping,
    /// Standard input in the body.
    Exec(ExecRequest),
    Tool(Box<ToolRequest>),
    Cancel {
        call: u64,
    },
    Stat {
        path: String,
    },
    Fetch {
        path: String,
        max_bytes: u64,
    },
    /// Content in the body.
    Store {
        path: String,
    },
    ProjectFiles,
    /// Where paths lead.
    LeadTo {
        paths: Vec<String>,
    },
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Answer {
    pub id: u64,
    pub reply: Reply,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reply {
    Ready(HandsInfo),
    Done,
    /// Live output in the body. Any number, before `Exit`.
    Output {
        skipped_bytes: u64,
    },
    /// Kept output in the body.
    Exit(ExecSummary),
    /// An image in the body, if there is one.
    Outcome(ToolReply),
    Stat(FileStat),
    /// Contents one after the other in the body.
    Files {
        files: Vec<FileHead>,
    },
    /// In the order in which they were asked for.
    Paths {
        paths: Vec<String>,
    },
    Failed {
        message: String,
    },
}

/// What a tool that ran in the hands says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ToolReply {
    pub text: String,
    pub is_error: bool,
    pub image: Option<String>,
    pub duration_ms: Millis,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FileHead {
    pub path: String,
    pub len: u64,
    pub truncated: bool,
}

/// Makes a frame. Fails when it would be too long.
pub(super) fn encode<T: Serialize>(head: &T, body: &[&[u8]]) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; 8];
    serde_json::to_writer(&mut frame, head)?;
    let head_len = frame.len() - 8;
    for part in body {
        frame.extend_from_slice(part);
    }
    let body_len = frame.len() - 8 - head_len;
    if head_len + body_len > MAX_FRAME_BYTES {
        return Err(too_long(head_len + body_len));
    }
    // Both fit: they are below `MAX_FRAME_BYTES`.
    frame[..4].copy_from_slice(&(head_len as u32).to_be_bytes());
    frame[4..8].copy_from_slice(&(body_len as u32).to_be_bytes());
    Ok(frame)
}

/// Reads a frame; `None` at a clean end. Not cancel-safe.
pub(super) async fn read<T: DeserializeOwned>(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<(T, Vec<u8>)>> {
    let mut lens = [0; 8];
    if from.read(&mut lens[..1]).await? == 0 {
        return Ok(None);
    }
    from.read_exact(&mut lens[1..]).await?;
    let [a, b, c, d, e, f, g, h] = lens;
    let (head_len, body_len) = (u32::from_be_bytes([a, b, c, d]) as usize, u32::from_be_bytes([e, f, g, h]) as usize);
    if head_len.saturating_add(body_len) > MAX_FRAME_BYTES {
        return Err(too_long(head_len.saturating_add(body_len)));
    }
    let head = exactly(from, head_len).await?;
    // Its own conversion would call a cut head an end of the stream.
    let head: T = serde_json::from_slice(&head).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
    Ok(Some((head, exactly(from, body_len).await?)))
}

/// Grows with what arrives: a length alone makes nobody allocate.
async fn exactly(from: &mut (impl AsyncRead + Unpin), len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(len.min(64 << 10));
    if from.take(len as u64).read_to_end(&mut bytes).await? < len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}

fn too_long(len: usize) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {len} bytes is over the limit of {MAX_FRAME_BYTES}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block<F: Future>(f: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(f)
    }

    #[test]
    fn a_frame_comes_back_whole_and_a_cut_one_is_an_error() {
        let frame = encode(&Call { id: 7, op: Op::Ping }, &[b"ab", b"\xff"]).unwrap();
        let (call, body) = block(read::<Call>(&mut frame.as_slice())).unwrap().unwrap();
        assert_eq!((call.id, matches!(call.op, Op::Ping), body), (7, true, b"ab\xff".to_vec()));
        for cut in 1..frame.len() {
            assert!(block(read::<Call>(&mut &frame[..cut])).is_err(), "cut at {cut}");
        }
        assert!(block(read::<Call>(&mut &frame[..0])).unwrap().is_none());
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_anything_is_read() {
        let e = block(read::<Call>(&mut &[0xff; 8][..])).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::InvalidData);
        assert!(encode(&1, &[&vec![0; MAX_FRAME_BYTES]]).is_err());
    }
}
