//! Random walks of `decide` through a hostile world: every promise of the task machine, checked at every step.

#![allow(clippy::arithmetic_side_effects, reason = "a test may count")]

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::*;
use crate::compute::{ComputeCapabilities, SessionView};
use crate::event::EventType;
use crate::id::{SessionId, SignalId};
use crate::testing::fixtures;
use crate::time::{Millis, Timestamp};

fn task(now: Timestamp) -> Task {
    let mut task = fixtures::task_at(fixtures::task_id(1), now);
    task.spec.limits.slots = vec![TaskSpec::user_slot(&task.user, 2)];
    task
}

/// What the world does when it is asked, or by itself between two looks.
#[derive(Debug, Clone, Copy)]
pub(super) enum Luck {
    Good,
    Bad,
    Silent,
    Cancel,
    Crash,
    Gate,
    Late,
}

fn luck() -> impl Strategy<Value = Luck> {
    prop_oneof![
        6 => Just(Luck::Good),
        2 => Just(Luck::Bad),
        2 => Just(Luck::Silent),
        1 => Just(Luck::Cancel),
        2 => Just(Luck::Crash),
        1 => Just(Luck::Gate),
        1 => Just(Luck::Late),
    ]
}

/// One task in a world of sessions that live, die, lie and fall silent.
pub(super) struct World {
    pub(super) snap: Snapshot,
    now: Timestamp,
    pub(super) live: BTreeSet<SessionId>,
    tombs: BTreeSet<SessionId>,
    pub(super) starts: Vec<SessionId>,
    events: Vec<EventType>,
    signals: u64,
    /// How often the forge showed a pull request.
    found: u64,
}

impl World {
    pub(super) fn new() -> Self {
        let now = Timestamp::from_millis(1_000_000);
        let snap = fixtures::claimed(task(now));
        Self {
            snap,
            now,
            live: BTreeSet::new(),
            tombs: BTreeSet::new(),
            starts: Vec::new(),
            events: Vec::new(),
            signals: 0,
            found: 0,
        }
    }

    pub(super) fn backend() -> Backend {
        let capabilities = ComputeCapabilities {
            heartbeats: true,
            exit_status: true,
            tombstones: true,
            ..ComputeCapabilities::none()
        };
        Backend { name: "fake".to_owned(), capabilities }
    }

    pub(super) fn signal(&mut self, kind: SignalKind) {
        if self.snap.task.status.is_terminal() {
            return;
        }
        self.signals += 1;
        let id = SignalId::new(format!("s{}", self.signals)).unwrap();
        self.snap.signals.push(Signal { id, at: self.now, kind });
        self.snap.revision += 1;
    }

    fn expects(&self, id: &SessionId) -> bool {
        self.snap
            .task
            .session
            .as_ref()
            .is_some_and(|s| s.id == *id && matches!(s.phase, SessionPhase::Starting | SessionPhase::Live))
    }

    /// What happens by itself.
    fn happen(&mut self, luck: Luck) {
        let current = self.live.iter().next().cloned();
        match (luck, current) {
            (Luck::Cancel, _) => self.signal(SignalKind::Cancel { by: "ann".to_owned() }),
            (Luck::Crash, Some(id)) => {
                self.live.remove(&id);
                self.signal(SignalKind::SessionExited { session: id });
            }
            (Luck::Good, Some(id)) if self.expects(&id) => {
                let registered = self.snap.task.status == TaskStatus::Running;
                if registered {
                    self.live.remove(&id);
                    self.signal(SignalKind::SessionResult {
                        session: id,
                        report: Box::new(fixtures::report(Verdict::Succeeded)),
                    });
                } else {
                    self.signal(SignalKind::SessionRegistered { session: id });
                }
            }
            (Luck::Bad, Some(id)) if self.expects(&id) && self.snap.task.status == TaskStatus::Running => {
                // It reports a failure and does not end.
                self.signal(SignalKind::SessionResult {
                    session: id,
                    report: Box::new(fixtures::report(Verdict::Failed)),
                });
            }
            (Luck::Gate, Some(id)) if self.expects(&id) => {
                let kind = if self.snap.task.status == TaskStatus::AwaitingApproval {
                    fixtures::decided("r", false)
                } else {
                    fixtures::asked("r", self.now.after(Millis::secs(300)))
                };
                self.signal(kind);
            }
            (Luck::Good | Luck::Bad | Luck::Silent | Luck::Crash | Luck::Gate | Luck::Late, _) => {}
        }
    }

    /// Drives the task until it waits. Answers when it wants to be looked at next.
    pub(super) fn drive(&mut self, luck: &mut impl Iterator<Item = Luck>) -> Option<Timestamp> {
        let mut seen = Vec::new();
        for _ in 0..64 {
            let mut next = || luck.next().unwrap_or(Luck::Good);
            match decide(&self.snap, &seen, &Self::backend(), self.now) {
                Decision::Wait { until } => return until,
                Decision::Ask(Query::Prepare) => seen.push(match next() {
                    Luck::Bad => Observation::PrepareFailed {
                        failure: Failure::new(FailureReason::Preflight, "no such repository"),
                        retryable: false,
                    },
                    Luck::Silent | Luck::Late => Observation::PrepareFailed {
                        failure: Failure::new(FailureReason::Preflight, "unreachable"),
                        retryable: true,
                    },
                    Luck::Good | Luck::Cancel | Luck::Crash | Luck::Gate => {
                        Observation::Prepared(Box::new(fixtures::prepared()))
                    }
                }),
                Decision::Ask(Query::Observe(session)) => {
                    let view = if self.live.contains(&session) {
                        SessionView::Running { active_at: None }
                    } else if self.starts.contains(&session) {
                        SessionView::Exited { code: Some(1), signal: None, detail: None }
                    } else {
                        SessionView::Unknown
                    };
                    seen.push(match next() {
                        Luck::Silent => Observation::Unseen { session, message: "unreachable".to_owned() },
                        Luck::Good | Luck::Bad | Luck::Cancel | Luck::Crash | Luck::Gate | Luck::Late => {
                            Observation::Seen { session, view }
                        }
                    });
                }
                Decision::Ask(Query::Delivered(session)) => {
                    let delivery = match next() {
                        Luck::Good | Luck::Cancel | Luck::Crash => Delivery::Nothing,
                        Luck::Bad => {
                            self.found += 1;
                            Delivery::Proposed(Box::new(fixtures::report(Verdict::Succeeded)))
                        }
                        Luck::Silent | Luck::Late => Delivery::NoAnswer { message: "unreachable".to_owned() },
                        Luck::Gate => Delivery::Pushed { branch: "b".to_owned(), sha: "0".repeat(40) },
                    };
                    seen.push(Observation::Delivered { session, delivery });
                }
                Decision::Run(effect) => match effect.kind {
                    EffectKind::StartSession { session, .. } => match next() {
                        Luck::Bad => seen.push(Observation::StartFailed {
                            session,
                            message: "no room".to_owned(),
                            retryable: true,
                        }),
                        Luck::Crash => return Some(self.now), // the worker died before the call
                        luck => {
                            if !self.tombs.contains(&session) && !self.starts.contains(&session) {
                                self.starts.push(session.clone());
                                self.live.insert(session.clone());
                            }
                            if matches!(luck, Luck::Silent) {
                                return Some(self.now); // the worker died after the call
                            }
                            seen.push(Observation::Started(session));
                        }
                    },
                    EffectKind::StopSession { session, .. } => match next() {
                        Luck::Bad => seen.push(Observation::StopFailed { session, message: "busy".to_owned() }),
                        _ => {
                            self.live.remove(&session);
                            self.tombs.insert(session.clone());
                            seen.push(Observation::Stopped(session));
                        }
                    },
                },
                Decision::Commit(change) => {
                    if matches!(change.slots, SlotChange::Acquire(_)) && matches!(next(), Luck::Bad | Luck::Late) {
                        seen.push(Observation::SlotDenied(SlotScope("user:ann".to_owned())));
                        continue;
                    }
                    self.commit(&change);
                    seen.clear();
                }
            }
        }
        panic!("the machine runs in a circle: {:?}", self.snap);
    }

    fn commit(&mut self, change: &Change) {
        let before = self.snap.task.status;
        let after = change.task.status;
        assert!(!before.is_terminal(), "a terminal task was changed");
        match change.transition {
            Some(row) => assert_eq!((row.from, row.to), (before, after)),
            None => assert_eq!(before, after, "a move outside the table"),
        }
        self.snap = apply(&self.snap, change);
        self.events.extend(change.events.iter().map(|e| e.event_type));
        assert_eq!(after.holds_slots(), !self.snap.held.is_empty(), "a slot is held exactly while {after} says so");
        let ends = self.events.iter().filter(|e| e.is_terminal()).count();
        assert_eq!(ends, usize::from(after.is_terminal()));
        if after.is_terminal() {
            let inferred = after == TaskStatus::Completed && self.snap.task.inferred.is_some();
            assert_eq!(
                inferred,
                self.found > 0,
                "a pull request that stands ends its task, and nothing else is inferred"
            );
            assert!(self.events.last().is_some_and(|e| e.is_terminal()), "nothing is told after the end");
            assert!(self.snap.owed.is_empty() && self.snap.signals.is_empty());
            let unconfirmed = change.events.iter().any(|e| e.metadata.contains_key("stop_unconfirmed"));
            assert!(self.live.is_empty() || unconfirmed, "a session outlives its task: {:?}", self.snap.task);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn every_walk_ends_once_with_nothing_left(script in proptest::collection::vec(luck(), 0..60)) {
        let mut world = World::new();
        let mut luck = script.into_iter();
        for _ in 0..5_000 {
            let Some(until) = world.drive(&mut luck) else { break };
            prop_assert!(!world.snap.task.status.is_terminal());
            match luck.next() {
                Some(Luck::Late) => world.now = until.after(Millis::secs(3_600)),
                Some(other) => {
                    world.happen(other);
                    world.now = world.now.after(Millis(500));
                }
                // Nobody does anything any more: time alone must end it.
                None => world.now = world.now.max(until),
            }
        }
        prop_assert!(world.snap.task.status.is_terminal(), "left in {} for ever", world.snap.task.status);
        let attempts: BTreeSet<_> = world.starts.iter().collect();
        prop_assert_eq!(attempts.len(), world.starts.len(), "one start per attempt");
        prop_assert!(world.snap.task.attempt <= world.snap.task.spec.limits.max_attempts);
    }

    #[test]
    fn equal_inputs_give_equal_decisions(script in proptest::collection::vec(luck(), 0..30)) {
        let (mut a, mut b) = (World::new(), World::new());
        let (mut la, mut lb) = (script.clone().into_iter(), script.into_iter());
        for _ in 0..10 {
            prop_assert_eq!(a.drive(&mut la), b.drive(&mut lb));
            prop_assert_eq!(&a.snap, &b.snap);
            if let (Some(x), Some(y)) = (la.next(), lb.next()) {
                a.happen(x);
                b.happen(y);
            }
        }
    }
}
