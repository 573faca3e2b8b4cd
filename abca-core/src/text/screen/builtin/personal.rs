//! Personal data. Looked for only where it is asked for.

use super::{Checksum, PersonalData, Row, Severity};

pub(super) const fn rows(kind: PersonalData) -> &'static [Row] {
    match kind {
        PersonalData::Email => EMAIL,
        PersonalData::Phone => PHONE,
        PersonalData::PaymentCard => CARD,
        PersonalData::Iban => IBAN,
        PersonalData::NationalNumber => NATIONAL,
    }
}

const DIGITS: &[&str] = &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];

const EMAIL: &[Row] =
    &[Row::new("email", &["@"], r"(?-u)[A-Za-z0-9._%+-]{1,63}@(?:[A-Za-z0-9-]{1,63}\.){1,6}[A-Za-z]{2,24}")
        .severity(Severity::Low)
        .reach(63)
        .check(Checksum::Mailbox)];

const PHONE: &[Row] = &[
    Row::new(
        "phone",
        &["+"],
        r"(?-u)\+[1-9][0-9]{0,2}[ .-]?(?:\([0-9]{1,4}\)[ .-]?)?[0-9]{1,4}(?:[ .-]?[0-9]{2,5}){2,4}\b",
    )
    .severity(Severity::Low)
    .check(Checksum::Phone),
    Row::new(
        "phone-north-american",
        &["(", "2", "3", "4", "5", "6", "7", "8", "9"],
        r"(?-u)(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}[.-])[2-9][0-9]{2}[ .-][0-9]{4}\b",
    )
    .severity(Severity::Low),
];

const CARD: &[Row] =
    &[Row::new("card-number", &["3", "4", "5", "6"], r"(?-u)[3-6][0-9]{3}(?:[ -]?[0-9]{4}){2}[ -]?[0-9]{1,7}\b")
        .check(Checksum::Luhn)];

const IBAN: &[Row] = &[Row::new(
    "iban",
    &[
        "AD", "AE", "AL", "AT", "AZ", "BA", "BE", "BG", "BH", "BI", "BR", "BY", "CH", "CR", "CY", "CZ", "DE", "DJ",
        "DK", "DO", "EE", "EG", "ES", "FI", "FK", "FO", "FR", "GB", "GE", "GI", "GL", "GR", "GT", "HN", "HR", "HU",
        "IE", "IL", "IQ", "IS", "IT", "JO", "KW", "KZ", "LB", "LC", "LI", "LT", "LU", "LV", "LY", "MC", "MD", "ME",
        "MK", "MN", "MR", "MT", "MU", "NI", "NL", "NO", "OM", "PK", "PL", "PS", "PT", "QA", "RO", "RS", "RU", "SA",
        "SC", "SD", "SE", "SI", "SK", "SM", "SO", "ST", "SV", "TL", "TN", "TR", "UA", "VA", "VG", "XK", "YE",
    ],
    r"(?-u)[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b",
)
.check(Checksum::Iban)];

const NATIONAL: &[Row] = &[
    Row::new("us-social-security", DIGITS, r"(?-u)[0-8][0-9]{2}[- ][0-9]{2}[- ][0-9]{4}\b").check(Checksum::UsSsn),
    Row::new("uk-insurance-number", DIGITS, r"(?-u)\b[A-Z]{2} ?[0-9]{2} ?[0-9]{2} ?[0-9]{2} ?[A-D]\b")
        .reach(3)
        .check(Checksum::UkNino),
    Row::new("es-identity-number", DIGITS, r"(?-u)\b(?:[XYZ][0-9]{7}|[0-9]{8})-?[A-Z]\b")
        .reach(1)
        .check(Checksum::EsDni),
    Row::new("it-fiscal-code", DIGITS, r"(?-u)\b[A-Z]{6}[0-9]{2}[A-Z][0-9]{2}[A-Z][0-9]{3}[A-Z]\b")
        .reach(6)
        .check(Checksum::ItFiscalCode),
    Row::new(
        "fr-social-security",
        &["1", "2"],
        r"(?-u)[12] ?[0-9]{2} ?[0-9]{2} ?[0-9][0-9AB] ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}\b",
    )
    .check(Checksum::FrNir),
    Row::new("br-taxpayer-number", DIGITS, r"(?-u)[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}\b").check(Checksum::BrCpf),
    Row::new("in-aadhaar", DIGITS, r"(?-u)[2-9][0-9]{3}[ -][0-9]{4}[ -][0-9]{4}\b").check(Checksum::InAadhaar),
];
