//! A host as somebody writes it, read strictly: what two programs could read differently is refused.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest name of a host, in bytes (RFC 1035, without the final dot).
const NAME_BYTES: usize = 253;
/// Longest label of a name, in bytes.
const LABEL_BYTES: usize = 63;

/// A host: a name in lower case, without a final dot, or an address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Host {
    /// A name: letters, digits, `-` and `_` in labels; its last label is no number.
    Name(String),
    /// An address in its one plain spelling.
    Address(IpAddr),
}

/// Why a text is no host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// There is nothing.
    #[error("the host is missing")]
    Missing,
    /// A name or a label is too long.
    #[error("the host's name is longer than names can be")]
    TooLong,
    /// A character that host names do not have.
    #[error("the host's name holds what no name holds: write letters, digits, `-` and dots (other letters as `xn--`)")]
    Characters,
    /// An address that programs read differently: decimal, octal, hexadecimal, shortened, with a zone.
    #[error("the host is an address in an unusual spelling: write it plainly, `192.0.2.1` or `[2001:db8::1]`")]
    OddAddress,
    /// The port is no port.
    #[error("the port is no number from 1 to 65535")]
    Port,
    /// No port, where one is needed.
    #[error("the port is missing")]
    PortMissing,
}

impl Host {
    /// Reads a host; an IPv6 address is in brackets.
    ///
    /// # Errors
    /// [`HostError`] says what is wrong.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        if text.is_empty() {
            return Err(HostError::Missing);
        }
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or(HostError::OddAddress)?;
            return inner.parse::<Ipv6Addr>().map(|a| Self::Address(a.into())).map_err(|_| HostError::OddAddress);
        }
        if text.contains(':') {
            return Err(HostError::OddAddress);
        }
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            return Ok(Self::Address(address.into()));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.len() > NAME_BYTES {
            return Err(HostError::TooLong);
        }
        let mut last = "";
        for label in name.split('.') {
            if label.len() > LABEL_BYTES {
                return Err(HostError::TooLong);
            }
            let known = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            if label.is_empty() || label.starts_with('-') || label.ends_with('-') || !label.bytes().all(known) {
                return Err(HostError::Characters);
            }
            last = label;
        }
        // What resolvers and URL parsers take for an address: `127.1`, `2130706433`, `0x7f.1`, `0177.0.0.1`.
        let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
        let number = last.bytes().all(|b| b.is_ascii_digit())
            || hex.is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        if number { Err(HostError::OddAddress) } else { Ok(Self::Name(name.to_ascii_lowercase())) }
    }
}

/// Reads `host:port`, or `host` where there is a default for the port.
///
/// # Errors
/// [`HostError`] says what is wrong.
pub fn authority(text: &str, default_port: Option<u16>) -> Result<(Host, u16), HostError> {
    let (host, port) = match text.rsplit_once(':') {
        // The last colon of an address in brackets.
        Some((_, rest)) if rest.ends_with(']') => (text, None),
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let host = Host::parse(host)?;
    let port = match port {
        None => default_port.ok_or(HostError::PortMissing)?,
        Some(digits) if !digits.is_empty() && digits.len() <= 5 && digits.bytes().all(|b| b.is_ascii_digit()) => {
            digits.parse::<u16>().ok().filter(|port| *port != 0).ok_or(HostError::Port)?
        }
        Some(_) => return Err(HostError::Port),
    };
    Ok((host, port))
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

impl TryFrom<String> for Host {
    type Error = HostError;

    fn try_from(text: String) -> Result<Self, HostError> {
        Self::parse(&text)
    }
}

impl From<Host> for String {
    fn from(host: Host) -> Self {
        host.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Result<Host, HostError> {
        Ok(Host::Name(text.to_owned()))
    }

    #[test]
    fn names_are_brought_to_one_form() {
        assert_eq!(Host::parse("Example.COM."), name("example.com"));
        assert_eq!(Host::parse("a_b-c.x1"), name("a_b-c.x1"));
        assert_eq!(Host::parse("localhost"), name("localhost"));
        assert_eq!(Host::parse("1.2.3.4.example"), name("1.2.3.4.example"));
        assert_eq!(Host::parse("0xface.example"), name("0xface.example"));
        assert_eq!(Host::parse("192.0.2.1"), Ok(Host::Address([192, 0, 2, 1].into())));
        assert_eq!(Host::parse("[::1]").map(|h| h.to_string()).as_deref(), Ok("[::1]"));
    }

    #[test]
    fn what_programs_read_differently_is_refused() {
        let odd = [
            "2130706433",
            "0x7f000001",
            "0X7F.1",
            "0177.0.0.1",
            "127.1",
            "127.0.1",
            "127.0.0.01",
            "127.0.0.1.",
            "127.0.0.256",
            "1.2.3.4.5",
            "example.0x",
            "::1",
            "[::1",
            "[fe80::1%eth0]",
            "[fe80::1%25eth0]",
            "[127.0.0.1]",
            "[]",
        ];
        for text in odd {
            assert_eq!(Host::parse(text), Err(HostError::OddAddress), "{text}");
        }
        let long = "a".repeat(64);
        let table = [
            ("", HostError::Missing),
            (".", HostError::Characters),
            ("a..b", HostError::Characters),
            (".a", HostError::Characters),
            ("a..", HostError::Characters),
            ("-a.b", HostError::Characters),
            ("a b", HostError::Characters),
            ("a%2e.b", HostError::Characters),
            ("user@host", HostError::Characters),
            ("a/b", HostError::Characters),
            ("a\0.b", HostError::Characters),
            ("ⓔxample.com", HostError::Characters),
            ("127。0。0。1", HostError::Characters),
            ("*.example.com", HostError::Characters),
            (long.as_str(), HostError::TooLong),
        ];
        for (text, error) in table {
            assert_eq!(Host::parse(text), Err(error), "{text}");
        }
        assert_eq!(Host::parse(&"a.".repeat(200)), Err(HostError::TooLong));
    }

    #[test]
    fn a_port_is_a_number_and_nothing_else() {
        let read = |text: &str, default| authority(text, default).map(|(h, p)| (h.to_string(), p));
        assert_eq!(read("a.b:8080", None), Ok(("a.b".to_owned(), 8080)));
        assert_eq!(read("a.b", Some(80)), Ok(("a.b".to_owned(), 80)));
        assert_eq!(read("[::1]:443", None), Ok(("[::1]".to_owned(), 443)));
        assert_eq!(read("[::1]", Some(443)), Ok(("[::1]".to_owned(), 443)));
        assert_eq!(read("a.b", None), Err(HostError::PortMissing));
        for text in ["a.b:", "a.b:0", "a.b:+80", "a.b:65536", "a.b: 80", "a.b:0x50", "a.b:000080", "[::1]x:80"] {
            assert!(read(text, Some(80)).is_err(), "{text}");
        }
        assert_eq!(read("::1", Some(80)), Err(HostError::OddAddress));
        assert_eq!(read("a:b:80", None), Err(HostError::OddAddress));
    }
}
