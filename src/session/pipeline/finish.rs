//! After the agent: its work is taken over, verified and proposed.

use abca_core::session::{LogEntry, StepName, StepStatus};
use abca_core::task::{DiffStat, Prepared};
use abca_core::workflow::{NEEDS_INPUT_MARKER, Workflow};

use super::super::deliver::{self, Undelivered};
use super::super::host::Host;
use super::super::report::Outcome;
use super::super::verify::Side;
use super::super::workspace::Workspace;
use super::{Break, Pipeline, git_break};

impl Pipeline {
    /// After the agent: commit, take over, verify, propose.
    pub(super) async fn finish(
        &mut self,
        host: &mut Host,
        workspace: &Workspace,
        workflow: &Workflow,
        prepared: &Prepared,
        answer: String,
    ) -> Result<Outcome, Break> {
        let begun = self.journal.now();
        let base = match &self.state.base {
            Some((_, sha)) => sha.clone(),
            None => workspace.bare().base_sha().await.map_err(|e| git_break(&e))?,
        };
        if let Some(question) = answer.trim_start().strip_prefix(NEEDS_INPUT_MARKER) {
            let question = question.trim().to_owned();
            return Ok(Outcome { answer: Some(question), delivered: None, nothing_to_do: true });
        }
        self.keep(LogEntry::StepStarted { step: StepName::SafetyNet });
        // The agent's last answer is acted on from here.
        self.journal.flush().await?;
        let (head, saved) = self.shown(workspace.take_work()).await?.map_err(|e| git_break(&e))?;
        let detail = if saved { "uncommitted work was committed" } else { "everything was committed" };
        self.end_step(StepName::SafetyNet, StepStatus::Succeeded, begun, detail);
        let head = head.filter(|h| *h != base);
        let diff = match &head {
            Some(head) => workspace.bare().diff_stat(&base, head).await.map_err(|e| git_break(&e))?,
            None => abca_git::DiffStat::default(),
        };
        let Some(head) = head.filter(|_| !diff.files.is_empty()) else {
            return Ok(Outcome { answer: Some(answer), delivered: None, nothing_to_do: true });
        };
        self.check_step(host, StepName::VerifyBuild, Side::After).await?;
        self.gate(workflow)?;
        let begun = self.journal.now();
        self.keep(LogEntry::StepStarted { step: StepName::EnsurePr });
        let work = deliver::Work {
            task: &self.task,
            prepared,
            attempt: self.start.attempt,
            base,
            head,
            diff: DiffStat { files: diff.files.len() as u64, insertions: diff.added(), deletions: diff.removed() },
            answer: &answer,
            screen: &self.screen,
        };
        let delivered = {
            let Self { state, journal, parts, .. } = self;
            deliver::deliver(work, workspace, parts, state, journal).await
        };
        match delivered {
            Ok(Ok(delivered)) => {
                self.end_step(StepName::EnsurePr, StepStatus::Succeeded, begun, &delivered.pull_request.url);
                Ok(Outcome { answer: Some(answer), delivered: Some(delivered), nothing_to_do: false })
            }
            Ok(Err(Undelivered::Stopped)) => Err(Break::Stopped),
            Ok(Err(Undelivered::Failed(failure))) => {
                self.end_step(StepName::EnsurePr, StepStatus::Failed, begun, &failure.message);
                Err(Break::Failed(failure))
            }
            Err(abort) => Err(abort.into()),
        }
    }
}
