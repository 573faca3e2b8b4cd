//! The rows for errors of adapters, as data.

use super::meaning::*;
use super::rule::{Rule, row};

/// Errors of adapters, which are written `operation: kind: message`.
pub(super) const ADAPTERS: &[Rule] = &[
    row(&[&[": no sandbox:"]], NO_SANDBOX),
    row(
        &[&[": access denied:"]],
        means(
            "access_denied",
            AUTH_SERVICE,
            "Access denied",
            "A forge or a provider did not accept the platform's credential, or it may not do this",
            "Renew the credential, or give it the right that is missing",
        ),
    ),
    row(
        &[&[": not found or no access:"]],
        means(
            "not_found",
            AUTH_SERVICE,
            "Not found or not visible",
            "What was asked for does not exist, or the credential may not see it",
            "Check the name, and that the credential covers it",
        ),
    ),
    row(
        &[&[": not configured:"]],
        means(
            "not_configured",
            CONFIG,
            "Not configured",
            "A client lacks a setting that it cannot work without",
            "Set what the error names",
        ),
    ),
    row(
        &[&[": replay departed:"]],
        means(
            "replay_departed",
            CONFIG_USER,
            "Recorded trajectory does not fit",
            "The conversation departed from the trajectory that plays the model",
            "Record the trajectory again, or use the repository and task that it was recorded with",
        ),
    ),
    row(
        &[&[": context too long:"]],
        means(
            "context_too_long",
            AGENT_USER,
            "Conversation too long for the model",
            "The conversation does not fit the model's context",
            "Split the task, or choose a model with a larger context",
        ),
    ),
    row(
        &[&[": bad request:"]],
        means(
            "bad_request",
            CONFIG,
            "Request rejected by the provider",
            "The provider does not accept the request as it is",
            "Check the model's name and options; the same request will be rejected again",
        ),
    ),
    row(
        &[&[": no space left:"]],
        means(
            "no_space_left",
            COMPUTE_SERVICE,
            "No space left",
            "A disk is full",
            "Free some space, then submit again",
        ),
    ),
    row(
        &[&[": throttled:", ": overloaded:"]],
        means(
            "throttled",
            NETWORK,
            "Too many requests",
            "A forge or a provider is limiting requests",
            "Submit again in a few minutes",
        ),
    ),
    row(
        &[&[": network:", ": unavailable:", ": timed out:"]],
        means(
            "unreachable",
            NETWORK,
            "Not reachable",
            "A forge, a provider or a backend did not answer",
            "Submit again in a few minutes",
        ),
    ),
];
