//! Credentials that the proxy adds for named hosts: which header, for which requests. The values are not here.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Host, authority};

/// Most credentials of a session.
pub const MAX_CREDENTIALS: usize = 100;
/// Shortest and longest value, in bytes. What is shorter could not be told from other text and so not be kept from the model.
pub const CREDENTIAL_BYTES: std::ops::RangeInclusive<usize> = 8..=8_192;

/// A credential for the requests to one host, and to no other: `https://HOST[:PORT][/PREFIX]=HOW`, where HOW is `bearer`,
/// `basic` or the name of a header.
///
/// * `https`: the proxy ends the TLS of tunnels to this host and port with a certificate of its own, and speaks TLS to the
///   host. `http`: the header is added to plain requests, for anybody on the way to read.
/// * With a path, it is added to requests below it only: `/simple` means `/simple` and `/simple/x`, not `/simplex`. A path
///   that could lead elsewhere (`..`, `%2e`, `%2f`, `\`, `//`) gets no credential.
/// * The host counts as being on the allow-list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CredentialRule {
    tls: bool,
    host: Host,
    port: u16,
    /// Begins with `/` and ends with none; empty for every path.
    path: String,
    form: CredentialForm,
}

/// How a value becomes a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialForm {
    /// `Authorization: Bearer VALUE`.
    Bearer,
    /// `Authorization: Basic …` of a value `USER:PASSWORD`.
    Basic,
    /// `NAME: VALUE`, the name in lower case.
    Header(String),
}

/// Why a text is no credential's rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{rule}` does not say where a credential goes: {problem}")]
pub struct InvalidCredential {
    /// The text.
    pub rule: String,
    /// What is wrong and what to do.
    pub problem: String,
}

/// Why a value cannot be sent. Says nothing of the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidValue {
    /// See [`CREDENTIAL_BYTES`].
    #[error("the value has fewer than 8 bytes, or more than 8192: it could not be kept out of what the model sees")]
    Length,
    /// A header holds visible ASCII only.
    #[error("the value holds something else than visible ASCII, such as a line break or a blank")]
    Characters,
    /// `basic` needs a colon.
    #[error("the value for `basic` is not of the form `USER:PASSWORD`")]
    Basic,
}

/// Headers that frame a request or belong to a connection: no credential goes there.
const FORBIDDEN: [&str; 12] = [
    "host",
    "connection",
    "proxy-connection",
    "proxy-authorization",
    "proxy-authenticate",
    "keep-alive",
    "te",
    "trailer",
    "upgrade",
    "content-length",
    "transfer-encoding",
    "close",
];

impl CredentialRule {
    /// Whether requests inside TLS are meant, not plain ones.
    pub const fn is_tls(&self) -> bool {
        self.tls
    }

    /// The host.
    pub const fn host(&self) -> &Host {
        &self.host
    }

    /// The port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Whether it is for this place, whatever the path.
    pub fn is_for(&self, tls: bool, host: &Host, port: u16) -> bool {
        self.tls == tls && self.port == port && self.host == *host
    }

    /// Whether a request for this path and query gets it.
    pub fn covers(&self, target: &str) -> bool {
        if self.path.is_empty() {
            return true;
        }
        let path = target.split(['?', '#']).next().unwrap_or_default();
        let lower = path.to_ascii_lowercase();
        let odd = ["%2e", "%2f", "%5c", "//", "\\", "%25"].iter().any(|part| lower.contains(part))
            || path.split('/').any(|part| part == "." || part == "..");
        let below = path.strip_prefix(self.path.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        below && !odd
    }

    /// The name of the header, in lower case.
    pub fn header(&self) -> &str {
        match &self.form {
            CredentialForm::Bearer | CredentialForm::Basic => "authorization",
            CredentialForm::Header(name) => name,
        }
    }

    /// Where its paths begin, without the final `/`; empty for all.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// How the value becomes a header.
    pub const fn form(&self) -> &CredentialForm {
        &self.form
    }

    /// Checks a value, without the blanks around it.
    ///
    /// # Errors
    /// [`InvalidValue`], which does not repeat it.
    pub fn check_value(&self, value: &str) -> Result<(), InvalidValue> {
        if !CREDENTIAL_BYTES.contains(&value.len()) {
            return Err(InvalidValue::Length);
        }
        match self.form {
            CredentialForm::Basic if value.chars().any(char::is_control) => Err(InvalidValue::Characters),
            CredentialForm::Basic if !value.contains(':') => Err(InvalidValue::Basic),
            CredentialForm::Bearer | CredentialForm::Header(_) if !value.bytes().all(|b| b.is_ascii_graphic()) => {
                Err(InvalidValue::Characters)
            }
            CredentialForm::Basic | CredentialForm::Bearer | CredentialForm::Header(_) => Ok(()),
        }
    }
}

impl FromStr for CredentialRule {
    type Err = InvalidCredential;

    fn from_str(text: &str) -> Result<Self, InvalidCredential> {
        let invalid = |problem: String| InvalidCredential { rule: text.to_owned(), problem };
        let (place, how) = text.rsplit_once('=').ok_or_else(|| {
            invalid("write `https://HOST=HOW`, where HOW is `bearer`, `basic` or a header's name".into())
        })?;
        let (tls, rest) = match (place.strip_prefix("https://"), place.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => {
                return Err(invalid("the host begins with `https://`, or with `http://` for plain requests".into()));
            }
        };
        let (at, path) = rest.find('/').and_then(|at| rest.split_at_checked(at)).unwrap_or((rest, ""));
        if at.contains(['@', '*', '?', '#']) {
            return Err(invalid("name one host, without user name and without `*`".into()));
        }
        let (host, port) = authority(at, Some(if tls { 443 } else { 80 })).map_err(|e| invalid(e.to_string()))?;
        let path = path.trim_end_matches('/');
        let rule = |form| Self { tls, host: host.clone(), port, path: path.to_owned(), form };
        if path.contains(['?', '#', ' '])
            || path.chars().any(char::is_control)
            || !rule(CredentialForm::Bearer).covers(path)
        {
            return Err(invalid(
                "the path is to be plain, such as `/simple`: no `..`, `//`, `%2e`, query or blank".into(),
            ));
        }
        let token = |b: u8| b.is_ascii_alphanumeric() || b"-_.!#$%&'*+^`|~".contains(&b);
        let form = match how.to_ascii_lowercase() {
            how if how == "bearer" => CredentialForm::Bearer,
            how if how == "basic" => CredentialForm::Basic,
            how if how.is_empty() || how.len() > 100 || !how.bytes().all(token) => {
                return Err(invalid("after `=` stands `bearer`, `basic` or the name of a header".into()));
            }
            how if FORBIDDEN.contains(&how.as_str()) => {
                return Err(invalid(format!(
                    "the header `{how}` belongs to the connection, no credential can be in it"
                )));
            }
            how => CredentialForm::Header(how),
        };
        Ok(rule(form))
    }
}

impl fmt::Display for CredentialRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, default) = if self.tls { ("https", 443) } else { ("http", 80) };
        write!(f, "{scheme}://{}", self.host)?;
        if self.port != default {
            write!(f, ":{}", self.port)?;
        }
        let how = match &self.form {
            CredentialForm::Bearer => "bearer",
            CredentialForm::Basic => "basic",
            CredentialForm::Header(name) => name,
        };
        write!(f, "{}={how}", self.path)
    }
}

impl TryFrom<String> for CredentialRule {
    type Error = InvalidCredential;

    fn try_from(text: String) -> Result<Self, InvalidCredential> {
        text.parse()
    }
}

impl From<CredentialRule> for String {
    fn from(rule: CredentialRule) -> Self {
        rule.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_strictly_and_written_as_they_were() {
        for text in [
            "https://npm.example=bearer",
            "https://pypi.example:8443/simple=basic",
            "http://127.0.0.1:9/a/b=x-api-key",
            "https://[2606:4700::1]=bearer",
        ] {
            assert_eq!(text.parse::<CredentialRule>().unwrap().to_string(), text);
        }
        assert_eq!("https://A.B./x/=Bearer".parse::<CredentialRule>().unwrap().to_string(), "https://a.b/x=bearer");
        let refused = [
            "npm.example=bearer",
            "https://npm.example",
            "https://*.example.com=bearer",
            "https://u@a.b=bearer",
            "https://a.b/../x=bearer",
            "https://a.b/x?y=bearer",
            "https://a.b//x=bearer",
            "https://127.1=bearer",
            "https://a.b=",
            "https://a.b=x y",
            "https://a.b=Host",
            "https://a.b=transfer-encoding",
            "ftp://a.b=bearer",
        ];
        for text in refused {
            assert!(text.parse::<CredentialRule>().is_err(), "{text}");
        }
    }

    #[test]
    fn only_requests_to_the_very_place_get_a_credential() {
        let rule: CredentialRule = "https://a.b/simple=bearer".parse().unwrap();
        let host = Host::parse("a.b").unwrap();
        assert!(rule.is_for(true, &host, 443));
        assert!(!rule.is_for(false, &host, 443) && !rule.is_for(true, &host, 80));
        assert!(!rule.is_for(true, &Host::parse("c.a.b").unwrap(), 443));
        for yes in ["/simple", "/simple/", "/simple/x?y=../z", "/simple?x"] {
            assert!(rule.covers(yes), "{yes}");
        }
        for no in [
            "/",
            "/simplex",
            "/simple/../x",
            "/simple/%2e%2E/x",
            "/simple//x",
            "/x/simple",
            "/simple\\..\\x",
            "/SIMPLE",
        ] {
            assert!(!rule.covers(no), "{no}");
        }
        assert!("https://a.b=bearer".parse::<CredentialRule>().unwrap().covers("/a/../b"));
    }

    #[test]
    fn values_are_checked_and_not_repeated() {
        let rule = |how: &str| format!("https://a.b={how}").parse::<CredentialRule>().unwrap();
        assert_eq!(rule("bearer").check_value("secret-token"), Ok(()));
        assert_eq!(rule("bearer").check_value("short"), Err(InvalidValue::Length));
        assert_eq!(rule("x-key").check_value("secret token"), Err(InvalidValue::Characters));
        assert_eq!(rule("bearer").check_value("secret\r\nX: y"), Err(InvalidValue::Characters));
        assert_eq!(rule("basic").check_value("user:pass word"), Ok(()));
        assert_eq!(rule("basic").check_value("user-pass"), Err(InvalidValue::Basic));
        assert_eq!(rule("basic").check_value("user:pass\n1"), Err(InvalidValue::Characters));
    }
}
