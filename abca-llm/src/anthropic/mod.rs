//! Anthropic's Messages API.

mod decode;
mod wire;

use abca_core::model::{
    ModelCapabilities, ModelClient, ModelError, ModelErrorKind, ModelRequest, ModelStream, TokenCount,
};
use async_trait::async_trait;
use secrecy::SecretString;
use serde::Deserialize;

use crate::config::AnthropicConfig;
use crate::http::Endpoint;
use crate::prices::{Family, Prices};
use decode::MessagesDecoder;

const NAME: &str = "anthropic";

/// A client of Anthropic's Messages API, or of a server that speaks it.
#[derive(Debug)]
pub struct Anthropic {
    endpoint: Endpoint,
    prices: Prices,
}

impl Anthropic {
    /// A client with the built-in prices. Connects with the first call.
    ///
    /// # Errors
    /// [`ModelErrorKind::Config`]: the base url or a header is unusable, or there is no key for the public API.
    pub fn new(config: AnthropicConfig) -> Result<Self, ModelError> {
        // The variable's custom is to leave `/v1` out; we take both.
        let base = config.base_url.trim().trim_end_matches('/');
        let base = base.strip_suffix("/v1").unwrap_or(base);
        let own_headers = config.http.extra_headers.iter().any(|(n, _)| n.eq_ignore_ascii_case("authorization"));
        if config.api_key.is_none() && base == AnthropicConfig::DEFAULT_BASE_URL && !own_headers {
            return Err(ModelError::new(
                ModelErrorKind::Config,
                "connect",
                "no api key for anthropic; set ANTHROPIC_API_KEY",
            ));
        }
        let mut headers = vec![("anthropic-version", SecretString::from(config.api_version))];
        headers.extend(config.api_key.map(|key| ("x-api-key", key)));
        Ok(Self { endpoint: Endpoint::new(NAME, base, headers, &config.http)?, prices: Prices::default() })
    }

    /// The same with other prices.
    #[must_use]
    pub fn with_prices(mut self, prices: Prices) -> Self {
        self.prices = prices;
        self
    }
}

#[async_trait]
impl ModelClient for Anthropic {
    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self, model: &str) -> ModelCapabilities {
        self.prices.capabilities(model, Family::Anthropic)
    }

    async fn stream(&self, request: &ModelRequest) -> Result<ModelStream, ModelError> {
        let decoder = MessagesDecoder::new(self.endpoint.scrub.clone());
        self.endpoint.stream("/v1/messages", &wire::Body::streaming(request), decoder).await
    }

    async fn count_tokens(&self, request: &ModelRequest) -> Result<TokenCount, ModelError> {
        #[derive(Deserialize)]
        struct Count {
            input_tokens: u64,
        }
        let count: Count =
            self.endpoint.json("count_tokens", "/v1/messages/count_tokens", &wire::Body::counting(request)).await?;
        Ok(TokenCount { input_tokens: count.input_tokens, exact: true })
    }
}
