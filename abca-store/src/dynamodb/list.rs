//! Lists of tasks: found in an index, which may lag a little, and shown as they are.

use std::collections::{BTreeSet, VecDeque};

use abca_core::TaskId;
use abca_core::store::{ListQuery, SlotUsage, StoreError};
use abca_core::task::{SlotScope, Task};

use super::DynamoDb;
use super::item::{Item, Key, s, scope_of, task_of, task_pk, text};
use super::scopes::{Seen, id_of};
use super::wire::Ask;

const OP: &str = "list";
/// Beyond every partition key of a task.
const END: &str = "T#~";

/// One partition of an index, newest first.
struct Lane {
    ask: Ask<'static>,
    ready: VecDeque<TaskId>,
    from: Option<Item>,
    over: bool,
}

impl DynamoDb {
    pub(super) async fn listed(&self, query: &ListQuery) -> Result<Vec<Task>, StoreError> {
        let after = query.since.map_or_else(|| "T#".to_owned(), |t| task_pk(TaskId::from_parts(t, 0)));
        let until = query.until.map(|t| task_pk(TaskId::from_parts(t, 0)));
        let before = until.into_iter().chain(query.before.map(task_pk)).min().unwrap_or_else(|| END.to_owned());
        if after > before || query.limit == 0 {
            return Ok(Vec::new());
        }
        let partitions = match (&query.user, &query.repo) {
            (Some(user), _) => vec![("user", "u", user.as_str().to_owned())],
            (None, Some(repo)) => vec![("repo", "r", repo.clone())],
            (None, None) => (0..self.shards).map(|n| ("all", "ak", format!("a{n}"))).collect(),
        };
        if partitions.iter().any(|(_, _, value)| value.is_empty() || value.len() > 2_048) {
            return Ok(Vec::new());
        }
        let lane = |(index, name, value)| Lane {
            ask: Ask {
                index: Some(index),
                hash: (name, value),
                range: Some(("pk BETWEEN :a AND :b", vec![s(&after), s(&before)])),
                forward: false,
                limit: query.limit.clamp(8, 200),
            },
            ready: VecDeque::new(),
            from: None,
            over: false,
        };
        let mut lanes: Vec<Lane> = partitions.into_iter().map(lane).collect();
        let mut tasks = Vec::new();
        while tasks.len() < query.limit {
            let ids = self.newest(&mut lanes, query.limit.clamp(8, 100)).await?;
            if ids.is_empty() {
                break;
            }
            let mut page = Vec::with_capacity(ids.len());
            for (id, found) in self.rows(OP, &ids).await? {
                match found {
                    Ok(kept) => page.push(kept.row.snapshot.task),
                    Err(e) => {
                        tracing::error!(task = %id, error = %e, "a task cannot be read: it is left out of a list")
                    }
                }
            }
            page.sort_by_key(|task| std::cmp::Reverse(task.id));
            tasks.extend(page.into_iter().filter(|task| query.asks_for(task)));
        }
        tasks.truncate(query.limit);
        Ok(tasks)
    }

    /// The next ids of all partitions together, newest first.
    async fn newest(&self, lanes: &mut [Lane], most: usize) -> Result<Vec<TaskId>, StoreError> {
        let mut ids = Vec::new();
        while ids.len() < most {
            for lane in lanes.iter_mut() {
                while lane.ready.is_empty() && !lane.over {
                    let (items, next) = self.wire.page(OP, &lane.ask, lane.from.take()).await?;
                    lane.ready = items.iter().filter_map(|i| task_of(text(i, "pk")?)).collect();
                    lane.over = next.is_none();
                    lane.from = next;
                }
            }
            let newest =
                lanes.iter_mut().filter(|lane| !lane.ready.is_empty()).max_by_key(|l| l.ready.front().copied());
            let Some(id) = newest.and_then(|lane| lane.ready.pop_front()) else { break };
            ids.push(id);
        }
        Ok(ids)
    }

    /// Every task, as the index knows them.
    pub(super) async fn every_task(&self, op: &'static str) -> Result<Vec<TaskId>, StoreError> {
        let pks = self.partition_keys(op, 'a').await?;
        Ok(pks.iter().filter_map(|pk| task_of(pk)).collect())
    }

    pub(super) async fn every_scope(&self, op: &'static str) -> Result<Vec<SlotScope>, StoreError> {
        let pks = self.partition_keys(op, 'z').await?;
        let scopes: BTreeSet<SlotScope> = pks.iter().filter_map(|pk| scope_of(pk)).map(|(scope, _)| scope).collect();
        Ok(scopes.into_iter().collect())
    }

    async fn partition_keys(&self, op: &'static str, kind: char) -> Result<Vec<String>, StoreError> {
        let mut found = Vec::new();
        for shard in 0..self.shards {
            let hash = ("ak", format!("{kind}{shard}"));
            let ask = Ask { index: Some("all"), hash, range: None, forward: true, limit: 1_000 };
            let items = self.wire.pages(op, &ask, usize::MAX).await?;
            found.extend(items.iter().filter_map(Key::of).map(|key| key.pk));
        }
        found.sort();
        found.dedup();
        Ok(found)
    }

    pub(super) async fn usage(&self) -> Result<Vec<SlotUsage>, StoreError> {
        const OP: &str = "slots";
        let scopes = self.every_scope(OP).await?.into_iter().collect();
        let view = self.view(OP, &scopes).await?;
        let held = view.0.into_iter().filter(|(_, seen)| seen.held() > 0);
        let usage = |(scope, seen): (SlotScope, Seen)| {
            let holders: BTreeSet<(u64, u128)> =
                seen.shares.values().flat_map(|share| &share.holders).copied().collect();
            SlotUsage { scope, holders: holders.iter().map(|(_, id)| id_of(*id)).collect() }
        };
        Ok(held.map(usage).collect())
    }
}
