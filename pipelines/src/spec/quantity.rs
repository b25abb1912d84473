//! Durations and sizes as people write them: a whole number and its unit, `250ms` or `2KiB`.

use std::time::Duration;

/// Why a text is not a quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// It does not begin with a whole number.
    #[error("no whole number at its start")]
    NoNumber,
    /// The number has no unit.
    #[error("no unit: write {0}")]
    NoUnit(&'static str),
    /// The unit is none that is known here.
    #[error("unknown unit `{unit}`: write {known}")]
    UnknownUnit {
        /// What stands after the number.
        unit: String,
        /// The units that would be right.
        known: &'static str,
    },
    /// It does not fit 64 bits.
    #[error("too large")]
    TooLarge,
}

const DURATIONS: (&str, &[(&str, u64)]) =
    ("ms, s, m, h or d", &[("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)]);
const SIZES: (&str, &[(&str, u64)]) =
    ("B, KiB, MiB or GiB", &[("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)]);

/// Reads `250ms`, `2s`, or `5d`.
///
/// # Errors
/// What is wrong with the text.
pub fn parse_duration(text: &str) -> Result<Duration, QuantityError> {
    quantity(text, DURATIONS).map(Duration::from_millis)
}

/// Reads `2KiB` and the like, in bytes.
///
/// # Errors
/// What is wrong with the text.
pub fn parse_size(text: &str) -> Result<u64, QuantityError> {
    quantity(text, SIZES)
}

/// A duration as [`parse_duration`] reads it; parts of a millisecond are left out.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    match duration.as_millis() {
        ms if ms > 0 && ms % 86_400_000 == 0 => format!("{}d", ms / 86_400_000),
        ms if ms > 0 && ms % 3_600_000 == 0 => format!("{}h", ms / 3_600_000),
        ms if ms > 0 && ms % 1000 == 0 => format!("{}s", ms / 1000),
        ms => format!("{ms}ms"),
    }
}

fn quantity(text: &str, (known, units): (&'static str, &[(&str, u64)])) -> Result<u64, QuantityError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(QuantityError::NoNumber);
    }
    let unit = unit.trim_start_matches(' ');
    if unit.is_empty() {
        return Err(QuantityError::NoUnit(known));
    }
    let Some((_, factor)) = units.iter().find(|(name, _)| *name == unit) else {
        return Err(QuantityError::UnknownUnit { unit: unit.to_owned(), known });
    };
    let number: u64 = number.parse().map_err(|_| QuantityError::TooLarge)?;
    number.checked_mul(*factor).ok_or(QuantityError::TooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("2 s"), Ok(Duration::from_secs(2)));
        assert_eq!(parse_duration("3m"), parse_duration("180s"));
        assert_eq!(parse_duration("2d"), parse_duration("48h"));
        assert_eq!(parse_duration("ms"), Err(QuantityError::NoNumber));
        assert_eq!(parse_duration("-1s"), Err(QuantityError::NoNumber));
        assert_eq!(parse_duration("5"), Err(QuantityError::NoUnit("ms, s, m, h or d")));
        assert_eq!(parse_duration("99999999999999999999s"), Err(QuantityError::TooLarge));
        assert_eq!(parse_duration("18446744073709551615s"), Err(QuantityError::TooLarge));
        let error = parse_duration("5min").unwrap_err().to_string();
        assert_eq!(error, "unknown unit `min`: write ms, s, m, h or d");
    }

    #[test]
    fn sizes() {
        assert_eq!(parse_size("2KiB"), Ok(2048));
        assert_eq!(parse_size("3GiB"), Ok(3 << 30));
        assert!(parse_size("2kb").is_err());
    }

    #[test]
    fn what_is_shown_reads_back() {
        for ms in [0, 10, 250, 999, 1000, 1001, 60_000, 3_600_000, 5_400_000, 86_400_000, 432_000_000] {
            let duration = Duration::from_millis(ms);
            assert_eq!(parse_duration(&show_duration(duration)), Ok(duration));
        }
    }
}
