//! What a task comes to when its session is over: one function over every sign there is.
//!
//! The signs are what the session said, how it ended, and what the forge shows of its work. A session that dies between
//! its pull request and its report says nothing; its work stands all the same, and the task is not failed for that.

/// How the last session of a task ended, as far as it and its backend say.
///
/// An exit status is no sign of its own: a session reports before it exits, whichever way, so what exits without a report
/// is [`Self::Silent`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ending {
    /// A person cancelled, and nothing of the session runs any more.
    Cancelled,
    /// It reported that its work is delivered, or honestly that there was nothing to do.
    Succeeded,
    /// It reported a failure that is its own judgement: of its work, its budget, its turns, its model.
    Failed,
    /// It reported a failure of what is around it, which says nothing of the work: the forge, the repository, the machine.
    FailedAround,
    /// It was let in, and is over without a report of its own.
    Silent,
    /// It was never let in.
    NeverBegan,
    /// A deadline of the task passed, and it was stopped.
    OutOfTime,
}

impl Ending {
    /// Every ending.
    pub const ALL: [Self; 7] = [
        Self::Cancelled,
        Self::Succeeded,
        Self::Failed,
        Self::FailedAround,
        Self::Silent,
        Self::NeverBegan,
        Self::OutOfTime,
    ];
}

/// What the forge shows of a task's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Shown {
    /// Nobody has asked yet.
    NotAsked,
    /// The pull request that a session of this task opened as its last step.
    Proposed,
    /// Commits on the task's branch, and no pull request.
    Pushed,
    /// Nothing.
    Nothing,
    /// It does not answer now, and may later.
    NoAnswer,
    /// There is nobody to ask.
    Unknowable,
}

impl Shown {
    /// Everything that may be shown.
    pub const ALL: [Self; 6] =
        [Self::NotAsked, Self::Proposed, Self::Pushed, Self::Nothing, Self::NoAnswer, Self::Unknowable];
}

/// All that bears on how a task goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signs {
    /// How the session ended.
    pub ending: Ending,
    /// What the forge shows.
    pub shown: Shown,
    /// Another attempt is allowed and safe: some are left, and nothing of this one can still run.
    pub attempts_left: bool,
    /// A forge that does not answer may be waited for.
    pub may_wait: bool,
}

/// How a task goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Inference {
    /// Ask the forge first.
    Ask,
    /// Ask the forge again, a little later.
    AskLater,
    /// As the session reported.
    AsReported,
    /// Completed, though no report says so: the work is delivered.
    Delivered,
    /// Another attempt, which resumes from the log.
    Again,
    /// Failed: the session is lost.
    Lost,
    /// Timed out.
    TimedOut,
    /// Cancelled.
    Cancelled,
}

/// The decision matrix. Total: every combination of signs has one answer.
///
/// A cancel and a session's own judgement of its work stand, whatever the forge shows: somebody who cancels wants no
/// success, and a budget that was used up is not made good by a pull request. In every other ending a pull request of this
/// task is a delivery, since opening it is the last thing that a session does with its work. Commits alone are none: what
/// they lack is verified or proposed by another attempt, where one is left.
pub const fn infer(signs: Signs) -> Inference {
    let otherwise = match signs.ending {
        Ending::Cancelled => return Inference::Cancelled,
        Ending::Succeeded | Ending::Failed => return Inference::AsReported,
        Ending::FailedAround => Inference::AsReported,
        Ending::Silent | Ending::NeverBegan => {
            if signs.attempts_left {
                Inference::Again
            } else {
                Inference::Lost
            }
        }
        Ending::OutOfTime => Inference::TimedOut,
    };
    match (signs.shown, signs.ending) {
        (Shown::NotAsked, _) => Inference::Ask,
        (Shown::Proposed, _) => Inference::Delivered,
        // A deadline has passed: it is asked once, and not waited for.
        (Shown::NoAnswer, Ending::OutOfTime) => otherwise,
        (Shown::NoAnswer, _) if signs.may_wait => Inference::AskLater,
        (Shown::NoAnswer | Shown::Pushed | Shown::Nothing | Shown::Unknowable, _) => otherwise,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of `docs/src/endings.md`: for every ending, what follows each thing that may be shown. Where two stand, the
    /// first is for attempts left, or for a forge that may be waited for.
    const TABLE: [(Ending, [&str; 6]); 7] = [
        // not asked, proposed, pushed, nothing, no answer, unknowable
        (Ending::Cancelled, ["cancelled"; 6]),
        (Ending::Succeeded, ["as reported"; 6]),
        (Ending::Failed, ["as reported"; 6]),
        (Ending::FailedAround, ["ask", "delivered", "as reported", "as reported", "later, as reported", "as reported"]),
        (Ending::Silent, ["ask", "delivered", "again/lost", "again/lost", "later, again/lost", "again/lost"]),
        (Ending::NeverBegan, ["ask", "delivered", "again/lost", "again/lost", "later, again/lost", "again/lost"]),
        (Ending::OutOfTime, ["ask", "delivered", "timed out", "timed out", "timed out", "timed out"]),
    ];

    fn word(inference: Inference) -> &'static str {
        match inference {
            Inference::Ask => "ask",
            Inference::AskLater => "later",
            Inference::AsReported => "as reported",
            Inference::Delivered => "delivered",
            Inference::Again => "again",
            Inference::Lost => "lost",
            Inference::TimedOut => "timed out",
            Inference::Cancelled => "cancelled",
        }
    }

    #[test]
    fn every_combination_of_signs_has_the_answer_of_the_table() {
        let mut asked = 0;
        for (ending, row) in TABLE {
            for (shown, cell) in Shown::ALL.into_iter().zip(row) {
                for (attempts_left, may_wait) in [(false, false), (false, true), (true, false), (true, true)] {
                    let cell = match cell.split_once(", ") {
                        Some((wait, _)) if may_wait => wait,
                        Some((_, rest)) => rest,
                        None => cell,
                    };
                    let cell = match cell.split_once('/') {
                        Some((left, _)) if attempts_left => left,
                        Some((_, none)) => none,
                        None => cell,
                    };
                    let signs = Signs { ending, shown, attempts_left, may_wait };
                    assert_eq!(word(infer(signs)), cell, "{signs:?}");
                    asked += 1;
                }
            }
        }
        assert_eq!(asked, Ending::ALL.len() * Shown::ALL.len() * 4);
        assert_eq!(TABLE.map(|(ending, _)| ending), Ending::ALL);
    }

    #[test]
    fn what_was_cancelled_or_judged_by_its_session_is_never_called_delivered() {
        for ending in [Ending::Cancelled, Ending::Succeeded, Ending::Failed] {
            for shown in Shown::ALL {
                let signs = Signs { ending, shown, attempts_left: true, may_wait: true };
                assert!(
                    !matches!(infer(signs), Inference::Ask | Inference::AskLater | Inference::Delivered),
                    "{signs:?}"
                );
            }
        }
    }
}
