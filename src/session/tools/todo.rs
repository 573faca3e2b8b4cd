//! `TodoWrite`: the model's list of what is to do, kept by the brain.

use super::request::{Todo, TodoStatus};

/// The list as the model last wrote it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Todos {
    list: Vec<Todo>,
}

impl Todos {
    /// The entries, in the model's order.
    pub fn list(&self) -> &[Todo] {
        &self.list
    }

    /// Takes a new list over and says so to the model.
    pub(super) fn replace(&mut self, list: &[Todo]) -> String {
        self.list = list.to_vec();
        let count = |s: TodoStatus| self.list.iter().filter(|t| t.status == s).count();
        format!(
            "[noted: {} to do, {} in progress, {} done]\n",
            count(TodoStatus::Pending),
            count(TodoStatus::InProgress),
            count(TodoStatus::Completed)
        )
    }
}
