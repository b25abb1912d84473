//! When to ask the kernel to resolve a neighbour, or to look again whether it is there. No I/O.
//!
//! The kernel resolves what its own packets use; ours go past it. So an adjacency in the FIB without a usable neighbour is
//! asked for, at growing intervals while it stays so, and one that went stale is used once in a while: the kernel then
//! probes it, and finds the dead. A neighbour that the administrator made permanent is left alone: using it would clear
//! that (`__neigh_update`, net/core/neighbour.c).

use super::event::Neighbour;
use super::model::Mirror;
use super::sink::Adjacency;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// The kernel itself gives up on an address after three requests a second apart (`mcast_solicit`, `retrans_time`), so
/// asking more often changes nothing.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);
/// How often a stale neighbour is used: as often as the kernel's own traffic would make it look (`base_reachable_time`).
const STALE: Duration = Duration::from_secs(30);
/// Requests of one round; the rest waits for the next: a full ARP table must not become a burst of broadcasts.
const ROUND: usize = 256;
/// Between rounds.
const INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Asked {
    at: Instant,
    wait: Duration,
    round: u64,
}

/// Who was asked for when.
#[derive(Debug, Default)]
pub(super) struct Prober {
    asked: HashMap<Adjacency, Asked>,
    next: Option<Instant>,
    round: u64,
}

impl Prober {
    /// When [`due`](Self::due) has something to do; `None`: not before [`wake`](Self::wake).
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.next
    }

    /// Something changed: look at once.
    pub(super) fn wake(&mut self, now: Instant) {
        self.next = Some(now);
    }

    /// The neighbours (link, address) that the kernel is to be asked for now.
    pub(super) fn due(&mut self, now: Instant, mirror: &Mirror) -> Vec<(u32, IpAddr)> {
        if self.next.is_none_or(|next| now < next) {
            return Vec::new();
        }
        self.round += 1;
        let (round, mut due, mut watched) = (self.round, Vec::new(), false);
        for (adjacency, ifindex, neighbour) in mirror.adjacencies() {
            watched = true;
            let usable = neighbour.is_some_and(|n| n.usable().is_some());
            let stale = neighbour.is_some_and(|n| n.state & Neighbour::STALE != 0);
            let asked = self.asked.get_mut(&adjacency);
            if usable && !stale {
                // Answered: the next silence is met with the shortest wait again.
                if let Some(asked) = asked {
                    (asked.round, asked.wait) = (round, FIRST);
                }
                continue;
            }
            let full = due.len() >= ROUND;
            match asked {
                Some(asked) => {
                    asked.round = round;
                    let wait = if stale { STALE } else { asked.wait };
                    if now < asked.at + wait || full {
                        continue;
                    }
                    asked.at = now;
                    asked.wait = if stale { FIRST } else { (asked.wait * 2).min(LONGEST) };
                }
                None if full => continue,
                None => {
                    self.asked.insert(adjacency, Asked { at: now, wait: FIRST, round });
                }
            }
            due.push((ifindex, adjacency.gateway));
        }
        self.asked.retain(|_, asked| asked.round == round);
        self.next = watched.then(|| now + INTERVAL);
        due
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Lab, mac};
    use super::*;

    fn seconds_asked(prober: &mut Prober, mirror: &Mirror, start: Instant, from: u64, to: u64) -> Vec<u64> {
        (from..=to).filter(|s| !prober.due(start + Duration::from_secs(*s), mirror).is_empty()).collect()
    }

    #[test]
    fn the_unresolved_are_asked_for_at_growing_intervals_and_the_stale_now_and_then() {
        let mut lab = Lab::new();
        lab.route("10.9.0.0/16", &[(1, Some("10.0.0.2"), 1)]);
        lab.sync();
        let (mut prober, start) = (Prober::default(), Instant::now());
        assert_eq!(prober.deadline(), None);
        prober.wake(start);
        assert_eq!(prober.due(start, &lab.mirror), [(1, "10.0.0.2".parse().unwrap())]);
        assert_eq!(seconds_asked(&mut prober, &lab.mirror, start, 1, 100), [1, 3, 7, 15, 31, 61, 91]);
        lab.neighbour(1, "10.0.0.2", Some(mac(1)), Neighbour::REACHABLE);
        assert!(seconds_asked(&mut prober, &lab.mirror, start, 101, 200).is_empty());
        lab.neighbour(1, "10.0.0.2", Some(mac(1)), Neighbour::STALE);
        assert_eq!(seconds_asked(&mut prober, &lab.mirror, start, 201, 270), [201, 231, 261]);
        lab.neighbour(1, "10.0.0.2", None, Neighbour::FAILED);
        assert_eq!(seconds_asked(&mut prober, &lab.mirror, start, 271, 279), [271, 273, 277]);
        lab.neighbour(1, "10.0.0.2", Some(mac(1)), Neighbour::PERMANENT);
        assert!(seconds_asked(&mut prober, &lab.mirror, start, 280, 400).is_empty());
        lab.link(1, "p1", false);
        lab.neighbour(1, "10.0.0.2", None, Neighbour::FAILED);
        assert!(seconds_asked(&mut prober, &lab.mirror, start, 400, 410).is_empty());
    }
}
