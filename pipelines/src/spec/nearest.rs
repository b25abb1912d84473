//! Which of the valid names somebody probably meant.

/// The candidate nearest to `word`: at most one edit away for words up to three letters, two up to eight, else three.
/// Capitals count as small letters. The first of equals wins.
pub fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let limit = match word.chars().count() {
        0 => return None,
        1..=3 => 1,
        4..=8 => 2,
        9..=64 => 3,
        // No name is that long, and the distance takes time that grows with the product of the lengths.
        _ => return None,
    };
    candidates
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= limit && *distance < candidate.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions, replacements and swaps of neighbours that lead from `a` to `b`.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().flat_map(char::to_lowercase).collect();
    let b: Vec<char> = b.chars().flat_map(char::to_lowercase).collect();
    let mut earlier: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut row = vec![i + 1];
        for j in 0..b.len() {
            let replaced = above[j] + usize::from(a[i] != b[j]);
            let mut best = replaced.min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                best = best.min(earlier[j - 1] + 1);
            }
            row.push(best);
        }
        earlier = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, edits) in [
            ("", "abc", 3),
            ("lan", "lan", 0),
            ("lna", "lan", 1),
            ("kitten", "sitting", 3),
            ("LAN", "lan", 0),
        ] {
            assert_eq!(distance(a, b), edits, "{a} {b}");
            assert_eq!(distance(b, a), edits, "{b} {a}");
        }
    }

    #[test]
    fn near_enough_or_nothing() {
        let ports = ["wan", "lan", "dmz"];
        assert_eq!(nearest("lna", ports), Some("lan"));
        assert_eq!(nearest("dmzz", ports), Some("dmz"));
        assert_eq!(nearest("xyz", ports), None);
        assert_eq!(nearest("frame_size", ["frames", "frame-size"]), Some("frame-size"));
        assert_eq!(nearest("ab", ["x"]), None);
        assert_eq!(nearest(&"x".repeat(65), ["x"]), None);
    }
}
