//! Which model sessions talk to, as settings that can cross into a session's own process.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use abca_core::model::{ModelClient, ModelError, ModelErrorKind, Price};
use abca_core::time::IdSource;
use abca_llm::{
    AnthropicConfig, BedrockConfig, Family, Match, ModelSpec, OpenAiConfig, Prices, ProviderConfig, Recorder, Replay,
    Retry, RetryConfig, connect,
};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

const ANTHROPIC_KEY: &str = "anthropic_api_key";
const OPENAI_KEY: &str = "openai_api_key";

/// Where models are and how to be let in. Serialised without its keys: those travel apart ([`Self::secrets`]).
///
/// Credentials of AWS are found by its own chain (environment, profile, instance), also in the session's process.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ModelSettings {
    /// The model of tasks that name none: `anthropic:ID`, `bedrock:ID`, `openai:ID` or `replay:FILE`.
    pub model: Option<String>,
    /// Another address of Anthropic's API.
    pub anthropic_base_url: Option<String>,
    /// Another address of an OpenAI-compatible API.
    pub openai_base_url: Option<String>,
    /// The region of Bedrock; default that of the AWS configuration.
    pub bedrock_region: Option<String>,
    /// Another endpoint of Bedrock's runtime.
    pub bedrock_endpoint_url: Option<String>,
    /// The price of the model, over the built-in list.
    pub price: Option<Price>,
    /// Write the trajectory of every session to this file, to be replayed.
    pub record: Option<PathBuf>,
    /// Most tokens of one answer. Default 16 384.
    pub max_output_tokens: u32,
    /// Key for `anthropic:`.
    #[serde(skip)]
    pub anthropic_api_key: Option<SecretString>,
    /// Key for `openai:`.
    #[serde(skip)]
    pub openai_api_key: Option<SecretString>,
}

impl Default for ModelSettings {
    fn default() -> Self {
        Self {
            model: None,
            anthropic_base_url: None,
            openai_base_url: None,
            bedrock_region: None,
            bedrock_endpoint_url: None,
            price: None,
            record: None,
            max_output_tokens: 16_384,
            anthropic_api_key: None,
            openai_api_key: None,
        }
    }
}

/// A connected model.
#[derive(Debug, Clone)]
pub(crate) struct Connected {
    pub(crate) client: Arc<dyn ModelClient>,
    /// As `provider:id`.
    pub(crate) name: String,
    /// The provider's id.
    pub(crate) id: String,
}

impl ModelSettings {
    /// Settings for one model, e.g. `anthropic:claude-sonnet-4-6`.
    pub fn new(model: impl Into<String>) -> Self {
        Self { model: Some(model.into()), ..Self::default() }
    }

    /// Reads the variables that the providers' own programs read: `ANTHROPIC_API_KEY`, `ANTHROPIC_BASE_URL`,
    /// `OPENAI_API_KEY`, `OPENAI_BASE_URL`, `AWS_REGION`, `AWS_ENDPOINT_URL_BEDROCK_RUNTIME`, `AWS_ENDPOINT_URL`.
    /// `variable` is where they come from: the library itself reads no environment.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let text = |name: &str| variable(name).filter(|v| !v.trim().is_empty());
        Self {
            anthropic_base_url: text("ANTHROPIC_BASE_URL"),
            openai_base_url: text("OPENAI_BASE_URL"),
            bedrock_region: text("AWS_REGION").or_else(|| text("AWS_DEFAULT_REGION")),
            bedrock_endpoint_url: text("AWS_ENDPOINT_URL_BEDROCK_RUNTIME").or_else(|| text("AWS_ENDPOINT_URL")),
            anthropic_api_key: text("ANTHROPIC_API_KEY").map(SecretString::from),
            openai_api_key: text("OPENAI_API_KEY").map(SecretString::from),
            ..Self::default()
        }
    }

    /// The keys, by name.
    pub fn secrets(&self) -> BTreeMap<String, SecretString> {
        let named = [(ANTHROPIC_KEY, &self.anthropic_api_key), (OPENAI_KEY, &self.openai_api_key)];
        named.into_iter().filter_map(|(name, key)| Some((name.to_owned(), key.clone()?))).collect()
    }

    /// Takes the keys back in that travelled apart.
    #[must_use]
    pub fn with_secrets(mut self, secrets: &BTreeMap<String, SecretString>) -> Self {
        self.anthropic_api_key = secrets.get(ANTHROPIC_KEY).cloned();
        self.openai_api_key = secrets.get(OPENAI_KEY).cloned();
        self
    }

    /// Whether a model spec can be used with these settings, found out without a connection.
    ///
    /// # Errors
    /// What is missing, and how to set it.
    pub fn check(&self, model: Option<&str>) -> Result<(), ModelError> {
        let name = self.name(model)?;
        let missing = |what: String| Err(ModelError::new(ModelErrorKind::Config, "model", what));
        match name.parse::<ModelSpec>()? {
            ModelSpec::Anthropic(_) if self.anthropic_api_key.is_none() && self.anthropic_base_url.is_none() => {
                missing(format!("`{name}` needs a key: set ANTHROPIC_API_KEY"))
            }
            ModelSpec::OpenAi(_) if self.openai_api_key.is_none() && self.openai_base_url.is_none() => {
                missing(format!(
                    "`{name}` needs a key or a server: set OPENAI_API_KEY, or OPENAI_BASE_URL for a server of your own"
                ))
            }
            ModelSpec::Replay(path) if !path.exists() => {
                missing(format!("there is no trajectory at `{}`: give a file that `--record` wrote", path.display()))
            }
            // Read whole, so that a file that is none is refused before anything is started.
            ModelSpec::Replay(path) => Replay::open(path).map(drop),
            _ => Ok(()),
        }
    }

    /// Like [`Self::check`], and whether a budget can be kept: it cannot while nobody has said what the model costs.
    ///
    /// # Errors
    /// What is missing, and how to set it.
    pub fn check_budgeted(&self, model: Option<&str>) -> Result<(), ModelError> {
        self.check(model)?;
        let name = self.name(model)?;
        let family = match name.parse::<ModelSpec>()? {
            ModelSpec::Anthropic(_) => Family::Anthropic,
            ModelSpec::Bedrock(_) => Family::Bedrock,
            ModelSpec::OpenAi(_) => Family::OpenAi,
            // What is replayed costs nothing.
            ModelSpec::Replay(_) => return Ok(()),
            _ => return Ok(()),
        };
        let listed = || Prices::default().capabilities(name.parse::<ModelSpec>().ok()?.model_id(), family).price;
        if self.price.or_else(listed).is_some() { Ok(()) } else { Err(no_price(&name)) }
    }

    fn name(&self, model: Option<&str>) -> Result<String, ModelError> {
        model.map(str::to_owned).or_else(|| self.model.clone()).ok_or_else(|| {
            ModelError::new(ModelErrorKind::Config, "model", format!("no model is set; {}", ModelSpec::forms()))
        })
    }

    /// Connects to a task's model, or to the default one. The session keeps its own books on broken answers, so only what
    /// the provider has not accepted is repeated here.
    pub(crate) async fn connect(
        &self,
        model: Option<&str>,
        ids: Arc<dyn IdSource>,
        resumed: bool,
    ) -> Result<Connected, ModelError> {
        let name = self.name(model)?;
        let spec: ModelSpec = name.parse()?;
        let mut config = ProviderConfig::default();
        let mut anthropic = AnthropicConfig::default();
        anthropic.api_key = self.anthropic_api_key.clone();
        if let Some(url) = &self.anthropic_base_url {
            anthropic.base_url.clone_from(url);
        }
        config.anthropic = Some(anthropic);
        let mut openai = OpenAiConfig::default();
        openai.api_key = self.openai_api_key.clone();
        if let Some(url) = &self.openai_base_url {
            openai.base_url.clone_from(url);
        }
        config.openai = Some(openai);
        let mut bedrock = BedrockConfig::default();
        bedrock.region.clone_from(&self.bedrock_region);
        bedrock.endpoint_url.clone_from(&self.bedrock_endpoint_url);
        config.bedrock = Some(bedrock);
        if let Some(price) = self.price {
            config.prices = Prices::default().with_override(spec.model_id(), price);
        }
        let plain = connect(&spec, config).await?;
        let mut once = RetryConfig::default();
        once.restart_streams = false;
        let retrying: Arc<dyn ModelClient> = match &spec {
            ModelSpec::Replay(_) => plain,
            _ => Arc::new(Retry::new(plain, once, ids)),
        };
        let client: Arc<dyn ModelClient> = match &self.record {
            None => retrying,
            Some(path) if resumed && path.is_file() => Arc::new(Recorder::resume(retrying, path, Match::Normalised)?),
            Some(path) => Arc::new(Recorder::create(retrying, path, Match::Normalised)?),
        };
        Ok(Connected { client, name, id: spec.model_id().to_owned() })
    }
}

/// Why a budget cannot be kept for a model of that name.
pub(crate) fn no_price(name: &str) -> ModelError {
    let text = format!(
        "no price is known for `{name}`, so a budget cannot be kept: give its price in dollars per million tokens, with \
         `--price IN,OUT` where its sessions are run (`run` or `worker`; `ModelSettings::price` in the library), or set no \
         budget"
    );
    ModelError::new(ModelErrorKind::Config, "model", text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_needs_a_price() {
        let mut settings = ModelSettings::new("openai:my-own");
        settings.openai_base_url = Some("http://127.0.0.1:1".to_owned());
        settings.anthropic_api_key = Some(SecretString::from("FABRICATED".to_owned()));
        assert!(settings.check(None).is_ok());
        let error = settings.check_budgeted(None).unwrap_err();
        assert_eq!(error.kind(), ModelErrorKind::Config);
        assert!(error.to_string().contains("`--price IN,OUT`"), "{error}");
        assert!(settings.check_budgeted(Some("anthropic:claude-sonnet-4-6")).is_ok(), "it is on the list");
        settings.price = Some(Price::default());
        assert!(settings.check_budgeted(None).is_ok());
    }
}
