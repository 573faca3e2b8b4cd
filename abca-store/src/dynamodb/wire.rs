//! The few requests that the store is made of, each with its cost counted and its errors told in our words.

use std::future::Future;
use std::time::Duration;

use abca_core::store::{StoreError, StoreErrorKind};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    AttributeValue, Delete, KeysAndAttributes, Put, ReturnValuesOnConditionCheckFailure, Select, TransactWriteItem,
    Update,
};
use futures_util::{StreamExt, TryStreamExt, stream};

use super::edit::Edit;
use super::error::{Request, invalid, of, throttled};
use super::item::{Item, Key, size};
use super::units::{Meter, Units, kib};

/// Most keys of one batch, as the service allows.
const BATCH: usize = 100;
/// Requests of one call under way at once.
pub(super) const AT_ONCE: usize = 8;
/// How often a conditional write is tried anew when others are faster, and how often a busy service is asked for the rest of a
/// batch.
const ATTEMPTS: u32 = 40;
/// The longest pause between two attempts.
const PAUSE_MS: u64 = 200;

/// Drives them all, a few at once; the first failure ends it.
pub(super) async fn together<T>(
    futures: Vec<impl Future<Output = Result<T, StoreError>> + Send>,
) -> Result<Vec<T>, StoreError> {
    stream::iter(futures).buffer_unordered(AT_ONCE).try_collect().await
}

/// Tries, ever less often.
#[derive(Debug)]
pub(super) struct Attempts {
    op: &'static str,
    made: u32,
}

impl Attempts {
    pub(super) const fn new(op: &'static str) -> Self {
        Self { op, made: 0 }
    }

    /// Waits before the next one.
    ///
    /// # Errors
    /// [`StoreErrorKind::Throttled`] when there were enough.
    pub(super) async fn again(&mut self) -> Result<(), StoreError> {
        self.made += 1;
        if self.made >= ATTEMPTS {
            let message = format!("others changed the same items {ATTEMPTS} times in a row; repeat later");
            return Err(throttled(self.op, message));
        }
        let longest = 2_u64.saturating_pow(self.made.min(10)).min(PAUSE_MS);
        tokio::time::sleep(Duration::from_micros(fastrand::u64(0..=longest * 1_000))).await;
        Ok(())
    }
}

/// What became of a conditional write.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Wrote {
    Done,
    /// The condition does not hold, or others write there at this moment; the item as it is, where the service said so.
    Lost(Option<Item>),
}

/// One item of a transaction.
#[derive(Debug, Clone)]
pub(super) enum Part {
    /// With its size after and the index entries it touches.
    Update {
        edit: Edit,
        bytes: usize,
        index: u64,
    },
    /// Where nothing is yet, or only what the condition allows.
    Put {
        item: Item,
        unless: &'static str,
        index: u64,
    },
    Delete(Key),
}

#[derive(Debug)]
pub(super) struct Wire {
    pub(super) client: Client,
    pub(super) table: String,
    pub(super) meter: Meter,
}

/// Asks for the items of one partition, or of one index partition.
#[derive(Debug, Clone)]
pub(super) struct Ask<'a> {
    pub(super) index: Option<&'static str>,
    /// The partition key's name and value.
    pub(super) hash: (&'static str, String),
    /// The sort key's name with an operator, e.g. `sk > `, and its operands.
    pub(super) range: Option<(&'a str, Vec<AttributeValue>)>,
    pub(super) forward: bool,
    pub(super) limit: usize,
}

/// A page of an answer, and where the next begins.
pub(super) type Page = (Vec<Item>, Option<Item>);

impl Wire {
    const fn request(&self, op: &'static str, action: &'static str, writes: bool) -> Request<'_> {
        Request { op, action, writes, table: self.table.as_str() }
    }

    /// Reads an item as it is now.
    pub(super) async fn get(&self, op: &'static str, key: &Key) -> Result<Option<Item>, StoreError> {
        let call = self.client.get_item().table_name(&self.table).set_key(Some(key.item())).consistent_read(true);
        let found = call.send().await.map_err(|e| of(self.request(op, "GetItem", false), &e))?.item;
        self.meter.count(op, Units::read(found.as_ref().map_or(0, size), true));
        Ok(found)
    }

    /// Reads items as they are now, in no order; those that are not there are left out. Keys may repeat.
    pub(super) async fn get_all(&self, op: &'static str, keys: Vec<Key>) -> Result<Vec<Item>, StoreError> {
        let mut keys = keys;
        keys.sort();
        keys.dedup();
        if let [key] = keys.as_slice() {
            return Ok(self.get(op, key).await?.into_iter().collect());
        }
        let chunks = keys.chunks(BATCH).map(|chunk| self.get_chunk(op, chunk.to_vec())).collect();
        Ok(together(chunks).await?.concat())
    }

    async fn get_chunk(&self, op: &'static str, keys: Vec<Key>) -> Result<Vec<Item>, StoreError> {
        let mut found = Vec::new();
        let mut left: Vec<Item> = keys.iter().map(Key::item).collect();
        let mut attempts = Attempts::new(op);
        while !left.is_empty() {
            let ask = KeysAndAttributes::builder().set_keys(Some(left)).consistent_read(true).build();
            let ask = ask.map_err(|e| invalid(op, e.to_string()))?;
            let answer = self.client.batch_get_item().request_items(&self.table, ask).send().await;
            let answer = answer.map_err(|e| of(self.request(op, "BatchGetItem", false), &e))?;
            let items = answer.responses.and_then(|mut r| r.remove(&self.table)).unwrap_or_default();
            let reads = items.iter().map(|i| Units::read(size(i), true).reads).sum();
            self.meter.count(op, Units { requests: 1, reads, ..Units::default() });
            found.extend(items);
            left = answer.unprocessed_keys.and_then(|mut u| u.remove(&self.table)).map(|u| u.keys).unwrap_or_default();
            if !left.is_empty() {
                attempts.again().await?;
            }
        }
        Ok(found)
    }

    /// One page of a partition; of the table as it is now, of an index as it was a little ago.
    pub(super) async fn page(&self, op: &'static str, ask: &Ask<'_>, from: Option<Item>) -> Result<Page, StoreError> {
        let limit = i32::try_from(ask.limit.clamp(1, 1_000)).unwrap_or(1_000);
        let mut call = self
            .client
            .query()
            .table_name(&self.table)
            .set_index_name(ask.index.map(str::to_owned))
            .consistent_read(ask.index.is_none())
            .scan_index_forward(ask.forward)
            .select(if ask.index.is_none() { Select::AllAttributes } else { Select::AllProjectedAttributes })
            .expression_attribute_names("#hash", ask.hash.0)
            .expression_attribute_values(":hash", AttributeValue::S(ask.hash.1.clone()))
            .set_exclusive_start_key(from)
            .limit(limit);
        let mut condition = "#hash = :hash".to_owned();
        if let Some((clause, operands)) = &ask.range {
            let (name, rest) = clause.split_once(' ').unwrap_or((clause, ""));
            condition.push_str(&format!(" AND #range {rest}"));
            call = call.expression_attribute_names("#range", name);
            for (place, value) in [":a", ":b"].into_iter().zip(operands) {
                call = call.expression_attribute_values(place, value.clone());
            }
        }
        let answer = call.key_condition_expression(condition).send().await;
        let answer = answer.map_err(|e| of(self.request(op, "Query", false), &e))?;
        let items = answer.items.unwrap_or_default();
        self.meter.count(op, Units::read(items.iter().map(size).sum(), ask.index.is_none()));
        Ok((items, answer.last_evaluated_key.filter(|key| !key.is_empty())))
    }

    /// Everything of a partition, or the first `most` of it.
    pub(super) async fn pages(&self, op: &'static str, ask: &Ask<'_>, most: usize) -> Result<Vec<Item>, StoreError> {
        let mut found = Vec::new();
        let mut from = None;
        while found.len() < most {
            let (items, next) = self.page(op, ask, from).await?;
            found.extend(items);
            let Some(next) = next else { break };
            from = Some(next);
        }
        found.truncate(most);
        Ok(found)
    }

    /// Writes an item whatever is there.
    pub(super) async fn put(&self, op: &'static str, item: Item) -> Result<(), StoreError> {
        self.meter.count(op, Units::write(size(&item)));
        let call = self.client.put_item().table_name(&self.table).set_item(Some(item));
        call.send().await.map(drop).map_err(|e| of(self.request(op, "PutItem", true), &e))
    }

    /// Writes items whatever is there, in no order.
    pub(super) async fn put_all(&self, op: &'static str, items: impl Iterator<Item = Item>) -> Result<(), StoreError> {
        let puts = items.map(|item| self.put(op, item)).collect();
        together(puts).await.map(drop)
    }

    /// Deletes items whatever they are, in no order.
    pub(super) async fn delete_all(&self, op: &'static str, keys: &[Key]) -> Result<(), StoreError> {
        let deletes = keys.iter().map(|key| self.delete(op, key, None)).collect();
        together(deletes).await.map(drop)
    }

    /// Deletes an item, under a condition if one is given.
    pub(super) async fn delete(&self, op: &'static str, key: &Key, when: Option<Edit>) -> Result<(), StoreError> {
        self.meter.count(op, Units::write(0));
        let mut call = self.client.delete_item().table_name(&self.table).set_key(Some(key.item()));
        if let Some(when) = when {
            let built = when.built();
            call = call
                .set_condition_expression(built.condition)
                .set_expression_attribute_names(built.names)
                .set_expression_attribute_values(built.values);
        }
        match call.send().await {
            Ok(_) => Ok(()),
            Err(e) if e.as_service_error().is_some_and(|e| e.is_conditional_check_failed_exception()) => Ok(()),
            Err(e) => Err(of(self.request(op, "DeleteItem", true), &e)),
        }
    }

    /// Changes one item, or makes it, under a condition.
    pub(super) async fn write(&self, op: &'static str, part: Part) -> Result<Wrote, StoreError> {
        match part {
            Part::Update { edit, bytes, index } => {
                self.meter.count(op, Units { index_writes: index, ..Units::write(bytes) });
                let built = edit.built();
                let call = self
                    .client
                    .update_item()
                    .table_name(&self.table)
                    .set_key(Some(edit.key.item()))
                    .set_update_expression(Some(built.update))
                    .set_condition_expression(built.condition)
                    .set_expression_attribute_names(built.names)
                    .set_expression_attribute_values(built.values)
                    .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
                match call.send().await {
                    Ok(_) => Ok(Wrote::Done),
                    Err(e) => match e.as_service_error() {
                        Some(
                            aws_sdk_dynamodb::operation::update_item::UpdateItemError::ConditionalCheckFailedException(
                                failed,
                            ),
                        ) => Ok(Wrote::Lost(failed.item().cloned())),
                        Some(
                            aws_sdk_dynamodb::operation::update_item::UpdateItemError::TransactionConflictException(_),
                        ) => Ok(Wrote::Lost(None)),
                        _ => Err(of(self.request(op, "UpdateItem", true), &e)),
                    },
                }
            }
            Part::Put { item, unless, index } => {
                self.meter.count(op, Units { index_writes: index, ..Units::write(size(&item)) });
                let call = self
                    .client
                    .put_item()
                    .table_name(&self.table)
                    .set_item(Some(item))
                    .condition_expression(unless)
                    .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
                match call.send().await {
                    Ok(_) => Ok(Wrote::Done),
                    Err(e) => match e.as_service_error() {
                        Some(aws_sdk_dynamodb::operation::put_item::PutItemError::ConditionalCheckFailedException(
                            failed,
                        )) => Ok(Wrote::Lost(failed.item().cloned())),
                        Some(aws_sdk_dynamodb::operation::put_item::PutItemError::TransactionConflictException(_)) => {
                            Ok(Wrote::Lost(None))
                        }
                        _ => Err(of(self.request(op, "PutItem", true), &e)),
                    },
                }
            }
            Part::Delete(key) => self.delete(op, &key, None).await.map(|()| Wrote::Done),
        }
    }

    /// Changes several items, or none of them. One alone is written without a transaction, for half the price.
    pub(super) async fn write_all(&self, op: &'static str, parts: Vec<Part>) -> Result<Wrote, StoreError> {
        let mut parts = parts;
        if parts.len() < 2 {
            let Some(part) = parts.pop() else { return Ok(Wrote::Done) };
            return self.write(op, part).await;
        }
        let mut units = Units { requests: 1, ..Units::default() };
        let mut items = Vec::with_capacity(parts.len());
        for part in parts {
            let (bytes, index) = match &part {
                Part::Update { bytes, index, .. } => (*bytes, *index),
                Part::Put { item, index, .. } => (size(item), *index),
                Part::Delete(_) => (0, 0),
            };
            units.writes += 2 * kib(bytes);
            units.index_writes += index;
            items.push(self.of_transaction(op, part)?);
        }
        self.meter.count(op, units);
        match self.client.transact_write_items().set_transact_items(Some(items)).send().await {
            Ok(_) => Ok(Wrote::Done),
            Err(e) => {
                use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError as Failed;
                match e.as_service_error() {
                    Some(Failed::TransactionCanceledException(canceled)) => {
                        let reasons = canceled.cancellation_reasons();
                        let refused = reasons.iter().find(|r| r.code() == Some("ValidationError"));
                        if let Some(refused) = refused {
                            let words = refused.message().unwrap_or("no reason given");
                            return Err(invalid(op, format!("dynamodb refuses a part of the transaction: {words}")));
                        }
                        let known = ["None", "ConditionalCheckFailed", "TransactionConflict", "ThrottlingError"];
                        let known = [known.as_slice(), &["ProvisionedThroughputExceeded"]].concat();
                        if let Some(other) = reasons.iter().filter_map(|r| r.code()).find(|c| !known.contains(c)) {
                            let message = format!("dynamodb canceled the transaction: {other}");
                            return Err(StoreError::new(StoreErrorKind::Unavailable, op, message));
                        }
                        Ok(Wrote::Lost(None))
                    }
                    Some(Failed::TransactionInProgressException(_)) => Ok(Wrote::Lost(None)),
                    _ => Err(of(self.request(op, "TransactWriteItems", true), &e)),
                }
            }
        }
    }

    fn of_transaction(&self, op: &'static str, part: Part) -> Result<TransactWriteItem, StoreError> {
        let built = |e: aws_sdk_dynamodb::error::BuildError| invalid(op, e.to_string());
        let item = TransactWriteItem::builder();
        Ok(match part {
            Part::Update { edit, .. } => {
                let (key, edit) = (edit.key.item(), edit.built());
                let update = Update::builder()
                    .table_name(&self.table)
                    .set_key(Some(key))
                    .update_expression(edit.update)
                    .set_condition_expression(edit.condition)
                    .set_expression_attribute_names(edit.names)
                    .set_expression_attribute_values(edit.values);
                item.update(update.build().map_err(built)?).build()
            }
            Part::Put { item: put, unless, .. } => {
                let put = Put::builder().table_name(&self.table).set_item(Some(put)).condition_expression(unless);
                item.put(put.build().map_err(built)?).build()
            }
            Part::Delete(key) => {
                let delete = Delete::builder().table_name(&self.table).set_key(Some(key.item()));
                item.delete(delete.build().map_err(built)?).build()
            }
        })
    }
}
