//! Which hosts the hands may reach: hosts as they are written, addresses by what they lead to, and the allow-list.
//!
//! Everything here decides and does nothing; the proxy that asks is in the crate `abca`.

mod address;
mod environment;
mod host;
mod settings;

pub use address::AddressClass;
pub use environment::{PROXY_PORT, environment};
pub use host::{Host, HostError, authority};
pub use settings::{AllowRule, EgressMode, EgressRefusal, EgressSettings, InvalidRule, MAX_RULES, Passed};
