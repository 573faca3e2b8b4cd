//! What sessions, people and the backend say, and how it reaches a task: through its inbox, or not at all.

use abca_core::SessionId;
use abca_core::id::SignalId;
use abca_core::store::{NewSignal, SignalOutcome, TaskRow};
use abca_core::task::{SessionPhase, Signal, SignalKind, Verdict};
use abca_core::testing::fixtures;

use super::fixtures::{at, report, task_id};
use super::machine::{Action, Race, Word};
use super::world::{Breach, Process, World};

impl Race {
    pub fn session_actions(&self, w: &World, t: usize, actions: &mut Vec<Action>) {
        let ended = w.rows[t].is_terminal();
        let attempt = usize::from(w.rows[t].attempt);
        for (a, s) in w.sessions[t].iter().enumerate() {
            if s.runs() {
                actions.push(Action::Die(t, a));
            }
            // Words may be under way for as long as they like, and arrive after the session is gone.
            let says = if s.runs() { !ended || s.process == Process::Up } else { w.late > 0 && !ended };
            if s.starts > 0 && !s.registered && says {
                actions.push(Action::Register(t, a));
            }
            if s.worked && !s.reported && says {
                actions.extend(self.verdicts().iter().map(|v| Action::Report(t, a, *v)));
            }
            if s.registered && !s.reported && w.late > 0 && !ended {
                actions.push(Action::LateReport(t, a));
            }
            if s.process == Process::Gone && !s.rang && !ended && (a + 1 == attempt || w.late > 0) {
                actions.push(Action::Ring(t, a));
            }
            if self.bounds.proposals && s.process == Process::Working && !s.proposed && !s.reported {
                actions.push(Action::Propose(t, a));
            }
            if self.bounds.gates && s.process == Process::Working && !w.told[t].gate.0 && !ended {
                actions.push(Action::AskHuman(t, a));
            }
        }
        if w.repeats > 0 && !ended {
            actions.extend(self.repeatable(w, t).into_iter().map(|word| Action::Repeat(t, word)));
        }
    }

    fn verdicts(&self) -> &'static [Verdict] {
        if self.bounds.verdicts {
            &[Verdict::Succeeded, Verdict::Failed, Verdict::Cancelled]
        } else {
            &[Verdict::Succeeded]
        }
    }

    /// Counts a word that comes from a session that is gone, or about an old one.
    pub fn count_late(&self, w: &mut World, t: usize, a: usize, ring: bool) {
        let attempt = usize::from(w.rows[t].attempt);
        let late = if ring { a + 1 != attempt } else { !w.sessions[t][a].runs() };
        w.late -= u8::from(late);
    }

    pub fn register(&self, w: &mut World, t: usize, a: usize) {
        let id = session(t, a);
        let expected = w.rows[t]
            .snapshot()
            .task
            .session
            .as_ref()
            .is_some_and(|s| s.id == id && matches!(s.phase, SessionPhase::Starting | SessionPhase::Live));
        let outcome = self.signal(w, t, Word::Registered(a));
        w.sessions[t][a].registered = true;
        if outcome == SignalOutcome::Accepted {
            if !expected {
                w.note(Breach::StrangeRegistration);
                w.sessions[t][a].process = Process::Working;
            }
        } else {
            w.sessions[t][a].process = Process::Gone;
        }
    }

    /// A session that registered works as soon as its task says that it lives, and ends when it hears that it does not.
    pub fn let_in(&self, w: &mut World) {
        for t in 0..w.rows.len() {
            let Some(live) = w.rows[t].live.map(usize::from) else { continue };
            let s = &mut w.sessions[t][live];
            if s.process == Process::Up && s.registered {
                (s.process, s.worked) = (Process::Working, true);
            }
        }
    }

    fn repeatable(&self, w: &World, t: usize) -> Vec<Word> {
        let mut words = Vec::new();
        for (a, s) in w.sessions[t].iter().enumerate() {
            words.extend((s.registered && s.runs()).then_some(Word::Registered(a)));
            words.extend((s.reported && s.runs()).then_some(Word::Result(a, Verdict::Succeeded)));
            words.extend((w.told[t].gate.0 && s.runs()).then_some(Word::Ask(a)));
        }
        words.extend(w.told[t].gate.1.then_some(Word::Answer));
        words
    }

    /// Puts a word into the inbox of a task.
    pub fn signal(&self, w: &mut World, t: usize, word: Word) -> SignalOutcome {
        let before = &w.rows[t];
        let (row, outcome) = self.memory.signals.get((before.id(), word, w.now), || {
            let new = self.said(t, word, w.now);
            let mut row = TaskRow::clone(&before.row);
            if !self.guards.dedup {
                row.seen.remove(&new.signal.id);
            }
            let outcome = row.signal(&new);
            (self.row(row), outcome)
        });
        w.rows[t] = row;
        outcome
    }

    fn said(&self, t: usize, word: Word, now: u64) -> NewSignal {
        let result =
            |a, verdict| SignalKind::SessionResult { session: session(t, a), report: Box::new(report(verdict)) };
        let (id, kind, expect_session) = match word {
            Word::Registered(a) => {
                let kind = SignalKind::SessionRegistered { session: session(t, a) };
                (format!("registered/{a}"), kind, self.guards.gate.then(|| session(t, a)))
            }
            Word::Result(a, verdict) => (format!("result/{a}"), result(a, verdict), Some(session(t, a))),
            Word::LateResult(a) => (format!("result/{a}"), result(a, Verdict::Succeeded), None),
            Word::Exited(a) => (format!("exited/{a}"), SignalKind::SessionExited { session: session(t, a) }, None),
            Word::Cancel => ("cancel".to_owned(), SignalKind::Cancel { by: "ann".to_owned() }, None),
            Word::Ask(a) => ("ask".to_owned(), fixtures::asked("g", at(now)), Some(session(t, a))),
            Word::Answer => ("answer".to_owned(), fixtures::decided("g", true), None),
        };
        let signal = Signal { id: SignalId::new(id).unwrap(), at: at(now), kind };
        NewSignal { task: task_id(t), signal, expect_session }
    }
}

pub fn session(t: usize, a: usize) -> SessionId {
    SessionId::of(task_id(t), a as u32 + 1)
}
