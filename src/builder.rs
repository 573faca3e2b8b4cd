//! Chooses the parts of an [`Abca`], and joins them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use abca_compute::SessionRunner;
use abca_core::blueprint::{Blueprint, PlatformDefaults};
use abca_core::compute::{ComputeStrategy, NetworkMode, SandboxMode, SessionLimits};
use abca_core::egress::CredentialRule;
use abca_core::git::{GitProvider, RepoRef};
use abca_core::guardrail::{DecisionSink, Guardrail};
use abca_core::id::WorkerId;
use abca_core::link::SessionLink;
use abca_core::mcp::McpSettings;
use abca_core::model::ModelClient;
use abca_core::policy::{PolicyDecisionEvent, PolicyEngine, PolicySettings};
use abca_core::store::TaskStore;
use abca_core::task::Caps;
use abca_core::{Clock, IdSource, UserId};
use secrecy::SecretString;

use crate::abca::{Abca, Inner};
use crate::clock::{OsRandom, SystemClock};
use crate::egress::Credentials;
use crate::error::{Error, ErrorKind};
use crate::forge::ForgeSettings;
use crate::guardrail::{Guard, GuardrailSettings};
use crate::link::{LinkSecret, LinkServer, StoreLink};
use crate::models::ModelSettings;
use crate::orchestrator::{
    Bell, ForgePreparer, Launcher, PlainLauncher, Preparer, Wake, Worker, WorkerConfig, WorkerParts, backend_name,
};
use crate::preflight::ModelPreflight;
use crate::session::usual_policy;
use crate::sessions::{self, HereLauncher, Recipe, SessionsHere, Wiring};
use crate::state::StateDir;
use crate::stores::StoreUrl;
use crate::sweep::Sweeper;

/// What a compute strategy of the embedder's own is made from. See [`Builder::compute_with`].
#[derive(Debug, Clone)]
pub struct Platform {
    /// The way of sessions in this process to the platform.
    pub link: Arc<dyn SessionLink>,
    /// The forge.
    pub git: Arc<dyn GitProvider>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The state folder, if there is one.
    pub state: Option<StateDir>,
    /// What the sessions of this process are made of besides.
    pub(crate) recipe: Arc<Recipe>,
}

impl Platform {
    /// What a session does from its registration to its report, with this builder's model, policy and forge. A strategy
    /// of your own says where and when it runs.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] without a state folder, and when [`crate::init`] was not called although the hands are to
    /// stand behind walls.
    pub fn sessions(&self) -> Result<Arc<dyn SessionRunner>, Error> {
        Ok(Arc::new(SessionsHere::new(self)?))
    }
}

type MakeCompute = Box<dyn FnOnce(&Platform) -> Result<Arc<dyn ComputeStrategy>, Error> + Send>;
type MakeLauncher = Box<dyn FnOnce(&Platform, LinkSecret) -> Result<Arc<dyn Launcher>, Error> + Send>;

/// Builds an [`Abca`]. Every part has a default where a laptop has one.
#[derive(Default)]
pub struct Builder {
    state_dir: Option<PathBuf>,
    store: Option<Arc<dyn TaskStore>>,
    store_url: Option<StoreUrl>,
    compute: Option<MakeCompute>,
    launcher: Option<MakeLauncher>,
    git: Option<Arc<dyn GitProvider>>,
    preparer: Option<Arc<dyn Preparer>>,
    clock: Option<Arc<dyn Clock>>,
    ids: Option<Arc<dyn IdSource>>,
    user: Option<String>,
    platform: PlatformDefaults,
    repositories: BTreeMap<RepoRef, Blueprint>,
    session_limits: SessionLimits,
    session_payload: Option<String>,
    secrets: BTreeMap<String, SecretString>,
    credentials: Vec<(CredentialRule, SecretString)>,
    home: Option<PathBuf>,
    forge: ForgeSettings,
    models: ModelSettings,
    model: Option<(Arc<dyn ModelClient>, String)>,
    policy: Option<Arc<dyn PolicyEngine>>,
    policies: PolicySettings,
    mcp: McpSettings,
    guardrail: Option<Arc<dyn Guardrail>>,
    guardrails: GuardrailSettings,
    told: Option<DecisionSink>,
    worker: Option<bool>,
    worker_config: WorkerConfig,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("state_dir", &self.state_dir)
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

impl Builder {
    /// Where the default store, the link's sockets and the default compute strategy keep what they keep. Made if it is
    /// not there. Needed unless a store is given.
    #[must_use]
    pub fn state_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.state_dir = Some(path.into());
        self
    }

    /// Where tasks live. Default: SQLite in the state folder.
    #[must_use]
    pub fn store(mut self, store: Arc<dyn TaskStore>) -> Self {
        self.store = Some(store);
        self
    }

    /// Where tasks live, by URL. Default: SQLite in the state folder. [`Self::store`] counts before it.
    #[must_use]
    pub fn store_url(mut self, url: StoreUrl) -> Self {
        self.store_url = Some(url);
        self
    }

    /// Where sessions run.
    #[must_use]
    pub fn compute(self, compute: Arc<dyn ComputeStrategy>) -> Self {
        self.compute_with(move |_| Ok(compute))
    }

    /// Where sessions run, made from parts of the platform: for strategies whose sessions run in this process. They run
    /// what [`Platform::sessions`] gives, so that [`Self::model`], [`Self::models`] and [`Self::policy`] count.
    #[must_use]
    pub fn compute_with(
        mut self,
        make: impl FnOnce(&Platform) -> Result<Arc<dyn ComputeStrategy>, Error> + Send + 'static,
    ) -> Self {
        self.compute = Some(Box::new(make));
        self
    }

    /// Words the start of sessions. Default: [`PlainLauncher`] with this builder's payload, secrets and limits.
    #[must_use]
    pub fn launcher_with(
        mut self,
        make: impl FnOnce(&Platform, LinkSecret) -> Result<Arc<dyn Launcher>, Error> + Send + 'static,
    ) -> Self {
        self.launcher = Some(Box::new(make));
        self
    }

    /// The user's home folder: the hands see its toolchains and nothing else of it.
    #[must_use]
    pub fn home(mut self, home: impl Into<PathBuf>) -> Self {
        self.home = Some(home.into());
        self
    }

    /// Where models are, and the model of tasks that name none. Sessions run in processes of their own.
    #[must_use]
    pub fn models(mut self, models: ModelSettings) -> Self {
        self.models = models;
        self
    }

    /// A model client of your own, and the id of the model to call. It cannot cross into another process, so sessions run
    /// as tasks of this one; their hands are sandboxed processes all the same.
    #[must_use]
    pub fn model(mut self, client: Arc<dyn ModelClient>, id: impl Into<String>) -> Self {
        self.model = Some((client, id.into()));
        self
    }

    /// Judges tool calls. Default: Cedar with the built-in policies and [`Self::policies`] (feature `cedar`), else
    /// [`crate::session::DefaultPolicy`]. As with [`Self::model`], sessions then run in this process.
    #[must_use]
    pub fn policy(mut self, policy: Arc<dyn PolicyEngine>) -> Self {
        self.policy = Some(policy);
        self
    }

    /// Policies beside the built-in ones, and what single rules do. An engine given to [`Self::policy`] counts before them.
    /// A policy that cannot be used fails [`Self::build`] with its name, line and column.
    #[must_use]
    pub fn policies(mut self, policies: PolicySettings) -> Self {
        self.policies = policies;
        self
    }

    /// MCP servers of sessions, for tasks whose tier of tools is `elevated`. Default none. Settings that cannot be used fail
    /// [`Self::build`], and so do any in a program that is built without the feature `mcp`.
    #[must_use]
    pub fn mcp(mut self, mcp: McpSettings) -> Self {
        self.mcp = mcp;
        self
    }

    /// Judges text before it comes in: submissions, prompts, nudges. Default: what [`Self::guardrails`] says. It stands in this
    /// process; others on the same store have their own.
    #[must_use]
    pub fn guardrail(mut self, guardrail: Arc<dyn Guardrail>) -> Self {
        self.guardrail = Some(guardrail);
        self
    }

    /// Which of the built-in guardrails. Default: the local one. One given to [`Self::guardrail`] counts before them.
    #[must_use]
    pub fn guardrails(mut self, settings: GuardrailSettings) -> Self {
        self.guardrails = settings;
        self
    }

    /// Is told every decision of the guardrail of this process that is no plain yes, without secrets: those about
    /// refused submissions too, which have no task whose events could tell them. Called where the decision is made, so it
    /// must not block.
    #[must_use]
    pub fn on_decision(mut self, told: impl Fn(PolicyDecisionEvent) + Send + Sync + 'static) -> Self {
        self.told = Some(Arc::new(told));
        self
    }

    /// The default forge's settings.
    #[must_use]
    pub fn forge(mut self, forge: ForgeSettings) -> Self {
        self.forge = forge;
        self
    }

    /// The forge. As with [`Self::model`], sessions then run in this process.
    #[must_use]
    pub fn git(mut self, git: Arc<dyn GitProvider>) -> Self {
        self.git = Some(git);
        self
    }

    /// Pre-flight and context assembly.
    #[must_use]
    pub fn preparer(mut self, preparer: Arc<dyn Preparer>) -> Self {
        self.preparer = Some(preparer);
        self
    }

    /// The time. Default: the system's clock.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Randomness for ids and secrets. Default: the operating system's.
    #[must_use]
    pub fn ids(mut self, ids: Arc<dyn IdSource>) -> Self {
        self.ids = Some(ids);
        self
    }

    /// In whose name tasks are submitted and cancelled. Default `local`.
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// What the operator sets for every task: caps, limits, models. Frozen into a task when it is submitted; caps other than
    /// the default ones count besides for everything that the worker of this process admits, so that a cap that is lowered
    /// counts for what waits already.
    #[must_use]
    pub fn platform(mut self, platform: PlatformDefaults) -> Self {
        self.platform = platform;
        self
    }

    /// What single repositories set for their tasks, on top of [`Self::platform`]: limits, circuit breaker, commands, hosts,
    /// policies, screening. Frozen into a task when it is submitted. A setting that nothing here can honour, or a policy that
    /// cannot be used, fails [`Self::build`].
    #[must_use]
    pub fn repositories(mut self, repositories: BTreeMap<RepoRef, Blueprint>) -> Self {
        self.repositories = repositories;
        self
    }

    /// What a session's hands may use.
    #[must_use]
    pub fn session_limits(mut self, limits: SessionLimits) -> Self {
        self.session_limits = limits;
        self
    }

    /// A credential that the egress proxy adds to the requests that it is for. The hands never hold it, and where a server
    /// shows it, it is taken out of what the model sees. Needs the network `proxy`; for `https` hosts the feature `web`.
    /// A value that cannot be used fails [`Self::build`].
    #[must_use]
    pub fn egress_credential(mut self, rule: CredentialRule, value: SecretString) -> Self {
        self.credentials.push((rule, value));
        self
    }

    /// What every session is told at its start, as JSON for the session runtime; no secrets. Default `{}`.
    #[must_use]
    pub fn session_payload(mut self, json: impl Into<String>) -> Self {
        self.session_payload = Some(json.into());
        self
    }

    /// A credential that the compute strategy hands to the brain of every session, and never to the hands.
    #[must_use]
    pub fn secret(mut self, name: impl Into<String>, value: SecretString) -> Self {
        self.secrets.insert(name.into(), value);
        self
    }

    /// Whether an orchestrator runs in this process. Default yes. Without one, another process must run one on the same
    /// store.
    #[must_use]
    pub fn worker(mut self, here: bool) -> Self {
        self.worker = Some(here);
        self
    }

    /// How the orchestrator works.
    #[must_use]
    pub fn worker_config(mut self, config: WorkerConfig) -> Self {
        self.worker_config = config;
        self
    }

    /// Puts the credentials into the limits, and answers their values.
    fn egress_credentials(&mut self) -> Result<BTreeMap<String, SecretString>, Error> {
        let invalid = |text: String| Error::new(ErrorKind::Invalid, text);
        let network = self.session_limits.network_of_hands();
        let egress = &mut self.session_limits.egress;
        let mut values = BTreeMap::new();
        for (rule, value) in std::mem::take(&mut self.credentials) {
            if values.insert(Credentials::secret_name(&rule), value).is_some() {
                return Err(invalid(format!(
                    "there are two values for the credential `{rule}`: leave one of them out"
                )));
            }
            egress.credentials.push(rule);
        }
        egress.check().map_err(|why| invalid(format!("the settings of the egress proxy are not acceptable: {why}")))?;
        if self.launcher.is_none() {
            Credentials::resolve(&egress.credentials, &values).map_err(|e| invalid(e.to_string()))?;
        }
        let Some(rule) = egress.credentials.first() else { return Ok(values) };
        if network != NetworkMode::Proxy {
            let text = format!("the credential `{rule}` needs the egress proxy: set the sessions' network to `proxy`");
            return Err(invalid(text));
        }
        if let Some(rule) = egress.credentials.iter().find(|rule| rule.is_tls() && !cfg!(feature = "web")) {
            let text = format!("the credential `{rule}` needs the feature `web`, and this program is built without it");
            return Err(Error::new(ErrorKind::Config, text));
        }
        Ok(values)
    }

    /// Checks and joins the parts, and starts the orchestrator.
    ///
    /// # Errors
    /// [`ErrorKind::State`] when the state folder or its database cannot be used; [`ErrorKind::Config`] when a part is
    /// missing; [`ErrorKind::Invalid`] when a setting is not acceptable.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn build(mut self) -> Result<Abca, Error> {
        let credentials = self.egress_credentials()?;
        let mut worker_config = self.worker_config;
        worker_config.caps = worker_config.caps.and(&Caps::of(&self.platform));
        let user = UserId::new(self.user.unwrap_or_else(|| "local".to_owned()))
            .map_err(|e| Error::new(ErrorKind::Invalid, e.to_string()).with_source(e))?;
        if self.worker.unwrap_or(true) && self.launcher.is_none() {
            self.platform.network = network_here(self.platform.network, &self.session_limits)?;
        }
        self.platform.check().map_err(|e| Error::new(ErrorKind::Invalid, e.to_string()).with_source(e))?;
        for (repo, blueprint) in &self.repositories {
            let bad = |e: &dyn fmt::Display| Error::new(ErrorKind::Invalid, format!("the settings of `{repo}`: {e}"));
            blueprint.check(&self.platform).map_err(|e| bad(&e).with_source(e))?;
            if blueprint.cedar_policies.is_empty() {
                continue;
            }
            if self.policy.is_some() {
                return Err(bad(
                    &"`cedar_policies` are not read by a policy engine of your own: leave one of the two out",
                ));
            }
            let policies = self.policies.clone().with_repository(&blueprint.cedar_policies);
            usual_policy(&policies).map_err(|e| bad(&e.message()).with_source(e))?;
        }
        crate::session::mcp::check(&self.mcp).map_err(|e| {
            Error::new(ErrorKind::Config, format!("the MCP servers cannot be used: {e}")).with_source(e)
        })?;
        // Before anything is made on the disk.
        worker_config.check()?;
        let clock: Arc<dyn Clock> = self.clock.unwrap_or_else(|| Arc::new(SystemClock));
        let ids: Arc<dyn IdSource> = self.ids.unwrap_or_else(|| Arc::new(OsRandom));
        let state = self.state_dir.map(StateDir::open).transpose()?;
        let guardrail = match self.guardrail {
            Some(own) => Some(own),
            None => {
                let handed_out = self.models.secrets().into_values().chain(self.secrets.values().cloned());
                self.guardrails.connect(handed_out, ids.clone()).await?
            }
        };
        let guard = Guard::over(guardrail).telling(self.told);
        let bell = Bell::default();
        let store = match (self.store, self.store_url) {
            (Some(store), _) => store,
            (None, Some(url)) => url.open().await?,
            (None, None) => default_store(state.as_ref()).await?,
        };
        let store: Arc<dyn TaskStore> = Arc::new(Wake::new(store, bell.clone()));
        let secret = match &state {
            Some(state) => LinkSecret::open(&state.link_secret(), &*ids)
                .map_err(|e| Error::new(ErrorKind::State, e.to_string()).with_source(e))?,
            None => LinkSecret::random(&*ids),
        };
        let mut inner = Inner {
            store: store.clone(),
            bell: bell.clone(),
            clock: clock.clone(),
            ids: ids.clone(),
            user,
            platform: self.platform,
            repositories: self.repositories,
            secret: secret.clone(),
            guard: guard.clone(),
            state: state.clone(),
            worker: None,
            server: None,
            sweeper: None,
        };
        if self.worker.unwrap_or(true) {
            let link = Arc::new(StoreLink::new(store.clone(), clock.clone(), bell.clone()));
            // What the embedder made himself cannot cross into a session's own process.
            let own_parts = self.model.is_some() || self.git.is_some() || self.policy.is_some();
            let git = match self.git {
                Some(git) => git,
                None => self.forge.connect(clock.clone()).map_err(|e| {
                    Error::new(ErrorKind::Config, format!("the local forge cannot be used: {e}")).with_source(e)
                })?,
            };
            let recipe = Recipe {
                models: self.models,
                model: self.model,
                policy: self.policy,
                policies: self.policies,
                mcp: self.mcp,
                home: self.home,
                ids: ids.clone(),
                unsandboxed: self.session_limits.sandbox == SandboxMode::Unsandboxed,
            };
            let platform = Platform {
                link: link.clone(),
                git: git.clone(),
                clock: clock.clone(),
                state: state.clone(),
                recipe: Arc::new(recipe),
            };
            let preparer = match self.preparer {
                Some(preparer) => preparer,
                None => Arc::new(ForgePreparer::new(git.clone())),
            };
            // Sessions elsewhere know models that are not known here.
            let preparer = match &self.compute {
                Some(_) if !platform.recipe.has_model() => preparer,
                Some(_) | None => Arc::new(ModelPreflight { inner: preparer, model: platform.recipe.source() }),
            };
            let (compute, launcher) = match (self.compute, self.launcher) {
                (Some(compute), Some(launcher)) => (compute(&platform)?, launcher(&platform, secret.clone())?),
                // Told of a model and of nothing else: the strategy runs our sessions, which need the task's model.
                (Some(compute), None)
                    if platform.recipe.has_model() && self.session_payload.is_none() && self.secrets.is_empty() =>
                {
                    let launcher =
                        HereLauncher::new(secret.clone(), self.session_limits, credentials, &platform.recipe);
                    (compute(&platform)?, Arc::new(launcher) as Arc<dyn Launcher>)
                }
                (Some(compute), None) => {
                    let launcher: Arc<dyn Launcher> = Arc::new(PlainLauncher {
                        secret: secret.clone(),
                        payload: self.session_payload.unwrap_or_else(|| "{}".to_owned()),
                        secrets: self.secrets.into_iter().chain(credentials).collect(),
                        limits: self.session_limits,
                    });
                    (compute(&platform)?, launcher)
                }
                (None, Some(_)) => return Err(missing("where sessions run", ".compute(..)")),
                (None, None) => sessions::wire(Wiring {
                    platform: &platform,
                    secret: secret.clone(),
                    limits: self.session_limits,
                    forge: self.forge,
                    credentials,
                    own_parts,
                })?,
            };
            if let Some(state) = &state {
                let name = WorkerId::from_parts(clock.now(), ids.random());
                let dir = state.link_dir();
                inner.server = Some(LinkServer::start(&dir, name, link, secret.clone()).await.map_err(|e| {
                    let text = format!("no socket can be made in `{}`: {e}", dir.display());
                    Error::new(ErrorKind::State, text).with_source(e)
                })?);
            }
            let mut config = worker_config;
            config.place = config.place.or_else(|| state.as_ref().map(|_| secret.place()));
            inner.sweeper = state.as_ref().map(|state| {
                let backend = backend_name(&*compute, config.place.as_deref());
                let (store, compute, clock) = (store.clone(), compute.clone(), clock.clone());
                let (work_root, session_root) = (state.work_dir(), state.sessions_dir());
                let retention = config.retention;
                Sweeper { work_root, session_root, retention, store, compute, backend, clock }.start()
            });
            let parts = WorkerParts { store, bell, compute, preparer, guard, launcher, clock, ids };
            config.roster = config.roster.or_else(|| state.as_ref().map(StateDir::roster_dir));
            inner.worker = Some(Worker::start(parts, config)?);
        }
        Ok(Abca { inner: Arc::new(inner) })
    }
}

/// The network that sessions of this process get is what blueprints and prompts are checked against.
fn network_here(said: NetworkMode, limits: &SessionLimits) -> Result<NetworkMode, Error> {
    let given = limits.network_of_hands();
    if said != NetworkMode::default() && said != given {
        let (said, given) = (said.as_str(), given.as_str());
        let text = format!(
            "the platform's network is `{said}` and that of its sessions `{given}`: make both the same, or leave the platform's out"
        );
        return Err(Error::new(ErrorKind::Invalid, text));
    }
    Ok(given)
}

fn missing(what: &str, call: &str) -> Error {
    Error::new(ErrorKind::Config, format!("the builder was not told {what}: call `{call}`, or `.worker(false)`"))
}

#[cfg(feature = "sqlite")]
async fn default_store(state: Option<&StateDir>) -> Result<Arc<dyn TaskStore>, Error> {
    let state = state.ok_or_else(no_store)?;
    Ok(Arc::new(abca_store::Sqlite::open(state.path()).await?))
}

#[cfg(not(feature = "sqlite"))]
async fn default_store(_state: Option<&StateDir>) -> Result<Arc<dyn TaskStore>, Error> {
    Err(no_store())
}

fn no_store() -> Error {
    let text = if cfg!(feature = "sqlite") {
        "tasks need a place: call `.state_dir(..)` or `.store(..)`"
    } else {
        "tasks need a place: call `.store(..)`, or switch the feature `sqlite` on"
    };
    Error::new(ErrorKind::Config, text)
}
