//! A server on the network, through the egress proxy and nothing else.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use abca_core::mcp::McpUrl;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::transport::{StreamableHttpClientTransport, UnixSocketHttpClient};

use super::{Fault, FaultKind, Place};
use crate::link::socket::Short;

/// Largest answer, and largest event of a stream.
const ANSWER_BYTES: usize = 4 << 20;
/// What is read of an answer that is an error.
const ERROR_BYTES: usize = 4 << 10;

/// The way to a server. Nothing is sent yet.
pub(super) fn transport(
    url: &McpUrl,
    headers: &BTreeMap<String, String>,
    place: &Place,
) -> Result<(StreamableHttpClientTransport<UnixSocketHttpClient>, Short), Fault> {
    let failed = |why: String| Fault::new(FaultKind::Start, why);
    let Some(proxy) = place.walls.egress() else {
        let why = format!(
            "`{url}` is reached through the egress proxy: start with `--network proxy --allow-host {}`",
            url.host
        );
        return Err(failed(why));
    };
    if url.tls {
        return Err(failed(format!("`{url}` is https, which no server is reached by yet")));
    }
    let way = Short::of(proxy).map_err(|e| failed(format!("the egress proxy cannot be reached: {e}")))?;
    let Some(proxy) = way.path.to_str() else {
        return Err(failed("the egress proxy's socket has no plain name".to_owned()));
    };
    // The proxy wants the whole address in the request's first line.
    let address = url.to_string();
    let client = UnixSocketHttpClient::new(proxy, &address);
    let mut config = StreamableHttpClientTransportConfig::with_uri(address);
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
    config.custom_headers = fields;
    Ok((StreamableHttpClientTransport::with_client(client, config), way))
}
