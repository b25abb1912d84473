//! Dates, in UTC.

/// Milliseconds of Unix time as `2025-06-01 12:34:56Z`.
pub(crate) fn utc(ms: u64) -> String {
    let (date, time) = parts(ms);
    format!("{date} {time}Z")
}

/// Milliseconds of Unix time as `2025-06-01T12:34:56.789Z` (RFC 3339).
pub(crate) fn exact(ms: u64) -> String {
    let (date, time) = parts(ms);
    format!("{date}T{time}.{:03}Z", ms % 1000)
}

/// The calendar of Howard Hinnant's `civil_from_days`, for days since 1970.
fn parts(ms: u64) -> (String, String) {
    let (days, s) = (ms / 86_400_000, ms / 1000 % 86_400);
    let z = days + 719_468;
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    let year = yoe + era * 400 + u64::from(month <= 2);
    (format!("{year:04}-{month:02}-{day:02}"), format!("{:02}:{:02}:{:02}", s / 3600, s % 3600 / 60, s % 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (ms, text) in [
            (0, "1970-01-01 00:00:00Z"),
            (951_782_400_000, "2000-02-29 00:00:00Z"),
            (1_735_689_599_999, "2024-12-31 23:59:59Z"),
            (4_107_542_400_000, "2100-03-01 00:00:00Z"),
        ] {
            assert_eq!(utc(ms), text);
        }
        assert_eq!(exact(1_735_689_599_007), "2024-12-31T23:59:59.007Z");
        let _ = utc(u64::MAX);
    }
}
