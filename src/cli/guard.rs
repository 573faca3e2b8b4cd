//! The guardrail of the command line.

use std::path::Path;
use std::sync::Arc;

use abca_core::guardrail::LocalGuardrailConfig;
use abca_core::policy::{GuardOutcome, GuardStage};

use super::args::GuardArgs;
use super::common::{Failed, Output, Place, absolute, builder};
use crate::models::ModelSettings;
use crate::tell::tell;
use crate::{Abca, Builder, GuardrailSettings};

/// A builder with the guardrail of the command line, which says what it took out.
pub(super) fn guarded(builder: Builder, args: &GuardArgs, output: Output) -> Result<Builder, Failed> {
    let settings = guardrail(args, &ModelSettings::from_variables(|name| std::env::var(name).ok()))?;
    Ok(builder.guardrails(settings).on_decision(move |decision| {
        let here = matches!(decision.stage, GuardStage::Submit | GuardStage::Nudge);
        if here && decision.outcome == GuardOutcome::Changed && output == Output::Text {
            tell(format_args!("abca: the guardrail took something out: {}", decision.reason));
        }
    }))
}

/// A facade that says something to a task; a worker elsewhere does the work.
pub(super) async fn speaking(state: Place, args: &GuardArgs, output: Output) -> Result<Arc<Abca>, Failed> {
    Ok(Arc::new(guarded(builder(state)?, args, output)?.worker(false).build().await?))
}

/// The guardrail that is named on the command line. What this user's models are let in with is among what it knows.
fn guardrail(args: &GuardArgs, models: &ModelSettings) -> Result<GuardrailSettings, Failed> {
    let mut settings = match args.guardrail.strip_prefix("local:") {
        None => args.guardrail.parse::<GuardrailSettings>()?,
        Some(file) => GuardrailSettings::default().local(local_guardrail(file)?),
    };
    if let Some(bedrock) = &mut settings.bedrock {
        bedrock.bedrock.region.clone_from(&models.bedrock_region);
        bedrock.bedrock.endpoint_url.clone_from(&models.bedrock_endpoint_url);
    }
    settings.known = models.secrets().into_values().collect();
    Ok(settings)
}

fn local_guardrail(file: &str) -> Result<LocalGuardrailConfig, Failed> {
    let cannot =
        |e: &dyn std::fmt::Display| Failed::new(2, format!("the guardrail's file `{file}` cannot be used: {e}"));
    let text = std::fs::read_to_string(file).map_err(|e| cannot(&e))?;
    serde_json::from_str(&text).map_err(|e| cannot(&e))
}

/// The same guardrail for a process in another folder.
pub(super) fn guardrail_elsewhere(args: &GuardArgs) -> Result<String, Failed> {
    match args.guardrail.strip_prefix("local:") {
        None => Ok(args.guardrail.clone()),
        Some(file) => Ok(format!("local:{}", absolute(Path::new(file))?.display())),
    }
}
