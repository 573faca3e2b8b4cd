//! The report of a session: what its log says, and what came of the work.

use abca_core::session::{SessionState, StepName};
use abca_core::task::{DiffStat, Failure, PhaseTiming, PullRequestRef, SessionReport, Verdict};
use abca_core::text::Screen;
use abca_core::{Millis, TaskId};

use super::deliver::Delivered;

/// What the pipeline came to.
#[derive(Default)]
pub(super) struct Outcome {
    /// The agent's last words.
    pub(super) answer: Option<String>,
    /// The pull request and what is in it.
    pub(super) delivered: Option<Delivered>,
    /// Nothing was changed, honestly.
    pub(super) nothing_to_do: bool,
}

/// The last word of a session.
pub(super) fn report_of(
    task: TaskId,
    state: &SessionState,
    screen: &Screen,
    verdict: Verdict,
    failure: Option<Failure>,
    outcome: Outcome,
) -> SessionReport {
    let delivered = outcome.delivered;
    let (branch, head_sha) = match (&delivered, &state.checkpoint) {
        (Some(d), _) => (Some(d.branch.clone()), Some(d.head_sha.clone())),
        (None, Some((_, sha))) => (Some(abca_core::names::wip_ref(task)), Some(sha.clone())),
        (None, None) => (None, None),
    };
    SessionReport {
        verdict,
        failure: failure.map(|f| Failure::new(f.reason, screen.scrub(&f.message).text)),
        pull_request: delivered.as_ref().map(|d| d.pull_request.clone()),
        branch,
        head_sha,
        code_changed: delivered.is_some() || (verdict != Verdict::NothingToDo && state.changed_turn > 0),
        answer_text: outcome.answer.map(|a| screen.scrub(&a).text).filter(|a| !a.trim().is_empty()),
        cost: state.spent,
        usage: state.usage,
        turns_attempted: state.turn,
        turns_completed: state.turns_completed,
        verification: state.verification.clone(),
        diff: delivered.as_ref().map_or_else(DiffStat::default, |d| d.diff),
        phases: phases(state),
        prompt_version: state.prompt_version.clone(),
        model: state.model.clone(),
    }
}

/// The report of a session that delivered and died before it could say so.
pub(crate) fn delivered_report(
    task: TaskId,
    state: &SessionState,
    branch: &str,
    head_sha: &str,
    pull_request: &PullRequestRef,
) -> SessionReport {
    let delivered = Delivered {
        branch: branch.to_owned(),
        head_sha: head_sha.to_owned(),
        pull_request: pull_request.clone(),
        // The log does not hold it, and the work folder may be on another machine.
        diff: DiffStat::default(),
    };
    let answer = state.ended.as_ref().map(|end| end.answer.clone());
    let outcome = Outcome { answer, delivered: Some(delivered), nothing_to_do: false };
    report_of(task, state, &Screen::default(), Verdict::Succeeded, None, outcome)
}

/// Where the time went, in the order of the work; the agent loop is split into model, tools and the rest.
fn phases(state: &SessionState) -> Vec<PhaseTiming> {
    let mut out = Vec::new();
    for (step, took) in &state.step_ms {
        if *step == StepName::RunAgent {
            let parts = [("model", state.model_ms), ("tools", state.tool_ms), ("approvals", state.approval_ms)];
            let rest = parts.iter().fold(took.0, |rest, (_, part)| rest.saturating_sub(part.0));
            let waited = |part: &&(&str, Millis)| part.0 != "approvals" || part.1 > Millis(0);
            for (phase, duration_ms) in parts.iter().filter(waited).copied().chain([("harness", Millis(rest))]) {
                out.push(PhaseTiming { phase: phase.to_owned(), duration_ms });
            }
        } else {
            out.push(PhaseTiming { phase: step.as_str().to_owned(), duration_ms: *took });
        }
    }
    out
}
