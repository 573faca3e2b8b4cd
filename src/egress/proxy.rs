//! The proxy: takes connections, reads what they want, asks the gate, passes bytes on.

use std::sync::Arc;
use std::time::Duration;

use abca_core::egress::{BadRequest, Framing, Head, Kind};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use super::gate::{Gate, Refused};
use super::relay::{self, Activity, Allowance, Stopped};
use super::tunnel::{ALERT, opening};

/// What a session may ask of its proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProxyLimits {
    /// Longest head of a request. Default 32 KiB.
    pub head_bytes: usize,
    /// How long a head may take, all of it. Default 10 s.
    pub head: Duration,
    /// How long a name may take to be resolved. Default 10 s.
    pub resolve: Duration,
    /// How long each address of a host has to answer. Default 10 s.
    pub connect: Duration,
    /// Silence in both directions after which a connection ends. Default 120 s.
    pub idle: Duration,
    /// Longest life of a connection. Default 1 h.
    pub total: Duration,
    /// Connections at once; further ones wait. Default 128.
    pub connections: usize,
    /// Bytes out of the sandbox in the life of a session, all connections together. Default 1 GiB.
    pub out_bytes: u64,
    /// Bytes into it. Default 32 GiB.
    pub in_bytes: u64,
}

impl Default for ProxyLimits {
    fn default() -> Self {
        Self {
            head_bytes: 32 << 10,
            head: Duration::from_secs(10),
            resolve: Duration::from_secs(10),
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(120),
            total: Duration::from_secs(3600),
            connections: 128,
            out_bytes: 1 << 30,
            in_bytes: 32 << 30,
        }
    }
}

/// A proxy that runs; dropped, it ends with every connection.
#[derive(Debug)]
pub struct Proxy {
    task: AbortHandle,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    /// Serves connections to a socket. Needs a tokio runtime with I/O and time.
    pub fn start(listener: UnixListener, gate: Arc<Gate>) -> Self {
        Self { task: tokio::spawn(accept(listener, gate)).abort_handle() }
    }
}

#[derive(Debug)]
pub(super) struct Serving {
    pub(super) gate: Arc<Gate>,
    outward: Allowance,
    inward: Allowance,
}

/// A pause after a failed accept: as a rule there are no descriptors left for now.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

async fn accept(listener: UnixListener, gate: Arc<Gate>) {
    let places = Arc::new(Semaphore::new(gate.limits().connections));
    let (outward, inward) = (Allowance::new(gate.limits().out_bytes), Allowance::new(gate.limits().in_bytes));
    let serving = Arc::new(Serving { gate, outward, inward });
    // Its connections end with it.
    let mut running = JoinSet::new();
    loop {
        while running.try_join_next().is_some() {}
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((client, _)) => {
                let serving = serving.clone();
                running.spawn(async move {
                    serving.connection(client).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the egress proxy cannot take a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

impl Serving {
    async fn connection(&self, mut client: UnixStream) {
        let limits = self.gate.limits();
        let served = async {
            let (head, rest) = match timeout(limits.head, self.head(&mut client, Head::parse)).await {
                Ok(head) => head?,
                Err(_) => return Err(self.bad(408, "the head of the request did not come in time")),
            };
            self.request(&mut client, head, rest).await
        };
        // What was going on is dropped with the time.
        let refused = match timeout(limits.total, served).await {
            Ok(Err(refused)) => refused,
            Ok(Ok(())) | Err(_) => return,
        };
        // Nobody may read it.
        let _ = timeout(ANSWER, answer(&mut client, &refused)).await;
    }

    /// A whole head, and what came after it.
    pub(super) async fn head(
        &self,
        client: &mut (impl AsyncRead + Unpin),
        read: impl Fn(&[u8]) -> Result<Option<(Head, usize)>, BadRequest>,
    ) -> Result<(Head, Vec<u8>), Refused> {
        let most = self.gate.limits().head_bytes;
        let mut bytes = Vec::new();
        loop {
            match read(&bytes) {
                Ok(Some((head, used))) => return Ok((head, bytes.split_off(used))),
                Ok(None) if bytes.len() >= most => return Err(self.bad(431, "the head of the request is too long")),
                Ok(None) => {}
                Err(error) => return Err(self.bad(400, &error.to_string())),
            }
            let room = (most - bytes.len()) as u64;
            match (&mut *client).take(room).read_buf(&mut bytes).await {
                Ok(0) if bytes.is_empty() => return Err(Refused::new(400, "no request")),
                Ok(0) => return Err(self.bad(400, "the request ended amid its head")),
                Ok(_) => {}
                Err(error) => return Err(Refused::new(400, error.to_string())),
            }
        }
    }

    pub(super) fn bad(&self, status: u16, reason: &str) -> Refused {
        self.gate.note_bad("request", reason);
        Refused::new(status, reason)
    }

    async fn request(&self, client: &mut UnixStream, head: Head, rest: Vec<u8>) -> Result<(), Refused> {
        let what = match &head.kind {
            Kind::Tunnel => "CONNECT",
            Kind::Forward { method, .. } => method.as_str(),
        };
        let addresses = self.gate.admit(&head.host, head.port, what).await?;
        let mut upstream = self.gate.connect(&addresses).await?;
        let done = match head.kind {
            Kind::Tunnel if self.gate.intercepts(&head.host, head.port) => {
                self.intercepted(client, upstream, &head, rest).await?
            }
            Kind::Tunnel => self.tunnel(client, &mut upstream, &head, rest).await,
            Kind::Forward { .. } => {
                let sent = self.gate.rewritten(false, &head);
                self.exchange(client.split(), upstream.split(), &sent, head.framing, rest).await
            }
        };
        let subject = format!("{}:{}", head.host, head.port);
        match done {
            Ok(()) | Err(Stopped::Broken | Stopped::Idle) => {}
            Err(Stopped::Bytes) => self.gate.note_bad(&subject, "the session has moved all the bytes that it may"),
            Err(Stopped::Framing) => {
                self.gate.note_bad(&subject, "the body of a request is not framed as its head says")
            }
            // It is told already.
            Err(Stopped::Tunnel) => drop(timeout(ANSWER, client.write_all(&ALERT)).await),
        }
        Ok(())
    }

    async fn tunnel(
        &self,
        client: &mut UnixStream,
        upstream: &mut TcpStream,
        head: &Head,
        rest: Vec<u8>,
    ) -> Result<(), Stopped> {
        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
        let activity = Activity::new(self.gate.limits().idle);
        let ((client_in, client_out), (upstream_in, upstream_out)) = (client.split(), upstream.split());
        let outward = async {
            let (mut from, mut to) = (rest.as_slice().chain(client_in), upstream_out);
            let begun = opening(&mut from, &head.host, head.port, &activity).await?;
            if let Some(refusal) = begun.refusal {
                self.gate.admit_opening(&head.host, head.port, &refusal).map_err(|()| Stopped::Tunnel)?;
            }
            relay::pass(&begun.bytes, &mut to, &self.outward, &activity).await?;
            relay::all(from, to, &self.outward, &activity).await
        };
        let inward = relay::all(upstream_in, client_out, &self.inward, &activity);
        tokio::try_join!(outward, inward).map(drop)
    }

    #[cfg(feature = "web")]
    async fn intercepted(
        &self,
        client: &mut UnixStream,
        upstream: TcpStream,
        head: &Head,
        rest: Vec<u8>,
    ) -> Result<Result<(), Stopped>, Refused> {
        match self.gate.tls() {
            Some(tls) => Ok(self.inside(tls, client, upstream, head, rest).await),
            None => Err(self.no_tls(head)),
        }
    }

    #[cfg(not(feature = "web"))]
    async fn intercepted(
        &self,
        _client: &mut UnixStream,
        _upstream: TcpStream,
        head: &Head,
        _rest: Vec<u8>,
    ) -> Result<Result<(), Stopped>, Refused> {
        Err(self.no_tls(head))
    }

    /// A tunnel that is not looked into would lack its credential, and nobody would know why.
    fn no_tls(&self, head: &Head) -> Refused {
        let why = "the host has a credential and this proxy does not speak TLS, which would be needed to add it";
        self.gate.note_failed(&head.host, head.port, why);
        Refused::new(501, why)
    }

    /// One request and its answer.
    pub(super) async fn exchange(
        &self,
        (client_in, client_out): (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
        (upstream_in, mut upstream_out): (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
        head: &[u8],
        framing: Framing,
        rest: Vec<u8>,
    ) -> Result<(), Stopped> {
        let activity = Activity::new(self.gate.limits().idle);
        relay::pass(head, &mut upstream_out, &self.outward, &activity).await?;
        activity.wait(upstream_out.flush()).await?;
        let from = BufReader::new(rest.as_slice().chain(client_in));
        let outward = relay::body(from, upstream_out, framing, &self.outward, &activity);
        let inward = relay::all(upstream_in, client_out, &self.inward, &activity);
        tokio::pin!(outward, inward);
        let mut sending = true;
        loop {
            tokio::select! {
                // An answer may come, and end, before all of the body is sent.
                answered = &mut inward => return answered,
                sent = &mut outward, if sending => match sent {
                    Ok(()) => sending = false,
                    // The host may have said why it listens no longer.
                    Err(Stopped::Broken) => sending = false,
                    Err(stopped) => return Err(stopped),
                },
            }
        }
    }
}

/// How long an answer of our own may take.
pub(super) const ANSWER: Duration = Duration::from_secs(5);
/// Most of what a refused client still says that is read, so that it gets to read the answer.
const DRAIN_BYTES: u64 = 1 << 20;

pub(super) async fn answer(
    client: &mut (impl AsyncRead + AsyncWrite + Unpin),
    refused: &Refused,
) -> std::io::Result<()> {
    let line: String =
        refused.reason.chars().map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' }).take(200).collect();
    let head = format!(
        "HTTP/1.1 {} {line}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nX-Abca-Egress: refused\r\n\
         Connection: close\r\n\r\n{line}\n",
        refused.status,
        line.len() + 1,
    );
    client.write_all(head.as_bytes()).await?;
    client.shutdown().await?;
    tokio::io::copy(&mut client.take(DRAIN_BYTES), &mut tokio::io::sink()).await.map(drop)
}
