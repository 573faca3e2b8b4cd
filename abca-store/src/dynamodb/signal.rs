//! Inboxes.

use abca_core::store::{NewSignal, SignalOutcome, StoreError};

use super::DynamoDb;
use super::due::Lag;
use super::error::partly;
use super::item::Key;
use super::wire::Attempts;

const OP: &str = "signal";

impl DynamoDb {
    pub(super) async fn signal_all(&self, batch: &[NewSignal]) -> Result<Vec<SignalOutcome>, StoreError> {
        let mut outcomes = Vec::with_capacity(batch.len());
        for new in batch {
            match self.signal_one(new).await {
                Ok(outcome) => outcomes.push(outcome),
                Err(e) => {
                    return Err(if outcomes.contains(&SignalOutcome::Accepted) { partly(e) } else { e });
                }
            }
        }
        Ok(outcomes)
    }

    async fn signal_one(&self, new: &NewSignal) -> Result<SignalOutcome, StoreError> {
        let id = new.task;
        let _alone = self.locks.task(id).await;
        let mut attempts = Attempts::new(OP);
        loop {
            let Some(before) = self.row(OP, id).await? else { return Ok(SignalOutcome::NotFound) };
            // First the task, then this: what left the task in between has an item by then.
            if before.overflowed
                && !before.row.seen.contains(&new.signal.id)
                && self.wire.get(OP, &Key::heard(id, &new.signal.id)).await?.is_some()
            {
                return Ok(SignalOutcome::Duplicate);
            }
            let mut after = before.clone();
            let outcome = after.row.signal(new);
            if outcome != SignalOutcome::Accepted {
                return Ok(outcome);
            }
            let ready = self.ready(OP, &before, &mut after, Lag::AsBefore).await?;
            if self.carry_out(OP, id, ready, Vec::new()).await? {
                return Ok(outcome);
            }
            attempts.again().await?;
        }
    }
}
