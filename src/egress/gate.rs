//! The gate: from a host to addresses that may be connected to.

use std::net::SocketAddr;
use std::sync::Arc;

use abca_core::egress::{EgressMode, EgressSettings, Head, HelloRefusal, Host, Kind, Passed};
use abca_core::policy::GuardOutcome;
use secrecy::{ExposeSecret, SecretString};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::credentials::Credentials;
use super::ledger::Ledger;
use super::proxy::ProxyLimits;
use super::resolve::Resolve;
#[cfg(feature = "web")]
use super::tls::Interception;

/// Most addresses of a name that are tried.
const ADDRESSES: usize = 8;

/// Judges hosts and connects to them.
#[derive(Debug)]
pub struct Gate {
    settings: EgressSettings,
    resolver: Arc<dyn Resolve>,
    ledger: Arc<Ledger>,
    limits: ProxyLimits,
    credentials: Credentials,
    #[cfg(feature = "web")]
    tls: Option<Interception>,
}

/// A request that goes no further.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The status of the answer.
    pub status: u16,
    /// Why, for whoever asked.
    pub reason: String,
}

impl Refused {
    pub(super) fn new(status: u16, reason: impl Into<String>) -> Self {
        Self { status, reason: reason.into() }
    }
}

impl Gate {
    /// A gate that tells the ledger what it decides.
    pub fn new(settings: EgressSettings, resolver: Arc<dyn Resolve>, ledger: Arc<Ledger>, limits: ProxyLimits) -> Self {
        Self {
            settings,
            resolver,
            ledger,
            limits,
            credentials: Credentials::default(),
            #[cfg(feature = "web")]
            tls: None,
        }
    }

    /// Adds these credentials to the requests that they are for.
    #[must_use]
    pub fn with_credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = credentials;
        self
    }

    /// Speaks TLS where credentials need it; without it tunnels to their hosts are refused.
    #[cfg(feature = "web")]
    #[must_use]
    pub fn with_tls(mut self, tls: Interception) -> Self {
        self.tls = Some(tls);
        self
    }

    /// What the hands are to trust beside what they do, as PEM; `None` when there is nothing.
    pub fn bundle(&self) -> Option<&str> {
        #[cfg(feature = "web")]
        return self.tls.as_ref().map(Interception::bundle);
        #[cfg(not(feature = "web"))]
        None
    }

    /// Whether a tunnel is looked into.
    pub(super) fn intercepts(&self, host: &Host, port: u16) -> bool {
        self.credentials.intercepts(host, port)
    }

    #[cfg(feature = "web")]
    pub(super) const fn tls(&self) -> Option<&Interception> {
        self.tls.as_ref()
    }

    /// A request as it is sent on, with its credential where there is one.
    pub(super) fn rewritten(&self, tls: bool, head: &Head) -> Vec<u8> {
        let Kind::Forward { method, path } = &head.kind else { return Vec::new() };
        match self.credential(tls, &head.host, head.port, method, path) {
            Some((name, value)) => head.rewritten_with(Some((name, value.expose_secret()))),
            None => head.rewritten(),
        }
    }

    /// The credential of a request, if it gets one; told as an event.
    pub(crate) fn credential(
        &self,
        tls: bool,
        host: &Host,
        port: u16,
        method: &str,
        target: &str,
    ) -> Option<(&str, &SecretString)> {
        let (name, value) = self.credentials.header(tls, host, port, target)?;
        let scheme = if tls { "https" } else { "http" };
        let subject = format!("{scheme}://{host}:{port}");
        self.ledger.note(GuardOutcome::Allowed, &subject, method, &format!("the credential `{name}` was added"));
        Some((name, value))
    }

    /// The addresses of a host, each checked. A host that is not listed is not even resolved.
    ///
    /// # Errors
    /// [`Refused`] with 403 for what the list does not allow, 502 for a name that cannot be resolved.
    pub async fn admit(&self, host: &Host, port: u16, what: &str) -> Result<Vec<SocketAddr>, Refused> {
        let subject = format!("{host}:{port}");
        let note = |outcome, reason: &str| self.ledger.note(outcome, &subject, what, reason);
        let denied = |reason: String| {
            note(GuardOutcome::Denied, &reason);
            Refused::new(403, format!("egress refused: {reason}"))
        };
        if self.ledger.is_closed() {
            note(GuardOutcome::Denied, "the session is over");
            return Err(Refused::new(503, "egress refused: the session is over"));
        }
        let passed = self.settings.judge_host(host, port).map_err(|e| denied(e.to_string()))?;
        let addresses = match host {
            Host::Address(address) => vec![*address],
            Host::Name(name) => {
                let unresolved = |why: String| {
                    note(GuardOutcome::Failed, &why);
                    Refused::new(502, why)
                };
                match timeout(self.limits.resolve, self.resolver.resolve(name)).await {
                    Err(_) => return Err(unresolved(format!("`{name}` was not resolved in time"))),
                    Ok(Err(error)) => return Err(unresolved(format!("`{name}` cannot be resolved: {error}"))),
                    Ok(Ok(found)) if found.is_empty() => return Err(unresolved(format!("`{name}` has no address"))),
                    Ok(Ok(found)) => found,
                }
            }
        };
        // One that is not allowed spoils all: whoever mixes them wants the next look to find another.
        for address in &addresses {
            self.settings.judge_address(*address, port).map_err(|e| denied(e.to_string()))?;
        }
        match passed {
            Passed::Listed => note(GuardOutcome::Allowed, "it is on the allow-list"),
            Passed::Unlisted => note(GuardOutcome::Observed, "it is not on the allow-list, which only observes"),
        }
        Ok(addresses.into_iter().take(ADDRESSES).map(|address| SocketAddr::new(address, port)).collect())
    }

    /// A connection to the first address that answers.
    ///
    /// # Errors
    /// [`Refused`] with 502.
    pub(crate) async fn connect(&self, addresses: &[SocketAddr]) -> Result<TcpStream, Refused> {
        let mut last = "no address".to_owned();
        for address in addresses {
            match timeout(self.limits.connect, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = error.to_string(),
                Err(_) => last = "no answer in time".to_owned(),
            }
        }
        Err(Refused::new(502, format!("the host cannot be reached: {last}")))
    }

    /// Whether a tunnel may go on that does not begin as it should: only where the list observes.
    pub(super) fn admit_opening(&self, host: &Host, port: u16, refusal: &HelloRefusal) -> Result<(), ()> {
        let (outcome, go_on) = match self.settings.mode {
            EgressMode::Observe => (GuardOutcome::Observed, Ok(())),
            EgressMode::Enforce => (GuardOutcome::Denied, Err(())),
        };
        self.ledger.note(outcome, &format!("{host}:{port}"), "tunnel", &refusal.to_string());
        go_on
    }

    #[cfg(feature = "web")]
    pub(super) fn note_tunnel(&self, host: &Host, port: u16, reason: &str) {
        self.ledger.note(GuardOutcome::Denied, &format!("{host}:{port}"), "tunnel", reason);
    }

    /// Notes that the answer to a `WebFetch` was withheld.
    #[cfg(feature = "web")]
    pub(crate) fn note_web(&self, host: &Host, port: u16, reason: &str) {
        self.ledger.note(GuardOutcome::Denied, &format!("{host}:{port}"), "WebFetch", reason);
    }

    pub(super) fn note_failed(&self, host: &Host, port: u16, reason: &str) {
        self.ledger.note(GuardOutcome::Failed, &format!("{host}:{port}"), "tunnel", reason);
    }

    pub(super) fn note_bad(&self, what: &str, reason: &str) {
        self.ledger.note(GuardOutcome::Denied, what, "", reason);
    }

    pub(super) const fn limits(&self) -> &ProxyLimits {
        &self.limits
    }
}
