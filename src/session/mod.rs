//! A session: the brain that drives a model, and the hands that run its tools.

pub mod hands;
pub mod tools;
