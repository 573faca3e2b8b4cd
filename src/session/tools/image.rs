//! Images that models can see.

use abca_core::model::Content;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::MAX_IMAGE_BASE64_BYTES;

/// An image in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Image {
    pub media_type: String,
    pub bytes: Vec<u8>,
}

/// Largest image in bytes: what the limit on base64 leaves.
pub(super) const MAX_BYTES: u64 = (MAX_IMAGE_BASE64_BYTES / 4 * 3) as u64;

/// The media type by the first bytes, if it is one that models can see.
pub(super) fn media_type(head: &[u8]) -> Option<&'static str> {
    infer::get(head)
        .map(|t| t.mime_type())
        .filter(|t| matches!(*t, "image/png" | "image/jpeg" | "image/gif" | "image/webp"))
}

/// As a part of a message. `None` when it is not what it says it is, or too large: it came from the hands.
pub(super) fn content(claimed: &str, bytes: &[u8]) -> Option<Content> {
    if bytes.len() as u64 > MAX_BYTES || media_type(bytes) != Some(claimed) {
        return None;
    }
    Some(Content::Image { media_type: claimed.to_owned(), data: STANDARD.encode(bytes) })
}

/// The same of an image in base64.
pub(crate) fn of_base64(claimed: &str, base64: &str) -> Option<Content> {
    if base64.len() > MAX_IMAGE_BASE64_BYTES {
        return None;
    }
    content(claimed, &STANDARD.decode(base64).ok()?)
}
