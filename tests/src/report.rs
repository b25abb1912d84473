//! What became of a flow.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

/// A packet as the receiver saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Its number, from 0.
    pub number: u64,
    /// When, since the flow's start.
    pub at: Duration,
}

/// A finished flow. Times count from its start.
#[derive(Debug, Clone, Default)]
pub struct Report {
    sent: Vec<Duration>,
    arrived: Vec<Arrival>,
    came: Vec<u32>,
}

impl Report {
    /// From the time at which each packet was sent, and the arrivals in their order.
    ///
    /// # Panics
    /// When a number arrived that was never sent.
    #[must_use]
    pub fn new(sent: Vec<Duration>, arrived: Vec<Arrival>) -> Self {
        let mut came = vec![0; sent.len()];
        for arrival in &arrived {
            came[usize::try_from(arrival.number).expect("fits")] += 1;
        }
        Self { sent, arrived, came }
    }

    /// Packets sent.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.len() as u64
    }

    /// Different packets that arrived.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.sent() - self.lost()
    }

    /// Packets that never arrived.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.came.iter().filter(|came| **came == 0).count() as u64
    }

    /// Arrivals beyond the first of their packet.
    #[must_use]
    pub fn duplicated(&self) -> u64 {
        self.came.iter().map(|came| u64::from(came.saturating_sub(1))).sum()
    }

    /// Packets that arrived after one that was sent later.
    #[must_use]
    pub fn reordered(&self) -> u64 {
        let mut highest = None;
        let mut late = 0;
        for arrival in &self.arrived {
            late += u64::from(highest.is_some_and(|highest| arrival.number < highest));
            highest = highest.max(Some(arrival.number));
        }
        late
    }

    /// Packets sent within `span` that never arrived.
    #[must_use]
    pub fn lost_in(&self, span: Range<Duration>) -> u64 {
        let sent_then = |(at, _): &(&Duration, &u32)| span.contains(at);
        self.sent.iter().zip(&self.came).filter(sent_then).filter(|(_, came)| **came == 0).count() as u64
    }

    /// The longest time without an arrival.
    #[must_use]
    pub fn longest_gap(&self) -> Duration {
        self.longest_silence(Duration::ZERO..Duration::MAX)
    }

    /// The longest time, begun within `span`, in which a packet was under way and none arrived. A pause of the sender is
    /// not silence: it begins with the first packet that is sent after the last arrival.
    #[must_use]
    pub fn longest_silence(&self, span: Range<Duration>) -> Duration {
        let end = self.sent.last().copied().unwrap_or_default();
        let mut last = self.sent.first().copied().unwrap_or_default();
        let mut longest = Duration::ZERO;
        for at in self.arrived.iter().map(|arrival| arrival.at).chain([end]) {
            let next_sent = self.sent.partition_point(|sent| *sent <= last);
            let begin = self.sent.get(next_sent).copied().unwrap_or(at);
            if span.contains(&begin) {
                longest = longest.max(at.saturating_sub(begin));
            }
            last = last.max(at);
        }
        longest
    }

    /// When the first packet arrived that was sent at or after `from`; none when none did.
    #[must_use]
    pub fn first_arrival_of_sent_since(&self, from: Duration) -> Option<Duration> {
        let first = self.sent.partition_point(|sent| *sent < from) as u64;
        self.arrived.iter().find(|arrival| arrival.number >= first).map(|arrival| arrival.at)
    }

    /// Arrivals within `span`.
    #[must_use]
    pub fn arrivals_in(&self, span: Range<Duration>) -> u64 {
        self.arrived.iter().filter(|arrival| span.contains(&arrival.at)).count() as u64
    }

    /// Packets sent within `span`.
    #[must_use]
    pub fn sent_in(&self, span: Range<Duration>) -> u64 {
        self.sent.iter().filter(|at| span.contains(at)).count() as u64
    }

    /// Packets sent a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        let [Some(first), Some(last)] = [self.sent.first(), self.sent.last()] else { return 0.0 };
        (self.sent.len() - 1) as f64 / last.saturating_sub(*first).as_secs_f64().max(1e-9)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} sent at {:.0}/s, {} received, {} lost, {} reordered, {} duplicated, longest gap {:.1?}",
            self.sent(),
            self.rate(),
            self.received(),
            self.lost(),
            self.reordered(),
            self.duplicated(),
            self.longest_gap(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn report(sent: &[u64], arrived: &[(u64, u64)]) -> Report {
        let arrived = arrived.iter().map(|(number, at)| Arrival { number: *number, at: ms(*at) }).collect();
        Report::new(sent.iter().map(|at| ms(*at)).collect(), arrived)
    }

    #[test]
    fn counts_what_is_lost_late_and_double() {
        let report = report(&[0, 10, 20, 30, 40], &[(0, 1), (2, 21), (1, 22), (2, 23), (4, 41)]);
        assert_eq!((report.sent(), report.received(), report.lost()), (5, 4, 1));
        assert_eq!((report.duplicated(), report.reordered()), (1, 1));
        assert_eq!(report.lost_in(ms(0)..ms(30)), 0);
        assert_eq!(report.lost_in(ms(30)..ms(40)), 1);
        assert_eq!(report.arrivals_in(ms(21)..ms(23)), 2);
        assert_eq!(report.first_arrival_of_sent_since(ms(25)), Some(ms(41)));
        assert_eq!(report.first_arrival_of_sent_since(ms(41)), None);
        assert!((report.rate() - 100.0).abs() < 0.1);
    }

    #[test]
    fn silence_begins_with_a_packet_that_is_under_way() {
        // The sender pauses from 10 to 100; the network is silent from 110 to 160.
        let report = report(
            &[0, 10, 100, 110, 120, 130, 160, 170],
            &[(0, 1), (1, 11), (2, 101), (3, 160), (4, 160), (6, 161), (7, 171)],
        );
        assert_eq!(report.longest_gap(), ms(50));
        assert_eq!(report.longest_silence(ms(0)..ms(100)), ms(1));
        assert_eq!(report.longest_silence(ms(105)..ms(115)), ms(50));
    }

    #[test]
    fn silence_to_the_end_counts() {
        let report = report(&[0, 10, 20, 30, 300], &[(0, 1), (1, 11)]);
        assert_eq!(report.longest_gap(), ms(280));
        let nothing = self::report(&[0, 10, 200], &[]);
        assert_eq!(nothing.longest_gap(), ms(190));
    }
}
