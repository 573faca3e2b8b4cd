//! Models, messages, payments, and other services.

use super::{Checksum, Row, Severity, Tail};

pub(super) const ROWS: &[Row] = &[
    Row::token("anthropic-key", &["sk-ant-"], "sk-ant-[A-Za-z0-9_-]{20}", Tail::Word).severity(Severity::Critical).anywhere(),
    Row::token("openai-key", &["sk-"], "sk-(?:proj-|svcacct-|admin-|None-)?[A-Za-z0-9_-]{32}", Tail::Word)
        .severity(Severity::Critical)
        .check(Checksum::Mixed)
        .plain(),
    Row::token("openai-marked-key", &["T3BlbkFJ"], "[A-Za-z0-9_-]{20,64}T3BlbkFJ[A-Za-z0-9_-]{20}", Tail::Word)
        .severity(Severity::Critical)
        .reach(64)
        .plain(),
    Row::token("model-key", &["sk-"], r"sk-(?:or-v1-)?[0-9a-f]{32}", Tail::Alphanumeric).plain(),
    Row::token("huggingface-token", &["hf_", "api_org_"], "(?:hf|api_org)_[A-Za-z0-9]{30}", Tail::Alphanumeric).plain(),
    Row::token("groq-key", &["gsk_"], "gsk_[A-Za-z0-9]{32}", Tail::Alphanumeric),
    Row::token("replicate-key", &["r8_"], "r8_[A-Za-z0-9]{37}", Tail::Alphanumeric).plain(),
    Row::token("perplexity-key", &["pplx-"], "pplx-[A-Za-z0-9]{40}", Tail::Alphanumeric),
    Row::token("xai-key", &["xai-"], "xai-[A-Za-z0-9]{60}", Tail::Alphanumeric),
    Row::token("nvidia-key", &["nvapi-"], "nvapi-[A-Za-z0-9_-]{40}", Tail::Word),
    Row::token("langsmith-key", &["lsv2_pt_", "lsv2_sk_"], "lsv2_(?:pt|sk)_[a-f0-9]{32}", Tail::Word),
    Row::token(
        "slack-token",
        &["xoxa", "xoxb", "xoxc", "xoxd", "xoxe", "xoxo", "xoxp", "xoxr", "xoxs"],
        "xox[abcdeoprs][-.](?:[0-9]-)?[A-Za-z0-9%-]{10}",
        Tail::Token,
    )
    .severity(Severity::Critical)
    .entropy(2.0)
    .anywhere(),
    Row::token("slack-app-token", &["xapp-"], "xapp-[0-9]-[A-Z0-9]{8,16}-[0-9]{8,16}-[a-f0-9]{20}", Tail::Alphanumeric)
        .severity(Severity::Critical),
    Row::new(
        "slack-webhook",
        &["hooks.slack.com/"],
        "hooks[.]slack[.]com/(?:services|workflows|triggers)/(?P<secret>[A-Za-z0-9/_+-]{20})",
    )
    .tail(Tail::Base64)
    .anywhere(),
    Row::new(
        "discord-webhook",
        &["/api/webhooks/"],
        "/api/webhooks/[0-9]{16,20}/(?P<secret>[A-Za-z0-9_-]{40})",
    )
    .tail(Tail::Word)
    .anywhere(),
    Row::new(
        "discord-token",
        &["discord"],
        r#"(?i-u)discord[ -~]{0,24}?["'=: ](?-i:(?P<secret>[MNO][A-Za-z0-9_-]{23,25}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27}))"#,
    )
    .tail(Tail::Word)
    .anywhere(),
    Row::new("telegram-token", &[":AA"], "[0-9]{8,10}:AA[A-Za-z0-9_-]{33}").reach(10).entropy(3.0),
    Row::token("twilio-key", &["SK"], r"SK[0-9a-f]{32}(?-u:\b)", Tail::None).plain(),
    Row::token("twilio-account", &["AC"], r"AC[0-9a-f]{32}(?-u:\b)", Tail::None).severity(Severity::Low).plain(),
    Row::token("sendgrid-key", &["SG."], r"SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}", Tail::None).plain(),
    Row::token("mailgun-key", &["key-"], r"key-[0-9a-f]{32}(?-u:\b)", Tail::None),
    Row::new("mailchimp-key", &["-us"], r"[0-9a-f]{32}-us[0-9]{1,2}(?-u:\b)").reach(32).entropy(2.5),
    Row::token(
        "stripe-key",
        &["sk_live_", "sk_test_", "sk_prod_", "rk_live_", "rk_test_", "rk_prod_"],
        "[rs]k_(?:live|test|prod)_[A-Za-z0-9]{16}",
        Tail::Alphanumeric,
    )
    .severity(Severity::Critical)
    .anywhere(),
    Row::token("stripe-webhook-secret", &["whsec_"], "whsec_[A-Za-z0-9+/]{32}", Tail::Base64),
    Row::token("square-token", &["sq0atp-", "sq0csp-", "sq0idp-"], "sq0(?:atp|csp|idp)-[A-Za-z0-9_-]{22}", Tail::Word),
    Row::token("square-access-token", &["EAAA"], "EAAA[A-Za-z0-9_-]{60}", Tail::Word).check(Checksum::Mixed).plain(),
    Row::token("facebook-token", &["EAACEdEose0cBA"], "EAACEdEose0cBA[A-Za-z0-9]{10}", Tail::Alphanumeric),
    Row::token(
        "shopify-token",
        &["shpat_", "shpca_", "shppa_", "shpss_"],
        "shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}",
        Tail::Alphanumeric,
    ),
    Row::token("linear-key", &["lin_api_", "lin_oauth_"], "lin_(?:api|oauth)_[A-Za-z0-9]{40}", Tail::Alphanumeric),
    Row::token("notion-token", &["ntn_", "secret_"], "(?:ntn|secret)_[A-Za-z0-9]{43}", Tail::Alphanumeric)
        .check(Checksum::Mixed),
    Row::token("figma-token", &["figd_"], "figd_[A-Za-z0-9_-]{40}", Tail::Word),
    Row::token("postman-key", &["PMAK-"], "PMAK-[a-f0-9]{24}-[a-f0-9]{34}", Tail::None),
    Row::token("grafana-token", &["glsa_", "glc_"], "gl(?:sa_[A-Za-z0-9]{32}_[a-f0-9]{8}|c_[A-Za-z0-9+/]{40})", Tail::Base64),
    Row::token("sentry-token", &["sntrys_", "sntryu_"], "sntry[su]_[A-Za-z0-9+/=_-]{40}", Tail::Base64),
    Row::token("newrelic-key", &["NRAK-"], "NRAK-[A-Z0-9]{27}", Tail::None),
    Row::token("dynatrace-token", &["dt0c01.", "dt0s16."], r"dt0[cs][0-9]{2}\.[A-Z0-9]{24}\.[A-Z0-9]{60}", Tail::Alphanumeric),
    Row::token("circleci-token", &["CCIPAT_"], "CCIPAT_[A-Za-z0-9]{20}_[a-f0-9]{40}", Tail::None),
    Row::token("buildkite-token", &["bkua_"], "bkua_[a-z0-9]{40}", Tail::None),
];
