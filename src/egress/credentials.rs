//! The values of credentials that the proxy adds: in the brain's memory only.

use std::collections::BTreeMap;
use std::fmt;

use abca_core::egress::{CREDENTIAL_BYTES, CredentialForm, CredentialRule, Host};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};

/// Credentials with their values. `Debug` shows the rules alone.
#[derive(Default)]
pub struct Credentials(Vec<Credential>);

struct Credential {
    rule: CredentialRule,
    value: SecretString,
    /// What stands in the header.
    header: SecretString,
}

/// A credential that cannot be used. Says nothing of its value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the credential for `{rule}` cannot be used: {problem}")]
pub struct CredentialError {
    /// Which.
    pub rule: String,
    /// Why, and what to do.
    pub problem: String,
}

impl Credentials {
    /// Under which name a credential's value is among the secrets of a session's start.
    pub fn secret_name(rule: &CredentialRule) -> String {
        format!("egress {rule}")
    }

    /// Puts rules and values together.
    ///
    /// # Errors
    /// [`CredentialError`] for a value that is missing or that no header can hold.
    pub fn resolve(
        rules: &[CredentialRule],
        secrets: &BTreeMap<String, SecretString>,
    ) -> Result<Self, CredentialError> {
        let one = |rule: &CredentialRule| {
            let failed = |problem: String| CredentialError { rule: rule.to_string(), problem };
            let value = secrets
                .get(&Self::secret_name(rule))
                .ok_or_else(|| failed("the session was started without its value".to_owned()))?;
            let text = value.expose_secret();
            rule.check_value(text).map_err(|e| failed(e.to_string()))?;
            let header = match rule.form() {
                CredentialForm::Bearer => format!("Bearer {text}"),
                CredentialForm::Basic => format!("Basic {}", STANDARD.encode(text)),
                CredentialForm::Header(_) => text.to_owned(),
            };
            Ok(Credential { rule: rule.clone(), value: value.clone(), header: header.into() })
        };
        rules.iter().map(one).collect::<Result<_, _>>().map(Self)
    }

    /// What must not be seen by the model: the values, and a `basic` one's password by itself.
    pub fn known(&self) -> Vec<SecretString> {
        let parts = |one: &Credential| {
            let password = match one.rule.form() {
                CredentialForm::Basic => one.value.expose_secret().split_once(':').map(|(_, password)| password),
                CredentialForm::Bearer | CredentialForm::Header(_) => None,
            };
            let password = password.filter(|p| p.len() >= *CREDENTIAL_BYTES.start()).map(SecretString::from);
            std::iter::once(one.value.clone()).chain(password).collect::<Vec<_>>()
        };
        self.0.iter().flat_map(parts).collect()
    }

    /// Whether tunnels to this place are looked into.
    pub fn intercepts(&self, host: &Host, port: u16) -> bool {
        self.0.iter().any(|one| one.rule.is_for(true, host, port))
    }

    /// The hosts whose tunnels are looked into.
    pub fn intercepted(&self) -> Vec<Host> {
        self.0.iter().filter(|one| one.rule.is_tls()).map(|one| one.rule.host().clone()).collect()
    }

    /// The header for a request, if it gets one: that of the longest path.
    pub(super) fn header(&self, tls: bool, host: &Host, port: u16, target: &str) -> Option<(&str, &SecretString)> {
        let covering = self.0.iter().filter(|one| one.rule.is_for(tls, host, port) && one.rule.covers(target));
        covering.max_by_key(|one| one.rule.path().len()).map(|one| (one.rule.header(), &one.header))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|one| one.rule.to_string())).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(list: &[(&str, &str)]) -> Result<Credentials, CredentialError> {
        let rules: Vec<CredentialRule> = list.iter().map(|(rule, _)| rule.parse().unwrap()).collect();
        let values = rules.iter().zip(list).map(|(r, (_, v))| (Credentials::secret_name(r), SecretString::from(*v)));
        Credentials::resolve(&rules, &values.collect())
    }

    #[test]
    fn the_longest_path_decides_and_values_are_shown_to_nobody() {
        let list = [
            ("https://a.b=bearer", "token-of-a-b"),
            ("https://a.b/deep=x-key", "key-of-deep"),
            ("http://c.d:8080=basic", "user:password-1"),
        ];
        let all = credentials(&list).unwrap();
        let header = |tls, host: &str, port, target| {
            let found = all.header(tls, &Host::parse(host).unwrap(), port, target);
            found.map(|(name, value)| format!("{name}: {}", value.expose_secret()))
        };
        assert_eq!(header(true, "a.b", 443, "/x").as_deref(), Some("authorization: Bearer token-of-a-b"));
        assert_eq!(header(true, "a.b", 443, "/deep/x").as_deref(), Some("x-key: key-of-deep"));
        assert_eq!(header(false, "c.d", 8080, "/").as_deref(), Some("authorization: Basic dXNlcjpwYXNzd29yZC0x"));
        assert_eq!(header(false, "a.b", 443, "/x"), None);
        assert_eq!(header(true, "x.a.b", 443, "/x"), None);
        let shown = format!("{all:?}");
        assert!(shown.contains("https://a.b=bearer") && !shown.contains("token-of") && !shown.contains("password"));
        let known: Vec<String> = all.known().iter().map(|v| v.expose_secret().to_owned()).collect();
        assert_eq!(known, ["token-of-a-b", "key-of-deep", "user:password-1", "password-1"]);
    }

    #[test]
    fn a_value_that_no_header_holds_is_refused_and_not_repeated() {
        let error = credentials(&[("https://a.b=bearer", "two\r\nlines")]).unwrap_err().to_string();
        assert!(error.contains("https://a.b=bearer") && !error.contains("lines"), "{error}");
        let rules = ["https://a.b=bearer".parse().unwrap()];
        assert!(Credentials::resolve(&rules, &BTreeMap::new()).is_err());
    }
}
