//! Getting a page: each request judged by the gate, every bound kept.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use abca_core::egress::Host;
use abca_core::policy::facts::host_of_url;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue,
    LOCATION, USER_AGENT,
};
use hyper::{Request, Response, body::Incoming};
use hyper_util::rt::TokioIo;
use secrecy::ExposeSecret;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use url::Url;

use super::decode::{DecodeError, unpacked};
use super::page::readable;
use crate::egress::{Gate, TlsError, Verified};

/// Most bytes of an answer as they come.
const WIRE_BYTES: usize = 5 << 20;
/// Most redirects.
const REDIRECTS: usize = 5;
/// Everything together.
const TOTAL: Duration = Duration::from_secs(30);
/// Longest address.
const URL_BYTES: usize = 4_096;
/// What this program calls itself.
const AGENT: &str = concat!("abca/", env!("CARGO_PKG_VERSION"));
/// What was wanted, in events.
const WHAT: &str = "WebFetch";

/// A page as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fetched {
    /// Where it was in the end.
    pub(crate) url: String,
    /// Its text: not cleaned, not screened.
    pub(crate) text: String,
}

/// Gets pages, through a gate.
#[derive(Debug)]
pub(crate) struct Web {
    gate: Arc<Gate>,
    authorities: Vec<String>,
    verified: OnceLock<Result<Verified, TlsError>>,
}

impl Web {
    /// `authorities`: files that may vouch for hosts beside the system's.
    pub(crate) fn new(gate: Arc<Gate>, authorities: Vec<String>) -> Self {
        Self { gate, authorities, verified: OnceLock::new() }
    }

    /// A page as text. Cancel-safe.
    ///
    /// # Errors
    /// A text for the model: what was refused or went wrong.
    pub(crate) async fn fetch(&self, url: &str) -> Result<Fetched, String> {
        match timeout(TOTAL, self.followed(url)).await {
            Ok(done) => done,
            Err(_) => Err(format!("the page did not come within {} seconds", TOTAL.as_secs())),
        }
    }

    async fn followed(&self, url: &str) -> Result<Fetched, String> {
        let mut at = Place::parse(url)?;
        for _ in 0..=REDIRECTS {
            let (response, _connection) = self.asked(&at).await?;
            let status = response.status();
            if !status.is_redirection() {
                return self.page(at, response).await;
            }
            let Some(to) = response.headers().get(LOCATION) else {
                return Err(format!("the host answers {status} and does not say where to"));
            };
            let to = to.to_str().map_err(|_| "the redirect's address is no text".to_owned())?;
            let next = at.url.join(to).map_err(|e| format!("the redirect's address is none: {e}"))?;
            let next = Place::parse(next.as_str())?;
            // Another host is another decision, and not only the gate's.
            if next.host != at.host || next.port != at.port {
                return Err(format!(
                    "the page is elsewhere now: `{}`. If that is where you want to go, fetch it",
                    next.url
                ));
            }
            at = next;
        }
        Err(format!("more than {REDIRECTS} redirects"))
    }

    async fn asked(&self, at: &Place) -> Result<(Response<Incoming>, Connection), String> {
        let addresses = self.gate.admit(&at.host, at.port, WHAT).await.map_err(|e| e.reason)?;
        let stream = self.gate.connect(&addresses).await.map_err(|e| e.reason)?;
        if !at.tls {
            return self.exchanged(at, stream).await;
        }
        let verified = self.verified.get_or_init(|| Verified::new(&self.authorities)).as_ref();
        let verified = verified.map_err(ToString::to_string)?;
        let stream = verified.connect(&at.host, stream).await.map_err(|e| format!("no TLS with `{}`: {e}", at.host))?;
        self.exchanged(at, stream).await
    }

    async fn exchanged<S>(&self, at: &Place, stream: S) -> Result<(Response<Incoming>, Connection), String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let failed = |e: hyper::Error| format!("`{}` does not answer as HTTP hosts do: {e}", at.host);
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
        let running = tokio::spawn(connection);
        let connection = Connection(running.abort_handle());
        let mut request = Request::builder().uri(at.target());
        for (name, value) in [
            (HOST, at.authority().as_str()),
            (USER_AGENT, AGENT),
            (ACCEPT, "text/html,application/xhtml+xml,text/*;q=0.9,application/json;q=0.9,*/*;q=0.1"),
            (ACCEPT_ENCODING, "gzip, deflate, br"),
            (CONNECTION, "close"),
        ] {
            request = request.header(name, value);
        }
        if let Some((name, value)) = self.gate.credential(at.tls, &at.host, at.port, "GET", &at.target()) {
            let header = (HeaderName::try_from(name), HeaderValue::try_from(value.expose_secret()));
            if let (Ok(name), Ok(mut value)) = header {
                value.set_sensitive(true);
                request = request.header(name, value);
            }
        }
        let request =
            request.body(Empty::<Bytes>::new()).map_err(|e| format!("the address cannot be asked for: {e}"))?;
        let response = sender.send_request(request).await.map_err(failed)?;
        Ok((response, connection))
    }

    async fn page(&self, at: Place, response: Response<Incoming>) -> Result<Fetched, String> {
        let status = response.status();
        let (parts, mut body) = response.into_parts();
        let kind = Kind::of(&parts.headers)?;
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|e| format!("the answer broke off: {e}"))?;
            if let Some(data) = frame.data_ref() {
                if bytes.len() + data.len() > WIRE_BYTES {
                    return Err(self.too_much(&at, &format!("the answer has more than {} MiB", WIRE_BYTES >> 20)));
                }
                bytes.extend_from_slice(data);
            }
        }
        let encodings: Vec<&str> =
            parts.headers.get_all(CONTENT_ENCODING).iter().map(|v| v.to_str().unwrap_or("?")).collect();
        let encodings = encodings.join(",");
        let base = at.url.clone();
        // Unpacking and reading take time that others need.
        let done = tokio::task::spawn_blocking(move || {
            let plain = unpacked(&encodings, bytes)?;
            Ok(kind.text(&plain, &base))
        });
        let text = match done.await {
            Ok(Ok(text)) => text?,
            Ok(Err(error @ (DecodeError::Bomb | DecodeError::Layers))) => {
                return Err(self.too_much(&at, &format!("the answer is withheld: {error}")));
            }
            Ok(Err(error)) => return Err(format!("the answer is no use: {error}")),
            Err(error) => return Err(format!("the page could not be read: {error}")),
        };
        let url = at.url.to_string();
        if status.is_success() {
            return Ok(Fetched { url, text });
        }
        // What a host says with an error is its own word as well, and as little to be believed.
        Ok(Fetched { url, text: format!("(the host answers {status})\n\n{text}") })
    }

    fn too_much(&self, at: &Place, reason: &str) -> String {
        self.gate.note_web(&at.host, at.port, reason);
        reason.to_owned()
    }
}

/// Ends a connection with whoever asked.
struct Connection(AbortHandle);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Where a page is.
#[derive(Debug, Clone)]
struct Place {
    url: Url,
    host: Host,
    port: u16,
    tls: bool,
}

impl Place {
    fn parse(text: &str) -> Result<Self, String> {
        if text.len() > URL_BYTES {
            return Err(format!("the address has more than {URL_BYTES} bytes"));
        }
        let mut url = Url::parse(text).map_err(|e| format!("`{text}` is no address of a page: {e}"))?;
        let tls = match url.scheme() {
            "https" => true,
            "http" => false,
            other => return Err(format!("`{other}` is not fetched: the address begins with `https://` or `http://`")),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err("the address holds a user name or a password: leave them out".to_owned());
        }
        url.set_fragment(None);
        let written = url.host_str().unwrap_or_default();
        // What the policy read in the address is where the request goes, or there is none.
        if text.contains(|c: char| c.is_control() || c.is_whitespace() || c == '\\')
            || host_of_url(text).as_deref() != Some(written.trim_matches(['[', ']']))
        {
            return Err(
                "the address is spelt oddly: write the host plainly, without blanks and other alphabets".to_owned()
            );
        }
        let host = Host::parse(written).map_err(|e| e.to_string())?;
        let port = url.port_or_known_default().unwrap_or(443);
        Ok(Self { url, host, port, tls })
    }

    fn target(&self) -> String {
        match self.url.query() {
            Some(query) => format!("{}?{query}", self.url.path()),
            None => self.url.path().to_owned(),
        }
    }

    fn authority(&self) -> String {
        self.url.port().map_or_else(|| self.host.to_string(), |port| format!("{}:{port}", self.host))
    }
}

/// What an answer is, as far as it becomes text.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Html(Charset),
    Text(Charset),
    /// It does not say.
    Unsaid,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Charset {
    Utf8,
    /// Each byte one character.
    Latin1,
}

impl Kind {
    fn of(headers: &HeaderMap) -> Result<Self, String> {
        let Some(said) = headers.get(CONTENT_TYPE) else { return Ok(Self::Unsaid) };
        let said = String::from_utf8_lossy(said.as_bytes()).to_ascii_lowercase();
        let mut parts = said.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default();
        let charset = parts.find_map(|p| p.strip_prefix("charset=")).unwrap_or("utf-8").trim_matches('"').to_owned();
        let charset = match charset.as_str() {
            "utf-8" | "utf8" | "us-ascii" => Charset::Utf8,
            "iso-8859-1" | "latin1" | "windows-1252" => Charset::Latin1,
            _ => {
                return Err(
                    "the page is in a character set that is not known here: neither UTF-8 nor Latin 1".to_owned()
                );
            }
        };
        let texts =
            ["json", "xml", "javascript", "ecmascript", "yaml", "x-yaml", "toml", "x-sh", "graphql", "x-ndjson"];
        match kind.split_once('/') {
            Some(("text", "html") | ("application", "xhtml+xml")) => Ok(Self::Html(charset)),
            Some(("text", _)) => Ok(Self::Text(charset)),
            Some(("application", sub)) if texts.contains(&sub) || sub.ends_with("+json") || sub.ends_with("+xml") => {
                Ok(Self::Text(charset))
            }
            _ => {
                let kind: String = kind.chars().filter(|c| c.is_ascii_graphic() && *c != '`').take(80).collect();
                Err(format!("what is there is `{kind}`, which is no text: pages, text, JSON and XML can be fetched"))
            }
        }
    }

    fn text(&self, bytes: &[u8], base: &Url) -> Result<String, String> {
        match self {
            Self::Html(charset) => Ok(readable(&charset.decoded(bytes), base)),
            Self::Text(charset) => Ok(charset.decoded(bytes)),
            Self::Unsaid if bytes.contains(&0) => {
                Err("the host does not say what is there, and it is no text".to_owned())
            }
            Self::Unsaid => {
                let text = Charset::Utf8.decoded(bytes);
                let begins = text.trim_start().get(..14).unwrap_or_default().to_ascii_lowercase();
                let html = begins.starts_with("<!doctype html") || begins.starts_with("<html");
                Ok(if html { readable(&text, base) } else { text })
            }
        }
    }
}

impl Charset {
    fn decoded(self, bytes: &[u8]) -> String {
        match self {
            Self::Utf8 => String::from_utf8_lossy(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)).into_owned(),
            Self::Latin1 => bytes.iter().map(|b| char::from(*b)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_strictly() {
        let place = |text: &str| Place::parse(text).map(|p| format!("{} {} {}", p.authority(), p.target(), p.port));
        assert_eq!(place("https://A.B/c?d#e").as_deref(), Ok("a.b /c?d 443"));
        assert_eq!(place("http://a.b:8080").as_deref(), Ok("a.b:8080 / 8080"));
        assert_eq!(place("http://[::1]:80/").as_deref(), Ok("[::1] / 80"));
        for bad in [
            "a.b",
            "ftp://a.b/",
            "file:///etc/passwd",
            "https://u:p@a.b/",
            "https://",
            "data:text/plain,x",
            "http://0x7f.1/",
            "https://ev\til.com/",
            "https://a.b\\@c.d/",
            " https://a.b",
            "https://\u{430}.b/",
            "https:a.b",
        ] {
            assert!(place(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_texts_are_fetched() {
        let kind = |said: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_str(said).unwrap());
            Kind::of(&headers)
        };
        assert_eq!(kind("Text/HTML; Charset=\"UTF-8\""), Ok(Kind::Html(Charset::Utf8)));
        assert_eq!(kind("application/problem+json"), Ok(Kind::Text(Charset::Utf8)));
        assert_eq!(kind("text/plain; charset=iso-8859-1"), Ok(Kind::Text(Charset::Latin1)));
        for bad in ["image/png", "application/pdf", "application/octet-stream", "text/html; charset=utf-7", "x"] {
            assert!(kind(bad).is_err(), "{bad}");
        }
        assert_eq!(Kind::of(&HeaderMap::new()), Ok(Kind::Unsaid));
    }
}
