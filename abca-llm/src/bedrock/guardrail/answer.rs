//! What an answer of ApplyGuardrail says. Whatever is not understood counts as a block.

use abca_core::guardrail::{Confidence, GuardrailAction};
use aws_sdk_bedrockruntime::operation::apply_guardrail::ApplyGuardrailOutput;
use aws_sdk_bedrockruntime::types::{
    GuardrailAction as Taken, GuardrailAssessment, GuardrailContentFilterConfidence as Sure,
    GuardrailSensitiveInformationPolicyAction as Hiding,
};

use crate::clip::clip;

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) policy: &'static str,
    pub(super) category: String,
    pub(super) confidence: Option<Confidence>,
    pub(super) action: GuardrailAction,
}

/// One answer, read. Its `Debug` shows no match.
pub(super) struct Answer {
    pub(super) items: Vec<Item>,
    /// What was masked, word for word.
    pub(super) matches: Vec<String>,
    /// The text as it came back, when it was masked.
    pub(super) masked: Option<String>,
}

impl Answer {
    pub(super) fn of(out: &ApplyGuardrailOutput) -> Self {
        let mut read = Self { items: Vec::new(), matches: Vec::new(), masked: None };
        for assessment in &out.assessments {
            read.assessment(assessment);
        }
        let coverage = out.guardrail_coverage.as_ref().and_then(|c| c.text_characters.as_ref());
        if coverage.is_some_and(|c| c.guarded < c.total) {
            read.item("coverage", "not-all-judged", None, GuardrailAction::Observed);
        }
        let worst = read.items.iter().map(|i| i.action).max();
        let text: String = out.outputs.iter().filter_map(|o| o.text.as_deref()).collect();
        match (&out.action, worst) {
            (_, Some(GuardrailAction::Blocked)) | (Taken::None, Some(GuardrailAction::Observed) | None) => {}
            (Taken::GuardrailIntervened, Some(GuardrailAction::Masked)) if !text.is_empty() => read.masked = Some(text),
            // It intervened for something that it does not tell, or that this program does not know.
            _ => read.item("bedrock", "intervened", None, GuardrailAction::Blocked),
        }
        read
    }

    pub(super) fn blocks(&self) -> bool {
        self.items.iter().any(|i| i.action == GuardrailAction::Blocked)
    }

    fn item(&mut self, policy: &'static str, category: &str, confidence: Option<Confidence>, action: GuardrailAction) {
        let item = Item { policy, category: clip(category, 100), confidence, action };
        if !self.items.contains(&item) {
            self.items.push(item);
        }
    }

    fn assessment(&mut self, found: &GuardrailAssessment) {
        for topic in found.topic_policy.iter().flat_map(|p| &p.topics) {
            self.told("topic", &topic.name, None, topic.action.as_str(), topic.detected);
        }
        for filter in found.content_policy.iter().flat_map(|p| &p.filters) {
            let sure = match filter.confidence {
                Sure::High => Some(Confidence::High),
                Sure::Medium => Some(Confidence::Medium),
                Sure::Low => Some(Confidence::Low),
                _ => None,
            };
            self.told("content", filter.r#type.as_str(), sure, filter.action.as_str(), filter.detected);
        }
        for words in found.word_policy.iter() {
            // Which word it was stands in the guardrail, and in the text.
            for word in &words.custom_words {
                self.told("word", "custom", None, word.action.as_str(), word.detected);
            }
            for word in &words.managed_word_lists {
                self.told("word", word.r#type.as_str(), None, word.action.as_str(), word.detected);
            }
        }
        for private in found.sensitive_information_policy.iter() {
            for entity in &private.pii_entities {
                self.hidden("pii", entity.r#type.as_str(), &entity.action, entity.detected, &entity.r#match);
            }
            for regex in &private.regexes {
                let (name, matched) =
                    (regex.name.as_deref().unwrap_or("regex"), regex.r#match.as_deref().unwrap_or_default());
                self.hidden("regex", name, &regex.action, regex.detected, matched);
            }
        }
        for filter in found.contextual_grounding_policy.iter().flat_map(|p| p.filters.iter().flatten()) {
            self.told("grounding", filter.r#type.as_str(), None, filter.action.as_str(), filter.detected);
        }
    }

    /// `BLOCKED`, `NONE`, or a word of a service newer than this program.
    fn told(
        &mut self,
        policy: &'static str,
        category: &str,
        sure: Option<Confidence>,
        action: &str,
        detected: Option<bool>,
    ) {
        let action = match action {
            "NONE" if detected == Some(false) => return,
            "NONE" => GuardrailAction::Observed,
            _ => GuardrailAction::Blocked,
        };
        self.item(policy, category, sure, action);
    }

    fn hidden(&mut self, policy: &'static str, kind: &str, action: &Hiding, detected: Option<bool>, matched: &str) {
        match action {
            Hiding::Anonymized => {
                self.matches.push(matched.to_owned());
                self.item(policy, kind, None, GuardrailAction::Masked);
            }
            other => self.told(policy, kind, None, other.as_str(), detected),
        }
    }
}
