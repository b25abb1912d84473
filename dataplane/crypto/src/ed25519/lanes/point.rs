//! Points of the curve -x^2 + y^2 = 1 + d x^2 y^2, eight at a time.
//!
//! Hisil, Wong, Carter, Dawson: "Twisted Edwards curves revisited" (2008), the formulas that are complete on this curve: they hold
//! for all points, those of small order, too. A sum is left as four factors ([`Factors`]), and what comes next says which
//! products of these it needs.

use super::field::{Fe, Wide};
use std::arch::x86_64::*;

/// Numbers of the curve: computed once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Curve {
    /// -121665 / 121666.
    d: Fe,
    twice_d: Fe,
    /// A root of -1.
    root: Fe,
}

/// A point that was decoded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Affine {
    pub(super) x: Fe,
    pub(super) y: Fe,
}

/// A point that is doubled next: x = X / Z, y = Y / Z.
#[derive(Clone, Copy, Debug)]
pub(super) struct Projective {
    pub(super) x: Fe,
    pub(super) y: Fe,
    pub(super) z: Fe,
}

/// A point that something is added to next: Y + X, Y - X, Z, and T = X Y / Z.
#[derive(Clone, Copy, Debug)]
pub(super) struct Summand {
    pub(super) sum: Fe,
    pub(super) difference: Fe,
    pub(super) z: Fe,
    pub(super) t: Fe,
}

/// A point of a table, to be added: Y + X, Y - X, 2 d T, and 2 Z.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cached {
    pub(super) sum: Fe,
    pub(super) difference: Fe,
    pub(super) t: Fe,
    pub(super) z: Fe,
}

/// A point of a fixed table, whose Z is 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fixed {
    pub(super) sum: Fe,
    pub(super) difference: Fe,
    pub(super) t: Fe,
}

/// A point as X = E F, Y = G H, Z = F G, T = E H.
#[derive(Clone, Copy, Debug)]
pub(super) struct Factors {
    e: Fe,
    f: Fe,
    g: Fe,
    h: Fe,
}

impl Curve {
    /// Computes them.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
    pub(super) fn new() -> Self {
        let zero = Fe::small(0).wide();
        let minus = |n: i64| zero.minus(&Fe::small(n).wide()).carry();
        // n^(p - 2) = (n^((p - 5) / 8))^8 n^3, and 2^((p - 1) / 4) = (2^((p - 5) / 8))^2 2.
        let [inverse, two] = Fe::to_p58([Fe::small(121_666), Fe::small(2)]);
        let square = |a: &Fe| a.square().carry();
        let cube = square(&Fe::small(121_666)).mul(&Fe::small(121_666)).carry();
        let inverse = square(&square(&square(&inverse))).mul(&cube).carry();
        let d = minus(121_665).mul(&inverse).carry();
        Self { d, twice_d: d.wide().plus(&d.wide()).carry(), root: square(&two).mul(&Fe::small(2)).carry() }
    }

    /// Decodes two points in each lane, of four words each (RFC 8032 §5.1.3, but as dalek does: y may be p and more, and a zero x
    /// may have a sign). Beside each, the lanes in which there is such a point.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
    pub(super) fn decode(&self, words: [&[__m512i; 4]; 2]) -> [(Affine, u8); 2] {
        let one = Fe::small(1);
        let (mut y, mut u, mut v, mut base, mut power) = ([one; 2], [one; 2], [one; 2], [one; 2], [one; 2]);
        for n in 0..2 {
            y[n] = Fe::from_words(words[n]);
            let square = y[n].square().carry();
            u[n] = square.wide().minus(&one.wide()).carry();
            v[n] = square.mul(&self.d).plus(&one.wide()).carry();
            // x = u v^3 (u v^7)^((p - 5) / 8) is a root of u / v or of -u / v, if either has one.
            let cube = v[n].square().carry().mul(&v[n]).carry();
            base[n] = u[n].mul(&cube).carry();
            power[n] = cube.mul(&v[n]).carry().mul(&base[n]).carry();
        }
        let power = Fe::to_p58(power);
        let mut points = [(Affine { x: one, y: one }, 0); 2];
        for n in 0..2 {
            let x = base[n].mul(&power[n]).carry();
            let check = x.square().carry().mul(&v[n]);
            let is_root = check.minus(&u[n].wide()).carry().is_zero();
            let is_other = check.plus(&u[n].wide()).carry().is_zero();
            let x = x.or(is_other & !is_root, &x.mul(&self.root).carry());
            let sign = _mm512_movepi64_mask(words[n][3]);
            let x = x.or(x.is_odd() ^ sign, &Fe::small(0).wide().minus(&x.wide()).carry());
            points[n] = (Affine { x, y: y[n] }, is_root | is_other);
        }
        points
    }

    /// As an entry of a table.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
    #[inline]
    pub(super) fn cached(&self, point: &Summand) -> Cached {
        Cached {
            sum: point.sum,
            difference: point.difference,
            t: point.t.mul(&self.twice_d).carry(),
            z: point.z.wide().plus(&point.z.wide()).carry(),
        }
    }

    /// As an entry of a fixed table.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
    pub(super) fn fixed(&self, point: &Affine) -> Fixed {
        let point = point.summand();
        Fixed { sum: point.sum, difference: point.difference, t: point.t.mul(&self.twice_d).carry() }
    }
}

impl Affine {
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
    #[inline]
    pub(super) fn projective(&self) -> Projective {
        Projective { x: self.x, y: self.y, z: Fe::small(1) }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
    #[inline]
    pub(super) fn summand(&self) -> Summand {
        let (x, y) = (self.x.wide(), self.y.wide());
        Summand {
            sum: y.plus(&x).carry(),
            difference: y.minus(&x).carry(),
            z: Fe::small(1),
            t: self.x.mul(&self.y).carry(),
        }
    }

    /// The lanes whose point is of order 1, 2, 4 or 8: it has x = 0 or y = 0, or its double has y = 0, that is x^2 = -y^2.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
    pub(super) fn is_small(&self) -> u8 {
        let squares = self.x.square().plus(&self.y.square()).carry();
        self.x.mul(&self.y).carry().mul(&squares).carry().is_zero()
    }
}

impl Projective {
    /// Twice the point: dbl-2008-hwcd with all four factors' signs such that none is negated.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
    #[inline]
    pub(super) fn double(&self) -> Factors {
        let (xx, yy, zz, xy) = (self.x.square(), self.y.square(), self.z.square(), self.x.mul(&self.y));
        Factors {
            e: xy.plus(&xy).carry(),
            f: zz.plus(&zz).plus(&xx).minus(&yy).carry(),
            g: yy.minus(&xx).carry(),
            h: yy.plus(&xx).carry(),
        }
    }

    /// The lanes that are the identity.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
    pub(super) fn is_identity(&self) -> u8 {
        self.x.is_zero() & self.y.wide().minus(&self.z.wide()).carry().is_zero()
    }
}

impl Summand {
    /// The identity.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
    pub(super) fn identity() -> Self {
        let one = Fe::small(1);
        Self { sum: one, difference: one, z: one, t: Fe::small(0) }
    }

    /// With `other` added, or taken away in the lanes of `negative`: add-2008-hwcd-3.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
    #[inline]
    pub(super) fn add(&self, other: &Cached, negative: u8) -> Factors {
        let fixed = Fixed { sum: other.sum, difference: other.difference, t: other.t };
        self.add_scaled(&fixed, negative, &self.z.mul(&other.z))
    }

    /// The same, of a point whose Z is 1.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
    #[inline]
    pub(super) fn add_fixed(&self, other: &Fixed, negative: u8) -> Factors {
        self.add_scaled(other, negative, &self.z.wide().plus(&self.z.wide()))
    }

    /// `d` is twice the product of both Z.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
    #[inline]
    fn add_scaled(&self, other: &Fixed, negative: u8, d: &Wide) -> Factors {
        let a = self.difference.mul(&other.difference.or(negative, &other.sum));
        let b = self.sum.mul(&other.sum.or(negative, &other.difference));
        let c = self.t.mul(&other.t);
        let (less, more) = (d.minus(&c), d.plus(&c));
        Factors {
            e: b.minus(&a).carry(),
            f: less.or(negative, &more).carry(),
            g: more.or(negative, &less).carry(),
            h: b.plus(&a).carry(),
        }
    }
}

impl Factors {
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
    #[inline]
    pub(super) fn projective(&self) -> Projective {
        Projective {
            x: self.e.mul(&self.f).carry(),
            y: self.g.mul(&self.h).carry(),
            z: self.f.mul(&self.g).carry(),
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
    #[inline]
    pub(super) fn summand(&self) -> Summand {
        let (x, y) = (self.e.mul(&self.f), self.g.mul(&self.h));
        Summand {
            sum: y.plus(&x).carry(),
            difference: y.minus(&x).carry(),
            z: self.f.mul(&self.g).carry(),
            t: self.e.mul(&self.h).carry(),
        }
    }
}
