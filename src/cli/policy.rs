//! `policy`: what the policy says of a call, and the rules behind it.

use abca_core::mcp::tool_of;
use abca_core::policy::cedar::{Attribute, CedarPolicy, Explained, Question};
use abca_core::policy::{
    LexicalPaths, PolicyDecision, PolicyOrigin, PolicyRequest, PolicySettings, PolicySource, RuleMatch, RuleMode,
};
use abca_core::{TaskId, Timestamp};
use serde_json::json;

use super::args::{PolicyArgs, PolicyCheckArgs, PolicyCommand};
use super::common::{EXIT_DENIED, Failed, Output, say};
use super::{is_json, print_json};

/// A human is asked.
const EXIT_ASK: u8 = 3;
/// Longest policy file that is read, in bytes; the engine's own limit is lower.
const MOST_BYTES: u64 = 1 << 20;

/// Policies and modes from the command line; the files are read now.
pub(super) fn settings(args: &PolicyArgs) -> Result<PolicySettings, Failed> {
    let mut settings = PolicySettings::default();
    for file in &args.policy {
        let name = file.display().to_string();
        let cannot =
            |e: &dyn std::fmt::Display| Failed::new(2, format!("the policy file `{name}` cannot be read: {e}"));
        if std::fs::metadata(file).map_err(|e| cannot(&e))?.len() > MOST_BYTES {
            return Err(cannot(&"it is longer than 1 MiB"));
        }
        let text = std::fs::read_to_string(file).map_err(|e| cannot(&e))?;
        settings.sources.push(PolicySource { name, text, origin: PolicyOrigin::Operator });
    }
    for given in &args.policy_mode {
        let bad =
            || Failed::new(2, format!("`{given}` is no mode of a rule: write RULE=observe, RULE=warn or RULE=enforce"));
        let (rule, mode) = given.split_once('=').ok_or_else(bad)?;
        settings.modes.insert(rule.to_owned(), RuleMode::from_word(mode).ok_or_else(bad)?);
    }
    Ok(settings)
}

/// Refuses policies that cannot be used before anything is begun.
pub(super) fn check(settings: &PolicySettings) -> Result<(), Failed> {
    if settings.is_empty() { Ok(()) } else { engine(settings).map(|_| ()) }
}

fn engine(settings: &PolicySettings) -> Result<CedarPolicy, Failed> {
    CedarPolicy::load(settings).map_err(|e| Failed::new(2, format!("the policies cannot be used: {}", e.message())))
}

pub(super) async fn policy(output: Output, command: PolicyCommand) -> Result<u8, Failed> {
    match command {
        PolicyCommand::Check(args) => checked(output, args).await,
        PolicyCommand::List(args) => list(output, &engine(&settings(&args)?)?),
        PolicyCommand::Show { rule, policies } => show(output, &engine(&settings(&policies)?)?, &rule),
    }
}

async fn checked(output: Output, args: PolicyCheckArgs) -> Result<u8, Failed> {
    let mut settings = settings(&args.policies)?;
    settings.mode = match args.mode.as_deref() {
        None => None,
        Some(word) => Some(
            RuleMode::from_word(word)
                .ok_or_else(|| Failed::new(2, format!("`{word}` is no mode: write observe, warn or enforce")))?,
        ),
    };
    let engine = engine(&settings)?;
    let key = match args.tool.as_str() {
        "Bash" => "command",
        "Glob" | "Grep" => "path",
        _ => "file_path",
    };
    let input = match tool_of(&args.tool) {
        None => json!({ key: args.call }),
        Some(_) => serde_json::from_str(&args.call).map_err(|e| {
            Failed::new(2, format!("the call of `{}` is no JSON: {e}; write its arguments as one object", args.tool))
        })?,
    };
    let request = PolicyRequest {
        task: TaskId::from_parts(Timestamp::from_millis(0), 0),
        workflow: args.workflow,
        repo: "owner/repo".to_owned(),
        branch: args.branch,
        base_branch: args.base,
        tool: args.tool,
        input,
        read_only: args.read_only,
        tainted: args.tainted,
    };
    // The disk is not asked: nothing says that this is the work tree of a task.
    let paths = LexicalPaths { root: "/work/repo".to_owned(), home: "/tmp/home".to_owned() };
    let explained = engine.explain(&request, &paths).await;
    let explained = explained.map_err(|e| Failed::new(1, format!("the policy cannot decide, so it denies: {e}")))?;
    if is_json(output) {
        print_json(&json!({
            "judgement": explained.judgement,
            "questions": explained.questions.asked,
            "problems": explained.questions.problems.iter().map(|p| p.as_str()).collect::<Vec<_>>(),
        }))?;
    } else {
        explain(&explained);
    }
    Ok(match explained.judgement.decision {
        PolicyDecision::Allow => 0,
        PolicyDecision::Ask(_) => EXIT_ASK,
        PolicyDecision::Deny { .. } => EXIT_DENIED,
    })
}

fn explain(explained: &Explained) {
    let judged = &explained.judgement;
    say(match judged.decision {
        PolicyDecision::Allow => "allow",
        PolicyDecision::Ask(_) => "ask: a human has to approve it",
        PolicyDecision::Deny { .. } => "deny",
    });
    for rule in judged.decision.rules().iter().chain(&judged.noted) {
        told(rule);
    }
    for problem in &explained.questions.problems {
        say(&format!("\nnot understood: {problem}"));
    }
    let commands: Vec<&Question> =
        explained.questions.asked.iter().filter(|q| q.action == "execute_bash" && !q.part.is_empty()).collect();
    if !commands.is_empty() {
        say("\nwhat it runs:");
    }
    for command in commands {
        say(&format!("  {}", command.part));
        for (name, value) in &command.attributes {
            if !matches!(*name, "command" | "whole" | "arguments") && !is_nothing(value) {
                say(&format!("    {name}: {value}"));
            }
        }
    }
}

fn told(rule: &RuleMatch) {
    let kind = match rule.mode {
        RuleMode::Enforce => rule.tier.to_string(),
        RuleMode::Warn | RuleMode::Observe => format!("{}, {} only", rule.tier, rule.mode),
    };
    say(&format!("\nrule {} ({kind}, severity {})", rule.rule, rule.severity));
    say(&format!("  {}", rule.reason));
    for because in &rule.because {
        let about: Vec<&str> =
            because.path.as_deref().into_iter().chain([because.part.as_str()]).filter(|t| !t.is_empty()).collect();
        if !about.is_empty() {
            say(&format!("  in: {}", about.join(", by ")));
        }
        let tested: Vec<String> = because.attributes.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        say(&format!("  because: {}", tested.join(", ")));
    }
    if let Some(timeout) = rule.approval_timeout_ms {
        say(&format!("  a human has {} s to answer", timeout.0 / 1_000));
    }
}

fn is_nothing(value: &Attribute) -> bool {
    match value {
        Attribute::Bool(yes) => !yes,
        Attribute::Text(text) => text.is_empty(),
        Attribute::Set(set) => set.is_empty(),
    }
}

fn list(output: Output, engine: &CedarPolicy) -> Result<u8, Failed> {
    if is_json(output) {
        print_json(&engine.rules().collect::<Vec<_>>())?;
    } else {
        for rule in engine.rules() {
            say(&format!("{:<26} {:<5} {:<8} {:<7} {}", rule.id, rule.tier, rule.mode, rule.severity, rule.summary));
        }
    }
    Ok(0)
}

fn show(output: Output, engine: &CedarPolicy, id: &str) -> Result<u8, Failed> {
    let Some(rule) = engine.rules().find(|r| r.id == id) else {
        return Err(Failed::new(2, format!("there is no rule `{id}`: `abca policy list` shows them")));
    };
    if is_json(output) {
        print_json(&json!({ "rule": rule, "text": rule.text }))?;
    } else {
        say(&format!("// {}", rule.source));
        say(&rule.text);
    }
    Ok(0)
}
