//! What can be written on the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::common::Output;

/// Autonomous background coding agents: from a task to a pull request.
#[derive(Debug, Parser)]
#[command(name = "abca", version, max_term_width = 110, propagate_version = true)]
pub(super) struct Cli {
    /// The state folder [default: $XDG_STATE_HOME/abca or ~/.local/state/abca]
    #[arg(long, global = true, value_name = "DIR", env = "ABCA_STATE")]
    pub(super) state: Option<PathBuf>,
    /// Where tasks live: sqlite:FOLDER, postgres://USER@HOST/DATABASE or dynamodb:TABLE [default: SQLite in the state folder].
    /// A password goes into ABCA_STORE, PGPASSWORD or ~/.pgpass, never on the command line
    #[arg(long, global = true, value_name = "URL", env = "ABCA_STORE", hide_env_values = true)]
    pub(super) store: Option<String>,
    /// Tables for people, or one JSON document for programs
    #[arg(long, global = true, value_enum, default_value_t = Output::Text)]
    pub(super) output: Output,
    /// Say more on standard error; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(super) verbose: u8,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// See it work: a sample repository with a bug, carried to a pull request; a recording plays the model
    Demo(DemoArgs),
    /// Carry out a task on a local repository and watch it
    Run(Box<RunArgs>),
    /// Submit a task for a worker to carry out
    Submit(Box<SubmitArgs>),
    /// Carry out submitted tasks until Ctrl-C
    Worker(WorkerArgs),
    /// List tasks, newest first
    List(ListArgs),
    /// Show a task
    Status {
        /// The task's id
        task: String,
    },
    /// Cancel a task
    Cancel {
        /// The task's id
        task: String,
        /// Wait until nothing of it runs any more
        #[arg(long)]
        wait: bool,
    },
    /// Say a word to a running agent
    Nudge {
        /// The task's id
        task: String,
        /// What to say: 1 to 2 000 characters
        message: String,
        #[command(flatten)]
        guard: GuardArgs,
    },
    /// List what waits for a human's approval
    Pending(PendingArgs),
    /// Approve what a task waits for
    Approve(ApproveArgs),
    /// Deny what a task waits for
    Deny(DenyArgs),
    /// Show a task's events
    Events {
        /// The task's id
        task: String,
        /// Only those after this number
        #[arg(long, value_name = "N", default_value_t = 0)]
        after: u64,
        /// Go on until the task ends
        #[arg(long)]
        follow: bool,
    },
    /// Watch a task until it ends
    Watch {
        /// The task's id
        task: String,
    },
    /// Show a task's session log: what the agent said and did
    Log {
        /// The task's id
        task: String,
    },
    /// Count tasks by state, and what is overdue
    Stats,
    /// Show events of all tasks, in one order
    Feed(FeedArgs),
    /// Dead letters: tasks that no worker can carry on with
    Dead {
        #[command(subcommand)]
        command: DeadCommand,
    },
    /// Remove tasks that ended long ago, with their events and logs
    Purge(PurgeArgs),
    /// Pull requests of the local forge
    Pr {
        #[command(subcommand)]
        command: PrCommand,
    },
    /// What the policy says of a command, and why
    Policy {
        #[command(subcommand)]
        command: PolicyCommand,
    },
    /// Prepare a store for workers
    Store {
        #[command(subcommand)]
        command: StoreCommand,
    },
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
pub(super) struct PendingArgs {
    /// Only this user's
    #[arg(long, value_name = "NAME")]
    pub(super) user: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub(super) limit: usize,
}

#[derive(Debug, Args)]
pub(super) struct ApproveArgs {
    /// The task's id
    pub(super) task: String,
    /// Only if it waits at this gate, e.g. gate-1
    #[arg(long, value_name = "GATE")]
    pub(super) request: Option<String>,
    /// What else is approved, for the rest of the task: this_call, tool_type_session, tool_group_session, rule:ID,
    /// bash_pattern:GLOB, write_path:GLOB, tool_type:TOOL, tool_group:file_write, all_session
    #[arg(long, value_name = "SCOPE", default_value = "this_call")]
    pub(super) scope: String,
}

#[derive(Debug, Args)]
pub(super) struct DenyArgs {
    /// The task's id
    pub(super) task: String,
    /// Only if it waits at this gate, e.g. gate-1
    #[arg(long, value_name = "GATE")]
    pub(super) request: Option<String>,
    /// Why: the agent is told
    #[arg(long, value_name = "TEXT")]
    pub(super) reason: Option<String>,
    #[command(flatten)]
    pub(super) guard: GuardArgs,
}

#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// Where to make the sample repository [default: in the state folder]
    #[arg(long, value_name = "DIR")]
    pub(super) dir: Option<PathBuf>,
    #[command(flatten)]
    pub(super) hands: HandsArgs,
}

/// What to do, and within which limits.
#[derive(Debug, Args)]
pub(super) struct TaskArgs {
    /// A local git repository: a work tree or a bare one. Its work tree, index and HEAD are never touched
    #[arg(long, value_name = "PATH", default_value = ".")]
    pub(super) repo: String,
    /// What the operator sets, for every task and for single repositories: a JSON file
    #[arg(long, value_name = "FILE", env = "ABCA_SETTINGS")]
    pub(super) settings: Option<PathBuf>,
    /// What to do
    #[arg(required_unless_present = "issue")]
    pub(super) description: Option<String>,
    /// Resolve this issue of the local forge
    #[arg(long, value_name = "N")]
    pub(super) issue: Option<u64>,
    /// The model: anthropic:ID, bedrock:ID, openai:ID or replay:FILE
    #[arg(long, value_name = "MODEL", env = "ABCA_MODEL")]
    pub(super) model: Option<String>,
    /// Most model turns, 1 to 500 [default: 100]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(super) max_turns: Option<u32>,
    /// Most to spend on the model in dollars, 0.01 to 100
    #[arg(long, value_name = "USD", allow_hyphen_values = true)]
    pub(super) budget: Option<String>,
    /// Build command, run before and after the agent's work
    #[arg(long, value_name = "CMD")]
    pub(super) build: Option<String>,
    /// Test command, run before and after the agent's work
    #[arg(long, value_name = "CMD")]
    pub(super) test: Option<String>,
    /// Lint command, run before and after the agent's work
    #[arg(long, value_name = "CMD")]
    pub(super) lint: Option<String>,
    /// Longest run of one of these commands in seconds, 1 to 2592000 [default: 1800]
    #[arg(long, value_name = "SECS", allow_negative_numbers = true, value_parser = clap::value_parser!(u64).range(1..=2_592_000))]
    pub(super) command_timeout: Option<u64>,
    /// The branch to start from and to propose to [default: the repository's]
    #[arg(long, value_name = "BRANCH")]
    pub(super) base: Option<String>,
    /// Seconds that a human has to answer what the policy asks, 30 to 3600 [default: 300]
    #[arg(long, value_name = "SECS", allow_negative_numbers = true)]
    pub(super) approval_timeout: Option<u32>,
    /// Approve in advance what the policy would ask: rule:ID, bash_pattern:GLOB, write_path:GLOB, tool_type:TOOL,
    /// tool_group:file_write or all_session; may be repeated
    #[arg(long = "approve", value_name = "SCOPE")]
    pub(super) approvals: Vec<String>,
    /// The tier of tools: read-only (looks at files), standard (also runs, writes and fetches), elevated (also MCP servers)
    /// [default: the workflow's, standard]
    #[arg(long, value_name = "TIER", value_parser = tier)]
    pub(super) tools: Option<abca_core::workflow::Tier>,
    /// When the circuit breaker trips: off, or e.g. calls=120,failures=10,cost=0.50,files=200,lines=20000,action=end
    /// [default: calls=600,failures=25,action=ask]
    #[arg(long, value_name = "LIMITS")]
    pub(super) breaker: Option<abca_core::session::BreakerLimits>,
    /// The same key answers with the same task
    #[arg(long, value_name = "KEY")]
    pub(super) idempotency_key: Option<String>,
}

fn tier(name: &str) -> Result<abca_core::workflow::Tier, String> {
    use abca_core::workflow::Tier;
    Tier::from_name(name).ok_or_else(|| format!("use one of {}", Tier::NAMES.join(", ")))
}

/// The walls of the hands.
#[derive(Debug, Clone, Args)]
pub(super) struct HandsArgs {
    /// Network of the agent's tools
    #[arg(long, value_enum, default_value_t = Network::Off)]
    pub(super) network: Network,
    /// A host that the agent's tools may reach with --network proxy: HOST, *.HOST, HOST:PORT [default ports: 443, 80]. May
    /// be repeated
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(super) allow_host: Vec<abca_core::egress::AllowRule>,
    /// What becomes of other hosts with --network proxy
    #[arg(long, value_enum, default_value_t = Egress::Enforce)]
    pub(super) egress: Egress,
    /// A credential that the egress proxy adds for a host, and the agent never sees: URL=HOW:env:NAME or URL=HOW:file:PATH,
    /// where URL is https://HOST[:PORT][/PATH] and HOW is bearer, basic (USER:PASSWORD) or a header's name. May be repeated
    #[arg(long, value_name = "URL=HOW:FROM")]
    pub(super) credential: Vec<super::credential::CredentialArg>,
    /// Authorities (PEM) beside the system's that may vouch for the hosts of --credential; may be repeated
    #[arg(long, value_name = "FILE")]
    pub(super) egress_ca: Vec<PathBuf>,
    /// Let the agent's tools run without walls. Only for machines that hold nothing of value
    #[arg(long)]
    pub(super) unsandboxed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Network {
    /// None
    Off,
    /// The hosts of --allow-host, through the egress proxy
    Proxy,
    /// The host's
    Host,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Egress {
    /// Let them through, and tell
    Observe,
    /// Refuse them
    Enforce,
}

/// What judges the agent's tool calls.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct PolicyArgs {
    /// Policies beside the built-in ones, in Cedar's language; may be repeated
    #[arg(long, value_name = "FILE")]
    pub(super) policy: Vec<PathBuf>,
    /// What a rule does: RULE=observe, RULE=warn or RULE=enforce; may be repeated
    #[arg(long, value_name = "RULE=MODE")]
    pub(super) policy_mode: Vec<String>,
}

/// Which MCP servers there are.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct McpArgs {
    /// MCP servers for tasks with --tools elevated: a file in the form of .mcp.json; may be repeated. Programs run in the sandbox,
    /// addresses are reached with --network proxy
    #[arg(long, value_name = "FILE")]
    pub(super) mcp: Vec<PathBuf>,
    /// Also the servers of the repository's .mcp.json, as its base branch has it
    #[arg(long)]
    pub(super) mcp_from_repository: bool,
}

/// What judges text before it comes in.
#[derive(Debug, Clone, Args)]
pub(super) struct GuardArgs {
    /// Judges descriptions, prompts and nudges before they come in: off, local, local:FILE (its settings, as JSON) or
    /// bedrock:ID:VERSION (a guardrail of Amazon Bedrock, after the local one)
    #[arg(long, value_name = "GUARDRAIL", env = "ABCA_GUARDRAIL", default_value = "local")]
    pub(super) guardrail: String,
}

/// How models are reached and recorded.
#[derive(Debug, Clone, Args)]
pub(super) struct ModelArgs {
    /// Write the conversation to this file, to be replayed with --model replay:FILE
    #[arg(long, value_name = "FILE")]
    pub(super) record: Option<PathBuf>,
    /// The model's price in dollars per million tokens, IN,OUT[,CACHE_READ,CACHE_WRITE]: for models that are not on the list
    #[arg(long, value_name = "PRICES")]
    pub(super) price: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    pub(super) task: TaskArgs,
    #[command(flatten)]
    pub(super) policies: PolicyArgs,
    #[command(flatten)]
    pub(super) models: ModelArgs,
    #[command(flatten)]
    pub(super) hands: HandsArgs,
    #[command(flatten)]
    pub(super) servers: McpArgs,
    #[command(flatten)]
    pub(super) guard: GuardArgs,
    /// Return at once; a worker in the background carries it out
    #[arg(long)]
    pub(super) detach: bool,
}

#[derive(Debug, Args)]
pub(super) struct SubmitArgs {
    #[command(flatten)]
    pub(super) task: TaskArgs,
    #[command(flatten)]
    pub(super) guard: GuardArgs,
}

#[derive(Debug, Args)]
pub(super) struct WorkerArgs {
    /// The model of tasks that name none
    #[arg(long, value_name = "MODEL", env = "ABCA_MODEL")]
    pub(super) model: Option<String>,
    #[command(flatten)]
    pub(super) models: ModelArgs,
    #[command(flatten)]
    pub(super) hands: HandsArgs,
    #[command(flatten)]
    pub(super) policies: PolicyArgs,
    /// What the operator sets, for every task and for single repositories: a JSON file
    #[arg(long, value_name = "FILE", env = "ABCA_SETTINGS")]
    pub(super) settings: Option<PathBuf>,
    #[command(flatten)]
    pub(super) servers: McpArgs,
    #[command(flatten)]
    pub(super) guard: GuardArgs,
    /// End when no task is left to carry out
    #[arg(long)]
    pub(super) until_idle: bool,
    /// Admit at most so many tasks at once, also of those that wait already
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) max_tasks: Option<u32>,
    /// Admit at most so many tasks of one user at once, also of those that wait already
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) max_tasks_per_user: Option<u32>,
    /// Remove tasks that ended longer ago than this, from time to time: 36h, 30d. Without it nothing is removed by itself
    #[arg(long, value_name = "AGE", env = "ABCA_RETENTION")]
    pub(super) retention: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Only tasks in this status; may be repeated
    #[arg(long, value_name = "STATUS")]
    pub(super) status: Vec<String>,
    /// Only tasks on this repository
    #[arg(long, value_name = "PATH")]
    pub(super) repo: Option<String>,
    /// Only this user's tasks
    #[arg(long, value_name = "NAME")]
    pub(super) user: Option<String>,
    /// Only tasks submitted then or later: 2026-11-23T08:00:00Z, or a time ago as 90m, 36h, 7d
    #[arg(long, value_name = "TIME")]
    pub(super) since: Option<String>,
    /// Only tasks submitted before then
    #[arg(long, value_name = "TIME")]
    pub(super) until: Option<String>,
    /// The next page: what the page before gave
    #[arg(long, value_name = "CURSOR")]
    pub(super) after: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(super) limit: usize,
}

#[derive(Debug, Args)]
pub(super) struct FeedArgs {
    /// Only those after this cursor
    #[arg(long, value_name = "CURSOR", default_value = "")]
    pub(super) after: String,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(super) limit: usize,
    /// Go on until Ctrl-C
    #[arg(long)]
    pub(super) follow: bool,
}

#[derive(Debug, Args)]
pub(super) struct PurgeArgs {
    /// Ended longer ago than this: 90m, 36h, 30d
    #[arg(long, value_name = "AGE")]
    pub(super) older_than: String,
}

#[derive(Debug, Subcommand)]
pub(super) enum DeadCommand {
    /// List them, the longest dead first
    List,
    /// Let workers try one again, from where it stands
    Revive {
        /// The task's id
        task: String,
    },
    /// End one as FAILED, wherever it stands
    Fail {
        /// The task's id
        task: String,
        /// Why, for whoever reads it later
        #[arg(long, default_value = "no reason given")]
        reason: String,
    },
    /// Remove one with everything of it, also when it cannot be read. There is no way back
    Discard {
        /// The task's id
        task: String,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum PrCommand {
    /// Show a pull request: by number with --repo, or of a task
    Show {
        /// A number, or a task's id
        which: String,
        /// The repository
        #[arg(long, value_name = "PATH", default_value = ".")]
        repo: String,
    },
    /// List pull requests of a repository
    List {
        /// The repository
        #[arg(long, value_name = "PATH", default_value = ".")]
        repo: String,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum PolicyCommand {
    /// Explain what would be decided of a command line, or of another tool's call. Exit status 0: allowed, 3: a human is
    /// asked, 4: denied
    Check(PolicyCheckArgs),
    /// List the rules
    List(PolicyArgs),
    /// Show a rule as it is written
    Show {
        /// The rule's id
        rule: String,
        #[command(flatten)]
        policies: PolicyArgs,
    },
}

#[derive(Debug, Args)]
pub(super) struct PolicyCheckArgs {
    /// The command line; for tools other than Bash the file, for those of MCP servers the arguments as JSON
    pub(super) call: String,
    #[command(flatten)]
    pub(super) policies: PolicyArgs,
    /// What every rule does that --policy-mode does not name [default: what it says itself]
    #[arg(long, value_name = "MODE")]
    pub(super) mode: Option<String>,
    /// The tool
    #[arg(long, value_name = "TOOL", default_value = "Bash")]
    pub(super) tool: String,
    /// The workflow of the task
    #[arg(long, value_name = "ID", default_value = "coding/new-task-v1")]
    pub(super) workflow: String,
    /// The branch that the task works on
    #[arg(long, value_name = "BRANCH", default_value = "bgagent/example")]
    pub(super) branch: String,
    /// The branch that it proposes to
    #[arg(long, value_name = "BRANCH", default_value = "main")]
    pub(super) base: String,
    /// As in a workflow that may change nothing
    #[arg(long)]
    pub(super) read_only: bool,
    /// As after text from outside was read
    #[arg(long)]
    pub(super) tainted: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum StoreCommand {
    /// Make the tables, or bring them up to date
    Init,
    /// Check that the tables are what this program expects
    Verify,
    /// Print the least privileges that a worker needs
    Grants {
        /// Whose: a role of PostgreSQL, or the ARN of the DynamoDB table
        #[arg(default_value = "abca_worker")]
        worker: String,
    },
}
