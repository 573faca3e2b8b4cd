//! How sessions are run: in processes of their own, or in this one.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use abca_compute::{InProcess, Process, ProcessConfig, SessionRunner};
use abca_core::SessionId;
use abca_core::compute::{ComputeStrategy, SessionLimits, StartSession};
use abca_core::git::GitProvider;
use abca_core::link::SessionLink;
use abca_core::mcp::McpSettings;
use abca_core::model::{ModelClient, ModelError};
use abca_core::policy::{PolicyEngine, PolicyError, PolicyErrorKind, PolicySettings};
use abca_core::task::Task;
use abca_core::time::{Clock, IdSource};
use async_trait::async_trait;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::brain::BrainPayload;
use crate::builder::Platform;
use crate::error::{Error, ErrorKind};
use crate::forge::ForgeSettings;
use crate::link::LinkSecret;
use crate::models::{Connected, ModelSettings};
use crate::orchestrator::Launcher;
use crate::session::{HandsProgram, SessionParts, fail_session, run_session, usual_policy};
use crate::state::StateDir;

/// What sessions are made of besides the platform.
#[derive(Debug)]
pub(crate) struct Recipe {
    pub(crate) models: ModelSettings,
    pub(crate) model: Option<(Arc<dyn ModelClient>, String)>,
    pub(crate) policy: Option<Arc<dyn PolicyEngine>>,
    pub(crate) policies: PolicySettings,
    pub(crate) mcp: McpSettings,
    pub(crate) home: Option<PathBuf>,
    pub(crate) ids: Arc<dyn IdSource>,
    pub(crate) unsandboxed: bool,
}

impl Recipe {
    /// Whether the embedder said anything about models.
    pub(crate) fn has_model(&self) -> bool {
        self.model.is_some() || self.models.model.is_some()
    }

    /// The policy where the embedder brought no engine.
    fn usual_policy(&self) -> Result<Arc<dyn PolicyEngine>, Error> {
        usual_policy(&self.policies).map_err(|e| {
            Error::new(ErrorKind::Config, format!("the policies cannot be used: {}", e.message())).with_source(e)
        })
    }

    pub(crate) fn source(&self) -> ModelSource {
        match self.model.clone() {
            Some((client, id)) => ModelSource::Own(client, id),
            None => ModelSource::Settings(self.models.clone()),
        }
    }
}

/// What the default wiring of sessions is made from.
pub(crate) struct Wiring<'a> {
    pub(crate) platform: &'a Platform,
    pub(crate) secret: LinkSecret,
    pub(crate) limits: SessionLimits,
    pub(crate) forge: ForgeSettings,
    /// Values of the egress proxy's credentials, by name.
    pub(crate) credentials: BTreeMap<String, SecretString>,
    /// Parts of the embedder's own: sessions must run in this process.
    pub(crate) own_parts: bool,
}

type Wired = (Arc<dyn ComputeStrategy>, Arc<dyn Launcher>);

/// The default: sessions in processes of their own; in this process where parts of the embedder's own are needed.
pub(crate) fn wire(w: Wiring<'_>) -> Result<Wired, Error> {
    let recipe = &w.platform.recipe;
    if w.own_parts {
        let launcher = HereLauncher::new(w.secret, w.limits, w.credentials, recipe);
        return Ok((Arc::new(InProcess::new(w.platform.sessions()?)), Arc::new(launcher)));
    }
    let state = state_of(w.platform)?;
    if !crate::init::called() {
        return Err(no_init());
    }
    // Once here, so that a bad policy is told now and not by every session.
    recipe.usual_policy()?;
    let mut models = recipe.models.clone();
    models.model = models.model.map(rooted);
    models.record = models.record.map(|path| std::path::absolute(&path).unwrap_or(path));
    let mut forge = w.forge;
    forge.root = forge.root.map(|path| std::path::absolute(&path).unwrap_or(path));
    let mut secrets = models.secrets();
    let mut mcp = recipe.mcp.clone();
    secrets.extend(mcp.take_secrets());
    secrets.extend(w.credentials);
    let config = ProcessConfig {
        state_dir: state.sessions_dir(),
        // The very file that runs, also after it was built anew.
        program: PathBuf::from("/proc/self/exe"),
        args: Vec::new(),
    };
    let payload = BrainPayload {
        link_dir: state.link_dir(),
        work_root: work_root(state),
        home: recipe.home.clone(),
        hidden: hidden(state),
        model: None,
        models,
        forge,
        policies: recipe.policies.clone(),
        mcp,
    };
    let launcher = BrainLauncher { secret: w.secret, payload, secrets, limits: w.limits };
    Ok((Arc::new(Process::new(config)), Arc::new(launcher)))
}

fn state_of(platform: &Platform) -> Result<&StateDir, Error> {
    platform.state.as_ref().ok_or_else(|| {
        let text = "sessions need a place for their work: call `.state_dir(..)`, or bring `.compute(..)`";
        Error::new(ErrorKind::Config, text)
    })
}

fn no_init() -> Error {
    let text = "this program has to call `abca::init()` first in its `main`: sessions and their tools are processes of \
                this very program";
    Error::new(ErrorKind::Config, text)
}

/// A model's name with the path in it made absolute: a session's process runs in a folder of its own.
fn rooted(model: String) -> String {
    match model.strip_prefix("replay:").map(std::path::absolute) {
        Some(Ok(path)) => format!("replay:{}", path.display()),
        Some(Err(_)) | None => model,
    }
}

fn work_root(state: &StateDir) -> PathBuf {
    state.work_dir()
}

fn hidden(state: &StateDir) -> Vec<PathBuf> {
    vec![state.path().to_owned()]
}

/// Words the start of a session in its own process.
#[derive(Debug)]
pub(crate) struct BrainLauncher {
    pub(crate) secret: LinkSecret,
    /// What every session is told; the task's model and its repository's policies are filled in.
    pub(crate) payload: BrainPayload,
    pub(crate) secrets: BTreeMap<String, SecretString>,
    pub(crate) limits: SessionLimits,
}

#[async_trait]
impl Launcher for BrainLauncher {
    async fn launch(&self, task: &Task, session: &SessionId, attempt: u32) -> Result<StartSession, String> {
        let model = task.spec.model.clone().map(rooted);
        self.payload.models.clone().with_secrets(&self.secrets).check(model.as_deref()).map_err(|e| e.to_string())?;
        let policies = self.payload.policies.clone().with_repository(&task.spec.cedar_policies);
        let payload = BrainPayload { model, policies, ..self.payload.clone() };
        Ok(StartSession {
            session: session.clone(),
            task: task.id,
            attempt,
            payload: serde_json::to_string(&payload).map_err(|e| e.to_string())?,
            token: self.secret.token(session),
            secrets: self.secrets.clone(),
            limits: within(&self.limits, task),
        })
    }
}

/// A session lives no longer than its task, and reaches what the task's repository needs.
pub(crate) fn within(limits: &SessionLimits, task: &Task) -> SessionLimits {
    let mut limits = limits.clone();
    limits.wall_ms = limits.wall_ms.min(task.spec.limits.task_timeout_ms);
    limits.egress.allow.extend(task.spec.egress_allowlist.iter().cloned());
    limits
}

/// Where sessions of this process get their model from.
#[derive(Debug, Clone)]
pub(crate) enum ModelSource {
    /// The embedder's own client, and the model's id with it.
    Own(Arc<dyn ModelClient>, String),
    /// A built-in client.
    Settings(ModelSettings),
}

/// Where sessions of this process get their policy from.
#[derive(Debug, Clone)]
pub(crate) enum PolicyOf {
    /// The embedder's own engine.
    Own(Arc<dyn PolicyEngine>),
    /// The settings, and the engine of repositories that add nothing to them.
    Settings(PolicySettings, Arc<dyn PolicyEngine>),
}

impl PolicyOf {
    fn of(&self, start: &StartSession) -> Result<Arc<dyn PolicyEngine>, PolicyError> {
        let told: HerePayload = serde_json::from_str(&start.payload)
            .map_err(|e| PolicyError::new(PolicyErrorKind::Policies, "load", format!("the payload: {e}")))?;
        match self {
            Self::Own(_) if !told.cedar_policies.is_empty() => {
                let text =
                    "the repository has policies and this platform an engine of its own, which does not read them";
                Err(PolicyError::new(PolicyErrorKind::Policies, "load", text))
            }
            Self::Own(engine) => Ok(engine.clone()),
            Self::Settings(_, usual) if told.cedar_policies.is_empty() => Ok(usual.clone()),
            Self::Settings(settings, _) => usual_policy(&settings.clone().with_repository(&told.cedar_policies)),
        }
    }
}

/// What a session of this process is told about its task.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct HerePayload {
    /// The task's own model, where it names one.
    model: Option<String>,
    /// The repository's policies.
    cedar_policies: Vec<String>,
}

/// Runs sessions as tasks of this process; their hands are processes all the same.
#[derive(Debug)]
pub(crate) struct SessionsHere {
    pub(crate) link: Arc<dyn SessionLink>,
    pub(crate) git: Arc<dyn GitProvider>,
    pub(crate) model: ModelSource,
    pub(crate) policy: PolicyOf,
    pub(crate) mcp: McpSettings,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn IdSource>,
    pub(crate) work_root: PathBuf,
    pub(crate) home: Option<PathBuf>,
    pub(crate) hidden: Vec<PathBuf>,
    pub(crate) program: HandsProgram,
}

impl SessionsHere {
    pub(crate) fn new(platform: &Platform) -> Result<Self, Error> {
        let state = state_of(platform)?;
        let recipe = &platform.recipe;
        let program = match (crate::init::called(), recipe.unsandboxed) {
            (true, _) => HandsProgram::ThisExecutable,
            (false, true) => HandsProgram::InProcess,
            (false, false) => return Err(no_init()),
        };
        Ok(Self {
            link: platform.link.clone(),
            git: platform.git.clone(),
            model: recipe.source(),
            policy: match &recipe.policy {
                Some(own) => PolicyOf::Own(own.clone()),
                None => PolicyOf::Settings(recipe.policies.clone(), recipe.usual_policy()?),
            },
            mcp: recipe.mcp.clone(),
            clock: platform.clock.clone(),
            ids: recipe.ids.clone(),
            work_root: work_root(state),
            home: recipe.home.clone(),
            hidden: hidden(state),
            program,
        })
    }

    async fn connect(&self, start: &StartSession) -> Result<(Connected, u32, Vec<SecretString>), ModelError> {
        match &self.model {
            ModelSource::Own(client, id) => {
                let max = client.capabilities(id).max_output_tokens.min(ModelSettings::default().max_output_tokens);
                let name = format!("{}:{id}", client.name());
                Ok((Connected { client: client.clone(), name, id: id.clone() }, max, Vec::new()))
            }
            ModelSource::Settings(settings) => {
                // The task's own model, where it names one, travels in the payload.
                let told: HerePayload = serde_json::from_str(&start.payload).unwrap_or_default();
                let connected = settings.connect(told.model.as_deref(), self.ids.clone(), start.attempt > 1).await?;
                Ok((connected, settings.max_output_tokens, settings.secrets().into_values().collect()))
            }
        }
    }
}

#[async_trait]
impl SessionRunner for SessionsHere {
    async fn run(&self, request: StartSession, stop: CancellationToken) -> i32 {
        let (connected, max_output_tokens, secrets) = match self.connect(&request).await {
            Ok(connected) => connected,
            Err(error) => {
                tracing::error!(session = %request.session, %error, "the session has no model");
                return fail_session(request, self.link.clone(), crate::brain::no_model(&error)).await;
            }
        };
        let policy = match self.policy.of(&request) {
            Ok(policy) => policy,
            Err(error) => {
                tracing::error!(session = %request.session, %error, "the session has no policy");
                return fail_session(request, self.link.clone(), crate::brain::no_policy(&error)).await;
            }
        };
        let parts = SessionParts {
            link: self.link.clone(),
            git: self.git.clone(),
            model: connected.client,
            model_name: connected.name,
            model_id: connected.id,
            mcp: self.mcp.clone(),
            policy,
            clock: self.clock.clone(),
            work_root: self.work_root.clone(),
            home: self.home.clone(),
            hidden: self.hidden.clone(),
            program: self.program.clone(),
            secrets,
            max_output_tokens,
        };
        run_session(request, parts, stop).await
    }
}

/// Words the start of a session in this process.
#[derive(Debug)]
pub(crate) struct HereLauncher {
    secret: LinkSecret,
    limits: SessionLimits,
    credentials: BTreeMap<String, SecretString>,
    model: ModelSource,
}

impl HereLauncher {
    pub(crate) fn new(
        secret: LinkSecret,
        limits: SessionLimits,
        credentials: BTreeMap<String, SecretString>,
        recipe: &Recipe,
    ) -> Self {
        Self { secret, limits, credentials, model: recipe.source() }
    }
}

#[async_trait]
impl Launcher for HereLauncher {
    async fn launch(&self, task: &Task, session: &SessionId, attempt: u32) -> Result<StartSession, String> {
        if let ModelSource::Settings(settings) = &self.model {
            settings.check(task.spec.model.as_deref()).map_err(|e| e.to_string())?;
        }
        let payload = HerePayload { model: task.spec.model.clone(), cedar_policies: task.spec.cedar_policies.clone() };
        Ok(StartSession {
            session: session.clone(),
            task: task.id,
            attempt,
            payload: serde_json::to_string(&payload).map_err(|e| e.to_string())?,
            token: self.secret.token(session),
            secrets: self.credentials.clone(),
            limits: within(&self.limits, task),
        })
    }
}
