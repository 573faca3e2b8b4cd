//! What the log and people are told of steps, in few writes.
//!
//! Entries are kept until something needs them written: an effect that must not be without them, a call of the model,
//! the report; or until something takes longer than [`SHOW_AFTER`], for people who look on.

use std::time::Duration;

use abca_core::Timestamp;
use abca_core::event::{EventType, NewEvent};
use abca_core::session::{LogEntry, StepName, StepStatus};

use super::{Break, Pipeline};

/// What takes longer is shown while it goes on.
const SHOW_AFTER: Duration = Duration::from_millis(20);

impl Pipeline {
    /// Keeps an entry for the next write, with the event that tells of a step.
    pub(super) fn keep(&mut self, entry: LogEntry) {
        self.state.apply(&entry);
        let mut events = Vec::new();
        if let LogEntry::StepStarted { step } = &entry {
            events.push(self.step_event(*step, "start", ""));
        }
        if let LogEntry::StepEnded { step, status, detail, .. } = &entry {
            let how = match status {
                StepStatus::Succeeded => "succeeded",
                StepStatus::Failed => "failed",
                StepStatus::Skipped => "skipped",
            };
            events.push(self.step_event(*step, how, detail));
        }
        self.journal.keep([entry], events);
    }

    pub(super) fn end_step(&mut self, step: StepName, status: StepStatus, begun: Timestamp, detail: &str) {
        let duration_ms = self.journal.now().since(begun);
        self.keep(LogEntry::StepEnded { step, status, duration_ms, detail: detail.to_owned() });
    }

    fn step_event(&self, step: StepName, how: &str, detail: &str) -> NewEvent {
        NewEvent::new(EventType::AgentMilestone, self.journal.now())
            .with("milestone", format!("step:{}:{how}", step.as_str()))
            .with("details", self.screen.scrub(detail).text)
    }

    /// Does something, unless the session is told to stop first. When it takes time, what was kept is written beside it.
    pub(super) async fn shown<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Break> {
        let stopped = self.journal.ears().stopped().clone();
        let work = async {
            tokio::select! {
                biased;
                () = stopped.cancelled() => None,
                done = work => Some(done),
            }
        };
        tokio::pin!(work);
        let soon = tokio::select! {
            biased;
            done = &mut work => Some(done),
            () = tokio::time::sleep(SHOW_AFTER), if !self.journal.is_flushed() => None,
        };
        let done = match soon {
            Some(done) => done,
            None => match self.journal.flush_beside(work.as_mut()).await? {
                Some(done) => done,
                None => work.await,
            },
        };
        done.ok_or(Break::Stopped)
    }
}
