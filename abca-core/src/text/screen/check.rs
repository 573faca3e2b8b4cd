//! What tells a real secret from a look-alike: entropy, checksums, structure.

use serde::{Deserialize, Serialize};

use super::base64;

/// Most bytes of a secret that are looked at to judge it, and after a match to see how it goes on.
pub(super) const CHECKED_BYTES: usize = 128;
/// The same for what has a structure of its own: key blocks, web tokens.
pub(super) const STRUCTURE_BYTES: usize = 512;

/// A checksum or a structure that a secret has.
///
/// The first two are evidence: a secret whose checksum fails is taken out all the same (a format may have changed), but not
/// reported as verified. The others decide: what fails them is no finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Checksum {
    /// Six base62 digits at the end: the CRC-32 of what stands between them and the first underscore (GitHub, npm).
    Crc32Base62,
    /// Seven base36 digits at the end: the CRC-32 of everything before them (GitLab's routable tokens).
    Crc32Base36,
    /// A JSON Web Token: base64url of a JSON object with an `alg`, a dot, more base64url.
    Jwt,
    /// `user:password` in base64.
    BasicAuth,
    /// Letters of both cases and digits, at least three of each, as no word, name or hash has.
    Mixed,
    /// At least one digit and one letter.
    Alphanumeric,
    /// The check digit of payment cards (ISO/IEC 7812) of 13 to 19 digits.
    Luhn,
    /// The remainder of ISO 13616, modulo 97.
    Iban,
    /// A United States social security number: areas, groups and serials that were given out.
    UsSsn,
    /// A mailbox: not at an `example` domain, not a `noreply` one.
    Mailbox,
    /// A phone number: 8 to 15 digits.
    Phone,
    /// A British national insurance number: prefixes that are given out.
    UkNino,
    /// The check letter of a Spanish DNI or NIE.
    EsDni,
    /// The check digits of an Italian codice fiscale.
    ItFiscalCode,
    /// The check digits of a French social security number (NIR), modulo 97.
    FrNir,
    /// The check digits of a Brazilian CPF.
    BrCpf,
    /// The check digit (Verhoeff) of an Indian Aadhaar number.
    InAadhaar,
}

/// What a check says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// No secret.
    No,
    /// It looks like one.
    Shape,
    /// It is one, as far as can be told without asking.
    Verified,
}

impl Checksum {
    /// How many bytes of a secret it looks at.
    pub(super) fn looks_at(self) -> usize {
        if self == Self::Jwt { STRUCTURE_BYTES } else { CHECKED_BYTES }
    }

    pub(super) fn judge(self, secret: &str) -> Verdict {
        let evidence = |holds: bool| if holds { Verdict::Verified } else { Verdict::Shape };
        let decides = |holds: bool| if holds { Verdict::Verified } else { Verdict::No };
        let shape = |holds: bool| if holds { Verdict::Shape } else { Verdict::No };
        match self {
            Self::Crc32Base62 => evidence(crc32_base62(secret)),
            Self::Crc32Base36 => evidence(crc32_base36(secret)),
            Self::Jwt => decides(jwt(secret)),
            Self::BasicAuth => shape(basic_auth(secret)),
            Self::Mixed => shape(mixed(secret)),
            Self::Alphanumeric => {
                shape(secret.bytes().any(|b| b.is_ascii_digit()) && secret.bytes().any(|b| b.is_ascii_alphabetic()))
            }
            Self::Luhn => decides(luhn(secret)),
            Self::Iban => decides(iban(secret)),
            Self::UsSsn => shape(us_ssn(secret)),
            Self::Mailbox => shape(mailbox(secret)),
            Self::Phone => shape((8..=15).contains(&digits(secret).len())),
            Self::UkNino => shape(uk_nino(secret)),
            Self::EsDni => decides(es_dni(secret)),
            Self::ItFiscalCode => decides(it_fiscal_code(secret)),
            Self::FrNir => decides(fr_nir(secret)),
            Self::BrCpf => decides(br_cpf(secret)),
            Self::InAadhaar => decides(in_aadhaar(secret)),
        }
    }
}

/// Shannon entropy in bits per byte.
pub(super) fn entropy(text: &str) -> f64 {
    let mut counts = [0u32; 256];
    for byte in text.bytes() {
        if let Some(count) = counts.get_mut(usize::from(byte)) {
            *count = count.saturating_add(1);
        }
    }
    let total = f64::from(u32::try_from(text.len()).unwrap_or(u32::MAX));
    counts.iter().filter(|n| **n > 0).map(|n| f64::from(*n) / total).map(|p| -p * p.log2()).sum()
}

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const BASE36: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// The reflected CRC-32 of ISO 3309, bit by bit: it reads a few dozen bytes of what is almost certainly a token.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            let low = crc & 1;
            crc = (crc >> 1) ^ if low == 1 { 0xedb8_8320 } else { 0 };
        }
    }
    !crc
}

/// A number in these digits, with leading zeros.
fn in_digits(mut number: u32, digits: &[u8], width: usize) -> Vec<u8> {
    let base = u32::try_from(digits.len()).unwrap_or(u32::MAX);
    let mut out: Vec<u8> = std::iter::repeat_with(|| {
        let digit = number.checked_rem(base).and_then(|n| usize::try_from(n).ok()).and_then(|n| digits.get(n));
        number = number.checked_div(base).unwrap_or(0);
        digit.copied().unwrap_or(b'0')
    })
    .take(width)
    .collect();
    out.reverse();
    out
}

fn crc32_base62(token: &str) -> bool {
    let Some((_, body)) = token.rsplit_once('_') else { return false };
    let Some((payload, checksum)) = body.len().checked_sub(6).and_then(|at| body.as_bytes().split_at_checked(at))
    else {
        return false;
    };
    payload.len() >= 20 && in_digits(crc32(payload), BASE62, 6) == checksum
}

fn crc32_base36(token: &str) -> bool {
    let Some((payload, checksum)) = token.len().checked_sub(7).and_then(|at| token.as_bytes().split_at_checked(at))
    else {
        return false;
    };
    payload.len() >= 20 && in_digits(crc32(payload), BASE36, 7) == checksum
}

fn jwt(token: &str) -> bool {
    let mut parts = token.split('.');
    let (Some(header), Some(payload)) = (parts.next(), parts.next()) else { return false };
    let decoded = base64::decode(header.as_bytes(), STRUCTURE_BYTES);
    let object = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&decoded);
    object.is_ok_and(|object| object.get("alg").is_some_and(serde_json::Value::is_string)) && payload.len() >= 4
}

fn basic_auth(encoded: &str) -> bool {
    let decoded = base64::decode(encoded.as_bytes(), STRUCTURE_BYTES);
    let colon = decoded.iter().position(|b| *b == b':');
    colon.is_some_and(|at| at.saturating_add(1) < decoded.len()) && decoded.iter().all(|b| (0x20..0x7f).contains(b))
}

fn mixed(text: &str) -> bool {
    let count = |is: fn(&u8) -> bool| text.bytes().filter(is).count();
    count(u8::is_ascii_digit) >= 3 && count(u8::is_ascii_uppercase) >= 3 && count(u8::is_ascii_lowercase) >= 3
}

fn digits(text: &str) -> Vec<u32> {
    text.chars().filter_map(|c| c.to_digit(10)).collect()
}

fn luhn(text: &str) -> bool {
    let digits = digits(text);
    if !(13..=19).contains(&digits.len()) || digits.iter().all(|d| Some(d) == digits.first()) {
        return false;
    }
    let sum = digits.iter().rev().enumerate().fold(0u32, |sum, (i, d)| {
        let doubled = d.saturating_mul(2);
        let part = match (i.is_multiple_of(2), doubled > 9) {
            (true, _) => *d,
            (false, true) => doubled.saturating_sub(9),
            (false, false) => doubled,
        };
        sum.saturating_add(part)
    });
    sum.is_multiple_of(10)
}

fn us_ssn(text: &str) -> bool {
    let mut parts = text.split(['-', ' ']);
    let (area, group, serial) = (parts.next(), parts.next(), parts.next());
    let area_given = area.is_some_and(|a| a != "000" && a != "666" && !a.starts_with('9'));
    area_given && group.is_some_and(|g| g != "00") && serial.is_some_and(|s| s != "0000")
}

fn mailbox(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let Some((name, domain)) = lower.rsplit_once('@') else { return false };
    let is_reserved = |end: &str| domain == end || domain.strip_suffix(end).is_some_and(|d| d.ends_with('.'));
    let reserved = ["example.com", "example.org", "example.net", "example", "invalid", "test", "localhost"];
    let nobody = ["noreply", "no-reply", "git"].iter().any(|n| name.contains(n) && (*n != "git" || name == *n));
    !nobody && !domain.contains("noreply") && !reserved.into_iter().any(is_reserved)
}

fn iban(text: &str) -> bool {
    let plain: Vec<char> = text.chars().filter(|c| *c != ' ').collect();
    if !(15..=34).contains(&plain.len()) {
        return false;
    }
    let rest = plain.iter().skip(4).chain(plain.iter().take(4)).try_fold(0u32, |rest, c| {
        let value = c.to_digit(36)?;
        let shifted = if value > 9 { rest.saturating_mul(100) } else { rest.saturating_mul(10) };
        Some(shifted.saturating_add(value) % 97)
    });
    rest == Some(1)
}

fn uk_nino(text: &str) -> bool {
    let letters: String = text.chars().take(2).collect::<String>().to_ascii_uppercase();
    let never = |c: char| "DFIQUV".contains(c);
    let second_never = letters.chars().nth(1).is_none_or(|c| never(c) || c == 'O');
    let given_back = ["BG", "GB", "KN", "NK", "NT", "TN", "ZZ"].contains(&letters.as_str());
    !(letters.chars().next().is_none_or(never) || second_never || given_back)
}

fn es_dni(text: &str) -> bool {
    let plain: String = text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_uppercase();
    let (Some(first), Some(letter)) = (plain.chars().next(), plain.chars().last()) else { return false };
    let head = match first {
        'X' => "0",
        'Y' => "1",
        'Z' => "2",
        _ => "",
    };
    let body: String = plain.chars().skip(head.len()).filter(char::is_ascii_digit).collect();
    let number: Option<u32> = format!("{head}{body}").parse().ok();
    let at = number.and_then(|n| usize::try_from(n % 23).ok());
    plain.len() == 9 && at.and_then(|at| "TRWAGMYFPDXBNJZSQVHLCKE".chars().nth(at)) == Some(letter)
}

fn it_fiscal_code(text: &str) -> bool {
    const ODD: [u32; 26] =
        [1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23];
    let plain = text.to_ascii_uppercase();
    let mut sum = 0u32;
    for (at, c) in plain.chars().take(15).enumerate() {
        let Some(value) = c.to_digit(36).map(|v| if v > 9 { v.saturating_sub(10) } else { v }) else { return false };
        let odd = usize::try_from(value).ok().and_then(|v| ODD.get(v)).copied().unwrap_or(0);
        sum = sum.saturating_add(if at.is_multiple_of(2) { odd } else { value });
    }
    let check = char::from_digit((sum % 26).saturating_add(10), 36).map(|c| c.to_ascii_uppercase());
    plain.len() == 16 && plain.chars().last() == check
}

fn fr_nir(text: &str) -> bool {
    let plain: String = text.chars().filter(|c| *c != ' ').collect::<String>().to_ascii_uppercase();
    // Corsica counts as 19 and 18.
    let plain = plain.replacen("2A", "19", 1).replacen("2B", "18", 1);
    let Some((body, key)) = plain.split_at_checked(13) else { return false };
    let (Ok(body), Ok(key)) = (body.parse::<u64>(), key.parse::<u64>()) else { return false };
    97u64.checked_sub(body % 97) == Some(key)
}

fn br_cpf(text: &str) -> bool {
    let digits = digits(text);
    if digits.len() != 11 || digits.iter().all(|d| Some(d) == digits.first()) {
        return false;
    }
    [9usize, 10].into_iter().all(|n| {
        let weights = (2u32..).take(n);
        let sum =
            digits.iter().take(n).rev().zip(weights).fold(0u32, |s, (d, w)| s.saturating_add(d.saturating_mul(w)));
        let check = (sum.saturating_mul(10) % 11) % 10;
        digits.get(n) == Some(&check)
    })
}

fn in_aadhaar(text: &str) -> bool {
    // The dihedral group of order ten, and the permutation by place.
    const D: [&[u8; 10]; 10] = [
        b"0123456789",
        b"1234067895",
        b"2340178956",
        b"3401289567",
        b"4012395678",
        b"5987604321",
        b"6598710432",
        b"7659821043",
        b"8765932104",
        b"9876543210",
    ];
    const P: [&[u8; 10]; 8] = [
        b"0123456789",
        b"1576283094",
        b"5803796142",
        b"8916043527",
        b"9453126870",
        b"4286573901",
        b"2793806415",
        b"7046913258",
    ];
    let at = |table: &[&[u8; 10]], row: usize, column: usize| -> Option<usize> {
        table.get(row)?.get(column).map(|b| usize::from(b.saturating_sub(b'0')))
    };
    let digits = digits(text);
    let check = digits.iter().rev().enumerate().try_fold(0usize, |check, (place, digit)| {
        let digit = usize::try_from(*digit).ok()?;
        at(&D, check, at(&P, place % 8, digit)?)
    });
    digits.len() == 12 && digits.first().is_some_and(|d| *d > 1) && check == Some(0)
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn checksums_agree_with_published_examples() {
        // From the announcements of both formats; the tokens were revoked before they were published.
        for (token, last) in
            [("zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ", "0mLq17"), ("qkJaB6MffYVzZXWqmcoF49yrUxP3wf", "0LsakP")]
        {
            assert_eq!(Checksum::Crc32Base62.judge(&format!("x_{token}{last}")), Verdict::Verified);
            assert_eq!(Checksum::Crc32Base62.judge(&format!("x_{token}{}", "0mLq18")), Verdict::Shape);
        }
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(in_digits(0xcbf4_3926, BASE36, 7), b"1kl8mjq");
        let cases = [
            (Checksum::Luhn, "4242 4242 4242 4242", "4242 4242 4242 4241"),
            (Checksum::Iban, "DE89 3704 0044 0532 0130 00", "DE88 3704 0044 0532 0130 00"),
            (Checksum::EsDni, "12345678Z", "12345678A"),
            (Checksum::EsDni, "X1234567L", "X1234567M"),
            (Checksum::ItFiscalCode, "RSSMRA85T10A562S", "RSSMRA85T10A562T"),
            (Checksum::FrNir, "2 55 08 14 168 025 38", "2 55 08 14 168 025 39"),
            (Checksum::BrCpf, "529.982.247-25", "529.982.247-26"),
            (Checksum::InAadhaar, "2341 2341 2346", "2341 2341 2347"),
        ];
        for (check, good, bad) in cases {
            assert_eq!((check.judge(good), check.judge(bad)), (Verdict::Verified, Verdict::No), "{check:?}");
        }
    }

    #[test]
    fn entropy_is_in_bits() {
        assert!((entropy("aabb") - 1.0).abs() < 1e-9 && entropy("aaaa").abs() < 1e-9 && entropy("").abs() < 1e-9);
    }
}
