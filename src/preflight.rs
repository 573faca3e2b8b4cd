//! Whether a task's model can be used here, found out before any compute is spent.

use std::sync::Arc;

use abca_core::model::ModelErrorKind;
use abca_core::task::{Failure, FailureReason, Prepared, Task};
use abca_core::text::Screen;
use async_trait::async_trait;

use crate::models::no_price;
use crate::orchestrator::{OnForge, PrepareFailure, Preparer};
use crate::sessions::ModelSource;

/// Another preparer, behind a look at the model of the task: it is configured, and has a price where there is a budget.
#[derive(Debug)]
pub(crate) struct ModelPreflight {
    pub(crate) inner: Arc<dyn Preparer>,
    pub(crate) model: ModelSource,
}

impl ModelPreflight {
    fn check(&self, task: &Task) -> Result<(), PrepareFailure> {
        let budgeted = task.spec.limits.max_budget.is_some();
        let named = task.spec.model.as_deref();
        match &self.model {
            ModelSource::Own(client, id) if budgeted && client.capabilities(id).price.is_none() => {
                Err(failure("MODEL_PRICE_UNKNOWN", no_price(&format!("{}:{id}", client.name())).fault.message()))
            }
            ModelSource::Own(..) => Ok(()),
            ModelSource::Settings(settings) => {
                settings.check(named).map_err(|e| match e.kind() {
                    ModelErrorKind::Config => failure("MODEL_NOT_CONFIGURED", e.fault.message()),
                    _ => failure("MODEL_NOT_USABLE", e.fault.message()),
                })?;
                if !budgeted {
                    return Ok(());
                }
                settings.check_budgeted(named).map_err(|e| failure("MODEL_PRICE_UNKNOWN", e.fault.message()))
            }
        }
    }
}

#[async_trait]
impl Preparer for ModelPreflight {
    async fn prepare(&self, task: &Task) -> Result<Prepared, PrepareFailure> {
        self.check(task)?;
        self.inner.prepare(task).await
    }

    async fn on_forge(&self, task: &Task, heads: &[String]) -> OnForge {
        self.inner.on_forge(task, heads).await
    }
}

fn failure(code: &str, what: &str) -> PrepareFailure {
    // An address may hold a password.
    let what = Screen::default().scrub(what).text;
    let message = format!("Pre-flight check failed: {code} \u{2014} {what}");
    PrepareFailure { failure: Failure::new(FailureReason::Preflight, message), retryable: false }
}
