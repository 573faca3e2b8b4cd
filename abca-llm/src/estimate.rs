//! How many tokens a request has, without asking anybody: meant to be too high rather than too low.
//!
//! No provider publishes its present tokenizer. The estimate counts a quarter of a token for an ASCII character, a
//! whole one for every other UTF-16 unit, adds what the wire adds around messages and tools, and a fifth on top.
//! Newer Claude tokenizers make about 30 % more tokens of the same text than older ones did; prose has 4 to 5
//! characters a token with the older, code about 3.

use abca_core::model::{Content, ModelRequest, TokenCount, ToolInput};
use base64::Engine;
use serde_json::Value;

/// Tokens of an image whose size cannot be read.
const UNKNOWN_IMAGE_TOKENS: u64 = 1_600;

/// Most tokens that a provider makes of one image: it scales larger ones down first.
const MAX_IMAGE_TOKENS: u64 = 4_784;

/// What a message, a tool or a call adds around its text.
const FRAME_TOKENS: u64 = 8;

/// Tokens of a text.
///
/// ```
/// assert_eq!(abca_llm::estimate::text_tokens("0123456789"), 3); // 10 / 4 · 1.2
/// assert_eq!(abca_llm::estimate::text_tokens("字字"), 3);
/// ```
pub fn text_tokens(text: &str) -> u64 {
    safe(quarters(text))
}

/// Input tokens of a request.
pub fn request_tokens(request: &ModelRequest) -> TokenCount {
    let frames = |n: usize| FRAME_TOKENS * 4 * n as u64;
    let mut total = quarters(&request.system) + frames(1 + request.tools.len() + request.messages.len());
    for tool in &request.tools {
        total += quarters(&tool.name) + quarters(&tool.description) + json_quarters(&tool.input_schema);
    }
    for message in &request.messages {
        total += message.content.iter().map(content_quarters).sum::<u64>();
    }
    TokenCount { input_tokens: safe(total), exact: false }
}

/// Output tokens of an answer's content.
pub fn content_tokens(content: &[Content]) -> u64 {
    safe(content.iter().map(content_quarters).sum())
}

fn safe(quarters: u64) -> u64 {
    quarters.saturating_mul(3).div_ceil(10) // · 1.2 / 4
}

fn quarters(text: &str) -> u64 {
    let ascii = text.bytes().filter(u8::is_ascii).count() as u64;
    if ascii == text.len() as u64 {
        return ascii;
    }
    let units = text.encode_utf16().count() as u64;
    ascii + (units - ascii) * 4
}

/// Without writing the document: keys, texts, and a few characters around each.
fn json_quarters(value: &Value) -> u64 {
    match value {
        Value::Null | Value::Bool(_) => 6,
        Value::Number(_) => 12,
        Value::String(s) => quarters(s) + 3 + s.bytes().filter(|b| matches!(b, b'\n' | b'"' | b'\\')).count() as u64,
        Value::Array(list) => 2 + list.iter().map(|v| json_quarters(v) + 1).sum::<u64>(),
        Value::Object(map) => 2 + map.iter().map(|(k, v)| quarters(k) + 4 + json_quarters(v)).sum::<u64>(),
    }
}

fn content_quarters(content: &Content) -> u64 {
    match content {
        Content::Text { text } => quarters(text),
        Content::Image { data, .. } => image_tokens(data) * 4,
        Content::Thinking { text, signature } => quarters(text) + signature.as_deref().map_or(0, quarters),
        Content::ToolUse(call) => {
            let input = match &call.input {
                ToolInput::Json(value) => json_quarters(value),
                ToolInput::Invalid { raw, error } => quarters(raw) + quarters(error),
            };
            FRAME_TOKENS * 4 + quarters(&call.id) + quarters(&call.name) + input
        }
        Content::ToolResult(result) => {
            FRAME_TOKENS * 4 + quarters(&result.tool_use_id) + result.content.iter().map(content_quarters).sum::<u64>()
        }
    }
}

/// Tokens of an image in base64: width · height / 750, at most 4 784.
pub fn image_tokens(base64: &str) -> u64 {
    /// Enough for a JPEG's dimensions behind its metadata, in most files.
    const HEAD_CHARS: usize = 64 * 1024;
    let head = base64.as_bytes();
    let head = &head[..head.len().min(HEAD_CHARS) / 4 * 4];
    let Ok(bytes) = base64::engine::general_purpose::STANDARD.decode(head) else { return UNKNOWN_IMAGE_TOKENS };
    match png_size(&bytes).or_else(|| gif_size(&bytes)).or_else(|| jpeg_size(&bytes)) {
        Some((w, h)) => (u64::from(w) * u64::from(h)).div_ceil(750).clamp(1, MAX_IMAGE_TOKENS),
        None => UNKNOWN_IMAGE_TOKENS,
    }
}

fn png_size(b: &[u8]) -> Option<(u32, u32)> {
    let rest = b.strip_prefix(b"\x89PNG\r\n\x1a\n")?;
    let be = |at: usize| Some(u32::from_be_bytes(rest.get(at..at + 4)?.try_into().ok()?));
    Some((be(8)?, be(12)?))
}

fn gif_size(b: &[u8]) -> Option<(u32, u32)> {
    if !b.starts_with(b"GIF8") {
        return None;
    }
    let le = |at: usize| Some(u32::from(u16::from_le_bytes(b.get(at..at + 2)?.try_into().ok()?)));
    Some((le(6)?, le(8)?))
}

fn jpeg_size(b: &[u8]) -> Option<(u32, u32)> {
    let mut rest = b.strip_prefix(&[0xFF, 0xD8])?;
    loop {
        let [0xFF, marker, hi, lo, ..] = *rest else { return None };
        let length = usize::from(u16::from_be_bytes([hi, lo]));
        if matches!(marker, 0xC0..=0xCF) && !matches!(marker, 0xC4 | 0xC8 | 0xCC) {
            let be = |at: usize| Some(u32::from(u16::from_be_bytes(rest.get(at..at + 2)?.try_into().ok()?)));
            return Some((be(7)?, be(5)?));
        }
        rest = rest.get(2 + length..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(bytes: &[u8]) -> String {
        base64::engine::general_purpose::STANDARD.encode(bytes)
    }

    #[test]
    fn images_by_their_pixels() {
        let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
        png.extend([0, 0, 3, 232, 0, 0, 2, 238, 8, 6, 0, 0, 0]);
        assert_eq!(image_tokens(&encoded(&png)), 1000); // 1000 x 750
        let jpeg = [0xFF, 0xD8, 0xFF, 0xE0, 0, 4, 1, 2, 0xFF, 0xC0, 0, 11, 8, 0, 75, 0, 100, 1, 1, 0x11, 0];
        assert_eq!(image_tokens(&encoded(&jpeg)), 10); // 100 x 75
        let mut huge = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
        huge.extend([0xFF; 13]);
        assert_eq!(image_tokens(&encoded(&huge)), MAX_IMAGE_TOKENS);
        for unreadable in ["", "!!!", "AAAA", "/9g="] {
            assert_eq!(image_tokens(unreadable), UNKNOWN_IMAGE_TOKENS, "{unreadable}");
        }
    }

    #[test]
    fn an_endless_jpeg_header_ends() {
        let looping = [0xFF, 0xD8, 0xFF, 0xE0, 0, 0, 0xFF, 0xE0];
        assert_eq!(image_tokens(&encoded(&looping)), UNKNOWN_IMAGE_TOKENS);
    }
}
