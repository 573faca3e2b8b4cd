//! What must always hold, and what must be possible.

use abca_core::compute::SessionView;
use abca_core::store::TaskRow;
use abca_core::task::{Decision, Observation, SessionRecord, SlotScope, TaskStatus, decide};
use stateright::Property;

use super::fixtures::{at, backend};
use super::machine::Race;
use super::rows::{Row, holders};
use super::world::{Breach, Process, Session, World};

pub const ONE_END: &str = "at most one end, and nothing after it";
pub const SLOTS: &str = "a slot is held exactly in the states that hold one";
pub const CAP: &str = "never more holders than the cap";
pub const FIFO: &str = "first in, first out";
pub const NO_ORPHAN: &str = "no session runs once its task has ended";
pub const NO_WORK: &str = "nothing works once its task has ended";
pub const ONE_SESSION: &str = "one session of a task works at a time, and each is started once";
pub const GATE: &str = "only the expected session registers";
pub const FENCE: &str = "what an expired worker says is refused";
pub const CAS: &str = "a commit lands on what it was decided on";
pub const OWN_WORD: &str = "a repeated commit is recognised";
pub const TABLE: &str = "the store refuses nothing that was decided";
pub const LOOK_AHEAD: &str = "looking ahead sees what the store does";
pub const INBOX: &str = "an end has read its inbox and owes nothing";
pub const CANCEL: &str = "an accepted cancel is how the task ends";
pub const LATE_START: &str = "a late start begins what was stopped";
pub const COMPLETES: &str = "every task completes";
pub const FAILS: &str = "a task fails";
pub const TIMES_OUT: &str = "a task is timed out";
pub const IS_CANCELLED: &str = "a task is cancelled";
pub const AWAITS: &str = "a human is awaited";
pub const AGAIN: &str = "a second attempt is at work";
pub const QUEUES: &str = "a task queues";
pub const ZOMBIE: &str = "a worker acts on a lease that was taken from it";
pub const WAKES: &str = "who has something to do is due";
pub const ASKED: &str = "a human is asked a question once";
pub const DELIVERED: &str = "what is proposed is not failed, and nothing else is called delivered";
pub const INFERS: &str = "an end is inferred";
pub const ENDS: &str = "time alone ends every task";

pub const ALWAYS: [&str; 19] = [
    ONE_END,
    SLOTS,
    CAP,
    FIFO,
    NO_ORPHAN,
    NO_WORK,
    ONE_SESSION,
    GATE,
    FENCE,
    CAS,
    OWN_WORD,
    TABLE,
    LOOK_AHEAD,
    INBOX,
    CANCEL,
    WAKES,
    ASKED,
    DELIVERED,
    ENDS,
];

fn rows(w: &World, holds: impl Fn(usize, &Row) -> bool) -> bool {
    w.rows.iter().enumerate().all(|(t, row)| holds(t, row))
}

fn any(w: &World, wanted: TaskStatus) -> bool {
    w.rows.iter().any(|r| r.status == wanted)
}

/// Whether somebody comes to a task that nobody holds, no later than it wants: whatever its worker found out last, and
/// forgot with its lease.
fn is_awaited(row: &TaskRow, now: u64) -> bool {
    if row.is_terminal() || row.lease.is_some() {
        return true;
    }
    let session = |s: &SessionRecord| {
        vec![
            Observation::Started(s.id.clone()),
            Observation::StopFailed { session: s.id.clone(), message: "no".to_owned() },
        ]
    };
    let view = |alive: bool| {
        row.snapshot.task.session.as_ref().map(|s| match alive {
            true => Observation::Seen { session: s.id.clone(), view: SessionView::Running { active_at: None } },
            false => Observation::Unseen { session: s.id.clone(), message: "no".to_owned() },
        })
    };
    let wants = |alive: bool| {
        let mut found = vec![Observation::SlotDenied(SlotScope("user:ann".to_owned()))];
        found.extend(row.snapshot.task.session.as_ref().map(session).unwrap_or_default());
        found.extend(view(alive));
        match decide(&row.snapshot, &found, &backend(), at(now)) {
            Decision::Wait { until } => until,
            Decision::Ask(_) | Decision::Run(_) | Decision::Commit(_) => Some(at(now)),
        }
    };
    row.claimable_from().is_some_and(|due| Some(due) <= wants(true).max(wants(false)))
}

pub fn all() -> Vec<Property<Race>> {
    vec![
        Property::always(ONE_END, |_: &Race, w: &World| {
            w.breach != Some(Breach::ChangedAfterEnd) && rows(w, |t, row| u8::from(row.is_terminal()) == w.told[t].ends)
        }),
        Property::always(SLOTS, |_: &Race, w: &World| rows(w, |_, row| row.status.holds_slots() == row.holds_slots())),
        Property::always(CAP, |m: &Race, w: &World| {
            let (system, users) = holders(&w.rows);
            system <= m.bounds.system as usize && users <= m.bounds.cap as usize
        }),
        Property::always(FIFO, |_: &Race, w: &World| w.breach != Some(Breach::Overtaken)),
        Property::always(NO_ORPHAN, |m: &Race, w: &World| {
            // Without tombstones a late start may still begin a session; the gate keeps it from doing anything.
            !m.bounds.tombstones
                || rows(w, |t, row| {
                    !row.is_terminal() || w.told[t].unconfirmed || !w.sessions[t].iter().any(|s| s.runs())
                })
        }),
        Property::always(NO_WORK, |_: &Race, w: &World| {
            rows(w, |t, row| {
                !row.is_terminal()
                    || w.told[t].unconfirmed
                    || w.sessions[t].iter().all(|s| s.process != Process::Working)
            })
        }),
        Property::always(ONE_SESSION, |m: &Race, w: &World| {
            w.sessions.iter().all(|s| {
                s.iter().filter(|s| s.process == Process::Working).count() <= 1
                    && (!m.bounds.tombstones || s.iter().filter(|s| s.runs()).count() <= 1)
                    && s.iter().all(|s| s.starts <= if m.bounds.tombstones { 1 } else { 2 })
            })
        }),
        Property::always(GATE, |_: &Race, w: &World| w.breach != Some(Breach::StrangeRegistration)),
        Property::always(FENCE, |_: &Race, w: &World| w.breach != Some(Breach::ExpiredWord)),
        Property::always(CAS, |_: &Race, w: &World| w.breach != Some(Breach::StaleWord)),
        Property::always(OWN_WORD, |_: &Race, w: &World| w.breach != Some(Breach::OwnWordForgotten)),
        Property::always(TABLE, |_: &Race, w: &World| w.breach != Some(Breach::RefusedChange)),
        Property::always(LOOK_AHEAD, |_: &Race, w: &World| w.breach != Some(Breach::LookedAheadWrongly)),
        Property::always(INBOX, |_: &Race, w: &World| rows(w, |_, row| !row.is_terminal() || !row.open)),
        Property::always(CANCEL, |_: &Race, w: &World| {
            rows(w, |t, row| !row.is_terminal() || !w.told[t].cancelled || row.status == TaskStatus::Cancelled)
        }),
        Property::always(WAKES, |m: &Race, w: &World| {
            let awaited = |row: &Row| m.memory.awaited.get((row.id(), w.now), || is_awaited(&row.row, w.now));
            !m.bounds.timers || rows(w, |_, row| awaited(row))
        }),
        Property::always(ASKED, |_: &Race, w: &World| w.told.iter().all(|t| t.asks <= 1)),
        Property::always(DELIVERED, |m: &Race, w: &World| {
            rows(w, |t, row| {
                let proposed = w.sessions[t].iter().any(|s| s.proposed);
                let lost = matches!(row.status, TaskStatus::Failed | TaskStatus::TimedOut);
                // A session's own judgement stands, and so does the end of what nobody could ask about.
                let excused = w.told[t].unanswered || w.told[t].unconfirmed || m.bounds.verdicts;
                (!lost || !proposed || excused) && (!w.told[t].inferred || proposed)
            })
        }),
        Property::always(ENDS, |m: &Race, w: &World| w.breach.is_some() || m.drain.ends(m, w)),
        // Each is looked for until it is found.
        Property::sometimes(COMPLETES, |m: &Race, w: &World| {
            m.memory.first(0, || rows(w, |_, row| row.status == TaskStatus::Completed))
        }),
        Property::sometimes(FAILS, |m: &Race, w: &World| m.memory.first(1, || any(w, TaskStatus::Failed))),
        Property::sometimes(TIMES_OUT, |m: &Race, w: &World| m.memory.first(2, || any(w, TaskStatus::TimedOut))),
        Property::sometimes(IS_CANCELLED, |m: &Race, w: &World| m.memory.first(3, || any(w, TaskStatus::Cancelled))),
        Property::sometimes(INFERS, |m: &Race, w: &World| m.memory.first(4, || w.told.iter().any(|t| t.inferred))),
        Property::sometimes(AWAITS, |m: &Race, w: &World| m.memory.first(5, || any(w, TaskStatus::AwaitingApproval))),
        Property::sometimes(QUEUES, |m: &Race, w: &World| m.memory.first(6, || any(w, TaskStatus::Queued))),
        Property::sometimes(AGAIN, |m: &Race, w: &World| {
            let again = |s: &[Session]| s.iter().skip(1).any(|s| s.process == Process::Working);
            m.memory.first(7, || w.sessions.iter().any(|s| again(s)))
        }),
        Property::sometimes(LATE_START, |m: &Race, w: &World| {
            m.memory.first(8, || w.sessions.iter().flatten().any(|s| s.tomb && s.runs()))
        }),
        Property::sometimes(ZOMBIE, |m: &Race, w: &World| {
            m.memory.first(9, || w.jobs.iter().flatten().any(|j| j.row.epoch() != w.rows[j.task].epoch()))
        }),
    ]
}
