//! Several guardrails as one.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Guardrail, GuardrailError, GuardrailInput, GuardrailOutcome, GuardrailVerdict};

/// Asks one guardrail after the other; each sees what those before it left.
///
/// The first block is the answer, and so is the first error: what comes later is not asked. So a text never reaches a
/// guardrail in the cloud with a secret that a local one takes out.
#[derive(Debug)]
pub struct InTurn {
    name: &'static str,
    parts: Vec<Arc<dyn Guardrail>>,
}

impl InTurn {
    /// These, in this order. The name is for logs and events, e.g. `local+bedrock`. None at all allow everything.
    pub const fn new(name: &'static str, parts: Vec<Arc<dyn Guardrail>>) -> Self {
        Self { name, parts }
    }
}

#[async_trait]
impl Guardrail for InTurn {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn check(&self, input: &GuardrailInput) -> Result<GuardrailVerdict, GuardrailError> {
        let mut input = input.clone();
        let mut all = Vec::new();
        for part in &self.parts {
            let GuardrailVerdict { outcome, assessments } = part.check(&input).await?;
            all.extend(assessments);
            match outcome {
                GuardrailOutcome::Allow => {}
                GuardrailOutcome::Mask { texts } => {
                    input.texts.iter_mut().zip(texts).for_each(|(given, masked)| given.text = masked);
                }
                GuardrailOutcome::Block => return Ok(GuardrailVerdict::of(all, Vec::new())),
            }
        }
        Ok(GuardrailVerdict::of(all, input.texts.into_iter().map(|t| t.text).collect()))
    }
}
