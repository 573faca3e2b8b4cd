//! The pipeline of a session, step by step: clone, baseline, context, agent, safety net, verification, pull request.

mod checks;
mod finish;
mod servers;
mod steps;

use std::collections::BTreeSet;
use std::sync::Arc;

use abca_core::compute::StartSession;
use abca_core::event::{EventType, NewEvent};
use abca_core::git::RepoRef;
use abca_core::model::Content;
use abca_core::prompt;
use abca_core::session::{
    AgentEnd, Breaker, LogEntry, Machine, MachineConfig, Prompt, SessionState, StepName, StepStatus,
};
use abca_core::task::{Failure, FailureReason, Prepared, Task, Verdict};
use abca_core::text::Screen;
use abca_core::workflow::{self, Workflow};

use super::agent::{AgentLoop, LoopEnd};
use super::deliver;
use super::gate::Patience;
use super::host::Host;
use super::journal::{Abort, Journal};
use super::report::{Outcome, report_of};
use super::runtime::{SessionParts, walls_event};
use super::saving::Saver;
use super::tools;
use super::verify::Side;
use super::workspace::{self, Making, Origin, Walled, Workspace, git_failure};
use crate::egress::Gate;

/// Everything about one session.
pub(crate) struct Pipeline {
    task: Task,
    start: StartSession,
    parts: SessionParts,
    state: SessionState,
    breaker: Breaker,
    journal: Journal,
    screen: Arc<Screen>,
    gate: Arc<Gate>,
}

/// Why the pipeline does not go on.
enum Break {
    /// The session has no right or no way to go on.
    Abort(Abort),
    /// It was told to stop.
    Stopped,
    /// A step failed.
    Failed(Failure),
}

impl From<Abort> for Break {
    fn from(abort: Abort) -> Self {
        Self::Abort(abort)
    }
}

impl Pipeline {
    pub(crate) fn new(
        task: Task,
        start: StartSession,
        parts: SessionParts,
        (state, breaker): (SessionState, Breaker),
        journal: Journal,
        screen: Arc<Screen>,
        gate: Arc<Gate>,
    ) -> Self {
        Self { task, start, parts, state, breaker, journal, screen, gate }
    }

    /// Runs every step that the log does not know as done, and reports.
    pub(crate) async fn run(&mut self) -> Result<(), Abort> {
        let mut workspace = None;
        let done = self.steps(&mut workspace).await;
        let (verdict, failure, outcome) = match done {
            Ok(outcome) if outcome.nothing_to_do => (Verdict::NothingToDo, None, outcome),
            Ok(outcome) => (Verdict::Succeeded, None, outcome),
            Err(Break::Abort(abort)) => return Err(abort),
            Err(Break::Stopped) => (Verdict::Cancelled, None, Outcome::default()),
            Err(Break::Failed(failure)) => (Verdict::Failed, Some(failure), Outcome::default()),
        };
        let saved = match &workspace {
            Some(workspace) => self.last_checkpoint(workspace, verdict).await,
            None => true,
        };
        let report = report_of(self.task.id, &self.state, &self.screen, verdict, failure, outcome);
        self.journal.report(&report).await?;
        // Not before the report: a session that dies in between is taken up from there.
        if let Some(workspace) = workspace.as_ref().filter(|_| verdict == Verdict::Succeeded)
            && let Err(error) = workspace.drop_checkpoint().await
        {
            tracing::warn!(%error, "the hidden ref could not be removed");
        }
        // What is nowhere else stays; the sweeper gives it up in time.
        if let Some(workspace) = workspace.and_then(Arc::into_inner)
            && verdict != Verdict::Cancelled
            && saved
        {
            workspace.remove().await;
        }
        Ok(())
    }

    /// Partial work stays on its ref. Answers whether nothing is left that is in the folder only.
    async fn last_checkpoint(&mut self, workspace: &Workspace, verdict: Verdict) -> bool {
        let saved = match verdict {
            Verdict::Succeeded | Verdict::NothingToDo => Ok(None),
            Verdict::Failed | Verdict::Cancelled => workspace.checkpoint().await.map(Some),
        };
        match saved {
            Ok(Some(sha)) => {
                let entry = LogEntry::Checkpoint { turn: self.state.turn, sha };
                self.state.apply(&entry);
                if let Err(error) = self.journal.write(vec![entry], Vec::new()).await {
                    tracing::warn!(%error, "the last checkpoint could not be logged");
                }
                true
            }
            Ok(None) => true,
            Err(error) => {
                tracing::warn!(%error, "the hidden ref could not be brought up to date");
                if !self.state.has_unsaved_work() {
                    return true;
                }
                let dir = self.parts.work_root.join(self.task.id.to_string());
                let event = NewEvent::new(EventType::AgentMilestone, self.journal.now())
                    .with("milestone", "work_kept")
                    .with("details", format!("it could not be saved elsewhere: for a week it is in {}", dir.display()));
                self.journal.keep([], vec![event]);
                false
            }
        }
    }

    async fn steps(&mut self, slot: &mut Option<Arc<Workspace>>) -> Result<Outcome, Break> {
        let Some(prepared) = self.task.prepared.clone() else {
            return Err(failed(FailureReason::Hydration, "the task has no prepared context"));
        };
        let Some(source) = self.task.spec.repo.clone() else {
            return Err(failed(FailureReason::RepoSetup, "the workflow needs a repository and the task names none"));
        };
        let Some(workflow) = workflow::shipped().iter().find(|w| w.id == self.task.spec.workflow_id) else {
            let text = format!("the workflow `{}` is not known here", self.task.spec.workflow_id);
            return Err(failed(FailureReason::Hydration, &text));
        };
        let workspace = self.clone_repo(source, &prepared).await?;
        *slot = Some(workspace.clone());
        if let Some(delivered) = deliver::delivered_before(&self.state, &workspace).await {
            let answer = self.state.ended.clone().map(|end| end.answer);
            return Ok(Outcome { answer, delivered: Some(delivered), nothing_to_do: false });
        }
        let mut host = self.host(&workspace, workflow).await?;
        self.baseline(&mut host).await?;
        if self.state.ended.is_none() {
            self.agent(&mut host, workflow, &prepared).await?;
        }
        let end = self.state.ended.clone().unwrap_or(AgentEnd { failure: None, answer: String::new() });
        if let Some(failure) = end.failure {
            return Err(Break::Failed(failure));
        }
        self.finish(&mut host, &workspace, workflow, &prepared, end.answer).await
    }

    // -- steps -----------------------------------------------------------------------------------------------------

    async fn clone_repo(&mut self, source: RepoRef, prepared: &Prepared) -> Result<Arc<Workspace>, Break> {
        let begun = self.journal.now();
        let dir = self.parts.work_root.join(self.task.id.to_string());
        workspace::make_folders(&dir).map_err(|e| Break::Failed(git_failure(FailureReason::Infrastructure, &e)))?;
        let walled = self.walls(&dir)?;
        let walls = walled.names();
        let event = walls_event(&walls, self.start.limits.sandbox, begun);
        self.keep(LogEntry::SessionStarted { attempt: self.start.attempt, walls });
        self.journal.keep([], vec![event]);
        let made_before = self.state.has_done(StepName::CloneRepo);
        self.keep(LogEntry::StepStarted { step: StepName::CloneRepo });
        let making = Making {
            dir: &dir,
            task: self.task.id,
            source,
            base_branch: &prepared.base_branch,
            branch: &prepared.branch,
            provider: self.parts.git.clone(),
            program: self.parts.program.clone(),
            walls: walled,
            made_before,
            checkpoint: self.state.checkpoint.clone(),
        };
        let opened = self.shown(Workspace::open(making)).await?;
        let (workspace, origin) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                let failure = git_failure(FailureReason::RepoSetup, &error);
                self.end_step(StepName::CloneRepo, StepStatus::Failed, begun, &failure.message);
                return Err(Break::Failed(failure));
            }
        };
        let detail = match &origin {
            Origin::Cloned => "cloned".to_owned(),
            Origin::Kept => "taken up where the last session left it".to_owned(),
            Origin::Restored { turn: 0 } => "restored from a checkpoint".to_owned(),
            Origin::Restored { turn } => format!("restored from the checkpoint after turn {turn}"),
        };
        if self.state.base.is_none() {
            let base_sha = workspace.bare().base_sha().await.map_err(|e| git_break(&e))?;
            self.keep(LogEntry::Cloned {
                base_branch: prepared.base_branch.clone(),
                base_sha,
                branch: prepared.branch.clone(),
            });
        }
        if let Some(note) = lost_work(&origin, &self.state) {
            self.keep(LogEntry::Injected { signal: None, origin: "restored".to_owned(), text: note });
        }
        self.end_step(StepName::CloneRepo, StepStatus::Succeeded, begun, &detail);
        let event = NewEvent::new(EventType::AgentMilestone, self.journal.now())
            .with("milestone", "repo_setup_complete")
            .with("details", detail);
        self.journal.keep([], vec![event]);
        Ok(Arc::new(workspace))
    }

    fn walls(&self, dir: &std::path::Path) -> Result<Arc<Walled>, Break> {
        match Walled::build(dir, self.parts.home.as_deref(), &self.parts.hidden, &self.start.limits, &self.gate) {
            Ok(walls) => Ok(Arc::new(walls)),
            Err(error) => Err(failed(FailureReason::Infrastructure, &error.to_string())),
        }
    }

    /// The tools that both the workflow and the task's tier grant.
    fn granted(&self, workflow: &Workflow) -> Vec<String> {
        let tier = self.task.spec.tools;
        workflow.agent_config.allowed_tools.iter().filter(|tool| tier.allows(tool)).cloned().collect()
    }

    async fn host(&self, workspace: &Arc<Workspace>, workflow: &Workflow) -> Result<Host, Break> {
        let granted = tools::offered(&self.granted(workflow), self.start.limits.network_of_hands());
        let settings = match &self.state.base {
            Some((_, base)) => workspace.project_settings(base).await.map_err(|e| git_break(&e))?,
            None => prompt::ProjectSettings::default(),
        };
        Ok(Host {
            workspace: workspace.clone(),
            policy: self.parts.policy.clone(),
            screen: self.screen.clone(),
            task: self.task.id,
            workflow: self.task.spec.workflow_id.clone(),
            repo: self.task.spec.repo.as_ref().map(ToString::to_string).unwrap_or_default(),
            branch: self.task.prepared.as_ref().map(|p| p.branch.clone()).unwrap_or_default(),
            base_branch: self.task.prepared.as_ref().map(|p| p.base_branch.clone()).unwrap_or_default(),
            read_only: self.task.spec.read_only,
            tier: self.task.spec.tools,
            patience: Patience {
                approval: self.task.spec.limits.approval_timeout_ms,
                until: self
                    .task
                    .admitted_at
                    .unwrap_or(self.task.created_at)
                    .after(self.task.spec.limits.task_timeout_ms),
            },
            // Each was checked when the task was submitted.
            granted: self.task.spec.initial_approvals.iter().filter_map(|s| s.parse().ok()).collect(),
            tainted: self.task.prepared.as_ref().is_some_and(|p| p.sources.iter().any(|s| s != "task_description"))
                || servers::were_called(&self.state)
                || has_web_pages(&self.state),
            allowed: granted.into_iter().collect::<BTreeSet<String>>(),
            settings,
            todos: tools::Todos::default(),
            servers: None,
            #[cfg(feature = "web")]
            web: crate::web::Web::new(self.gate.clone(), self.start.limits.egress.authorities.clone()),
        })
    }

    async fn baseline(&mut self, host: &mut Host) -> Result<(), Break> {
        if self.state.has_done(StepName::Baseline) {
            return Ok(());
        }
        self.check_step(host, StepName::Baseline, Side::Before).await
    }

    async fn agent(&mut self, host: &mut Host, workflow: &Workflow, prepared: &Prepared) -> Result<(), Break> {
        let begun = self.journal.now();
        let mut specs = tools::specs(&self.granted(workflow), self.start.limits.network_of_hands());
        let missing = self.servers(host, &mut specs).await?;
        let prompt = if self.state.model.is_none() {
            self.keep(LogEntry::StepStarted { step: StepName::HydrateContext });
            let files = async {
                match host.workspace.hands().client().await {
                    Ok(client) => client.project_files().await,
                    Err(error) => Err(error),
                }
            };
            let files = self.shown(files).await?;
            let files = files.map_err(|e| failed(FailureReason::Infrastructure, &e.to_string()))?;
            let files: Vec<(String, String)> =
                files.into_iter().map(|f| (f.path, String::from_utf8_lossy(&f.bytes).into_owned())).collect();
            let mut built = self.prompt(workflow, prepared, &files, &specs)?;
            built.user.push_str(&missing);
            let detail = format!("{} project files, prompt version {}", files.len(), built.version);
            self.end_step(StepName::HydrateContext, StepStatus::Succeeded, begun, &detail);
            built
        } else {
            // A conversation that was begun goes on under the prompt that it was begun with.
            Prompt { system: String::new(), user: String::new(), version: self.state.prompt_version.clone() }
        };
        let begun = self.journal.now();
        self.keep(LogEntry::StepStarted { step: StepName::RunAgent });
        let config = MachineConfig {
            model: self.parts.model_name.clone(),
            model_id: self.parts.model_id.clone(),
            capabilities: self.parts.model.capabilities(&self.parts.model_id),
            tools: specs,
            max_turns: self.task.spec.limits.max_turns,
            max_budget: self.task.spec.limits.max_budget,
            max_output_tokens: self.parts.max_output_tokens,
            max_gates: self.task.spec.limits.max_gates,
        };
        let workspace = host.workspace.clone();
        let limits = self.task.spec.limits.breaker;
        let base = self.state.base.as_ref().map(|(_, base)| base.clone()).filter(|_| limits.wants_churn());
        let save = move || {
            let (workspace, base) = (workspace.clone(), base.clone());
            async move {
                let sha = workspace.checkpoint().await?;
                let churn = match base {
                    Some(base) => Some(workspace.churn(&base, &sha).await?),
                    None => None,
                };
                Ok((sha, churn))
            }
        };
        let mut saver = Saver::new(save, self.state.checkpoint.as_ref().map(|(_, sha)| sha.clone()));
        let known = self.screen.only_known();
        let mut looping = AgentLoop {
            machine: Machine::resume(config, self.state.clone()),
            journal: &mut self.journal,
            model: self.parts.model.clone(),
            tools: host,
            saver: &mut saver,
            screen: &self.screen,
            known: &known,
            model_name: self.parts.model_name.clone(),
            breaker: self.breaker.clone(),
            warnings: Vec::new(),
        };
        let ended = looping.run(prompt).await;
        self.state = looping.machine.state().clone();
        // Before anything of the work is looked at: nobody is to change it from now on.
        if let Some(mut servers) = host.servers.take() {
            servers.stop().await;
        }
        match ended? {
            LoopEnd::Stopped => Err(Break::Stopped),
            LoopEnd::Ended(end) => {
                let status = if end.failure.is_none() { StepStatus::Succeeded } else { StepStatus::Failed };
                let detail = end.failure.map_or_else(|| "done".to_owned(), |f| f.message);
                self.end_step(StepName::RunAgent, status, begun, &detail);
                Ok(())
            }
        }
    }

    fn prompt(
        &self,
        workflow: &Workflow,
        prepared: &Prepared,
        files: &[(String, String)],
        specs: &[abca_core::model::ToolSpec],
    ) -> Result<Prompt, Break> {
        let spec = &self.task.spec;
        let system = prompt::SystemPrompt {
            workflow_block: workflow.prompt_block().map_err(|e| failed(FailureReason::Hydration, &e.to_string()))?,
            branch: &prepared.branch,
            base_branch: &prepared.base_branch,
            task_id: &self.task.id.to_string(),
            max_turns: spec.limits.max_turns,
            verification: &self.state.verification,
            project_files: files,
            overrides: spec.system_prompt_overrides.as_deref(),
            read_only: spec.read_only,
            network: self.start.limits.network_of_hands(),
        };
        let version = system.version(specs);
        Ok(Prompt { system: system.render(), user: prepared.user_prompt.clone(), version })
    }
}

/// Whether the conversation holds pages of the web, also from before the session moved.
fn has_web_pages(state: &SessionState) -> bool {
    let calls = state.request.messages.iter().flat_map(|message| &message.content);
    calls.into_iter().any(|part| matches!(part, Content::ToolUse(call) if call.name == "WebFetch"))
}

/// What the agent must know when its work tree is older than its memory.
fn lost_work(origin: &Origin, state: &SessionState) -> Option<String> {
    state.model.as_ref()?;
    match origin {
        Origin::Kept => None,
        Origin::Restored { turn } if *turn >= state.changed_turn => None,
        Origin::Restored { turn } => Some(format!(
            "Your session was moved to another machine. The work tree is as it was after turn {turn} or a little later: \
             newer changes of yours are gone. Look before you go on."
        )),
        Origin::Cloned if state.changed_turn == 0 => None,
        Origin::Cloned => Some(
            "Your session was moved to another machine and nothing of your changes was saved: the work tree is as it \
             was at the beginning. Look before you go on."
                .to_owned(),
        ),
    }
}

fn failed(reason: FailureReason, text: &str) -> Break {
    Break::Failed(Failure::new(reason, text))
}

fn git_break(error: &abca_core::git::GitError) -> Break {
    Break::Failed(git_failure(FailureReason::Delivery, error))
}
