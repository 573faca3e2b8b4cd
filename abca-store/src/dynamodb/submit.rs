//! Accepting tasks: what never changes is written aside first, then the task, with its idempotency key if it has one.

use std::sync::Arc;

use abca_core::TaskId;
use abca_core::store::{StoreError, Submit, SubmitOutcome, TaskRow, check_submit};

use super::DynamoDb;
use super::due::Lag;
use super::edit::Edit;
use super::error::{corrupt, invalid, partly};
use super::item::{Key, s, text};
use super::kept::{Kept, is_gone};
use super::scopes::limits_fault;
use super::wide::{Head, Value, Wide};
use super::wire::{Attempts, Part};

const OP: &str = "submit";
/// Longest name of a user or repository in an index, in bytes; the service allows 2 048.
const LONGEST_NAME: usize = 1_024;

fn fault(submit: &Submit, cut_from: u32) -> Option<String> {
    let spec = &submit.task.spec;
    let repo = spec.repo.as_ref().map(ToString::to_string).filter(|r| r.len() > LONGEST_NAME);
    let fault = repo.map(|r| format!("the repository's name has {} bytes: use at most {LONGEST_NAME}", r.len()));
    let fault = fault.or_else(|| limits_fault(&spec.limits.slots, cut_from))?;
    Some(format!("task {}: {fault}", submit.task.id))
}

impl DynamoDb {
    pub(super) async fn submit_all(&self, batch: &[Submit]) -> Result<Vec<SubmitOutcome>, StoreError> {
        batch.iter().try_for_each(check_submit)?;
        if let Some(fault) = batch.iter().find_map(|s| fault(s, self.cuts.from())) {
            return Err(invalid(OP, fault));
        }
        let mut outcomes = Vec::with_capacity(batch.len());
        for submit in batch {
            match self.submit_one(submit).await {
                Ok(outcome) => outcomes.push(outcome),
                Err(e) => {
                    let done = outcomes.iter().any(|o| matches!(o, SubmitOutcome::Created(_)));
                    return Err(if done { partly(e) } else { e });
                }
            }
        }
        Ok(outcomes)
    }

    async fn submit_one(&self, submit: &Submit) -> Result<SubmitOutcome, StoreError> {
        let task = &submit.task;
        let key = task.idempotency_key.as_ref().map(|key| Key::idempotency(&task.user, key));
        let mut attempts = Attempts::new(OP);
        loop {
            if let Some(outcome) = self.existing(submit, key.as_ref()).await? {
                return Ok(outcome);
            }
            let mut row = TaskRow::new(submit, 0);
            let waits = row.waits();
            let last = if waits { self.last_order(OP, &row).await? } else { 0 };
            row.order = self.moment().max(last.saturating_add(1));
            let head = Head { fixed: task.parts().0, hash: submit.payload_hash.clone(), order: row.order };
            let wide = Wide::new(OP, &format!("the specification of task {}", task.id), &narrow(OP, &head)?)?;
            self.wire.put_aside(OP, task.id, &wide).await?;
            self.remembered.keep(&wide.hash, Value::Head(Arc::new(head)), task_bytes(submit));
            if waits {
                self.take_places(OP, &row).await?;
            }
            let before = Kept::new(row, wide.hash);
            let mut after = before.clone();
            self.tell(OP, &mut after, 1, &submit.events).await?;
            let ready = self.ready(OP, &before, &mut after, Lag::Never).await?;
            let others = key.as_ref().map(|key| {
                let mut item = key.item();
                item.insert("id".to_owned(), s(task.id.to_string()));
                Part::Put { item, unless: "attribute_not_exists(pk)", index: 0 }
            });
            if self.carry_out(OP, task.id, ready, others.into_iter().collect()).await? {
                return Ok(SubmitOutcome::Created(Box::new(after.row.snapshot)));
            }
            if waits {
                self.leave_places(OP, &after, false).await;
            }
            attempts.again().await?;
        }
    }

    /// What came of the same submission before, if it came.
    async fn existing(&self, submit: &Submit, key: Option<&Key>) -> Result<Option<SubmitOutcome>, StoreError> {
        let task = &submit.task;
        let keys = key.cloned().into_iter().chain([Key::task(task.id)]).collect();
        let items = self.wire.get_all(OP, keys).await?;
        let mut same = None;
        for item in &items {
            if Key::of(item).as_ref() == key {
                let id = text(item, "id").and_then(|id| id.parse::<TaskId>().ok());
                let broken = || corrupt(OP, "an idempotency key", "it names no task");
                same = Some(id.ok_or_else(broken)?);
            } else if is_gone(item) {
                // It is being removed: that has to be over before another can take its name.
                self.remove_rest(OP, task.id).await?;
            } else if same.is_none() {
                same = Some(task.id);
            }
        }
        let keyed = items.iter().find(|i| Key::of(i).as_ref() == key).and_then(|i| text(i, "id")?.parse().ok());
        let Some(id) = keyed.or(same) else { return Ok(None) };
        let Some(found) = self.row(OP, id).await? else {
            // Removed between two reads, or a key was left behind by hand.
            if let Some((key, item)) =
                key.and_then(|k| Some((k, items.iter().find(|i| Key::of(i).as_ref() == Some(k))?)))
            {
                let same = Edit::new(key.clone()).unchanged("id", item);
                self.wire.delete(OP, key, Some(same)).await?;
            }
            return Ok(None);
        };
        let equal = found.row.payload_hash == submit.payload_hash && *found.row.user() == task.user;
        Ok(Some(if equal {
            SubmitOutcome::Existing(Box::new(found.row.snapshot))
        } else {
            SubmitOutcome::Conflict { task: id }
        }))
    }
}

/// As JSON without what is not there: every byte of it is stored.
fn narrow(op: &'static str, head: &Head) -> Result<serde_json::Value, StoreError> {
    let mut value = serde_json::to_value(head).map_err(|e| invalid(op, e.to_string()))?;
    drop_nulls(&mut value);
    Ok(value)
}

fn drop_nulls(value: &mut serde_json::Value) {
    if let Some(object) = value.as_object_mut() {
        object.retain(|_, v| !v.is_null());
        object.values_mut().for_each(drop_nulls);
    }
}

fn task_bytes(submit: &Submit) -> usize {
    1_024 + submit.task.spec.task_description.as_ref().map_or(0, String::len)
}

#[cfg(test)]
mod tests {
    use abca_core::testing::fixtures::{submit, task};

    use super::*;

    #[test]
    fn what_is_not_there_is_not_stored_and_reads_the_same() {
        let submit = submit(task(1));
        let head = Head { fixed: submit.task.parts().0, hash: "h".to_owned(), order: 7 };
        let narrow = narrow(OP, &head).unwrap();
        assert!(!narrow.to_string().contains("null"));
        assert_eq!(serde_json::from_value::<Head>(narrow).unwrap(), head);
    }
}
