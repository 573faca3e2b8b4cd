//! The form of stored records, so that an older program knows what it must leave alone.
//!
//! A program that knows less than a record holds would drop the rest when it writes the record back, or take it for
//! damaged. So what an older program must not touch says so: a record, or a signal, whose JSON has a `format` above the one
//! that the program knows is left to newer ones. Whoever adds a field that must not be lost, or a variant, raises
//! [`RECORD_FORMAT`] and writes it in those records that use it, and in no others: the rest stay everybody's.

use serde::Deserialize;

use super::{StoreError, StoreErrorKind};

/// The newest form that this program knows. It writes 1, by leaving it out, as long as nothing newer is used.
pub const RECORD_FORMAT: u32 = 1;

pub(crate) const fn first() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
pub(crate) const fn is_first(format: &u32) -> bool {
    *format == 1
}

/// Whatever else there is, its form.
#[derive(Deserialize)]
struct Probe {
    #[serde(default = "first")]
    format: u32,
}

/// An error where a record is of a newer form than this program knows.
///
/// # Errors
/// [`StoreErrorKind::Incompatible`], saying what to do.
pub fn check_format(op: &'static str, what: &str, format: u32) -> Result<(), StoreError> {
    if format <= RECORD_FORMAT {
        return Ok(());
    }
    let text = format!(
        "{what} was written by a newer abca, in form {format}; this one knows {RECORD_FORMAT}: it is left to newer workers, upgrade this one"
    );
    Err(StoreError::new(StoreErrorKind::Incompatible, op, text))
}

/// The same for JSON that could not be read: an object, or an array of them. What says nothing of its form is of the first.
///
/// # Errors
/// As [`check_format`].
pub fn check_unread(op: &'static str, what: &str, json: &str) -> Result<(), StoreError> {
    let one = serde_json::from_str::<Probe>(json).map(|p| p.format).ok();
    let newest = || serde_json::from_str::<Vec<Probe>>(json).ok()?.into_iter().map(|p| p.format).max();
    check_format(op, what, one.or_else(newest).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_says_that_it_is_newer_is_left_alone() {
        for old in [r#"{"format":1}"#, "{}", "nonsense", r#"{"format":"x"}"#, "[]", r#"[{"a":1},{}]"#, ""] {
            assert!(check_unread("claim", "it", old).is_ok(), "{old}");
        }
        for new in [r#"{"format":2,"status":"DREAMING"}"#, r#"[{},{"kind":{"type":"dream"},"format":7}]"#] {
            assert_eq!(check_unread("claim", "it", new).unwrap_err().kind(), StoreErrorKind::Incompatible, "{new}");
        }
    }
}
