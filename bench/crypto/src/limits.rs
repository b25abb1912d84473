//! What zsync is to reach.

/// How much faster than `ring` packets of so many bytes are to be sealed, in bursts of 32.
pub(crate) const SEAL: [(usize, f64); 5] = [(64, 5.5), (256, 3.2), (512, 2.6), (1420, 2.1), (8192, 1.8)];
/// How much longer than sealing opening may take.
pub(crate) const OPEN: f64 = 1.1;
/// How much of the distance to ipsec-mb is to be closed, and at which lengths.
pub(crate) const CLOSED: f64 = 0.5;
/// See [`CLOSED`].
pub(crate) const SHORT: [usize; 3] = [64, 256, 512];
/// "Never slower": with this much left to what a machine does besides, in a ratio of two shortest sweeps.
pub(crate) const LEVEL: f64 = 0.98;
/// Signatures verified a second, one core, that would be a stretch.
pub(crate) const VERIFIED: f64 = 250_000.0;

/// What is asked at this length: on the line between its neighbours in [`SEAL`].
pub(crate) fn seal(len: usize) -> f64 {
    between(&SEAL.map(|(len, asked)| (len as f64, asked)), len as f64)
}

/// What is asked of a mix of lengths: each packet as much as packets of its length alone. `ring` has what such packets cost
/// it, by length in ascending order.
pub(crate) fn mixed(lengths: &[usize], ring: &[(f64, f64)]) -> f64 {
    let costs = lengths.iter().map(|&len| (between(ring, len as f64), seal(len)));
    let (theirs, ours) =
        costs.fold((0.0, 0.0), |(theirs, ours), (cost, asked)| (theirs + cost, ours + cost / asked));
    theirs / ours
}

/// The value at `x` on the lines between points of ascending `x`; outside of them as at the nearest.
fn between(points: &[(f64, f64)], x: f64) -> f64 {
    let after = points.partition_point(|point| point.0 < x);
    match (after.checked_sub(1).and_then(|before| points.get(before)), points.get(after)) {
        (Some(low), Some(high)) => low.1 + (high.1 - low.1) * (x - low.0) / (high.0 - low.0),
        (Some(only), None) | (None, Some(only)) => only.1,
        (None, None) => f64::NAN,
    }
}

/// How much of the way from `best` (what libraries need that do one packet after the other) to `goal` is behind `ours`. If the goal
/// itself is not better than they are, all of it is when ours is not worse.
pub(crate) fn closed(best: f64, goal: f64, ours: f64) -> f64 {
    if goal < best {
        (best - ours) / (best - goal)
    } else if ours <= best {
        1.0
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn between_two_lengths_the_limit_is_on_the_line() {
        for (len, asked) in SEAL {
            assert_eq!(seal(len), asked);
        }
        assert!((seal(160) - 4.35).abs() < 1e-9);
        assert_eq!((seal(0), seal(9000)), (5.5, 1.8));
    }

    #[test]
    fn a_mix_of_one_length_is_asked_as_that_length_is_and_long_packets_weigh_more() {
        let ring = [(64.0, 155.0), (256.0, 235.0), (1420.0, 742.0)];
        assert!((mixed(&[256; 7], &ring) - 3.2).abs() < 1e-9);
        // 155 + 742 nanoseconds, which are to become 28.2 + 353.3.
        assert!((mixed(&[64, 1420], &ring) - 897.0 / (155.0 / 5.5 + 742.0 / 2.1)).abs() < 1e-9);
    }

    #[test]
    fn the_distance_to_a_goal_is_closed_from_none_to_all_and_beyond() {
        assert_eq!(closed(60.0, 30.0, 60.0), 0.0);
        assert_eq!(closed(60.0, 30.0, 45.0), 0.5);
        assert_eq!(closed(60.0, 30.0, 15.0), 1.5);
        assert!(closed(60.0, 30.0, 90.0) < 0.0);
        assert_eq!((closed(60.0, 70.0, 60.0), closed(60.0, 70.0, 61.0)), (1.0, 0.0));
    }
}
