//! The way out of the hands: an HTTP proxy in the brain that lets through what the allow-list names.
//!
//! The hands have an empty network namespace. One socket is seen inside; a bridge in the hands' server listens on
//! `127.0.0.1` there, and passes bytes on to that socket. Whatever comes through is the word of a hostile program:
//!
//! * a request is read strictly, and what two programs could read differently is refused ([`Head::parse`](abca_core::egress::Head::parse));
//! * a host has to be on the list before its name is even resolved; names are resolved here, every address is checked,
//!   and the connection goes to a checked address: nobody resolves twice;
//! * each request is judged for itself, so a redirect is too;
//! * heads, bytes, times and connections are bounded ([`ProxyLimits`]);
//! * credentials are added here for the hosts that they are for ([`Credentials`]): the hands never hold them;
//! * every decision is a `policy_decision` event of the task, a flood of them a count ([`Ledger`]).
//!
//! HTTPS is a tunnel (`CONNECT`): the proxy sees its host and port and the host that TLS names first, which has to be the
//! same; nothing else of what is inside. Only the TLS of hosts with a credential ends in the proxy (feature `web`).

mod bridge;
mod credentials;
mod gate;
#[cfg(feature = "web")]
mod inside;
mod ledger;
mod proxy;
mod relay;
mod resolve;
#[cfg(feature = "web")]
mod tls;
mod tunnel;

pub use bridge::BridgeConfig;
pub(crate) use bridge::bridge;
pub use credentials::{CredentialError, Credentials};
pub use gate::{Gate, Refused};
pub use ledger::Ledger;
pub(crate) use ledger::lost;
pub use proxy::{Proxy, ProxyLimits};
pub use resolve::{Resolve, SystemResolver};
#[cfg(feature = "web")]
pub(crate) use tls::Verified;
#[cfg(feature = "web")]
pub use tls::{Interception, TlsError};
