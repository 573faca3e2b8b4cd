//! Forges and package registries.

use super::{Checksum, Row, Severity, Tail};

pub(super) const ROWS: &[Row] = &[
    // GitHub: personal, OAuth, user-to-server, refresh.
    Row::token("github-token", &["ghp_", "gho_", "ghu_", "ghr_"], "gh[pour]_[A-Za-z0-9]{36}", Tail::Alphanumeric)
        .severity(Severity::Critical)
        .check(Checksum::Crc32Base62)
        .anywhere(),
    // Server-to-server: of old like the others, of late longer, with dots.
    Row::token("github-app-token", &["ghs_"], "ghs_[A-Za-z0-9]{36}", Tail::Dotted)
        .severity(Severity::Critical)
        .check(Checksum::Crc32Base62)
        .anywhere(),
    Row::token("github-fine-grained-token", &["github_pat_"], "github_pat_[A-Za-z0-9_]{22}", Tail::Word)
        .severity(Severity::Critical)
        .anywhere(),
    Row::new(
        "github-url-token",
        &["x-access-token:"],
        r#"x-access-token:(?P<secret>[!-~&&[^\[@/"'$<>{]][!-~&&[^@/"']]{3,250})@"#,
    )
    .severity(Severity::Critical)
    .anywhere(),
    Row::token(
        "gitlab-token",
        &[
            "glpat-", "gldt-", "glrt-", "glrtr-", "glcbt-", "glptt-", "glft-", "glimt-", "glagent-", "glwt-",
            "glsoat-", "gloas-", "glffct-",
        ],
        "gl(?:pat|dt|rt|rtr|cbt|ptt|ft|imt|agent|wt|soat|oas|ffct)-[A-Za-z0-9_=-]{20}",
        Tail::Dotted,
    )
    .severity(Severity::Critical)
    .check(Checksum::Crc32Base36),
    Row::token("gitlab-runner-registration", &["GR1348941"], "GR1348941[A-Za-z0-9_-]{20}", Tail::Word),
    Row::token("atlassian-token", &["ATATT3", "ATCTT3"], "AT[AC]TT3[A-Za-z0-9_=-]{60}", Tail::Base64),
    Row::token("bitbucket-token", &["ATBB"], r"ATBB[A-Za-z0-9]{32}(?-u:\b)", Tail::None),
    Row::token("npm-token", &["npm_"], r"npm_[A-Za-z0-9]{36}(?-u:\b)", Tail::None)
        .severity(Severity::Critical)
        .check(Checksum::Crc32Base62),
    Row::new(
        "npmrc-auth",
        &["_authtoken", "_auth=", "_auth =", "_password="],
        r#"(?i-u)_(?:authtoken|auth|password)[ \t]{0,2}=[ \t]{0,2}"?(?P<secret>[a-z0-9+/=_-]{8})"#,
    )
    .tail(Tail::Token)
    .anywhere(),
    Row::token("pypi-token", &["pypi-"], "pypi-[A-Za-z0-9_-]{50}", Tail::Word)
        .severity(Severity::Critical)
        .check(Checksum::Mixed),
    Row::token("cargo-token", &["cio"], r"cio[A-Za-z0-9]{32}(?-u:\b)", Tail::None).check(Checksum::Mixed).plain(),
    Row::token("rubygems-key", &["rubygems_"], "rubygems_[a-f0-9]{48}", Tail::Alphanumeric),
    Row::token("nuget-key", &["oy2"], r"oy2[a-z0-9]{43}(?-u:\b)", Tail::None).plain(),
    Row::token("docker-token", &["dckr_pat_", "dckr_oat_"], "dckr_[po]at_[A-Za-z0-9_-]{20}", Tail::Word)
        .severity(Severity::Critical),
    Row::new("docker-auth", &["\"auth\""], r#""auth"\s{0,8}:\s{0,8}"(?P<secret>[A-Za-z0-9+/]{8})"#)
        .tail(Tail::Base64)
        .check(Checksum::BasicAuth),
    Row::token("artifactory-key", &["AKCp"], "AKCp[A-Za-z0-9]{10}", Tail::Alphanumeric).entropy(3.3),
    Row::token("artifactory-reference", &["cmVmdGtuOj"], "cmVmdGtuOj[A-Za-z0-9]{40}", Tail::Base64).plain(),
];
