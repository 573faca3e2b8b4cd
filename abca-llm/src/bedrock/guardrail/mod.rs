//! A guardrail of Amazon Bedrock: ApplyGuardrail, piece by piece.
//!
//! A text is sent in pieces that overlap, one after the other: an account's quota is counted in text units a second, so
//! calls side by side would only be refused. Each image is a call of its own.

mod answer;
mod call;
mod merge;
mod pieces;

use std::sync::Arc;
use std::time::Duration;

use abca_core::guardrail::{
    Assessment, Guardrail, GuardrailAction, GuardrailError, GuardrailErrorKind, GuardrailImage, GuardrailInput,
    GuardrailText, GuardrailVerdict, ImageFormat,
};
use abca_core::time::IdSource;
use async_trait::async_trait;
use aws_sdk_bedrockruntime::Client;
use aws_sdk_bedrockruntime::primitives::Blob;
use aws_sdk_bedrockruntime::types::{
    GuardrailContentBlock, GuardrailImageBlock, GuardrailImageFormat, GuardrailImageSource, GuardrailTextBlock,
};
use tokio::time::Instant;

use crate::config::BedrockGuardrailConfig;
use crate::fault::Scrub;
use answer::Answer;
use merge::Edits;

/// Largest image that the service takes.
const IMAGE_BYTES: usize = 4 << 20;
/// Least characters of a piece: what the service counts as one text unit.
const UNIT_CHARS: usize = 1_000;

/// A guardrail of Amazon Bedrock.
///
/// Everything is sent as `INPUT`, so that filters for prompt attacks see it. What the service masks is masked; what it
/// detects without acting on it is told; whatever else it intervenes for blocks. A throttled call is repeated with growing
/// waits, and made smaller when that does not help. Not tried against the real service: against a loopback server that
/// speaks its wire format.
#[derive(Debug)]
pub struct BedrockGuardrail {
    client: Client,
    scrub: Scrub,
    ids: Arc<dyn IdSource>,
    id: String,
    version: String,
    piece_chars: usize,
    overlap_chars: usize,
    idle: Duration,
    deadline: Duration,
    first_wait: Duration,
    attempts: u32,
}

impl BedrockGuardrail {
    /// A client for one guardrail. `ids` is the randomness of its waits. Asks nothing of the service yet.
    ///
    /// # Errors
    /// [`GuardrailErrorKind::Misconfigured`]: an id or a version that is none, sizes that make no sense, no region.
    pub async fn connect(config: BedrockGuardrailConfig, ids: Arc<dyn IdSource>) -> Result<Self, GuardrailError> {
        check(&config)?;
        let (client, scrub) =
            super::client::connect(&config.bedrock).await.map_err(|e| misconfigured(e.fault.message()))?;
        Ok(Self {
            client,
            scrub,
            ids,
            id: config.id,
            version: config.version,
            piece_chars: config.piece_chars,
            overlap_chars: config.overlap_chars,
            idle: config.bedrock.idle_timeout,
            deadline: config.deadline,
            first_wait: config.first_wait,
            attempts: config.attempts.max(1),
        })
    }

    async fn text(&self, given: &GuardrailText, until: Instant) -> Result<(Vec<Assessment>, String), GuardrailError> {
        let text = given.text.as_str();
        let (mut found, mut edits) = (Found::default(), Edits::default());
        let (mut from, mut size, mut most) = (0, self.piece_chars, self.piece_chars);
        while !text[from..].trim().is_empty() {
            let to = pieces::end(text, from, size);
            let piece = &text[from..to];
            let chars = piece.chars().count();
            let block = GuardrailTextBlock::builder().text(piece).build().map_err(|e| misconfigured(e.to_string()))?;
            let answer = match self.call(GuardrailContentBlock::Text(block), piece, until, chars > UNIT_CHARS).await {
                Ok(answer) => answer,
                Err(call::Failed::TooLarge) => {
                    size = chars.div_ceil(2).max(UNIT_CHARS);
                    most = size;
                    continue;
                }
                Err(call::Failed::TooMuch) => {
                    size = chars.div_ceil(2).max(UNIT_CHARS);
                    continue;
                }
                Err(call::Failed::For(error)) => return Err(error),
            };
            // What was too much for a moment need not be so for ever.
            size = (size * 2).min(most);
            found.note(&given.name, &answer);
            if answer.blocks() {
                return Ok((found.assessments(&given.name, text, &edits), String::new()));
            }
            if let Some(masked) = &answer.masked {
                edits.add(from, piece, masked, &answer.matches, (from, to) == (0, text.len()))?;
            }
            if to == text.len() {
                break;
            }
            // Smaller pieces share less, so that there is progress.
            from = pieces::back(text, to, self.overlap_chars.min(chars / 4)).max(pieces::end(text, from, 1));
        }
        let masked = edits.apply(text);
        Ok((found.assessments(&given.name, text, &edits), masked))
    }

    async fn image(&self, image: &GuardrailImage, until: Instant) -> Result<Vec<Assessment>, GuardrailError> {
        let refused = |what: String| GuardrailError::new(GuardrailErrorKind::Refused, "check", what);
        let format = match image.format {
            ImageFormat::Png => GuardrailImageFormat::Png,
            ImageFormat::Jpeg => GuardrailImageFormat::Jpeg,
            other => {
                let what = format!(
                    "image `{}` is of the form {}, and bedrock's guardrails judge png and jpeg: convert it",
                    image.name,
                    other.as_str()
                );
                return Err(refused(what));
            }
        };
        if image.bytes.len() > IMAGE_BYTES {
            let what = format!(
                "image `{}` has {} bytes, and bedrock's guardrails take {IMAGE_BYTES} at most: make it smaller",
                image.name,
                image.bytes.len()
            );
            return Err(refused(what));
        }
        let source = GuardrailImageSource::Bytes(Blob::new(image.bytes.clone()));
        let block = GuardrailImageBlock::builder().format(format).source(source).build();
        let block = block.map_err(|e| misconfigured(e.to_string()))?;
        match self.call(GuardrailContentBlock::Image(block), "", until, false).await {
            Ok(answer) => {
                let mut found = Found::default();
                found.note(&image.name, &answer);
                Ok(found.assessments(&image.name, "", &Edits::default()))
            }
            Err(call::Failed::TooLarge | call::Failed::TooMuch) => {
                Err(refused(format!("image `{}` is too large for bedrock's guardrail: make it smaller", image.name)))
            }
            Err(call::Failed::For(error)) => Err(error),
        }
    }
}

#[async_trait]
impl Guardrail for BedrockGuardrail {
    fn name(&self) -> &'static str {
        super::NAME
    }

    async fn check(&self, input: &GuardrailInput) -> Result<GuardrailVerdict, GuardrailError> {
        let until = Instant::now() + self.deadline;
        let (mut all, mut texts) = (Vec::new(), Vec::with_capacity(input.texts.len()));
        let blocked = |found: &[Assessment]| found.iter().any(|a| a.action == GuardrailAction::Blocked);
        for given in &input.texts {
            let (found, text) = self.text(given, until).await?;
            texts.push(text);
            all.extend(found);
            if blocked(&all) {
                return Ok(GuardrailVerdict::of(all, Vec::new()));
            }
        }
        for image in input.images.iter().filter(|image| !image.bytes.is_empty()) {
            all.extend(self.image(image, until).await?);
            if blocked(&all) {
                break;
            }
        }
        Ok(GuardrailVerdict::of(all, texts))
    }
}

/// What was found in one text or image, each kind once however many pieces say so.
#[derive(Debug, Default)]
struct Found(Vec<Assessment>);

impl Found {
    fn note(&mut self, subject: &str, answer: &Answer) {
        for item in &answer.items {
            let same = |a: &&mut Assessment| {
                (a.policy.as_str(), a.category.as_str(), a.action) == (item.policy, item.category.as_str(), item.action)
            };
            match self.0.iter_mut().find(same) {
                Some(known) => known.confidence = known.confidence.max(item.confidence),
                None => self.0.push(Assessment {
                    subject: subject.to_owned(),
                    policy: item.policy.to_owned(),
                    category: item.category.clone(),
                    confidence: item.confidence,
                    action: item.action,
                    count: 1,
                    first_at: None,
                }),
            }
        }
    }

    /// With the place of the first edit, where there is one kind of edits only.
    fn assessments(mut self, subject: &str, text: &str, edits: &Edits) -> Vec<Assessment> {
        let mut masked = self.0.iter_mut().filter(|a| a.action == GuardrailAction::Masked && a.subject == subject);
        if let (Some(one), None, Some((first, count))) = (masked.next(), masked.next(), edits.first()) {
            one.first_at = Some(text[..first].chars().count() + 1);
            one.count = u32::try_from(count).unwrap_or(u32::MAX);
        }
        self.0
    }
}

fn misconfigured(what: impl Into<String>) -> GuardrailError {
    GuardrailError::new(GuardrailErrorKind::Misconfigured, "connect", what)
}

fn check(config: &BedrockGuardrailConfig) -> Result<(), GuardrailError> {
    let BedrockGuardrailConfig { id, version, piece_chars, overlap_chars, .. } = config;
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase());
    let arn = id.starts_with("arn:aws") && id.rsplit_once(":guardrail/").is_some_and(|(_, id)| plain(id));
    if !(plain(id) || arn) || id.len() > 2_048 {
        return Err(misconfigured(format!(
            "`{}` is no guardrail: give its id, of lower-case letters and digits, or its ARN",
            crate::clip::clip(id, 100)
        )));
    }
    let number = !version.starts_with('0') && version.len() <= 8 && version.bytes().all(|b| b.is_ascii_digit());
    if version.is_empty() || !(number || version == "DRAFT") {
        return Err(misconfigured(format!(
            "`{}` is no version of a guardrail: give its number, or `DRAFT`",
            crate::clip::clip(version, 100)
        )));
    }
    if *piece_chars < UNIT_CHARS || *overlap_chars > piece_chars / 2 {
        return Err(misconfigured(format!(
            "pieces of {piece_chars} characters that share {overlap_chars} cannot be: {UNIT_CHARS} is the least, and at most half is shared"
        )));
    }
    Ok(())
}
