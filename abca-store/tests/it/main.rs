//! Everything that the stores promise, checked from outside.

mod conformance;
