//! The gate: from a host to addresses that may be connected to.

use std::net::SocketAddr;
use std::sync::Arc;

use abca_core::egress::{EgressSettings, Host, Passed};
use abca_core::policy::GuardOutcome;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::ledger::Ledger;
use super::proxy::ProxyLimits;
use super::resolve::Resolve;

/// Most addresses of a name that are tried.
const ADDRESSES: usize = 8;

/// Judges hosts and connects to them.
#[derive(Debug)]
pub struct Gate {
    settings: EgressSettings,
    resolver: Arc<dyn Resolve>,
    ledger: Arc<Ledger>,
    limits: ProxyLimits,
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
        Self { settings, resolver, ledger, limits }
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
    pub(super) async fn connect(&self, addresses: &[SocketAddr]) -> Result<TcpStream, Refused> {
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

    pub(super) fn note_bad(&self, what: &str, reason: &str) {
        self.ledger.note(GuardOutcome::Denied, what, "", reason);
    }

    pub(super) const fn limits(&self) -> &ProxyLimits {
        &self.limits
    }
}
