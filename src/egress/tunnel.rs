//! How a tunnel begins: with TLS that names the tunnel's own host, before a byte of it is passed on.

use abca_core::egress::{ClientHello, HelloRefusal, Host};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::relay::{Activity, Stopped};

/// The port where nothing but TLS is spoken.
const TLS_PORT: u16 = 443;
/// The alert `unrecognized_name` (RFC 6066), fatal, as a record: what programs have words for.
pub(super) const ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// What a tunnel begins with.
#[derive(Debug)]
pub(super) struct Opening {
    /// What was read, to be passed on; empty when the client had nothing to say.
    pub(super) bytes: Vec<u8>,
    /// What is wrong with it.
    pub(super) refusal: Option<HelloRefusal>,
}

/// Reads as much of a tunnel as it takes to know where it leads. At [`TLS_PORT`] it has to be TLS; elsewhere it may be
/// anything, and what begins as TLS does is held to its name.
pub(super) async fn opening(
    mut from: impl AsyncRead + Unpin,
    host: &Host,
    port: u16,
    activity: &Activity,
) -> Result<Opening, Stopped> {
    let mut bytes = Vec::with_capacity(1 << 10);
    loop {
        if activity.wait(from.read_buf(&mut bytes)).await? == 0 {
            return Ok(Opening { bytes, refusal: None });
        }
        if !ClientHello::may_begin(&bytes) {
            let refusal = (port == TLS_PORT).then_some(HelloRefusal::NotTls);
            return Ok(Opening { bytes, refusal });
        }
        match ClientHello::parse(&bytes) {
            Ok(None) => {}
            Ok(Some(hello)) => return Ok(Opening { bytes, refusal: hello.judge(host).err() }),
            Err(refusal) => return Ok(Opening { bytes, refusal: Some(refusal) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// What curl says to `registry.example`.
    const HELLO: &[u8] = include_bytes!("../../fuzz/seeds/client_hello/curl");

    async fn begun(bytes: &[u8], host: &str, port: u16) -> Option<HelloRefusal> {
        let opening = opening(bytes, &Host::parse(host).unwrap(), port, &Activity::new(Duration::from_secs(1))).await;
        let opening = opening.unwrap();
        assert_eq!(opening.bytes, bytes, "what was read is passed on, or nothing is");
        opening.refusal
    }

    #[tokio::test]
    async fn a_tunnel_begins_with_tls_that_names_its_host() {
        assert_eq!(begun(HELLO, "registry.example", 443).await, None);
        let (host, named) = (Host::parse("evil.example").unwrap(), "registry.example".to_owned());
        let other = Some(HelloRefusal::OtherName { host, named });
        assert_eq!(begun(HELLO, "evil.example", 443).await, other);
        assert_eq!(begun(HELLO, "evil.example", 8443).await, other);
        assert_eq!(begun(b"SSH-2.0-x", "registry.example", 443).await, Some(HelloRefusal::NotTls));
        assert_eq!(begun(b"SSH-2.0-x", "registry.example", 22).await, None);
        assert_eq!(begun(b"", "registry.example", 443).await, None);
    }
}
