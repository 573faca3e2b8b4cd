//! What a row of the table is.

use super::Classification;

/// A row of the table: words that a text must and must not hold, and what it then means.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// Of each group one, in lower case.
    all: &'static [&'static [&'static str]],
    /// None of these, in lower case.
    none: &'static [&'static str],
    verdict: Classification,
}

impl Rule {
    /// The stable name of the row.
    pub const fn code(&self) -> &'static str {
        self.verdict.code
    }

    /// What a text that the row matches means.
    pub const fn verdict(&self) -> Classification {
        self.verdict
    }

    /// Whether the row matches a text, without regard to ASCII case.
    pub fn matches(&self, text: &str) -> bool {
        self.matches_lower(&text.to_ascii_lowercase())
    }

    pub(super) fn matches_lower(&self, lower: &str) -> bool {
        self.all.iter().all(|group| group.iter().any(|words| lower.contains(words)))
            && !self.none.iter().any(|words| lower.contains(words))
    }

    pub(super) const fn unless(self, none: &'static [&'static str]) -> Self {
        Self { none, ..self }
    }
}

pub(super) const fn row(all: &'static [&'static [&'static str]], verdict: Classification) -> Rule {
    Rule { all, none: &[], verdict }
}
