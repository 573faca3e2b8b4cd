//! The checks of attachments, by what is declared of them; their bytes are an artifact store's business.

use std::collections::BTreeSet;

use super::{Attachment, SubmitError, SubmitErrorCode, limits};
use crate::workflow::excerpt;

/// Largest attachment, in bytes.
pub const ATTACHMENT_BYTES: u64 = 10 << 20;
/// Most bytes of all attachments together.
pub const ATTACHMENTS_TOTAL_BYTES: u64 = 50 << 20;
/// Media types that an attachment may have.
pub const ATTACHMENT_TYPES: [&str; 8] = [
    "image/png",
    "image/jpeg",
    "text/plain",
    "text/csv",
    "text/markdown",
    "text/x-log",
    "application/json",
    "application/pdf",
];

/// Checks what is declared, and then refuses: there is nowhere to keep attachments yet.
pub(super) fn check_attachments(attachments: &[Attachment]) -> Result<(), SubmitError> {
    let Some(_) = attachments.first() else { return Ok(()) };
    let refuse = |code, message: String| Err(SubmitError::new(code, "attachments", message));
    if attachments.len() > limits::ATTACHMENTS {
        let message = format!(
            "there are {} attachments, at most {} are allowed: send fewer",
            attachments.len(),
            limits::ATTACHMENTS
        );
        return refuse(SubmitErrorCode::Validation, message);
    }
    let mut total: u64 = 0;
    let mut names = BTreeSet::new();
    for attachment in attachments {
        let name = excerpt(&attachment.filename);
        if !is_filename(&attachment.filename) || !names.insert(attachment.filename.as_str()) {
            let message = format!(
                "attachment `{name}` has no usable name: give each a name of its own, of 1 to 255 letters, digits, `.`, `_`, `-` and spaces, that starts with a letter or a digit and does not end with `-` or a space"
            );
            return refuse(SubmitErrorCode::AttachmentInvalidFilename, message);
        }
        if !ATTACHMENT_TYPES.contains(&attachment.content_type.as_str()) {
            let kind = excerpt(&attachment.content_type);
            let message =
                format!("attachment `{name}` is of type `{kind}`: send one of {}", ATTACHMENT_TYPES.join(", "));
            return refuse(SubmitErrorCode::AttachmentInvalidType, message);
        }
        if attachment.size_bytes > ATTACHMENT_BYTES {
            let message = format!(
                "attachment `{name}` has {} bytes, at most {ATTACHMENT_BYTES} are allowed: send a smaller one",
                attachment.size_bytes
            );
            return refuse(SubmitErrorCode::AttachmentTooLarge, message);
        }
        let sum = &attachment.checksum_sha256;
        if attachment.size_bytes == 0
            || sum.len() != 64
            || !sum.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        {
            let message =
                format!("attachment `{name}` is empty or has no SHA-256 of 64 lower-case hex digits: correct it");
            return refuse(SubmitErrorCode::AttachmentInvalidContent, message);
        }
        total = total.saturating_add(attachment.size_bytes);
    }
    if total > ATTACHMENTS_TOTAL_BYTES {
        let message = format!(
            "the attachments have {total} bytes together, at most {ATTACHMENTS_TOTAL_BYTES} are allowed: send fewer or smaller ones"
        );
        return refuse(SubmitErrorCode::AttachmentsTotalTooLarge, message);
    }
    let message = "attachments cannot be kept: this version has no artifact store yet (see docs/status.md); put their text into the description, an issue or the repository";
    refuse(SubmitErrorCode::ServiceUnavailable, message.to_owned())
}

fn is_filename(name: &str) -> bool {
    name.len() <= 255
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.ends_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_'))
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b' '))
}
