//! Numbers as people read them: three digits, prefixes of units, ticks of axes.

/// A unit with a prefix that suits the figures: `figure.text(value)` is in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Unit {
    /// What a value is divided by.
    pub divisor: f64,
    /// Its name, with the prefix: "M packets/s", "µs".
    pub name: String,
}

impl Unit {
    /// For figures up to `greatest` of `unit`. Rates ("…/s") get k, M or G; nanoseconds become µs, ms or s; what is counted per
    /// packet stays as it is.
    pub fn suiting(greatest: f64, unit: &str) -> Self {
        let steps: &[(f64, &str)] = if unit == "ns" {
            &[(1e9, "s"), (1e6, "ms"), (1e3, "µs")]
        } else if unit.ends_with("/s") {
            &[(1e9, "G "), (1e6, "M "), (1e3, "k ")]
        } else {
            &[]
        };
        match steps.iter().find(|(divisor, _)| greatest >= *divisor) {
            Some(&(divisor, name)) if unit == "ns" => Self { divisor, name: name.to_owned() },
            Some(&(divisor, prefix)) => Self { divisor, name: format!("{prefix}{unit}") },
            None => Self { divisor: 1.0, name: unit.to_owned() },
        }
    }

    /// `value` in this unit, with three digits or more.
    pub fn text(&self, value: f64) -> String {
        digits(value / self.divisor)
    }
}

/// At least three digits, and no more behind the point than that takes.
pub fn digits(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() || (size != 0.0 && !(1e-4..1e9).contains(&size)) {
        return format!("{value:.2e}");
    }
    let places = match size {
        s if s >= 99.95 || s == 0.0 => 0,
        s if s >= 9.995 => 1,
        s if s >= 0.9995 => 2,
        s if s >= 0.09995 => 3,
        _ => 5,
    };
    format!("{value:.places$}")
}

/// A tick's number: as short as it can be said.
pub fn short(value: f64) -> String {
    // Ticks are computed in steps, whose last bits are noise.
    let rounded = format!("{value:.9}");
    let trimmed = rounded.trim_end_matches('0').trim_end_matches('.');
    if trimmed == "-0" { "0".to_owned() } else { trimmed.to_owned() }
}

/// A part of 1 in per cent: "0.01 %", "0".
pub fn per_cent(part: f64) -> String {
    if part == 0.0 { "0".to_owned() } else { format!("{} %", short(part * 100.0)) }
}

/// Nanoseconds with the unit that suits: "1.5 µs".
pub fn time(nanoseconds: f64) -> String {
    let unit = Unit::suiting(nanoseconds, "ns");
    format!("{} {}", short(nanoseconds / unit.divisor), unit.name)
}

/// Ticks from `low` to `high` at 1, 2 or 5 times a power of ten, at most `most` of them (at least 2).
pub fn linear(low: f64, high: f64, most: usize) -> Vec<f64> {
    let span = high - low;
    if !span.is_finite() || span <= 0.0 {
        return vec![low];
    }
    let mut step = 10f64.powf((span / 1000.0).log10().floor());
    for factor in [2.0, 2.5, 2.0].into_iter().cycle().take(60) {
        let (first, last) = ((low / step - 1e-9).ceil(), (high / step + 1e-9).floor());
        if last - first < most.max(2) as f64 {
            return (0..=(last - first).max(0.0) as usize).map(|i| (first + i as f64) * step).collect();
        }
        step *= factor;
    }
    vec![low, high]
}

/// Ticks of a logarithmic axis: powers of ten, with 2 and 5 between, or linear ones within less than half a decade.
pub fn logarithmic(low: f64, high: f64, most: usize) -> Vec<f64> {
    if !(low > 0.0 && high > low && high.is_finite()) {
        return vec![low];
    }
    if high / low < 3.0 {
        return linear(low, high, most);
    }
    let (from, to) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    let of = |mantissas: &[f64], every: usize| -> Vec<f64> {
        (from..=to)
            .step_by(every)
            .flat_map(|power| mantissas.iter().map(move |mantissa| mantissa * 10f64.powi(power)))
            .filter(|tick| (low * 0.999_999..=high * 1.000_001).contains(tick))
            .collect()
    };
    [
        of(&[1.0, 1.5, 2.0, 3.0, 5.0, 7.0], 1),
        of(&[1.0, 2.0, 5.0], 1),
        of(&[1.0], 1),
        of(&[1.0], 2),
        of(&[1.0], 3),
    ]
    .into_iter()
    .find(|ticks| ticks.len() <= most.max(2))
    .unwrap_or_else(|| vec![low, high])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn figures_have_three_digits_and_a_fitting_unit() {
        let rate = Unit::suiting(253.6e6, "packets/s");
        assert_eq!((rate.text(253.6e6).as_str(), rate.name.as_str()), ("254", "M packets/s"));
        assert_eq!(rate.text(1.04e6), "1.04");
        let time = Unit::suiting(1500.0, "ns");
        assert_eq!((time.text(1500.0).as_str(), time.name.as_str()), ("1.50", "µs"));
        assert_eq!(Unit::suiting(5e6, "clocks/packet").name, "clocks/packet");
        let texts: Vec<String> =
            [0.0, 0.00123, 0.86, 9.999, 99.99, 1234.5, 1e12, f64::NAN].map(digits).into();
        assert_eq!(texts, ["0", "0.00123", "0.860", "10.0", "100", "1234", "1.00e12", "NaN"]);
    }

    #[test]
    fn ticks_are_at_nice_numbers() {
        assert_eq!(linear(0.0, 1.0, 6), [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]);
        assert_eq!(
            linear(0.93, 3.2, 5).iter().map(|&tick| short(tick)).collect::<Vec<_>>(),
            ["1", "1.5", "2", "2.5", "3"]
        );
        assert_eq!(logarithmic(0.4, 6.0, 6), [0.5, 1.0, 2.0, 5.0]);
        assert_eq!(logarithmic(1.0, 1e6, 7).len(), 7);
        assert_eq!(short(0.6000000000000001), "0.6");
        assert_eq!(per_cent(1e-5), "0.001 %");
        assert_eq!(time(20_000.0), "20 µs");
    }

    proptest! {
        #[test]
        fn ticks_lie_on_the_axis_rise_and_are_not_too_many(
            low in 1e-6..1e6f64, times in 1.0001..1e6f64, most in 2usize..12,
        ) {
            let high = low * times;
            for ticks in [linear(low, high, most), logarithmic(low, high, most)] {
                prop_assert!(ticks.len() <= most, "{:?}", ticks);
                prop_assert!(ticks.is_sorted_by(|a, b| a < b), "{:?}", ticks);
                prop_assert!(ticks.iter().all(|t| (low * 0.99..=high * 1.01).contains(t)), "{:?}", ticks);
            }
        }
    }
}
