//! What the driver found out, read once.

use super::super::{Delivery, Observation, SlotScope};
use super::prepare::Preparing;
use crate::compute::SessionView;
use crate::event::NewEvent;
use crate::id::SessionId;

/// How a start went.
#[derive(Debug, Clone, Copy)]
pub(super) enum Start<'a> {
    /// It was carried out.
    Done,
    /// It failed.
    Failed {
        /// Why.
        message: &'a str,
        /// Whether another attempt may succeed.
        retryable: bool,
    },
}

/// What observations say of the task and of its session. Of equal ones the first counts, but of views the last.
#[derive(Clone, Copy)]
pub(super) struct Found<'a> {
    /// Where no slot was free.
    pub(super) denied: Option<&'a SlotScope>,
    /// How preparation stands.
    pub(super) preparing: Preparing<'a>,
    /// What guards said while it was prepared.
    pub(super) guarded: &'a [NewEvent],
    /// How the start went.
    pub(super) start: Option<Start<'a>>,
    /// The session is gone and cannot come back.
    pub(super) stopped: bool,
    /// Why it could not be stopped.
    pub(super) stop_failed: Option<&'a str>,
    /// What the backend says of it; `Err` when it could not be asked.
    pub(super) view: Option<Result<&'a SessionView, ()>>,
    /// What is delivered of its work.
    pub(super) delivery: Option<&'a Delivery>,
}

impl<'a> Found<'a> {
    /// Reads all of it; what was found out about other sessions than this one says nothing.
    pub(super) fn read(observations: &'a [Observation], session: Option<&SessionId>) -> Self {
        let mut found = Self {
            denied: None,
            preparing: Preparing::Ask,
            guarded: &[],
            start: None,
            stopped: false,
            stop_failed: None,
            view: None,
            delivery: None,
        };
        for observation in observations {
            match observation {
                Observation::SlotDenied(scope) => found.denied = found.denied.or(Some(scope)),
                Observation::Prepared(prepared) => found.preparing = found.preparing.or(Preparing::Done(prepared)),
                Observation::PrepareFailed { failure, retryable } => {
                    let failed = if *retryable { Preparing::Later(failure) } else { Preparing::Failed(failure) };
                    found.preparing = found.preparing.or(failed);
                }
                Observation::Guarded(events) if found.guarded.is_empty() => found.guarded = events,
                Observation::Started(id) if session == Some(id) => found.start = found.start.or(Some(Start::Done)),
                Observation::StartFailed { session: id, message, retryable } if session == Some(id) => {
                    found.start = found.start.or(Some(Start::Failed { message, retryable: *retryable }));
                }
                Observation::Stopped(id) if session == Some(id) => found.stopped = true,
                Observation::StopFailed { session: id, message } if session == Some(id) => {
                    found.stop_failed = found.stop_failed.or(Some(message));
                }
                Observation::Seen { session: id, view } if session == Some(id) => found.view = Some(Ok(view)),
                Observation::Unseen { session: id, .. } if session == Some(id) => found.view = Some(Err(())),
                Observation::Delivered { session: id, delivery } if session == Some(id) => {
                    found.delivery = found.delivery.or(Some(delivery));
                }
                Observation::Guarded(_)
                | Observation::Started(_)
                | Observation::StartFailed { .. }
                | Observation::Stopped(_)
                | Observation::StopFailed { .. }
                | Observation::Seen { .. }
                | Observation::Unseen { .. }
                | Observation::Delivered { .. } => {}
            }
        }
        found
    }
}
