//! Tokio's paused time as the kit's runtime: waiting costs nothing, and the same seed waits the same.

use abca_core::Millis;
use abca_core::testing::faults::{Runtime, Work};

#[derive(Debug)]
pub struct Tokio;

impl Runtime for Tokio {
    fn sleep(&self, wait: Millis) -> Work {
        Box::pin(tokio::time::sleep(wait.to_std()))
    }

    fn spawn(&self, work: Work) {
        tokio::spawn(work);
    }
}
