//! Amazon Bedrock's Converse, through the AWS SDK.

mod client;
mod decode;
mod document;
mod error;
mod guardrail;
mod wire;

use std::time::Duration;

use abca_core::model::{
    ModelCapabilities, ModelClient, ModelError, ModelErrorKind, ModelRequest, ModelStream, TokenCount,
};
use async_trait::async_trait;
use aws_sdk_bedrockruntime::Client;

use crate::config::BedrockConfig;
use crate::estimate::request_tokens;
use crate::fault::Scrub;
use crate::prices::{Family, Prices};

pub use guardrail::BedrockGuardrail;

const NAME: &str = "bedrock";

/// A client of Amazon Bedrock.
#[derive(Debug)]
pub struct Bedrock {
    client: Client,
    prices: Prices,
    idle: Duration,
    scrub: Scrub,
}

impl Bedrock {
    /// A client with the built-in prices. What the configuration leaves open comes from the usual chain of AWS, which
    /// reads its own environment variables, files and instance metadata: the one place where this crate's clients
    /// look around. With a region and keys given, nothing of that is read.
    ///
    /// # Errors
    /// [`ModelErrorKind::Config`]: no region is to be found.
    pub async fn connect(config: BedrockConfig) -> Result<Self, ModelError> {
        let (client, scrub) = client::connect(&config).await?;
        Ok(Self { client, prices: Prices::default(), idle: config.idle_timeout, scrub })
    }

    /// The same with other prices.
    #[must_use]
    pub fn with_prices(mut self, prices: Prices) -> Self {
        self.prices = prices;
        self
    }
}

#[async_trait]
impl ModelClient for Bedrock {
    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self, model: &str) -> ModelCapabilities {
        self.prices.capabilities(model, Family::Bedrock)
    }

    async fn stream(&self, request: &ModelRequest) -> Result<ModelStream, ModelError> {
        let call = wire::Conversation::of(request)?;
        let send = self
            .client
            .converse_stream()
            .model_id(&request.model)
            .set_messages(Some(call.messages))
            .set_system(call.system)
            .set_tool_config(call.tools)
            .inference_config(wire::inference(request))
            .send();
        match tokio::time::timeout(self.idle, send).await {
            Ok(Ok(out)) => Ok(decode::stream(out.stream, request.model.clone(), self.idle, self.scrub.clone())),
            Ok(Err(e)) => Err(error::of_call("stream", &e, &self.scrub)),
            Err(_) => Err(error::silent("stream", self.idle)),
        }
    }

    /// By CountTokens; an estimate where the model or the region does not have it.
    async fn count_tokens(&self, request: &ModelRequest) -> Result<TokenCount, ModelError> {
        let send = self
            .client
            .count_tokens()
            .model_id(wire::base_model(&request.model))
            .input(wire::counting(wire::Conversation::of(request)?))
            .send();
        match tokio::time::timeout(self.idle, send).await {
            Ok(Ok(out)) => Ok(TokenCount { input_tokens: u64::try_from(out.input_tokens).unwrap_or(0), exact: true }),
            Ok(Err(e)) => {
                let e = error::of_call("count_tokens", &e, &self.scrub);
                match e.kind() {
                    ModelErrorKind::BadRequest | ModelErrorKind::Access => {
                        tracing::debug!(error = %e, "bedrock does not count tokens here: estimated");
                        Ok(request_tokens(request))
                    }
                    _ => Err(e),
                }
            }
            Err(_) => Err(error::silent("count_tokens", self.idle)),
        }
    }
}
