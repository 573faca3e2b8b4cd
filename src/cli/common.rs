//! What every command needs: failures with an exit status, the state folder, the facade.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use abca_core::compute::{NetworkMode, SandboxMode, SessionLimits};
use abca_core::egress::{EgressMode, EgressSettings};
use abca_core::model::Price;
use abca_core::policy::PolicyDecisionEvent;
use abca_core::{MicroUsd, TaskId};
use clap::ValueEnum;
use serde_json::json;

use super::args::{Egress, HandsArgs, ModelArgs, Network};
use crate::models::ModelSettings;
use crate::tell::tell;
use crate::{Abca, Builder, Error, ErrorKind, Settings, StoreUrl, TaskHandle};

/// A guard does not let it through.
pub(super) const EXIT_DENIED: u8 = 4;

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// For people
    Text,
    /// For programs
    Json,
}

/// Why a command did not do what it was asked, and the exit status that says so.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) code: u8,
    message: String,
    decision: Option<Box<PolicyDecisionEvent>>,
}

impl Failed {
    pub(super) fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), decision: None }
    }

    /// Says it on standard error; programs get JSON there, so that standard output holds documents only.
    pub(super) fn print(&self, output: Output) {
        let text = match output {
            Output::Text => format!("abca: {}", self.message),
            Output::Json => {
                let mut error = json!({ "message": self.message, "exit_status": self.code });
                if let Some(decision) = &self.decision {
                    error["decision"] = json!(decision);
                }
                json!({ "error": error }).to_string()
            }
        };
        tell(format_args!("{text}"));
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        let code = match error.kind() {
            ErrorKind::Invalid | ErrorKind::Config => 2,
            ErrorKind::Blocked => EXIT_DENIED,
            _ => 1,
        };
        Self { decision: error.decision().cloned().map(Box::new), ..Self::new(code, chain(&error)) }
    }
}

/// An error with its causes, each once.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        next = cause.source();
    }
    text
}

/// Prints a line on standard output; a reader who has gone away ends the program quietly.
pub(super) fn say(line: &str) {
    if writeln!(std::io::stdout().lock(), "{line}").is_err() {
        std::process::exit(0);
    }
}

/// Whether a person looks at standard error.
pub(super) fn is_watched(output: Output) -> bool {
    output == Output::Text && std::io::stderr().is_terminal()
}

/// Logs on standard error: warnings, or more.
pub(super) fn start_log(verbose: u8) {
    let level = match verbose {
        0 => "error",
        1 => "abca=info,warn,rmcp=error",
        _ => "debug",
    };
    let filter = std::env::var("ABCA_LOG").unwrap_or_else(|_| level.to_owned());
    let filter = tracing_subscriber::EnvFilter::try_new(&filter).unwrap_or_default();
    // The subscriber reports a log line that cannot be written by `eprintln!`, which panics for the same reason.
    let subscriber =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(crate::tell::ScreenedStderr::default);
    let _only_once = subscriber.log_internal_errors(false).try_init();
}

/// The user's home folder.
pub(super) fn home() -> Option<PathBuf> {
    std::env::home_dir().filter(|h| h.is_absolute())
}

/// Where everything is: what was named on the command line.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// The state folder, if one was named.
    pub(super) state: Option<PathBuf>,
    /// The store, if it is not in the state folder.
    pub(super) store: Option<StoreUrl>,
}

impl Place {
    /// Reads the store's URL. A password on the command line is refused: everybody on the machine sees it.
    pub(super) fn new(state: Option<PathBuf>, store: Option<String>) -> Result<Self, Failed> {
        let store: Option<StoreUrl> = store.map(|url| url.parse()).transpose()?;
        let written = |url: &StoreUrl| url.has_password() && std::env::args().any(|a| a.contains("://"));
        if store.as_ref().is_some_and(written) {
            let text = "a password on the command line is seen by everybody on this machine: put the URL into ABCA_STORE, or \
                        the password into PGPASSWORD or ~/.pgpass";
            return Err(Failed::new(2, text));
        }
        Ok(Self { state, store })
    }
}

/// The state folder that was named, or the usual one.
pub(super) fn state_dir(named: Option<PathBuf>) -> Result<PathBuf, Failed> {
    if let Some(named) = named {
        return absolute(&named);
    }
    let base = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|p| p.is_absolute());
    base.or_else(|| home().map(|h| h.join(".local/state")))
        .map(|base| base.join("abca"))
        .ok_or_else(|| Failed::new(2, "there is no home folder: name a state folder with --state or ABCA_STATE"))
}

/// An absolute path, of something that need not be there.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, Failed> {
    std::path::absolute(path).map_err(|e| Failed::new(2, format!("`{}` is not a path: {e}", path.display())))
}

/// The name of a repository as tasks know it: an absolute path.
pub(super) fn repo_name(repo: &str) -> Result<String, Failed> {
    let path = absolute(Path::new(repo))?;
    let path = std::fs::canonicalize(&path).unwrap_or(path);
    match path.into_os_string().into_string() {
        Ok(path) => Ok(path),
        Err(path) => Err(Failed::new(2, format!("the path `{}` is not UTF-8: rename it", path.to_string_lossy()))),
    }
}

/// Settings of models from the environment and the command line.
pub(super) fn model_settings(model: Option<&str>, args: Option<&ModelArgs>) -> Result<ModelSettings, Failed> {
    let mut settings = ModelSettings::from_variables(|name| std::env::var(name).ok());
    settings.model = model.map(model_name).transpose()?;
    if let Some(args) = args {
        settings.record = args.record.as_deref().map(absolute).transpose()?;
        settings.price = args.price.as_deref().map(price).transpose()?;
    }
    Ok(settings)
}

/// A model's name with the path in it made absolute: sessions run elsewhere.
pub(super) fn model_name(name: &str) -> Result<String, Failed> {
    match name.strip_prefix("replay:") {
        Some(file) => Ok(format!("replay:{}", absolute(Path::new(file))?.display())),
        None => Ok(name.to_owned()),
    }
}

fn price(text: &str) -> Result<Price, Failed> {
    let bad = || {
        Failed::new(
            2,
            format!(
                "`{text}` are no prices: write dollars per million tokens as IN,OUT or IN,OUT,CACHE_READ,CACHE_WRITE, e.g. 3,15"
            ),
        )
    };
    let amounts: Vec<u64> =
        text.split(',').map(|p| p.parse::<MicroUsd>().map(|m| m.0)).collect::<Result<_, _>>().map_err(|_| bad())?;
    match amounts.as_slice() {
        [input, output] => Ok(Price { input: *input, output: *output, cache_read: *input, cache_write: *input }),
        [input, output, cache_read, cache_write] => {
            Ok(Price { input: *input, output: *output, cache_read: *cache_read, cache_write: *cache_write })
        }
        _ => Err(bad()),
    }
}

/// What the hands may use.
pub(super) fn session_limits(args: &HandsArgs) -> Result<SessionLimits, Failed> {
    let network = match args.network {
        Network::Off => NetworkMode::Off,
        Network::Proxy => NetworkMode::Proxy,
        Network::Host => NetworkMode::Host,
    };
    let unused = args.allow_host.is_empty()
        && args.egress == Egress::Enforce
        && args.credential.is_empty()
        && args.egress_ca.is_empty();
    if network != NetworkMode::Proxy && !unused {
        let text = "`--allow-host`, `--credential`, `--egress-ca` and `--egress` belong to the egress proxy: add `--network proxy`, or leave them out";
        return Err(Failed::new(2, text.to_owned()));
    }
    if network == NetworkMode::Proxy && args.unsandboxed {
        let text = "`--network proxy` needs walls, which `--unsandboxed` takes away: leave one of them out";
        return Err(Failed::new(2, text.to_owned()));
    }
    let mode = match args.egress {
        Egress::Observe => EgressMode::Observe,
        Egress::Enforce => EgressMode::Enforce,
    };
    let authorities = args.egress_ca.iter().map(|file| {
        let file = absolute(file)?;
        file.to_str().map(str::to_owned).ok_or_else(|| Failed::new(2, format!("`{}` is no UTF-8", file.display())))
    });
    let mut egress = EgressSettings { mode, allow: args.allow_host.clone(), ..EgressSettings::default() };
    egress.authorities = authorities.collect::<Result<_, _>>()?;
    egress.check().map_err(|why| Failed::new(2, format!("the list of `--allow-host` {why}")))?;
    let sandbox = if args.unsandboxed { SandboxMode::Unsandboxed } else { SandboxMode::Required };
    Ok(SessionLimits { network, egress, sandbox, ..SessionLimits::default() })
}

/// A builder over a state folder, in this user's name.
pub(super) fn builder(place: Place) -> Result<Builder, Failed> {
    let user = std::env::var("USER").ok().filter(|u| !u.trim().is_empty()).unwrap_or_else(|| "local".to_owned());
    let mut builder = Abca::builder().state_dir(state_dir(place.state)?).user(user);
    if let Some(url) = place.store {
        builder = builder.store_url(url);
    }
    if let Some(home) = home() {
        builder = builder.home(home);
    }
    Ok(builder)
}

/// The settings file, if one is named.
pub(super) fn settings(file: Option<&Path>) -> Result<Settings, Failed> {
    Ok(file.map(Settings::read).transpose()?.unwrap_or_default())
}

/// Ctrl-C, heard from now on: also what comes while nobody waits for it.
#[derive(Debug)]
pub(super) struct Interrupts(tokio::signal::unix::Signal);

impl Interrupts {
    pub(super) fn listen() -> Result<Self, Failed> {
        let signal = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt());
        signal.map(Self).map_err(|e| Failed::new(1, format!("Ctrl-C cannot be heard: {e}")))
    }

    /// Waits for the next one.
    pub(super) async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

/// A facade that only looks and asks; a worker elsewhere does the work.
pub(super) async fn looking(state: Place) -> Result<Arc<Abca>, Failed> {
    Ok(Arc::new(builder(state)?.worker(false).build().await?))
}

/// The handle of a task that is named on the command line.
pub(super) async fn find(abca: &Abca, task: &str) -> Result<TaskHandle, Failed> {
    let id: TaskId = task.parse().map_err(|e| Failed::new(2, format!("{e}")))?;
    let handle = abca.task(id);
    handle.record().await?;
    Ok(handle)
}
