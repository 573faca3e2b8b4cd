//! OpenAI's chat completions, and the many servers that speak them.

mod decode;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use abca_core::model::{
    ModelCapabilities, ModelClient, ModelError, ModelErrorKind, ModelRequest, ModelStream, TokenCount,
};
use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};

use crate::config::{OpenAiConfig, OutputLimit};
use crate::estimate::request_tokens;
use crate::http::Endpoint;
use crate::prices::{Family, Prices};
use decode::ChatDecoder;

const NAME: &str = "openai";

/// A client of OpenAI's chat completions, or of a server that speaks them.
#[derive(Debug)]
pub struct OpenAi {
    endpoint: Endpoint,
    prices: Prices,
    options: wire::Options,
    estimated: Arc<AtomicU64>,
}

impl OpenAi {
    /// A client with the built-in prices. Connects with the first call.
    ///
    /// # Errors
    /// [`ModelErrorKind::Config`]: the base url or a header is unusable, or there is no key for the public API.
    pub fn new(config: OpenAiConfig) -> Result<Self, ModelError> {
        let base = config.base_url.trim().trim_end_matches('/');
        let own_headers = config.http.extra_headers.iter().any(|(n, _)| n.eq_ignore_ascii_case("authorization"));
        if config.api_key.is_none() && base == OpenAiConfig::DEFAULT_BASE_URL && !own_headers {
            let what = "no api key for openai; set OPENAI_API_KEY, or OPENAI_BASE_URL for a server of your own";
            return Err(ModelError::new(ModelErrorKind::Config, "connect", what));
        }
        let mut headers = Vec::new();
        if let Some(key) = &config.api_key {
            headers.push(("authorization", SecretString::from(format!("Bearer {}", key.expose_secret().trim()))));
        }
        let mut endpoint = Endpoint::new(NAME, base, headers, &config.http)?;
        endpoint.scrub = crate::fault::Scrub::new(
            config.api_key.iter().chain(config.http.extra_headers.iter().map(|(_, value)| value)),
        );
        let new_field = match config.output_limit {
            OutputLimit::Auto => ["api.openai.com", ".azure.com"].iter().any(|h| base.contains(h)),
            OutputLimit::MaxCompletionTokens => true,
            OutputLimit::MaxTokens => false,
        };
        let options = wire::Options {
            max_completion_tokens: new_field,
            include_usage: config.include_usage,
            send_reasoning: config.send_reasoning,
        };
        Ok(Self { endpoint, prices: Prices::default(), options, estimated: Arc::default() })
    }

    /// The same with other prices: self-hosted models have none until somebody says.
    #[must_use]
    pub fn with_prices(mut self, prices: Prices) -> Self {
        self.prices = prices;
        self
    }

    /// Calls so far whose usage the server did not report, so that it was estimated (too high rather than too low).
    pub fn estimated_calls(&self) -> u64 {
        self.estimated.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl ModelClient for OpenAi {
    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self, model: &str) -> ModelCapabilities {
        self.prices.capabilities(model, Family::OpenAi)
    }

    async fn stream(&self, request: &ModelRequest) -> Result<ModelStream, ModelError> {
        let decoder = ChatDecoder::new(request, self.endpoint.scrub.clone(), self.estimated.clone());
        let body = wire::Body::new(request, self.options);
        self.endpoint.stream("/chat/completions", &body, decoder).await.map_err(explain)
    }

    /// An estimate: the API has no way to ask.
    async fn count_tokens(&self, request: &ModelRequest) -> Result<TokenCount, ModelError> {
        Ok(request_tokens(request))
    }
}

/// Adds which of our options a server stumbled over.
fn explain(e: ModelError) -> ModelError {
    let words = e.fault.message();
    let hint = if e.kind() != ModelErrorKind::BadRequest {
        return e;
    } else if words.contains("max_completion_tokens") || words.contains("max_tokens") {
        "; see `output_limit` of the configuration"
    } else if words.contains("stream_options") {
        "; see `include_usage` of the configuration"
    } else {
        return e;
    };
    ModelError::new(e.kind(), e.fault.op(), format!("{words}{hint}")).with_retry_after(e.retry_after)
}
