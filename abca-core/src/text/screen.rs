//! Takes credentials and personal data out of tool outputs before a model, a log or a person sees them.
//!
//! Rules are data: a label, a pattern, and for some a check that tells a real one from a look-alike. The shapes are the
//! reference platform's (`behaviour.md` 6.1) with its known misses covered. E-mail addresses stay: the output of git is
//! full of them, and they open no door.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickBuilder, AhoCorasickKind, MatchKind};
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use base64::{Engine as _, alphabet};
use regex::{Captures, Regex};
use secrecy::{ExposeSecret, SecretString};

/// What was taken out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The rule's label, e.g. `GITHUB_TOKEN`.
    pub label: &'static str,
    /// How often.
    pub count: usize,
}

/// A text without what must not be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Screened {
    /// The text; each finding stands as `[REDACTED-<LABEL>]`.
    pub text: String,
    /// What was taken out, by label.
    pub findings: Vec<Finding>,
}

/// A label, a pattern, and what must hold of a match for it to count.
struct Rule {
    label: &'static str,
    /// A text without any of these, in any case, has no match. None at all: personal data, told apart by [`PERSONAL`].
    marks: &'static [&'static str],
    /// The pattern; what it has in groups `keep` and `rest` stays.
    pattern: &'static str,
    /// Asked of a match without what stays.
    holds: fn(&str) -> bool,
}

const fn always(_: &str) -> bool {
    true
}

const RULES: &[Rule] = &[
    Rule {
        label: "PRIVATE_KEY",
        marks: &["private key"],
        pattern: r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----(?s:.*?)(?:-----END (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----|\z)",
        holds: always,
    },
    Rule {
        label: "AWS_KEY",
        marks: &["akia", "asia", "abia", "acca"],
        pattern: r"(?-u:\b)(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}(?-u:\b)",
        holds: always,
    },
    Rule {
        label: "AWS_SECRET",
        marks: &["secretaccesskey", "secret_access_key", "session_token", "sessiontoken"],
        pattern: r#"(?i)(?P<keep>(?-u:\b)(?:aws_secret_access_key|aws_session_token|secretaccesskey|sessiontoken)[\s=:"']{1,8})[A-Za-z0-9/+=]{40,}"#,
        holds: always,
    },
    Rule {
        label: "GITHUB_PAT",
        marks: &["github_pat_"],
        pattern: r"(?-u:\b)github_pat_[A-Za-z0-9_]{22,}",
        holds: always,
    },
    Rule {
        label: "GITHUB_TOKEN",
        marks: &["ghp_", "gho_", "ghs_", "ghu_", "ghr_"],
        pattern: r"(?-u:\b)gh[posur]_[A-Za-z0-9]{36,}",
        holds: always,
    },
    Rule { label: "GITHUB_URL_TOKEN", marks: &["x-access-token"], pattern: r"x-access-token:[^\s@/]+@", holds: always },
    Rule {
        label: "GITLAB_TOKEN",
        marks: &["glpat-", "glptt-", "glrt-", "gldt-", "glcbt-"],
        pattern: r"(?-u:\b)gl(?:pat|ptt|rt|dt|cbt)-[A-Za-z0-9_-]{20,}",
        holds: always,
    },
    Rule { label: "ANTHROPIC_KEY", marks: &["sk-ant-"], pattern: r"(?-u:\b)sk-ant-[A-Za-z0-9_-]{20,}", holds: always },
    Rule {
        label: "OPENAI_KEY",
        marks: &["sk-"],
        pattern: r"(?-u:\b)sk-(?:proj-|svcacct-|admin-)?[A-Za-z0-9_-]{32,}",
        holds: has_digit,
    },
    Rule {
        label: "STRIPE_KEY",
        marks: &["k_live_", "k_test_"],
        pattern: r"(?-u:\b)[rs]k_(?:live|test)_[A-Za-z0-9]{16,}",
        holds: always,
    },
    Rule { label: "SLACK_TOKEN", marks: &["xox"], pattern: r"(?-u:\b)xox[abeoprs]-[A-Za-z0-9-]{10,}", holds: always },
    Rule {
        label: "SLACK_WEBHOOK",
        marks: &["hooks.slack.com"],
        pattern: r"https://hooks\.slack\.com/services/[A-Za-z0-9/]{20,}",
        holds: always,
    },
    Rule { label: "GOOGLE_KEY", marks: &["aiza"], pattern: r"(?-u:\b)AIza[A-Za-z0-9_-]{35}", holds: always },
    Rule { label: "GOOGLE_SECRET", marks: &["gocspx-"], pattern: r"(?-u:\b)GOCSPX-[A-Za-z0-9_-]{20,}", holds: always },
    Rule {
        label: "AZURE_KEY",
        marks: &["accountkey="],
        pattern: r"(?P<keep>AccountKey=)[A-Za-z0-9+/]{86}==",
        holds: always,
    },
    Rule { label: "NPM_TOKEN", marks: &["npm_"], pattern: r"(?-u:\b)npm_[A-Za-z0-9]{36}(?-u:\b)", holds: always },
    Rule { label: "PYPI_TOKEN", marks: &["pypi-"], pattern: r"(?-u:\b)pypi-[A-Za-z0-9_-]{50,}", holds: always },
    Rule { label: "CARGO_TOKEN", marks: &["cio"], pattern: r"(?-u:\b)cio[A-Za-z0-9]{32}(?-u:\b)", holds: always },
    Rule {
        label: "JWT",
        marks: &["eyj"],
        pattern: r"(?-u:\b)eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}",
        holds: always,
    },
    Rule {
        label: "BEARER_TOKEN",
        marks: &["bearer"],
        pattern: r"(?i)(?P<keep>(?-u:\b)bearer\s{1,4})[A-Za-z0-9._~+/-]{20,}=*",
        holds: has_digit,
    },
    Rule {
        label: "AUTHORIZATION",
        marks: &["authorization"],
        pattern: r#"(?i)(?P<keep>(?-u:\b)authorization["']?[ \t]{0,4}[:=][ \t]{0,4}["']?(?:basic|digest|token)[ \t]{1,4})[A-Za-z0-9+/._~-]{8,}=*"#,
        holds: always,
    },
    Rule {
        label: "URL_SECRET",
        marks: &["token=", "secret=", "password=", "api_key=", "apikey=", "signature="],
        pattern: r#"(?i)(?P<keep>[?&](?:(?:access|auth|id|refresh|private)_token|token|(?:client_)?secret|password|api_?key|(?:x-amz-|x-goog-)?signature|x-amz-security-token)=)[A-Za-z0-9][^\s&#"'<>{}()\[\]]{7,}"#,
        holds: always,
    },
    Rule {
        label: "SECRET_VALUE",
        marks: &["secret", "token", "passw", "api_key", "apikey", "api-key", "access_key", "accesskey"],
        pattern: r#"(?i)(?P<keep>(?:secret|token|passwo?r?d|api[_-]?key|access_?key)[a-z0-9_-]{0,32}["']?[ \t]{0,4}(?:=>|:=|=|:)[ \t]{0,4}["']?)[A-Za-z0-9/+_-]{32,}=*"#,
        holds: is_random,
    },
    Rule {
        label: "CONNECTION_STRING",
        marks: &["://"],
        pattern: r#"(?P<keep>(?-u:\b)[a-z][a-z0-9+.-]{1,20}://[^\s:/@"']{0,64}:)[^\s@"'/]{1,256}(?P<rest>@[A-Za-z0-9\[])"#,
        holds: always,
    },
    Rule {
        label: "CARD_NUMBER",
        marks: &[],
        pattern: r"(?-u:\b)[3-6][0-9]{3}(?:[ -]?[0-9]{4}){2}[ -]?[0-9]{1,7}(?-u:\b)",
        holds: luhn,
    },
    Rule { label: "SSN", marks: &[], pattern: r"(?-u:\b)[0-8][0-9]{2}-[0-9]{2}-[0-9]{4}(?-u:\b)", holds: ssn },
    Rule {
        label: "IBAN",
        marks: &[],
        pattern: r"(?-u:\b)[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?(?-u:\b)",
        holds: iban,
    },
];

/// A text without a match of this has no personal data that a rule would find.
const PERSONAL: &str =
    r"[3-6][0-9]{3}(?:[ -]?[0-9]{4}){2}|[0-9]{3}-[0-9]{2}-[0-9]{4}|[A-Z]{2}[0-9]{2} ?[A-Z0-9]{4} ?[A-Z0-9]{4}";

struct Compiled {
    rules: Vec<(&'static Rule, Regex)>,
    /// The marks of all rules, and which rule each belongs to.
    marks: Option<AhoCorasick>,
    owners: Vec<usize>,
    personal: Option<Regex>,
}

// That all of it compiles is a test; here nothing may panic.
static COMPILED: LazyLock<Compiled> = LazyLock::new(|| {
    let marks = RULES.iter().enumerate().flat_map(|(owner, rule)| rule.marks.iter().map(move |mark| (owner, mark)));
    let (owners, marks): (Vec<usize>, Vec<&str>) = marks.map(|(owner, mark)| (owner, *mark)).unzip();
    Compiled {
        rules: RULES.iter().filter_map(|rule| Regex::new(rule.pattern).ok().map(|regex| (rule, regex))).collect(),
        marks: AhoCorasickBuilder::new()
            .ascii_case_insensitive(true)
            .kind(Some(AhoCorasickKind::DFA))
            .build(marks)
            .ok(),
        owners,
        personal: Regex::new(PERSONAL).ok(),
    }
});

impl Compiled {
    /// The rules that can match in a text, in their order.
    fn candidates(&self, text: &str) -> impl Iterator<Item = &(&'static Rule, Regex)> {
        let mut is_candidate = vec![self.marks.is_none(); self.rules.len()];
        for found in self.marks.iter().flat_map(|marks| marks.find_overlapping_iter(text)) {
            let owner = self.owners.get(found.pattern().as_usize());
            if let Some(flag) = owner.and_then(|owner| is_candidate.get_mut(*owner)) {
                *flag = true;
            }
        }
        let is_personal = self.personal.as_ref().is_none_or(|personal| personal.is_match(text));
        let flagged = self.rules.iter().zip(is_candidate);
        flagged.filter(move |((rule, _), flag)| *flag || (is_personal && rule.marks.is_empty())).map(|(rule, _)| rule)
    }
}

const KNOWN: &str = "KNOWN_SECRET";
/// A known value shorter than this is not looked for: it would be found everywhere.
const MIN_KNOWN_CHARS: usize = 8;

/// Finds and takes out. Cheap to clone, shows no secret in `Debug`.
#[derive(Clone, Default)]
pub struct Screen {
    known: Option<AhoCorasick>,
    forms: Vec<SecretString>,
}

impl fmt::Debug for Screen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Screen").field("known_forms", &self.forms.len()).finish()
    }
}

impl Screen {
    /// Also takes out these exact values (of at least eight characters), and their base64 and percent-encoded forms.
    #[must_use]
    pub fn with_known(mut self, secrets: impl IntoIterator<Item = SecretString>) -> Self {
        for secret in secrets {
            let value = secret.expose_secret();
            if value.chars().count() < MIN_KNOWN_CHARS {
                continue;
            }
            let mut forms = vec![value.to_owned(), percent_encoded(value)];
            forms.push(STANDARD_NO_PAD.encode(value));
            forms.push(URL_SAFE_NO_PAD.encode(value));
            self.forms.extend(forms.into_iter().map(SecretString::from));
        }
        self.known = AhoCorasickBuilder::new()
            .match_kind(MatchKind::LeftmostLongest)
            .build(self.forms.iter().map(|f| f.expose_secret()))
            .ok();
        self
    }

    /// The text without what must not be seen. Linear in the text; nothing else is changed, nothing is cut.
    pub fn scrub(&self, text: &str) -> Screened {
        let mut counts: BTreeMap<&'static str, usize> = BTreeMap::new();
        let mut text = Cow::Borrowed(text);
        if let Some(known) = self.known.as_ref().filter(|_| !self.forms.is_empty())
            && known.is_match(text.as_ref())
        {
            let mut out = String::with_capacity(text.len());
            known.replace_all_with(text.as_ref(), &mut out, |_, _, dst| {
                let count = counts.entry(KNOWN).or_default();
                *count = count.saturating_add(1);
                dst.push_str("[REDACTED-KNOWN_SECRET]");
                true
            });
            text = Cow::Owned(out);
        }
        let plain = text.clone();
        for (rule, regex) in COMPILED.candidates(&plain) {
            let mut found = 0usize;
            let replaced = regex.replace_all(&text, |c: &Captures<'_>| {
                let whole = c.get(0).map_or("", |m| m.as_str());
                let part = |name: &str| c.name(name).map_or("", |m| m.as_str());
                let (keep, rest) = (part("keep"), part("rest"));
                let secret = whole.strip_prefix(keep).and_then(|w| w.strip_suffix(rest)).unwrap_or(whole);
                if !(rule.holds)(secret) {
                    return whole.to_owned();
                }
                found = found.saturating_add(1);
                format!("{keep}[REDACTED-{}]{rest}", rule.label)
            });
            if found > 0 {
                let count = counts.entry(rule.label).or_default();
                *count = count.saturating_add(found);
                text = Cow::Owned(replaced.into_owned());
            }
        }
        let encoded = without_encoded(&text);
        if let Some((cleaned, found)) = encoded {
            counts.insert(ENCODED, found);
            text = Cow::Owned(cleaned);
        }
        Screened {
            text: text.into_owned(),
            findings: counts.into_iter().map(|(label, count)| Finding { label, count }).collect(),
        }
    }
}

const ENCODED: &str = "ENCODED_SECRET";
/// Shorter base64 holds no credential.
const MIN_ENCODED_BYTES: usize = 24;
/// Longer is a file; its beginning is looked at.
const MAX_ENCODED_BYTES: usize = 16 * 1024;

const ANY_STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const ANY_URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);

/// The text without base64 that decodes to text with a credential in it, and how many such there were.
fn without_encoded(text: &str) -> Option<(String, usize)> {
    let mut out = String::new();
    let mut from = 0usize;
    let mut count = 0usize;
    let mut start = 0usize;
    let is_base64 = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'-' | b'_');
    for run in text.as_bytes().split(|b| !is_base64(*b)) {
        let end = start.saturating_add(run.len());
        if run.len() >= MIN_ENCODED_BYTES && hides_credential(run) {
            out.push_str(text.get(from..start).unwrap_or_default());
            out.push_str("[REDACTED-ENCODED_SECRET]");
            from = end;
            count = count.saturating_add(1);
        }
        start = end.saturating_add(1);
    }
    out.push_str(text.get(from..).unwrap_or_default());
    (count > 0).then_some((out, count))
}

fn hides_credential(run: &[u8]) -> bool {
    let run = run.get(..MAX_ENCODED_BYTES).unwrap_or(run);
    let engine = if run.iter().any(|b| matches!(b, b'-' | b'_')) { &ANY_URL_SAFE } else { &ANY_STANDARD };
    let Ok(bytes) = engine.decode(run) else { return false };
    let Ok(text) = str::from_utf8(&bytes) else { return false };
    let mut credentials = COMPILED.candidates(text).filter(|(rule, _)| !rule.marks.is_empty());
    credentials.any(|(rule, regex)| {
        regex.captures_iter(text).any(|c| {
            let whole = c.get(0).map_or("", |m| m.as_str());
            let keep = c.name("keep").map_or("", |m| m.as_str());
            (rule.holds)(whole.strip_prefix(keep).unwrap_or(whole))
        })
    })
}

/// Whether it mixes letters and digits as no word, name or hash does.
fn is_random(text: &str) -> bool {
    let count = |is: fn(&u8) -> bool| text.bytes().filter(is).count();
    count(u8::is_ascii_digit) >= 3 && count(u8::is_ascii_uppercase) >= 3 && count(u8::is_ascii_lowercase) >= 3
}

fn has_digit(text: &str) -> bool {
    text.bytes().any(|b| b.is_ascii_digit())
}

fn digits(text: &str) -> Vec<u32> {
    text.chars().filter_map(|c| c.to_digit(10)).collect()
}

/// The check digit of card numbers (ISO/IEC 7812).
fn luhn(text: &str) -> bool {
    let digits = digits(text);
    if !(13..=19).contains(&digits.len()) {
        return false;
    }
    let sum = digits.iter().rev().enumerate().fold(0u32, |sum, (i, d)| {
        let doubled = d.saturating_mul(2);
        let part = if i % 2 == 0 {
            *d
        } else if doubled > 9 {
            doubled.saturating_sub(9)
        } else {
            doubled
        };
        sum.saturating_add(part)
    });
    sum % 10 == 0
}

/// Areas 000 and 666, group 00 and serial 0000 were never given out.
fn ssn(text: &str) -> bool {
    let mut parts = text.split('-');
    let (area, group, serial) = (parts.next(), parts.next(), parts.next());
    !matches!(area, Some("000" | "666") | None) && group != Some("00") && serial != Some("0000")
}

/// The remainder of ISO 13616.
fn iban(text: &str) -> bool {
    let plain: Vec<char> = text.chars().filter(|c| *c != ' ').collect();
    if !(15..=34).contains(&plain.len()) {
        return false;
    }
    let rest = plain.iter().skip(4).chain(plain.iter().take(4)).try_fold(0u32, |rest, c| {
        let value = c.to_digit(36)?;
        let shifted = if value > 9 { rest.saturating_mul(100) } else { rest.saturating_mul(10) };
        Some(shifted.saturating_add(value) % 97)
    });
    rest == Some(1)
}

fn percent_encoded(value: &str) -> String {
    let mut out = String::new();
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &str) -> Vec<&'static str> {
        Screen::default().scrub(text).findings.into_iter().map(|f| f.label).collect()
    }

    /// Assembled here so that no scanner trips over this file.
    fn join(parts: &[&str]) -> String {
        parts.concat()
    }

    #[test]
    fn every_rule_compiles() {
        assert_eq!(COMPILED.rules.len(), RULES.len());
        assert!(COMPILED.marks.is_some() && COMPILED.personal.is_some());
    }

    #[test]
    fn credentials_are_taken_out_by_their_shape() {
        let thirty_six = "a1".repeat(18);
        let cases = [
            (join(&["AK", "IA", "IOSFODNN7EXAMPLE"]), "AWS_KEY"),
            (join(&["AS", "IA", "IOSFODNN7EXAMPLE"]), "AWS_KEY"),
            (join(&["aws_secret_access_key = ", &"x/".repeat(20)]), "AWS_SECRET"),
            (join(&["gh", "p_", &thirty_six]), "GITHUB_TOKEN"),
            (join(&["github", "_pat_", &thirty_six]), "GITHUB_PAT"),
            (join(&["https://x-access-", "token:abc@github.com/x"]), "GITHUB_URL_TOKEN"),
            (join(&["gl", "pat-", &thirty_six]), "GITLAB_TOKEN"),
            (join(&["sk-", "ant-", &thirty_six]), "ANTHROPIC_KEY"),
            (join(&["sk-", "proj-", &thirty_six]), "OPENAI_KEY"),
            (join(&["sk_", "live_", &thirty_six]), "STRIPE_KEY"),
            (join(&["xo", "xb-1234567890-abc"]), "SLACK_TOKEN"),
            (join(&["AI", "za", &"a".repeat(35)]), "GOOGLE_KEY"),
            (join(&["npm", "_", &thirty_six]), "NPM_TOKEN"),
            (join(&["ey", "JhbGciOiJI.ey", "JzdWIiOiIx.abcdefgh1"]), "JWT"),
            (join(&["Authorization: Bearer ", &thirty_six]), "BEARER_TOKEN"),
            (join(&["postgres://ann:hunter", "2@db.example.com/x"]), "CONNECTION_STRING"),
            (join(&["-----BEGIN RSA PRIVATE ", "KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----"]), "PRIVATE_KEY"),
            (join(&["-----BEGIN PRIVATE ", "KEY-----\nMIIE cut off"]), "PRIVATE_KEY"),
            (join(&["redis://:hunter", "2@db.example.com"]), "CONNECTION_STRING"),
            (join(&["Authorization: Basic ", "YW5uOmh1bnRlcjI="]), "AUTHORIZATION"),
            (join(&["https://example.com/x?a=b&access_", "token=0123456789abcdef&c=d"]), "URL_SECRET"),
            (join(&["\"client_", "secret\": \"aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0eF3hI6/+lO\""]), "SECRET_VALUE"),
            (STANDARD_NO_PAD.encode(join(&["gh", "p_", &thirty_six])), "ENCODED_SECRET"),
            (
                URL_SAFE_NO_PAD.encode(join(&["{\"key\":\"AK", "IA", "IOSFODNN7EXAMPLE\",\"n\":\"???>>>\"}"])),
                "ENCODED_SECRET",
            ),
            ("4242 4242 4242 4242".to_owned(), "CARD_NUMBER"),
            ("123-45-6789".to_owned(), "SSN"),
            ("DE89 3704 0044 0532 0130 00".to_owned(), "IBAN"),
        ];
        for (text, label) in cases {
            let text = format!("before {text} after");
            let screened = Screen::default().scrub(&text);
            assert_eq!(screened.findings, [Finding { label, count: 1 }], "{text}");
            assert!(screened.text.contains(&format!("[REDACTED-{label}]")), "{}", screened.text);
            assert!(screened.text.starts_with("before "), "{}", screened.text);
            assert_eq!(Screen::default().scrub(&screened.text).text, screened.text, "stable");
        }
    }

    #[test]
    fn ordinary_output_stays_as_it_is() {
        for text in [
            "see http://example.com/a:b and write to me@example.com",
            "http://example.com/a:b\nme@x.com",
            "commit 4b825dc642cb6eb9a060e54bf8d69288fbee4904",
            "Author: Ann <ann@example.com>",
            "1234 5678 9012 3456 is no card number",
            "task-force-for-a-skip-list-that-is-long-enough-to-look-odd",
            "000-12-3456",
            "let x: Vec<String> = bearer of news();",
            "https://user@host/path",
            "let token = parse_the_next_token_of_this_very_long_stream(input);",
            "token: 4b825dc642cb6eb9a060e54bf8d69288fbee4904",
            "curl \"$URL?token=${TOKEN}&secret=<yours>\"",
            "access_key = env::var(\"AWS_ACCESS_KEY_ID_OF_THE_OTHER_ACCOUNT\")",
            "dGhpcyBpcyBqdXN0IGEgc2VudGVuY2UgaW4gYmFzZTY0IHdpdGggbm90aGluZyB0byBoaWRl",
            "abca-core/src/prompt/a_long_path_to_a_file/with_parts.rs",
        ] {
            assert_eq!(labels(text), Vec::<&str>::new(), "{text}");
            assert_eq!(Screen::default().scrub(text).text, text);
        }
    }

    #[test]
    fn known_values_are_found_in_every_form() {
        let secret = "pa55 word/+?";
        let screen = Screen::default().with_known([SecretString::from(secret), SecretString::from("short")]);
        for form in [secret.to_owned(), percent_encoded(secret), STANDARD_NO_PAD.encode(secret)] {
            let screened = screen.scrub(&format!("x={form};"));
            assert_eq!(screened.text, "x=[REDACTED-KNOWN_SECRET];");
        }
        assert_eq!(screen.scrub("short").text, "short");
        assert!(!format!("{screen:?}").contains("pa55"));
    }

    #[test]
    fn hostile_megabytes_end() {
        for unit in [
            "-----BEGIN PRIVATE KEY-----",
            "a://a:",
            "bearer ",
            "eyJ",
            "4",
            "DE89 ",
            "token=",
            "secret",
            "?token=a",
            "Z2hwX2",
        ] {
            let _ = Screen::default().scrub(&unit.repeat(200_000 / unit.len()));
        }
    }
}
