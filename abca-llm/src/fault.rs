//! What went wrong, from a status, a provider's words and a header: pure, shared by the three wires.

use abca_core::Millis;
use abca_core::model::{ModelError, ModelErrorKind};
use secrecy::{ExposeSecret, SecretString};

use crate::clip::clip;

/// Longest piece of a provider's text that gets into an error, in characters.
const CLIP_CHARS: usize = 400;

/// Removes secrets from texts that providers, proxies and libraries wrote.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scrub {
    secrets: Vec<SecretString>,
}

impl Scrub {
    pub(crate) fn new<'a>(secrets: impl IntoIterator<Item = &'a SecretString>) -> Self {
        // A shorter one could be an ordinary word.
        Self { secrets: secrets.into_iter().filter(|s| s.expose_secret().len() >= 6).cloned().collect() }
    }

    /// The text without secrets and control characters, on one line, clipped.
    pub(crate) fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.secrets {
            text = text.replace(secret.expose_secret(), "[redacted]");
        }
        let mut out = String::with_capacity(text.len().min(CLIP_CHARS * 4));
        for (n, word) in text.split_whitespace().enumerate() {
            if n > 0 {
                out.push(' ');
            }
            let looks_secret = word.len() > 12 && ["sk-", "\"sk-", "`sk-", "'sk-"].iter().any(|p| word.starts_with(p));
            if looks_secret {
                out.push_str("[redacted]");
            } else {
                out.extend(word.chars().filter(|c| !c.is_control()));
            }
            if out.len() > CLIP_CHARS * 4 {
                break;
            }
        }
        clip(&out, CLIP_CHARS)
    }
}

/// What a provider says about a failure.
#[derive(Debug, Default)]
pub(crate) struct Complaint<'a> {
    /// The HTTP status; `None` in the middle of a stream.
    pub status: Option<u16>,
    /// Anthropic's and OpenAI's `error.type`, or the name of an AWS exception.
    pub class: &'a str,
    /// OpenAI's `error.code`.
    pub code: &'a str,
    /// The words.
    pub message: &'a str,
}

/// Phrases by which providers say that the conversation does not fit: Anthropic, OpenAI and Azure, vLLM, llama.cpp,
/// Bedrock. None of them occurs when only `max_tokens` is out of range.
const TOO_LONG: &[&str] = &[
    "prompt is too long",
    "exceed context limit",
    "exceeds the context",
    "exceeds the model's context",
    "exceed context window",
    "maximum context length",
    "maximum model length",
    "context length exceeded",
    "context window",
    "available context size",
    "input is too long",
    "input tokens exceed",
    "too many input tokens",
    "request_too_large",
];

/// Phrases for an account that may not call, under a status that says otherwise.
const NO_CREDIT: &[&str] = &["insufficient_quota", "credit balance", "billing", "exceeded your current quota"];

/// The kind of a complaint. Ordered, total: exact codes first, then words, then the status.
pub(crate) fn classify(c: &Complaint<'_>) -> ModelErrorKind {
    use ModelErrorKind as K;
    let words = c.message.to_lowercase();
    let says = |list: &[&str]| list.iter().any(|p| words.contains(p) || c.code == *p || c.class == *p);
    if matches!(c.code, "context_length_exceeded") || c.class == "exceed_context_size_error" || c.status == Some(413) {
        return K::ContextTooLong;
    }
    let client_side = matches!(c.status, None | Some(400 | 402 | 403 | 422 | 429));
    if client_side && says(NO_CREDIT) {
        return K::Access;
    }
    if matches!(c.status, None | Some(400 | 422)) && says(TOO_LONG) {
        return K::ContextTooLong;
    }
    match (c.status, c.class) {
        (_, "overloaded_error" | "api_error" | "server_error" | "internal_server_error") => K::Overloaded,
        (_, "rate_limit_error" | "rate_limit_exceeded") => K::Throttled,
        (_, "timeout_error") => K::TimedOut,
        (_, "authentication_error" | "permission_error" | "billing_error") => K::Access,
        (Some(401..=403), _) => K::Access,
        (Some(404), _) if words.contains("model") || c.code == "model_not_found" => K::Access,
        (Some(408), _) => K::TimedOut,
        (Some(429), _) => K::Throttled,
        (Some(500..), _) => K::Overloaded,
        (Some(300..=399), _) => K::Config,
        (Some(_), _) => K::BadRequest,
        (None, "invalid_request_error" | "not_found_error") => K::BadRequest,
        (None, _) => K::Overloaded,
    }
}

/// What a person can do about it, where the kind alone tells.
pub(crate) fn remedy(kind: ModelErrorKind, status: Option<u16>) -> &'static str {
    match (kind, status) {
        (ModelErrorKind::Access, Some(404)) => "; check the model id and whether this key may use it",
        (ModelErrorKind::Access, Some(401)) => "; check the api key",
        (ModelErrorKind::Access, _) => "; check the account's permissions and credit",
        (ModelErrorKind::BadRequest, Some(404 | 405)) => "; check the base url",
        (ModelErrorKind::Config, Some(300..=399)) => {
            "; redirects are not followed, since they would carry the key elsewhere: set the base url to the final address"
        }
        _ => "",
    }
}

/// The error of a complaint, with the provider's words clipped and scrubbed.
pub(crate) fn complaint(
    provider: &str,
    op: &'static str,
    c: &Complaint<'_>,
    scrub: &Scrub,
    retry_after: Option<Millis>,
) -> ModelError {
    let kind = classify(c);
    let mut text = format!("{provider} answered");
    match c.status {
        Some(status) => text.push_str(&format!(" {status}")),
        None => text.push_str(" with an error in the stream"),
    }
    for part in [c.class, c.code] {
        if !part.is_empty() {
            text.push(' ');
            text.push_str(&scrub.text(part));
        }
    }
    let words = scrub.text(c.message);
    if !words.is_empty() {
        text.push_str(&format!(": `{words}`"));
    }
    text.push_str(remedy(kind, c.status));
    ModelError::new(kind, op, text).with_retry_after(retry_after)
}

/// An answer that is not of the wire format.
pub(crate) fn malformed(provider: &str, what: impl std::fmt::Display) -> ModelError {
    ModelError::new(ModelErrorKind::Malformed, "stream", format!("{provider}: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(status: Option<u16>, class: &str, code: &str, message: &str) -> ModelErrorKind {
        classify(&Complaint { status, class, code, message })
    }

    #[test]
    fn every_provider_s_way_to_say_it() {
        use ModelErrorKind as K;
        let table = [
            (
                Some(400),
                "invalid_request_error",
                "",
                "prompt is too long: 214000 tokens > 200000 maximum",
                K::ContextTooLong,
            ),
            (
                Some(400),
                "invalid_request_error",
                "",
                "input length and `max_tokens` exceed context limit: 1 + 2 > 2",
                K::ContextTooLong,
            ),
            (Some(413), "request_too_large", "", "Request exceeds the maximum size", K::ContextTooLong),
            (Some(400), "invalid_request_error", "context_length_exceeded", "x", K::ContextTooLong),
            (
                Some(400),
                "BadRequestError",
                "400",
                "This model's maximum context length is 4096 tokens.",
                K::ContextTooLong,
            ),
            (
                Some(400),
                "exceed_context_size_error",
                "",
                "the request exceeds the available context size",
                K::ContextTooLong,
            ),
            (
                Some(400),
                "invalid_request_error",
                "",
                "max_tokens: 200000 > 64000, which is the maximum allowed",
                K::BadRequest,
            ),
            (Some(400), "invalid_request_error", "", "Your credit balance is too low", K::Access),
            (Some(401), "authentication_error", "", "invalid x-api-key", K::Access),
            (Some(403), "permission_error", "", "no", K::Access),
            (Some(404), "not_found_error", "", "model: claude-9", K::Access),
            (Some(404), "", "", "Not Found", K::BadRequest),
            (Some(429), "insufficient_quota", "insufficient_quota", "You exceeded your current quota", K::Access),
            (Some(429), "rate_limit_error", "", "slow down", K::Throttled),
            (Some(529), "overloaded_error", "", "Overloaded", K::Overloaded),
            (Some(500), "", "", "", K::Overloaded),
            (Some(503), "", "", "the context window service is down", K::Overloaded),
            (Some(302), "", "", "", K::Config),
            (Some(408), "", "", "", K::TimedOut),
            (None, "overloaded_error", "", "Overloaded", K::Overloaded),
            (None, "invalid_request_error", "", "bad", K::BadRequest),
            (None, "", "", "something", K::Overloaded),
        ];
        for (status, class, code, message, want) in table {
            assert_eq!(kind(status, class, code, message), want, "{status:?} {class} {code} {message}");
        }
    }

    #[test]
    fn keys_do_not_get_into_messages() {
        let scrub = Scrub::new([&SecretString::from("super-secret-key")]);
        let text = scrub.text("Incorrect API key provided: super-secret-key\nor sk-ant-api03-abcdefghijk.");
        assert_eq!(text, "Incorrect API key provided: [redacted] or [redacted]");
        assert_eq!(scrub.text(&"word ".repeat(1000)).chars().count(), CLIP_CHARS + 1);
    }
}
