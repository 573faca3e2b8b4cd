//! The pipeline of a session, step by step: clone, baseline, context, agent, safety net, verification, pull request.

use std::collections::BTreeSet;
use std::sync::Arc;

use abca_core::compute::StartSession;
use abca_core::event::{EventType, NewEvent};
use abca_core::git::RepoRef;
use abca_core::prompt;
use abca_core::session::{AgentEnd, LogEntry, Machine, MachineConfig, Prompt, SessionState, StepName, StepStatus};
use abca_core::task::{CheckResult, DiffStat, Failure, FailureReason, Prepared, Task, Verdict, Verification};
use abca_core::text::{Screen, preview};
use abca_core::workflow::{self, Check, NEEDS_INPUT_MARKER, Workflow, gate};

use super::agent::{AgentLoop, LoopEnd};
use super::deliver::{self, Undelivered};
use super::host::Host;
use super::journal::{Abort, Journal};
use super::report::{Outcome, report_of};
use super::runtime::{SessionParts, walls_event};
use super::saving::Saver;
use super::tools;
use super::verify::{self, Side};
use super::workspace::{self, Making, Origin, Walled, Workspace, git_failure};

/// Everything about one session.
pub(crate) struct Pipeline {
    task: Task,
    start: StartSession,
    parts: SessionParts,
    state: SessionState,
    journal: Journal,
    screen: Arc<Screen>,
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
        state: SessionState,
        journal: Journal,
        screen: Arc<Screen>,
    ) -> Self {
        Self { task, start, parts, state, journal, screen }
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
        if let Some(workspace) = &workspace {
            self.last_checkpoint(workspace, verdict).await;
        }
        let report = report_of(self.task.id, &self.state, &self.screen, verdict, failure, outcome);
        self.journal.report(&report).await?;
        // Not before the report: a session that dies in between is taken up from there.
        if let Some(workspace) = workspace.as_ref().filter(|_| verdict == Verdict::Succeeded)
            && let Err(error) = workspace.drop_checkpoint().await
        {
            tracing::warn!(%error, "the hidden ref could not be removed");
        }
        if let Some(workspace) = workspace.and_then(Arc::into_inner)
            && verdict != Verdict::Cancelled
        {
            workspace.remove().await;
        }
        Ok(())
    }

    /// Partial work stays on its ref.
    async fn last_checkpoint(&mut self, workspace: &Workspace, verdict: Verdict) {
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
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "the hidden ref could not be brought up to date"),
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
        let mut entries = vec![LogEntry::SessionStarted { attempt: self.start.attempt, walls: walls.clone() }];
        let events = vec![walls_event(&walls, self.start.limits.sandbox, begun)];
        if !self.state.has_done(StepName::CloneRepo) {
            entries.push(LogEntry::StepStarted { step: StepName::CloneRepo });
        }
        self.write(entries, events).await?;
        let made_before = self.state.has_done(StepName::CloneRepo);
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
        let opened = self.or_stopped(Workspace::open(making)).await?;
        let (workspace, origin) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                let failure = git_failure(FailureReason::RepoSetup, &error);
                self.end_step(StepName::CloneRepo, StepStatus::Failed, begun, &failure.message, Vec::new()).await?;
                return Err(Break::Failed(failure));
            }
        };
        let detail = match &origin {
            Origin::Cloned => "cloned".to_owned(),
            Origin::Kept => "taken up where the last session left it".to_owned(),
            Origin::Restored { turn: 0 } => "restored from a checkpoint".to_owned(),
            Origin::Restored { turn } => format!("restored from the checkpoint after turn {turn}"),
        };
        let mut more = Vec::new();
        if self.state.base.is_none() {
            let base_sha = workspace.bare().base_sha().await.map_err(|e| git_break(&e))?;
            more.push(LogEntry::Cloned {
                base_branch: prepared.base_branch.clone(),
                base_sha,
                branch: prepared.branch.clone(),
            });
        }
        if let Some(note) = lost_work(&origin, &self.state) {
            more.push(LogEntry::Injected { signal: None, origin: "restored".to_owned(), text: note });
        }
        self.end_step(StepName::CloneRepo, StepStatus::Succeeded, begun, &detail, more).await?;
        self.milestone("repo_setup_complete", &detail).await?;
        Ok(Arc::new(workspace))
    }

    fn walls(&self, dir: &std::path::Path) -> Result<Arc<Walled>, Break> {
        match Walled::build(dir, self.parts.home.as_deref(), &self.parts.hidden, &self.start.limits) {
            Ok(walls) => Ok(Arc::new(walls)),
            Err(error) => Err(failed(FailureReason::Infrastructure, &error.to_string())),
        }
    }

    async fn host(&self, workspace: &Arc<Workspace>, workflow: &Workflow) -> Result<Host, Break> {
        let granted = tools::offered(&workflow.agent_config.allowed_tools);
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
            read_only: self.task.spec.read_only,
            tainted: self.task.prepared.as_ref().is_some_and(|p| p.sources.iter().any(|s| s != "task_description")),
            allowed: granted.into_iter().collect::<BTreeSet<String>>(),
            settings,
            todos: tools::Todos::default(),
        })
    }

    async fn baseline(&mut self, host: &mut Host) -> Result<(), Break> {
        if self.state.has_done(StepName::Baseline) {
            return Ok(());
        }
        self.check_step(host, StepName::Baseline, Side::Before).await
    }

    /// Runs the task's commands on one side of the agent's work.
    async fn check_step(&mut self, host: &mut Host, step: StepName, side: Side) -> Result<(), Break> {
        let begun = self.journal.now();
        self.write(vec![LogEntry::StepStarted { step }], Vec::new()).await?;
        let commands = verify::commands(&self.task.spec);
        if commands.is_empty() || (self.task.spec.read_only && side == Side::Before) {
            self.end_step(step, StepStatus::Skipped, begun, "no command is configured", Vec::new()).await?;
            return Ok(());
        }
        let mut results = self.state.verification.clone();
        let limit = self.task.spec.limits.command_timeout_ms;
        let ran = self.or_stopped(verify::run(host, &commands, limit, side, &mut results)).await?;
        if let Err(why) = ran {
            self.end_step(step, StepStatus::Failed, begun, &why, Vec::new()).await?;
            return Err(failed(FailureReason::Infrastructure, &why));
        }
        let detail = results.iter().map(|v| summary(v, side)).collect::<Vec<_>>().join(", ");
        let more = vec![LogEntry::Verified { results }];
        self.end_step(step, StepStatus::Succeeded, begun, &detail, more).await?;
        Ok(())
    }

    async fn agent(&mut self, host: &mut Host, workflow: &Workflow, prepared: &Prepared) -> Result<(), Break> {
        let begun = self.journal.now();
        let specs = tools::specs(&workflow.agent_config.allowed_tools);
        let prompt = if self.state.model.is_none() {
            self.write(vec![LogEntry::StepStarted { step: StepName::HydrateContext }], Vec::new()).await?;
            let files = match host.workspace.hands().client().await {
                Ok(client) => client.project_files().await,
                Err(error) => Err(error),
            };
            let files = files.map_err(|e| failed(FailureReason::Infrastructure, &e.to_string()))?;
            let files: Vec<(String, String)> =
                files.into_iter().map(|f| (f.path, String::from_utf8_lossy(&f.bytes).into_owned())).collect();
            let built = self.prompt(workflow, prepared, &files, &specs)?;
            let detail = format!("{} project files, prompt version {}", files.len(), built.version);
            self.end_step(StepName::HydrateContext, StepStatus::Succeeded, begun, &detail, Vec::new()).await?;
            built
        } else {
            // A conversation that was begun goes on under the prompt that it was begun with.
            Prompt { system: String::new(), user: String::new(), version: self.state.prompt_version.clone() }
        };
        let begun = self.journal.now();
        self.write(vec![LogEntry::StepStarted { step: StepName::RunAgent }], Vec::new()).await?;
        let config = MachineConfig {
            model: self.parts.model_name.clone(),
            model_id: self.parts.model_id.clone(),
            capabilities: self.parts.model.capabilities(&self.parts.model_id),
            tools: specs,
            max_turns: self.task.spec.limits.max_turns,
            max_budget: self.task.spec.limits.max_budget,
            max_output_tokens: self.parts.max_output_tokens,
        };
        let workspace = host.workspace.clone();
        let save = move || {
            let workspace = workspace.clone();
            async move { workspace.checkpoint().await }
        };
        let mut saver = Saver::new(save, self.state.checkpoint.as_ref().map(|(_, sha)| sha.clone()));
        let mut looping = AgentLoop {
            machine: Machine::resume(config, self.state.clone()),
            journal: &mut self.journal,
            model: self.parts.model.clone(),
            tools: host,
            saver: &mut saver,
            screen: &self.screen,
            model_name: self.parts.model_name.clone(),
        };
        let ended = looping.run(prompt).await;
        self.state = looping.machine.state().clone();
        match ended? {
            LoopEnd::Stopped => Err(Break::Stopped),
            LoopEnd::Ended(end) => {
                let status = if end.failure.is_none() { StepStatus::Succeeded } else { StepStatus::Failed };
                let detail = end.failure.map_or_else(|| "done".to_owned(), |f| f.message);
                self.end_step(StepName::RunAgent, status, begun, &detail, Vec::new()).await?;
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
        };
        let version = system.version(specs);
        Ok(Prompt { system: system.render(), user: prepared.user_prompt.clone(), version })
    }

    /// After the agent: commit, take over, verify, propose.
    async fn finish(
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
        self.write(vec![LogEntry::StepStarted { step: StepName::SafetyNet }], Vec::new()).await?;
        let (head, saved) = self.or_stopped(workspace.take_work()).await?.map_err(|e| git_break(&e))?;
        let detail = if saved { "uncommitted work was committed" } else { "everything was committed" };
        self.end_step(StepName::SafetyNet, StepStatus::Succeeded, begun, detail, Vec::new()).await?;
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
        self.write(vec![LogEntry::StepStarted { step: StepName::EnsurePr }], Vec::new()).await?;
        let work = deliver::Work {
            task: &self.task,
            prepared,
            attempt: self.start.attempt,
            base,
            head,
            diff: DiffStat { files: diff.files.len() as u64, insertions: diff.added(), deletions: diff.removed() },
            answer: &answer,
        };
        let delivered = {
            let Self { state, journal, parts, .. } = self;
            deliver::deliver(work, workspace, parts, state, journal).await
        };
        match delivered {
            Ok(Ok(delivered)) => {
                self.end_step(
                    StepName::EnsurePr,
                    StepStatus::Succeeded,
                    begun,
                    &delivered.pull_request.url,
                    Vec::new(),
                )
                .await?;
                Ok(Outcome { answer: Some(answer), delivered: Some(delivered), nothing_to_do: false })
            }
            Ok(Err(Undelivered::Stopped)) => Err(Break::Stopped),
            Ok(Err(Undelivered::Failed(failure))) => {
                self.end_step(StepName::EnsurePr, StepStatus::Failed, begun, &failure.message, Vec::new()).await?;
                Err(Break::Failed(failure))
            }
            Err(abort) => Err(abort.into()),
        }
    }

    /// Whether the checks let the work through (`behaviour.md` 4.2).
    fn gate(&self, workflow: &Workflow) -> Result<(), Break> {
        for v in &self.state.verification {
            let check = match v.name.as_str() {
                "lint" => Check::Lint,
                "test" => Check::Test,
                _ => Check::Build,
            };
            let after = v.after.unwrap_or(CheckResult::Inert);
            if !gate(workflow.gate_mode(check), self.task.spec.read_only, v.before, after).is_ok() {
                if after == CheckResult::InfraFailed {
                    let last = v.output_tail.lines().rfind(|l| !l.trim().is_empty()).unwrap_or("it was killed");
                    let text = format!(
                        "Task did not succeed (agent_status=success, build_ok=infra): the machine failed while `{}` was running ({})",
                        v.command,
                        preview(last, 200),
                    );
                    return Err(failed(FailureReason::Infrastructure, &text));
                }
                let text = format!(
                    "Task did not succeed (agent_status=success, build_ok=False): `{}` ({}) {} before the agent's work and {} after it; the work is kept at `{}`",
                    v.command,
                    v.name,
                    word(v.before),
                    word(v.after),
                    abca_core::names::wip_ref(self.task.id),
                );
                return Err(failed(FailureReason::Verification, &text));
            }
        }
        Ok(())
    }

    // -- the log ---------------------------------------------------------------------------------------------------

    async fn write(&mut self, entries: Vec<LogEntry>, events: Vec<NewEvent>) -> Result<(), Break> {
        for entry in &entries {
            self.state.apply(entry);
        }
        let mut events = events;
        for entry in &entries {
            if let LogEntry::StepStarted { step } = entry {
                events.push(self.step_event(*step, "start", ""));
            }
            if let LogEntry::StepEnded { step, status, detail, .. } = entry {
                let how = match status {
                    StepStatus::Succeeded => "succeeded",
                    StepStatus::Failed => "failed",
                    StepStatus::Skipped => "skipped",
                };
                events.push(self.step_event(*step, how, detail));
            }
        }
        Ok(self.journal.write(entries, events).await?)
    }

    fn step_event(&self, step: StepName, how: &str, detail: &str) -> NewEvent {
        NewEvent::new(EventType::AgentMilestone, self.journal.now())
            .with("milestone", format!("step:{}:{how}", step.as_str()))
            .with("details", self.screen.scrub(detail).text)
    }

    async fn end_step(
        &mut self,
        step: StepName,
        status: StepStatus,
        begun: abca_core::Timestamp,
        detail: &str,
        mut before: Vec<LogEntry>,
    ) -> Result<(), Break> {
        let duration_ms = self.journal.now().since(begun);
        before.push(LogEntry::StepEnded { step, status, duration_ms, detail: detail.to_owned() });
        self.write(before, Vec::new()).await
    }

    async fn milestone(&mut self, name: &str, detail: &str) -> Result<(), Break> {
        let event = NewEvent::new(EventType::AgentMilestone, self.journal.now())
            .with("milestone", name)
            .with("details", detail);
        self.write(Vec::new(), vec![event]).await
    }

    /// Waits for something, unless the session is told to stop first.
    async fn or_stopped<T>(&self, work: impl Future<Output = T>) -> Result<T, Break> {
        let stopped = self.journal.ears().stopped().clone();
        tokio::select! {
            biased;
            () = stopped.cancelled() => Err(Break::Stopped),
            done = work => Ok(done),
        }
    }
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

fn summary(v: &Verification, side: Side) -> String {
    let result = match side {
        Side::Before => v.before,
        Side::After => v.after,
    };
    format!("{} {}", v.name, word(result))
}

fn word(result: Option<CheckResult>) -> &'static str {
    match result {
        Some(CheckResult::Passed) => "passed",
        Some(CheckResult::Failed) => "failed",
        Some(CheckResult::TimedOut) => "did not end in time",
        Some(CheckResult::Inert) => "had nothing to run",
        Some(CheckResult::InfraFailed) => "was ended by a failure of the machine",
        None => "was not run",
    }
}
