//! Takes credentials and personal data out of tool outputs before a model, a log or a person sees them.
//!
//! Rules are data: a label, a pattern, and for some a check that tells a real one from a look-alike. The shapes are the
//! reference platform's (`behaviour.md` 6.1) with its known misses covered. E-mail addresses stay: the output of git is
//! full of them, and they open no door.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickBuilder, MatchKind};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
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
    /// The pattern; when it has a group `keep`, that part stays.
    pattern: &'static str,
    holds: fn(&str) -> bool,
}

const fn always(_: &str) -> bool {
    true
}

const RULES: &[Rule] = &[
    Rule {
        label: "PRIVATE_KEY",
        pattern: r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----(?s:.*?)(?:-----END (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----|\z)",
        holds: always,
    },
    Rule { label: "AWS_KEY", pattern: r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b", holds: always },
    Rule {
        label: "AWS_SECRET",
        pattern: r#"(?i)(?P<keep>\b(?:aws_secret_access_key|aws_session_token|secretaccesskey|sessiontoken)[\s=:"']{1,8})[A-Za-z0-9/+=]{40,}"#,
        holds: always,
    },
    Rule { label: "GITHUB_PAT", pattern: r"\bgithub_pat_[A-Za-z0-9_]{22,}", holds: always },
    Rule { label: "GITHUB_TOKEN", pattern: r"\bgh[posur]_[A-Za-z0-9]{36,}", holds: always },
    Rule { label: "GITHUB_URL_TOKEN", pattern: r"x-access-token:[^\s@/]+@", holds: always },
    Rule { label: "GITLAB_TOKEN", pattern: r"\bgl(?:pat|ptt|rt|dt|cbt)-[A-Za-z0-9_-]{20,}", holds: always },
    Rule { label: "ANTHROPIC_KEY", pattern: r"\bsk-ant-[A-Za-z0-9_-]{20,}", holds: always },
    Rule { label: "OPENAI_KEY", pattern: r"\bsk-(?:proj-|svcacct-|admin-)?[A-Za-z0-9_-]{32,}", holds: has_digit },
    Rule { label: "STRIPE_KEY", pattern: r"\b[rs]k_(?:live|test)_[A-Za-z0-9]{16,}", holds: always },
    Rule { label: "SLACK_TOKEN", pattern: r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}", holds: always },
    Rule { label: "SLACK_WEBHOOK", pattern: r"https://hooks\.slack\.com/services/[A-Za-z0-9/]{20,}", holds: always },
    Rule { label: "GOOGLE_KEY", pattern: r"\bAIza[A-Za-z0-9_-]{35}", holds: always },
    Rule { label: "GOOGLE_SECRET", pattern: r"\bGOCSPX-[A-Za-z0-9_-]{20,}", holds: always },
    Rule { label: "AZURE_KEY", pattern: r"(?P<keep>AccountKey=)[A-Za-z0-9+/]{86}==", holds: always },
    Rule { label: "NPM_TOKEN", pattern: r"\bnpm_[A-Za-z0-9]{36}\b", holds: always },
    Rule { label: "PYPI_TOKEN", pattern: r"\bpypi-[A-Za-z0-9_-]{50,}", holds: always },
    Rule { label: "CARGO_TOKEN", pattern: r"\bcio[A-Za-z0-9]{32}\b", holds: always },
    Rule { label: "JWT", pattern: r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}", holds: always },
    Rule { label: "BEARER_TOKEN", pattern: r"(?i)(?P<keep>\bbearer\s{1,4})[A-Za-z0-9._~+/-]{20,}=*", holds: has_digit },
    Rule {
        label: "CONNECTION_STRING",
        pattern: r#"(?P<keep>\b[a-z][a-z0-9+.-]{1,20}://[^\s:/@"']{1,64}:)[^\s@"'/]{1,256}(?P<rest>@[A-Za-z0-9\[])"#,
        holds: always,
    },
    Rule { label: "CARD_NUMBER", pattern: r"\b[3-6][0-9]{3}(?:[ -]?[0-9]{4}){2}[ -]?[0-9]{1,7}\b", holds: luhn },
    Rule { label: "SSN", pattern: r"\b[0-8][0-9]{2}-[0-9]{2}-[0-9]{4}\b", holds: ssn },
    Rule { label: "IBAN", pattern: r"\b[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b", holds: iban },
];

/// Marks without which no rule can match: a text that has none of them is clean, and is not looked at again.
const MARKS: &[&str] = &[
    "PRIVATE KEY",
    "AKIA",
    "ASIA",
    "ABIA",
    "ACCA",
    "secret",
    "token",
    "github_pat_",
    "ghp_",
    "gho_",
    "ghs_",
    "ghu_",
    "ghr_",
    "glpat-",
    "glptt-",
    "glrt-",
    "gldt-",
    "glcbt-",
    "sk-",
    "sk_",
    "rk_",
    "xox",
    "slack",
    "AIza",
    "GOCSPX-",
    "AccountKey",
    "npm_",
    "pypi-",
    "cio",
    "eyJ",
    "bearer",
    "://",
];

struct Compiled {
    rules: Vec<(&'static Rule, Regex)>,
    marks: Option<AhoCorasick>,
}

static COMPILED: LazyLock<Compiled> = LazyLock::new(|| Compiled {
    // That all of them compile is a test; here nothing may panic.
    rules: RULES.iter().filter_map(|rule| Regex::new(rule.pattern).ok().map(|regex| (rule, regex))).collect(),
    marks: AhoCorasickBuilder::new().ascii_case_insensitive(true).build(MARKS).ok(),
});

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
        let marked = COMPILED.marks.as_ref().is_none_or(|marks| marks.is_match(text.as_ref()));
        for (rule, regex) in &COMPILED.rules {
            if !marked && !is_personal(rule.label) {
                continue;
            }
            let mut found = 0usize;
            let replaced = regex.replace_all(&text, |c: &Captures<'_>| {
                let whole = c.get(0).map_or("", |m| m.as_str());
                if !(rule.holds)(whole) {
                    return whole.to_owned();
                }
                found = found.saturating_add(1);
                let part = |name: &str| c.name(name).map_or("", |m| m.as_str());
                format!("{}[REDACTED-{}]{}", part("keep"), rule.label, part("rest"))
            });
            if found > 0 {
                let count = counts.entry(rule.label).or_default();
                *count = count.saturating_add(found);
                text = Cow::Owned(replaced.into_owned());
            }
        }
        Screened {
            text: text.into_owned(),
            findings: counts.into_iter().map(|(label, count)| Finding { label, count }).collect(),
        }
    }
}

fn is_personal(label: &str) -> bool {
    matches!(label, "CARD_NUMBER" | "SSN" | "IBAN")
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
        assert!(COMPILED.marks.is_some());
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
        for unit in ["-----BEGIN PRIVATE KEY-----", "a://a:", "bearer ", "eyJ", "4", "DE89 "] {
            let _ = Screen::default().scrub(&unit.repeat(200_000 / unit.len()));
        }
    }
}
