//! Items as the service knows them: their attributes, their keys, and their size by its rules.

use std::collections::HashMap;

use abca_core::id::{IdempotencyKey, SignalId};
use abca_core::task::SlotScope;
use abca_core::{TaskId, UserId};
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;

/// One item.
pub(super) type Item = HashMap<String, AttributeValue>;

/// Sort key of an item that is alone under its partition key, or the first there.
pub(super) const MAIN: &str = "0";
/// What parts fields within a key: no user and no id holds it.
pub(super) const BETWEEN: char = '\u{1}';

/// Where an item is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) pk: String,
    pub(super) sk: String,
}

impl Key {
    pub(super) fn new(pk: impl Into<String>, sk: impl Into<String>) -> Self {
        Self { pk: pk.into(), sk: sk.into() }
    }

    pub(super) fn of(item: &Item) -> Option<Self> {
        Some(Self::new(text(item, "pk")?, text(item, "sk")?))
    }

    pub(super) fn item(&self) -> Item {
        Item::from([("pk".to_owned(), s(&self.pk)), ("sk".to_owned(), s(&self.sk))])
    }

    /// The table's own item.
    pub(super) fn table() -> Self {
        Self::new("M#", MAIN)
    }

    pub(super) fn task(id: TaskId) -> Self {
        Self::new(task_pk(id), MAIN)
    }

    /// A piece of a wide value of a task.
    pub(super) fn piece(id: TaskId, hash: &str, n: usize) -> Self {
        Self::new(task_pk(id), format!("B#{hash}#{n:04}"))
    }

    /// Events or log records of a task, by the numbers of the last and the first.
    pub(super) fn page(id: TaskId, kind: char, first: u64, last: u64) -> Self {
        Self::new(task_pk(id), format!("{kind}#{last:020}#{first:020}"))
    }

    /// A signal that was accepted long ago.
    pub(super) fn heard(id: TaskId, signal: &SignalId) -> Self {
        Self::new(task_pk(id), format!("G#{signal}"))
    }

    pub(super) fn idempotency(user: &UserId, key: &IdempotencyKey) -> Self {
        Self::new(format!("I#{user}{BETWEEN}{key}"), MAIN)
    }

    pub(super) fn scope(scope: &SlotScope) -> Self {
        Self::new(format!("S#{scope}"), MAIN)
    }

    /// A part of a scope that is cut; part 0 is the scope's own item.
    pub(super) fn share(scope: &SlotScope, part: u32) -> Self {
        if part == 0 { Self::scope(scope) } else { Self::new(format!("S#{scope}{BETWEEN}{part}"), MAIN) }
    }

    /// A place in the queue of a scope.
    pub(super) fn place(lane: &str, order: u64, id: TaskId) -> Self {
        Self::new(lane_pk(lane), format!("{order:020}#{id}"))
    }

    /// A page of the feed of a partition of tasks.
    pub(super) fn feed(shard: u32, page: u64) -> Self {
        Self::new(feed_pk(shard), format!("{page:020}"))
    }

    /// A task that was denied a slot, among its user's.
    pub(super) fn denied(scope: &SlotScope, user: &UserId, order: u64) -> Self {
        Self::new(denied_pk(scope), format!("{user}{BETWEEN}{order:020}"))
    }
}

pub(super) fn task_pk(id: TaskId) -> String {
    format!("T#{id}")
}

pub(super) fn lane_pk(lane: &str) -> String {
    format!("W#{lane}")
}

pub(super) fn denied_pk(scope: &SlotScope) -> String {
    format!("D#{scope}")
}

pub(super) fn feed_pk(shard: u32) -> String {
    format!("F#{shard}")
}

/// The task whose main item has this partition key.
pub(super) fn task_of(pk: &str) -> Option<TaskId> {
    pk.strip_prefix("T#")?.parse().ok()
}

/// The scope whose item has this partition key, and which part of it that is.
pub(super) fn scope_of(pk: &str) -> Option<(SlotScope, u32)> {
    let name = pk.strip_prefix("S#")?;
    match name.split_once(BETWEEN) {
        Some((scope, part)) => Some((SlotScope(scope.to_owned()), part.parse().ok()?)),
        None => Some((SlotScope(name.to_owned()), 0)),
    }
}

pub(super) fn s(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

pub(super) fn n(number: impl ToString) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

pub(super) fn b(bytes: impl Into<Vec<u8>>) -> AttributeValue {
    AttributeValue::B(Blob::new(bytes))
}

pub(super) fn text<'a>(item: &'a Item, name: &str) -> Option<&'a str> {
    item.get(name)?.as_s().ok().map(String::as_str)
}

pub(super) fn number<T: std::str::FromStr>(item: &Item, name: &str) -> Option<T> {
    item.get(name)?.as_n().ok()?.parse().ok()
}

pub(super) fn bytes<'a>(item: &'a Item, name: &str) -> Option<&'a [u8]> {
    item.get(name)?.as_b().ok().map(Blob::as_ref)
}

/// The size of an item in bytes, by the rules that the service publishes.
pub(super) fn size(item: &Item) -> usize {
    item.iter().map(|(name, value)| name.len() + value_size(value)).sum()
}

fn value_size(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::S(text) => text.len(),
        AttributeValue::N(digits) => digits.len().div_ceil(2) + 1,
        AttributeValue::B(bytes) => bytes.as_ref().len(),
        AttributeValue::Bs(set) => 3 + set.iter().map(|e| e.as_ref().len() + 1).sum::<usize>(),
        AttributeValue::Ss(set) => 3 + set.iter().map(|e| e.len() + 1).sum::<usize>(),
        AttributeValue::Ns(set) => 3 + set.iter().map(|e| e.len().div_ceil(2) + 2).sum::<usize>(),
        AttributeValue::L(list) => 3 + list.iter().map(|e| value_size(e) + 1).sum::<usize>(),
        AttributeValue::M(map) => 3 + map.iter().map(|(k, v)| k.len() + value_size(v) + 1).sum::<usize>(),
        AttributeValue::Bool(_) | AttributeValue::Null(_) => 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_as_what_they_name() {
        let id = TaskId::from_parts(abca_core::Timestamp::from_millis(1), 1);
        let user = |name: &str| UserId::new(name).unwrap();
        let scope = SlotScope("system".to_owned());
        let keys = [("ann", 9), ("ann", 10), ("ann!", 1), ("anna", 1), ("bob", 0)]
            .map(|(name, order)| Key::denied(&scope, &user(name), order));
        assert!(keys.is_sorted(), "by user, then by order, whatever the users' names: {keys:?}");
        assert!(Key::page(id, 'E', 1, 9) < Key::page(id, 'E', 10, 10));
        assert_eq!(task_of(&Key::task(id).pk), Some(id));
        assert_eq!(task_of("S#system"), None);
    }

    #[test]
    fn sizes_are_the_published_ones() {
        let item = Item::from([
            ("pk".to_owned(), s("abc")),
            ("v".to_owned(), n(1_234)),
            ("h".to_owned(), AttributeValue::Bs(vec![Blob::new([0; 23])])),
        ]);
        assert_eq!(size(&item), (2 + 3) + (1 + 3) + (1 + 3 + 24));
    }
}
