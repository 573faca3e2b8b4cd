//! HTTP as the Anthropic and OpenAI clients speak it: one way to send, to fail, and to read an event stream.

use std::collections::VecDeque;
use std::time::Duration;

use abca_core::Millis;
use abca_core::model::{ModelError, ModelErrorKind, ModelEvent, ModelStream};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::clip::clip;
use crate::config::HttpConfig;
use crate::fault::{Complaint, Scrub, complaint, malformed};
use crate::sse::{SseEvent, SseParser};

/// Largest body of an error or a token count that is read.
const MAX_BODY_BYTES: usize = 256 * 1024;

/// Understands the events of one answer.
pub(crate) trait Decode: Send + 'static {
    /// Takes an event; appends what it means. `Done` ends the stream.
    fn event(&mut self, event: SseEvent, out: &mut VecDeque<ModelEvent>) -> Result<(), ModelError>;

    /// The connection has ended in good order: appends `Done` if the answer is whole.
    fn end(&mut self, out: &mut VecDeque<ModelEvent>);
}

/// One provider's endpoint.
#[derive(Debug)]
pub(crate) struct Endpoint {
    provider: &'static str,
    base_url: String,
    client: reqwest::Client,
    idle: Duration,
    pub(crate) scrub: Scrub,
}

impl Endpoint {
    /// `headers` are the provider's own; secret ones are marked so.
    pub(crate) fn new(
        provider: &'static str,
        base_url: &str,
        headers: Vec<(&'static str, SecretString)>,
        config: &HttpConfig,
    ) -> Result<Self, ModelError> {
        let bad = |what: String| ModelError::new(ModelErrorKind::Config, "connect", what);
        let base_url = base_url.trim().trim_end_matches('/').to_owned();
        let url = reqwest::Url::parse(&base_url)
            .map_err(|e| bad(format!("the base url `{}` of {provider} is not a url: {e}", clip(&base_url, 200))))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(bad(format!("the base url of {provider} is neither http nor https")));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(bad(format!("the base url of {provider} carries a password; give the key as api key")));
        }
        let mut map = HeaderMap::new();
        let extra = config.extra_headers.iter().map(|(n, v)| (n.as_str(), v));
        for (name, value) in headers.iter().map(|(n, v)| (*n, v)).chain(extra) {
            let key = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| bad(format!("`{}` is not a header name", clip(name, 80))))?;
            let mut value = HeaderValue::from_str(value.expose_secret().trim())
                .map_err(|_| bad(format!("the value of header `{key}` has characters that a header cannot carry")))?;
            value.set_sensitive(true);
            map.insert(key, value);
        }
        let mut builder = reqwest::Client::builder()
            .default_headers(map)
            .connect_timeout(config.connect_timeout)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("abca/", env!("CARGO_PKG_VERSION")));
        if !config.system_proxy {
            builder = builder.no_proxy();
        }
        let client =
            builder.build().map_err(|e| bad(format!("cannot set up https for {provider}: {}", root_cause(&e))))?;
        let scrub = Scrub::new(headers.iter().map(|(_, v)| v).chain(config.extra_headers.iter().map(|(_, v)| v)));
        Ok(Self { provider, base_url, client, idle: config.idle_timeout, scrub })
    }

    /// Posts a body and waits for an answer that is a success.
    async fn post(&self, op: &'static str, path: &str, body: &impl Serialize) -> Result<reqwest::Response, ModelError> {
        let body = serde_json::to_vec(body)
            .map_err(|e| ModelError::new(ModelErrorKind::BadRequest, op, "cannot write the request").with_source(e))?;
        let send = self
            .client
            .post(format!("{}{path}", self.base_url))
            .header(CONTENT_TYPE, "application/json")
            .body(body)
            .send();
        let response = match tokio::time::timeout(self.idle, send).await {
            Ok(Ok(response)) => response,
            Ok(Err(e)) => return Err(self.transport(op, &e)),
            Err(_) => return Err(self.silent(op)),
        };
        if response.status().is_success() { Ok(response) } else { Err(self.refused(op, response).await) }
    }

    /// Posts a body and reads an event stream.
    pub(crate) async fn stream(
        &self,
        path: &str,
        body: &impl Serialize,
        decoder: impl Decode,
    ) -> Result<ModelStream, ModelError> {
        let response = self.post("stream", path, body).await?;
        let kind = response.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("").to_owned();
        if !kind.to_ascii_lowercase().starts_with("text/event-stream") {
            let (body, _) = self.body(response).await;
            if let Some(e) = self.said(None, &body, None) {
                return Err(e);
            }
            let text = self.scrub.text(&String::from_utf8_lossy(&body));
            let what = format!("the answer is `{}`, not an event stream: `{}`", clip(&kind, 60), clip(&text, 160));
            return Err(malformed(self.provider, what));
        }
        let provider = self.provider;
        let scrub = self.scrub.clone();
        let bytes = response.bytes_stream().map(move |r| r.map_err(|e| transport(provider, "stream", &e, &scrub)));
        Ok(decode(self.provider, bytes.boxed(), decoder, self.idle))
    }

    /// Posts a body and reads a JSON document.
    pub(crate) async fn json<T: DeserializeOwned>(
        &self,
        op: &'static str,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ModelError> {
        let response = self.post(op, path, body).await?;
        let (body, whole) = self.body(response).await;
        if !whole {
            return Err(ModelError::new(
                ModelErrorKind::Network,
                op,
                format!("{}: the answer was cut or too large", self.provider),
            ));
        }
        serde_json::from_slice(&body).map_err(|e| {
            let text = self.scrub.text(&String::from_utf8_lossy(&body));
            let what = format!("{}: not the expected document ({e}): `{}`", self.provider, clip(&text, 160));
            ModelError::new(ModelErrorKind::Malformed, op, what)
        })
    }

    /// The body as far as it comes, and whether that is all of it.
    async fn body(&self, mut response: reqwest::Response) -> (Vec<u8>, bool) {
        let mut body = Vec::new();
        loop {
            match tokio::time::timeout(self.idle, response.chunk()).await {
                Ok(Ok(Some(chunk))) if body.len() + chunk.len() <= MAX_BODY_BYTES => body.extend_from_slice(&chunk),
                Ok(Ok(None)) => return (body, true),
                Ok(Ok(Some(_)) | Err(_)) | Err(_) => return (body, false),
            }
        }
    }

    async fn refused(&self, op: &'static str, response: reqwest::Response) -> ModelError {
        let status = response.status().as_u16();
        let wait = retry_after(response.headers());
        let (body, _) = self.body(response).await;
        if let Some(mut e) = self.said(Some(status), &body, wait) {
            if op != e.fault.op() {
                e = ModelError::new(e.kind(), op, e.fault.message().to_owned()).with_retry_after(wait);
            }
            return e;
        }
        let text = String::from_utf8_lossy(&body);
        let c = Complaint { status: Some(status), message: &text, ..Complaint::default() };
        complaint(self.provider, op, &c, &self.scrub, wait)
    }

    /// The error that a JSON body tells of.
    fn said(&self, status: Option<u16>, body: &[u8], wait: Option<Millis>) -> Option<ModelError> {
        let body: Value = serde_json::from_slice(body).ok()?;
        let error = body.get("error").filter(|e| !e.is_null())?;
        Some(error_object(self.provider, status, error, &self.scrub, wait))
    }

    fn silent(&self, op: &'static str) -> ModelError {
        silent(self.provider, op, self.idle)
    }

    fn transport(&self, op: &'static str, e: &reqwest::Error) -> ModelError {
        transport(self.provider, op, e, &self.scrub)
    }
}

/// The error of an `error` value as Anthropic, OpenAI and their imitators write it: an object or a text.
pub(crate) fn error_object(
    provider: &str,
    status: Option<u16>,
    error: &Value,
    scrub: &Scrub,
    wait: Option<Millis>,
) -> ModelError {
    let text = |key: &str| match error.get(key) {
        Some(Value::String(s)) => s.clone(),
        Some(Value::Number(n)) => n.to_string(),
        _ => String::new(),
    };
    let (class, code) = (text("type"), text("code"));
    let message = error.as_str().map_or_else(|| text("message"), str::to_owned);
    let code = if status.is_some_and(|s| s.to_string() == code) { String::new() } else { code };
    // A stream that has begun has no status of its own; some servers write one into `code`.
    let status = status.or_else(|| code.parse().ok().filter(|s| (400..600).contains(s)));
    let c = Complaint { status, class: &class, code: &code, message: &message };
    complaint(provider, "stream", &c, scrub, wait)
}

fn silent(provider: &str, op: &'static str, idle: Duration) -> ModelError {
    ModelError::new(ModelErrorKind::TimedOut, op, format!("{provider} was silent for {} s", idle.as_secs_f32()))
}

fn transport(provider: &str, op: &'static str, e: &reqwest::Error, scrub: &Scrub) -> ModelError {
    let kind = if e.is_timeout() { ModelErrorKind::TimedOut } else { ModelErrorKind::Network };
    let what = if e.is_connect() { "cannot connect" } else { "the connection failed" };
    ModelError::new(kind, op, format!("{provider}: {what}: {}", scrub.text(&root_cause(e))))
}

/// The innermost cause: the outer ones repeat the url.
fn root_cause(e: &dyn std::error::Error) -> String {
    let mut e = e;
    while let Some(source) = e.source() {
        e = source;
    }
    e.to_string()
}

/// How long the provider asks to wait: `retry-after-ms`, or `retry-after` in seconds or as a date, the date measured
/// against the answer's own `date`, so that a wrong clock here does no harm.
fn retry_after(headers: &HeaderMap) -> Option<Millis> {
    let header = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).map(str::trim);
    let seconds = |s: f64| Millis((s * 1000.0).ceil() as u64);
    if let Some(ms) = header("retry-after-ms").and_then(|v| v.parse::<f64>().ok()).filter(|ms| *ms >= 0.0) {
        return Some(Millis(ms.ceil() as u64));
    }
    let value = header("retry-after")?;
    if let Ok(s) = value.parse::<f64>() {
        return (s >= 0.0).then(|| seconds(s));
    }
    let date = |text: &str| jiff::fmt::rfc2822::parse(text).ok().map(|z| z.timestamp().as_millisecond());
    let now = header("date").and_then(date);
    let until = date(value)?.saturating_sub(now.unwrap_or_else(|| jiff::Timestamp::now().as_millisecond()));
    Some(Millis(u64::try_from(until).unwrap_or(0)))
}

struct Reading<D> {
    provider: &'static str,
    bytes: BoxStream<'static, Result<Bytes, ModelError>>,
    parser: SseParser,
    decoder: D,
    events: VecDeque<SseEvent>,
    ready: VecDeque<ModelEvent>,
    idle: Duration,
    over: bool,
}

/// Bytes to events of an answer, with a limit on silence.
pub(crate) fn decode(
    provider: &'static str,
    bytes: BoxStream<'static, Result<Bytes, ModelError>>,
    decoder: impl Decode,
    idle: Duration,
) -> ModelStream {
    let reading = Reading {
        provider,
        bytes,
        parser: SseParser::new(SseParser::DEFAULT_LIMIT_BYTES),
        decoder,
        events: VecDeque::new(),
        ready: VecDeque::new(),
        idle,
        over: false,
    };
    Box::pin(stream::unfold(reading, async |mut r| {
        let item = r.next().await?;
        Some((item, r))
    }))
}

impl<D: Decode> Reading<D> {
    async fn next(&mut self) -> Option<Result<ModelEvent, ModelError>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                self.over |= matches!(event, ModelEvent::Done(_));
                if self.over {
                    self.ready.clear();
                    self.bytes = stream::empty().boxed(); // Gives the connection back.
                }
                return Some(Ok(event));
            }
            if self.over {
                return None;
            }
            if let Err(e) = self.fill().await {
                self.over = true;
                self.ready.clear();
                self.bytes = stream::empty().boxed();
                return Some(Err(e));
            }
        }
    }

    async fn fill(&mut self) -> Result<(), ModelError> {
        if let Some(event) = self.events.pop_front() {
            return self.decoder.event(event, &mut self.ready);
        }
        match tokio::time::timeout(self.idle, self.bytes.next()).await {
            Err(_) => Err(silent(self.provider, "stream", self.idle)),
            Ok(Some(Err(e))) => Err(e),
            Ok(Some(Ok(chunk))) => {
                let mut events = Vec::new();
                let pushed = self.parser.push(&chunk, &mut events);
                self.events.extend(events);
                pushed.map_err(|e| malformed(self.provider, e))
            }
            Ok(None) => {
                self.decoder.end(&mut self.ready);
                if self.ready.iter().any(|e| matches!(e, ModelEvent::Done(_))) {
                    return Ok(());
                }
                let what = format!("{}: the answer ended before it was whole", self.provider);
                Err(ModelError::new(ModelErrorKind::Network, "stream", what))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_read_in_every_form() {
        let wait = |pairs: &[(&'static str, &'static str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in pairs {
                map.insert(*name, HeaderValue::from_static(value));
            }
            retry_after(&map)
        };
        assert_eq!(wait(&[("retry-after", "7")]), Some(Millis(7000)));
        assert_eq!(wait(&[("retry-after", "0.5")]), Some(Millis(500)));
        assert_eq!(wait(&[("retry-after", "7"), ("retry-after-ms", "250")]), Some(Millis(250)));
        let now = ("date", "Wed, 21 Oct 2015 07:28:00 GMT");
        assert_eq!(wait(&[("retry-after", "Wed, 21 Oct 2015 07:28:30 GMT"), now]), Some(Millis(30_000)));
        assert_eq!(wait(&[("retry-after", "Wed, 21 Oct 2015 07:27:30 GMT"), now]), Some(Millis(0)));
        for nonsense in ["-1", "soon", "", "NaN"] {
            let mut map = HeaderMap::new();
            map.insert("retry-after", HeaderValue::from_str(nonsense).unwrap());
            assert_eq!(retry_after(&map), None, "{nonsense}");
        }
        assert_eq!(wait(&[]), None);
    }

    struct Lines;

    impl Decode for Lines {
        fn event(&mut self, event: SseEvent, out: &mut VecDeque<ModelEvent>) -> Result<(), ModelError> {
            out.push_back(ModelEvent::TextDelta(event.data));
            Ok(())
        }

        fn end(&mut self, _: &mut VecDeque<ModelEvent>) {}
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_an_error_and_a_slow_drip_is_none() {
        let idle = Duration::from_secs(120);
        let drip = stream::iter("data: slow\n\n".bytes()).then(async |b| {
            tokio::time::sleep(Duration::from_secs(119)).await;
            Ok(Bytes::from(vec![b]))
        });
        let mut out = decode("test", drip.chain(stream::pending()).boxed(), Lines, idle);
        assert_eq!(out.next().await.unwrap().unwrap(), ModelEvent::TextDelta("slow".into()));
        assert_eq!(out.next().await.unwrap().unwrap_err().kind(), ModelErrorKind::TimedOut);
        assert!(out.next().await.is_none());
    }
}
