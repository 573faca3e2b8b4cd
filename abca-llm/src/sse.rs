//! Server-sent events, sans-IO: bytes go in as they arrive, events come out.
//!
//! After the HTML standard's section on event streams: lines end in CR, LF or CRLF, a byte order mark is dropped,
//! comments and unknown fields are skipped, data lines are joined with LF, an event that no empty line ends is
//! dropped. Total on any bytes: what is not UTF-8 is replaced.

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SseEvent {
    /// The event's name; `message` when it has none.
    pub name: String,
    /// Its data lines, joined with LF.
    pub data: String,
}

/// An event is larger than the parser's limit. The parser takes no more bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event of the stream is larger than {limit_bytes} bytes")]
pub struct EventTooLarge {
    /// The limit.
    pub limit_bytes: usize,
}

/// The parser. It holds at most one event of `limit_bytes` and one line.
#[derive(Debug)]
pub struct SseParser {
    limit_bytes: usize,
    line: Vec<u8>,
    name: String,
    data: Vec<u8>,
    has_data: bool,
    first_line: bool,
    after_cr: bool,
    failed: bool,
}

const BOM: &[u8] = &[0xEF, 0xBB, 0xBF];

impl SseParser {
    /// Holds a tool argument of 2 MB in its worst escaping, with room: 16 MiB.
    pub const DEFAULT_LIMIT_BYTES: usize = 16 * 1024 * 1024;

    /// A parser that refuses events larger than `limit_bytes`.
    pub const fn new(limit_bytes: usize) -> Self {
        Self {
            limit_bytes,
            line: Vec::new(),
            name: String::new(),
            data: Vec::new(),
            has_data: false,
            first_line: true,
            after_cr: false,
            failed: false,
        }
    }

    /// Takes the next bytes and appends the events that they complete. How the bytes are cut makes no difference.
    ///
    /// # Errors
    /// [`EventTooLarge`], then and for ever after. Events before it have been appended.
    pub fn push(&mut self, mut bytes: &[u8], events: &mut Vec<SseEvent>) -> Result<(), EventTooLarge> {
        while !bytes.is_empty() && !self.failed {
            if std::mem::take(&mut self.after_cr) && bytes[0] == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let end = bytes.iter().position(|b| matches!(b, b'\n' | b'\r'));
            let (line, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
            if self.line.len() + self.data.len() + line.len() > self.limit_bytes {
                self.failed = true;
                break;
            }
            self.line.extend_from_slice(line);
            bytes = rest;
            if let Some((&terminator, rest)) = rest.split_first() {
                self.after_cr = terminator == b'\r';
                bytes = rest;
                let line = std::mem::take(&mut self.line);
                self.end_of_line(&line, events);
                self.line = line;
                self.line.clear();
            }
        }
        if self.failed { Err(EventTooLarge { limit_bytes: self.limit_bytes }) } else { Ok(()) }
    }

    fn end_of_line(&mut self, line: &[u8], events: &mut Vec<SseEvent>) {
        let line = if std::mem::take(&mut self.first_line) { line.strip_prefix(BOM).unwrap_or(line) } else { line };
        if line.is_empty() {
            let name = std::mem::take(&mut self.name);
            let data = std::mem::take(&mut self.data);
            if std::mem::take(&mut self.has_data) {
                let name = if name.is_empty() { "message".to_owned() } else { name };
                let data =
                    String::from_utf8(data).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned());
                events.push(SseEvent { name, data });
            }
            return;
        }
        let (field, value) = match line.iter().position(|b| *b == b':') {
            Some(0) => return,
            Some(colon) => {
                let value = &line[colon + 1..];
                (&line[..colon], value.strip_prefix(b" ").unwrap_or(value))
            }
            None => (line, &[][..]),
        };
        match field {
            b"data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.data.push(b'\n');
                }
                self.data.extend_from_slice(value);
            }
            b"event" => self.name = String::from_utf8_lossy(value).into_owned(),
            _ => {} // `id`, `retry` and unknown fields: we never reconnect.
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(chunks: &[&[u8]]) -> Vec<(String, String)> {
        let mut parser = SseParser::new(1000);
        let mut events = Vec::new();
        for chunk in chunks {
            let _ = parser.push(chunk, &mut events);
        }
        events.into_iter().map(|e| (e.name, e.data)).collect()
    }

    fn pairs(want: &[(&str, &str)]) -> Vec<(String, String)> {
        want.iter().map(|(n, d)| ((*n).to_owned(), (*d).to_owned())).collect()
    }

    #[test]
    fn lines_end_in_any_of_three_ways() {
        let want = pairs(&[("a", "1\n2"), ("message", "3")]);
        assert_eq!(parse(&[b"event: a\ndata: 1\ndata:2\n\ndata:3\n\n"]), want);
        assert_eq!(parse(&[b"event: a\r\ndata: 1\r\ndata:2\r\n\r\ndata:3\r\n\r\n"]), want);
        assert_eq!(parse(&[b"event: a\rdata: 1\rdata:2\r\rdata:3\r\r"]), want);
        assert_eq!(parse(&[b"event: a\rdata: 1\r", b"\ndata:2\r", b"\n\r\n", b"data:3\r\r"]), want);
    }

    #[test]
    fn comments_marks_fields_and_empty_data() {
        assert_eq!(parse(&[b"\xEF\xBB\xBFdata: x\n\n"]), pairs(&[("message", "x")]));
        assert_eq!(parse(&[b"\xEF", b"\xBB", b"\xBFdata: x\n\n"]), pairs(&[("message", "x")]));
        assert_eq!(parse(&[b": ping\n\nid: 7\nretry: 3\nfoo\n\ndata\n\n"]), pairs(&[("message", "")]));
        assert_eq!(parse(&[b"event: a\n\ndata: x\n\n"]), pairs(&[("message", "x")]));
        assert_eq!(parse(&[b"data: cut"]), pairs(&[]));
        assert_eq!(parse(&[b"data: \xFF\n\n"]), pairs(&[("message", "\u{fffd}")]));
    }

    #[test]
    fn an_endless_event_is_refused() {
        let mut parser = SseParser::new(10);
        let mut events = Vec::new();
        assert_eq!(parser.push(b"data: 1234\n\n", &mut events), Ok(()));
        let refused = Err(EventTooLarge { limit_bytes: 10 });
        assert_eq!(parser.push(b"data: 12345", &mut events), refused);
        assert_eq!(parser.push(b"\n\ndata: 1\n\n", &mut events), refused);
        assert_eq!(events.len(), 1);
        let mut lines = SseParser::new(10);
        assert_eq!(lines.push(b"data:1\ndata:2\ndata:3\ndata:4\ndata:5\n", &mut events), refused);
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_events(
            parts in prop::collection::vec(
                prop_oneof![
                    Just("data".to_owned()), Just(":".to_owned()), Just(" ".to_owned()), Just("\n".to_owned()),
                    Just("\r".to_owned()), Just("\r\n".to_owned()), Just("\n\n".to_owned()),
                    Just("event: e".to_owned()), Just("\u{feff}".to_owned()), Just("\u{1f9ea}".to_owned()), ".{0,6}",
                ],
                0..40,
            ),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let bytes = parts.concat().into_bytes();
            let mut at: Vec<usize> = cuts.iter().map(|c| c.index(bytes.len() + 1)).collect();
            at.extend([0, bytes.len()]);
            at.sort_unstable();
            let chunks: Vec<&[u8]> = at.windows(2).map(|w| &bytes[w[0]..w[1]]).collect();
            let every: Vec<&[u8]> = bytes.chunks(1).collect();
            let whole = parse(&[&bytes]);
            prop_assert_eq!(&parse(&chunks), &whole);
            prop_assert_eq!(&parse(&every), &whole);
        }
    }
}
