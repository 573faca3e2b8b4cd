//! Wide values as JSON, made on the caller's thread: the one thread that writes has enough to do.

use abca_core::event::NewEvent;
use abca_core::store::{Append, Commit, StoreError, Submit};
use serde::Serialize;

use super::error::corrupt;
use super::rows::EventOut;

/// What a call wants to have stored, end to end.
#[derive(Debug, Default)]
pub(crate) struct Bodies {
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl Bodies {
    /// What never changes of the record, what does, then the events.
    pub(crate) fn of_submit(submit: &Submit) -> Result<Self, StoreError> {
        let mut bodies = Self::default();
        let (fixed, moving) = submit.task.parts();
        bodies.push("submit", &fixed)?;
        bodies.push("submit", &moving)?;
        bodies.push_events("submit", &submit.events)?;
        Ok(bodies)
    }

    /// What changes of the record, then the events.
    pub(crate) fn of_commit(commit: &Commit) -> Result<Self, StoreError> {
        let mut bodies = Self::default();
        bodies.push("commit", &commit.change.task.parts().1)?;
        bodies.push_events("commit", &commit.change.events)?;
        Ok(bodies)
    }

    /// The records of the log, then the events.
    pub(crate) fn of_append(append: &Append) -> Result<Self, StoreError> {
        let mut bodies = Self::default();
        append.records.iter().try_for_each(|r| bodies.push("append", r))?;
        bodies.push_events("append", &append.events)?;
        Ok(bodies)
    }

    /// One event.
    pub(crate) fn of_event(event: &NewEvent) -> Result<Self, StoreError> {
        let mut bodies = Self::default();
        bodies.push("commit", &EventOut::from(event))?;
        Ok(bodies)
    }

    fn push(&mut self, op: &'static str, value: &impl Serialize) -> Result<(), StoreError> {
        serde_json::to_writer(&mut self.text, value).map_err(|e| corrupt(op, "a row to write", e))?;
        self.ends.push(self.text.len());
        Ok(())
    }

    fn push_events(&mut self, op: &'static str, events: &[NewEvent]) -> Result<(), StoreError> {
        events.iter().try_for_each(|e| self.push(op, &EventOut::from(e)))
    }

    /// The values, in the order in which they were put in.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        begins.zip(&self.ends).map(|(from, to)| self.text.get(from..*to).unwrap_or_default())
    }
}
