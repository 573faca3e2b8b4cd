//! What the inbox says, read once.

use super::super::{SessionReport, Signal, SignalKind};
use crate::id::SessionId;
use crate::time::Timestamp;

/// What signals say of the task and of its session. Of equal ones the first counts.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Inbox<'a> {
    /// Who asked to cancel, and when.
    pub(super) cancel: Option<(&'a str, Timestamp)>,
    /// Attachments are there.
    pub(super) uploads_confirmed: bool,
    /// The session has registered.
    pub(super) registered: bool,
    /// What the session reported, and when.
    pub(super) result: Option<(&'a SessionReport, Timestamp)>,
    /// Somebody saw the session end.
    pub(super) exited: bool,
}

impl<'a> Inbox<'a> {
    /// Reads all of it; words of other sessions than this one say nothing.
    pub(super) fn read(signals: &'a [Signal], session: Option<&SessionId>) -> Self {
        let mut inbox = Self::default();
        for signal in signals {
            match &signal.kind {
                SignalKind::Cancel { by } => inbox.cancel = inbox.cancel.or(Some((by, signal.at))),
                SignalKind::UploadsConfirmed => inbox.uploads_confirmed = true,
                SignalKind::SessionRegistered { session: id } => inbox.registered |= session == Some(id),
                SignalKind::SessionResult { session: id, report } => {
                    let said = (session == Some(id)).then_some((report.as_ref(), signal.at));
                    inbox.result = inbox.result.or(said);
                }
                SignalKind::SessionExited { session: id } => inbox.exited |= session == Some(id),
                // Gates are asked and answered one by one, in their order; nudges are for the session.
                SignalKind::Nudge { .. }
                | SignalKind::ApprovalRequested { .. }
                | SignalKind::ApprovalDecided { .. } => {}
            }
        }
        inbox
    }
}
