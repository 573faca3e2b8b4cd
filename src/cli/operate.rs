//! `stats`, `feed`, `dead`, `purge`: what operators do.

use std::time::Duration;

use abca_core::store::{FeedCursor, FeedQuery};
use abca_core::{Clock, TaskId};
use serde_json::json;

use super::args::{DeadCommand, FeedArgs, PurgeArgs};
use super::common::{Failed, Interrupts, Output, Place, looking, say};
use super::{is_json, print_json, show, times};
use crate::clock::SystemClock;
use crate::tell::tell;

/// How many tasks one call removes: a store does other work in between.
const PURGED_AT_ONCE: usize = 200;
/// How often a follower looks for new events.
const LOOK: Duration = Duration::from_millis(500);
/// How many dead letters are listed.
const LETTERS: usize = 1_000;

pub(super) async fn stats(state: Place, output: Output) -> Result<u8, Failed> {
    let counts = looking(state).await?.operator().counts().await?;
    if is_json(output) {
        print_json(&counts)?;
    } else {
        show::counts(&counts, SystemClock.now());
    }
    Ok(0)
}

pub(super) async fn feed(state: Place, output: Output, args: FeedArgs) -> Result<u8, Failed> {
    let operator = looking(state).await?.operator();
    let mut query = FeedQuery { after: FeedCursor(args.after), limit: args.limit };
    if !args.follow {
        let page = operator.feed(&query).await?;
        if is_json(output) {
            print_json(&json!({ "events": page.events, "next": page.next }))?;
        } else {
            page.events.iter().for_each(|e| say(&format!("{} {e}", e.task_id)));
            tell(format_args!("next: --after {}", page.next));
        }
        return Ok(0);
    }
    let mut interrupts = Interrupts::listen()?;
    loop {
        let page = operator.feed(&query).await?;
        for event in &page.events {
            // A document a line: a stream has no end to close a list with.
            let line = if is_json(output) {
                json!({ "event": event, "next": page.next }).to_string()
            } else {
                format!("{} {event}", event.task_id)
            };
            say(&line);
        }
        query.after = page.next;
        if page.events.is_empty() {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = interrupts.next() => return Ok(130),
            }
        }
    }
}

pub(super) async fn dead(state: Place, output: Output, command: DeadCommand) -> Result<u8, Failed> {
    let operator = looking(state).await?.operator();
    let (task, done) = match command {
        DeadCommand::List => {
            let letters = operator.dead_letters(LETTERS).await?;
            if is_json(output) {
                print_json(&letters)?;
            } else {
                show::dead_letters(&letters, SystemClock.now());
            }
            return Ok(0);
        }
        DeadCommand::Revive { task } => {
            operator.revive(id(&task)?).await?;
            (task, "revived")
        }
        DeadCommand::Fail { task, reason } => {
            operator.fail(id(&task)?, &reason).await?;
            (task, "failed")
        }
        DeadCommand::Discard { task } => {
            operator.discard(id(&task)?).await?;
            (task, "discarded")
        }
    };
    if is_json(output) {
        print_json(&json!({ "task_id": task, "done": done }))?;
    } else {
        say(&format!("{task} is {done}"));
    }
    Ok(0)
}

fn id(task: &str) -> Result<TaskId, Failed> {
    task.parse().map_err(|e| Failed::new(2, format!("{e}")))
}

pub(super) async fn purge(state: Place, output: Output, args: PurgeArgs) -> Result<u8, Failed> {
    let age = times::age(&args.older_than)?;
    let operator = looking(state).await?.operator();
    let mut purged = 0;
    loop {
        let now = operator.purge(age, PURGED_AT_ONCE).await?;
        purged += now;
        if now < PURGED_AT_ONCE as u64 {
            break;
        }
        if !is_json(output) {
            tell(format_args!("{purged} tasks removed so far"));
        }
    }
    if is_json(output) {
        print_json(&json!({ "purged": purged }))?;
    } else {
        say(&format!("{purged} tasks removed"));
    }
    Ok(0)
}
