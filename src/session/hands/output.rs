//! Output in bounded memory: its beginning and its end are kept, the middle is counted.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Keeps the first and the last bytes of a stream of any length.
#[derive(Debug)]
pub(super) struct HeadTail {
    half: usize,
    head: Vec<u8>,
    tail: VecDeque<u8>,
    total: u64,
}

impl HeadTail {
    /// Keeps at most `cap` bytes, half from each end.
    pub fn new(cap: usize) -> Self {
        Self { half: cap / 2, head: Vec::new(), tail: VecDeque::new(), total: 0 }
    }

    pub fn push(&mut self, mut bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let room = self.half.saturating_sub(self.head.len()).min(bytes.len());
        self.head.extend_from_slice(&bytes[..room]);
        bytes = &bytes[room..];
        if bytes.len() > self.half {
            bytes = &bytes[bytes.len() - self.half..];
        }
        let over = (self.tail.len() + bytes.len()).saturating_sub(self.half);
        self.tail.drain(..over);
        self.tail.extend(bytes);
    }

    pub fn take(&mut self) -> Captured {
        let head = std::mem::take(&mut self.head);
        let tail: Vec<u8> = std::mem::take(&mut self.tail).into();
        Captured { head, tail, total_bytes: std::mem::take(&mut self.total) }
    }
}

/// What is kept of a stream. When nothing was left out, `head` and `tail` together are all of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Captured {
    /// Its first bytes.
    pub head: Vec<u8>,
    /// Its last bytes, after what was left out.
    pub tail: Vec<u8>,
    /// How long it was.
    pub total_bytes: u64,
}

impl Captured {
    /// Bytes that were not kept.
    pub fn omitted_bytes(&self) -> u64 {
        self.total_bytes.saturating_sub((self.head.len() + self.tail.len()) as u64)
    }

    /// All that is kept as one piece; with a hole in it when [`Captured::omitted_bytes`] is not zero.
    pub fn bytes(&self) -> Vec<u8> {
        [self.head.as_slice(), &self.tail].concat()
    }

    /// All of it, unless something was left out.
    pub fn whole(&self) -> Option<Vec<u8>> {
        (self.omitted_bytes() == 0).then(|| self.bytes())
    }

    /// As text, a marker in place of what was left out; bytes that are not UTF-8 become `U+FFFD`.
    pub fn text(&self) -> String {
        let omitted = self.omitted_bytes();
        if omitted == 0 {
            return String::from_utf8_lossy(&self.bytes()).into_owned();
        }
        format!(
            "{}\n[... {omitted} of {} bytes omitted ...]\n{}",
            String::from_utf8_lossy(&self.head),
            self.total_bytes,
            String::from_utf8_lossy(&self.tail)
        )
    }

    pub(super) fn lens(&self) -> CapturedLens {
        CapturedLens { head: self.head.len(), tail: self.tail.len(), total_bytes: self.total_bytes }
    }

    /// Takes its parts off the front of a body; `None` when the lengths do not fit it.
    pub(super) fn split(body: &mut &[u8], lens: CapturedLens) -> Option<Self> {
        let (head, rest) = body.split_at_checked(lens.head)?;
        let (tail, rest) = rest.split_at_checked(lens.tail)?;
        *body = rest;
        Some(Self { head: head.to_vec(), tail: tail.to_vec(), total_bytes: lens.total_bytes })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CapturedLens {
    head: usize,
    tail: usize,
    total_bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_are_kept_however_the_bytes_come() {
        let all: Vec<u8> = (0..100).collect();
        for piece in [1, 3, 7, 50, 100] {
            let mut kept = HeadTail::new(20);
            all.chunks(piece).for_each(|c| kept.push(c));
            let got = kept.take();
            assert_eq!(
                got,
                Captured { head: all[..10].to_vec(), tail: all[90..].to_vec(), total_bytes: 100 },
                "in pieces of {piece}"
            );
            assert_eq!(got.omitted_bytes(), 80);
        }
        let mut kept = HeadTail::new(20);
        kept.push(&all[..15]);
        let got = kept.take();
        assert_eq!((got.bytes(), got.omitted_bytes()), (all[..15].to_vec(), 0));
    }

    #[test]
    fn lengths_that_lie_are_found() {
        let lens = CapturedLens { head: 2, tail: 9, total_bytes: 11 };
        assert_eq!(Captured::split(&mut &b"abc"[..], lens), None);
    }
}
