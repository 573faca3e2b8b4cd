//! From `provider:id` to a client.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use abca_core::model::{ModelClient, ModelError, ModelErrorKind};

use crate::config::{AnthropicConfig, BedrockConfig, OpenAiConfig};
use crate::prices::Prices;
use crate::replay::Replay;

/// The forms of a spec, and what each wants from the environment: for usage texts and errors.
const FORMS: &str = "want one of
  anthropic:ID  e.g. anthropic:claude-opus-4-8; set ANTHROPIC_API_KEY (and ANTHROPIC_BASE_URL for another server)
  bedrock:ID    e.g. bedrock:us.anthropic.claude-opus-4-8; set AWS_REGION and AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY
  openai:ID     e.g. openai:gpt-5.1; set OPENAI_API_KEY, or OPENAI_BASE_URL for a server of your own
  replay:FILE   a recorded trajectory; needs nothing";

/// A provider and its model, as a person writes it: `anthropic:ID`, `bedrock:ID`, `openai:ID` or `replay:FILE`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ModelSpec {
    /// A model of Anthropic's API.
    Anthropic(String),
    /// A model or inference profile of Amazon Bedrock.
    Bedrock(String),
    /// A model of an OpenAI-compatible server.
    OpenAi(String),
    /// A trajectory to play.
    Replay(PathBuf),
}

impl ModelSpec {
    /// The id for [`ModelRequest::model`](abca_core::model::ModelRequest::model); `replay` for a trajectory.
    pub fn model_id(&self) -> &str {
        match self {
            Self::Anthropic(id) | Self::Bedrock(id) | Self::OpenAi(id) => id,
            Self::Replay(_) => "replay",
        }
    }

    /// What can be written, and what to set for each. Several lines.
    pub const fn forms() -> &'static str {
        FORMS
    }
}

impl fmt::Display for ModelSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anthropic(id) => write!(f, "anthropic:{id}"),
            Self::Bedrock(id) => write!(f, "bedrock:{id}"),
            Self::OpenAi(id) => write!(f, "openai:{id}"),
            Self::Replay(path) => write!(f, "replay:{}", path.display()),
        }
    }
}

impl FromStr for ModelSpec {
    type Err = ModelError;

    fn from_str(text: &str) -> Result<Self, ModelError> {
        let bad = |what: String| ModelError::new(ModelErrorKind::Config, "parse", format!("{what}; {FORMS}"));
        let text = text.trim();
        if text.is_empty() {
            return Err(bad("no model is given".into()));
        }
        let Some((provider, rest)) = text.split_once(':') else {
            return Err(bad(format!("`{text}` names no provider")));
        };
        if rest.is_empty() {
            return Err(bad(format!("`{text}` names no model")));
        }
        let id = rest.to_owned();
        match provider {
            "anthropic" => Ok(Self::Anthropic(id)),
            "bedrock" => Ok(Self::Bedrock(id)),
            "openai" => Ok(Self::OpenAi(id)),
            "replay" => Ok(Self::Replay(rest.into())),
            other => Err(bad(format!("`{other}` is no provider"))),
        }
    }
}

/// What each provider needs. The command line fills it from the environment; a library's user by hand.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ProviderConfig {
    /// For `anthropic:`.
    pub anthropic: Option<AnthropicConfig>,
    /// For `bedrock:`; `None` takes the usual chain of AWS.
    pub bedrock: Option<BedrockConfig>,
    /// For `openai:`.
    pub openai: Option<OpenAiConfig>,
    /// Prices for all of them.
    pub prices: Prices,
}

/// The client for a spec, without retries.
///
/// # Errors
/// [`ModelErrorKind::Config`]: the provider is not compiled in (the feature is named), lacks its configuration (what
/// to set is named), or its configuration is wrong.
pub async fn connect(spec: &ModelSpec, config: ProviderConfig) -> Result<Arc<dyn ModelClient>, ModelError> {
    match spec {
        ModelSpec::Anthropic(_) => anthropic(config),
        ModelSpec::Bedrock(_) => bedrock(config).await,
        ModelSpec::OpenAi(_) => openai(config),
        ModelSpec::Replay(path) => Ok(Arc::new(Replay::open(path)?)),
    }
}

fn config_error(what: String) -> ModelError {
    ModelError::new(ModelErrorKind::Config, "connect", what)
}

#[allow(dead_code, reason = "with every feature on, nothing lacks")]
fn lacks(feature: &str) -> ModelError {
    config_error(format!("this build has no `{feature}` models; build it with the feature `{feature}`"))
}

#[cfg(feature = "anthropic")]
fn anthropic(config: ProviderConfig) -> Result<Arc<dyn ModelClient>, ModelError> {
    let own = config.anthropic.unwrap_or_default();
    Ok(Arc::new(crate::Anthropic::new(own)?.with_prices(config.prices)))
}

#[cfg(not(feature = "anthropic"))]
fn anthropic(_: ProviderConfig) -> Result<Arc<dyn ModelClient>, ModelError> {
    Err(lacks("anthropic"))
}

#[cfg(feature = "openai")]
fn openai(config: ProviderConfig) -> Result<Arc<dyn ModelClient>, ModelError> {
    let own = config.openai.unwrap_or_default();
    Ok(Arc::new(crate::OpenAi::new(own)?.with_prices(config.prices)))
}

#[cfg(not(feature = "openai"))]
fn openai(_: ProviderConfig) -> Result<Arc<dyn ModelClient>, ModelError> {
    Err(lacks("openai"))
}

#[cfg(feature = "bedrock")]
async fn bedrock(config: ProviderConfig) -> Result<Arc<dyn ModelClient>, ModelError> {
    let own = config.bedrock.unwrap_or_default();
    Ok(Arc::new(crate::Bedrock::connect(own).await?.with_prices(config.prices)))
}

#[cfg(not(feature = "bedrock"))]
async fn bedrock(_: ProviderConfig) -> Result<Arc<dyn ModelClient>, ModelError> {
    Err(lacks("bedrock"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_are_read_and_written() {
        for text in [
            "anthropic:claude-opus-4-8",
            "bedrock:arn:aws:bedrock:x:1:p/us.anthropic.y-v1:0",
            "openai:a/b:c",
            "replay:/x/y:z.jsonl",
        ] {
            assert_eq!(text.parse::<ModelSpec>().unwrap().to_string(), text);
        }
        for text in ["", "claude", "anthropic:", "gemini:x"] {
            let e = text.parse::<ModelSpec>().unwrap_err();
            assert_eq!(e.kind(), ModelErrorKind::Config);
            let words = e.to_string();
            for form in
                ["anthropic:ID", "bedrock:ID", "openai:ID", "replay:FILE", "ANTHROPIC_API_KEY", "OPENAI_BASE_URL"]
            {
                assert!(words.contains(form), "{words}");
            }
        }
    }
}
