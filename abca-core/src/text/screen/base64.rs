//! Base64 of both alphabets, where it stands in the middle of a longer one.

/// The value of a digit, of the standard or the URL alphabet.
fn value(byte: u8) -> Option<u32> {
    let value = match byte {
        b'A'..=b'Z' => byte.saturating_sub(b'A'),
        b'a'..=b'z' => byte.saturating_sub(b'a').saturating_add(26),
        b'0'..=b'9' => byte.saturating_sub(b'0').saturating_add(52),
        b'+' | b'-' => 62,
        b'/' | b'_' => 63,
        _ => return None,
    };
    Some(u32::from(value))
}

/// Whether it is a digit of either alphabet.
pub(super) fn is_digit(byte: u8) -> bool {
    value(byte).is_some()
}

/// The bytes of what begins here, up to the first byte that is neither a digit nor a line break; at most `most`.
pub(super) fn decode(encoded: &[u8], most: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(encoded.len().min(most));
    let (mut bits, mut held) = (0u32, 0u32);
    for byte in encoded {
        let Some(value) = value(*byte) else {
            if matches!(byte, b'\n' | b'\r') {
                continue;
            }
            break;
        };
        held = (held << 6) | value;
        bits = bits.saturating_add(6);
        if bits >= 8 {
            bits = bits.saturating_sub(8);
            out.push(u8::try_from((held >> bits) & 0xff).unwrap_or_default());
            if out.len() >= most {
                break;
            }
        }
        held &= 0xfff;
    }
    out
}

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// How these bytes look inside base64 when `shift` bytes (0, 1, 2) stand before them in their group of three: the digits
/// that they alone decide, and how many digits of the group come before those. In both alphabets where they differ.
pub(super) fn inside(bytes: &[u8], shift: usize) -> (Vec<String>, usize) {
    let first = shift.saturating_mul(8).div_ceil(6);
    let end = shift.saturating_add(bytes.len()).saturating_mul(8) / 6;
    let digits = |alphabet: &[u8; 64]| -> String {
        let mut out = String::new();
        let (mut bits, mut held) = (0u32, 0u32);
        for byte in std::iter::repeat_n(&0u8, shift).chain(bytes) {
            held = ((held << 8) | u32::from(*byte)) & 0xffff;
            bits = bits.saturating_add(8);
            while bits >= 6 {
                bits = bits.saturating_sub(6);
                let digit = usize::try_from((held >> bits) & 0x3f).ok().and_then(|d| alphabet.get(d));
                out.push(char::from(digit.copied().unwrap_or_default()));
            }
        }
        out.get(first..end).unwrap_or_default().to_owned()
    };
    let mut forms = vec![digits(STANDARD), digits(URL)];
    forms.dedup();
    (forms, first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_inside_is_found_in_what_is_around_it() {
        for shift in 0..3usize {
            let around: Vec<u8> = std::iter::repeat_n(b'x', shift).chain(*b"??>>secret").chain(*b"yz").collect();
            let (whole, _) = inside(&around, 0);
            let (part, first) = inside(b"??>>secret", shift);
            for (whole, part) in whole.iter().zip(&part) {
                assert_eq!(whole.find(part.as_str()), Some(first), "{shift} {part} in {whole}");
            }
        }
        assert_eq!(decode(b"aGVs\r\nbG8=!", 99), b"hello");
        assert_eq!(decode(b"Pz8-Pj8_", 99), b"??>>??");
    }
}
