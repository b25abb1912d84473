//! Numbers, times and names as people read them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::calendar::utc;

/// `1234567` as `1.23M`, or as `1,234,567` when exact. Numbers below 10,000 keep all digits.
pub(super) fn count(n: u64, exact: bool) -> String {
    const UNITS: [&str; 6] = ["k", "M", "G", "T", "P", "E"];
    if exact || n < 10_000 {
        return if exact { separated(n) } else { n.to_string() };
    }
    let mut divisor: u64 = 1000;
    for (at, unit) in UNITS.iter().enumerate() {
        let last = at + 1 == UNITS.len();
        // 999,999 is 999k and not 1.00M: what is shown has been reached.
        if last || n / divisor < 1000 {
            let (whole, thousandths) = (n / divisor, n % divisor / (divisor / 1000));
            return match whole {
                0..=9 => format!("{whole}.{:02}{unit}", thousandths / 10),
                10..=99 => format!("{whole}.{}{unit}", thousandths / 100),
                _ => format!("{whole}{unit}"),
            };
        }
        divisor *= 1000;
    }
    separated(n)
}

/// `1234567` as `1,234,567`.
pub(super) fn separated(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Microseconds as `85µs`, `1.2ms` or `3.4s`.
pub(super) fn short(us: u64) -> String {
    match us {
        0..1000 => format!("{us}µs"),
        1000..1_000_000 => format!("{}.{}ms", us / 1000, us % 1000 / 100),
        _ => format!("{}.{}s", us / 1_000_000, us % 1_000_000 / 100_000),
    }
}

/// Milliseconds as the two largest units: `45s`, `3m 5s`, `2h 0m`, `12d 4h`.
pub(super) fn long(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m {}s", s / 60, s % 60),
        3600..86_400 => format!("{}h {}m", s / 3600, s % 3600 / 60),
        _ => format!("{}d {}h", s / 86_400, s % 86_400 / 3600),
    }
}

/// Milliseconds of Unix time as `2025-06-01 12:34:56Z (3m 5s ago)`.
pub(super) fn when(ms: u64, now: SystemTime) -> String {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis();
    let ago = u64::try_from(now).unwrap_or(u64::MAX).checked_sub(ms);
    let ago = ago.map(|ago| format!(" ({} ago)", long(ago))).unwrap_or_default();
    format!("{}{ago}", utc(ms))
}

/// Text that came from elsewhere, without what a terminal would obey.
pub(super) fn printable(text: &str) -> String {
    let plain = |c: char| match c {
        c if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => '\u{fffd}',
        c => c,
    };
    text.chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts() {
        for (n, short, exact) in [
            (0, "0", "0"),
            (999, "999", "999"),
            (9_999, "9999", "9,999"),
            (10_000, "10.0k", "10,000"),
            (12_345, "12.3k", "12,345"),
            (999_999, "999k", "999,999"),
            (1_000_000, "1.00M", "1,000,000"),
            (1_239_999_999, "1.23G", "1,239,999,999"),
            (u64::MAX, "18.4E", "18,446,744,073,709,551,615"),
        ] {
            assert_eq!((count(n, false).as_str(), count(n, true).as_str()), (short, exact));
        }
    }

    #[test]
    fn times() {
        assert_eq!([short(85), short(1234), short(3_456_789)], ["85µs", "1.2ms", "3.4s"]);
        let texts = [long(45_999), long(185_000), long(7_200_000), long(1_051_200_000)];
        assert_eq!(texts, ["45s", "3m 5s", "2h 0m", "12d 4h"]);
        let now = UNIX_EPOCH + Duration::from_secs(60);
        assert_eq!(when(1000, now), "1970-01-01 00:00:01Z (59s ago)");
        assert_eq!(when(61_000, now), "1970-01-01 00:01:01Z");
    }
}
