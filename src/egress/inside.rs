//! A tunnel to a host that gets a credential: its TLS ends here, and its request goes on over TLS of our own.

use abca_core::egress::Head;
use tokio::io::{AsyncReadExt, AsyncWriteExt, join};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::gate::Refused;
use super::proxy::{ANSWER, Serving, answer};
use super::relay::{Activity, Stopped};
use super::tls::Interception;
use super::tunnel::opening;

impl Serving {
    /// One request of a tunnel. Whatever the list's mode, it has to be TLS to the tunnel's host, with a certificate of the
    /// host's towards us.
    pub(super) async fn inside(
        &self,
        tls: &Interception,
        client: &mut UnixStream,
        upstream: TcpStream,
        head: &Head,
        rest: Vec<u8>,
    ) -> Result<(), Stopped> {
        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
        let (host, port, limits) = (&head.host, head.port, self.gate.limits());
        let activity = Activity::new(limits.idle);
        let (from, to) = client.split();
        let mut from = rest.as_slice().chain(from);
        let begun = opening(&mut from, host, port, &activity).await?;
        if begun.bytes.is_empty() {
            return Ok(());
        }
        if let Some(refusal) = begun.refusal {
            self.gate.note_tunnel(host, port, &refusal.to_string());
            return Err(Stopped::Tunnel);
        }
        let accepted = timeout(limits.head, tls.accept(host, join(begun.bytes.as_slice().chain(from), to))).await;
        let mut client = match accepted {
            Ok(Ok(client)) => client,
            Ok(Err(error)) => {
                let why = format!("a program in the hands does not take the session's certificate: {error}");
                self.gate.note_failed(host, port, &why);
                return Err(Stopped::Broken);
            }
            Err(_) => return Err(Stopped::Idle),
        };
        let asked = async {
            let read = |bytes: &[u8]| Head::parse_inside(bytes, host, port);
            let (head, rest) = match timeout(limits.head, self.head(&mut client, read)).await {
                Ok(head) => head?,
                Err(_) => return Err(self.bad(408, "the head of the request did not come in time")),
            };
            let connected = match timeout(limits.connect, tls.connect(host, upstream)).await {
                Ok(connected) => connected.map_err(|e| e.to_string()),
                Err(_) => Err("no answer in time".to_owned()),
            };
            let upstream = connected.map_err(|error| {
                let why = format!("no TLS with the host: {error}");
                self.gate.note_failed(host, port, &why);
                Refused::new(502, why)
            })?;
            Ok((head, rest, upstream))
        };
        let (head, rest, upstream) = match asked.await {
            Ok(asked) => asked,
            Err(refused) => {
                let _ = timeout(ANSWER, answer(&mut client, &refused)).await;
                return Ok(());
            }
        };
        let sent = self.gate.rewritten(true, &head);
        self.exchange(tokio::io::split(client), tokio::io::split(upstream), &sent, head.framing, rest).await
    }
}
