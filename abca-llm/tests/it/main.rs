//! The clients against loopback servers that speak each provider's wire format, byte for byte, faults included; and
//! the replay of what they were recorded saying.

mod conformance;
mod replay;
#[cfg(any(feature = "anthropic", feature = "openai", feature = "bedrock"))]
mod server;
#[cfg(any(feature = "anthropic", feature = "openai", feature = "bedrock"))]
mod wires;

#[cfg(all(feature = "anthropic", feature = "openai"))]
mod faults;
