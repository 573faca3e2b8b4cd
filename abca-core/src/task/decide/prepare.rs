//! Pre-flight and hydration: what must be known before a session can start.

use super::super::{Cause, Decision, Failure, FailureReason, Prepared, Query};
use super::{ASK_AGAIN, Facts};
use crate::event::{EventType, NewEvent};
use crate::task::change::{Draft, reason_value};

/// How preparation stands, as far as the driver has looked.
#[derive(Clone, Copy)]
pub(super) enum Preparing<'a> {
    /// Nobody has looked.
    Ask,
    /// It is done.
    Done(&'a Prepared),
    /// It failed for good.
    Failed(&'a Failure),
    /// It failed, and may succeed later.
    Later,
}

impl Preparing<'_> {
    /// The first word counts.
    pub(super) const fn or(self, later: Self) -> Self {
        match self {
            Self::Ask => later,
            Self::Done(_) | Self::Failed(_) | Self::Later => self,
        }
    }
}

impl<'a> Facts<'a> {
    /// Admitted, no session under way: prepare, then decide a start.
    pub(super) fn preparation(&self) -> Decision {
        if let Some(not_before) = self.task.not_before
            && self.now < not_before
        {
            return Decision::Wait { until: Some(not_before.min(self.deadline_at())) };
        }
        if self.task.prepared.is_some() {
            return self.start_intent(self.draft());
        }
        match self.found.preparing {
            Preparing::Ask => Decision::Ask(Query::Prepare),
            Preparing::Done(prepared) => self.start_intent(self.prepared(self.draft(), prepared)),
            Preparing::Failed(failure) => self.preparation_failed(failure),
            Preparing::Later => Decision::Wait { until: Some(self.now.after(ASK_AGAIN).min(self.deadline_at())) },
        }
    }

    /// Freezes what preparation found.
    pub(super) fn prepared(&self, draft: Draft<'a>, prepared: &Prepared) -> Draft<'a> {
        let event = NewEvent::new(EventType::HydrationComplete, self.now)
            .with("sources", prepared.sources.clone())
            .with("token_estimate", prepared.token_estimate)
            .with("truncated", prepared.truncated);
        let prepared = prepared.clone();
        draft.set(|t| t.prepared = Some(prepared)).tell(event)
    }

    pub(super) fn preparation_failed(&self, failure: &Failure) -> Decision {
        let kind = match failure.reason {
            FailureReason::Guardrail => EventType::GuardrailBlocked,
            FailureReason::Preflight
            | FailureReason::Hydration
            | FailureReason::SessionStart
            | FailureReason::SessionLost
            | FailureReason::RepoSetup
            | FailureReason::MaxTurns
            | FailureReason::Budget
            | FailureReason::Model
            | FailureReason::Refusal
            | FailureReason::Verification
            | FailureReason::Delivery
            | FailureReason::Infrastructure
            | FailureReason::Blocked
            | FailureReason::Deadline => EventType::PreflightFailed,
        };
        let event =
            NewEvent::new(kind, self.now).with("reason", reason_value(failure)).with("detail", failure.message.clone());
        self.draft().tell(event).fail(Cause::PreparationFailed, failure.clone()).done()
    }
}
