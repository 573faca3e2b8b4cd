//! Stands before submissions, prompts and nudges, fails closed, and tells what it decided.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use abca_core::TaskId;
use abca_core::guardrail::{
    DecisionSink, Guardrail, GuardrailError, GuardrailErrorKind, GuardrailInput, GuardrailOutcome, GuardrailStage,
    decision_of,
};
use abca_core::policy::{GuardOutcome, PolicyDecisionEvent};
use abca_core::task::{Failure, FailureReason, NewTask, Prepared, Task};
use abca_core::text::{Screen, ScreenConfig, estimate};

use crate::error::{Error, ErrorKind};
use crate::orchestrator::PrepareFailure;

/// Longest time for one check where somebody waits for the answer; a worker has its own limit.
const PATIENCE: Duration = Duration::from_secs(90);

/// A guardrail, and who is told what it decides. The default lets everything through and tells nobody.
#[derive(Clone, Default)]
pub struct Guard {
    guardrail: Option<Arc<dyn Guardrail>>,
    told: Option<DecisionSink>,
    screen: Screen,
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("guardrail", &self.guardrail).finish_non_exhaustive()
    }
}

/// Why something does not come in.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The guardrail says so, for these reasons.
    Blocked(String),
    /// It says nothing.
    NoVerdict(GuardrailError),
}

/// A verdict that the caller has still to tell ([`Guard::tell`]).
struct Judged {
    /// The texts that replace the given ones; `None` when they come in as they are.
    texts: Result<Option<Vec<String>>, Refusal>,
    decision: Option<PolicyDecisionEvent>,
}

impl Guard {
    /// Over a guardrail.
    pub fn new(guardrail: Arc<dyn Guardrail>) -> Self {
        Self { guardrail: Some(guardrail), ..Self::default() }
    }

    /// Over a guardrail or none.
    pub(crate) fn over(guardrail: Option<Arc<dyn Guardrail>>) -> Self {
        Self { guardrail, ..Self::default() }
    }

    /// Tells every decision to somebody besides.
    #[must_use]
    pub fn telling(mut self, told: Option<DecisionSink>) -> Self {
        self.told = told;
        self
    }

    /// What is taken out of events.
    pub(crate) const fn screen(&self) -> &Screen {
        &self.screen
    }

    /// Whether nothing is judged.
    pub(crate) const fn is_off(&self) -> bool {
        self.guardrail.is_none()
    }

    /// Judges a submission: the task as it may be taken, and what there is to tell of it; else the error. `id` is the task's,
    /// should it become one.
    pub(crate) async fn submission(
        &self,
        mut task: NewTask,
        id: TaskId,
        screening: &ScreenConfig,
    ) -> Result<(NewTask, Option<PolicyDecisionEvent>), Error> {
        let mut input = GuardrailInput::new(GuardrailStage::Submission).screening(screening.clone());
        for (name, text) in texts(&mut task) {
            input = input.text(name, text.as_str());
        }
        let Judged { texts: judged, mut decision } = self.judge(&input).await;
        let refused = match judged {
            Ok(None) => None,
            Ok(Some(masked)) => {
                let holes: Vec<String> = texts(&mut task)
                    .into_iter()
                    .zip(masked)
                    .filter_map(|((name, text), masked)| {
                        let hole = name.ends_with("_command") && *text != masked;
                        *text = masked;
                        hole.then(|| format!("`{name}`"))
                    })
                    .collect();
                // With a part of it gone a command would do something else.
                (!holes.is_empty()).then(|| {
                    let why = decision.as_ref().map_or("", |d| &d.reason);
                    let text = format!("{} cannot be run with a part of it taken out: {why}", holes.join(", "));
                    if let Some(decision) = &mut decision {
                        (decision.outcome, decision.reason) = (GuardOutcome::Denied, text.clone());
                    }
                    Refusal::Blocked(text)
                })
            }
            Err(refusal) => Some(refusal),
        };
        if let Some(decision) = &mut decision {
            decision.task_id = refused.is_none().then_some(id);
            self.tell(decision);
        }
        match refused {
            None => Ok((task, decision)),
            Some(refusal) => Err(refusal.error("the submission", decision, &self.screen)),
        }
    }

    /// Judges what somebody says to a task: the text as it may be said, else the error.
    pub(crate) async fn said(&self, task: &Task, name: &str, text: &str) -> Result<String, Error> {
        let input = input_of(GuardrailStage::Nudge, task).text(name, text);
        let Judged { texts, decision } = self.judge(&input).await;
        if let Some(decision) = &decision {
            self.tell(decision);
        }
        match texts {
            Ok(None) => Ok(text.to_owned()),
            Ok(Some(masked)) => Ok(masked.concat()),
            Err(refusal) => Err(refusal.error(&format!("the {name}"), decision, &self.screen)),
        }
    }

    /// Judges the prompt of a task: what was prepared as it may be used, else the failure; and what there is to tell.
    pub(crate) async fn prompt(
        &self,
        task: &Task,
        mut prepared: Prepared,
    ) -> (Result<Prepared, PrepareFailure>, Option<PolicyDecisionEvent>) {
        if self.is_off() {
            return (Ok(prepared), None);
        }
        let input = input_of(GuardrailStage::Hydration, task).text("prompt", &prepared.user_prompt);
        let Judged { texts, decision } = self.judge(&input).await;
        if let Some(decision) = &decision {
            self.tell(decision);
        }
        let judged = match texts {
            Ok(masked) => {
                if let Some(masked) = masked {
                    prepared.user_prompt = masked.concat();
                    prepared.token_estimate = estimate(&prepared.user_prompt);
                }
                Ok(prepared)
            }
            Err(Refusal::Blocked(why)) => {
                let failure = Failure::new(FailureReason::Guardrail, format!("guardrail blocked the prompt: {why}"));
                Err(PrepareFailure { failure, retryable: false })
            }
            Err(Refusal::NoVerdict(error)) => {
                let retryable = error.is_retryable();
                let text = format!("hydration failed: the guardrail gave no verdict on the prompt: {error}");
                Err(PrepareFailure { failure: Failure::new(FailureReason::Hydration, text), retryable })
            }
        };
        (judged, decision)
    }

    /// Asks, in time; what does not fit the question counts as no answer.
    async fn judge(&self, input: &GuardrailInput) -> Judged {
        let empty = input.texts.iter().all(|t| t.text.trim().is_empty()) && input.images.is_empty();
        let Some(guardrail) = self.guardrail.as_ref().filter(|_| !empty) else {
            return Judged { texts: Ok(None), decision: None };
        };
        let no_verdict = |what: String| GuardrailError::new(GuardrailErrorKind::Unavailable, "check", what);
        let judged = match tokio::time::timeout(PATIENCE, guardrail.check(input)).await {
            Ok(Ok(verdict)) => match &verdict.outcome {
                GuardrailOutcome::Mask { texts } if texts.len() != input.texts.len() => {
                    Err(no_verdict("its answer does not fit the texts".to_owned()))
                }
                GuardrailOutcome::Allow | GuardrailOutcome::Mask { .. } | GuardrailOutcome::Block => Ok(verdict),
            },
            Ok(Err(error)) => Err(error),
            Err(_) => Err(no_verdict(format!("no answer within {} s", PATIENCE.as_secs()))),
        };
        let decision = decision_of(guardrail.name(), input, &judged).map(|d| d.screened(&self.screen));
        let texts = match judged {
            Err(error) => Err(Refusal::NoVerdict(error)),
            Ok(verdict) => {
                let why = verdict.summary();
                match verdict.outcome {
                    GuardrailOutcome::Allow => Ok(None),
                    GuardrailOutcome::Mask { texts } => Ok(Some(texts)),
                    GuardrailOutcome::Block => Err(Refusal::Blocked(why)),
                }
            }
        };
        Judged { texts, decision }
    }

    /// Writes a decision to the log, and tells it to whoever wants to know.
    fn tell(&self, decision: &PolicyDecisionEvent) {
        let PolicyDecisionEvent { task_id, stage, guard, outcome, subject, reason, .. } = decision;
        let task = task_id.map(|id| id.to_string()).unwrap_or_default();
        let stage = stage.as_str();
        match outcome {
            GuardOutcome::Denied | GuardOutcome::Failed => {
                tracing::warn!(task, stage, guard, %outcome, subject, reason, "the guardrail let nothing through");
            }
            _ => tracing::info!(task, stage, guard, %outcome, subject, reason, "the guardrail found something"),
        }
        if let Some(told) = &self.told {
            told(decision.clone());
        }
    }
}

impl Refusal {
    /// As an error that a person can act on.
    fn error(self, what: &str, decision: Option<PolicyDecisionEvent>, screen: &Screen) -> Error {
        let (kind, text) = match self {
            Self::Blocked(why) => {
                let secret = if why.contains("secrets/") {
                    ": take it out, and revoke it if it is real; agents get credentials from the platform only"
                } else {
                    ": change it and try again"
                };
                (ErrorKind::Blocked, format!("{what} was not taken, because of {why}{secret}"))
            }
            Self::NoVerdict(error) => {
                let (kind, advice) = match error.kind() {
                    GuardrailErrorKind::Unavailable | GuardrailErrorKind::Throttled => {
                        (ErrorKind::Unavailable, ": nothing was stored, try again later")
                    }
                    GuardrailErrorKind::Refused => (ErrorKind::Invalid, ""),
                    _ => (ErrorKind::Config, ": nothing is taken until its settings are right, or it is switched off"),
                };
                (kind, format!("{what} was not taken, because the guardrail gave no verdict: {error}{advice}"))
            }
        };
        let error = Error::new(kind, screen.scrub(&text).text);
        match decision {
            Some(decision) => error.with_decision(decision),
            None => error,
        }
    }
}

fn input_of(stage: GuardrailStage, task: &Task) -> GuardrailInput {
    GuardrailInput::new(stage).of_task(task.id).screening(task.spec.screening.clone())
}

/// The free texts of a submission, by name.
fn texts(task: &mut NewTask) -> Vec<(String, &mut String)> {
    let own = [
        ("task_description", &mut task.task_description),
        ("build_command", &mut task.build_command),
        ("test_command", &mut task.test_command),
        ("lint_command", &mut task.lint_command),
    ];
    let own = own.into_iter().filter_map(|(name, text)| Some((name.to_owned(), text.as_mut()?)));
    let channel = task.channel_metadata.iter_mut().map(|(key, text)| (format!("channel_metadata.{key}"), text));
    own.chain(channel).collect()
}
