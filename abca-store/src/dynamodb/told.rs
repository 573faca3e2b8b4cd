//! Events: the last ones ride in the task's main item, those before have pages of their own.

use std::collections::BTreeMap;

use abca_core::event::{Event, NewEvent};
use abca_core::id::EventSeq;
use abca_core::store::{EventQuery, StoreError};
use abca_core::{TaskId, Timestamp};

use super::DynamoDb;
use super::error::corrupt;
use super::item::{Item, Key, bytes, s, task_pk};
use super::kept::{INLINE, Kept, Run, Told};
use super::wide::{Wide, to_json};
use super::wire::Ask;

fn told(event: &NewEvent) -> Told {
    (event.event_type, event.timestamp.as_millis(), event.metadata.clone())
}

impl DynamoDb {
    /// Adds events that a change tells; wide ones are put aside.
    pub(super) async fn tell(
        &self,
        op: &'static str,
        kept: &mut Kept,
        first: u64,
        events: &[NewEvent],
    ) -> Result<(), StoreError> {
        if events.is_empty() {
            return Ok(());
        }
        let events: Vec<Told> = events.iter().map(told).collect();
        let mut run = Run { first, count: events.len() as u64, events, aside: None };
        if to_json(op, &run.events)?.len() > INLINE {
            let wide = Wide::new(op, &format!("what task {} tells", kept.id()), &run.events)?;
            self.wire.put_aside(op, kept.id(), &wide).await?;
            run.aside = Some(wide.hash);
            run.events.clear();
        }
        kept.tail.push(run);
        Ok(())
    }

    pub(super) async fn events_of(&self, query: &EventQuery) -> Result<Vec<Event>, StoreError> {
        const OP: &str = "events";
        let id = query.task;
        let after = query.after.0;
        if query.limit == 0 || after == u64::MAX {
            return Ok(Vec::new());
        }
        // The main item first: what leaves it in between is in a page by then.
        let Some((_, parsed)) = self.parsed(OP, &[id]).await?.pop() else { return Ok(Vec::new()) };
        let mut runs: BTreeMap<u64, Run> = parsed?.tail().into_iter().map(|run| (run.first, run)).collect();
        let wanted = u64::try_from(query.limit).unwrap_or(u64::MAX);
        if runs.first_key_value().is_none_or(|(first, _)| *first > after + 1) {
            let ask = Ask {
                index: None,
                hash: ("pk", task_pk(id)),
                range: Some(("sk BETWEEN :a AND :b", vec![s(Key::page(id, 'E', 0, after + 1).sk), s("E#~")])),
                forward: true,
                limit: 100,
            };
            let mut from = None;
            loop {
                let (items, next) = self.wire.page(OP, &ask, from).await?;
                let mut last = 0;
                for run in items.iter().map(|item| runs_of(id, item)).collect::<Result<Vec<_>, _>>()?.concat() {
                    last = run.first.saturating_add(run.count);
                    runs.insert(run.first, run);
                }
                // Pages come by the number of their last event, so that nothing before the last one is missing.
                let Some(next) = next.filter(|_| last <= after.saturating_add(wanted)) else { break };
                from = Some(next);
            }
        }
        let last = after.saturating_add(wanted);
        let runs: Vec<Run> =
            runs.into_values().filter(|r| r.first <= last && r.first.saturating_add(r.count) > after + 1).collect();
        let names: Vec<(TaskId, String)> = runs.iter().filter_map(|r| Some((id, r.aside.clone()?))).collect();
        let aside = if names.is_empty() { BTreeMap::new() } else { self.wire.get_aside(OP, &names).await? };
        let mut events = Vec::new();
        for run in runs {
            let told: Vec<Told> = match &run.aside {
                None => run.events,
                Some(hash) => {
                    let json = aside.get(&(id, hash.clone()));
                    let json = json.ok_or_else(|| corrupt(OP, &format!("an event of task {id}"), "it is gone"))?;
                    serde_json::from_slice(json).map_err(|e| corrupt(OP, &format!("an event of task {id}"), e))?
                }
            };
            for (seq, (event_type, at, metadata)) in (run.first..).zip(told) {
                if seq > after && events.len() < query.limit {
                    let timestamp = Timestamp::from_millis(at);
                    events.push(Event { task_id: id, seq: EventSeq(seq), event_type, timestamp, metadata });
                }
            }
        }
        Ok(events)
    }
}

fn runs_of(id: TaskId, page: &Item) -> Result<Vec<Run>, StoreError> {
    let what = format!("a page of the events of task {id}");
    let json = bytes(page, "d").ok_or_else(|| corrupt("events", &what, "its attribute `d` holds no bytes"))?;
    serde_json::from_slice(json).map_err(|e| corrupt("events", &what, e))
}
