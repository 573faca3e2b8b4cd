//! The clients against loopback servers that speak each provider's wire format, byte for byte, faults included; and
//! the replay of what they were recorded saying.

mod conformance;
mod replay;
#[cfg(any(feature = "anthropic", feature = "openai", feature = "bedrock"))]
#[cfg_attr(
    not(all(feature = "anthropic", feature = "openai", feature = "bedrock")),
    allow(dead_code, reason = "each client's tests use their part")
)]
mod server;
#[cfg(any(feature = "anthropic", feature = "openai", feature = "bedrock"))]
#[cfg_attr(
    not(all(feature = "anthropic", feature = "openai", feature = "bedrock")),
    allow(dead_code, reason = "each client's tests use their part")
)]
mod wires;

#[cfg(all(feature = "anthropic", feature = "openai"))]
mod faults;
#[cfg(feature = "bedrock")]
mod guardrail;
