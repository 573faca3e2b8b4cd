//! Wide values: items of their own, named by what is in them, written once before what refers to them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use abca_core::Shared;
use abca_core::TaskId;
use abca_core::store::{StoreError, StoreErrorKind};
use abca_core::task::{FixedPart, Prepared, SessionReport};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::error::{corrupt, invalid};
use super::item::{Item, Key, b, bytes, n, number};
use super::wire::Wire;

/// The largest value, in bytes of JSON.
pub(super) const LARGEST: usize = 16 << 20;
/// What goes into one item: an item holds 400 KB at most.
const PIECE: usize = 350_000;
/// How many values are remembered, and how many bytes of JSON they may have had.
const KEPT: usize = 8_192;
const KEPT_BYTES: usize = 32 << 20;

/// What never changes of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) fixed: FixedPart,
    pub(super) hash: String,
    pub(super) order: u64,
}

/// A value to be written aside.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Wide {
    pub(super) hash: String,
    json: Vec<u8>,
}

impl Wide {
    pub(super) fn new(op: &'static str, what: &str, value: &impl Serialize) -> Result<Self, StoreError> {
        let json = to_json(op, value)?;
        if json.len() > LARGEST {
            let message = format!("{what} has {} bytes, at most {LARGEST} are kept: make it smaller", json.len());
            return Err(invalid(op, message));
        }
        Ok(Self { hash: hash(&json), json })
    }
}

pub(super) fn to_json(op: &'static str, value: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|e| invalid(op, format!("a value cannot be written as json: {e}")))
}

fn hash(json: &[u8]) -> String {
    let digest = Sha256::digest(json);
    URL_SAFE_NO_PAD.encode(digest.get(..16).unwrap_or_default())
}

/// A value that was read.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Head(Arc<Head>),
    Prepared(Shared<Prepared>),
    Report(Shared<SessionReport>),
}

/// What wide values are to be read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Head,
    Prepared,
    Report,
}

impl Kind {
    fn read(self, op: &'static str, id: TaskId, json: &[u8]) -> Result<Value, StoreError> {
        let bad = |e: serde_json::Error| corrupt(op, &format!("a value of task {id}"), e);
        Ok(match self {
            Self::Head => Value::Head(Arc::new(serde_json::from_slice(json).map_err(bad)?)),
            Self::Prepared => Value::Prepared(serde_json::from_slice(json).map_err(bad)?),
            Self::Report => Value::Report(serde_json::from_slice(json).map_err(bad)?),
        })
    }
}

/// Values that were read or written lately: they never change.
#[derive(Debug, Default)]
pub(super) struct Remembered(Mutex<(usize, BTreeMap<String, Value>)>);

impl Remembered {
    pub(super) fn find(&self, hash: &str) -> Option<Value> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1.get(hash).cloned()
    }

    pub(super) fn keep(&self, hash: &str, value: Value, bytes: usize) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.1.len() >= KEPT || kept.0 + bytes > KEPT_BYTES {
            *kept = (0, BTreeMap::new());
        }
        kept.0 += bytes;
        kept.1.insert(hash.to_owned(), value);
    }
}

impl Wire {
    /// Writes a value aside. Repeats are harmless: the same name is the same bytes.
    pub(super) async fn put_aside(&self, op: &'static str, id: TaskId, wide: &Wide) -> Result<(), StoreError> {
        let pieces: Vec<&[u8]> = wide.json.chunks(PIECE).collect();
        let count = pieces.len();
        let item = |(i, piece): (usize, &[u8])| {
            let mut item = Key::piece(id, &wide.hash, i).item();
            item.insert("d".to_owned(), b(piece));
            if i == 0 && count > 1 {
                item.insert("n".to_owned(), n(count));
            }
            item
        };
        let items: Vec<Item> = pieces.into_iter().enumerate().map(item).collect();
        self.put_all(op, items.into_iter()).await
    }

    /// Reads values that were put aside, by their names; one that is not there is left out.
    pub(super) async fn get_aside(
        &self,
        op: &'static str,
        names: &[(TaskId, String)],
    ) -> Result<BTreeMap<(TaskId, String), Vec<u8>>, StoreError> {
        let first = names.iter().map(|(id, hash)| Key::piece(*id, hash, 0)).collect();
        let mut pieces: BTreeMap<Key, Item> =
            self.get_all(op, first).await?.into_iter().filter_map(|i| Some((Key::of(&i)?, i))).collect();
        let count = |item: &Item| number::<usize>(item, "n").unwrap_or(1).min(LARGEST / PIECE + 1);
        let more: Vec<Key> = names
            .iter()
            .filter_map(|(id, hash)| Some((id, hash, pieces.get(&Key::piece(*id, hash, 0))?)))
            .flat_map(|(id, hash, item)| (1..count(item)).map(|i| Key::piece(*id, hash, i)).collect::<Vec<_>>())
            .collect();
        if !more.is_empty() {
            pieces.extend(self.get_all(op, more).await?.into_iter().filter_map(|i| Some((Key::of(&i)?, i))));
        }
        let mut found = BTreeMap::new();
        for (id, name) in names {
            let Some(first) = pieces.get(&Key::piece(*id, name, 0)) else { continue };
            let mut json = Vec::new();
            for i in 0..count(first) {
                let piece = pieces.get(&Key::piece(*id, name, i)).and_then(|p| bytes(p, "d"));
                json.extend_from_slice(piece.unwrap_or_default());
            }
            if hash(&json) != *name {
                let message = format!("a value of task {id} is not what was written there (`{name}`)");
                return Err(StoreError::new(StoreErrorKind::Corrupt, op, message));
            }
            found.insert((*id, name.clone()), json);
        }
        Ok(found)
    }

    /// Reads and remembers what is not remembered yet.
    pub(super) async fn remember(
        &self,
        op: &'static str,
        remembered: &Remembered,
        wanted: Vec<(TaskId, Kind, String)>,
    ) -> Result<BTreeMap<TaskId, StoreError>, StoreError> {
        let missing: Vec<_> = wanted.into_iter().filter(|(_, _, hash)| remembered.find(hash).is_none()).collect();
        let mut faults = BTreeMap::new();
        if missing.is_empty() {
            return Ok(faults);
        }
        let names: Vec<(TaskId, String)> = missing.iter().map(|(id, _, hash)| (*id, hash.clone())).collect();
        let found = match self.get_aside(op, &names).await {
            Ok(found) => found,
            // One that is damaged must not stand in the way of the others.
            Err(e) if e.kind() == StoreErrorKind::Corrupt && names.len() > 1 => {
                let mut found = BTreeMap::new();
                for name in &names {
                    match self.get_aside(op, std::slice::from_ref(name)).await {
                        Ok(one) => found.extend(one),
                        Err(e) if e.kind() == StoreErrorKind::Corrupt => drop(faults.insert(name.0, e)),
                        Err(e) => return Err(e),
                    }
                }
                found
            }
            Err(e) if e.kind() == StoreErrorKind::Corrupt => {
                faults.extend(names.first().map(|(id, _)| (*id, e)));
                return Ok(faults);
            }
            Err(e) => return Err(e),
        };
        for (id, kind, hash) in missing {
            let Some(json) = found.get(&(id, hash.clone())) else { continue };
            match kind.read(op, id, json) {
                Ok(value) => remembered.keep(&hash, value, json.len()),
                Err(e) => drop(faults.insert(id, e)),
            }
        }
        Ok(faults)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_a_function_of_the_content() {
        let wide = |text: &str| Wide::new("submit", "a text", &text).unwrap();
        assert_eq!(wide("a"), wide("a"));
        assert_ne!(wide("a").hash, wide("b").hash);
        assert_eq!(wide("a").hash.len(), 22);
    }

    #[test]
    fn what_is_too_large_is_refused_by_name_and_size() {
        let error = Wide::new("submit", "the specification of task 1", &"x".repeat(LARGEST)).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Invalid);
        assert!(error.message().starts_with("the specification of task 1 has 16777218 bytes"), "{error}");
    }
}
