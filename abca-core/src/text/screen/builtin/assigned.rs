//! Values in URLs, and values that are given to something with a telling name.

use super::{Checksum, Row, Severity, Tail};

pub(super) const ROWS: &[Row] = &[
    Row::new(
        "connection-string",
        &["://"],
        r#"://[!-~&&[^:/@"'<>?#]]{0,64}:(?P<secret>[!-~&&[^\[@"'/<>{}$(]][!-~&&[^@"'/<>{}]]{0,255})@[A-Za-z0-9\[]"#,
    )
    .severity(Severity::High)
    .anywhere(),
    Row::new("url-token", &["://"], r"://(?P<secret>[A-Za-z0-9_-]{30,255})@[A-Za-z0-9]").check(Checksum::Alphanumeric).entropy(3.5).anywhere(),
    Row::new(
        "url-secret",
        &["token=", "secret=", "password=", "passwd=", "api_key=", "apikey=", "signature=", "access_key=", "auth="],
        r"(?i-u)[?&;](?:[a-z]{1,10}[_-])?(?:token|(?:client_?)?secret|passw(?:or)?d|api_?key|(?:x-amz-|x-goog-)?signature|access_key|auth)=(?P<secret>[a-z0-9][a-z0-9._~+/=%-]{7})",
    )
    .reach(24)
    .tail(Tail::Token)
    .check(Checksum::Alphanumeric),
    Row::new(
        "connection-password",
        &["password=", "pwd="],
        r#"(?i-u:password|pwd)=(?P<secret>[!-~&&[^;&"'<>{}$\[(,]][!-~&&[^;&"'<>{}(]]{3,128});"#,
    )
    .severity(Severity::Medium),
    Row::new(
        "assigned-secret",
        NAMES,
        r#"(?i-u)(?:secret|token|passw(?:or)?d|(?:api|access|auth|private|client|service|account|encryption|signing|master|db|database)[ _.-]?key|credential|passphrase)[a-z0-9_.-]{0,32}\\?["'\]]{0,2}[ \t]{0,8}(?:=>|:=|={1,3}|:|,|\()[ \t]{0,8}(?:[a-z]{1,6}\()?(?:[bru]{1,2})?\\?["'`]{0,3}(?-i:(?P<secret>[A-Za-z0-9/+_.~-]{20}))"#,
    )
    .tail(Tail::Base64)
    .check(Checksum::Mixed)
    .entropy(3.7)
    .anywhere(),
    Row::new(
        "assigned-hex",
        &[
            "secret", "passw", "api_key", "apikey", "api-key", "api key", "access_key", "accesskey", "auth_key", "private_key",
            "client_key", "service_key", "account_key", "encryption_key", "signing_key", "master_key", "auth_token",
            "access_token", "api_token", "bot_token", "authtoken",
        ],
        r#"(?i-u)(?:secret|passw(?:or)?d|(?:api|access|auth|private|client|service|account|encryption|signing|master)[ _.-]?(?:key|token)|bot_token)[a-z0-9_.-]{0,32}\\?["'\]]{0,2}[ \t]{0,8}(?:=>|:=|={1,3}|:)[ \t]{0,8}\\?["'`]{0,3}(?P<secret>[0-9a-f]{32})"#,
    )
    .tail(Tail::Alphanumeric)
    .check(Checksum::Alphanumeric)
    .entropy(2.8)
    .anywhere(),
    Row::new(
        "assigned-password",
        &["passw", "pwd", "passphrase"],
        r#"(?i-u:passw(?:or)?d|pwd|passphrase)[A-Za-z0-9_]{0,16}\\?["'\]]{0,2}[ \t]{0,8}(?:=>|:=|={1,3}|:)[ \t]{0,8}\\?["'](?P<secret>[!-~&&[^"'<>{}$\[\\]]{8,64})\\?["']"#,
    )
    .severity(Severity::Medium)
    .check(Checksum::Alphanumeric)
    .entropy(2.5)
    .anywhere(),
    Row::new(
        "environment-password",
        &["password=", "passwd=", "passphrase=", "_pass="],
        r#"(?i-u:password|passwd|passphrase|_pass)=(?P<secret>[!-~&&[^"'<>{}$\[\]()\\;,.]]{8})"#,
    )
    .severity(Severity::Medium)
    .tail(Tail::Value)
    .check(Checksum::Alphanumeric)
    .entropy(2.5)
    .anywhere(),
];

const NAMES: &[&str] = &[
    "secret",
    "token",
    "passw",
    "api_key",
    "apikey",
    "api-key",
    "api key",
    "access_key",
    "accesskey",
    "access-key",
    "auth_key",
    "private_key",
    "client_key",
    "service_key",
    "account_key",
    "encryption_key",
    "signing_key",
    "master_key",
    "db_key",
    "database_key",
    "credential",
    "passphrase",
];
