//! What a task comes to when its session is over: the signs are put together, and the matrix's answer is carried out.

use serde_json::Value;

use super::super::{
    Cause, Decision, Delivery, Ending, FailureReason, Inference, Query, SessionReport, Shown, Signs, StopCause,
    TaskStatus, Unanswered, Verdict, infer,
};
use super::{ASK_AGAIN, Facts};
use crate::time::{Millis, Timestamp};

/// The wait before a forge that did not answer is asked again doubles, but never grows beyond this.
const ASK_PAUSE: Millis = Millis::secs(60);

impl<'a> Facts<'a> {
    /// Goes on from a session that is over. `detail` says how it ended, for people.
    pub(super) fn conclude(&self, ending: Ending, detail: &str) -> Decision {
        let (attempts_left, may_wait) = (self.attempts_left(), self.may_wait());
        match infer(Signs { ending, shown: self.shown(), attempts_left, may_wait }) {
            Inference::Ask => self.ask(),
            Inference::AskLater => self.ask_later(),
            Inference::AsReported => match self.result() {
                Some(report) => self.as_reported(report),
                None => self.lost_for_good(&self.with_commits(detail)),
            },
            Inference::Delivered => match self.found.delivery {
                Some(Delivery::Proposed(report)) => self.delivered(report, detail),
                Some(
                    Delivery::Pushed { .. } | Delivery::Nothing | Delivery::NoAnswer { .. } | Delivery::Unknowable,
                )
                | None => self.ask(),
            },
            Inference::Again => self.again(detail),
            Inference::Lost => self.lost_for_good(&self.with_commits(detail)),
            Inference::TimedOut => self.timed_out(&self.with_commits(detail)),
            Inference::Cancelled => self.cancelled(detail),
        }
    }

    /// What the forge shows, as far as it was asked. A task none of whose sessions was ever let in has nothing to show.
    fn shown(&self) -> Shown {
        let task = self.task;
        let may_show = task.started_at.is_some() && task.session.is_some() && task.prepared.is_some();
        if !may_show || task.spec.repo.is_none() {
            return Shown::Nothing;
        }
        match self.found.delivery {
            None => Shown::NotAsked,
            Some(Delivery::Proposed(_)) => Shown::Proposed,
            Some(Delivery::Pushed { .. }) => Shown::Pushed,
            Some(Delivery::Nothing) => Shown::Nothing,
            Some(Delivery::NoAnswer { .. }) => Shown::NoAnswer,
            Some(Delivery::Unknowable) => Shown::Unknowable,
        }
    }

    /// Whether another attempt is allowed and safe. What is being finalized has its report: it is never tried again. Nor is
    /// what may still run, never two at once, nor a start that would be refused again.
    fn attempts_left(&self) -> bool {
        self.task.attempt < self.limits().max_attempts
            && self.unconfirmed.is_none()
            && self.task.status != TaskStatus::Finalizing
            && !self.refused()
    }

    /// Whether the session's start was refused. A record that says running, stopped for that, was written by nobody: it is
    /// lost.
    pub(super) fn refused(&self) -> bool {
        let cause = self.task.session.as_ref().and_then(|s| s.stopping.as_ref()).map(|s| s.cause);
        cause == Some(StopCause::StartRefused) && self.task.status == TaskStatus::Hydrating
    }

    /// A forge is waited for as long as an end may take, and no longer than the task.
    fn may_wait(&self) -> bool {
        let since = self.task.unanswered.as_ref().map_or(self.now, |u| u.since);
        self.unconfirmed.is_none()
            && self.now < since.after(self.limits().finalize_timeout_ms)
            && self.now < self.deadline_at()
    }

    fn ask(&self) -> Decision {
        let Some(session) = &self.task.session else {
            return Decision::Wait { until: Some(self.now.after(ASK_AGAIN)) };
        };
        match self.ask_again_at() {
            Some(again) if self.may_wait() => Decision::Wait { until: Some(again.min(self.deadline_at())) },
            Some(_) | None => Decision::Ask(Query::Delivered(session.id.clone())),
        }
    }

    /// When to ask again; `None` for now.
    fn ask_again_at(&self) -> Option<Timestamp> {
        let asked = self.task.unanswered.as_ref()?;
        let factor = 1u64.checked_shl(asked.times.saturating_sub(1)).unwrap_or(u64::MAX);
        let again = asked.at.after(Millis(ASK_AGAIN.0.saturating_mul(factor)).min(ASK_PAUSE));
        // A moment to come is a clock that was wrong: nobody waits for it.
        (asked.at <= self.now && self.now < again).then_some(again)
    }

    /// Writes down that there was no answer. A stop that is confirmed need not be confirmed again for the next.
    fn ask_later(&self) -> Decision {
        let now = self.now;
        let message = match self.found.delivery {
            Some(Delivery::NoAnswer { message }) => message.chars().take(1_000).collect(),
            Some(Delivery::Proposed(_) | Delivery::Pushed { .. } | Delivery::Nothing | Delivery::Unknowable) | None => {
                String::new()
            }
        };
        let (times, since) = self.task.unanswered.as_ref().map_or((0, now), |u| (u.times, u.since));
        let unanswered = Unanswered { times: times.saturating_add(1), since, at: now, message };
        self.draft().settle_all().set(|t| t.unanswered = Some(unanswered)).done()
    }

    /// Completes a task whose session never said so: its work stands.
    fn delivered(&self, report: &SessionReport, detail: &str) -> Decision {
        let inferred = format!("{detail}; its pull request stands, so the work is delivered");
        let (stored, text) = (report.clone(), inferred.clone());
        let mut details = Self::end_details(report).to_vec();
        details.push(("inferred", Value::from(inferred)));
        self.draft()
            .set(|t| {
                t.report = Some(stored.into());
                t.inferred = Some(text);
                t.unanswered = None;
            })
            .go(TaskStatus::Completed, Cause::DeliveryFound, &details)
            .done()
    }

    /// The same, and where the commits are that nothing proposes, or why nobody could say.
    fn with_commits(&self, detail: &str) -> String {
        match self.found.delivery {
            Some(Delivery::Pushed { branch, .. }) => {
                format!("{detail}; its commits are on the branch `{branch}`, without a pull request")
            }
            Some(Delivery::NoAnswer { message }) => {
                format!("{detail}; whether its work is delivered could not be found out: {message}")
            }
            Some(Delivery::Proposed(_) | Delivery::Nothing | Delivery::Unknowable) | None => detail.to_owned(),
        }
    }
}

/// What a report says of its session's end.
pub(super) fn ending_of(report: &SessionReport) -> Ending {
    match report.verdict {
        Verdict::Succeeded | Verdict::NothingToDo => Ending::Succeeded,
        Verdict::Cancelled => Ending::Silent,
        Verdict::Failed => match report.failure.as_ref().map(|f| f.reason) {
            None
            | Some(
                FailureReason::RepoSetup
                | FailureReason::Delivery
                | FailureReason::Infrastructure
                | FailureReason::SessionStart
                | FailureReason::SessionLost,
            ) => Ending::FailedAround,
            Some(
                FailureReason::Preflight
                | FailureReason::Hydration
                | FailureReason::Guardrail
                | FailureReason::MaxTurns
                | FailureReason::Budget
                | FailureReason::CircuitBreaker
                | FailureReason::Model
                | FailureReason::Refusal
                | FailureReason::Verification
                | FailureReason::Blocked
                | FailureReason::Deadline,
            ) => Ending::Failed,
        },
    }
}
