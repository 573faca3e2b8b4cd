//! What a client says first inside a tunnel: the `ClientHello` of TLS, in the clear, and the host that it names.
//!
//! A tunnel is opened to one host. Where several hosts share an address, a client could name another one inside it (domain
//! fronting), so the name has to be that of the tunnel. Only names are looked at: nothing is decrypted.

use std::collections::BTreeSet;

use super::Host;

/// Most bytes of a tunnel's beginning that are looked at. Hellos have some hundred bytes, with post-quantum keys two thousand.
pub const MAX_HELLO_BYTES: usize = 16 << 10;

/// Longest plain record (RFC 8446, 5.1).
const RECORD_BYTES: usize = 1 << 14;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;

/// The first message of a TLS client, as far as it says where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientHello {
    /// The host that it names, in lower case.
    pub server_name: Option<String>,
    /// It holds an encrypted hello beside the plain one (ECH, ESNI), or something that looks like one: nobody but the server
    /// can tell.
    pub encrypted: bool,
}

/// Why a tunnel goes no further.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HelloRefusal {
    /// The first bytes are no TLS.
    #[error("the tunnel does not begin with TLS")]
    NotTls,
    /// It is TLS and cannot be read in one way only.
    #[error("the client's first TLS message is not well-formed")]
    Malformed,
    /// More than [`MAX_HELLO_BYTES`].
    #[error("the client's first TLS message is longer than 16 KiB")]
    TooLong,
    /// It names no host, and the tunnel does.
    #[error("the client names no host inside TLS (SNI), and the tunnel is to `{host}`")]
    NoName {
        /// The tunnel's host.
        host: Host,
    },
    /// It names another host.
    #[error("the client names `{named}` inside TLS (SNI), and the tunnel is to `{host}`")]
    OtherName {
        /// The tunnel's host.
        host: Host,
        /// The name inside: letters, digits, `-`, `_` and dots.
        named: String,
    },
    /// What it names besides is encrypted.
    #[error("the client's first TLS message holds an encrypted one (ECH): where it leads cannot be seen")]
    Encrypted,
}

impl ClientHello {
    /// Whether these bytes can be the beginning of TLS; `true` for none.
    pub fn may_begin(bytes: &[u8]) -> bool {
        match bytes {
            [] => true,
            [kind] => *kind == HANDSHAKE,
            [kind, major, ..] => *kind == HANDSHAKE && *major == 3,
        }
    }

    /// Reads the beginning of a tunnel; `None` when the hello is not all there yet. Total: any bytes will do, and a hello
    /// may be cut into as many records as it likes.
    ///
    /// # Errors
    /// [`HelloRefusal::NotTls`], [`HelloRefusal::Malformed`] or [`HelloRefusal::TooLong`].
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, HelloRefusal> {
        if !Self::may_begin(bytes) {
            return Err(HelloRefusal::NotTls);
        }
        let mut records = Reader(bytes);
        let mut message = Vec::new();
        loop {
            let mut ahead = Reader(&message);
            if let Some(kind) = ahead.u8() {
                if kind != CLIENT_HELLO {
                    return Err(HelloRefusal::NotTls);
                }
                if let Some(length) = ahead.u24() {
                    if length > MAX_HELLO_BYTES {
                        return Err(HelloRefusal::TooLong);
                    }
                    if ahead.0.len() > length {
                        return Err(HelloRefusal::Malformed);
                    }
                    if ahead.0.len() == length {
                        return Self::body(ahead).map(Some).ok_or(HelloRefusal::Malformed);
                    }
                }
            }
            let (Some(kind), Some(major), Some(_minor), Some(length)) =
                (records.u8(), records.u8(), records.u8(), records.u16())
            else {
                return if bytes.len() >= MAX_HELLO_BYTES { Err(HelloRefusal::TooLong) } else { Ok(None) };
            };
            let length = usize::from(length);
            if kind != HANDSHAKE || major != 3 || length == 0 || length > RECORD_BYTES {
                return Err(HelloRefusal::Malformed);
            }
            match records.take(length) {
                Some(record) => message.extend_from_slice(record),
                None if bytes.len() >= MAX_HELLO_BYTES => return Err(HelloRefusal::TooLong),
                None => return Ok(None),
            }
        }
    }

    /// Whether a tunnel to `host` may begin so.
    ///
    /// # Errors
    /// [`HelloRefusal::Encrypted`], [`HelloRefusal::OtherName`] or [`HelloRefusal::NoName`].
    pub fn judge(&self, host: &Host) -> Result<(), HelloRefusal> {
        if self.encrypted {
            return Err(HelloRefusal::Encrypted);
        }
        match (&self.server_name, host) {
            (Some(named), Host::Name(name)) if named == name => Ok(()),
            (Some(named), _) => Err(HelloRefusal::OtherName { host: host.clone(), named: named.clone() }),
            (None, Host::Name(_)) => Err(HelloRefusal::NoName { host: host.clone() }),
            // An address is never named inside (RFC 6066).
            (None, Host::Address(_)) => Ok(()),
        }
    }

    fn body(mut body: Reader<'_>) -> Option<Self> {
        let _version = body.u16()?;
        let _random = body.take(32)?;
        let _session = body.vec8()?;
        let _suites = body.vec16()?;
        let _compression = body.vec8()?;
        let mut hello = Self { server_name: None, encrypted: false };
        // Before TLS 1.2 there may be none.
        if body.0.is_empty() {
            return Some(hello);
        }
        let mut extensions = Reader(body.vec16()?);
        let mut seen = BTreeSet::new();
        while !extensions.0.is_empty() {
            let kind = extensions.u16()?;
            let content = extensions.vec16()?;
            if !seen.insert(kind) {
                return None;
            }
            match kind {
                SERVER_NAME => hello.server_name = Some(server_name(Reader(content))?),
                // ECH (RFC 9849) and its drafts, and ESNI before it.
                0xfe08..=0xfe0d | 0xff02 | 0xff03 | 0xffce => hello.encrypted = true,
                _ => {}
            }
        }
        body.0.is_empty().then_some(hello)
    }
}

/// One host name and nothing else, as RFC 6066 wants it; without a final dot.
fn server_name(mut extension: Reader<'_>) -> Option<String> {
    let mut list = Reader(extension.vec16()?);
    let kind = list.u8()?;
    let name = list.vec16()?;
    if kind != 0 || !list.0.is_empty() || !extension.0.is_empty() {
        return None;
    }
    let name = std::str::from_utf8(name).ok()?;
    match Host::parse(name) {
        Ok(Host::Name(parsed)) if parsed.len() == name.len() => Some(parsed),
        Ok(Host::Name(_) | Host::Address(_)) | Err(_) => None,
    }
}

/// What is left to read.
#[derive(Clone, Copy)]
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn u24(&mut self) -> Option<usize> {
        let high = usize::from(self.u8()?);
        Some((high << 16) | usize::from(self.u16()?))
    }

    fn vec8(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(self.u8()?);
        self.take(length)
    }

    fn vec16(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(self.u16()?);
        self.take(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vec16(content: &[u8]) -> Vec<u8> {
        let mut out = u16::try_from(content.len()).unwrap().to_be_bytes().to_vec();
        out.extend_from_slice(content);
        out
    }

    fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
        [kind.to_be_bytes().to_vec(), vec16(content)].concat()
    }

    fn sni(name: &str) -> Vec<u8> {
        extension(0, &vec16(&[vec![0], vec16(name.as_bytes())].concat()))
    }

    /// A handshake message with these extensions.
    fn message(extensions: &[Vec<u8>]) -> Vec<u8> {
        let mut body = [3, 3].to_vec();
        body.extend([7; 32]);
        body.push(0);
        body.extend(vec16(&[0x13, 0x01]));
        body.extend([1, 0]);
        body.extend(vec16(&extensions.concat()));
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        [vec![1], length[1..].to_vec(), body].concat()
    }

    fn record(content: &[u8]) -> Vec<u8> {
        [vec![22, 3, 1], vec16(content)].concat()
    }

    fn records(message: &[u8], piece: usize) -> Vec<u8> {
        message.chunks(piece).flat_map(record).collect()
    }

    fn named(name: &str) -> Option<ClientHello> {
        Some(ClientHello { server_name: Some(name.to_owned()), encrypted: false })
    }

    #[test]
    fn a_hello_is_found_in_one_record_and_in_many_and_never_before_it_is_whole() {
        let message = message(&[extension(43, &[2, 3, 4]), sni("Crates.IO"), extension(51, &[0; 200])]);
        for piece in [1, 2, 3, 5, 100, 1 << 14] {
            let whole = records(&message, piece);
            assert_eq!(ClientHello::parse(&whole), Ok(named("crates.io")), "{piece}");
            for end in 0..whole.len() {
                assert_eq!(ClientHello::parse(&whole[..end]), Ok(None), "{piece} {end}");
            }
        }
        // What comes after it in records of their own (early data) is not looked at.
        let followed = [record(&message), vec![23, 3, 3, 0, 1, 0]].concat();
        assert_eq!(ClientHello::parse(&followed), Ok(named("crates.io")));
    }

    #[test]
    fn a_tunnel_is_for_the_host_that_it_was_opened_to() {
        let name = Host::parse("crates.io").unwrap();
        let address = Host::parse("198.50.1.1").unwrap();
        let judged = |extensions: &[Vec<u8>], host: &Host| {
            ClientHello::parse(&record(&message(extensions))).unwrap().unwrap().judge(host)
        };
        assert_eq!(judged(&[sni("crates.io")], &name), Ok(()));
        assert_eq!(judged(&[], &address), Ok(()));
        assert_eq!(judged(&[], &name), Err(HelloRefusal::NoName { host: name.clone() }));
        let other =
            |host: &Host, named: &str| Err(HelloRefusal::OtherName { host: host.clone(), named: named.to_owned() });
        for named in ["evil.example", "static.crates.io", "crates.io.evil.example", "io"] {
            assert_eq!(judged(&[sni(named)], &name), other(&name, named));
        }
        assert_eq!(judged(&[sni("crates.io")], &address), other(&address, "crates.io"));
        for kind in [0xfe0d, 0xffce] {
            assert_eq!(judged(&[sni("crates.io"), extension(kind, &[0; 9])], &name), Err(HelloRefusal::Encrypted));
        }
    }

    #[test]
    fn what_could_be_read_differently_is_refused() {
        let two = extension(0, &vec16(&[vec![0], vec16(b"a.b"), vec![0], vec16(b"c.d")].concat()));
        let kind = extension(0, &vec16(&[vec![1], vec16(b"a.b")].concat()));
        let trailing = extension(0, &[vec16(&[vec![0], vec16(b"a.b")].concat()), vec![0]].concat());
        let malformed = [
            message(&[two]),
            message(&[kind]),
            message(&[trailing]),
            message(&[sni("a.b"), sni("a.b")]),
            message(&[extension(0, &[])]),
            message(&[sni("a.b.")]),
            message(&[sni("")]),
            message(&[sni("1.2.3.4")]),
            message(&[sni("a.b\0c")]),
            message(&[sni("a b")]),
            [message(&[sni("a.b")]), vec![1]].concat(),
            vec![1, 0, 0, 0],
        ];
        for message in malformed {
            assert_eq!(ClientHello::parse(&record(&message)), Err(HelloRefusal::Malformed), "{message:?}");
        }
        let cut = message(&[sni("a.b")]);
        let between = [record(&cut[..9]), vec![21, 3, 1, 0, 2, 1, 0], record(&cut[9..])].concat();
        assert_eq!(ClientHello::parse(&between), Err(HelloRefusal::Malformed));
        for other in ["GET / HTTP/1.1\r\n", "SSH-2.0-x\r\n", "\x16\x02", "\u{0}"] {
            assert_eq!(ClientHello::parse(other.as_bytes()), Err(HelloRefusal::NotTls), "{other:?}");
        }
        assert_eq!(ClientHello::parse(&record(&[2, 0, 0, 1, 0])), Err(HelloRefusal::NotTls));
        assert_eq!(ClientHello::parse(&record(&[1, 1, 0, 0])), Err(HelloRefusal::TooLong));
        let slow = records(&message(&[extension(21, &vec![0; 15_000])]), 1);
        assert_eq!(ClientHello::parse(&slow[..MAX_HELLO_BYTES]), Err(HelloRefusal::TooLong));
    }

    #[test]
    fn any_bytes_will_do() {
        let whole = record(&message(&[sni("a.b"), extension(51, &[0; 40])]));
        for seed in 0..20_000_u32 {
            let mut bytes = whole.clone();
            for change in 0..3 {
                let noise = seed.wrapping_mul(2_654_435_761).wrapping_add(change * 40_503);
                let at = noise as usize % bytes.len();
                bytes[at] = (noise >> 16) as u8;
            }
            let _total = ClientHello::parse(&bytes);
        }
    }
}
