//! Follows a task to its end.

use std::time::Duration;

use abca_core::EventSeq;
use tokio::time::interval;

use super::common::{Failed, Interrupts, Output};
use super::room::Room;
use super::sight::Sight;
use crate::{Abca, TaskHandle, TaskOutcome};

/// How following came to its end.
pub(super) enum Followed {
    /// The task has ended.
    Ended(Box<TaskOutcome>),
    /// Somebody pressed Ctrl-C.
    Interrupted,
}

/// Shows a task's events until it ends or somebody presses Ctrl-C.
pub(super) async fn follow(
    abca: &Abca,
    task: &TaskHandle,
    output: Output,
    interrupts: &mut Interrupts,
) -> Result<Followed, Failed> {
    let record = task.record().await?;
    let mut sight = Sight::new(output, record.spec.limits.max_turns);
    let mut events = task.events_after(EventSeq::ZERO);
    let mut room = Room::of(abca);
    let mut ticks = interval(Duration::from_millis(500));
    let ended = loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(event)) => {
                    tell(&mut room, &sight);
                    sight.see(&event);
                }
                Some(Err(error)) => {
                    sight.close();
                    return Err(error.into());
                }
                None => break true,
            },
            _ = ticks.tick() => {
                tell(&mut room, &sight);
                sight.tick();
            }
            () = interrupts.next() => break false,
        }
    };
    sight.close();
    if ended { Ok(Followed::Ended(Box::new(task.outcome().await?))) } else { Ok(Followed::Interrupted) }
}

fn tell(room: &mut Room, sight: &Sight) {
    if let Some(news) = room.news() {
        sight.line("disk", &news);
    }
}
