//! ModelClient adapters of abca: Anthropic, OpenAI-compatible servers, Amazon Bedrock, and a replay of recordings.
//!
//! | name | feature | what |
//! | --- | --- | --- |
//! | [`Anthropic`] | `anthropic` | the Messages API |
//! | [`OpenAi`] | `openai` | chat completions: OpenAI, Azure, vLLM, llama.cpp, Ollama, gateways |
//! | [`Bedrock`] | `bedrock` | Converse, through the AWS SDK |
//! | [`BedrockGuardrail`] | `bedrock` | ApplyGuardrail: text in pieces, images |
//! | [`Replay`], [`Recorder`] | – | trajectories: play one back, record any client |
//! | [`Retry`] | – | a layer over any client: backs off and repeats what may be repeated |
//! | [`Prices`], [`estimate`] | – | what a call may cost, before it is made |
//! | [`ModelSpec`], [`connect`] | – | `provider:id` to a client |
//!
//! No client retries by itself, reads the environment or logs a key. The order of layers is: `Recorder` outside,
//! `Retry` inside it, the client innermost, so that a recording holds answers only.

#[cfg(any(feature = "http", feature = "bedrock"))]
#[cfg_attr(
    not(all(feature = "anthropic", feature = "openai", feature = "bedrock")),
    allow(dead_code, reason = "each wire uses its part")
)]
mod assemble;
mod clip;
mod config;
pub mod estimate;
#[cfg(any(feature = "http", feature = "bedrock"))]
mod fault;
#[cfg(feature = "http")]
#[cfg_attr(
    not(all(feature = "anthropic", feature = "openai", feature = "bedrock")),
    allow(dead_code, reason = "each wire uses its part")
)]
mod http;
mod prices;
mod provider;
mod replay;
mod retry;
pub mod sse;

#[cfg(feature = "anthropic")]
mod anthropic;
#[cfg(feature = "bedrock")]
mod bedrock;
#[cfg(feature = "openai")]
mod openai;

#[cfg(feature = "anthropic")]
pub use anthropic::Anthropic;
#[cfg(feature = "bedrock")]
pub use bedrock::{Bedrock, BedrockGuardrail};
pub use config::{
    AnthropicConfig, AwsKeys, BedrockConfig, BedrockGuardrailConfig, HttpConfig, OpenAiConfig, OutputLimit,
};
#[cfg(feature = "openai")]
pub use openai::OpenAi;
pub use prices::{Family, Prices};
pub use provider::{ModelSpec, ProviderConfig, connect};
pub use replay::{Match, Recorder, Replay};
pub use retry::{Retry, RetryConfig, RetryNotice};
