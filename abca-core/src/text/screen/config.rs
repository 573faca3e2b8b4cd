//! Which rules a screen has.

use std::collections::BTreeSet;
use std::sync::Arc;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::engine::{Engine, Ready};
use super::{Rule, RuleError, RulePlace, Screen, builtin};

/// Personal data that a screen can look for. None is looked for unless it is asked for: the output of git is full of e-mail
/// addresses, and any long number may be a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PersonalData {
    /// E-mail addresses, but for those at `example` domains and `noreply` ones.
    Email,
    /// Phone numbers in international form, and North American ones with separators.
    Phone,
    /// Payment card numbers with their check digit.
    PaymentCard,
    /// Bank accounts, by ISO 13616.
    Iban,
    /// National numbers with a checkable form: US, UK, ES, IT, FR, BR, IN.
    NationalNumber,
}

impl PersonalData {
    /// All kinds.
    pub const ALL: [Self; 5] = [Self::Email, Self::Phone, Self::PaymentCard, Self::Iban, Self::NationalNumber];
}

/// What a screen looks for beside abca's own rules, as data.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ScreenConfig {
    /// Personal data to take out. Default: none.
    pub personal: BTreeSet<PersonalData>,
    /// Rules of your own; they take precedence over abca's.
    pub rules: Vec<Rule>,
    /// Names of abca's rules that are left out.
    pub disabled: BTreeSet<String>,
}

impl ScreenConfig {
    /// Whether it asks for nothing but abca's own rules.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Both: personal data that either names, the rules of both, without what either leaves out. A rule that is in both alike
    /// is there once.
    #[must_use]
    pub fn with(&self, other: &Self) -> Self {
        let mut both = self.clone();
        both.personal.extend(&other.personal);
        both.rules.extend(other.rules.iter().filter(|rule| !self.rules.contains(rule)).cloned());
        both.disabled.extend(other.disabled.iter().cloned());
        both
    }
}

/// Puts a screen together; [`Screen::builder`].
#[derive(Debug, Clone, Default)]
pub struct ScreenBuilder {
    config: ScreenConfig,
    known: Vec<SecretString>,
}

impl ScreenBuilder {
    /// Takes all of a configuration.
    #[must_use]
    pub fn config(mut self, config: ScreenConfig) -> Self {
        self.config = config;
        self
    }

    /// Adds a rule of your own.
    #[must_use]
    pub fn rule(mut self, rule: Rule) -> Self {
        self.config.rules.push(rule);
        self
    }

    /// Also takes out personal data of these kinds.
    #[must_use]
    pub fn personal(mut self, kinds: impl IntoIterator<Item = PersonalData>) -> Self {
        self.config.personal.extend(kinds);
        self
    }

    /// Leaves out one of abca's rules.
    #[must_use]
    pub fn without(mut self, id: impl Into<String>) -> Self {
        self.config.disabled.insert(id.into());
        self
    }

    /// Also takes out these values; see [`Screen::with_known`].
    #[must_use]
    pub fn known(mut self, secrets: impl IntoIterator<Item = SecretString>) -> Self {
        self.known.extend(secrets);
        self
    }

    /// The screen.
    ///
    /// # Errors
    ///
    /// The first rule that cannot be used: its name, the place in it, why.
    pub fn build(self) -> Result<Screen, RuleError> {
        let builtin: Vec<Rule> = builtin::credentials();
        let unknown = |id: &&String| !builtin.iter().any(|rule| rule.id == **id);
        if let Some(id) = self.config.disabled.iter().find(unknown) {
            let rule = crate::text::preview(id, 80);
            return Err(RuleError { rule, place: RulePlace::Id, why: "there is no such rule to leave out".to_owned() });
        }
        let personal: Vec<Rule> = self.config.personal.iter().flat_map(|kind| builtin::personal(*kind)).collect();
        let mut ids: BTreeSet<String> = builtin.iter().chain(&personal).map(|rule| rule.id.clone()).collect();
        let mut rules = Vec::new();
        for rule in self.config.rules {
            if !ids.insert(rule.id.clone()) {
                return Err(rule.error(RulePlace::Id, "there is a rule of that name already"));
            }
            let ready = Ready::new(rule)?;
            ready.check()?;
            tried(&ready.rule)?;
            rules.push(Arc::new(ready));
        }
        let kept = builtin.into_iter().filter(|rule| !self.config.disabled.contains(&rule.id));
        rules.extend(kept.chain(personal).map(|rule| Arc::new(Ready::builtin(rule))));
        Ok(Screen { engine: Arc::new(Engine::new(rules, self.known)) })
    }
}

/// Tries a rule on its examples.
fn tried(rule: &Rule) -> Result<(), RuleError> {
    if rule.examples.is_empty() {
        return Ok(());
    }
    let alone = Screen { engine: Arc::new(Engine::new(vec![Arc::new(Ready::new(rule.clone())?)], Vec::new())) };
    for (n, example) in rule.examples.iter().enumerate() {
        if alone.scrub(example).findings.is_empty() {
            let why = "nothing was found in it: compare keywords, pattern, entropy and checksum with it";
            return Err(rule.error(RulePlace::Example(n), why));
        }
    }
    Ok(())
}
