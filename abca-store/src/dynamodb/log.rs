//! Session logs: a page for each append, in one transaction with the task.

use std::collections::BTreeMap;

use abca_core::session::LogRecord;
use abca_core::store::{Append, AppendOutcome, LogQuery, StoreError, check_append};
use abca_core::{SessionId, TaskId, Timestamp};

use super::DynamoDb;
use super::due::Lag;
use super::edit::Edit;
use super::error::{corrupt, partly};
use super::item::{Item, Key, b, bytes, n, s, size, task_pk, text};
use super::kept::{Kept, is_gone};
use super::wide::{LARGEST, Wide, to_json};
use super::wire::{Ask, Attempts, Part, Wrote};

const OP: &str = "append";
/// Records longer than this together go aside, where they are not paid twice.
const INLINE: usize = 2_048;

impl DynamoDb {
    pub(super) async fn append_all(&self, batch: &[Append]) -> Result<Vec<AppendOutcome>, StoreError> {
        let mut kept = self.readable(OP, batch.iter().map(|a| a.task)).await?;
        let mut ahead: BTreeMap<TaskId, u64> = BTreeMap::new();
        for a in batch {
            let Some(row) = kept.get(&a.task).map(|k| &k.row).filter(|r| r.hears(&a.session)) else { continue };
            let len = ahead.entry(a.task).or_insert(row.log_len);
            check_append(a, *len)?;
            *len = (*len).max(a.expect_seq.saturating_sub(1).saturating_add(a.records.len() as u64));
        }
        let mut outcomes = Vec::with_capacity(batch.len());
        for append in batch {
            let first = kept.remove(&append.task);
            match self.append_one(append, first).await {
                Ok(outcome) => outcomes.push(outcome),
                Err(e) => {
                    let done = outcomes.iter().any(|o| matches!(o, AppendOutcome::Appended { .. }));
                    return Err(if done { partly(e) } else { e });
                }
            }
        }
        Ok(outcomes)
    }

    async fn append_one(&self, append: &Append, first: Option<Kept>) -> Result<AppendOutcome, StoreError> {
        let id = append.task;
        let _alone = self.locks.task(id).await;
        let mut attempts = Attempts::new(OP);
        let mut first = first;
        loop {
            let fresh = first.is_none();
            let before = match first.take() {
                Some(kept) => kept,
                None => match self.row(OP, id).await? {
                    Some(kept) => kept,
                    None => return Ok(AppendOutcome::NotFound),
                },
            };
            let refused = !before.row.hears(&append.session);
            if refused || append.expect_seq <= before.row.log_len {
                if !fresh {
                    continue;
                }
                if refused {
                    return Ok(AppendOutcome::Refused);
                }
                let len = before.row.log_len;
                return Ok(AppendOutcome::Exists { len, same: self.has(append, len).await? });
            }
            check_append(append, before.row.log_len)?;
            let mut after = before.clone();
            let told = after.row.append(append);
            self.tell(OP, &mut after, told, &append.events).await?;
            let mut others = Vec::new();
            if !append.records.is_empty() {
                let page = self.log_page(id, append.expect_seq, after.row.log_len, &append.records).await?;
                others.push(Part::Put { item: page, unless: "attribute_not_exists(pk)", index: 0 });
            }
            let ready = self.ready(OP, &before, &mut after, Lag::AsBefore).await?;
            if self.carry_out(OP, id, ready, others).await? {
                return Ok(AppendOutcome::Appended { len: after.row.log_len, quiet: after.row.is_quiet() });
            }
            attempts.again().await?;
        }
    }

    async fn log_page(&self, id: TaskId, first: u64, last: u64, records: &[LogRecord]) -> Result<Item, StoreError> {
        let mut item = Key::page(id, 'L', first, last).item();
        let json = to_json(OP, &records)?;
        if json.len() <= INLINE {
            item.insert("d".to_owned(), b(json));
        } else {
            let wide = Wide::new(OP, &format!("what is to be appended to the log of task {id}"), &records)?;
            self.wire.put_aside(OP, id, &wide).await?;
            item.insert("h".to_owned(), s(wide.hash));
        }
        Ok(item)
    }

    /// Whether the log holds what an append says, from where it says.
    async fn has(&self, append: &Append, len: u64) -> Result<bool, StoreError> {
        let last = append.expect_seq.saturating_sub(1).saturating_add(append.records.len() as u64);
        if append.expect_seq == 0 || last > len {
            return Ok(false);
        }
        let query = LogQuery { task: append.task, after: append.expect_seq - 1, limit: append.records.len() };
        let there = self.log_of(&query).await?;
        Ok(there.iter().map(|(_, record)| record).eq(&append.records))
    }

    pub(super) async fn log_of(&self, query: &LogQuery) -> Result<Vec<(u64, LogRecord)>, StoreError> {
        const OP: &str = "log";
        let id = query.task;
        if query.limit == 0 || query.after == u64::MAX {
            return Ok(Vec::new());
        }
        let ask = Ask {
            index: None,
            hash: ("pk", task_pk(id)),
            range: Some(("sk BETWEEN :a AND :b", vec![s(Key::page(id, 'L', 0, query.after + 1).sk), s("L#~")])),
            forward: true,
            limit: query.limit.clamp(1, 100),
        };
        let mut records = Vec::new();
        let mut from = None;
        while records.len() < query.limit {
            let (items, next) = self.wire.page(OP, &ask, from).await?;
            let mut size = 0;
            for item in items {
                let first = first_of(&item)
                    .ok_or_else(|| corrupt(OP, &format!("a page of the log of task {id}"), "it has no number"))?;
                let page = self.read_page(id, &item).await?;
                size += page.len();
                let numbered = (first..).zip(page).filter(|(seq, _)| *seq > query.after);
                records.extend(numbered.take(query.limit.saturating_sub(records.len())));
                if records.len() >= query.limit || size > LARGEST {
                    break;
                }
            }
            let Some(next) = next else { break };
            from = Some(next);
        }
        Ok(records)
    }

    async fn read_page(&self, id: TaskId, page: &Item) -> Result<Vec<LogRecord>, StoreError> {
        let what = format!("a page of the log of task {id}");
        let bad = |e: serde_json::Error| corrupt("log", &what, e);
        if let Some(hash) = text(page, "h") {
            let name = (id, hash.to_owned());
            let found = self.wire.get_aside("log", std::slice::from_ref(&name)).await?;
            let json = found.get(&name).ok_or_else(|| corrupt("log", &what, "it is gone"))?;
            return serde_json::from_slice(json).map_err(bad);
        }
        let json = bytes(page, "d").ok_or_else(|| corrupt("log", &what, "its attribute `d` holds no bytes"))?;
        serde_json::from_slice(json).map_err(bad)
    }

    /// One conditional update, without a new version: a heartbeat disturbs nobody.
    pub(super) async fn beat(&self, id: TaskId, session: &SessionId, now: Timestamp) -> Result<bool, StoreError> {
        const OP: &str = "heartbeat";
        let at = n(now.as_millis());
        let edit = Edit::new(Key::task(id)).set("hb", at.clone()).when(
            "#ss = :ss AND (attribute_not_exists(#hb) OR #hb < :at)",
            &[(":ss", s(session.as_str())), (":at", at)],
        );
        let mut attempts = Attempts::new(OP);
        loop {
            // Its size is known only when the condition fails; main items are made to fit one unit.
            let there = match self.wire.write(OP, Part::Update { edit: edit.clone(), bytes: 0, index: 0 }).await? {
                Wrote::Done => return Ok(true),
                Wrote::Lost(Some(item)) => item,
                Wrote::Lost(None) => match self.wire.get(OP, &Key::task(id)).await? {
                    Some(item) => item,
                    None => return Ok(false),
                },
            };
            if is_gone(&there) || text(&there, "ss") != Some(session.as_str()) {
                return Ok(false);
            }
            // Later already: believed, unless it is further ahead than a session may be silent.
            let Some(kept) = self.row(OP, id).await? else { return Ok(false) };
            let mut row = kept.row.clone();
            if !row.heartbeat(session, now) {
                return Ok(false);
            }
            if row.snapshot.heartbeat_at == kept.row.snapshot.heartbeat_at {
                return Ok(true);
            }
            let Some(mark) = row.snapshot.heartbeat_at else { return Ok(true) };
            let back = Edit::new(Key::task(id))
                .set("hb", n(mark.as_millis()))
                .unchanged("hb", &kept.item)
                .when("#ss = :ss", &[(":ss", s(session.as_str()))]);
            let bytes = size(&kept.item);
            if self.wire.write(OP, Part::Update { edit: back, bytes, index: 0 }).await? == Wrote::Done {
                return Ok(true);
            }
            attempts.again().await?;
        }
    }
}

fn first_of(page: &Item) -> Option<u64> {
    text(page, "sk")?.rsplit_once('#')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_knows_its_first_number() {
        let id = TaskId::from_parts(Timestamp::from_millis(1), 1);
        assert_eq!(first_of(&Key::page(id, 'L', 5, 9).item()), Some(5));
        assert_eq!(first_of(&Item::new()), None);
    }
}
