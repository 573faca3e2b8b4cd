//! Whether a store does one thing at a time, as far as anybody can tell: histories of racing callers, checked for an order.
//!
//! [`race`] lets clients loose on a few tasks and records what each asked, when, and what it was told. [`check`] looks for one order
//! of these calls, in keeping with who ended before whom began, in which [`StoreModel`](crate::store::StoreModel) gives the very same answers: the store
//! is linearizable in this history if there is one (Herlihy and Wing 1990; the search is Wing and Gong's with Lowe's memory).
//! A call whose outcome is unknown may have happened at any time after it began, or never. Tasks are checked one by one:
//! what concerns one task is linearizable as a whole if it is so for each. Slots bind tasks together and are not part of it.

mod history;
mod race;
mod search;

pub use history::{Answer, Call, Recorded, Recorder};
pub use race::race;
pub use search::{Disorder, check};
