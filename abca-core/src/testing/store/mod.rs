//! The conformance suite of [`TaskStore`]: what every store must do, yours as well as ours.

mod commits;
mod keeping;
mod leases;
mod logs;
mod operators;
mod reads;
mod signals;
mod slots;
mod submits;

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use async_trait::async_trait;

use super::fixtures;
use crate::id::TaskId;
use crate::store::{Commit, CommitOutcome, Submit, SubmitOutcome, TaskStore};
use crate::task::{Change, Snapshot, Task};
use crate::time::Timestamp;

/// Gives the suite stores to test.
#[async_trait]
pub trait StoreHarness: Send + Sync {
    /// An empty store.
    async fn fresh(&self) -> Arc<dyn TaskStore>;

    /// Ends the use of a store and opens again what it has kept. Asked only of durable stores.
    async fn reopen(&self, store: Arc<dyn TaskStore>) -> Arc<dyn TaskStore> {
        store
    }

    /// A second handle on the same tasks, as another process has. Asked only of shared stores.
    async fn second(&self, store: &Arc<dyn TaskStore>) -> Arc<dyn TaskStore> {
        store.clone()
    }
}

/// What the suite did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreReport {
    /// Cases that passed.
    pub passed: Vec<&'static str>,
    /// Cases that the store's capabilities do not allow, all of them listed.
    pub skipped: Vec<&'static str>,
}

/// What a case needs of the store's capabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    Nothing,
    Durable,
    Shared,
    Feed,
    Operator,
}

macro_rules! suite {
    ($($module:ident { $($needs:ident $case:ident),+ $(,)? })+) => {
        const CASES: &[(&str, Needs)] = &[$($((concat!(stringify!($module), "::", stringify!($case)), Needs::$needs)),+),+];

        /// The cases by name.
        pub const fn cases() -> &'static [&'static str] {
            &[$($(concat!(stringify!($module), "::", stringify!($case))),+),+]
        }

        async fn one(case: &str, h: &dyn StoreHarness) {
            match case {
                $($(concat!(stringify!($module), "::", stringify!($case)) => $module::$case(h).await,)+)+
                other => panic!("no such case: {other}"),
            }
        }
    };
}

suite! {
    submits {
        Nothing a_new_task_is_there_as_submitted,
        Nothing the_same_key_and_payload_is_the_same_task,
        Nothing the_same_key_with_another_payload_is_a_conflict,
        Nothing keys_belong_to_their_user,
        Nothing racing_submits_of_one_key_make_one_task,
        Nothing the_same_task_id_is_the_same_task,
        Nothing a_batch_is_answered_in_order,
        Nothing a_task_that_has_begun_is_refused,
    }
    commits {
        Nothing a_commit_changes_record_revision_and_events,
        Nothing of_sixteen_racing_commits_one_wins,
        Nothing a_stale_commit_is_answered_with_the_task_as_it_is,
        Nothing a_repeated_commit_is_known,
        Nothing an_older_lease_is_fenced,
        Nothing an_unknown_task_is_not_found,
        Nothing steps_outside_the_table_are_refused,
        Nothing what_a_task_is_may_not_change,
        Nothing an_end_is_final,
        Nothing an_end_leaves_nothing_owed,
        Nothing effects_are_owed_until_settled,
        Nothing an_invalid_entry_undoes_its_call_alone,
        Nothing a_chain_of_commits_may_share_a_batch,
    }
    leases {
        Nothing claims_take_the_oldest_due_first_up_to_the_limit,
        Nothing a_claimed_task_is_not_claimed_twice,
        Nothing racing_claims_share_the_work,
        Nothing an_expired_lease_is_taken_over,
        Nothing a_renewed_lease_lasts,
        Nothing a_lost_lease_cannot_be_renewed_or_released,
        Nothing a_renewal_does_not_bring_back_a_released_lease,
        Nothing the_leases_of_a_dead_worker_end_at_once,
        Nothing a_worker_that_was_taken_for_dead_may_go_on_until_another_claims,
        Nothing a_claim_of_signalled_tasks_passes_over_the_others,
        Nothing a_released_task_is_due_when_said,
        Nothing a_released_task_without_due_waits_for_a_signal,
        Nothing a_release_on_an_old_revision_stays_due,
        Nothing a_named_task_is_claimed_before_it_is_due,
        Nothing a_commit_can_give_the_lease_back,
        Nothing an_ended_task_is_never_claimed,
        Nothing next_due_is_the_earliest_of_due_and_lease,
        Nothing what_a_clock_that_was_ahead_left_is_due,
    }
    slots {
        Nothing all_are_taken_or_none,
        Nothing held_is_held,
        Nothing a_commit_may_ask_under_a_lower_cap_than_the_task_has,
        Nothing sixty_four_racers_never_exceed_the_cap,
        Nothing the_first_in_the_queue_goes_first,
        Nothing order_is_per_scope_only_where_asked,
        Nothing a_release_wakes_the_first_that_was_denied,
        Nothing an_end_of_the_first_wakes_the_next,
        Nothing a_wake_up_survives_the_release_of_the_lease,
        Nothing users_take_turns,
        Nothing room_that_is_not_taken_is_passed_on,
        Nothing slots_and_states_go_together,
        Nothing a_batch_sees_its_own_slots,
        Nothing the_room_of_any_holder_is_room,
    }
    signals {
        Nothing a_signal_makes_the_task_due_and_moves_the_revision,
        Nothing the_same_signal_twice_is_one,
        Nothing a_consumed_signal_is_still_known,
        Nothing an_ended_task_takes_no_signal,
        Nothing a_guarded_signal_needs_the_current_session,
        Nothing a_signal_interrupts_a_lease,
        Nothing signals_come_in_order,
        Nothing no_more_nudges_wait_than_the_limit,
        Nothing a_nudge_that_was_heard_leaves_the_inbox,
        Nothing an_answer_that_was_taken_in_leaves_the_inbox_once_the_task_runs,
    }
    logs {
        Nothing records_are_numbered_on,
        Nothing an_append_says_whether_there_is_something_to_hear,
        Nothing a_repeated_append_is_recognised,
        Nothing of_two_writers_one_is_told,
        Nothing a_gap_is_refused,
        Nothing a_former_session_is_refused,
        Nothing heartbeats_are_the_current_sessions,
        Nothing a_heartbeat_of_a_clock_that_was_ahead_is_replaced,
        Nothing events_have_no_gaps_whoever_writes,
        Nothing events_are_paged,
        Nothing logs_are_paged,
        Nothing only_a_commit_tells_the_end,
    }
    reads {
        Nothing tasks_are_listed_newest_first_in_pages,
        Nothing lists_are_filtered,
        Nothing lists_are_cut_by_time,
        Nothing a_task_is_found_by_its_key,
        Nothing loads_answer_in_order,
        Nothing any_text_survives,
        Nothing large_values_survive,
        Nothing slots_are_reported,
    }
    operators {
        Feed every_event_is_fed_once,
        Feed a_foreign_cursor_is_refused,
        Operator tasks_are_counted,
        Operator a_waiting_task_has_a_place_among_its_users,
        Operator ended_tasks_are_purged_whole,
        Operator a_buried_task_is_nobodys,
        Operator only_the_holder_buries,
        Operator a_buried_task_lets_the_next_pass,
        Operator a_revived_task_goes_on_where_it_was,
        Operator a_discarded_task_is_gone_and_its_slots_are_free,
    }
    keeping {
        Durable everything_survives_reopening,
        Durable order_survives_reopening,
        Shared two_handles_see_each_other,
        Shared two_handles_race_for_claims_and_commits,
    }
}

/// Runs every case, each on a store of its own.
///
/// # Panics
/// When a case fails, naming it; when `skips` is not exactly what the store's capabilities rule out.
pub async fn run(harness: &dyn StoreHarness, skips: &[&str]) -> StoreReport {
    let capabilities = harness.fresh().await.capabilities();
    let mut report = StoreReport { passed: Vec::new(), skipped: Vec::new() };
    for (case, needs) in CASES {
        let able = match needs {
            Needs::Nothing => true,
            Needs::Durable => capabilities.durable,
            Needs::Shared => capabilities.shared,
            Needs::Feed => capabilities.feed,
            Needs::Operator => capabilities.operator,
        };
        match (able, skips.contains(case)) {
            (true, false) => {
                let naming = Naming(case);
                one(case, harness).await;
                drop(naming);
                report.passed.push(case);
            }
            (false, true) => report.skipped.push(case),
            (true, true) => panic!("store conformance: `{case}` is listed as skipped but runs"),
            (false, false) => panic!("store conformance: `{case}` is skipped but not listed"),
        }
    }
    for skip in skips {
        assert!(cases().contains(skip), "store conformance: listed `{skip}` is no case");
    }
    report
}

/// Names the case when it panics.
struct Naming(&'static str);

impl Drop for Naming {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("store conformance: case `{}` failed", self.0);
        }
    }
}

/// Drives all futures at once, on the caller's executor; answers in their order.
pub async fn join_all<T>(futures: impl IntoIterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut running: Vec<(Pin<Box<_>>, Option<T>)> = futures.into_iter().map(|f| (Box::pin(f), None)).collect();
    poll_fn(|cx| {
        let mut all = true;
        for (future, done) in &mut running {
            if done.is_none() {
                match future.as_mut().poll(cx) {
                    Poll::Ready(value) => *done = Some(value),
                    Poll::Pending => all = false,
                }
            }
        }
        if all { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    running.into_iter().filter_map(|(_, done)| done).collect()
}

// -- what the cases share ----------------------------------------------------------------------------------------

type Store = Arc<dyn TaskStore>;

async fn submitted(store: &Store, submit: Submit) -> Snapshot {
    let mut outcomes = store.submit(&[submit]).await.unwrap();
    match (outcomes.pop(), outcomes.is_empty()) {
        (Some(SubmitOutcome::Created(snapshot)), true) => *snapshot,
        other => panic!("want one created task, got {other:?}"),
    }
}

async fn add(store: &Store, task: Task) -> Snapshot {
    submitted(store, fixtures::submit(task)).await
}

async fn commit(store: &Store, commit: Commit) -> CommitOutcome {
    let mut outcomes = store.commit(&[commit]).await.unwrap();
    let last = outcomes.pop();
    assert!(outcomes.is_empty(), "one commit, one answer");
    last.expect("one commit, one answer")
}

async fn applied(store: &Store, from: &Snapshot, change: Change) -> Snapshot {
    match commit(store, fixtures::commit(from, change, 0)).await {
        CommitOutcome::Applied(snapshot) => *snapshot,
        other => panic!("want the commit applied, got {other:?}"),
    }
}

async fn load(store: &Store, id: TaskId) -> Snapshot {
    store.load(&[id]).await.unwrap().pop().flatten().expect("the task is there")
}

/// Claims this very task.
async fn take(store: &Store, id: TaskId, n: u64, now: Timestamp) -> Snapshot {
    let query = crate::store::ClaimQuery { task: Some(id), ..fixtures::claim(n, now, 1) };
    store.claim(&query).await.unwrap().pop().expect("the task is free")
}

/// A task that runs: claimed, admitted, its session live.
async fn live(store: &Store, task: Task) -> Snapshot {
    let now = task.created_at;
    let id = add(store, task).await.id();
    let s = take(store, id, 1, now).await;
    let s = applied(store, &s, fixtures::admit(&s, now)).await;
    let s = applied(store, &s, fixtures::start_intent(&s, now)).await;
    applied(store, &s, fixtures::running(&s, now)).await
}

async fn events(store: &Store, id: TaskId) -> Vec<(u64, crate::event::EventType)> {
    let query = crate::store::EventQuery { task: id, after: crate::id::EventSeq::ZERO, limit: 1_000 };
    store.events(&query).await.unwrap().into_iter().map(|e| (e.seq.0, e.event_type)).collect()
}
