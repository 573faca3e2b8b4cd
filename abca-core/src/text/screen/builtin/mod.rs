//! abca's own rules, by family. Sources of the formats: their vendors' pages, and what public scanners agree on.

mod assigned;
mod clouds;
mod forges;
mod keys;
mod personal;
mod services;

use super::config::PersonalData;
use super::{Checksum, Rule, RuleKind, Severity, Tail};

/// A row of a table of rules.
#[derive(Clone, Copy)]
struct Row {
    id: &'static str,
    severity: Severity,
    keywords: &'static [&'static str],
    pattern: &'static str,
    reach: u16,
    boundary: bool,
    tail: Tail,
    entropy: Option<f64>,
    checksum: Option<Checksum>,
    encoded: bool,
}

impl Row {
    /// A rule whose pattern begins with its keyword.
    const fn new(id: &'static str, keywords: &'static [&'static str], pattern: &'static str) -> Self {
        Self {
            id,
            severity: Severity::High,
            keywords,
            pattern,
            reach: 0,
            boundary: true,
            tail: Tail::None,
            entropy: None,
            checksum: None,
            encoded: false,
        }
    }

    /// A token that its prefix tells for what it is: also in base64, and not where it is all the same letter.
    const fn token(id: &'static str, keywords: &'static [&'static str], pattern: &'static str, tail: Tail) -> Self {
        Self { tail, entropy: Some(3.0), encoded: true, ..Self::new(id, keywords, pattern) }
    }

    const fn severity(self, severity: Severity) -> Self {
        Self { severity, ..self }
    }

    const fn check(self, checksum: Checksum) -> Self {
        Self { checksum: Some(checksum), ..self }
    }

    const fn entropy(self, bits: f64) -> Self {
        Self { entropy: Some(bits), ..self }
    }

    const fn reach(self, bytes: u16) -> Self {
        Self { reach: bytes, ..self }
    }

    const fn tail(self, tail: Tail) -> Self {
        Self { tail, ..self }
    }

    const fn in_base64(self) -> Self {
        Self { encoded: true, ..self }
    }

    /// May stand right behind a letter or digit.
    const fn anywhere(self) -> Self {
        Self { boundary: false, ..self }
    }

    /// Is too short or too plain to be looked for in base64.
    const fn plain(self) -> Self {
        Self { encoded: false, ..self }
    }

    fn rule(&self, kind: RuleKind) -> Rule {
        Rule {
            id: self.id.to_owned(),
            kind,
            severity: self.severity,
            keywords: self.keywords.iter().map(|k| (*k).to_owned()).collect(),
            pattern: self.pattern.to_owned(),
            reach_bytes: self.reach,
            boundary: self.boundary,
            tail: self.tail,
            min_entropy: self.entropy,
            checksum: self.checksum,
            encoded: self.encoded,
            examples: Vec::new(),
        }
    }
}

/// The rules for credentials, in order of precedence.
pub(super) fn credentials() -> Vec<Rule> {
    let families = [keys::ROWS, forges::ROWS, clouds::ROWS, services::ROWS, assigned::ROWS];
    families.into_iter().flatten().map(|row| row.rule(RuleKind::Credential)).collect()
}

/// The rules for a kind of personal data.
pub(super) fn personal(kind: PersonalData) -> Vec<Rule> {
    personal::rows(kind).iter().map(|row| row.rule(RuleKind::Personal)).collect()
}
