//! Which hosts the hands may reach: hosts as they are written, addresses by what they lead to, the allow-list, and what a
//! client says first, to the proxy ([`Head`]) and inside a tunnel ([`ClientHello`]).
//!
//! Everything here decides and does nothing; the proxy that asks is in the crate `abca`.

mod address;
mod credential;
mod environment;
mod hello;
mod host;
mod request;
mod settings;

pub use address::AddressClass;
pub use credential::{
    CREDENTIAL_BYTES, CredentialForm, CredentialRule, InvalidCredential, InvalidValue, MAX_CREDENTIALS,
};
pub use environment::{PROXY_PORT, environment, trust};
pub use hello::{ClientHello, HelloRefusal, MAX_HELLO_BYTES};
pub use host::{Host, HostError, authority};
pub use request::{BadRequest, Framing, Head, Kind};
pub use settings::{AllowRule, EgressMode, EgressRefusal, EgressSettings, InvalidRule, MAX_RULES, Passed};
