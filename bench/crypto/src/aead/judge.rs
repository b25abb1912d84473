//! The limits of sealing and opening, each beside its figure.
//!
//! Owns: which rows a limit is of. Keeps true: what is asked of the worst of several rows names the row.

use super::{AWS, LENGTHS, RING, name, plain};
use crate::contestant::Way;
use crate::limits;
use crate::outside;
use crate::packets::{Lengths, Packets, Shape};
use zsync_crypto::aead::Algorithm;
use zsync_report::figures::{Figures, OURS, Row};
use zsync_report::limit::{Asked, Limit};
use zsync_report::spread::Spread;

/// All limits; `sets` has the packets of the mixes.
pub(super) fn all(figures: &Figures, sets: &[(Shape, Packets)]) -> Vec<Limit> {
    let find = |algorithm, way: Way, shape: Shape| {
        let (group, shape) = (format!("{}, {}", name(algorithm), way.name()), shape.name());
        figures.rows.iter().find(|row| row.group == group && row.name == shape)
    };
    let mut limits = Vec::new();
    let chacha = Algorithm::ChaCha20Poly1305;
    let of_ring = LENGTHS.map(|len| {
        let cost = find(chacha, Way::Seal, Shape::equal(len)).and_then(|row| row.median(RING));
        (len as f64, cost.unwrap_or(f64::NAN))
    });
    for shape in plain() {
        let Some(row) = find(chacha, Way::Seal, shape) else { continue };
        let packets = sets.iter().find(|(of, packets)| *of == shape && packets.algorithm == chacha);
        let asked = match (shape.lengths, packets) {
            (Lengths::Equal(len), _) => limits::seal(len),
            (_, Some((_, packets))) => limits::mixed(&packets.lengths(), &of_ring),
            (_, None) => continue,
        };
        let ratio = figures.ratio(row).map(|ratio| ratio.spread.median);
        limits.push(Limit {
            what: "times as fast as ring".to_owned(),
            of: row.title(),
            figure: ratio.ok_or_else(|| "no rounds".to_owned()),
            asked: Asked::AtLeast(asked),
        });
    }
    for algorithm in Algorithm::ALL {
        let rows = plain().into_iter().filter_map(|shape| {
            let [seal, open] = Way::ALL.map(|way| find(algorithm, way, shape));
            Some((open?, pairs(open?.samples(OURS)?, seal?.samples(OURS)?)?))
        });
        limits.extend(rows.max_by(|one, other| one.1.total_cmp(&other.1)).map(|(row, figure)| Limit {
            what: "times as long as to seal, the worst of all lengths and mixes".to_owned(),
            of: row.title(),
            figure: Ok(figure),
            asked: Asked::AtMost(limits::OPEN),
        }));
    }
    limits.extend(Algorithm::ALL.iter().filter_map(|&algorithm| {
        let slowest = figures.slowest.iter().find(|row| row.group.starts_with(name(algorithm)))?;
        Some(Limit {
            what: "times as fast as ring, the worst of every length and burst".to_owned(),
            of: slowest.title(),
            figure: figures.ratio(slowest).map(|ratio| ratio.spread.median).ok_or("no rounds".to_owned()),
            asked: Asked::AtLeast(limits::LEVEL),
        })
    }));
    let gcm = [Algorithm::Aes128Gcm, Algorithm::Aes256Gcm];
    let both = |shapes: fn() -> Vec<Shape>| {
        Way::ALL.into_iter().flat_map(move |way| shapes().into_iter().map(move |shape| (way, shape)))
    };
    for algorithm in gcm {
        let rows = both(plain).filter_map(|(way, shape)| {
            let row = find(algorithm, way, shape)?;
            Some((row, pairs(&better(row)?, row.samples(OURS)?)?))
        });
        limits.extend(rows.min_by(|one, other| one.1.total_cmp(&other.1)).map(|(row, figure)| {
            Limit {
                what: "times as fast as the better of ring and aws-lc-rs, the worst of all lengths and mixes"
                    .to_owned(),
                of: row.title(),
                figure: Ok(figure),
                asked: Asked::AtLeast(limits::LEVEL),
            }
        }));
    }
    for algorithm in gcm {
        for (way, shape) in both(|| limits::SHORT.map(Shape::equal).to_vec()) {
            let Some(row) = find(algorithm, way, shape) else { continue };
            let closed = || {
                let (best, goals, ours) = (better(row)?, row.samples(outside::NAME)?, row.samples(OURS)?);
                let rounds = best.iter().zip(goals).zip(ours);
                let parts: Vec<f64> =
                    rounds.map(|((best, goal), ours)| limits::closed(*best, *goal, *ours)).collect();
                Some(Spread::of(&parts)?.median)
            };
            limits.push(Limit {
                what: "part of the way from the better of ring and aws-lc-rs to ipsec-mb".to_owned(),
                of: row.title(),
                figure: closed().ok_or_else(|| "no ipsec-mb".to_owned()),
                asked: Asked::AtLeast(limits::CLOSED),
            });
        }
    }
    limits
}

/// What the better of `ring` and aws-lc-rs needed in each round.
fn better(row: &Row) -> Option<Vec<f64>> {
    let (ring, aws) = (row.samples(RING)?, row.samples(AWS)?);
    Some(ring.iter().zip(aws).map(|(ring, aws)| ring.min(*aws)).collect())
}

/// The median of `over` / `under`, round by round.
fn pairs(over: &[f64], under: &[f64]) -> Option<f64> {
    let ratios: Vec<f64> = over.iter().zip(under).map(|(over, under)| over / under).collect();
    Some(Spread::of(&ratios)?.median)
}

#[cfg(test)]
mod tests {
    use super::super::USUAL;
    use super::*;
    use zsync_report::outcome::{Direction, Series};

    fn row(group: &str, shape: Shape, samples: &[(&str, f64)]) -> Row {
        let series = samples.iter().map(|&(name, sample)| Series::new(name, [sample; 3])).collect();
        Row { group: group.to_owned(), name: shape.name(), burst: USUAL, series }
    }

    fn held(figures: &Figures, part: &str) -> Vec<Option<bool>> {
        let limits = figures.limits.iter().filter(|limit| limit.what.contains(part));
        limits.map(Limit::is_held).collect()
    }

    #[test]
    fn limits_are_judged_by_the_rows_that_they_are_of() {
        let mut figures = Figures::new("ns/packet", Direction::Less, "");
        for (len, ours) in [(64, 26.0), (256, 70.0), (512, 200.0)] {
            let shape = Shape::equal(len);
            let mut add = |group, samples: &[(&str, f64)]| figures.rows.push(row(group, shape, samples));
            add("ChaCha20-Poly1305, seal", &[(OURS, ours), (RING, 235.0)]);
            add("ChaCha20-Poly1305, open", &[(OURS, ours * 1.05), (RING, 235.0)]);
            let way = [(OURS, 45.0), (RING, 60.0), (AWS, 58.0), (outside::NAME, 30.0)];
            add("AES-128-GCM, seal", &way);
            add("AES-128-GCM, open", &[(OURS, 59.5), (RING, 60.0), (AWS, 58.0)]);
        }
        figures.limits = all(&figures, &[]);
        // 9.04, 3.36 and 1.18 times, of 5.5, 3.2 and 2.6.
        assert_eq!(held(&figures, "times as fast as ring"), [Some(true), Some(true), Some(false)]);
        assert_eq!(
            held(&figures, "times as long as to seal"),
            [Some(true), Some(false)],
            "{:?}",
            figures.limits
        );
        // To open takes 59.5, and aws-lc-rs 58.
        assert_eq!(held(&figures, "times as fast as the better"), [Some(false)]);
        // To seal 13 of 28 are closed; to open there is no ipsec-mb.
        let closed = held(&figures, "part of the way");
        assert_eq!(closed, [[Some(false); 3], [None; 3]].concat());
    }
}
