//! Human gates from outside: who waits for an answer, and the answer.

use abca_core::store::{ListQuery, SignalOutcome};
use abca_core::task::{ApprovalScope, GATE_REASON_CHARS, Gate, GateDecision, SignalKind, TaskStatus};
use abca_core::{TaskId, UserId};
use serde::Serialize;

use crate::abca::Abca;
use crate::error::{Error, ErrorKind};
use crate::handle::TaskHandle;

/// A task that waits for a human.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PendingApproval {
    /// Which.
    pub task: TaskId,
    /// Whose.
    pub user: UserId,
    /// The repository; `None` where the task has none.
    pub repo: Option<String>,
    /// The question.
    pub gate: Gate,
}

impl Abca {
    /// Tasks that wait for a human, the newest first: of one user, or of all.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn pending_approvals(&self, user: Option<&UserId>, limit: usize) -> Result<Vec<PendingApproval>, Error> {
        let query = ListQuery {
            user: user.cloned(),
            statuses: vec![TaskStatus::AwaitingApproval],
            limit,
            ..ListQuery::default()
        };
        let waiting = self.list(query).await?.into_iter();
        let pending = waiting.filter_map(|task| {
            let (task, user, repo, gate) =
                (task.id, task.user, task.spec.repo.as_ref().map(ToString::to_string), *task.awaiting?);
            Some(PendingApproval { task, user, repo, gate })
        });
        Ok(pending.collect())
    }
}

impl TaskHandle {
    /// Approves what the task waits for, in somebody's name. `request` names the gate that the answer is meant for; without it
    /// the one that waits now. Answers the gate as it was asked.
    ///
    /// What is approved beyond the call holds for the rest of this task, in later sessions too, and never for a rule of the
    /// hard tier. The answer is durable once this returns; the session goes on as soon as a worker has taken it in.
    ///
    /// # Errors
    /// [`ErrorKind::NotAwaiting`] when the task waits for nobody, for another gate, or somebody was faster;
    /// [`ErrorKind::Ended`] when it has ended; when the store does not take it.
    ///
    /// # Cancel safety
    /// Dropped, the answer is given or not. A repeat is refused if it was.
    pub async fn approve(&self, request: Option<&str>, scope: ApprovalScope, by: &str) -> Result<Gate, Error> {
        self.decide(request, GateDecision::approve(name(by), scope)).await
    }

    /// Denies what the task waits for. The agent is told the reason, goes on, and is not to try the same in another way.
    ///
    /// # Errors
    /// As [`Self::approve`]; [`ErrorKind::Invalid`] for a reason of more than 2 000 characters; [`ErrorKind::Blocked`] when the
    /// guardrail, which judges it like a nudge, does not let it through.
    pub async fn deny(&self, request: Option<&str>, reason: Option<&str>, by: &str) -> Result<Gate, Error> {
        let chars = reason.map_or(0, |r| r.chars().count());
        if chars > GATE_REASON_CHARS {
            let text = format!("a reason has at most {GATE_REASON_CHARS} characters; this one has {chars}");
            return Err(Error::new(ErrorKind::Invalid, text));
        }
        let reason = match reason.map(str::trim).filter(|r| !r.is_empty()) {
            Some(reason) => Some(self.said("reason", reason).await?),
            None => None,
        };
        self.decide(request, GateDecision::deny(name(by), reason)).await
    }

    async fn decide(&self, request: Option<&str>, decision: GateDecision) -> Result<Gate, Error> {
        let snapshot = self.snapshot().await?;
        let (id, status) = (snapshot.id(), snapshot.task.status);
        if status.is_terminal() {
            return Err(Error::new(ErrorKind::Ended, format!("task `{id}` has ended: {status}")));
        }
        let Some(gate) = snapshot.task.awaiting else {
            let text =
                format!("task `{id}` is {status} and waits for nobody's approval: `abca pending` lists those that do");
            return Err(Error::new(ErrorKind::NotAwaiting, text));
        };
        if let Some(request) = request.filter(|r| *r != gate.request) {
            let text = format!("task `{id}` waits for an answer to `{}`, not to `{request}`", gate.request);
            return Err(Error::new(ErrorKind::NotAwaiting, text));
        }
        let too_long = || Error::new(ErrorKind::Internal, "the gate's name is too long for a signal");
        let answer = Gate::answer_id(&gate.request).ok_or_else(too_long)?;
        let kind = SignalKind::ApprovalDecided { request: gate.request.clone(), decision };
        match self.signal(answer, kind).await? {
            SignalOutcome::Accepted => Ok(*gate),
            SignalOutcome::Duplicate => {
                let text = format!("`{}` of task `{id}` was answered already, or its time is over", gate.request);
                Err(Error::new(ErrorKind::NotAwaiting, text))
            }
            SignalOutcome::Terminal(status) => {
                Err(Error::new(ErrorKind::Ended, format!("task `{id}` has ended: {status}")))
            }
            SignalOutcome::Refused | SignalOutcome::Full => {
                Err(Error::new(ErrorKind::Internal, "the store refused an answer"))
            }
            SignalOutcome::NotFound => Err(self.not_found()),
        }
    }
}

/// Who answers, cut like every name that comes from outside.
fn name(by: &str) -> String {
    by.chars().take(256).collect()
}
