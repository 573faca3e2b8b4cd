//! A server on the network, through the egress proxy and nothing else.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use abca_core::mcp::McpUrl;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::transport::{StreamableHttpClientTransport, UnixSocketHttpClient};
#[cfg(feature = "web")]
use secrecy::ExposeSecret;

use super::{Fault, FaultKind, Place};
use crate::link::socket::Short;

/// Largest answer, and largest event of a stream.
const ANSWER_BYTES: usize = 4 << 20;
/// What is read of an answer that is an error.
const ERROR_BYTES: usize = 4 << 10;

/// The socket that requests go to, held as long as they do.
#[derive(Debug)]
pub(super) enum Way {
    /// The egress proxy's own.
    Proxy(Short),
    /// One of ours, which adds TLS.
    #[cfg(feature = "web")]
    Tls(super::tls::Tunnel),
}

impl Way {
    fn open(url: &McpUrl, proxy: &Path, place: &Place) -> Result<Self, String> {
        if !url.tls {
            return Short::of(proxy).map(Self::Proxy).map_err(|e| format!("the egress proxy cannot be reached: {e}"));
        }
        #[cfg(feature = "web")]
        return super::tls::Tunnel::start(url, place).map(Self::Tls).map_err(|e| format!("no way to `{url}`: {e}"));
        #[cfg(not(feature = "web"))]
        {
            let _ = place;
            Err(format!("`{url}` needs TLS, and this program is built without the feature `web`, which brings it"))
        }
    }

    fn socket(&self) -> &Path {
        match self {
            Self::Proxy(short) => &short.path,
            #[cfg(feature = "web")]
            Self::Tls(tunnel) => tunnel.path(),
        }
    }
}

/// The way to a server. Nothing is sent yet.
pub(super) fn transport(
    url: &McpUrl,
    headers: &BTreeMap<String, String>,
    place: &Place,
) -> Result<(StreamableHttpClientTransport<UnixSocketHttpClient>, Way), Fault> {
    let failed = |why: String| Fault::new(FaultKind::Start, why);
    let Some(proxy) = place.walls.egress() else {
        let why = format!(
            "`{url}` is reached through the egress proxy: start with `--network proxy --allow-host {}`",
            url.host
        );
        return Err(failed(why));
    };
    let way = Way::open(url, proxy, place).map_err(failed)?;
    let socket = way.socket().to_str().ok_or_else(|| failed("the workspace has no plain name".to_owned()))?;
    let address = url.to_string();
    let client = UnixSocketHttpClient::new(socket, &address);
    // The proxy wants the whole address in the request's first line, the server itself its path.
    let target = if url.tls { url.path.clone() } else { address };
    let mut config = StreamableHttpClientTransportConfig::with_uri(target);
    config.max_sse_event_size = ANSWER_BYTES;
    config.max_json_response_size = ANSWER_BYTES;
    config.max_error_response_size = ERROR_BYTES;
    config.max_concurrent_requests = 2;
    // A call is never made twice by itself.
    config.reinit_on_expired_session = false;
    config.retry_config = Arc::new(rmcp::transport::common::client_side_sse::NeverRetry::default());
    let mut fields = HashMap::new();
    for (name, value) in headers {
        let bad = || failed(format!("the field `{name}` cannot be sent"));
        fields.insert(name.parse().map_err(|_| bad())?, value.parse().map_err(|_| bad())?);
    }
    #[cfg(feature = "web")]
    if let Some((name, value)) =
        place.gate.credential(url.tls, &url.host, url.port, "POST", &url.path).filter(|_| url.tls)
    {
        let bad = || failed(format!("the credential of `{}` cannot be sent", url.host));
        fields.insert(name.parse().map_err(|_| bad())?, value.expose_secret().parse().map_err(|_| bad())?);
    }
    config.custom_headers = fields;
    Ok((StreamableHttpClientTransport::with_client(client, config), way))
}
