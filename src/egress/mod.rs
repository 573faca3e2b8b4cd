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
//! * every decision is a `policy_decision` event of the task, a flood of them a count ([`Ledger`]).
//!
//! HTTPS is a tunnel (`CONNECT`): the proxy sees its host and port, and nothing inside.

mod bridge;
mod gate;
mod ledger;
mod proxy;
mod relay;
mod resolve;

pub use bridge::BridgeConfig;
pub(crate) use bridge::bridge;
pub use gate::{Gate, Refused};
pub use ledger::Ledger;
pub use proxy::{Proxy, ProxyLimits};
pub use resolve::{Resolve, SystemResolver};
