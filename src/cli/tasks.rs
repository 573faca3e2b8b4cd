//! `list`, `status`, `cancel`, `nudge`, `events`, `watch`, `log`.

use abca_core::store::ListQuery;
use abca_core::task::TaskStatus;
use abca_core::{Clock, EventSeq, UserId};
use serde_json::json;

use super::args::{GuardArgs, ListArgs};
use super::common::{Failed, Interrupts, Output, Place, find, looking, repo_name, say};
use super::follow::{Followed, follow};
use super::guard::speaking;
use super::room::Room;
use super::{is_json, print_json, run, show, times};
use crate::clock::SystemClock;
use crate::tell::tell;
use crate::{CancelAnswer, ErrorKind, ListCursor};

pub(super) async fn list(state: Place, output: Output, args: ListArgs) -> Result<u8, Failed> {
    let statuses: Vec<TaskStatus> = args
        .status
        .iter()
        .flat_map(|s| s.split(','))
        .map(str::parse)
        .collect::<Result<_, _>>()
        .map_err(|e| Failed::new(2, format!("{e}")))?;
    let repo = args.repo.as_deref().map(repo_name).transpose()?;
    let user = args.user.map(UserId::new).transpose().map_err(|e| Failed::new(2, e.to_string()))?;
    let now = SystemClock.now();
    let time = |text: Option<String>| text.map(|t| times::moment(&t, now)).transpose();
    let (since, until) = (time(args.since)?, time(args.until)?);
    let query = ListQuery { user, statuses, repo, since, until, limit: args.limit, ..ListQuery::default() };
    let Ok(after) = args.after.map(|text| text.parse::<ListCursor>()).transpose();
    let page = looking(state).await?.page(query, after.as_ref()).await?;
    if is_json(output) {
        print_json(&page)?;
    } else {
        show::tasks(&page.tasks, now);
        if let Some(next) = page.next {
            tell(format_args!("there are more: --after {next}"));
        }
    }
    Ok(0)
}

pub(super) async fn status(state: Place, output: Output, task: &str) -> Result<u8, Failed> {
    let abca = looking(state).await?;
    let handle = find(&abca, task).await?;
    let record = handle.record().await?;
    let place = match handle.place().await {
        // A store of somebody's own need not be able to tell.
        Err(error) if error.kind() == ErrorKind::Config => None,
        other => other?,
    };
    if is_json(output) {
        let class = record.failure.as_ref().map(abca_core::classify::classify_failure);
        print_json(&json!({ "task": record, "queue": place, "error_classification": class }))?;
    } else {
        show::task(&record, place, SystemClock.now());
    }
    Ok(0)
}

pub(super) async fn cancel(state: Place, output: Output, task: &str, wait: bool) -> Result<u8, Failed> {
    let abca = looking(state).await?;
    let handle = find(&abca, task).await?;
    let answer = handle.cancel().await?;
    if let CancelAnswer::AlreadyEnded(status) = answer {
        return Err(Failed::new(1, format!("task {task} has ended already: {status}")));
    }
    let status = if wait { handle.outcome().await?.status } else { handle.status().await? };
    if is_json(output) {
        print_json(&json!({ "task_id": handle.id(), "status": status, "cancel_requested": true }))?;
    } else if status.is_terminal() {
        say(&format!("{task} is {status}"));
    } else {
        say(&format!("{task} is being cancelled; `abca cancel --wait {task}` waits until nothing of it runs any more"));
    }
    Ok(0)
}

pub(super) async fn nudge(
    state: Place,
    output: Output,
    task: &str,
    message: &str,
    guard: &GuardArgs,
) -> Result<u8, Failed> {
    let abca = speaking(state, guard, output).await?;
    let handle = find(&abca, task).await?;
    handle.nudge(message).await?;
    if is_json(output) {
        print_json(&json!({ "task_id": handle.id(), "nudged": true }))?;
    } else {
        say("the agent hears it before its next turn");
    }
    Ok(0)
}

pub(super) async fn events(
    state: Place,
    output: Output,
    task: &str,
    after: u64,
    following: bool,
) -> Result<u8, Failed> {
    let abca = looking(state).await?;
    let handle = find(&abca, task).await?;
    if !following {
        let all = handle.events_so_far(EventSeq(after)).await?;
        if is_json(output) {
            print_json(&all)?;
        } else {
            all.iter().for_each(|e| say(&e.to_string()));
        }
        return Ok(0);
    }
    let mut interrupts = Interrupts::listen()?;
    let mut events = handle.events_after(EventSeq(after));
    let mut room = Room::of(&abca);
    let mut looks = tokio::time::interval(std::time::Duration::from_secs(1));
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(event) => {
                    let event = event?;
                    // A document a line: a stream has no end to close a list with.
                    let line = if is_json(output) { serde_json::to_string(&event).unwrap_or_default() } else { event.to_string() };
                    say(&line);
                }
                None => return Ok(0),
            },
            _ = looks.tick() => if let Some(news) = room.news() {
                tell(format_args!("abca: {news}"));
            },
            () = interrupts.next() => return Ok(130),
        }
    }
}

pub(super) async fn watch(state: Place, output: Output, task: &str) -> Result<u8, Failed> {
    let abca = looking(state).await?;
    let handle = find(&abca, task).await?;
    match follow(&abca, &handle, output, &mut Interrupts::listen()?).await? {
        Followed::Ended(outcome) => run::print_outcome(&abca, output, &outcome).await,
        Followed::Interrupted => Ok(130),
    }
}

pub(super) async fn log(state: Place, output: Output, task: &str) -> Result<u8, Failed> {
    let abca = looking(state).await?;
    let records = find(&abca, task).await?.log().await?;
    if is_json(output) {
        let records: Vec<_> = records.iter().map(|(seq, record)| json!({ "seq": seq, "record": record })).collect();
        print_json(&records)?;
    } else {
        show::log(&records);
    }
    Ok(0)
}
