//! Clouds: AWS, Google, Azure, and the rest.

use super::{Checksum, Row, Severity, Tail};

pub(super) const ROWS: &[Row] = &[
    // As in the file that the console gives: the key's name, then the key.
    Row::new(
        "aws-key-pair",
        &["AKIA"],
        r#"AKIA[A-Z0-9]{16}[\s,:|"']{1,6}(?P<secret>[A-Za-z0-9/+]{40})(?:[^A-Za-z0-9/+=]|\z)"#,
    )
    .severity(Severity::Critical)
    .check(Checksum::Mixed),
    Row::token(
        "aws-access-key",
        &["AKIA", "ASIA", "ABIA", "ACCA"],
        r"A(?:KI|SI|BI|CC)A[A-Z0-9]{16}(?-u:\b)",
        Tail::None,
    )
    .entropy(0.5),
    Row::new(
        "aws-secret-key",
        &["secret_access_key", "secretaccesskey", "aws_secret", "secret access key"],
        r#"(?i-u)(?:secret[_ ]?access[_ ]?key|aws_secret(?:_key)?)[\s=:"'>,\\(]{1,8}(?P<secret>[a-z0-9/+]{40})"#,
    )
    .severity(Severity::Critical)
    .tail(Tail::Base64)
    .entropy(3.0)
    .anywhere(),
    Row::new("aws-quoted-secret", &["aws"], r#"(?i-u)aws[ -~]{0,40}?["'](?P<secret>[a-z0-9/+]{40})["']"#)
        .entropy(3.5)
        .check(Checksum::Mixed),
    Row::new(
        "aws-session-token",
        &["session_token", "sessiontoken", "security_token"],
        r#"(?i-u)(?:session|security)_?token[\s=:"'>,\\(]{1,8}(?P<secret>[a-z0-9/+=]{40})"#,
    )
    .tail(Tail::Token)
    .entropy(3.5)
    .anywhere(),
    Row::token(
        "aws-session-token-value",
        &["IQoJb3JpZ2lu", "FwoGZXIvYXdz", "FQoGZXIvYXdz"],
        "(?:IQoJb3JpZ2lu|F[wQ]oGZXIvYXdz)[A-Za-z0-9+/=%]{40}",
        Tail::Token,
    )
    .plain(),
    Row::token(
        "aws-bedrock-key",
        &["ABSK", "bedrock-api-key-"],
        "(?:ABSK|bedrock-api-key-)[A-Za-z0-9+/]{60}",
        Tail::Base64,
    ),
    Row::token(
        "aws-mws-token",
        &["amzn.mws."],
        "amzn[.]mws[.][0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
        Tail::None,
    ),
    Row::token("google-api-key", &["AIza"], "AIza[A-Za-z0-9_-]{35}", Tail::None),
    Row::token("google-client-secret", &["GOCSPX-"], "GOCSPX-[A-Za-z0-9_-]{20}", Tail::Word),
    Row::token("google-access-token", &["ya29."], "ya29[.][A-Za-z0-9_-]{20}", Tail::Dotted),
    Row::token("google-refresh-token", &["1//0"], "1//0[A-Za-z0-9_-]{30}", Tail::Word).check(Checksum::Mixed).plain(),
    Row::new(
        "azure-access-key",
        &["accountkey=", "accesskey="],
        "(?i-u)(?:account|access)key=(?P<secret>[a-z0-9+/]{40})",
    )
    .severity(Severity::Critical)
    .tail(Tail::Base64)
    .entropy(3.0)
    .anywhere(),
    Row::new("azure-shared-signature", &["sig="], "sig=(?P<secret>[A-Za-z0-9%+/]{40})").tail(Tail::Token).entropy(3.5),
    Row::new("azure-client-secret", &["Q~"], r"[A-Za-z0-9_~.]{3}[0-9]Q~[A-Za-z0-9_~.-]{31,34}").reach(4).entropy(3.5),
    Row::new("azure-key", &["JQQJ99"], "[A-Za-z0-9]{52}JQQJ99[A-Za-z0-9]{20}")
        .reach(52)
        .tail(Tail::Base64)
        .entropy(3.5),
    Row::token("alibaba-key", &["LTAI"], r"LTAI[A-Za-z0-9]{20}(?-u:\b)", Tail::None),
    Row::token("tencent-key", &["AKID"], r"AKID[A-Za-z0-9]{32}(?-u:\b)", Tail::None).check(Checksum::Mixed),
    Row::token("yandex-key", &["AQVN"], "AQVN[A-Za-z0-9_-]{35}", Tail::Word),
    Row::token("digitalocean-token", &["dop_v1_", "doo_v1_", "dor_v1_"], "do[opr]_v1_[a-f0-9]{64}", Tail::Alphanumeric),
    Row::token("databricks-token", &["dapi"], r"dapi[a-f0-9]{32}(?:-[0-9])?(?-u:\b)", Tail::None),
    Row::token("heroku-key", &["HRKU-AA"], "HRKU-AA[A-Za-z0-9_-]{50}", Tail::Word),
    Row::token("fly-token", &["fm1_", "fm2_", "fo1_"], "f[mo][12]_[A-Za-z0-9+/_-]{40}", Tail::Base64),
    Row::token("cloudflare-origin-key", &["v1.0-"], "v1[.]0-[a-f0-9]{24}-[a-f0-9]{100}", Tail::Alphanumeric),
    Row::token("supabase-key", &["sbp_", "sb_secret_"], "sb(?:p_[a-f0-9]{40}|_secret_[A-Za-z0-9_-]{20})", Tail::Word),
    Row::token(
        "planetscale-token",
        &["pscale_tkn_", "pscale_pw_", "pscale_oauth_"],
        "pscale_(?:tkn|pw|oauth)_[A-Za-z0-9_.=-]{32}",
        Tail::Dotted,
    ),
    Row::token("terraform-token", &[".atlasv1."], "[A-Za-z0-9]{14}[.]atlasv1[.][A-Za-z0-9_=-]{60}", Tail::Word)
        .reach(14)
        .plain(),
    Row::token("vault-token", &["hvs.", "hvb.", "hvr."], "hv[sbr][.][A-Za-z0-9_-]{20}", Tail::Word)
        .severity(Severity::Critical),
    Row::new(
        "vault-token-assigned",
        &["vault_token", "vault-token"],
        r#"(?i-u)vault[_-]token["']?[ \t]{0,4}[:=][ \t]{0,4}["']?(?P<secret>[a-z0-9._-]{16})"#,
    )
    .tail(Tail::Dotted)
    .check(Checksum::Alphanumeric)
    .anywhere(),
    Row::token("pulumi-token", &["pul-"], r"pul-[a-f0-9]{40}(?-u:\b)", Tail::None),
    Row::token(
        "doppler-token",
        &["dp.pt.", "dp.st.", "dp.ct.", "dp.sa."],
        "dp[.](?:pt|st|ct|sa)[.][A-Za-z0-9_.-]{40}",
        Tail::Dotted,
    ),
    Row::token("onepassword-token", &["ops_eyJ"], "ops_eyJ[A-Za-z0-9+/_-]{60}", Tail::Base64),
    Row::token("tailscale-key", &["tskey-"], "tskey-[a-z]{3,12}-[A-Za-z0-9]{8,20}-[A-Za-z0-9]{20}", Tail::Alphanumeric),
];
