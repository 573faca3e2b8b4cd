//! Rules as data: what a secret looks like, and how a real one is told from a look-alike.

use std::fmt;

use regex::RegexBuilder;
use regex_syntax::hir::HirKind;
use serde::{Deserialize, Serialize};

use super::check::Checksum;
use super::tail::Tail;

/// Most bytes that a pattern may match; what may be longer goes on by [`Rule::tail`].
pub const MAX_PATTERN_BYTES: usize = 1024;
/// Most bytes before its keyword at which a match may begin.
pub const MAX_REACH_BYTES: u16 = 64;
/// Shortest keyword of a rule of your own.
pub const MIN_KEYWORD_BYTES: usize = 3;
/// Most bytes of a compiled pattern, as the regex engine counts.
const MAX_COMPILED_BYTES: usize = 1 << 20;

/// What a rule finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleKind {
    /// What opens a door: a token, a key, a password.
    Credential,
    /// What tells of a person.
    Personal,
    /// A value that the platform itself handed out. Not for rules of your own.
    Known,
}

/// How bad it is when it gets out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Perhaps nothing.
    Low,
    /// Opens little, or may be a look-alike.
    Medium,
    /// Opens a door.
    #[default]
    High,
    /// Opens a door for certain.
    Critical,
}

/// A rule of the scanner.
///
/// A text is read once for all keywords of all rules; a pattern is tried only where one of its keywords stands. With
/// `reach_bytes` 0 the pattern must begin with the keyword.
///
/// ```
/// use abca_core::text::{Rule, Screen};
///
/// let rule: Rule = serde_json::from_str(r#"{
///     "id": "acme-token", "keywords": ["acme_"], "pattern": "acme_[a-z0-9]{16}", "tail": "alphanumeric",
///     "min_entropy": 3.0, "examples": ["acme_q7w2e9r4t1y8u3i6"]
/// }"#)?;
/// let screen = Screen::builder().rule(rule).build()?;
/// assert_eq!(screen.scrub("key acme_q7w2e9r4t1y8u3i6!").text, "key [REDACTED-ACME_TOKEN]!");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Its name, e.g. `acme-token`: lower-case letters, digits and hyphens. What it finds is shown as `[REDACTED-ACME_TOKEN]`.
    pub id: String,
    /// What it finds. Default: a credential.
    #[serde(default = "credential")]
    pub kind: RuleKind,
    /// How bad. Default: high.
    #[serde(default)]
    pub severity: Severity,
    /// Words of which one stands in every match, in any case; each of at least [`MIN_KEYWORD_BYTES`] ASCII characters.
    pub keywords: Vec<String>,
    /// The pattern, in the syntax of the `regex` crate: case-sensitive unless it says `(?i)`, at most [`MAX_PATTERN_BYTES`] long,
    /// without `*` and `+`. What a group named `secret` matched is taken out; without such a group, all of it.
    pub pattern: String,
    /// How many bytes before its keyword a match may begin; at most [`MAX_REACH_BYTES`]. Default 0.
    #[serde(default)]
    pub reach_bytes: u16,
    /// Whether a letter, digit or underscore right before the match forbids it. Default true. (Escapes as `\n` and `%20` are
    /// no letters.) For rules without reach.
    #[serde(default = "yes")]
    pub boundary: bool,
    /// What follows the match and belongs to the secret, however long. Default: nothing.
    #[serde(default)]
    pub tail: Tail,
    /// Least Shannon entropy of the secret's first 128 bytes, in bits per byte. Default: any.
    #[serde(default)]
    pub min_entropy: Option<f64>,
    /// The checksum or structure of the secret.
    #[serde(default)]
    pub checksum: Option<Checksum>,
    /// Also where a text was base64-encoded, at any alignment. For rules without reach whose keywords have four
    /// characters and are written in the case that the secret has. Default false.
    #[serde(default)]
    pub encoded: bool,
    /// Texts that the rule must find something in; tried when it is loaded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<String>,
}

fn credential() -> RuleKind {
    RuleKind::Credential
}

fn yes() -> bool {
    true
}

/// Which part of a rule is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RulePlace {
    /// [`Rule::id`].
    Id,
    /// [`Rule::kind`].
    Kind,
    /// [`Rule::keywords`], the one at this position.
    Keyword(usize),
    /// [`Rule::pattern`], at this byte.
    Pattern(usize),
    /// [`Rule::reach_bytes`].
    Reach,
    /// [`Rule::min_entropy`].
    MinEntropy,
    /// [`Rule::encoded`].
    Encoded,
    /// [`Rule::examples`], the one at this position.
    Example(usize),
}

impl fmt::Display for RulePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id => f.write_str("`id`"),
            Self::Kind => f.write_str("`kind`"),
            Self::Keyword(n) => write!(f, "`keywords[{n}]`"),
            Self::Pattern(at) => write!(f, "`pattern`, byte {at}"),
            Self::Reach => f.write_str("`reach_bytes`"),
            Self::MinEntropy => f.write_str("`min_entropy`"),
            Self::Encoded => f.write_str("`encoded`"),
            Self::Example(n) => write!(f, "`examples[{n}]`"),
        }
    }
}

/// A rule that cannot be used: which, where, why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("rule `{rule}`, {place}: {why}")]
pub struct RuleError {
    /// The rule's name as given, cut to 80 characters.
    pub rule: String,
    /// Which part of it.
    pub place: RulePlace,
    /// What is wrong, and what to do.
    pub why: String,
}

impl Rule {
    pub(super) fn error(&self, place: RulePlace, why: impl Into<String>) -> RuleError {
        RuleError { rule: crate::text::preview(&self.id, 80), place, why: why.into() }
    }

    /// What stands in place of what it finds.
    pub(super) fn label(&self) -> String {
        format!("[REDACTED-{}]", self.id.to_ascii_uppercase().replace('-', "_"))
    }

    /// Everything that can be said of a rule without trying it; its longest match in bytes.
    pub(super) fn validate(&self) -> Result<usize, RuleError> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if self.id.is_empty() || self.id.len() > 64 || !self.id.chars().all(plain) {
            return Err(self.error(RulePlace::Id, "use 1 to 64 lower-case letters, digits and hyphens"));
        }
        if self.kind == RuleKind::Known {
            return Err(self.error(RulePlace::Kind, "`known` is for values that the platform handed out"));
        }
        if self.keywords.is_empty() {
            return Err(self.error(RulePlace::Keyword(0), "a rule needs a keyword, or it would be tried everywhere"));
        }
        for (n, keyword) in self.keywords.iter().enumerate() {
            if keyword.len() < MIN_KEYWORD_BYTES || keyword.len() > 64 || !keyword.is_ascii() {
                let why = format!("`{}` is not of 3 to 64 ASCII characters", crate::text::preview(keyword, 80));
                return Err(self.error(RulePlace::Keyword(n), why));
            }
            if self.encoded && keyword.len() < 4 {
                let why = format!("`{keyword}` is too short to be looked for in base64: use four characters");
                return Err(self.error(RulePlace::Encoded, why));
            }
        }
        if self.encoded && self.reach_bytes > 0 {
            return Err(self.error(RulePlace::Encoded, "not together with `reach_bytes`"));
        }
        if self.reach_bytes > MAX_REACH_BYTES {
            return Err(self.error(RulePlace::Reach, format!("at most {MAX_REACH_BYTES}")));
        }
        if self.min_entropy.is_some_and(|bits| !(0.0..=8.0).contains(&bits)) {
            return Err(self.error(RulePlace::MinEntropy, "bits per byte are between 0 and 8"));
        }
        self.longest()
    }

    pub(super) fn longest(&self) -> Result<usize, RuleError> {
        let hir = regex_syntax::Parser::new().parse(&self.pattern).map_err(|e| {
            let (at, why) = match &e {
                regex_syntax::Error::Parse(e) => (e.span().start.offset, e.kind().to_string()),
                regex_syntax::Error::Translate(e) => (e.span().start.offset, e.kind().to_string()),
                _ => (0, "not a pattern".to_owned()),
            };
            self.error(RulePlace::Pattern(at), why)
        })?;
        let properties = hir.properties();
        if matches!(hir.kind(), HirKind::Empty) || properties.minimum_len().unwrap_or(0) == 0 {
            return Err(self.error(RulePlace::Pattern(0), "it matches nothing at all"));
        }
        match properties.maximum_len() {
            Some(longest) if longest <= MAX_PATTERN_BYTES => Ok(longest),
            Some(_) => {
                Err(self.error(RulePlace::Pattern(0), format!("it matches more than {MAX_PATTERN_BYTES} bytes")))
            }
            None => Err(self.error(
                RulePlace::Pattern(0),
                "it matches without end: bound each repetition as in `{16}`, and let `tail` take the rest",
            )),
        }
    }

    /// The pattern, to be tried from a place on.
    pub(super) fn compiled(&self) -> Result<regex::Regex, RuleError> {
        let pattern = if self.reach_bytes > 0 { self.pattern.clone() } else { format!(r"\A(?:{})", self.pattern) };
        RegexBuilder::new(&pattern)
            .size_limit(MAX_COMPILED_BYTES)
            .build()
            .map_err(|_| self.error(RulePlace::Pattern(0), "it is too large to compile"))
    }
}
