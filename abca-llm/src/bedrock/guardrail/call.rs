//! One call, repeated as long as that makes sense.

use std::time::Duration;

use abca_core::guardrail::{GuardrailError, GuardrailErrorKind};
use abca_core::model::ModelErrorKind;
use aws_sdk_bedrockruntime::config::http::HttpResponse;
use aws_sdk_bedrockruntime::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_bedrockruntime::operation::apply_guardrail::ApplyGuardrailError;
use aws_sdk_bedrockruntime::types::{GuardrailContentBlock, GuardrailContentSource};
use tokio::time::Instant;

use super::BedrockGuardrail;
use super::answer::Answer;
use crate::bedrock::error;

/// The longest wait that is not asked for.
const LONGEST_WAIT: Duration = Duration::from_secs(8);
/// Throttled so often in a row, a piece is made smaller: a quota may count text, not calls.
const THROTTLED: u32 = 3;
/// So many characters of a text in a row are a quotation of it.
const QUOTATION: usize = 16;

/// Why there is no answer.
pub(super) enum Failed {
    /// It may be one when the piece is smaller.
    TooLarge,
    /// The same, at least for now.
    TooMuch,
    /// There is none.
    For(GuardrailError),
}

/// What one attempt came to.
struct Fault {
    kind: GuardrailErrorKind,
    message: String,
    too_large: bool,
    wait: Option<Duration>,
}

impl Fault {
    fn new(kind: GuardrailErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), too_large: false, wait: None }
    }

    fn error(self) -> GuardrailError {
        GuardrailError::new(self.kind, "check", self.message)
    }
}

impl BedrockGuardrail {
    /// Asks about one piece, whose words no error may hold. `divisible` when a smaller one could be asked about.
    pub(super) async fn call(
        &self,
        block: GuardrailContentBlock,
        piece: &str,
        until: Instant,
        divisible: bool,
    ) -> Result<Answer, Failed> {
        let mut tries = 0;
        loop {
            let fault = match self.attempt(block.clone(), piece, until).await {
                Ok(answer) => return Ok(answer),
                Err(fault) => fault,
            };
            tries += 1;
            let throttled = fault.kind == GuardrailErrorKind::Throttled;
            if divisible && fault.too_large {
                return Err(Failed::TooLarge);
            }
            if divisible && throttled && tries >= THROTTLED {
                return Err(Failed::TooMuch);
            }
            let again = matches!(fault.kind, GuardrailErrorKind::Throttled | GuardrailErrorKind::Unavailable);
            let wait = self.wait(tries, fault.wait);
            if !again || tries >= self.attempts || Instant::now() + wait >= until {
                let often = if tries > 1 { format!(", after {tries} calls") } else { String::new() };
                return Err(Failed::For(Fault { message: fault.message.clone() + &often, ..fault }.error()));
            }
            tracing::debug!(error = %fault.message, tries, wait_ms = wait.as_millis(), "asking the guardrail again");
            tokio::time::sleep(wait).await;
        }
    }

    /// Doubles, with a chance of up to half of it less; what the service asks for counts when it is longer.
    fn wait(&self, tries: u32, asked: Option<Duration>) -> Duration {
        let full = self.first_wait.saturating_mul(1 << tries.saturating_sub(1).min(8)).min(LONGEST_WAIT);
        let part = u32::try_from(self.ids.random() % 512).unwrap_or(0) + 512;
        (full * part / 1_024).max(asked.unwrap_or_default())
    }

    async fn attempt(&self, block: GuardrailContentBlock, piece: &str, until: Instant) -> Result<Answer, Fault> {
        let send = self
            .client
            .apply_guardrail()
            .guardrail_identifier(&self.id)
            .guardrail_version(&self.version)
            .source(GuardrailContentSource::Input)
            .content(block)
            .send();
        let patience = self.idle.min(until.saturating_duration_since(Instant::now()));
        match tokio::time::timeout(patience, send).await {
            Ok(Ok(out)) => Ok(Answer::of(&out)),
            Ok(Err(e)) => Err(self.fault(&e, piece)),
            Err(_) => {
                let what = format!("bedrock's guardrail was silent for {:.1} s", patience.as_secs_f32());
                Err(Fault::new(GuardrailErrorKind::Unavailable, what))
            }
        }
    }

    fn fault(&self, e: &SdkError<ApplyGuardrailError, HttpResponse>, piece: &str) -> Fault {
        use GuardrailErrorKind::{Misconfigured, Refused, Throttled, Unavailable};
        let SdkError::ServiceError(service) = e else {
            let known = error::of_call("check", e, &self.scrub);
            let kind = match known.kind() {
                ModelErrorKind::Config | ModelErrorKind::Access => Misconfigured,
                ModelErrorKind::Throttled => Throttled,
                _ => Unavailable,
            };
            return Fault::new(kind, without_quotation(known.fault.message().to_owned(), piece));
        };
        let status = e.raw_response().map_or(0, |r| r.status().as_u16());
        let code = self.scrub.text(service.err().code().unwrap_or("error"));
        let words = self.scrub.text(service.err().message().unwrap_or_default());
        let lower = words.to_lowercase();
        let large = ["text unit", "input size", "too large", "too long", "maximum length", "maximum input"];
        let too_large = status == 413 || large.iter().any(|w| lower.contains(w));
        let (id, version) = (&self.id, &self.version);
        let (kind, advice) = match code.as_str() {
            "ThrottlingException" | "TooManyRequestsException" | "ServiceQuotaExceededException" => {
                (Throttled, "; submit later, or ask aws for a larger quota of text units for guardrails".to_owned())
            }
            "ResourceNotFoundException" => {
                (Misconfigured, format!("; check the guardrail `{id}`, its version `{version}` and the region"))
            }
            "AccessDeniedException"
            | "UnrecognizedClientException"
            | "ExpiredTokenException"
            | "InvalidSignatureException"
            | "IncompleteSignatureException"
            | "MissingAuthenticationTokenException" => (
                Misconfigured,
                format!("; check the credentials, and that they may `bedrock:ApplyGuardrail` on `{id}`"),
            ),
            "ValidationException" => (Refused, String::new()),
            _ => match status {
                429 => (Throttled, "; submit later".to_owned()),
                401 | 403 => (Misconfigured, format!("; check that the credentials may apply the guardrail `{id}`")),
                400..=499 => (Refused, String::new()),
                _ => (Unavailable, String::new()),
            },
        };
        if (200..300).contains(&status) {
            return Fault::new(Unavailable, format!("bedrock's guardrail gave a broken answer, with status {status}"));
        }
        let words = without_quotation(words, piece);
        let said = if words.is_empty() { String::new() } else { format!(": `{words}`") };
        let header = e.raw_response().and_then(|r| r.headers().get("retry-after"));
        let wait = header.and_then(|v| v.trim().parse::<f32>().ok()).filter(|s| (0.0..3_600.0).contains(s));
        Fault {
            too_large,
            wait: wait.map(Duration::from_secs_f32),
            ..Fault::new(kind, format!("bedrock's guardrail answered {status} {code}{said}{advice}"))
        }
    }
}

/// The service's words, unless they quote the text that it was asked about.
fn without_quotation(words: String, piece: &str) -> String {
    let chars: Vec<(usize, char)> = words.char_indices().collect();
    let quotes = chars.windows(QUOTATION).any(|window| match (window.first(), window.last()) {
        (Some((from, _)), Some((at, last))) => piece.contains(&words[*from..at + last.len_utf8()]),
        _ => false,
    });
    if quotes { "its words quote the text, and are left out".to_owned() } else { words }
}
