//! Takes credentials and, where asked, personal data out of what a model, a log or a person is about to see.
//!
//! A text is read once for the keywords of all rules ([`Rule`]) and of all values that the platform handed out; a pattern is
//! tried only where one of its keywords stands. Time is linear in the text, whatever it holds; nothing is dropped, whatever its length.
//!
//! A [`Screen`] reads whole texts, a [`ScreenStream`] texts that arrive in pieces: both give the same, wherever the pieces
//! are cut. The rules' sources and what gets past them are in the book, *What guards see in text*.

mod base64;
mod builtin;
mod check;
mod config;
mod engine;
mod known;
mod rule;
mod stream;
mod tail;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

pub use check::Checksum;
pub use config::{PersonalData, ScreenBuilder, ScreenConfig};
pub use rule::{MAX_PATTERN_BYTES, MAX_REACH_BYTES, MIN_KEYWORD_BYTES, Rule, RuleError, RuleKind, RulePlace, Severity};
pub use stream::ScreenStream;
pub use tail::Tail;

use engine::{Engine, Search, Sink, View};

const KNOWN_ID: &str = "known-secret";
const KNOWN_LABEL: &str = "[REDACTED-KNOWN_SECRET]";
/// Stands for a text that could not be screened.
const WITHHELD: &str = "[REDACTED-UNSCREENED]";

/// What was found: which rule, what kind, where; never the secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The rule's name, e.g. `github-token`; `known-secret` for a value that the platform handed out.
    pub rule: String,
    /// What it is.
    pub kind: RuleKind,
    /// How bad.
    pub severity: Severity,
    /// Whether its checksum or structure says so too, or it is a value that the platform handed out.
    pub verified: bool,
    /// Where it stood in the text as it was given, in bytes. What several rules found in one place is one finding.
    pub range: Range<usize>,
}

impl Finding {
    /// Whether it is a secret for certain: a value that the platform handed out, or a critical one whose checksum holds.
    pub fn is_certain(&self) -> bool {
        self.kind == RuleKind::Known || (self.verified && self.severity == Severity::Critical)
    }
}

/// A text without what must not be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Screened {
    /// The text; each finding stands as `[REDACTED-<RULE>]`.
    pub text: String,
    /// What was taken out, in order.
    pub findings: Vec<Finding>,
}

impl Screened {
    /// What was found, in words: `2 github-token, 1 jwt`; empty when nothing was.
    pub fn summary(&self) -> String {
        summary(&self.findings)
    }
}

/// What was found, in words: `2 github-token, 1 jwt`; empty when nothing was.
pub fn summary(findings: &[Finding]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for finding in findings {
        let count = counts.entry(&finding.rule).or_default();
        *count = count.saturating_add(1);
    }
    counts.into_iter().map(|(rule, count)| format!("{count} {rule}")).collect::<Vec<_>>().join(", ")
}

/// Finds and takes out. Cheap to clone, shows no secret in `Debug`.
///
/// The default has abca's rules for credentials, and no personal data.
///
/// ```
/// use abca_core::text::Screen;
///
/// let screen = Screen::default().with_known(["correct horse".to_owned().into()]);
/// let screened = screen.scrub("x=Y29ycmVjdCBob3JzZQ== y=correct%20horse");
/// assert_eq!(screened.text, "x=[REDACTED-KNOWN_SECRET]== y=[REDACTED-KNOWN_SECRET]");
/// assert_eq!(screened.findings[0].range, 2..20);
/// ```
#[derive(Clone)]
pub struct Screen {
    engine: Arc<Engine>,
}

static DEFAULT: LazyLock<Arc<Engine>> = LazyLock::new(|| {
    let rules = builtin::credentials().into_iter().map(|rule| Arc::new(engine::Ready::builtin(rule))).collect();
    Arc::new(Engine::new(rules, Vec::new()))
});

impl Default for Screen {
    fn default() -> Self {
        Self { engine: DEFAULT.clone() }
    }
}

impl fmt::Debug for Screen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rules, known) = (self.engine.rules.len(), self.engine.known.len());
        f.debug_struct("Screen").field("rules", &rules).field("known", &known).finish()
    }
}

impl Screen {
    /// A screen with rules of your own, or other personal data than none.
    pub fn builder() -> ScreenBuilder {
        ScreenBuilder::default()
    }

    /// Also takes out these exact values, of at least eight bytes (shorter ones would be found everywhere, and are not
    /// looked for): plain; escaped by percent, backslash, `\u0061` or HTML entities, byte by byte in any mixture; in
    /// hexadecimal digits of either case; in base64 of both alphabets at any alignment. Digits may be broken into lines. Of a value
    /// of several lines, each line of twenty bytes too.
    #[must_use]
    pub fn with_known(self, secrets: impl IntoIterator<Item = SecretString>) -> Self {
        let mut known = self.engine.known.clone();
        known.extend(secrets);
        Self { engine: Arc::new(Engine::new(self.engine.rules.clone(), known)) }
    }

    /// A screen that looks for the known values of this one, and for nothing by its form.
    #[must_use]
    pub fn only_known(&self) -> Self {
        Self { engine: Arc::new(Engine::new(Vec::new(), self.engine.known.clone())) }
    }

    /// The names of the rules, in order of precedence.
    pub fn rule_ids(&self) -> impl Iterator<Item = &str> {
        self.engine.rules.iter().map(|ready| ready.rule.id.as_str())
    }

    /// The text without what must not be seen, and what that was. Nothing else is changed, nothing is cut.
    ///
    /// Linear in the text; screened again, it stays as it is. Should the screen's automaton not have been built (some gigabytes of
    /// keywords), nothing is let through: the text is then `[REDACTED-UNSCREENED]`.
    pub fn scrub(&self, text: &str) -> Screened {
        let mut out = Screened { text: String::with_capacity(text.len()), findings: Vec::new() };
        if !self.engine.is_ready() {
            out.text.push_str(WITHHELD);
            return out;
        }
        let view = View { text, base: 0 };
        Search::default().finish(&self.engine, view, &mut Sink { text: &mut out.text, findings: &mut out.findings });
        out
    }

    /// The same for a text that arrives in pieces.
    pub fn stream(&self) -> ScreenStream {
        ScreenStream::new(self.engine.clone())
    }
}

#[cfg(test)]
mod tests;
