//! A connection to one server: the protocol's client, and what the server does besides answering.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use abca_core::mcp::{Definition, McpServer, McpTransport, TOOLS};
use rmcp::RoleClient;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, ClientConfig, ClientRequest, ClientResult, ContentBlock, ErrorCode,
    ErrorData, Implementation, ListToolsRequest, PaginatedRequestParams, ResourceContents, ServerNotification,
    ServerRequest, ServerResult,
};
use rmcp::service::{
    ClientInitializeError, NotificationContext, RequestContext, RunningService, Service, ServiceError, ServiceExt,
};
use rmcp::transport::common::unix_socket::UnixSocketError;
use rmcp::transport::streamable_http_client::StreamableHttpError;
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use super::process::Process;
use super::words::{Answer, Part};
use super::{Fault, FaultKind, Place, http};

/// Messages and bytes of a server for each thing that it is asked.
const MESSAGES: u64 = 2_000;
const BYTES: u64 = 32 << 20;
/// Pages of a list of tools.
const PAGES: usize = 16;
/// Kinds of wishes that are told apart, and how long their names are.
const WISHES: usize = 16;
const WISH_CHARS: usize = 64;
/// How long a connection gets to end in order.
const CLOSE: Duration = Duration::from_secs(2);

/// A server that was reached.
#[derive(Debug)]
pub(super) struct Connection {
    service: RunningService<RoleClient, Handler>,
    news: Arc<News>,
    process: Option<Process>,
    /// The socket of the egress proxy, held while requests go through it.
    _way: Option<http::Way>,
}

impl Connection {
    /// Starts or reaches a server, and shakes hands. The caller bounds its time.
    pub(super) async fn open(server: &McpServer, place: &Place) -> Result<Self, Fault> {
        let news = Arc::new(News::default());
        let handler = Handler { news: news.clone() };
        let mut held = None;
        let (served, process) = match &server.transport {
            McpTransport::Stdio { .. } => {
                let (process, pipes) = Process::start(&server.transport, place, &news).await?;
                (handler.serve(pipes).await, Some(process))
            }
            McpTransport::Http { url, headers } => {
                let (transport, way) = http::transport(url, headers, place)?;
                held = Some(way);
                (handler.serve(transport).await, None)
            }
        };
        match served {
            Ok(service) => Ok(Self { service, news, process, _way: held }),
            Err(error) => Err(not_served(error, &news, process).await),
        }
    }

    /// Its tools, as it says now.
    pub(super) async fn tools(&self) -> Result<Vec<Definition>, Fault> {
        let mut found = Vec::new();
        let mut cursor = None;
        for _ in 0..PAGES {
            self.news.ask();
            let params = cursor.take().map(|cursor| PaginatedRequestParams::default().with_cursor(Some(cursor)));
            // Past the client's own cache: a server says how long that counts.
            let request = ListToolsRequest { method: Default::default(), params, extensions: Default::default() };
            let asked = self.service.send_request(ClientRequest::ListToolsRequest(request));
            let listed = match self.unless_failed(asked).await? {
                Ok(ServerResult::ListToolsResult(listed)) => listed,
                // A server without tools need not know the question.
                Err(ServiceError::McpError(error)) if error.code == ErrorCode::METHOD_NOT_FOUND => return Ok(found),
                Ok(_) => return Err(Fault::new(FaultKind::Garbage, "it does not answer with a list of tools")),
                Err(error) => return Err(self.fault(&error).await),
            };
            found.extend(listed.tools.into_iter().map(|tool| Definition {
                name: tool.name.into_owned(),
                description: tool.description.map(std::borrow::Cow::into_owned).unwrap_or_default(),
                input_schema: Value::Object(tool.input_schema.as_ref().clone()),
            }));
            cursor = listed.next_cursor;
            // One more than are taken over, so that it is told.
            if cursor.is_none() || found.len() > TOOLS {
                break;
            }
        }
        Ok(found)
    }

    /// Makes a call. The caller bounds its time.
    pub(super) async fn call(&self, tool: &str, arguments: Map<String, Value>) -> Result<Answer, Fault> {
        self.news.ask();
        let params = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments);
        match self.unless_failed(self.service.call_tool_once(params)).await? {
            Ok(CallToolResponse::Complete(result)) => {
                let mut parts: Vec<Part> = result.content.into_iter().map(part).collect();
                if let Some(structured) = result.structured_content.filter(|_| parts.is_empty()) {
                    parts.push(Part::Text(structured.to_string()));
                }
                Ok(Answer::Result { parts, is_error: result.is_error.unwrap_or(false) })
            }
            Ok(CallToolResponse::InputRequired(_)) => Ok(Answer::Wants("input".to_owned())),
            Ok(CallToolResponse::Task(_)) => Ok(Answer::Wants("a task that is asked about later".to_owned())),
            Ok(_) => Ok(Answer::Wants("something unknown".to_owned())),
            Err(ServiceError::McpError(error)) => Ok(Answer::Refused(error.message.into_owned())),
            Err(ServiceError::UnexpectedResponse) => {
                Ok(Answer::Refused("the answer has not the form of a result".to_owned()))
            }
            Err(error) => Err(self.fault(&error).await),
        }
    }

    /// What it asked for since this was last called, with how often so far.
    pub(super) fn asked(&self) -> Vec<(String, u32)> {
        self.news.asked()
    }

    /// Whether it said that its tools are others now, since this was last called.
    pub(super) fn take_stale(&self) -> bool {
        self.news.stale.swap(false, Ordering::Relaxed)
    }

    /// Whether nothing more can come of it.
    pub(super) fn is_dead(&self) -> bool {
        self.news.failed.is_cancelled() || self.service.is_transport_closed()
    }

    /// Ends it, with every process of it.
    pub(super) async fn close(mut self) {
        match self.process.take() {
            Some(process) => process.kill().await,
            // A session on the network is given back.
            None => {
                if let Err(error) = self.service.close_with_timeout(CLOSE).await {
                    tracing::warn!(%error, "the connection to an MCP server did not end in order");
                }
            }
        }
    }

    async fn unless_failed<T>(&self, asked: impl Future<Output = T>) -> Result<T, Fault> {
        tokio::select! {
            biased;
            () = self.news.failed.cancelled() => Err(self.died().await),
            answer = asked => Ok(answer),
        }
    }

    async fn fault(&self, error: &ServiceError) -> Fault {
        if self.news.failed.is_cancelled() {
            return self.died().await;
        }
        broken(FaultKind::Died, error)
    }

    /// Why it is gone, with its last words.
    async fn died(&self) -> Fault {
        with_last_words(self.news.fault(), self.process.as_ref()).await
    }
}

async fn with_last_words(mut fault: Fault, process: Option<&Process>) -> Fault {
    if let (FaultKind::Died, Some(process)) = (fault.kind, process) {
        let words = process.last_words().await;
        if !words.is_empty() {
            fault.text = format!("{}; it said last: {words}", fault.text);
        }
    }
    fault
}

/// Why no hands were shaken.
async fn not_served(error: ClientInitializeError, news: &News, process: Option<Process>) -> Fault {
    let fault = if news.failed.is_cancelled() {
        with_last_words(news.fault(), process.as_ref()).await
    } else {
        broken(FaultKind::Start, &error)
    };
    if let Some(process) = process {
        process.kill().await;
    }
    fault
}

/// What broke a connection, by its cause: what stands around that names types.
fn broken(kind: FaultKind, error: &(dyn std::error::Error + 'static)) -> Fault {
    let mut cause = error;
    loop {
        if let Some(StreamableHttpError::ResponseBodyTooLarge { .. }) =
            cause.downcast_ref::<StreamableHttpError<UnixSocketError>>()
        {
            return Fault::new(FaultKind::Flood, cause.to_string());
        }
        // It does not tell its source.
        let next = match cause.downcast_ref::<ClientInitializeError>() {
            Some(ClientInitializeError::TransportError { error, .. }) => Some(error.error.as_ref() as _),
            Some(_) | None => cause.source(),
        };
        match next {
            Some(next) => cause = next,
            None => return Fault::new(kind, cause.to_string()),
        }
    }
}

fn part(block: ContentBlock) -> Part {
    match block {
        ContentBlock::Text(text) => Part::Text(text.text),
        ContentBlock::Image(image) => Part::Image { media_type: image.mime_type, base64: image.data },
        ContentBlock::Audio(_) => Part::Other("audio"),
        ContentBlock::Resource(resource) => match resource.resource {
            ResourceContents::TextResourceContents { uri, text, .. } => Part::Text(format!("{uri}:\n{text}")),
            _ => Part::Other("a file that is no text"),
        },
        ContentBlock::ResourceLink(link) => Part::Text(format!("[a resource: {}]", link.uri)),
        _ => Part::Other("something of an unknown kind"),
    }
}

/// What a server does besides answering.
#[derive(Debug, Default)]
pub(super) struct News {
    stale: AtomicBool,
    messages: AtomicU64,
    bytes: AtomicU64,
    /// How often it asked for what, and whether that is still to be told.
    wishes: Mutex<BTreeMap<String, (u32, bool)>>,
    fault: Mutex<Option<Fault>>,
    failed: CancellationToken,
}

impl News {
    /// It is asked something: its allowance begins anew.
    fn ask(&self) {
        self.messages.store(0, Ordering::Relaxed);
        self.bytes.store(0, Ordering::Relaxed);
    }

    /// A message came in.
    pub(super) fn count(&self, bytes: usize) -> Result<(), Fault> {
        let messages = self.messages.fetch_add(1, Ordering::Relaxed);
        let bytes = self.bytes.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
        if messages >= MESSAGES || bytes > BYTES {
            let text = format!("it sent more than {MESSAGES} messages or {BYTES} bytes at once");
            return Err(Fault::new(FaultKind::Flood, text));
        }
        Ok(())
    }

    /// Nothing more is heard of it. The first reason counts.
    pub(super) fn fail(&self, fault: Fault) {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(fault);
        self.failed.cancel();
    }

    fn fault(&self) -> Fault {
        let fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone();
        fault.unwrap_or_else(|| Fault::new(FaultKind::Died, "it has ended"))
    }

    fn wish(&self, what: &str) {
        let mut wishes = self.wishes.lock().unwrap_or_else(PoisonError::into_inner);
        let what: String = what.chars().take(WISH_CHARS).collect();
        let what = if wishes.len() < WISHES || wishes.contains_key(&what) { what } else { "something else".to_owned() };
        let (times, untold) = wishes.entry(what).or_default();
        *times = times.saturating_add(1);
        // Told when it is new, and at each power of two.
        *untold |= times.is_power_of_two();
    }

    fn asked(&self) -> Vec<(String, u32)> {
        let mut wishes = self.wishes.lock().unwrap_or_else(PoisonError::into_inner);
        let tell = |(what, (times, untold)): (&String, &mut (u32, bool))| {
            std::mem::take(untold).then(|| (what.clone(), *times))
        };
        wishes.iter_mut().filter_map(tell).collect()
    }
}

/// Our side of the protocol: answers pings, refuses everything else.
#[derive(Debug)]
struct Handler {
    news: Arc<News>,
}

impl Handler {
    fn counted(&self) {
        // Over pipes the reader counts as well; over HTTP nobody else does.
        if let Err(fault) = self.news.count(0) {
            self.news.fail(fault);
        }
    }
}

impl Service<RoleClient> for Handler {
    async fn handle_request(
        &self,
        request: ServerRequest,
        _context: RequestContext<RoleClient>,
    ) -> Result<ClientResult, ErrorData> {
        self.counted();
        let what = match &request {
            ServerRequest::PingRequest(_) => return Ok(ClientResult::empty(())),
            ServerRequest::CreateMessageRequest(_) => "sampling/createMessage",
            ServerRequest::ListRootsRequest(_) => "roots/list",
            ServerRequest::ElicitRequest(_) => "elicitation/create",
            ServerRequest::CustomRequest(custom) => custom.method.as_str(),
            _ => "something unknown",
        };
        self.news.wish(what);
        Err(ErrorData::new(ErrorCode::METHOD_NOT_FOUND, "no server gets this here", None))
    }

    async fn handle_notification(
        &self,
        notification: ServerNotification,
        _context: NotificationContext<RoleClient>,
    ) -> Result<(), ErrorData> {
        self.counted();
        if matches!(notification, ServerNotification::ToolListChangedNotification(_)) {
            self.news.stale.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn get_info(&self) -> ClientConfig {
        ClientConfig::new(Default::default(), Implementation::new("abca", env!("CARGO_PKG_VERSION")))
    }
}
