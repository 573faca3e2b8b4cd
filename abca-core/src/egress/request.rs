//! The head of a request to the proxy, read so that nobody behind it can read it differently.

use super::{Host, HostError, authority};

/// Most header fields of a request.
const FIELDS: usize = 100;

/// A request that was understood in full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// A tunnel, or a request to pass on.
    pub kind: Kind,
    /// Where to.
    pub host: Host,
    /// At which port.
    pub port: u16,
    /// How its body ends.
    pub framing: Framing,
    /// Fields to pass on: neither those of this connection nor those that frame or address it.
    fields: Vec<(String, Vec<u8>)>,
    /// The port that goes without saying.
    usual_port: u16,
}

/// What a request wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// `CONNECT`: bytes both ways.
    Tunnel,
    /// A plain HTTP request.
    Forward {
        /// The method.
        method: String,
        /// Path and query.
        path: String,
    },
}

/// How a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// After so many bytes.
    Length(u64),
    /// With an empty chunk.
    Chunked,
}

/// Why a request is not passed on: a fixed sentence, so that nothing of the request is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadRequest {
    /// No HTTP.
    #[error("the request is no well-formed HTTP/1 request")]
    Syntax,
    /// Too many fields.
    #[error("the request has more than 100 header fields")]
    Fields,
    /// The target is no absolute `http://` address.
    #[error("the target of a request to this proxy is an address with `http://`, or host and port for CONNECT")]
    Target,
    /// Something with a name, a password or a fragment.
    #[error("the target holds a user name, a password or a fragment")]
    Userinfo,
    /// The host is none.
    #[error("{0}")]
    Host(HostError),
    /// None or several `Host` fields.
    #[error("the request needs one `Host` field")]
    HostField,
    /// `Host` names somebody else.
    #[error("the `Host` field names another host than the target")]
    HostMismatch,
    /// The end of the body is ambiguous.
    #[error("the length of the request's body is ambiguous")]
    Length,
    /// `TRACE` shows what was added on the way.
    #[error("the method is not passed on")]
    Method,
}

/// Fields that belong to one connection, or that are written anew; `close` does once `Connection: close` is written.
const OWN: [&str; 12] = [
    "close",
    "host",
    "connection",
    "proxy-connection",
    "keep-alive",
    "proxy-authorization",
    "proxy-authenticate",
    "te",
    "trailer",
    "upgrade",
    "content-length",
    "transfer-encoding",
];

impl Head {
    /// Reads a head; `None` when it is not all there yet, else also how many bytes it was. Total: any bytes will do.
    ///
    /// # Errors
    /// [`BadRequest`] for what is not to be passed on.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, BadRequest> {
        Self::read(bytes, None)
    }

    /// As [`Head::parse`], for a request inside the TLS of a tunnel to this host and port: its target is a path.
    ///
    /// # Errors
    /// [`BadRequest`] for what is not to be passed on.
    pub fn parse_inside(bytes: &[u8], host: &Host, port: u16) -> Result<Option<(Self, usize)>, BadRequest> {
        Self::read(bytes, Some((host, port)))
    }

    fn read(bytes: &[u8], inside: Option<(&Host, u16)>) -> Result<Option<(Self, usize)>, BadRequest> {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS];
        let mut request = httparse::Request::new(&mut fields);
        let used = match request.parse(bytes) {
            Ok(httparse::Status::Complete(used)) => used,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(httparse::Error::TooManyHeaders) => return Err(BadRequest::Fields),
            Err(_) => return Err(BadRequest::Syntax),
        };
        let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
            return Err(BadRequest::Syntax);
        };
        let named = |name: &'static str| {
            request.headers.iter().filter(move |f| f.name.eq_ignore_ascii_case(name)).map(|f| f.value)
        };
        let framing = framing(named("transfer-encoding"), named("content-length"), version)?;
        let (kind, host, port) = if method == "CONNECT" && inside.is_none() {
            if framing != Framing::Length(0) {
                return Err(BadRequest::Length);
            }
            let (host, port) = authority(target, None).map_err(BadRequest::Host)?;
            (Kind::Tunnel, host, port)
        } else {
            if method.eq_ignore_ascii_case("TRACE") || method.eq_ignore_ascii_case("CONNECT") {
                return Err(BadRequest::Method);
            }
            let (host, port, path) = match inside {
                None => absolute(target)?,
                Some((host, port)) if target.starts_with('/') && !target.contains('#') => {
                    (host.clone(), port, target.to_owned())
                }
                Some(_) => return Err(BadRequest::Target),
            };
            (Kind::Forward { method: method.to_owned(), path }, host, port)
        };
        let mut hosts = named("host");
        match (hosts.next(), hosts.next()) {
            (Some(value), None) => {
                let text = std::str::from_utf8(value).map_err(|_| BadRequest::HostField)?;
                // Some clients leave the port of a tunnel out.
                let default = match (&kind, inside) {
                    (Kind::Tunnel, _) => port,
                    (Kind::Forward { .. }, None) => 80,
                    (Kind::Forward { .. }, Some(_)) => 443,
                };
                if authority(text.trim_matches([' ', '\t']), Some(default)) != Ok((host.clone(), port)) {
                    return Err(BadRequest::HostMismatch);
                }
            }
            (None, _) if version == 0 || kind == Kind::Tunnel => {}
            (None | Some(_), _) => return Err(BadRequest::HostField),
        }
        let hop: Vec<String> = named("connection")
            .flat_map(|value| value.split(|b| *b == b','))
            .map(|name| String::from_utf8_lossy(name).trim().to_ascii_lowercase())
            .collect();
        let passed = request.headers.iter().filter(|field| {
            let name = field.name.to_ascii_lowercase();
            !OWN.contains(&name.as_str()) && !hop.contains(&name)
        });
        let fields = passed.map(|field| (field.name.to_owned(), field.value.to_vec())).collect();
        Ok(Some((
            Self { kind, host, port, framing, fields, usual_port: if inside.is_some() { 443 } else { 80 } },
            used,
        )))
    }

    /// The request as it is sent on: one host, one framing, one request for the connection.
    pub fn rewritten(&self) -> Vec<u8> {
        self.rewritten_with(None)
    }

    /// As [`Head::rewritten`], with one field more, in place of those of its name. Its value is visible ASCII and blanks.
    pub fn rewritten_with(&self, more: Option<(&str, &str)>) -> Vec<u8> {
        let Kind::Forward { method, path } = &self.kind else { return Vec::new() };
        let host =
            if self.port == self.usual_port { self.host.to_string() } else { format!("{}:{}", self.host, self.port) };
        let mut out = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n").into_bytes();
        match self.framing {
            Framing::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
            Framing::Length(0) if method == "GET" || method == "HEAD" => {}
            Framing::Length(length) => out.extend_from_slice(format!("Content-Length: {length}\r\n").as_bytes()),
        }
        let passed = self.fields.iter().filter(|(name, _)| more.is_none_or(|(own, _)| !name.eq_ignore_ascii_case(own)));
        for (name, value) in passed {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value);
            out.extend_from_slice(b"\r\n");
        }
        if let Some((name, value)) = more {
            out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        out
    }
}

fn framing<'a>(
    mut encodings: impl Iterator<Item = &'a [u8]>,
    mut lengths: impl Iterator<Item = &'a [u8]>,
    version: u8,
) -> Result<Framing, BadRequest> {
    match (encodings.next(), encodings.next(), lengths.next(), lengths.next()) {
        (None, None, None, None) => Ok(Framing::Length(0)),
        (Some(encoding), None, None, None) if version == 1 && encoding.eq_ignore_ascii_case(b"chunked") => {
            Ok(Framing::Chunked)
        }
        (None, None, Some(length), None) if !length.is_empty() && length.iter().all(u8::is_ascii_digit) => {
            let length = std::str::from_utf8(length).ok().and_then(|text| text.parse().ok());
            length.map(Framing::Length).ok_or(BadRequest::Length)
        }
        _ => Err(BadRequest::Length),
    }
}

fn absolute(target: &str) -> Result<(Host, u16, String), BadRequest> {
    let (scheme, rest) = target.split_once("://").ok_or(BadRequest::Target)?;
    if !scheme.eq_ignore_ascii_case("http") {
        return Err(BadRequest::Target);
    }
    if rest.contains('#') {
        return Err(BadRequest::Userinfo);
    }
    let end = rest.find(['/', '?', '\\']).unwrap_or(rest.len());
    let (place, path) = rest.split_at(end);
    if place.contains('@') {
        return Err(BadRequest::Userinfo);
    }
    let (host, port) = authority(place, Some(80)).map_err(BadRequest::Host)?;
    let path = match path.bytes().next() {
        Some(b'/') => path.to_owned(),
        Some(b'?') => format!("/{path}"),
        None => "/".to_owned(),
        Some(_) => return Err(BadRequest::Target),
    };
    Ok((host, port, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Head, BadRequest> {
        Head::parse(text.as_bytes()).map(|head| head.expect("all of it is there").0)
    }

    #[test]
    fn a_request_is_sent_on_with_one_host_one_framing_and_no_fields_of_this_connection() {
        let head = read(
            "POST http://A.example:8080?x=1 HTTP/1.1\r\nhost: a.EXAMPLE:8080\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\n\
             Proxy-Authorization: Basic x\r\nTE: trailers\r\nUpgrade: h2c\r\nContent-Length: 3\r\nX-Keep: \u{e9}\r\n\r\nabc",
        )
        .unwrap();
        assert_eq!(head.host, Host::Name("a.example".to_owned()));
        let sent = "POST /?x=1 HTTP/1.1\r\nHost: a.example:8080\r\nConnection: close\r\nContent-Length: 3\r\nX-Keep: é\r\n\r\n";
        assert_eq!(String::from_utf8(head.rewritten()).unwrap(), sent);
        let chunked = read("PUT http://a.b/ HTTP/1.1\r\nHost: a.b\r\nTransfer-Encoding: Chunked\r\n\r\n").unwrap();
        assert_eq!(chunked.framing, Framing::Chunked);
        let old = read("GET http://a.b HTTP/1.0\r\n\r\n").unwrap();
        assert_eq!(
            String::from_utf8(old.rewritten()).unwrap(),
            "GET / HTTP/1.1\r\nHost: a.b\r\nConnection: close\r\n\r\n"
        );
    }

    #[test]
    fn a_tunnel_names_host_and_port() {
        let head = read("CONNECT Crates.IO:443 HTTP/1.1\r\nHost: crates.io\r\n\r\n").unwrap();
        assert_eq!((head.kind, head.host.to_string().as_str(), head.port), (Kind::Tunnel, "crates.io", 443));
        assert!(read("CONNECT crates.io:443 HTTP/1.1\r\n\r\n").is_ok());
        assert_eq!(read("CONNECT crates.io HTTP/1.1\r\n\r\n"), Err(BadRequest::Host(HostError::PortMissing)));
        assert_eq!(read("CONNECT a.b:443 HTTP/1.1\r\nHost: c.d:443\r\n\r\n"), Err(BadRequest::HostMismatch));
        assert_eq!(read("CONNECT a.b:443 HTTP/1.1\r\nContent-Length: 4\r\n\r\n"), Err(BadRequest::Length));
        assert_eq!(
            read("CONNECT http://a.b:443/ HTTP/1.1\r\n\r\n").map(|_| ()),
            Err(BadRequest::Host(HostError::OddAddress))
        );
    }

    #[test]
    fn what_could_be_read_differently_is_refused() {
        use BadRequest as B;
        let odd = B::Host(HostError::OddAddress);
        let table: [(&str, &str, B); 32] = [
            ("GET / HTTP/1.1", "Host: a.b", B::Target),
            ("GET https://a.b/ HTTP/1.1", "Host: a.b", B::Target),
            ("GET ftp://a.b/ HTTP/1.1", "Host: a.b", B::Target),
            ("OPTIONS * HTTP/1.1", "Host: a.b", B::Target),
            ("GET http://a.b\\c/ HTTP/1.1", "Host: a.b", B::Target),
            ("GET http://u@a.b/ HTTP/1.1", "Host: a.b", B::Userinfo),
            ("GET http://a.b@c.d/ HTTP/1.1", "Host: c.d", B::Userinfo),
            ("GET http://a.b#@c.d/ HTTP/1.1", "Host: a.b", B::Userinfo),
            ("GET http:///x HTTP/1.1", "Host: a.b", B::Host(HostError::Missing)),
            ("GET http://127.1/ HTTP/1.1", "Host: 127.1", odd),
            ("GET http://0x7f000001/ HTTP/1.1", "Host: 0x7f000001", odd),
            ("GET http://017700000001/ HTTP/1.1", "Host: 017700000001", odd),
            ("GET http://[::ffff:7f00:1%25lo]/ HTTP/1.1", "Host: a", odd),
            ("GET http://a.b:0/ HTTP/1.1", "Host: a.b:0", B::Host(HostError::Port)),
            ("GET http://a%2eb/ HTTP/1.1", "Host: a.b", B::Host(HostError::Characters)),
            ("GET http://a.b/ HTTP/1.1", "Host: c.d", B::HostMismatch),
            ("GET http://a.b/ HTTP/1.1", "Host: a.b:8080", B::HostMismatch),
            ("GET http://a.b/ HTTP/1.1", "Host:", B::HostMismatch),
            ("GET http://a.b/ HTTP/1.1", "Host: a.b\r\nHost: a.b", B::HostField),
            ("GET http://a.b/ HTTP/1.1", "X: y", B::HostField),
            ("TRACE http://a.b/ HTTP/1.1", "Host: a.b", B::Method),
            ("connect http://a.b/ HTTP/1.1", "Host: a.b", B::Method),
            ("POST http://a.b/ HTTP/1.1", "Host: a.b\r\nContent-Length: 1\r\nTransfer-Encoding: chunked", B::Length),
            ("POST http://a.b/ HTTP/1.1", "Host: a.b\r\nContent-Length: 1\r\nContent-Length: 1", B::Length),
            ("POST http://a.b/ HTTP/1.1", "Host: a.b\r\nContent-Length: 1, 1", B::Length),
            ("POST http://a.b/ HTTP/1.1", "Host: a.b\r\nContent-Length: +1", B::Length),
            ("POST http://a.b/ HTTP/1.1", "Host: a.b\r\nContent-Length: 99999999999999999999", B::Length),
            ("POST http://a.b/ HTTP/1.1", "Host: a.b\r\nTransfer-Encoding: gzip, chunked", B::Length),
            ("POST http://a.b/ HTTP/1.1", "Host: a.b\r\nTransfer-Encoding: identity", B::Length),
            ("POST http://a.b/ HTTP/1.0", "Host: a.b\r\nTransfer-Encoding: chunked", B::Length),
            ("GET http://a.b/ HTTP/1.1", "Host: a.b\r\n X: folded", B::Syntax),
            ("GET http://a.b/ HTTP/1.1", "Host : a.b", B::Syntax),
        ];
        for (line, fields, error) in table {
            assert_eq!(read(&format!("{line}\r\n{fields}\r\n\r\n")), Err(error), "{line} {fields:?}");
        }
        let many = "X: y\r\n".repeat(FIELDS + 1);
        assert_eq!(read(&format!("GET http://a.b/ HTTP/1.1\r\n{many}\r\n")), Err(B::Fields));
    }

    #[test]
    fn a_request_inside_a_tunnel_is_for_its_host_and_a_field_takes_the_place_of_its_name() {
        let host = Host::Name("a.b".to_owned());
        let inside = |text: &str, port| Head::parse_inside(text.as_bytes(), &host, port).map(|head| head.unwrap().0);
        let head = inside("GET /x?y HTTP/1.1\r\nHost: A.b\r\nauthorization: mine\r\nX: 1\r\n\r\n", 443).unwrap();
        let sent = String::from_utf8(head.rewritten_with(Some(("Authorization", "Bearer t")))).unwrap();
        assert_eq!(
            sent,
            "GET /x?y HTTP/1.1\r\nHost: a.b\r\nConnection: close\r\nX: 1\r\nAuthorization: Bearer t\r\n\r\n"
        );
        let other = inside("GET / HTTP/1.1\r\nHost: a.b:8443\r\n\r\n", 8443).unwrap();
        assert!(String::from_utf8(other.rewritten()).unwrap().contains("Host: a.b:8443\r\n"));
        for (text, error) in [
            ("GET / HTTP/1.1\r\nHost: c.d\r\n\r\n", BadRequest::HostMismatch),
            ("GET / HTTP/1.1\r\nHost: a.b:80\r\n\r\n", BadRequest::HostMismatch),
            ("GET / HTTP/1.1\r\n\r\n", BadRequest::HostField),
            ("GET https://a.b/ HTTP/1.1\r\nHost: a.b\r\n\r\n", BadRequest::Target),
            ("CONNECT a.b:443 HTTP/1.1\r\nHost: a.b\r\n\r\n", BadRequest::Method),
        ] {
            assert_eq!(inside(text, 443), Err(error), "{text:?}");
        }
    }

    #[test]
    fn any_bytes_will_do() {
        let whole = b"GET http://a.b/ HTTP/1.1\r\nHost: a.b\r\n\r\n";
        for end in 0..whole.len() {
            assert_eq!(Head::parse(&whole[..end]), Ok(None), "{end}");
        }
        for seed in 0..2_000_u32 {
            let mut bytes = whole.to_vec();
            for change in 0..3 {
                let noise = seed.wrapping_mul(2_654_435_761).wrapping_add(change * 40_503);
                let at = noise as usize % bytes.len();
                bytes[at] = (noise >> 16) as u8;
            }
            let _total = Head::parse(&bytes);
        }
    }
}
