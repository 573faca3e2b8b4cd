//! `--credential`: where the value of a credential of the egress proxy comes from.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use abca_core::egress::CredentialRule;
use secrecy::SecretString;

use super::common::{Failed, absolute};
use crate::builder::Builder;

/// Longest file with a value.
const FILE_BYTES: u64 = 64 << 10;

/// A rule, and where its value is: never in the command line, which everybody on the machine can read.
#[derive(Debug, Clone)]
pub(super) struct CredentialArg {
    rule: CredentialRule,
    source: Source,
}

#[derive(Debug, Clone)]
enum Source {
    Env(String),
    File(PathBuf),
}

impl FromStr for CredentialArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let after = text.find('=').unwrap_or(text.len());
        let split = |mark: &str| {
            let at = text.get(after..)?.find(mark)? + after;
            Some((text.get(..at)?, text.get(at + mark.len()..)?))
        };
        let (rule, source) = match (split(":env:"), split(":file:")) {
            (Some((rule, name)), None) if !name.is_empty() && !name.contains(['=', '\0']) => {
                (rule, Source::Env(name.to_owned()))
            }
            (None, Some((rule, path))) if !path.is_empty() => (rule, Source::File(PathBuf::from(path))),
            _ => return Err("the value comes from elsewhere: end with `:env:NAME` or `:file:PATH`".to_owned()),
        };
        Ok(Self { rule: rule.parse().map_err(|e: abca_core::egress::InvalidCredential| e.to_string())?, source })
    }
}

impl CredentialArg {
    /// As an argument of another process of this program.
    pub(super) fn to_argument(&self) -> Result<String, Failed> {
        let source = match &self.source {
            Source::Env(name) => Source::Env(name.clone()),
            Source::File(path) => Source::File(absolute(path)?),
        };
        Ok(Self { source, ..self.clone() }.to_string())
    }

    fn value(&self) -> Result<SecretString, Failed> {
        let failed = |why: String| Failed::new(2, format!("no value for the credential `{}`: {why}", self.rule));
        let text = match &self.source {
            Source::Env(name) => {
                std::env::var(name).map_err(|_| failed(format!("the variable `{name}` is not set, or is no text")))?
            }
            Source::File(path) => {
                let unread = |e: std::io::Error| failed(format!("`{}` cannot be read: {e}", path.display()));
                let size = std::fs::metadata(path).map_err(unread)?.len();
                if size > FILE_BYTES {
                    return Err(failed(format!("`{}` has {size} bytes, more than {FILE_BYTES}", path.display())));
                }
                std::fs::read_to_string(path).map_err(unread)?
            }
        };
        let value = text.trim();
        self.rule.check_value(value).map_err(|e| failed(e.to_string()))?;
        Ok(SecretString::from(value))
    }
}

impl fmt::Display for CredentialArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Env(name) => write!(f, "{}:env:{name}", self.rule),
            Source::File(path) => write!(f, "{}:file:{}", self.rule, path.display()),
        }
    }
}

/// Gives a builder the credentials of the command line.
pub(super) fn with_credentials(builder: Builder, credentials: &[CredentialArg]) -> Result<Builder, Failed> {
    credentials.iter().try_fold(builder, |builder, one| Ok(builder.egress_credential(one.rule.clone(), one.value()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_named_and_never_given() {
        for text in
            ["https://a.b=bearer:env:TOKEN", "https://a.b:8443/x=basic:file:/run/a=b:c", "http://a.b=x-key:env:K"]
        {
            assert_eq!(text.parse::<CredentialArg>().unwrap().to_string(), text);
        }
        for text in ["https://a.b=bearer", "https://a.b=bearer:sekret", "https://a.b=bearer:env:", "a.b=bearer:env:X"] {
            assert!(text.parse::<CredentialArg>().is_err(), "{text}");
        }
    }
}
