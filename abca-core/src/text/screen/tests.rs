#![allow(clippy::arithmetic_side_effects, clippy::string_slice, reason = "a test may panic")]

use ::base64::Engine as _;
use ::base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use proptest::prelude::*;
use secrecy::SecretString;

use super::*;

/// Assembled here so that no scanner trips over this file.
fn join(parts: &[&str]) -> String {
    parts.concat()
}

fn rules(screen: &Screen, text: &str) -> Vec<String> {
    screen.scrub(text).findings.into_iter().map(|f| f.rule).collect()
}

const RANDOM: &str = "q7Wk2Zx9Lp4Vt8Rb3Nc6Ym1Hd5Gf0Js7Qa2Ue9Io4Kz8Xw3Bv6Tn1Mr5Lh0Pg7";

fn random(len: usize) -> String {
    RANDOM.chars().cycle().take(len).collect()
}

fn hex(len: usize) -> String {
    "3f9a1c07e5b24d86".chars().cycle().take(len).collect()
}

fn pem(kind: &str) -> String {
    join(&[
        "-----BEGIN ",
        kind,
        "PRIVATE ",
        "KEY-----\n",
        &random(64),
        "\n",
        &random(64),
        "\nab==\n-----END ",
        kind,
        "PRIVATE KEY-----",
    ])
}

/// A credential of each family, and the rule that is to find it.
fn samples() -> Vec<(&'static str, String)> {
    let jwt = format!(
        "{}.{}.{}",
        URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#),
        URL_SAFE_NO_PAD.encode(r#"{"sub":"1234567890"}"#),
        random(43)
    );
    vec![
        ("private-key", pem("RSA ")),
        ("private-key", pem("")),
        ("private-key", pem("OPENSSH ")),
        ("putty-key", join(&["Private-", "Lines: 1\n", &random(64), "\nPrivate-MAC: 0011"])),
        ("age-key", join(&["AGE-SECRET-", "KEY-1", &"QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L".repeat(2)[..58]])),
        ("jwt", jwt.clone()),
        ("basic-auth", format!("Basic {}", STANDARD.encode("ann:hunter2"))),
        ("bearer-token", format!("Authorization: Bearer {}", random(36))),
        ("jwt", format!("Authorization: Bearer {jwt}")),
        ("authorization-header", format!("Authorization: token {}", hex(20))),
        ("token-header", format!("X-Api-Key: {}", random(24))),
        ("netrc-password", "machine example.com login ann password hunter2".to_owned()),
        ("github-token", join(&["gh", "p_", &random(36)])),
        ("github-app-token", join(&["gh", "s_", &random(36)])),
        ("github-fine-grained-token", join(&["github", "_pat_", &random(82)])),
        ("github-url-token", join(&["https://x-access-", "token:abcd@github.com/x"])),
        ("gitlab-token", join(&["gl", "pat-", &random(20)])),
        ("gitlab-token", join(&["gl", "rt-", &random(20)])),
        ("npm-token", join(&["np", "m_", &random(36)])),
        ("npmrc-auth", join(&["//registry.npmjs.org/:_auth", "Token=", &hex(36)])),
        ("pypi-token", join(&["py", "pi-AgEIcHlwaS5vcmc", &random(60)])),
        ("docker-token", join(&["dckr", "_pat_", &random(27)])),
        ("docker-auth", format!(r#"{{"auths": {{"x": {{"auth": "{}"}}}}}}"#, STANDARD.encode("ann:hunter2"))),
        ("aws-access-key", join(&["AK", "IA", "IOSFODNN7EXAMPLE"])),
        ("aws-access-key", join(&["AS", "IA", "IOSFODNN7EXAMPLE"])),
        ("aws-secret-key", join(&["aws_secret_", "access_key = ", &random(40)])),
        ("aws-secret-key", join(&["\"SecretAccess", "Key\": \"", &random(40), "\""])),
        ("aws-session-token", join(&["\"Session", "Token\": \"", &random(120), "==\""])),
        ("google-api-key", join(&["AI", "za", &random(35)])),
        ("google-client-secret", join(&["GOC", "SPX-", &random(28)])),
        ("google-access-token", join(&["ya", "29.", &random(60)])),
        ("azure-access-key", join(&["AccountName=x;Account", "Key=", &random(86), "==;"])),
        ("azure-client-secret", join(&["abc8", "Q~", &random(34)])),
        ("vault-token", join(&["hv", "s.", &random(24)])),
        ("terraform-token", join(&[&random(14), ".atlas", "v1.", &random(67)])),
        ("anthropic-key", join(&["sk-", "ant-api03-", &random(93)])),
        ("openai-key", join(&["sk-", "proj-", &random(48)])),
        ("openai-marked-key", join(&[" ", &random(20), "T3Blbk", "FJ", &random(20)])),
        ("huggingface-token", join(&["hf", "_", &random(34)])),
        ("slack-token", join(&["xo", "xb-123456789012-", &random(24)])),
        ("slack-webhook", join(&["https://hooks.", "slack.com/services/T00/B00/", &random(24)])),
        ("telegram-token", join(&["12345678", "90:AA", &random(33)])),
        ("sendgrid-key", join(&["S", "G.", &random(22), ".", &random(43)])),
        ("stripe-key", join(&["sk_", "live_", &random(24)])),
        ("connection-string", join(&["postgres://ann:hunter", "2@db.example.com/x"])),
        ("connection-string", join(&["redis://:hunter", "2@db.example.com"])),
        ("url-token", join(&["https://", &hex(40), "@github.com/x"])),
        ("url-secret", join(&["https://example.com/x?a=b&access_", "token=0123456789abcdef&c=d"])),
        ("connection-password", join(&["Server=x;Pass", "word=correct-horse;Encrypt=true"])),
        ("assigned-secret", join(&["\"client_", "secret\": \"aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0eF\""])),
        ("assigned-hex", join(&["api_", "key = '", &hex(32), "'"])),
        ("assigned-password", join(&["pass", "word: \"correct-horse-2\""])),
        ("environment-password", join(&["DB_PASS", "WORD=s3cr3t!x9"])),
    ]
}

#[test]
fn abcas_own_rules_can_be_used() {
    let kinds = PersonalData::ALL.into_iter().flat_map(builtin::personal);
    for rule in builtin::credentials().into_iter().chain(kinds) {
        assert!(rule.compiled().is_ok(), "{}", rule.id);
        assert!(rule.longest().is_ok(), "{}: {:?}", rule.id, rule.longest());
        assert!(!rule.encoded || rule.keywords.iter().all(|k| k.len() >= 4), "{}", rule.id);
    }
    let ids: Vec<&str> = DEFAULT.rules.iter().map(|r| r.rule.id.as_str()).collect();
    let unique: std::collections::BTreeSet<&str> = ids.iter().copied().collect();
    assert_eq!(ids.len(), unique.len());
    assert!(Screen::default().stream().hold_back_bytes() < 2_048, "{}", Screen::default().stream().hold_back_bytes());
}

#[test]
fn credentials_are_taken_out_by_their_shape() {
    for (rule, secret) in samples() {
        for (before, after) in
            [("before ", " after"), ("x=\"", "\" y"), ("{\"a\":\"\\n", "\\n\"}"), ("\u{1b}[32m", "\u{1b}[0m")]
        {
            let text = format!("{before}{secret}{after}");
            let screened = Screen::default().scrub(&text);
            let found: Vec<&str> = screened.findings.iter().map(|f| f.rule.as_str()).collect();
            assert_eq!(found, [rule], "{text}");
            assert!(screened.text.starts_with(before) && screened.text.ends_with(after), "{}", screened.text);
            let again = Screen::default().scrub(&screened.text);
            assert_eq!((again.text, again.findings), (screened.text, vec![]), "stable");
        }
    }
}

#[test]
fn tokens_are_found_in_base64_too() {
    let tokens =
        ["github-token", "aws-access-key", "gitlab-token", "anthropic-key", "stripe-key", "private-key", "vault-token"];
    for (rule, secret) in samples().into_iter().filter(|(rule, _)| tokens.contains(rule)) {
        for before in ["", "a", "ab", "{\"token\":\""] {
            for engine in [&STANDARD, &URL_SAFE_NO_PAD] {
                let encoded = engine.encode(format!("{before}{secret}\" and more of it"));
                let screened = Screen::default().scrub(&format!("data: {encoded}."));
                let found: Vec<&str> = screened.findings.iter().map(|f| f.rule.as_str()).collect();
                assert_eq!(found, [rule], "{before}{secret}: {encoded}");
                assert!(screened.text.starts_with("data: ") && screened.text.ends_with('.'));
            }
        }
    }
}

#[test]
fn a_finding_says_what_where_and_never_the_secret() {
    let good = "zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ0mLq17";
    let text = join(&["é gh", "p_", good, " and gh", "p_", &random(36), "."]);
    let screened = Screen::default().scrub(&text);
    let of = |verified, range| Finding {
        rule: "github-token".into(),
        kind: RuleKind::Credential,
        severity: Severity::Critical,
        verified,
        range,
    };
    assert_eq!(screened.findings, [of(true, 3..43), of(false, 48..88)]);
    let json = serde_json::to_string(&screened.findings).unwrap();
    assert!(
        !json.contains("zQWB") && json.contains(r#""rule":"github-token","kind":"credential","severity":"critical""#)
    );
}

#[test]
fn ordinary_output_stays_as_it_is() {
    for text in [
        "see http://example.com/a:b and write to me@example.com",
        "http://example.com/a:b\nme@x.com",
        "commit 4b825dc642cb6eb9a060e54bf8d69288fbee4904",
        "Author: Ann <ann@example.com>",
        "4242 4242 4242 4242 and 123-45-6789",
        "task-force-for-a-skip-list-that-is-long-enough-to-look-odd",
        "let x: Vec<String> = bearer of news();",
        "https://user@host/path",
        "let token = parse_the_next_token_of_this_very_long_stream(input);",
        "token: 4b825dc642cb6eb9a060e54bf8d69288fbee4904",
        "curl \"$URL?token=${TOKEN}&secret=<yours>\"",
        "access_key = env::var(\"AWS_ACCESS_KEY_ID_OF_THE_OTHER_ACCOUNT\")",
        "dGhpcyBpcyBqdXN0IGEgc2VudGVuY2UgaW4gYmFzZTY0IHdpdGggbm90aGluZyB0byBoaWRl",
        "abca-core/src/prompt/a_long_path_to_a_file/with_parts.rs",
        "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "it begins with -----BEGIN PRIVATE KEY----- and ends with -----END PRIVATE KEY-----",
        "if line.starts_with(\"-----BEGIN RSA PRIVATE KEY-----\") {",
        "-----BEGIN CERTIFICATE-----\nMIIEpAIBAAKCAQEAabcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKL\n-----END CERTIFICATE-----",
        "postgres://${USER}:${PASSWORD}@db/x and postgres://<user>:<password>@db/x",
        "Basic information about basic authentication",
        "#[derive(Debug)] struct Password(String); password: String, password = None",
        "integrity sha512-q7Wk2Zx9Lp4Vt8Rb3Nc6Ym1Hd5Gf0Js7Qa2Ue9Io4Kz8Xw3Bv6Tn1Mr5Lh0Pg7==",
    ] {
        assert_eq!(rules(&Screen::default(), text), Vec::<String>::new(), "{text}");
        assert_eq!(Screen::default().scrub(text).text, text);
    }
}

#[test]
fn personal_data_only_where_it_is_asked_for() {
    let screen = Screen::builder().personal(PersonalData::ALL).build().unwrap();
    for (text, rule) in [
        ("4242 4242 4242 4242", "card-number"),
        ("123-45-6789", "us-social-security"),
        ("DE89 3704 0044 0532 0130 00", "iban"),
        ("GB82WEST12345698765432", "iban"),
        ("ann.smith+x@mail.acme.io", "email"),
        ("+49 30 901820", "phone"),
        ("+1 (415) 555-2671", "phone"),
        ("(415) 555-2671", "phone-north-american"),
        ("AB 12 34 56 C", "uk-insurance-number"),
        ("12345678Z", "es-identity-number"),
        ("RSSMRA85T10A562S", "it-fiscal-code"),
        ("2 55 08 14 168 025 38", "fr-social-security"),
        ("529.982.247-25", "br-taxpayer-number"),
        ("2341 2341 2346", "in-aadhaar"),
    ] {
        let screened = screen.scrub(&format!("is {text}, so"));
        let found: Vec<(&str, RuleKind)> = screened.findings.iter().map(|f| (f.rule.as_str(), f.kind)).collect();
        assert_eq!(found, [(rule, RuleKind::Personal)], "{text}");
        assert!(screened.text.starts_with("is [") && screened.text.ends_with("], so"), "{}", screened.text);
        assert_eq!(Screen::default().scrub(text).findings, []);
    }
    for text in [
        "1234 5678 9012 3456",
        "000-12-3456",
        "DE88 3704 0044 0532 0130 00",
        "me@example.com",
        "git@github.com:a/b",
        "v1.2.3-4 2024-11-23 12:00:00",
        "0x1234567890",
        "noreply@github.com",
        "127.0.0.1:5432",
    ] {
        assert_eq!(rules(&screen, text), Vec::<String>::new(), "{text}");
    }
}

fn known_forms(secret: &str) -> Vec<String> {
    let percent = |keep: &dyn Fn(u8) -> bool, upper: bool| -> String {
        secret
            .bytes()
            .map(|b| match (keep(b), upper) {
                (true, _) => char::from(b).to_string(),
                (false, true) => format!("%{b:02X}"),
                (false, false) => format!("%{b:02x}"),
            })
            .collect()
    };
    let unreserved = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
    let hex: String = secret.bytes().map(|b| format!("{b:02x}")).collect();
    let mut forms = vec![
        secret.to_owned(),
        percent(&unreserved, true),
        percent(&unreserved, false),
        percent(&|_| false, true),
        percent(&|b| unreserved(b) || b"/+?".contains(&b), true),
        percent(&|b| unreserved(b) || b == b' ', true).replace(' ', "+"),
        serde_json::to_string(secret).unwrap().trim_matches('"').to_owned(),
        serde_json::to_string(secret).unwrap().trim_matches('"').replace('/', "\\/"),
        secret.bytes().map(|b| format!("\\x{b:02x}")).collect(),
        secret.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;"),
        hex.to_uppercase(),
        hex.clone(),
    ];
    let breaks = |text: &str, every: usize| {
        text.as_bytes().chunks(every).map(|c| str::from_utf8(c).unwrap()).collect::<Vec<_>>().join("\n")
    };
    forms.push(breaks(&hex, 60));
    for before in ["", "a", "bc"] {
        for engine in [&STANDARD, &URL_SAFE_NO_PAD] {
            let encoded = engine.encode(format!("{before}{secret}"));
            forms.extend([encoded.clone(), breaks(&encoded, 20)]);
        }
    }
    forms
}

#[test]
fn known_values_are_found_in_every_form() {
    for secret in [
        "pa55 word/+?&\"x",
        "hunter2hunter2",
        "!§$%&/()=?",
        "tok_9f8e7d6c5b4a39281706f5e4d3c2b1a0ffeeddccbbaa99887766554433221100",
    ] {
        let screen = Screen::default().with_known([SecretString::from(secret), SecretString::from("short")]);
        for form in known_forms(secret) {
            let screened = screen.scrub(&format!("x=({form})"));
            assert!(screened.findings.iter().any(|f| f.rule == "known-secret" && f.verified), "{secret}: {form}");
            let left = screened.text.replace("x=(", "").replace(KNOWN_LABEL, "");
            assert!(left.len() <= 6, "{secret}: {form}: {}", screened.text);
        }
        assert_eq!(screen.scrub("short").text, "short");
        assert!(!format!("{screen:?}").contains("pa55"));
    }
}

#[test]
fn of_a_known_value_of_many_lines_each_line_is_known() {
    let key = pem("EC ");
    let screen = Screen::default().with_known([SecretString::from(key.clone())]);
    let line = random(64);
    assert_eq!(screen.scrub(&format!("    {line}\n")).text, format!("    {KNOWN_LABEL}\n"));
    assert_eq!(rules(&screen, &key), ["known-secret"]);
}

#[test]
fn nothing_is_dropped_whatever_the_length() {
    let filler = "The quick brown fox; ".repeat(300_000);
    let secret = join(&["gh", "p_", &random(36)]);
    let text = format!("{filler}{secret}\nthe end");
    let screened = Screen::default().scrub(&text);
    assert_eq!(screened.text, format!("{filler}[REDACTED-GITHUB_TOKEN]\nthe end"));
    // A secret of megabytes goes as one, and what follows stays.
    let long = format!("{}{}.after", join(&["sk-", "ant-"]), random(3_000_000));
    assert_eq!(Screen::default().scrub(&long).text, "[REDACTED-ANTHROPIC_KEY].after");
}

/// The pieces of a text cut at these places.
fn cut<'a>(text: &'a str, places: &[usize]) -> Vec<&'a str> {
    let mut places: Vec<usize> = places.iter().map(|p| text.floor_char_boundary(*p)).collect();
    places.sort_unstable();
    let mut from = 0;
    let mut out = Vec::new();
    for place in places.into_iter().chain([text.len()]) {
        out.push(&text[from..place]);
        from = place;
    }
    out
}

fn streamed(screen: &Screen, pieces: &[&str]) -> Screened {
    let mut stream = screen.stream();
    let mut out = Screened { text: String::new(), findings: Vec::new() };
    let (most, mut given, mut taken) = (stream.hold_back_bytes(), 0usize, 0usize);
    for piece in pieces {
        let part = stream.push(piece);
        taken += piece.len();
        given += part.text.len();
        let found: usize = part.findings.iter().map(|f| f.range.len()).sum();
        assert!(
            !part.findings.is_empty() || found > 0 || stream.held_len() <= most + piece.len(),
            "{given} of {taken}"
        );
        out.extend([part]);
    }
    out.extend([stream.finish()]);
    out
}

#[test]
fn a_secret_cut_anywhere_is_found() {
    let known = "pa55 word/+?";
    let screen = Screen::default().with_known([SecretString::from(known)]);
    let mut secrets: Vec<String> = samples().into_iter().map(|(_, secret)| secret).collect();
    secrets.extend(known_forms(known));
    let filler = "words and more words, ".repeat(80);
    for secret in secrets {
        let text = format!("{filler}(\"{secret}\") {filler}");
        let whole = screen.scrub(&text);
        assert!(!whole.findings.is_empty(), "{secret}");
        for at in filler.len()..filler.len() + secret.len() + 6 {
            assert_eq!(streamed(&screen, &cut(&text, &[at])), whole, "cut at {at}: {secret}");
        }
    }
}

static KNOWING: LazyLock<Screen> = LazyLock::new(|| Screen::default().with_known([SecretString::from("pa55 word")]));

/// What rules look at, to be put together at random.
fn pieces() -> impl Strategy<Value = String> {
    let mut parts: Vec<String> = samples().into_iter().map(|(_, secret)| secret).collect();
    parts.extend(
        [
            "ghp_",
            "://",
            "a:b@c",
            "secret",
            "token",
            " = ",
            "\"",
            "'",
            "\n",
            " ",
            ":",
            "eyJ",
            "-----BEGIN PRIVATE KEY-----",
            "-----END ",
            "Bearer ",
            "AKIA",
            "sk-",
            "é",
            "日",
            "abcdefghijklmnopqrstuvwxyz",
            "0123456789",
            "=",
            "+",
            "/",
            "_",
            "-",
            "Z2hwX",
            ".",
            "[",
            "]",
            "@",
            "pa55 word",
            "cGE1NSB3b3Jk",
        ]
        .map(str::to_owned),
    );
    parts.extend([random(10), random(100), random(700), hex(40), "x ".repeat(300)]);
    prop::collection::vec(prop::sample::select(parts), 0..24).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn in_pieces_as_in_one(text in pieces(), cuts in prop::collection::vec(0usize..6_000, 0..12)) {
        let whole = KNOWING.scrub(&text);
        let places: Vec<usize> = cuts.iter().map(|c| c % (text.len() + 1)).collect();
        prop_assert_eq!(&streamed(&KNOWING, &cut(&text, &places)), &whole);
        let letters: Vec<usize> = (0..text.len().min(2_000)).collect();
        prop_assert_eq!(&streamed(&KNOWING, &cut(&text, &letters)), &whole);
    }

    #[test]
    fn ranges_and_text_agree(text in pieces()) {
        let screened = Screen::default().scrub(&text);
        let mut want = String::new();
        let mut from = 0;
        for finding in &screened.findings {
            prop_assert!(finding.range.start >= from && finding.range.end > finding.range.start);
            want.push_str(&text[from..finding.range.start]);
            want.push_str(&format!("[REDACTED-{}]", finding.rule.to_uppercase().replace('-', "_")));
            from = finding.range.end;
        }
        want.push_str(&text[from..]);
        prop_assert_eq!(&screened.text, &want);
    }

    #[test]
    fn any_text_is_taken(text in any::<String>()) {
        let _ = Screen::default().scrub(&text);
    }
}

#[test]
fn hostile_megabytes_end() {
    let screen =
        Screen::builder().personal(PersonalData::ALL).known([SecretString::from("aaaaaaaaaaaa")]).build().unwrap();
    for unit in [
        "-----BEGIN PRIVATE KEY-----",
        "a://a:",
        "bearer ",
        "eyJ",
        "eyJhbGciOiJub25lIn0.",
        "4",
        "DE89 ",
        "token=",
        "secret",
        "?token=a",
        "Z2hwX2",
        "ghp_",
        "sk-",
        "a",
        "a@",
        "1 ",
        "password=\"",
        "Q~",
        "-us",
        "+1",
        "AKIA",
        "Basic aaaa",
        "T3BlbkFJ",
        "://a",
        "\n",
        "é",
        "machine a login ",
    ] {
        let text = unit.repeat(30_000 / unit.len());
        let _ = screen.scrub(&text);
    }
}

fn rule(change: impl FnOnce(&mut Rule)) -> Rule {
    let mut rule: Rule =
        serde_json::from_str(r#"{"id": "acme", "keywords": ["acme_"], "pattern": "acme_[a-z0-9]{16}"}"#).unwrap();
    change(&mut rule);
    rule
}

#[test]
fn a_rule_that_cannot_be_used_is_refused_with_its_place() {
    let refused = |change: fn(&mut Rule)| Screen::builder().rule(rule(change)).build().unwrap_err();
    let cases: Vec<(RuleError, RulePlace, &str)> = vec![
        (refused(|r| r.id = "Acme Key".into()), RulePlace::Id, "rule `Acme Key`, `id`: use 1 to 64 lower-case"),
        (refused(|r| r.id = "jwt".into()), RulePlace::Id, "there is a rule of that name already"),
        (refused(|r| r.kind = RuleKind::Known), RulePlace::Kind, "values that the platform handed out"),
        (refused(|r| r.keywords.clear()), RulePlace::Keyword(0), "needs a keyword"),
        (refused(|r| r.keywords.push("ab".into())), RulePlace::Keyword(1), "`ab` is not of 3 to 64"),
        (
            refused(|r| r.pattern = "acme_[a".into()),
            RulePlace::Pattern(5),
            "rule `acme`, `pattern`, byte 5: unclosed character class",
        ),
        (refused(|r| r.pattern = "acme_.*".into()), RulePlace::Pattern(0), "bound each repetition"),
        (refused(|r| r.pattern = "(?P<key>acme_)".into()), RulePlace::Pattern(0), "`secret`"),
        (refused(|r| r.pattern = "a?".into()), RulePlace::Pattern(0), "matches nothing"),
        (refused(|r| r.pattern = "acme_[a-z]{2000}".into()), RulePlace::Pattern(0), "more than 1024 bytes"),
        (refused(|r| r.reach_bytes = 65), RulePlace::Reach, "at most 64"),
        (refused(|r| r.min_entropy = Some(f64::NAN)), RulePlace::MinEntropy, "between 0 and 8"),
        (
            refused(|r| {
                r.encoded = true;
                r.keywords = vec!["acm".into()]
            }),
            RulePlace::Encoded,
            "use four characters",
        ),
        (refused(|r| r.examples.push("acme_short".into())), RulePlace::Example(0), "nothing was found in it"),
    ];
    for (error, place, words) in cases {
        assert_eq!(error.place, place, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
    let error = Screen::builder().without("no-such").build().unwrap_err();
    assert_eq!(error.to_string(), "rule `no-such`, `id`: there is no such rule to leave out");
    assert!(serde_json::from_str::<Rule>(r#"{"id": "x", "keywords": [], "pattern": "", "patern": ""}"#).is_err());
}

#[test]
fn rules_of_your_own_and_rules_left_out() {
    let config: ScreenConfig = serde_json::from_str(
        r#"{"personal": ["email"], "disabled": ["github-token"], "rules": [
            {"id": "acme", "kind": "credential", "severity": "low", "keywords": ["-acme"], "pattern": "[0-9]{6}-acme[a-z]{2}",
             "reach_bytes": 6, "tail": "alphanumeric", "examples": ["x 123456-acmeab"]}]}"#,
    )
    .unwrap();
    let screen = Screen::builder().config(config).build().unwrap();
    let text = join(&["gh", "p_", &random(36), " 123456-acmeabcdef ann@acme.io"]);
    assert_eq!(rules(&screen, &text), ["acme", "email"]);
    assert_eq!(screen.rule_ids().next(), Some("acme"));
}

#[test]
fn who_watches_sees_whole_lines_and_no_secret() {
    let secret = join(&["gh", "p_", &random(36)]);
    let mut stream = Screen::default().stream();
    let mut seen = stream.push("building\npushing with ").text;
    seen.push_str(&stream.settle().text);
    assert_eq!(seen, "building\n");
    let (first, second) = secret.split_at(9);
    seen.push_str(&stream.push(first).text);
    seen.push_str(&stream.settle().text);
    seen.push_str(&stream.push(&format!("{second}, wait\n")).text);
    seen.push_str(&stream.settle().text);
    assert_eq!(seen, "building\npushing with [REDACTED-GITHUB_TOKEN], wait\n");
    let key = pem("");
    let (first, second) = key.split_at(60);
    seen = stream.push(first).text;
    seen.push_str(&stream.settle().text);
    seen.push_str(&stream.push(second).text);
    seen.push_str(&stream.finish().text);
    assert_eq!(seen, "[REDACTED-PRIVATE_KEY]");
}
