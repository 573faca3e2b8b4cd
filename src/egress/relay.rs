//! Bytes from one side to the other, counted and timed.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use abca_core::egress::Framing;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout};

/// Longest line of a chunk's size, its extensions included, and all lines after the last chunk together.
const CHUNK_LINE: usize = 4 << 10;
const TRAILERS: usize = 16 << 10;
const PIECE: usize = 32 << 10;

/// Why bytes go no further.
#[derive(Debug)]
pub(super) enum Stopped {
    /// One side closed or broke.
    Broken,
    /// Nothing came for too long.
    Idle,
    /// More bytes than a session may move.
    Bytes,
    /// A body that is not framed as its head says.
    Framing,
    /// A tunnel that leads elsewhere than it was opened to.
    Tunnel,
}

impl From<io::Error> for Stopped {
    fn from(_: io::Error) -> Self {
        Self::Broken
    }
}

/// Bytes that a session may still move in one direction.
#[derive(Debug)]
pub(super) struct Allowance(AtomicU64);

impl Allowance {
    pub(super) const fn new(bytes: u64) -> Self {
        Self(AtomicU64::new(bytes))
    }

    fn take(&self, bytes: usize) -> Result<(), Stopped> {
        let take = |left: u64| left.checked_sub(bytes as u64);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).map(drop).map_err(|_| Stopped::Bytes)
    }
}

/// When something last moved between two sides, in either direction.
#[derive(Debug)]
pub(super) struct Activity {
    last: Mutex<Instant>,
    idle: Duration,
}

impl Activity {
    pub(super) fn new(idle: Duration) -> Self {
        Self { last: Mutex::new(Instant::now()), idle }
    }

    fn seen(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Waits for what reads or writes, as long as anything moves at all.
    pub(super) async fn wait<T>(&self, what: impl Future<Output = io::Result<T>>) -> Result<T, Stopped> {
        tokio::pin!(what);
        loop {
            match timeout(self.idle, what.as_mut()).await {
                Ok(done) => {
                    self.seen();
                    return Ok(done?);
                }
                Err(_) if self.last.lock().unwrap_or_else(PoisonError::into_inner).elapsed() < self.idle => {}
                Err(_) => return Err(Stopped::Idle),
            }
        }
    }
}

/// Everything up to the end, which is passed on too.
pub(super) async fn all(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    allowance: &Allowance,
    activity: &Activity,
) -> Result<(), Stopped> {
    let mut piece = vec![0; PIECE];
    loop {
        let read = activity.wait(from.read(&mut piece)).await?;
        if read == 0 {
            break;
        }
        pass(&piece[..read], &mut to, allowance, activity).await?;
        // TLS may keep some of it.
        activity.wait(to.flush()).await?;
    }
    activity.wait(to.shutdown()).await
}

/// The body of one request and nothing after it, framed anew.
pub(super) async fn body(
    mut from: impl AsyncBufRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    framing: Framing,
    allowance: &Allowance,
    activity: &Activity,
) -> Result<(), Stopped> {
    match framing {
        Framing::Length(length) => exactly(&mut from, &mut to, length, allowance, activity).await?,
        Framing::Chunked => loop {
            let line = line(&mut from, CHUNK_LINE, activity).await?;
            let size = match httparse::parse_chunk_size(&line) {
                Ok(httparse::Status::Complete((_, size))) => size,
                Ok(httparse::Status::Partial) | Err(_) => return Err(Stopped::Framing),
            };
            if size == 0 {
                let mut left = TRAILERS;
                loop {
                    let trailer = self::line(&mut from, left, activity).await?;
                    left = left.saturating_sub(trailer.len());
                    if trailer == b"\r\n" || trailer == b"\n" {
                        break;
                    }
                }
                pass(b"0\r\n\r\n", &mut to, allowance, activity).await?;
                break;
            }
            pass(format!("{size:x}\r\n").as_bytes(), &mut to, allowance, activity).await?;
            exactly(&mut from, &mut to, size, allowance, activity).await?;
            if self::line(&mut from, 2, activity).await? != b"\r\n" {
                return Err(Stopped::Framing);
            }
            pass(b"\r\n", &mut to, allowance, activity).await?;
        },
    }
    activity.wait(to.flush()).await
}

async fn exactly(
    from: &mut (impl AsyncBufRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    mut length: u64,
    allowance: &Allowance,
    activity: &Activity,
) -> Result<(), Stopped> {
    let mut piece = vec![0; PIECE];
    while length > 0 {
        let most = usize::try_from(length).unwrap_or(PIECE).min(PIECE);
        let read = activity.wait(from.read(&mut piece[..most])).await?;
        if read == 0 {
            return Err(Stopped::Broken);
        }
        pass(&piece[..read], to, allowance, activity).await?;
        length -= read as u64;
    }
    Ok(())
}

pub(super) async fn pass(
    bytes: &[u8],
    to: &mut (impl AsyncWrite + Unpin),
    allowance: &Allowance,
    activity: &Activity,
) -> Result<(), Stopped> {
    // Nothing is passed on and nothing is flushed: there may be nobody there any more.
    if bytes.is_empty() {
        return Ok(());
    }
    allowance.take(bytes.len())?;
    activity.wait(to.write_all(bytes)).await
}

/// A line with its end, of at most `most` bytes.
async fn line(from: &mut (impl AsyncBufRead + Unpin), most: usize, activity: &Activity) -> Result<Vec<u8>, Stopped> {
    let mut line = Vec::new();
    let mut limited = from.take(most as u64);
    activity.wait(limited.read_until(b'\n', &mut line)).await?;
    if line.last() == Some(&b'\n') { Ok(line) } else { Err(Stopped::Framing) }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn sent(body_of: &[u8], framing: Framing) -> Result<(String, usize), &'static str> {
        let mut from = body_of;
        let mut to = Vec::new();
        let (allowance, activity) = (Allowance::new(1 << 20), Activity::new(Duration::from_secs(1)));
        match body(&mut from, &mut to, framing, &allowance, &activity).await {
            Ok(()) => Ok((String::from_utf8(to).unwrap(), from.len())),
            Err(Stopped::Broken) => Err("broken"),
            Err(Stopped::Idle) => Err("idle"),
            Err(Stopped::Bytes) => Err("bytes"),
            Err(Stopped::Framing) => Err("framing"),
            Err(Stopped::Tunnel) => Err("tunnel"),
        }
    }

    #[tokio::test]
    async fn one_body_and_nothing_after_it_is_passed_on() {
        let ok = |text: &str, left| Ok((text.to_owned(), left));
        assert_eq!(sent(b"abcGET / HTTP/1.1", Framing::Length(3)).await, ok("abc", 14));
        assert_eq!(
            sent(b"003;ext=1\r\nabc\r\n0\r\nTrailer: x\r\n\r\nGET /", Framing::Chunked).await,
            ok("3\r\nabc\r\n0\r\n\r\n", 5)
        );
        assert_eq!(sent(b"ab", Framing::Length(3)).await, Err("broken"));
        for bad in ["3\r\nabcd\r\n0\r\n\r\n", "x\r\n", "-1\r\nabc", "3\r\nabc\n0\r\n\r\n", "", "ffffffffffffffffff\r\n"]
        {
            assert_eq!(sent(bad.as_bytes(), Framing::Chunked).await, Err("framing"), "{bad:?}");
        }
        let long = format!("3;{}\r\nabc\r\n0\r\n\r\n", "x".repeat(CHUNK_LINE));
        assert_eq!(sent(long.as_bytes(), Framing::Chunked).await, Err("framing"));
        let trailers = format!("0\r\n{}\r\n", "a: b\r\n".repeat(TRAILERS));
        assert_eq!(sent(trailers.as_bytes(), Framing::Chunked).await, Err("framing"));
        assert_eq!(sent(&vec![0; 2 << 20], Framing::Length(2 << 20)).await, Err("bytes"));
    }
}
