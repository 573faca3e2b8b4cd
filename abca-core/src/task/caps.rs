//! Caps of an operator for what waits already: they narrow what a task was accepted under, and never widen it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::SlotLimit;
use crate::blueprint::PlatformDefaults;

/// How many tasks may be admitted at once, beside what each was accepted under: of the two the lower counts.
///
/// A task keeps its limits from its submission on. Caps are looked at when it is admitted, so lowering one counts for tasks
/// that are queued already, and raising it again gives them back what they had. What runs goes on.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Caps {
    /// Most tasks of one user.
    pub per_user: Option<u32>,
    /// Most tasks in all.
    pub total: Option<u32>,
    /// Most tasks on one repository. Counts for tasks that were accepted under some cap of their repository.
    pub per_repo: Option<u32>,
    /// Most sessions on each compute strategy, by its name. Counts for tasks that were accepted under some cap of it.
    pub per_backend: BTreeMap<String, u32>,
}

impl Caps {
    /// Those that a platform sets otherwise than by default: a cap that nobody chose narrows nothing.
    pub fn of(platform: &PlatformDefaults) -> Self {
        let usual = PlatformDefaults::default();
        let chosen = |cap: u32, usual: u32| (cap != usual).then_some(cap);
        Self {
            per_user: chosen(platform.max_concurrent_tasks_per_user, usual.max_concurrent_tasks_per_user),
            total: chosen(platform.max_concurrent_tasks, usual.max_concurrent_tasks),
            per_repo: platform.max_concurrent_tasks_per_repo,
            per_backend: platform.max_sessions.clone(),
        }
    }

    /// Of each cap the lower.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        let lower = |a: Option<u32>, b: Option<u32>| a.into_iter().chain(b).min();
        self.per_user = lower(self.per_user, other.per_user);
        self.total = lower(self.total, other.total);
        self.per_repo = lower(self.per_repo, other.per_repo);
        for (name, cap) in &other.per_backend {
            let mine = self.per_backend.entry(name.clone()).or_insert(*cap);
            *mine = (*mine).min(*cap);
        }
        self
    }

    /// The first cap of zero, by name: nothing would ever be admitted under it.
    pub fn zero(&self) -> Option<&'static str> {
        let named = [("per_user", self.per_user), ("total", self.total), ("per_repo", self.per_repo)];
        let backend = self.per_backend.values().any(|cap| *cap == 0).then_some("per_backend");
        named.into_iter().find(|(_, cap)| *cap == Some(0)).map(|(name, _)| name).or(backend)
    }

    /// Lowers the caps of slots to these.
    pub fn narrow(&self, slots: &mut [SlotLimit]) {
        for slot in slots {
            if let Some(cap) = self.of_scope(&slot.scope.0) {
                slot.cap = slot.cap.min(cap);
            }
        }
    }

    fn of_scope(&self, scope: &str) -> Option<u32> {
        match scope.split_once(':') {
            None if scope == "system" => self.total,
            Some(("user", _)) => self.per_user,
            Some(("repo", _)) => self.per_repo,
            Some(("backend", name)) => self.per_backend.get(name).copied(),
            Some(_) | None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::fixtures::limit;

    #[test]
    fn caps_narrow_the_scopes_that_they_are_about_and_never_widen() {
        let slots = || {
            let scopes = ["user:ann", "system", "repo:acme/x", "backend:process", "backend:other", "mine"];
            scopes.map(|scope| limit(scope, 5, false)).to_vec()
        };
        let narrowed = |caps: &Caps| {
            let mut slots = slots();
            caps.narrow(&mut slots);
            slots.into_iter().map(|s| s.cap).collect::<Vec<_>>()
        };
        assert_eq!(narrowed(&Caps::default()), [5; 6]);
        let caps = |per_user, total, per_repo, backend| Caps {
            per_user,
            total,
            per_repo,
            per_backend: [("process".to_owned(), backend)].into(),
        };
        let low = caps(Some(1), Some(2), Some(3), 4);
        assert_eq!(narrowed(&low), [1, 2, 3, 4, 5, 5]);
        assert_eq!(narrowed(&caps(Some(9), Some(9), Some(9), 9)), [5; 6]);
        assert_eq!(caps(Some(9), None, Some(3), 9).and(&caps(Some(1), Some(2), None, 4)), low);
        assert_eq!((low.zero(), caps(None, Some(0), None, 1).zero()), (None, Some("total")));
        assert_eq!(caps(None, None, None, 0).zero(), Some("per_backend"));
    }

    #[test]
    fn a_platforms_caps_count_where_somebody_chose_them() {
        let mut platform = PlatformDefaults::default();
        assert_eq!(Caps::of(&platform), Caps::default());
        platform.max_concurrent_tasks = 2;
        platform.max_concurrent_tasks_per_repo = Some(1);
        assert_eq!(Caps::of(&platform), Caps { total: Some(2), per_repo: Some(1), ..Caps::default() });
    }
}
