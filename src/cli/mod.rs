//! The command line: a thin face over the library.
//!
//! Exit status: 0 when what was asked is done (for `run` and `demo`: the task completed), 1 when it failed, 2 when the
//! command line is wrong or waiting was given up, 130 after Ctrl-C.

mod approvals;
mod args;
mod common;
mod credential;
mod demo;
mod follow;
mod guard;
mod mcp;
mod operate;
mod policy;
mod pr;
mod room;
mod run;
mod show;
mod sight;
mod store;
mod tasks;
mod times;
mod worker;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use args::{Cli, Command};
use common::{Failed, Output, Place};

use crate::tell::tell;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            if error.use_stderr() && wants_json() {
                Failed::new(2, error.render().to_string().trim_end()).print(Output::Json);
            } else {
                let _nobody_reads = error.print();
            }
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    common::start_log(cli.verbose);
    if let Command::Completions { shell } = &cli.command {
        // Not at once to the reader, who may have gone: that is no panic.
        let mut script = Vec::new();
        clap_complete::generate(*shell, &mut Cli::command(), "abca", &mut script);
        common::say(String::from_utf8_lossy(&script).trim_end());
        return ExitCode::SUCCESS;
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tell(format_args!("abca: no runtime: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let output = cli.output;
    let done = runtime.block_on(dispatch(cli));
    // Sessions outlive this process; what still blocks a thread does not hold it up.
    runtime.shutdown_background();
    match done {
        Ok(code) => ExitCode::from(code),
        Err(failed) => {
            failed.print(output);
            ExitCode::from(failed.code)
        }
    }
}

/// Whether a command line that could not be understood asks for JSON all the same.
fn wants_json() -> bool {
    let args: Vec<_> = std::env::args_os().collect();
    args.iter().any(|a| a == "--output=json") || args.windows(2).any(|w| w[0] == "--output" && w[1] == "json")
}

async fn dispatch(cli: Cli) -> Result<u8, Failed> {
    let Cli { state, store, output, command, .. } = cli;
    let state = Place::new(state, store)?;
    match command {
        Command::Demo(args) => demo::demo(state, output, args).await,
        Command::Run(args) => run::run(state, output, *args).await,
        Command::Submit(args) => run::submit(state, output, *args).await,
        Command::Worker(args) => worker::worker(state, output, args).await,
        Command::List(args) => tasks::list(state, output, args).await,
        Command::Status { task } => tasks::status(state, output, &task).await,
        Command::Cancel { task, wait } => tasks::cancel(state, output, &task, wait).await,
        Command::Nudge { task, message, guard } => tasks::nudge(state, output, &task, &message, &guard).await,
        Command::Pending(args) => approvals::pending(state, output, args).await,
        Command::Approve(args) => approvals::approve(state, output, args).await,
        Command::Deny(args) => approvals::deny(state, output, args).await,
        Command::Events { task, after, follow } => tasks::events(state, output, &task, after, follow).await,
        Command::Watch { task } => tasks::watch(state, output, &task).await,
        Command::Log { task } => tasks::log(state, output, &task).await,
        Command::Stats => operate::stats(state, output).await,
        Command::Feed(args) => operate::feed(state, output, args).await,
        Command::Dead { command } => operate::dead(state, output, command).await,
        Command::Purge(args) => operate::purge(state, output, args).await,
        Command::Pr { command } => pr::pr(state, output, command).await,
        Command::Policy { command } => policy::policy(output, command).await,
        Command::Store { command } => store::store(state, output, command).await,
        Command::Completions { .. } => Ok(0),
    }
}

/// Prints one JSON document.
fn print_json(value: &impl serde::Serialize) -> Result<(), Failed> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Failed::new(1, format!("cannot write JSON: {e}")))?;
    common::say(&text);
    Ok(())
}

fn is_json(output: Output) -> bool {
    output == Output::Json
}
