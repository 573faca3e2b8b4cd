//! JSON to the SDK's documents.
//!
//! A document keeps its keys in a hash map, so their order is lost: a provider's prompt cache that looks at bytes may
//! miss where it would hit over the Messages API.

use aws_smithy_types::{Document, Number};
use serde_json::Value;

/// The document of a JSON value.
pub(super) fn document(value: &Value) -> Document {
    match value {
        Value::Null => Document::Null,
        Value::Bool(b) => Document::Bool(*b),
        Value::Number(n) => Document::Number(match (n.as_u64(), n.as_i64()) {
            (Some(n), _) => Number::PosInt(n),
            (None, Some(n)) => Number::NegInt(n),
            (None, None) => Number::Float(n.as_f64().unwrap_or(0.0)),
        }),
        Value::String(s) => Document::String(s.clone()),
        Value::Array(list) => Document::Array(list.iter().map(document).collect()),
        Value::Object(map) => Document::Object(map.iter().map(|(k, v)| (k.clone(), document(v))).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The way back, to compare.
    fn value(document: &Document) -> Value {
        match document {
            Document::Null => Value::Null,
            Document::Bool(b) => (*b).into(),
            Document::Number(Number::PosInt(n)) => (*n).into(),
            Document::Number(Number::NegInt(n)) => (*n).into(),
            Document::Number(Number::Float(n)) => (*n).into(),
            Document::String(s) => s.clone().into(),
            Document::Array(list) => list.iter().map(value).collect(),
            Document::Object(map) => Value::Object(map.iter().map(|(k, v)| (k.clone(), value(v))).collect()),
        }
    }

    #[test]
    fn nothing_is_lost() {
        let json = serde_json::json!({"a": [1, -2, 2.5, true, null, "x", {}], "b": {"c": u64::MAX, "d": i64::MIN}});
        assert_eq!(value(&document(&json)), json);
    }
}
