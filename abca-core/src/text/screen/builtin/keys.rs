//! Private keys, web tokens, and what stands in headers.

use super::{Checksum, Row, Severity, Tail};

pub(super) const ROWS: &[Row] = &[
    Row::new(
        "private-key",
        &["-----BEGIN "],
        r"-----BEGIN (?:[A-Z0-9]{1,16} ){0,4}PRIVATE KEY(?: BLOCK)?-----",
    )
    .severity(Severity::Critical)
    .tail(Tail::Pem)
    .anywhere()
    .in_base64(),
    Row::new("putty-key", &["Private-Lines: "], r"Private-Lines: [0-9]{1,4}\r?\n")
        .severity(Severity::Critical)
        .tail(Tail::Pem),
    Row::token("age-key", &["AGE-SECRET-KEY-1"], "AGE-SECRET-KEY-1[QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L]{58}", Tail::None)
        .severity(Severity::Critical),
    Row::new("jwt", &["eyJ"], r"eyJ[A-Za-z0-9_-]{8}").tail(Tail::Dotted).check(Checksum::Jwt),
    Row::new(
        "basic-auth",
        &["basic "],
        r"(?i-u)basic {1,4}(?-i:(?P<secret>[A-Za-z0-9+/]{8}))",
    )
    .tail(Tail::Base64)
    .check(Checksum::BasicAuth),
    Row::new(
        "bearer-token",
        &["bearer"],
        r"(?i-u)bearer(?:[ \t]{1,4}|%20|\+)(?P<secret>[a-z0-9._~+/-]{20})",
    )
    .tail(Tail::Token)
    .check(Checksum::Alphanumeric)
    .entropy(3.0),
    Row::new(
        "authorization-header",
        &["authorization"],
        r#"(?i-u)authorization\\?["']?[ \t]{0,4}[:=][ \t]{0,4}\\?["']?(?:basic|digest|token|bearer|apikey|negotiate|key|ghp)[ \t]{1,4}(?P<secret>[a-z0-9+/._~-]{8})"#,
    )
    .tail(Tail::Token),
    Row::new(
        "token-header",
        &[
            "x-api-key",
            "x-auth-token",
            "private-token",
            "job-token",
            "deploy-token",
            "x-gitlab-token",
            "x-vault-token",
            "x-goog-api-key",
            "x-functions-key",
            "subscription-key",
            "x-amz-security-token",
            "x-shopify-access-token",
        ],
        r#"(?i-u)[a-z-]{8,24}\\?["']?[ \t]{0,4}[:=][ \t]{0,4}\\?["']?(?P<secret>[a-z0-9._~+/-]{16})"#,
    )
    .tail(Tail::Token)
    .check(Checksum::Alphanumeric)
    .entropy(3.0),
    Row::new(
        "netrc-password",
        &["machine "],
        r"machine[ \t]{1,4}[!-~]{1,128}\s{1,8}login[ \t]{1,4}[!-~]{1,128}\s{1,8}password[ \t]{1,4}(?P<secret>[!-Z\\-~]{4})",
    )
    .tail(Tail::Value),
];
