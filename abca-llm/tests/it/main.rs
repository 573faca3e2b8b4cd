//! The clients against loopback servers.
