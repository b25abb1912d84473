//! Zipf's law: flow `k` (from 0) as likely as 1 / (k + 1)^s, and what it is on a share of the flows.
//!
//! By rejection-inversion (Hörmann and Derflinger, "Rejection-inversion to generate variates from monotone discrete
//! distributions", 1996): exact, and less than 1.2 tries a sample whatever the count. Every `of`-th flow from `part` on
//! follows the law (j + q)^-s with q = (part + 1) / of, for which the method works as well.

use crate::random::Random;

/// Terms of a sum that are added one by one; behind them an integral is exact to 10^-8.
const EXACT: u32 = 4096;

/// The law, on a share of the flows.
#[derive(Clone, Debug)]
pub(crate) struct Zipf {
    count: f64,
    s: f64,
    /// What is added to a number from 1 on; above -1, and 0 for all flows.
    shift: f64,
    /// The integral's values at the ends, between which tries fall.
    low: f64,
    high: f64,
    /// How far above its number a try may lie and be taken without computing more.
    sure: f64,
}

impl Zipf {
    /// The law on `count` flows: every `of`-th one from `part` on.
    pub(crate) fn share(count: u32, s: f64, part: u32, of: u32) -> Self {
        let shift = f64::from(part + 1) / f64::from(of) - 1.0;
        let mut zipf = Self { count: count.into(), s, shift, low: 0.0, high: 0.0, sure: 0.0 };
        zipf.low = zipf.integral(1.5) - zipf.density(1.0);
        zipf.high = zipf.integral(zipf.count + 0.5);
        zipf.sure = 2.0 - zipf.inverse(zipf.integral(2.5) - zipf.density(2.0));
        zipf
    }

    /// Which of the share's flows, from 0.
    #[inline]
    pub(crate) fn sample(&self, random: &mut Random) -> u32 {
        loop {
            let u = self.high + random.unit() * (self.low - self.high);
            let x = self.inverse(u);
            let k = (x + 0.5).floor().clamp(1.0, self.count);
            if k - x <= self.sure || u >= self.integral(k + 0.5) - self.density(k) {
                return k as u32 - 1;
            }
        }
    }

    /// The sum of the densities of all the share's flows. Those of the shares of one whole compare.
    pub(crate) fn mass(&self) -> f64 {
        let exact = self.count.min(EXACT.into());
        let head: f64 = (1..=exact as u32).map(|k| self.density(k.into())).sum();
        head + self.integral(self.count + 0.5) - self.integral(exact + 0.5)
    }

    fn density(&self, x: f64) -> f64 {
        (-self.s * (x + self.shift).ln()).exp()
    }

    /// The density's integral to x, but for a constant: (y^(1-s) - 1) / (1-s) of the shifted x, and ln y where s is 1.
    fn integral(&self, x: f64) -> f64 {
        let log = (x + self.shift).ln();
        let t = (1.0 - self.s) * log;
        // Close to s = 1 the quotient loses its digits; two terms of the series are exact to 2^-53 there.
        log * if t.abs() > 1e-8 { t.exp_m1() / t } else { 1.0 + t / 2.0 }
    }

    fn inverse(&self, u: f64) -> f64 {
        let t = (u * (1.0 - self.s)).max(-1.0);
        (u * if t.abs() > 1e-8 { t.ln_1p() / t } else { 1.0 - t / 2.0 }).exp() - self.shift
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mass_of_a_share_is_the_sum_of_its_flows() {
        for s in [0.1, 1.0, 1.000_000_001, 1.3, 4.0] {
            for (count, of) in [(10u32, 3), (100_000, 1), (100_003, 2), (300_000, 7)] {
                let term = |k: u32| f64::from(k + 1).powf(-s);
                for part in [0, of - 1] {
                    let own = (count - part).div_ceil(of);
                    let sum: f64 = (0..own).map(|j| term(part + j * of)).sum();
                    let mass = Zipf::share(own, s, part, of).mass() * f64::from(of).powf(-s);
                    assert!((mass / sum - 1.0).abs() < 1e-8, "{s} {count} {part} of {of}: {mass} {sum}");
                }
            }
        }
    }
}
