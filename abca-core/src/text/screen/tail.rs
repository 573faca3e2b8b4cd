//! What follows a match and still belongs to the secret, however long it is and however it arrives.

use serde::{Deserialize, Serialize};

/// Which bytes after a match belong to the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Tail {
    /// None: the pattern has it all.
    #[default]
    None,
    /// ASCII letters and digits.
    Alphanumeric,
    /// Letters, digits, `_` and `-`.
    Word,
    /// Letters, digits, `_`, `-` and `.`.
    Dotted,
    /// The digits of base64 of both alphabets, and `=`.
    Base64,
    /// Letters, digits and `._~+/-=%`: what tokens in headers and URLs are written in.
    Token,
    /// Everything but white space, quotes, brackets and `@,;&<>`.
    Value,
    /// The lines of a PEM block up to its end mark, or as long as they are base64.
    Pem,
}

impl Tail {
    /// The number of kinds.
    pub(super) const COUNT: usize = 8;

    pub(super) fn index(self) -> usize {
        match self {
            Self::None => 0,
            Self::Alphanumeric => 1,
            Self::Word => 2,
            Self::Dotted => 3,
            Self::Base64 => 4,
            Self::Token => 5,
            Self::Value => 6,
            Self::Pem => 7,
        }
    }

    fn takes(self, byte: u8) -> bool {
        let marks: &[u8] = match self {
            Self::None | Self::Pem => return false,
            Self::Alphanumeric => b"",
            Self::Word => b"_-",
            Self::Dotted => b"_-.",
            Self::Base64 => b"+/-_=",
            Self::Token => b"._~+/-=%",
            Self::Value => {
                return byte > b' ' && byte != 0x7f && !b"\"'`()[]{}<>@,;&\\".contains(&byte);
            }
        };
        byte.is_ascii_alphanumeric() || marks.contains(&byte)
    }

    /// A run of these bytes, to be followed.
    pub(super) fn run(self) -> Run {
        Run { tail: self, pem: Pem::default() }
    }
}

/// A secret that is being followed: where it ends is not known yet.
#[derive(Debug, Clone)]
pub(super) struct Run {
    tail: Tail,
    pem: Pem,
}

impl Run {
    /// How many of these bytes belong to it; all of them when it may go on.
    pub(super) fn take(&mut self, bytes: &[u8]) -> usize {
        match self.tail {
            Tail::None => 0,
            Tail::Pem => self.pem.take(bytes),
            Tail::Alphanumeric | Tail::Word | Tail::Dotted | Tail::Base64 | Tail::Token | Tail::Value => {
                bytes.iter().position(|b| !self.tail.takes(*b)).unwrap_or(bytes.len())
            }
        }
    }

    /// Whether it was a key block, as far as was read: base64 lines, or some base64 and the end mark.
    pub(super) fn is_key(&self) -> bool {
        self.pem.long || (self.pem.some && self.pem.place == Place::Done)
    }
}

/// A run of base64 this long is a line of a key, not a word.
const LINE: u32 = 16;
/// Longest header line (`Proc-Type: 4,ENCRYPTED`) and end mark.
const HEADER: u32 = 200;

/// Reads the body of a PEM block, byte by byte.
///
/// It may be indented, quoted, in a diff, with line numbers before its lines, or on one line with its line breaks written
/// as `\n` or as spaces.
#[derive(Debug, Clone, Default)]
struct Pem {
    place: Place,
    /// A line of a key was read.
    long: bool,
    /// Base64 was read.
    some: bool,
    /// The last run was short: only the end mark, or a checksum, may follow.
    short: bool,
    /// Length of what is being read.
    len: u32,
    /// It has nothing but digits: perhaps a line number.
    number: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Place {
    /// Between runs.
    #[default]
    Between,
    /// After a backslash.
    Escape,
    /// In base64.
    Run,
    /// After a short run, on its line.
    After,
    /// In a header, up to its line's end.
    Header,
    /// In dashes: an end mark, or the mark of a diff.
    Dashes,
    /// In the words of an end mark.
    Mark,
    /// In its last dashes.
    Last,
    Done,
}

impl Pem {
    fn take(&mut self, bytes: &[u8]) -> usize {
        let stop = bytes.iter().position(|b| !self.step(*b));
        stop.unwrap_or(bytes.len())
    }

    /// Whether a byte belongs to the block.
    fn step(&mut self, byte: u8) -> bool {
        match self.place {
            Place::Done => false,
            Place::Between | Place::After => self.between(byte),
            Place::Escape => {
                self.place = Place::Between;
                matches!(byte, b'n' | b'r' | b't' | b'\\' | b'"' | b'\'')
                    || (matches!(byte, b'\n' | b'\r') && self.line())
                    || self.between(byte)
            }
            Place::Run => self.run(byte),
            Place::Header => {
                self.len = self.len.saturating_add(1);
                if byte == b'\n' || (byte == b'\\' && self.escape()) {
                    return self.line();
                }
                self.len < HEADER && byte >= b' '
            }
            Place::Dashes => match byte {
                // Five, and one of a diff.
                b'-' => {
                    self.len = self.len.saturating_add(1);
                    self.len <= 6
                }
                b'E' if self.len >= 5 => {
                    self.place = Place::Mark;
                    self.len = 0;
                    true
                }
                _ if self.len < 5 => {
                    self.place = Place::Between;
                    self.between(byte)
                }
                _ => false,
            },
            Place::Mark => {
                self.len = self.len.saturating_add(1);
                if byte == b'-' {
                    self.place = Place::Last;
                    self.len = 1;
                    return true;
                }
                self.len < HEADER && (byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b' ')
            }
            Place::Last => {
                self.len = self.len.saturating_add(1);
                if byte == b'-' && self.len == 5 {
                    self.place = Place::Done;
                }
                byte == b'-'
            }
        }
    }

    fn line(&mut self) -> bool {
        self.place = Place::Between;
        true
    }

    fn escape(&mut self) -> bool {
        self.place = Place::Escape;
        true
    }

    fn between(&mut self, byte: u8) -> bool {
        match byte {
            b'\n' | b'\r' => self.line(),
            b'\\' => self.escape(),
            b'-' => {
                self.place = Place::Dashes;
                self.len = 1;
                true
            }
            b' ' | b'\t' | b'"' | b'\'' | b',' | b'>' | b'|' | b'#' | b'*' | b';' | b'(' | b')' => true,
            // `→` after a line number.
            0xe2 | 0x86 | 0x92 => true,
            b'=' => {
                self.begin_run(byte);
                true
            }
            b if b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/') => {
                if self.place == Place::After || (self.short && !b.is_ascii_digit() && b != b'+') {
                    return false;
                }
                self.begin_run(b);
                true
            }
            _ => false,
        }
    }

    fn begin_run(&mut self, byte: u8) {
        self.place = Place::Run;
        self.len = 1;
        self.number = byte.is_ascii_digit();
        if byte == b'=' {
            self.short = false;
        }
    }

    fn run(&mut self, byte: u8) -> bool {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=') {
            self.len = self.len.saturating_add(1);
            self.number &= byte.is_ascii_digit();
            if self.len >= LINE {
                (self.long, self.some) = (true, true);
            }
            return true;
        }
        let is_long = self.len >= LINE;
        if self.number && self.len <= 7 && matches!(byte, b'\t' | b' ' | b':' | b'|' | b'-' | 0xe2) {
            self.place = Place::Between;
            return true;
        }
        if !is_long && !self.long && matches!(byte, b':' | b'-') {
            self.place = Place::Header;
            return true;
        }
        self.some = true;
        self.short = !is_long;
        self.place = Place::Between;
        if !is_long && matches!(byte, b' ' | b'\t' | b',' | b'(' | b')' | b'>' | b'|' | b'#' | b'*' | b';') {
            self.place = Place::After;
            return true;
        }
        self.between(byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(body: &str) -> (&str, bool) {
        let mut run = Tail::Pem.run();
        let len = run.take(body.as_bytes());
        // Byte by byte it is the same.
        let mut slow = Tail::Pem.run();
        let steps = body.bytes().take_while(|b| slow.take(&[*b]) == 1).count();
        assert_eq!(steps, len, "{body}");
        (body.get(len..).unwrap(), run.is_key())
    }

    #[test]
    fn blocks_end_where_they_end() {
        let line = "MIIEpAIBAAKCAQEAabcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKL";
        for (body, rest) in [
            (format!("\n{line}\n{line}\nabc=\n-----END RSA PRIVATE KEY-----\nafter"), "\nafter"),
            (format!("\n  {line}\n  {line}\n  -----END PRIVATE KEY-----after"), "after"),
            (format!("\\n{line}\\n{line}\\n-----END PRIVATE KEY-----\\n\", \"x\": 1"), "\\n\", \"x\": 1"),
            (format!("\n+{line}\n+{line}\n+-----END PRIVATE KEY-----\n more"), "\n more"),
            (format!("\n-{line}\n-{line}\n------END PRIVATE KEY-----\n more"), "\n more"),
            (format!("\n    2\t{line}\n    3\t{line}\n    4\t-----END PRIVATE KEY-----\n    5\tx"), "\n    5\tx"),
            (format!(" {line} {line} -----END PRIVATE KEY----- x"), " x"),
            (
                format!(
                    "\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,0123\n\n{line}\n-----END RSA PRIVATE KEY-----!"
                ),
                "!",
            ),
            (
                format!(
                    "\nVersion: GnuPG v2.0.22\n\n{line}\n{line}\nab==\n=aBcD\n-----END PGP PRIVATE KEY BLOCK-----\n"
                ),
                "\n",
            ),
            // Cut off: what is not base64 is not taken.
            (format!("\n{line}\n{line}\n$ ls -la\n"), "$ ls -la\n"),
            (format!("\n{line}\nthe end of it.\n"), " end of it.\n"),
            (format!("\n{line}{line}{line}"), ""),
        ] {
            let (left, key) = taken(&body);
            assert!(key, "{body}");
            // A word may go with it where a block was cut off.
            assert!(left == rest || left.ends_with(rest.trim_start()), "{body}: {left}");
        }
        for mention in ["\" is how it begins", " and so on", "\n...\n-----END PRIVATE KEY-----", "');", ""] {
            assert!(!taken(mention).1, "{mention}");
        }
    }

    #[test]
    fn classes_take_what_they_say() {
        let taken = |tail: Tail| tail.run().take(b"aZ9_-.=/+~%:@ x");
        let lens = [
            (Tail::None, 0),
            (Tail::Alphanumeric, 3),
            (Tail::Word, 5),
            (Tail::Dotted, 6),
            (Tail::Base64, 5),
            (Tail::Token, 11),
            (Tail::Value, 12),
        ];
        for (tail, len) in lens {
            assert_eq!(taken(tail), len, "{tail:?}");
        }
    }
}
