//! What a client needs to know. Data only: nothing here reads the environment; the command line does.

use std::fmt;
use std::time::Duration;

use secrecy::SecretString;

/// How to speak HTTP: shared by [`AnthropicConfig`] and [`OpenAiConfig`].
#[derive(Clone)]
pub struct HttpConfig {
    /// Longest wait for a connection. Default 10 s.
    pub connect_timeout: Duration,
    /// Longest silence: until the answer begins, and between any two of its bytes. Default 120 s. The whole call has
    /// no limit of its own: the caller has the deadline, and drops the stream.
    pub idle_timeout: Duration,
    /// Sent with every request; values count as secret. They replace the client's own headers of the same name.
    pub extra_headers: Vec<(String, SecretString)>,
    /// Use the proxy of the system (`HTTPS_PROXY`, `NO_PROXY` and such). Default true.
    pub system_proxy: bool,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(120),
            extra_headers: Vec::new(),
            system_proxy: true,
        }
    }
}

impl fmt::Debug for HttpConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.extra_headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("HttpConfig")
            .field("connect_timeout", &self.connect_timeout)
            .field("idle_timeout", &self.idle_timeout)
            .field("extra_headers", &names)
            .field("system_proxy", &self.system_proxy)
            .finish()
    }
}

/// Anthropic's Messages API, or a server that speaks it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AnthropicConfig {
    /// Without `/v1`, with or without a final slash. Default `https://api.anthropic.com`.
    pub base_url: String,
    /// Sent as `x-api-key`. `None` for a proxy that adds its own.
    pub api_key: Option<SecretString>,
    /// Sent as `anthropic-version`. Default `2023-06-01`.
    pub api_version: String,
    /// How to speak HTTP.
    pub http: HttpConfig,
}

impl AnthropicConfig {
    /// Where Anthropic is.
    pub const DEFAULT_BASE_URL: &str = "https://api.anthropic.com";

    /// The public API with a key.
    pub fn new(api_key: impl Into<SecretString>) -> Self {
        Self { api_key: Some(api_key.into()), ..Self::default() }
    }

    /// Another server.
    #[must_use]
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.base_url = url.into();
        self
    }

    /// Another way to speak HTTP.
    #[must_use]
    pub fn http(mut self, http: HttpConfig) -> Self {
        self.http = http;
        self
    }
}

impl Default for AnthropicConfig {
    fn default() -> Self {
        Self {
            base_url: Self::DEFAULT_BASE_URL.into(),
            api_key: None,
            api_version: "2023-06-01".into(),
            http: HttpConfig::default(),
        }
    }
}

/// The field that limits the answer, in chat completions.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OutputLimit {
    /// `max_completion_tokens` for OpenAI and Azure, `max_tokens` for every other server.
    #[default]
    Auto,
    /// `max_completion_tokens`: what OpenAI's reasoning models insist on.
    MaxCompletionTokens,
    /// `max_tokens`: what older servers know.
    MaxTokens,
}

/// OpenAI's chat completions, or a server that speaks them: vLLM, llama.cpp, Ollama, a gateway.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct OpenAiConfig {
    /// With `/v1` where the server has it, with or without a final slash. Default `https://api.openai.com/v1`.
    pub base_url: String,
    /// Sent as a bearer token. `None` for servers that want none.
    pub api_key: Option<SecretString>,
    /// The field that limits the answer.
    pub output_limit: OutputLimit,
    /// Ask for usage (`stream_options`). Default true; switch it off for a server that rejects the field. Usage that
    /// a server does not send is estimated, see [`OpenAi::estimated_calls`](crate::OpenAi::estimated_calls).
    pub include_usage: bool,
    /// Send thinking back as `reasoning_content`. Default false; some servers want it within a turn of tool calls.
    pub send_reasoning: bool,
    /// How to speak HTTP.
    pub http: HttpConfig,
}

impl OpenAiConfig {
    /// Where OpenAI is.
    pub const DEFAULT_BASE_URL: &str = "https://api.openai.com/v1";

    /// The public API with a key.
    pub fn new(api_key: impl Into<SecretString>) -> Self {
        Self { api_key: Some(api_key.into()), ..Self::default() }
    }

    /// Another server.
    #[must_use]
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.base_url = url.into();
        self
    }

    /// Another way to speak HTTP.
    #[must_use]
    pub fn http(mut self, http: HttpConfig) -> Self {
        self.http = http;
        self
    }
}

impl Default for OpenAiConfig {
    fn default() -> Self {
        Self {
            base_url: Self::DEFAULT_BASE_URL.into(),
            api_key: None,
            output_limit: OutputLimit::Auto,
            include_usage: true,
            send_reasoning: false,
            http: HttpConfig::default(),
        }
    }
}

/// Fixed AWS credentials.
#[derive(Debug, Clone)]
pub struct AwsKeys {
    /// The access key's id.
    pub access_key_id: String,
    /// The secret.
    pub secret_access_key: SecretString,
    /// The token of temporary credentials.
    pub session_token: Option<SecretString>,
}

/// Amazon Bedrock's Converse.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct BedrockConfig {
    /// The region; `None` takes that of the AWS configuration (environment, profile, instance).
    pub region: Option<String>,
    /// Another endpoint, e.g. a VPC endpoint or a test server.
    pub endpoint_url: Option<String>,
    /// The profile of the shared AWS configuration.
    pub profile: Option<String>,
    /// Fixed credentials; `None` takes the usual chain of AWS (environment, profile, web identity, instance); this
    /// build of the SDK knows neither SSO nor credential processes.
    pub keys: Option<AwsKeys>,
    /// Longest wait for a connection. Default 10 s.
    pub connect_timeout: Duration,
    /// Longest silence: until the answer begins, and between any two of its events. Default 120 s.
    pub idle_timeout: Duration,
}

impl Default for BedrockConfig {
    fn default() -> Self {
        let http = HttpConfig::default();
        Self {
            region: None,
            endpoint_url: None,
            profile: None,
            keys: None,
            connect_timeout: http.connect_timeout,
            idle_timeout: http.idle_timeout,
        }
    }
}

impl BedrockConfig {
    /// A region, with credentials from the usual chain of AWS.
    pub fn region(region: impl Into<String>) -> Self {
        Self { region: Some(region.into()), ..Self::default() }
    }

    /// Fixed credentials.
    #[must_use]
    pub fn keys(mut self, keys: AwsKeys) -> Self {
        self.keys = Some(keys);
        self
    }

    /// Another endpoint.
    #[must_use]
    pub fn endpoint_url(mut self, url: impl Into<String>) -> Self {
        self.endpoint_url = Some(url.into());
        self
    }
}

/// A guardrail of Amazon Bedrock, applied without a model (`ApplyGuardrail`).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct BedrockGuardrailConfig {
    /// The guardrail's id, or its ARN.
    pub id: String,
    /// Its version: a number, or `DRAFT`.
    pub version: String,
    /// Where it is, and how to be let in. Of its timeouts `idle_timeout` is the longest wait for one answer.
    pub bedrock: BedrockConfig,
    /// Most characters of one call. Default 24 000: the quota of most accounts is 25 text units of 1 000 characters
    /// a call and a second. A call that is refused as too large is made smaller, so a smaller quota costs time only.
    pub piece_chars: usize,
    /// Characters that two neighbouring pieces of a text share, so that nothing of that length is missed where a text is
    /// cut. Default 1 000.
    pub overlap_chars: usize,
    /// Longest time for one check, all pieces and repeats together. Default 60 s.
    pub deadline: Duration,
    /// The wait before the second call for a piece; it doubles, up to 8 s. Default 500 ms.
    pub first_wait: Duration,
    /// Most calls for one piece. Default 6.
    pub attempts: u32,
}

impl BedrockGuardrailConfig {
    /// A guardrail with the usual settings; the region and the credentials come from the usual chain of AWS.
    pub fn new(id: impl Into<String>, version: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            version: version.into(),
            bedrock: BedrockConfig { idle_timeout: Duration::from_secs(20), ..BedrockConfig::default() },
            piece_chars: 24_000,
            overlap_chars: 1_000,
            deadline: Duration::from_secs(60),
            first_wait: Duration::from_millis(500),
            attempts: 6,
        }
    }

    /// Another place, or other credentials.
    #[must_use]
    pub fn bedrock(mut self, bedrock: BedrockConfig) -> Self {
        self.bedrock = bedrock;
        self
    }

    /// Another deadline.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Another size of pieces, with what neighbours share.
    #[must_use]
    pub fn pieces(mut self, piece_chars: usize, overlap_chars: usize) -> Self {
        (self.piece_chars, self.overlap_chars) = (piece_chars, overlap_chars);
        self
    }
}
