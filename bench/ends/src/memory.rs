//! Both ends on one thread, with nothing between: packets are written into memory and read from there.
//!
//! What a host can make and read at best: no socket, no driver, no kernel. Keeps true: every packet is written and read
//! whole, by the code that the other engines use.

use crate::books::Books;
use crate::far::Seen;
use crate::order::{Order, Sent};
use crate::share::{Share, Wire};
use crate::source::Source;
use anyhow::{Result, ensure};
use std::sync::atomic::{AtomicBool, AtomicU64};
use zsync_bench_xsk::{Arrival, BURST, Handed, clock};
use zsync_sink::clock::Relation;

/// Bytes between two frames: a page, as sockets have them.
const FRAME: usize = 4096;

/// Frames, and who reads them; nobody reads a capture, which has no probes.
struct Loop {
    frames: Vec<u8>,
    lengths: [usize; BURST],
    books: Option<Books>,
    handed: u64,
}

impl Wire for Loop {
    fn send(&mut self, most: usize, mut fill: impl FnMut(&mut [u8]) -> usize) -> Result<usize> {
        let room = self.frames.chunks_exact_mut(FRAME).zip(&mut self.lengths).take(most);
        let mut count = 0;
        for (frame, length) in room {
            *length = fill(frame);
            if *length == 0 {
                break;
            }
            count += 1;
        }
        if let Some(books) = &mut self.books {
            let now = Arrival::Read(clock::now());
            for (frame, length) in self.frames.chunks_exact(FRAME).zip(self.lengths).take(count) {
                books.take(frame.get(..length).unwrap_or_default(), now);
            }
        }
        self.handed += count as u64;
        Ok(count)
    }

    fn handed(&self) -> Handed {
        Handed { handed: self.handed, completed: self.handed, refused: 0 }
    }

    fn drain(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Sends an order from the calling thread to itself. `stop` ends it, `sent` counts along.
///
/// # Errors
/// An order that cannot be: what its packets cannot be made from, or longer ones than 4,096 bytes.
pub fn run(order: &Order, stop: &AtomicBool, sent: &AtomicU64) -> Result<(Sent, Seen)> {
    let mut source = Source::new(&order.what, order.run, (0, 1))?;
    let longest = order.what.longest().max(source.longest());
    ensure!(longest <= FRAME, "a packet of {longest} bytes: frames in memory have {FRAME}");
    let flows = order.what.flows();
    let books = (flows > 0).then(|| Books::new(order.run, flows, Relation::SAME, None)).transpose()?;
    let mut wire = Loop { frames: vec![0; BURST * FRAME], lengths: [0; BURST], books, handed: 0 };
    let share = Share { order, part: (0, 1), stop, sent };
    let sent = share.send(&mut wire, &mut source, clock::now())?;
    let seen = match wire.books {
        Some(books) => books.close(Some(&sent), &[], 0)?,
        None => Seen { received: sent.packets(), counts_valid: true, ..Seen::default() },
    };
    Ok((sent, seen))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::{Phase, Rate};
    use crate::source::What;
    use std::sync::Arc;
    use std::time::Duration;
    use zsync_traffic::profile::Profile;

    fn order(profile: &str, rate: Rate, packets: u64) -> Order {
        let profile: Profile = profile.parse().unwrap();
        let what = What::Stream { content: Arc::new(profile.content), seed: 3 };
        let phases = vec![Phase { rate, duration: Duration::from_secs(600) }];
        Order { what, run: 5, phases, packets: Some(packets), log: false, readable: None, patience: None }
    }

    #[test]
    fn every_packet_that_is_written_is_read_whatever_it_is_made_of() {
        let (stop, count) = (AtomicBool::new(false), AtomicU64::new(0));
        for profile in [
            "sport=1..1000 flows=1000 choice=zipf:1.1 size=imix",
            "src=2001:db8::1 dst=2001:db8::2+1x300 flows=300 choice=uniform proto=tcp size=128..1518",
            "tunnel=vxlan outer-src=10.0.0.1 outer-dst=10.0.0.2 vni=1..16 flows=16 size=200..1518",
            "vlan=1..9 proto=icmp echo-id=1..100 flows=900 size=128",
        ] {
            let order = order(profile, Rate::Full, 20_000);
            let (sent, seen) = run(&order, &stop, &count).unwrap();
            assert_eq!((sent.packets(), seen.received), (20_000, 20_000), "{profile}: {}", seen.text);
            assert_eq!(
                (seen.verdicts.len(), sent.flows.iter().sum::<u64>()),
                (0, 20_000),
                "{profile}: {:?}",
                seen.verdicts
            );
        }
    }

    #[test]
    fn a_paced_order_takes_its_time_and_a_stopped_one_ends() {
        let (stop, count) = (AtomicBool::new(false), AtomicU64::new(0));
        let paced = order("size=64", Rate::Shaped(1000, "poisson".parse().unwrap()), 200);
        let (sent, seen) = run(&paced, &stop, &count).unwrap();
        assert_eq!((sent.packets(), seen.received), (200, 200));
        assert!(sent.duration() > Duration::from_millis(100), "{:?}", sent.duration());
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let (sent, _) = run(&paced, &stop, &count).unwrap();
        assert_eq!(sent.packets(), 0);
    }
}
