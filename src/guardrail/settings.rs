//! Which guardrail: off, the local one, or one of Bedrock after it.

use std::str::FromStr;
use std::sync::Arc;

use abca_core::guardrail::{Guardrail, GuardrailError, InTurn, LocalGuardrail, LocalGuardrailConfig};
use abca_core::time::IdSource;
use abca_llm::BedrockGuardrailConfig;
use secrecy::SecretString;

use crate::error::{Error, ErrorKind};

/// Which guardrails judge text before it comes in. Default: the local one.
///
/// Read from `off`, `local` or `bedrock:ID:VERSION`, where the id may be an ARN. One of Bedrock judges what the local one
/// left, so that a secret is neither kept nor sent there.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct GuardrailSettings {
    /// The guardrail that needs nothing; `None` for none.
    pub local: Option<LocalGuardrailConfig>,
    /// A guardrail of Bedrock (feature `bedrock`).
    pub bedrock: Option<BedrockGuardrailConfig>,
    /// Further values that the local guardrail knows for secrets. The keys of the builder's models are among them anyway.
    pub known: Vec<SecretString>,
}

impl Default for GuardrailSettings {
    fn default() -> Self {
        Self { local: Some(LocalGuardrailConfig::default()), bedrock: None, known: Vec::new() }
    }
}

impl GuardrailSettings {
    /// None at all.
    pub const fn off() -> Self {
        Self { local: None, bedrock: None, known: Vec::new() }
    }

    /// The local one with other settings.
    #[must_use]
    pub fn local(mut self, config: LocalGuardrailConfig) -> Self {
        self.local = Some(config);
        self
    }

    /// One of Bedrock besides.
    #[must_use]
    pub fn bedrock(mut self, config: BedrockGuardrailConfig) -> Self {
        self.bedrock = Some(config);
        self
    }

    /// What they come to; `None` when there is none.
    pub(crate) async fn connect(
        self,
        known: impl IntoIterator<Item = SecretString>,
        ids: Arc<dyn IdSource>,
    ) -> Result<Option<Arc<dyn Guardrail>>, Error> {
        let local = match self.local {
            Some(config) => {
                let local = LocalGuardrail::new(config).map_err(unusable)?;
                Some(Arc::new(local.with_known(known.into_iter().chain(self.known))) as Arc<dyn Guardrail>)
            }
            None => None,
        };
        let bedrock = match self.bedrock {
            Some(config) => Some(bedrock(config, ids).await?),
            None => None,
        };
        Ok(match (local, bedrock) {
            (Some(local), Some(bedrock)) => Some(Arc::new(InTurn::new("local+bedrock", vec![local, bedrock]))),
            (one, other) => one.or(other),
        })
    }
}

fn unusable(error: GuardrailError) -> Error {
    Error::new(ErrorKind::Config, format!("the guardrail cannot be used: {}", error.message())).with_source(error)
}

#[cfg(feature = "bedrock")]
async fn bedrock(config: BedrockGuardrailConfig, ids: Arc<dyn IdSource>) -> Result<Arc<dyn Guardrail>, Error> {
    Ok(Arc::new(abca_llm::BedrockGuardrail::connect(config, ids).await.map_err(unusable)?))
}

#[cfg(not(feature = "bedrock"))]
async fn bedrock(_: BedrockGuardrailConfig, _: Arc<dyn IdSource>) -> Result<Arc<dyn Guardrail>, Error> {
    let text = "this build has no guardrails of Bedrock: build it with the feature `bedrock`, or use another guardrail";
    Err(Error::new(ErrorKind::Config, text))
}

impl FromStr for GuardrailSettings {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || {
            let shown = abca_core::text::preview(text, 100);
            let text = format!(
                "`{shown}` is no guardrail: write `off`, `local` or `bedrock:ID:VERSION`, e.g. `bedrock:gr1abc2def:3`"
            );
            Error::new(ErrorKind::Invalid, text)
        };
        match text.trim() {
            "off" => Ok(Self::off()),
            "local" => Ok(Self::default()),
            other => {
                let (id, version) =
                    other.strip_prefix("bedrock:").and_then(|rest| rest.rsplit_once(':')).ok_or_else(bad)?;
                Ok(Self::default().bedrock(BedrockGuardrailConfig::new(id, version)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read() {
        let read = |text: &str| {
            let settings: GuardrailSettings = text.parse().unwrap();
            (settings.local.is_some(), settings.bedrock.map(|b| format!("{} {}", b.id, b.version)))
        };
        assert_eq!(read("off"), (false, None));
        assert_eq!(read("local"), (true, None));
        assert_eq!(read("bedrock:gr1:DRAFT"), (true, Some("gr1 DRAFT".to_owned())));
        let arn = "arn:aws:bedrock:eu-west-1:123456789012:guardrail/gr1";
        assert_eq!(read(&format!("bedrock:{arn}:7")), (true, Some(format!("{arn} 7"))));
        for text in ["", "on", "bedrock", "bedrock:gr1", "azure:x:1"] {
            let error = text.parse::<GuardrailSettings>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains("bedrock:ID:VERSION"), "{error}");
        }
    }
}
