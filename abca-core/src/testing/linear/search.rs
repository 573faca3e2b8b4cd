//! Looks for an order of a history that the model agrees with.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::history::{Answer, Recorded};
use crate::id::TaskId;
use crate::store::{StoreModel, Submit};

/// A history that has no order.
#[derive(Debug, Clone)]
pub struct Disorder {
    /// Whose.
    pub task: TaskId,
    /// The longest beginning that has one.
    pub longest: Vec<Recorded>,
    /// Calls that could come next, none of them with the answer that it got; with what the model says.
    pub stuck: Vec<(Recorded, Answer)>,
}

impl fmt::Display for Disorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "task {}: no order explains the answers. In order so far:", self.task)?;
        for r in self.longest.iter().rev().take(5).rev() {
            writeln!(f, "  {}..{} {:?}\n    -> {:?}", r.began, r.ended, r.call, r.answer)?;
        }
        for (r, model) in &self.stuck {
            writeln!(f, "next?  {}..{} {:?}\n    -> {:?}\n    model: {model:?}", r.began, r.ended, r.call, r.answer)?;
        }
        Ok(())
    }
}

impl std::error::Error for Disorder {}

/// Checks a history of tasks that were submitted before it began, each without slots.
///
/// # Errors
/// The first task whose calls have no order.
pub fn check(submitted: &[Submit], history: &[Recorded]) -> Result<(), Disorder> {
    let mut by_task: BTreeMap<TaskId, Vec<&Recorded>> = BTreeMap::new();
    for r in history {
        by_task.entry(r.call.task()).or_default().push(r);
    }
    for (task, mut calls) in by_task {
        calls.sort_by_key(|r| r.began);
        let mut model = StoreModel::new();
        let own: Vec<Submit> = submitted.iter().filter(|s| s.task.id == task).cloned().collect();
        model.submit(&own).expect("what was submitted is valid");
        let mut search =
            Search { calls: &calls, seen: BTreeSet::new(), order: Vec::new(), longest: Vec::new(), stuck: Vec::new() };
        if !search.goes_on(&model, &mut vec![false; calls.len()], 0) {
            let longest = search.longest.iter().map(|i| calls[*i].clone()).collect();
            return Err(Disorder { task, longest, stuck: search.stuck });
        }
    }
    Ok(())
}

struct Search<'a> {
    calls: &'a [&'a Recorded],
    /// Where the search was: which calls are in order, and what the model was then.
    seen: BTreeSet<(Vec<bool>, u64)>,
    order: Vec<usize>,
    longest: Vec<usize>,
    stuck: Vec<(Recorded, Answer)>,
}

impl Search<'_> {
    /// `from`: every call before it is in order.
    fn goes_on(&mut self, model: &StoreModel, done: &mut Vec<bool>, mut from: usize) -> bool {
        while done.get(from) == Some(&true) {
            from += 1;
        }
        let open = || (from..self.calls.len()).filter(|i| !done[*i]);
        // A call whose outcome nobody knows need not have happened.
        if open().all(|i| matches!(self.calls[i].answer, Answer::Unknown | Answer::Failed)) {
            return true;
        }
        if !self.seen.insert((done.clone(), fingerprint(model))) {
            return false;
        }
        // Whoever ended first among the open ones bounds who can be next: nobody who began after that.
        let ends = |i: usize| match self.calls[i].answer {
            Answer::Unknown => u64::MAX,
            _ => self.calls[i].ended,
        };
        let first_end = open().map(ends).min().unwrap_or(u64::MAX);
        let next: Vec<usize> = open().take_while(|i| self.calls[*i].began <= first_end).collect();
        let mut stuck = Vec::new();
        for i in next {
            let call = self.calls[i];
            let mut after = model.clone();
            let said = if call.answer == Answer::Failed { Answer::Failed } else { call.call.model(&mut after) };
            if call.answer != Answer::Unknown && said != call.answer {
                stuck.push((call.clone(), said));
                continue;
            }
            let after = if call.answer == Answer::Failed { model } else { &after };
            done[i] = true;
            self.order.push(i);
            if self.goes_on(after, done, from) {
                return true;
            }
            self.order.pop();
            done[i] = false;
        }
        if self.order.len() >= self.longest.len() {
            self.longest.clone_from(&self.order);
            self.stuck = stuck;
        }
        false
    }
}

/// Equal models have equal fingerprints; two that differ have the same one once in 2⁶⁴.
fn fingerprint(model: &StoreModel) -> u64 {
    let mut hash = DefaultHasher::new();
    format!("{model:?}").hash(&mut hash);
    hash.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{CommitOutcome, SignalOutcome};
    use crate::testing::fixtures::{at, claim, commit, note, nudge, submit, task, task_id};
    use crate::testing::linear::Call;

    fn recorded(began: u64, ended: u64, call: Call, answer: Answer) -> Recorded {
        Recorded { call, began, ended, answer }
    }

    /// Two callers whose signals overlap with a load, in which the load was answered `seen` signals.
    fn history(seen: usize, overlap: bool) -> Vec<Recorded> {
        let (one, two) = (Call::Signal(nudge(task_id(1), "a", at(1))), Call::Signal(nudge(task_id(1), "b", at(2))));
        let mut model = StoreModel::new();
        model.submit(&[submit(task(1))]).unwrap();
        let mut calls = vec![
            recorded(0, 1, one.clone(), Answer::Signal(SignalOutcome::Accepted)),
            recorded(if overlap { 1 } else { 2 }, 5, two.clone(), Answer::Signal(SignalOutcome::Accepted)),
        ];
        for call in [one, two].iter().take(seen) {
            call.model(&mut model);
        }
        let load = Call::Load(task_id(1));
        let answer = load.model(&mut model);
        calls.push(recorded(3, 4, load, answer));
        calls.sort_by_key(|r| r.began);
        calls
    }

    #[test]
    fn overlapping_calls_may_be_in_either_order_and_ended_ones_only_in_one() {
        let submitted = [submit(task(1))];
        assert!(check(&submitted, &history(1, true)).is_ok(), "the load came before the second signal");
        assert!(check(&submitted, &history(2, true)).is_ok(), "or after it");
        let stale = check(&submitted, &history(0, true)).unwrap_err();
        assert_eq!(stale.task, task_id(1));
        assert!(stale.to_string().contains("no order"), "the first signal had been answered before the load began");
    }

    #[test]
    fn a_commit_that_two_callers_were_told_they_made_has_no_order() {
        let submitted = [submit(task(1))];
        let mut model = StoreModel::new();
        model.submit(&submitted).unwrap();
        let mut query = claim(1, at(9), 1);
        query.task = Some(task_id(1));
        let claimed = model.claim(&query);
        let s = claimed[0].clone();
        let (a, b) = (commit(&s, note(&s, at(10)), 1), commit(&s, note(&s, at(11)), 2));
        let applied = |c: &crate::store::Commit| {
            let mut model = model.clone();
            match Call::Commit(Box::new(c.clone())).model(&mut model) {
                Answer::Commit(outcome @ CommitOutcome::Applied(_)) => Answer::Commit(outcome),
                other => panic!("{other:?}"),
            }
        };
        let mut history = vec![recorded(0, 1, Call::Claim(query), Answer::Claim(claimed))];
        history.push(recorded(2, 5, Call::Commit(Box::new(a.clone())), applied(&a)));
        assert!(check(&submitted, &history).is_ok());
        history.push(recorded(3, 4, Call::Commit(Box::new(b.clone())), applied(&b)));
        assert!(check(&submitted, &history).is_err(), "both cannot have won");
        history[2].answer = Answer::Unknown;
        assert!(check(&submitted, &history).is_ok(), "nobody knows what became of the second");
    }
}
