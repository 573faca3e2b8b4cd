//! Moments and ages as people write them.

use abca_core::{Millis, Timestamp};

use super::common::Failed;

/// An age: a number and `s`, `m`, `h` or `d`.
pub(super) fn age(text: &str) -> Result<Millis, Failed> {
    let bad = || Failed::new(2, format!("`{text}` is no age: write a number and s, m, h or d, e.g. 36h"));
    let unit = text.chars().last().ok_or_else(bad)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(bad()),
    };
    let count: u64 = text[..text.len() - unit.len_utf8()].parse().map_err(|_| bad())?;
    count.checked_mul(seconds * 1_000).filter(|ms| *ms < 1 << 53).map(Millis).ok_or_else(bad)
}

/// A moment: RFC 3339, or an age before `now`.
pub(super) fn moment(text: &str, now: Timestamp) -> Result<Timestamp, Failed> {
    if let Ok(at) = text.parse() {
        return Ok(at);
    }
    let ago = age(text).map_err(|_| {
        Failed::new(2, format!("`{text}` is no time: write e.g. 2026-11-23T08:00:00Z, or a time ago as 90m, 36h, 7d"))
    })?;
    Ok(Timestamp::from_millis(now.as_millis().saturating_sub(i64::try_from(ago.0).unwrap_or(i64::MAX))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_absolute_or_ago() {
        let now = "2026-11-23T08:00:00Z".parse::<Timestamp>().unwrap();
        let at = |text: &str| moment(text, now).map(|t| t.to_string()).map_err(|e| e.code);
        assert_eq!(at("36h"), Ok("2026-11-21T20:00:00.000Z".to_owned()));
        assert_eq!(at("2026-01-02T03:04:05+01:00"), Ok("2026-01-02T02:04:05.000Z".to_owned()));
        for bad in ["", "h", "-1h", "1.5h", "99999999999999999999d", "yesterday", "3\u{fe0f}"] {
            assert_eq!(at(bad), Err(2), "{bad}");
        }
    }
}
