//! From the submission to the slots.

use serde_json::Value;

use super::super::{Cause, Decision, Query, SignalKind, TaskStatus};
use super::Facts;
use super::prepare::Preparing;
use crate::task::change::Draft;
use crate::time::Millis;

/// A waiting task looks for a free slot this often; a release wakes it earlier.
const QUEUE_POLL: Millis = Millis::secs(30);

impl<'a> Facts<'a> {
    pub(super) fn uploads(&self) -> Decision {
        if self.inbox.uploads_confirmed {
            return self
                .draft()
                .consume_where(|k| matches!(k, SignalKind::UploadsConfirmed))
                .go(TaskStatus::Submitted, Cause::UploadsConfirmed, &[])
                .done();
        }
        Decision::Wait { until: Some(self.deadline_at()) }
    }

    pub(super) fn admission(&self) -> Decision {
        let attempts = self.task.admission_attempts.saturating_add(1);
        match (self.found.denied, self.task.status) {
            // The ordinary life takes one commit less when what the start needs is found out before the slots are taken.
            // A task that had to queue takes its slots first: else every look at the queue would ask the forge.
            (None, TaskStatus::Submitted) => match self.found.preparing {
                Preparing::Ask => Decision::Ask(Query::Prepare),
                Preparing::Done(prepared) => self.start_intent(self.prepared(self.admit(), prepared)),
                Preparing::Failed(failure) => self.preparation_failed(failure),
                Preparing::Later(failure) => self.unprepared(self.admit(), failure).done(),
            },
            (None, _) => self.admit().done(),
            (Some(scope), TaskStatus::Submitted) => {
                let now = self.now;
                let details = [
                    ("reason", Value::from("concurrency_limit")),
                    ("scope", Value::from(scope.0.clone())),
                    ("admission_attempts", Value::from(attempts)),
                ];
                self.draft()
                    .set(|t| {
                        t.queued_at = Some(t.queued_at.unwrap_or(now));
                        t.admission_attempts = attempts;
                    })
                    .go(TaskStatus::Queued, Cause::SlotDenied, &details)
                    .done()
            }
            (Some(_), _) => Decision::Wait { until: Some(self.now.after(QUEUE_POLL).min(self.deadline_at())) },
        }
    }

    /// Takes the slots.
    fn admit(&self) -> Draft<'a> {
        let now = self.now;
        let waited = self.task.queued_at.map_or(0, |q| now.since(q).0 / 1000);
        let details =
            [("queued_for_s", Value::from(waited)), ("admission_attempts", Value::from(self.task.admission_attempts))];
        self.draft().set(|t| t.admitted_at = Some(now)).acquire().go(TaskStatus::Hydrating, Cause::Admitted, &details)
    }
}
