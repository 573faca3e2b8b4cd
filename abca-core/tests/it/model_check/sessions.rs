//! What sessions, people and the backend say, and how it reaches a task: through its inbox, or not at all.

use abca_core::SessionId;
use abca_core::id::SignalId;
use abca_core::store::{NewSignal, SignalOutcome};
use abca_core::task::{SessionPhase, Signal, SignalKind, Verdict};

use super::fixtures::{at, report, task_id};
use super::machine::{Action, Race, Word};
use super::world::{Breach, Process, World};

impl Race {
    pub fn session_actions(&self, w: &World, t: usize, actions: &mut Vec<Action>) {
        let ended = w.rows[t].row.is_terminal();
        let attempt = w.rows[t].snapshot().task.attempt as usize;
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
            if self.bounds.gates && s.process == Process::Working && !w.gates[t].0 && !ended {
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
        let attempt = w.rows[t].snapshot().task.attempt as usize;
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
        let kind = SignalKind::SessionRegistered { session: id.clone() };
        let expect = self.guards.gate.then_some(id);
        let outcome = self.signal(w, t, &format!("registered/{a}"), kind, expect);
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
            let task = &w.rows[t].row.snapshot.task;
            let live = task.session.as_ref().filter(|s| s.phase == SessionPhase::Live && !task.status.is_terminal());
            let Some(live) = live.map(|s| s.attempt as usize - 1) else { continue };
            let s = &mut w.sessions[t][live];
            if s.process == Process::Up && s.registered {
                (s.process, s.worked) = (Process::Working, true);
            }
        }
    }

    /// Sends a word again whose answer got lost, as it was sent.
    pub fn repeat(&self, w: &mut World, t: usize, word: Word) {
        w.repeats -= 1;
        match word {
            Word::Registered(a) => {
                let kind = SignalKind::SessionRegistered { session: session(t, a) };
                self.signal(w, t, &format!("registered/{a}"), kind, Some(session(t, a)));
            }
            Word::Result(a) => {
                let kind = result(t, a, Verdict::Succeeded);
                self.signal(w, t, &format!("result/{a}"), kind, Some(session(t, a)));
            }
            Word::Ask(a) => self.ask(w, t, a),
            Word::Answer => self.answer(w, t),
        }
    }

    fn repeatable(&self, w: &World, t: usize) -> Vec<Word> {
        let mut words = Vec::new();
        for (a, s) in w.sessions[t].iter().enumerate() {
            words.extend((s.registered && s.runs()).then_some(Word::Registered(a)));
            words.extend((s.reported && s.runs()).then_some(Word::Result(a)));
            words.extend((w.gates[t].0 && s.runs()).then_some(Word::Ask(a)));
        }
        words.extend(w.gates[t].1.then_some(Word::Answer));
        words
    }

    pub fn ask(&self, w: &mut World, t: usize, a: usize) {
        w.gates[t].0 = true;
        let kind = SignalKind::ApprovalRequested { request: "g".to_owned(), deadline: at(w.now) };
        self.signal(w, t, "ask", kind, Some(session(t, a)));
    }

    pub fn answer(&self, w: &mut World, t: usize) {
        w.gates[t].1 = true;
        let kind = SignalKind::ApprovalDecided { request: "g".to_owned(), approved: true, reason: None };
        self.signal(w, t, "answer", kind, None);
    }

    /// Puts a word into the inbox of a task.
    pub fn signal(
        &self,
        w: &mut World,
        t: usize,
        id: &str,
        kind: SignalKind,
        expect_session: Option<SessionId>,
    ) -> SignalOutcome {
        let signal = Signal { id: SignalId::new(id).unwrap(), at: at(w.now), kind };
        let new = NewSignal { task: task_id(t), signal, expect_session };
        w.rows[t].change(|row| {
            if !self.guards.dedup {
                row.seen.remove(&new.signal.id);
            }
            row.signal(&new)
        })
    }
}

pub fn session(t: usize, a: usize) -> SessionId {
    SessionId::of(task_id(t), a as u32 + 1)
}

pub fn result(t: usize, a: usize, verdict: Verdict) -> SignalKind {
    SignalKind::SessionResult { session: session(t, a), report: Box::new(report(verdict)) }
}
