//! What models cost and how much they hold: a dated list, overridable.

use std::collections::BTreeMap;
use std::sync::Arc;

use abca_core::model::{ModelCapabilities, Price};
use serde::Deserialize;

/// The built-in list. Its `as_of` is the day on which it was true.
const LIST: &str = include_str!("prices.json");

/// What a client's wire can do with any model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// Counts tokens and has cache marks.
    Anthropic,
    /// Counts tokens and has cache marks.
    Bedrock,
    /// Counts nothing; caching is the provider's own affair.
    OpenAi,
}

/// Prices and windows by model id.
///
/// An id is looked up as it is and then without what providers put around it: the region and vendor of a Bedrock
/// profile or its ARN, a date, a version. An unknown model gets a window of 128 000 tokens, answers of 8 192, no
/// images and **no price**: a budget cannot be kept then, and is refused.
#[derive(Debug, Clone)]
pub struct Prices {
    list: Arc<List>,
    overrides: BTreeMap<String, Price>,
    capabilities: BTreeMap<String, ModelCapabilities>,
}

#[derive(Debug, Deserialize)]
struct List {
    as_of: String,
    bedrock_regional_percent: u64,
    models: BTreeMap<String, Entry>,
}

#[derive(Debug, Clone, Deserialize)]
struct Entry {
    input: Dollars,
    output: Dollars,
    cache_read: Dollars,
    cache_write: Dollars,
    window: u32,
    max_output: u32,
    images: bool,
    #[serde(default)]
    regional: bool,
}

/// Dollars in a decimal text, as micro-dollars.
#[derive(Debug, Clone, Copy)]
struct Dollars(u64);

impl<'de> Deserialize<'de> for Dollars {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = <&str>::deserialize(d)?;
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        format!("{whole}{fraction:0<6}").parse().map(Self).map_err(serde::de::Error::custom)
    }
}

impl Default for Prices {
    fn default() -> Self {
        // A list that is no list fails the tests, not a user; without one every price would be unknown.
        let list = serde_json::from_str(LIST).unwrap_or_else(|_| List {
            as_of: String::new(),
            bedrock_regional_percent: 0,
            models: BTreeMap::new(),
        });
        Self { list: Arc::new(list), overrides: BTreeMap::new(), capabilities: BTreeMap::new() }
    }
}

impl Prices {
    /// The day of the built-in list, `YYYY-MM-DD`.
    pub fn as_of(&self) -> &str {
        &self.list.as_of
    }

    /// Another price for exactly this id, in micro-dollars per million tokens.
    #[must_use]
    pub fn with_override(mut self, model: impl Into<String>, price: Price) -> Self {
        self.overrides.insert(model.into(), price);
        self
    }

    /// Everything about exactly this id, e.g. a self-hosted model. A price from [`Self::with_override`] still wins.
    #[must_use]
    pub fn with_model(mut self, model: impl Into<String>, capabilities: ModelCapabilities) -> Self {
        self.capabilities.insert(model.into(), capabilities);
        self
    }

    /// What the model can do through a wire, and what it costs.
    pub fn capabilities(&self, model: &str, family: Family) -> ModelCapabilities {
        let mut capabilities = match self.capabilities.get(model) {
            Some(known) => known.clone(),
            None => self.listed(model, family),
        };
        if let Some(price) = self.overrides.get(model) {
            capabilities.price = Some(*price);
        }
        capabilities
    }

    fn listed(&self, model: &str, family: Family) -> ModelCapabilities {
        let marks = matches!(family, Family::Anthropic | Family::Bedrock);
        let (id, regional) = plain(model);
        match self.list.models.get(id) {
            Some(e) => {
                let percent = if regional && e.regional { 100 + self.list.bedrock_regional_percent } else { 100 };
                let price = |d: Dollars| d.0.saturating_mul(percent).div_ceil(100);
                ModelCapabilities {
                    context_window_tokens: e.window,
                    max_output_tokens: e.max_output,
                    images: e.images,
                    caching: marks,
                    counts_tokens: marks,
                    price: Some(Price {
                        input: price(e.input),
                        output: price(e.output),
                        cache_read: price(e.cache_read),
                        cache_write: price(e.cache_write),
                    }),
                }
            }
            None => ModelCapabilities {
                context_window_tokens: 128_000,
                max_output_tokens: 8_192,
                images: false,
                caching: marks,
                counts_tokens: marks,
                price: None,
            },
        }
    }
}

/// The id without a provider's wrapping, and whether it goes through a regional Bedrock profile.
fn plain(model: &str) -> (&str, bool) {
    let id = model.rsplit('/').next().unwrap_or(model);
    let (id, regional) = match id.split_once("anthropic.") {
        Some(("global." | "", rest)) => (rest, false),
        Some((prefix, rest)) if prefix.len() <= 8 && prefix.ends_with('.') => (rest, true),
        Some(_) | None => (id, false),
    };
    let id = id.split_once(':').map_or(id, |(id, _)| id);
    let id = match id.rsplit_once("-v") {
        Some((head, version)) if !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit()) => head,
        Some(_) | None => id,
    };
    (without_date(id), regional)
}

/// Without a trailing `-20250101` or `-2025-01-01`.
fn without_date(id: &str) -> &str {
    let digits = |s: &str, n: usize| s.len() == n && s.bytes().all(|b| b.is_ascii_digit());
    if let Some((head, tail)) = id.rsplit_once('-') {
        if digits(tail, 8) {
            return head;
        }
        if let Some((head, month)) = head.rsplit_once('-')
            && let Some((head, year)) = head.rsplit_once('-')
            && digits(tail, 2)
            && digits(month, 2)
            && digits(year, 4)
        {
            return head;
        }
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_a_list_and_every_entry_makes_sense() {
        let list: List = serde_json::from_str(LIST).unwrap();
        for (id, e) in &list.models {
            assert!(e.output.0 > e.input.0 && e.input.0 > e.cache_read.0 && e.cache_write.0 >= e.input.0, "{id}");
            assert!(e.window > e.max_output && e.max_output > 0, "{id}");
        }
    }

    #[test]
    fn ids_in_every_wrapping() {
        let table = [
            ("claude-opus-4-8", ("claude-opus-4-8", false)),
            ("claude-haiku-4-5-20251001", ("claude-haiku-4-5", false)),
            ("us.anthropic.claude-opus-4-8", ("claude-opus-4-8", true)),
            ("global.anthropic.claude-haiku-4-5-20251001-v1:0", ("claude-haiku-4-5", false)),
            ("anthropic.claude-sonnet-4-6", ("claude-sonnet-4-6", false)),
            (
                "arn:aws:bedrock:us-east-1:1:inference-profile/us.anthropic.claude-haiku-4-5-20251001-v1:0",
                ("claude-haiku-4-5", true),
            ),
            ("gpt-5-2025-08-07", ("gpt-5", false)),
            ("qwen/qwen3-32b", ("qwen3-32b", false)),
            ("", ("", false)),
        ];
        for (id, want) in table {
            assert_eq!(plain(id), want, "{id}");
        }
    }

    #[test]
    fn prices_of_known_unknown_and_overridden_models() {
        let prices = Prices::default();
        let price = |p: &Prices, id: &str, family| p.capabilities(id, family).price;
        let haiku = Price { input: 1_000_000, output: 5_000_000, cache_read: 100_000, cache_write: 1_250_000 };
        assert_eq!(price(&prices, "claude-haiku-4-5", Family::Anthropic), Some(haiku));
        let regional = Price { input: 1_100_000, output: 5_500_000, cache_read: 110_000, cache_write: 1_375_000 };
        assert_eq!(price(&prices, "us.anthropic.claude-haiku-4-5-20251001-v1:0", Family::Bedrock), Some(regional));
        assert_eq!(price(&prices, "qwen3-32b", Family::OpenAi), None);
        let free = prices.with_override("qwen3-32b", Price::default());
        assert_eq!(price(&free, "qwen3-32b", Family::OpenAi), Some(Price::default()));
    }
}
