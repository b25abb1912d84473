//! Durations, sizes and rates as people write them: a number and its unit, `250ms`, `2KiB` or `1.5Gbit`.

use crate::tables::meter::pace::Rate;
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
    /// It has more decimals than its unit has parts.
    #[error("not a whole number of {0}")]
    Parts(&'static str),
    /// It is nothing, where nothing makes no sense.
    #[error("nothing at all")]
    Nothing,
    /// It does not fit 64 bits.
    #[error("too large")]
    TooLarge,
}

const DURATIONS: (&str, &[(&str, u64)]) =
    ("ms, s, m, h or d", &[("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)]);
const SIZES: (&str, &[(&str, u64)]) =
    ("B, KiB, MiB or GiB", &[("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)]);

const BITS: (&str, &[(&str, u64)]) = (
    "bit, kbit, Mbit or Gbit, or pps, kpps or Mpps",
    &[("bit", 1), ("kbit", 1_000), ("Mbit", 1_000_000), ("Gbit", 1_000_000_000), ("Tbit", 1_000_000_000_000)],
);
const PACKETS: &[(&str, u64)] = &[("pps", 1), ("kpps", 1_000), ("Mpps", 1_000_000), ("Gpps", 1_000_000_000)];

/// What may come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// Bytes.
    Bytes(u64),
    /// Packets.
    Packets(u64),
}

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

/// Reads a rate, like `100Mbit`, `1.5Gbit` or `20kpps`, a second.
///
/// # Errors
/// What is wrong with the text.
pub fn parse_rate(text: &str) -> Result<Rate, QuantityError> {
    let (number, unit) = split(text, BITS.0)?;
    let factor =
        |units: &[(&str, u64)]| units.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
    let rate = match (factor(BITS.1), factor(PACKETS)) {
        (Some(factor), _) => Rate::Bits(scaled(number, factor, "bits")?),
        (None, Some(factor)) => Rate::Packets(scaled(number, factor, "packets")?),
        (None, None) => return Err(QuantityError::UnknownUnit { unit: unit.to_owned(), known: BITS.0 }),
    };
    if matches!(rate, Rate::Bits(0) | Rate::Packets(0)) { Err(QuantityError::Nothing) } else { Ok(rate) }
}

/// A rate as [`parse_rate`] reads it, in its largest unit that needs no decimals.
#[must_use]
pub fn show_rate(rate: Rate) -> String {
    let (count, units) = match rate {
        Rate::Bits(bits) => (bits, BITS.1),
        Rate::Packets(packets) => (packets, PACKETS),
    };
    show(count, units)
}

/// Reads a burst: `1MiB`, or `500packets`.
///
/// # Errors
/// What is wrong with the text.
pub fn parse_amount(text: &str) -> Result<Amount, QuantityError> {
    const KNOWN: &str = "B, KiB, MiB or GiB, or packets";
    let (number, unit) = split(text, KNOWN)?;
    let amount = match SIZES.1.iter().find(|(name, _)| *name == unit) {
        Some((_, factor)) => Amount::Bytes(scaled(number, *factor, "bytes")?),
        None if unit == "packets" => Amount::Packets(scaled(number, 1, "packets")?),
        None => return Err(QuantityError::UnknownUnit { unit: unit.to_owned(), known: KNOWN }),
    };
    Ok(amount)
}

/// An amount as [`parse_amount`] reads it.
#[must_use]
pub fn show_amount(amount: Amount) -> String {
    match amount {
        Amount::Bytes(bytes) => show(bytes, SIZES.1),
        Amount::Packets(packets) => format!("{packets}packets"),
    }
}

/// The number times `factor`, which is a power of ten or of two, if that is whole: of up to 18 decimals.
///
/// # Errors
/// What is wrong with the number.
pub fn decimal(number: &str, factor: u64) -> Result<u64, QuantityError> {
    scaled(number, factor, "parts")
}

fn show(count: u64, units: &[(&str, u64)]) -> String {
    let fits = |(_, factor): &&(&str, u64)| count > 0 && count.is_multiple_of(*factor);
    let (unit, factor) = units.iter().rev().find(fits).or(units.first()).copied().unwrap_or(("", 1));
    format!("{}{unit}", count / factor)
}

/// A number with or without decimals, and its unit.
fn split<'t>(text: &'t str, known: &'static str) -> Result<(&'t str, &'t str), QuantityError> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    if !number.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(QuantityError::NoNumber);
    }
    match unit.trim_start_matches(' ') {
        "" => Err(QuantityError::NoUnit(known)),
        unit => Ok((number, unit)),
    }
}

fn scaled(number: &str, factor: u64, parts: &'static str) -> Result<u64, QuantityError> {
    let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(decimals) || number.ends_with('.') {
        return Err(QuantityError::NoNumber);
    }
    let decimals = decimals.trim_end_matches('0');
    if decimals.len() > 18 {
        return Err(QuantityError::Parts(parts));
    }
    let scale = 10u128.pow(decimals.len() as u32);
    let whole: u64 = whole.parse().map_err(|_| QuantityError::TooLarge)?;
    let part: u64 =
        if decimals.is_empty() { 0 } else { decimals.parse().map_err(|_| QuantityError::TooLarge)? };
    let part = u128::from(part) * u128::from(factor);
    if part % scale != 0 {
        return Err(QuantityError::Parts(parts));
    }
    let sum = u128::from(whole) * u128::from(factor) + part / scale;
    u64::try_from(sum).map_err(|_| QuantityError::TooLarge)
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
    fn rates() {
        assert_eq!(parse_rate("100Mbit"), Ok(Rate::Bits(100_000_000)));
        assert_eq!(parse_rate("1.5 Gbit"), Ok(Rate::Bits(1_500_000_000)));
        assert_eq!(parse_rate("0.001kbit"), Ok(Rate::Bits(1)));
        assert_eq!(parse_rate("20kpps"), Ok(Rate::Packets(20_000)));
        assert_eq!(parse_rate("400Gbit"), Ok(Rate::Bits(400_000_000_000)));
        assert_eq!(parse_rate("1.5bit"), Err(QuantityError::Parts("bits")));
        assert_eq!(parse_rate("0.00005kpps"), Err(QuantityError::Parts("packets")));
        assert_eq!(parse_rate("0Mbit"), Err(QuantityError::Nothing));
        assert_eq!(parse_rate(".5Mbit"), Err(QuantityError::NoNumber));
        assert_eq!(parse_rate("1..5Mbit"), Err(QuantityError::NoNumber));
        assert_eq!(parse_rate("5.Mbit"), Err(QuantityError::NoNumber));
        assert_eq!(parse_rate("-5Mbit"), Err(QuantityError::NoNumber));
        assert_eq!(parse_rate("5"), Err(QuantityError::NoUnit(BITS.0)));
        assert_eq!(parse_rate("18446744074Gbit"), Err(QuantityError::TooLarge));
        assert_eq!(parse_rate("99999999999999999999999bit"), Err(QuantityError::TooLarge));
        let error = parse_rate("5MBit").unwrap_err().to_string();
        assert_eq!(error, "unknown unit `MBit`: write bit, kbit, Mbit or Gbit, or pps, kpps or Mpps");
    }

    #[test]
    fn amounts() {
        assert_eq!(parse_amount("1MiB"), Ok(Amount::Bytes(1 << 20)));
        assert_eq!(parse_amount("1.5KiB"), Ok(Amount::Bytes(1536)));
        assert_eq!(parse_amount("500 packets"), Ok(Amount::Packets(500)));
        assert_eq!(parse_amount("1.5packets"), Err(QuantityError::Parts("packets")));
        assert!(parse_amount("1Mbit").is_err());
        assert_eq!(decimal("0.1", 10_000), Ok(1_000));
    }

    #[test]
    fn rates_and_amounts_that_are_shown_read_back() {
        for count in [1, 999, 1_000, 1_500_000, 2_000_000_000, 7_000_000_000_000, u64::MAX] {
            for rate in [Rate::Bits(count), Rate::Packets(count)] {
                assert_eq!(parse_rate(&show_rate(rate)), Ok(rate));
            }
            for amount in [
                Amount::Bytes(count),
                Amount::Packets(count),
                Amount::Bytes(0),
                Amount::Bytes(count / 1024 * 1024),
            ] {
                assert_eq!(parse_amount(&show_amount(amount)), Ok(amount));
            }
        }
        assert_eq!(show_rate(Rate::Bits(1_500_000_000)), "1500Mbit");
    }

    #[test]
    fn what_is_shown_reads_back() {
        for ms in [0, 10, 250, 999, 1000, 1001, 60_000, 3_600_000, 5_400_000, 86_400_000, 432_000_000] {
            let duration = Duration::from_millis(ms);
            assert_eq!(parse_duration(&show_duration(duration)), Ok(duration));
        }
    }
}
