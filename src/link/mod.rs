//! The session link: how a session speaks to the platform.
//!
//! [`StoreLink`] is the link itself, over the store. A session in another process reaches it through a local socket:
//! [`LinkServer`] in every worker, [`SocketLink`] in the session. The session's one credential is a token that
//! [`LinkSecret`] signs; it opens the link for one session and nothing else.

mod client;
mod frame;
mod secret;
mod server;
pub(crate) mod socket;
mod store;

pub use client::SocketLink;
pub use secret::{LinkSecret, SecretFileError};
pub use server::LinkServer;
pub use store::StoreLink;
