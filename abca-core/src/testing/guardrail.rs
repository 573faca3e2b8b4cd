//! The conformance suite of [`Guardrail`], and one that does what it is told.

use std::sync::Arc;

use async_trait::async_trait;

use crate::guardrail::{
    Assessment, Guardrail, GuardrailAction, GuardrailError, GuardrailErrorKind, GuardrailInput, GuardrailOutcome,
    GuardrailStage, GuardrailVerdict,
};

/// A guardrail to be checked, and texts that it has an opinion of.
#[async_trait]
pub trait GuardrailHarness: Send + Sync {
    /// The guardrail.
    async fn guardrail(&self) -> Arc<dyn Guardrail>;
    /// A phrase for which it blocks at a stage; `None` when it never does there.
    fn blocked(&self, stage: GuardrailStage) -> Option<String>;
    /// A phrase that it masks at a stage, however often and wherever it stands; `None` when it masks nothing there.
    fn masked(&self, stage: GuardrailStage) -> Option<String>;
    /// Characters from which on a text is long for it: more than it judges at once. Default 30 000.
    fn long(&self) -> usize {
        30_000
    }
    /// Characters at which it cuts a long text into pieces. Default: at [`Self::long`].
    fn cuts(&self) -> Vec<usize> {
        vec![self.long()]
    }
}

/// Checks what the contract of [`Guardrail`] promises, at every stage.
///
/// # Panics
/// When a promise is broken, naming it.
pub async fn run(harness: &dyn GuardrailHarness) {
    let guardrail = harness.guardrail().await;
    assert!(!guardrail.name().is_empty(), "a guardrail has a name");
    for stage in GuardrailStage::ALL {
        empty_is_allowed(&*guardrail, stage).await;
        innocent_is_allowed(&*guardrail, stage, harness.long()).await;
        if let Some(phrase) = harness.blocked(stage) {
            found_wherever_it_stands(&*guardrail, stage, &phrase, harness).await;
        }
        if let Some(phrase) = harness.masked(stage) {
            masked_and_nothing_else(&*guardrail, stage, &phrase, harness).await;
        }
    }
}

async fn verdict(guardrail: &dyn Guardrail, input: &GuardrailInput) -> GuardrailVerdict {
    match guardrail.check(input).await {
        Ok(verdict) => verdict,
        Err(error) => panic!("`{}` gave no verdict: {error}", guardrail.name()),
    }
}

async fn empty_is_allowed(guardrail: &dyn Guardrail, stage: GuardrailStage) {
    for input in [GuardrailInput::new(stage), GuardrailInput::new(stage).text("a", "").text("b", "")] {
        assert_eq!(verdict(guardrail, &input).await, GuardrailVerdict::allow(), "nothing is allowed, at {stage:?}");
    }
}

/// Words without any meaning, some of more than a byte, of so many characters.
fn filler(chars: usize) -> String {
    "the café is open, naïve 🧪 notes follow\n".chars().cycle().take(chars).collect()
}

async fn innocent_is_allowed(guardrail: &dyn Guardrail, stage: GuardrailStage, long: usize) {
    for text in ["fix the typo in README.md".to_owned(), filler(long * 3)] {
        let input = GuardrailInput::new(stage).text("a", &text);
        assert_eq!(
            verdict(guardrail, &input).await.outcome,
            GuardrailOutcome::Allow,
            "innocent text is allowed, at {stage:?}"
        );
    }
}

/// Where a phrase is put into a long text: at both ends, and around every place where it may be cut.
fn places(harness: &dyn GuardrailHarness, phrase: &str) -> Vec<usize> {
    let width = phrase.chars().count();
    let around = |at: usize| [at.saturating_sub(width), at.saturating_sub(width / 2), at.saturating_sub(1), at];
    let mut all: Vec<usize> =
        harness.cuts().into_iter().flat_map(around).chain([0, 1_000, harness.long() * 2]).collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn with(phrase: &str, at: usize, long: usize) -> (String, String) {
    let text = filler(long * 2);
    let (before, after): (String, String) = (text.chars().take(at).collect(), text.chars().skip(at).collect());
    (format!("{before} {phrase} {after}"), format!("{before} |{after}"))
}

async fn found_wherever_it_stands(
    guardrail: &dyn Guardrail,
    stage: GuardrailStage,
    phrase: &str,
    harness: &dyn GuardrailHarness,
) {
    for at in places(harness, phrase) {
        let bad = with(phrase, at, harness.long()).0;
        let input = GuardrailInput::new(stage).text("clean", "nothing here").text("bad", bad);
        let verdict = verdict(guardrail, &input).await;
        assert_eq!(verdict.outcome, GuardrailOutcome::Block, "it is found at character {at}, at {stage:?}");
        let behind: Vec<&Assessment> =
            verdict.assessments.iter().filter(|a| a.action == GuardrailAction::Blocked).collect();
        assert!(!behind.is_empty(), "a block says why");
        assert!(behind.iter().all(|a| a.subject == "bad"), "a block says which text: {behind:?}");
        let said = format!("{verdict:?} {} {input:?}", verdict.summary());
        assert!(!said.contains(phrase), "neither verdict nor input shows what was found: {said}");
    }
}

async fn masked_and_nothing_else(
    guardrail: &dyn Guardrail,
    stage: GuardrailStage,
    phrase: &str,
    harness: &dyn GuardrailHarness,
) {
    for at in places(harness, phrase) {
        let (text, frame) = with(phrase, at, harness.long());
        let input = GuardrailInput::new(stage).text("first", "nothing here").text("second", text).text("third", "");
        let verdict = verdict(guardrail, &input).await;
        assert!(!format!("{verdict:?}").contains(phrase), "a verdict does not show what was found");
        let GuardrailOutcome::Mask { texts } = verdict.outcome else {
            panic!("it is masked at character {at}, at {stage:?}: {verdict:?}");
        };
        assert_eq!(texts.len(), 3, "as many texts as there were");
        assert_eq!((texts[0].as_str(), texts[2].as_str()), ("nothing here", ""), "in their order");
        assert!(!texts[1].contains(phrase), "what was found is gone, at character {at}");
        let (before, after) = frame.split_once('|').expect("the frame has a place");
        let kept = texts[1].starts_with(before) && texts[1].ends_with(&format!(" {after}"));
        assert!(kept, "the rest is the same to the byte, around character {at}, at {stage:?}");
    }
}

/// A guardrail that does what it is told: it blocks texts that hold a phrase, fails on others, and allows the rest.
#[derive(Debug, Default)]
pub struct FakeGuardrail {
    blocking: Option<String>,
    masking: Option<String>,
    failing: Option<(String, GuardrailErrorKind)>,
    seen: std::sync::Mutex<Vec<GuardrailInput>>,
}

impl FakeGuardrail {
    /// Blocks what holds this phrase, as `fake/phrase`.
    #[must_use]
    pub fn blocking(mut self, phrase: impl Into<String>) -> Self {
        self.blocking = Some(phrase.into());
        self
    }

    /// Puts `[MASKED]` in place of this phrase.
    #[must_use]
    pub fn masking(mut self, phrase: impl Into<String>) -> Self {
        self.masking = Some(phrase.into());
        self
    }

    /// Fails on what holds this phrase; the empty one stands in everything.
    #[must_use]
    pub fn failing_on(mut self, phrase: impl Into<String>, kind: GuardrailErrorKind) -> Self {
        self.failing = Some((phrase.into(), kind));
        self
    }

    /// What it was asked so far.
    pub fn seen(&self) -> Vec<GuardrailInput> {
        self.seen.lock().unwrap().clone()
    }
}

#[async_trait]
impl Guardrail for FakeGuardrail {
    fn name(&self) -> &'static str {
        "fake"
    }

    async fn check(&self, input: &GuardrailInput) -> Result<GuardrailVerdict, GuardrailError> {
        self.seen.lock().unwrap().push(input.clone());
        if let Some((phrase, kind)) = &self.failing
            && input.texts.iter().any(|t| t.text.contains(phrase))
        {
            return Err(GuardrailError::new(*kind, "check", "told to fail"));
        }
        let mut found = Vec::new();
        for (phrase, action) in [(&self.blocking, GuardrailAction::Blocked), (&self.masking, GuardrailAction::Masked)] {
            let Some(phrase) = phrase else { continue };
            for text in input.texts.iter().filter(|t| t.text.contains(phrase)) {
                found.push(Assessment {
                    subject: text.name.clone(),
                    policy: "fake".to_owned(),
                    category: "phrase".to_owned(),
                    confidence: None,
                    action,
                    count: 1,
                    first_at: None,
                });
            }
        }
        let masked = |text: &str| match &self.masking {
            Some(phrase) => text.replace(phrase, "[MASKED]"),
            None => text.to_owned(),
        };
        Ok(GuardrailVerdict::of(found, input.texts.iter().map(|t| masked(&t.text)).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guardrail::{InTurn, LocalGuardrail};

    struct Local(bool);

    const HANDED_OUT: &str = "correct-horse-battery";

    #[async_trait]
    impl GuardrailHarness for Local {
        async fn guardrail(&self) -> Arc<dyn Guardrail> {
            let local = Arc::new(LocalGuardrail::default().with_known([HANDED_OUT.to_owned().into()]));
            if !self.0 {
                return local;
            }
            let second = FakeGuardrail::default().blocking("forbidden words");
            Arc::new(InTurn::new("local+fake", vec![local, Arc::new(second)]))
        }
        fn blocked(&self, stage: GuardrailStage) -> Option<String> {
            match stage {
                GuardrailStage::Submission | GuardrailStage::Nudge => Some(HANDED_OUT.to_owned()),
                GuardrailStage::Hydration | GuardrailStage::MemoryWrite => self.0.then(|| "forbidden words".to_owned()),
            }
        }
        fn masked(&self, stage: GuardrailStage) -> Option<String> {
            Some(match stage {
                GuardrailStage::Submission | GuardrailStage::Nudge => {
                    concat!("ghp_", "16C7e42F292c6912E7710c838347Ae178B4a").to_owned()
                }
                GuardrailStage::Hydration | GuardrailStage::MemoryWrite => HANDED_OUT.to_owned(),
            })
        }
    }

    fn wait(future: impl Future<Output = ()>) {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(std::pin::pin!(future).poll(&mut context).is_ready());
    }

    #[test]
    fn the_local_guardrail_conforms() {
        wait(run(&Local(false)));
    }

    #[test]
    fn guardrails_in_turn_conform() {
        wait(run(&Local(true)));
    }

    #[test]
    fn later_guardrails_see_what_earlier_ones_left_and_nothing_after_a_block_or_an_error() {
        let second = Arc::new(FakeGuardrail::default());
        let fake = |first: FakeGuardrail| InTurn::new("two", vec![Arc::new(first), second.clone()]);
        let input = GuardrailInput::new(GuardrailStage::Nudge).text("message", "a secret here");
        wait(async {
            let verdict = fake(FakeGuardrail::default().masking("secret")).check(&input).await.unwrap();
            assert_eq!(verdict.outcome, GuardrailOutcome::Mask { texts: vec!["a [MASKED] here".to_owned()] });
            let blocked = fake(FakeGuardrail::default().blocking("secret")).check(&input).await.unwrap();
            assert_eq!(blocked.outcome, GuardrailOutcome::Block);
            let failing = FakeGuardrail::default().failing_on("", GuardrailErrorKind::Unavailable);
            assert!(fake(failing).check(&input).await.is_err());
        });
        let seen: Vec<String> = second.seen().into_iter().map(|i| i.texts[0].text.clone()).collect();
        assert_eq!(seen, ["a [MASKED] here"]);
    }
}
