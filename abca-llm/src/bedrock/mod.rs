//! Amazon Bedrock's Converse, through the AWS SDK.

mod decode;
mod document;
mod error;
mod wire;

use std::time::Duration;

use abca_core::model::{
    ModelCapabilities, ModelClient, ModelError, ModelErrorKind, ModelRequest, ModelStream, TokenCount,
};
use async_trait::async_trait;
use aws_credential_types::Credentials;
use aws_sdk_bedrockruntime::Client;
use aws_sdk_bedrockruntime::config::retry::RetryConfig;
use aws_sdk_bedrockruntime::config::timeout::TimeoutConfig;
use aws_sdk_bedrockruntime::config::{BehaviorVersion, Region, SharedCredentialsProvider};
use secrecy::ExposeSecret;

use crate::config::BedrockConfig;
use crate::estimate::request_tokens;
use crate::fault::Scrub;
use crate::prices::{Family, Prices};

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
        let scrub = Scrub::new(
            config.keys.iter().flat_map(|k| std::iter::once(&k.secret_access_key).chain(k.session_token.as_ref())),
        );
        let version = BehaviorVersion::latest();
        let credentials = config.keys.map(|k| {
            let token = k.session_token.map(|t| t.expose_secret().to_owned());
            Credentials::new(k.access_key_id, k.secret_access_key.expose_secret(), token, None, "abca")
        });
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(config.connect_timeout)
            .read_timeout(config.idle_timeout)
            .disable_operation_timeout()
            .disable_operation_attempt_timeout()
            .build();
        let mut builder = match (&config.region, credentials) {
            (Some(_), Some(keys)) => aws_sdk_bedrockruntime::Config::builder()
                .behavior_version(version)
                .credentials_provider(SharedCredentialsProvider::new(keys)),
            (_, keys) => {
                let mut loader = aws_config::defaults(version);
                if let Some(profile) = &config.profile {
                    loader = loader.profile_name(profile);
                }
                if let Some(keys) = keys {
                    loader = loader.credentials_provider(SharedCredentialsProvider::new(keys));
                }
                let shared = loader.load().await;
                if config.region.is_none() && shared.region().is_none() {
                    let what = "no aws region; set AWS_REGION, or `region` in the profile";
                    return Err(ModelError::new(ModelErrorKind::Config, "connect", what));
                }
                aws_sdk_bedrockruntime::config::Builder::from(&shared)
            }
        };
        if let Some(region) = config.region {
            builder = builder.region(Region::new(region));
        }
        if let Some(url) = config.endpoint_url {
            builder = builder.endpoint_url(url);
        }
        // One attempt: the retry layer repeats, and knows what it spends.
        let built = builder.retry_config(RetryConfig::disabled()).timeout_config(timeouts).build();
        Ok(Self { client: Client::from_conf(built), prices: Prices::default(), idle: config.idle_timeout, scrub })
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
