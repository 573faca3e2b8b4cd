//! What the writer is asked: one variant for each call that changes something, with its answer's way back.

use abca_core::id::WorkerId;
use abca_core::store::{
    Append, AppendOutcome, Burial, ClaimQuery, Commit, CommitOutcome, NewSignal, Release, Renewal, SignalOutcome,
    StoreError, StoreErrorKind, Submit, SubmitOutcome,
};
use abca_core::task::{SlotChange, Snapshot};
use abca_core::{SessionId, TaskId, Timestamp};
use tokio::sync::oneshot;

use super::bodies::Bodies;
use super::error::again;

/// Where an answer goes. Nobody may be there any more: the call is carried out all the same.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// A session's word that it lives.
#[derive(Debug)]
pub(crate) struct Beat {
    pub(crate) task: TaskId,
    pub(crate) session: SessionId,
    pub(crate) now: Timestamp,
}

#[derive(Debug)]
pub(crate) enum Call {
    Submit(Vec<(Submit, Bodies)>, Reply<Vec<SubmitOutcome>>),
    Commit(Vec<(Commit, Bodies)>, Reply<Vec<CommitOutcome>>),
    Claim(ClaimQuery, Reply<Vec<Snapshot>>),
    Renew(Vec<Renewal>, Reply<Vec<bool>>),
    Release(Vec<Release>, Reply<Vec<bool>>),
    Signal(Vec<NewSignal>, Reply<Vec<SignalOutcome>>),
    Append(Vec<(Append, Bodies)>, Reply<Vec<AppendOutcome>>),
    Heartbeat(Beat, Reply<bool>),
    Expire(Vec<WorkerId>, Timestamp, Reply<u64>),
    Bury(Vec<Burial>, Reply<Vec<bool>>),
    Revive(TaskId, Timestamp, Reply<bool>),
    Discard(TaskId, Timestamp, Reply<bool>),
    Purge(Timestamp, usize, Reply<u64>),
}

/// What a call's answer is, held back until its transaction is durable.
#[derive(Debug)]
pub(crate) enum Answer {
    Submit(Vec<SubmitOutcome>),
    Commit(Vec<CommitOutcome>),
    Claim(Vec<Snapshot>),
    Flags(Vec<bool>),
    Signal(Vec<SignalOutcome>),
    Append(Vec<AppendOutcome>),
    Flag(bool),
    Count(u64),
}

impl Call {
    pub(crate) const fn op(&self) -> &'static str {
        match self {
            Self::Submit(..) => "submit",
            Self::Commit(..) => "commit",
            Self::Claim(..) => "claim",
            Self::Renew(..) => "renew",
            Self::Release(..) => "release",
            Self::Signal(..) => "signal",
            Self::Append(..) => "append",
            Self::Heartbeat(..) => "heartbeat",
            Self::Expire(..) => "expire",
            Self::Bury(..) => "bury",
            Self::Revive(..) => "revive",
            Self::Discard(..) => "discard",
            Self::Purge(..) => "purge",
        }
    }

    /// Tasks that it speaks of.
    pub(crate) fn tasks(&self) -> Vec<TaskId> {
        match self {
            Self::Submit(b, _) => b.iter().map(|(s, _)| s.task.id).collect(),
            Self::Commit(b, _) => b.iter().map(|(c, _)| c.task).collect(),
            Self::Claim(q, _) => q.task.into_iter().collect(),
            Self::Renew(b, _) => b.iter().map(|r| r.task).collect(),
            Self::Release(b, _) => b.iter().map(|r| r.task).collect(),
            Self::Signal(b, _) => b.iter().map(|s| s.task).collect(),
            Self::Append(b, _) => b.iter().map(|(a, _)| a.task).collect(),
            Self::Heartbeat(b, _) => vec![b.task],
            Self::Bury(b, _) => b.iter().map(|x| x.task).collect(),
            Self::Revive(id, ..) | Self::Discard(id, ..) => vec![*id],
            Self::Expire(..) | Self::Purge(..) => Vec::new(),
        }
    }

    /// Whether it may take, free or leave slots, or look through many tasks.
    pub(crate) fn is_about_slots(&self) -> bool {
        match self {
            Self::Commit(batch, _) => batch.iter().any(|(c, _)| match c.change.slots {
                SlotChange::Keep => false,
                SlotChange::Acquire(_) | SlotChange::Release => true,
            }),
            Self::Expire(..) | Self::Bury(..) | Self::Revive(..) | Self::Discard(..) | Self::Purge(..) => true,
            Self::Submit(..)
            | Self::Claim(..)
            | Self::Renew(..)
            | Self::Release(..)
            | Self::Signal(..)
            | Self::Append(..)
            | Self::Heartbeat(..) => false,
        }
    }

    /// Answers, if anybody still listens.
    pub(crate) fn answer(self, answer: Result<Answer, StoreError>) {
        fn send<T>(reply: Reply<T>, answer: Result<T, StoreError>) {
            // The caller may have gone.
            let _ = reply.send(answer);
        }
        let mixed = |op| StoreError::new(StoreErrorKind::Unknown, op, "the writer answered another call");
        match (self, answer) {
            (Self::Submit(_, r), Ok(Answer::Submit(a))) => send(r, Ok(a)),
            (Self::Commit(_, r), Ok(Answer::Commit(a))) => send(r, Ok(a)),
            (Self::Claim(_, r), Ok(Answer::Claim(a))) => send(r, Ok(a)),
            (Self::Renew(_, r) | Self::Release(_, r) | Self::Bury(_, r), Ok(Answer::Flags(a))) => send(r, Ok(a)),
            (Self::Signal(_, r), Ok(Answer::Signal(a))) => send(r, Ok(a)),
            (Self::Append(_, r), Ok(Answer::Append(a))) => send(r, Ok(a)),
            (Self::Heartbeat(_, r) | Self::Revive(_, _, r) | Self::Discard(_, _, r), Ok(Answer::Flag(a))) => {
                send(r, Ok(a))
            }
            (Self::Expire(_, _, r) | Self::Purge(_, _, r), Ok(Answer::Count(a))) => send(r, Ok(a)),
            (call, Ok(_)) => call.fail(mixed("answer")),
            (call, Err(e)) => call.fail(e),
        }
    }

    fn fail(self, error: StoreError) {
        // Nobody may listen any more; that is no failure of the writer.
        let _ = match self {
            Self::Submit(_, r) => r.send(Err(error)).is_err(),
            Self::Commit(_, r) => r.send(Err(error)).is_err(),
            Self::Claim(_, r) => r.send(Err(error)).is_err(),
            Self::Renew(_, r) | Self::Release(_, r) | Self::Bury(_, r) => r.send(Err(error)).is_err(),
            Self::Signal(_, r) => r.send(Err(error)).is_err(),
            Self::Append(_, r) => r.send(Err(error)).is_err(),
            Self::Heartbeat(_, r) | Self::Revive(_, _, r) | Self::Discard(_, _, r) => r.send(Err(error)).is_err(),
            Self::Expire(_, _, r) | Self::Purge(_, _, r) => r.send(Err(error)).is_err(),
        };
    }

    /// Fails with the error that the whole transaction failed with.
    pub(crate) fn fail_like(self, error: &StoreError) {
        let op = self.op();
        self.fail(again(op, error));
    }
}
