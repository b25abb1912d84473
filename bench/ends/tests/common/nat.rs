//! A device that keeps connections: a thread between `vb` and `vc` that rewrites source ports, and back.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use zsync_bench_xsk::{Action, Duplex, Match, Options, Sink, clock};
use zsync_packet::header::UdpMut;
use zsync_traffic::stream::{Class, classify};

/// The first port that a connection gets.
const FIRST: u16 = 20_000;

/// What it does with a connection that has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// Drops its packet.
    Refuses,
    /// Forgets the oldest one for it.
    Forgets,
}

/// What it has learnt since it was cleared.
#[derive(Default)]
pub struct Learnt {
    /// By all that a packet says of its connection, which port it got.
    out: HashMap<Vec<u8>, u16>,
    /// The source port behind each port that was given; none where it was forgotten.
    back: Vec<Option<(Vec<u8>, u16)>>,
    /// When the next connection can be opened, by the times that packets were to leave at.
    free_at: u64,
}

/// The device.
pub struct Nat {
    pub learnt: Arc<Mutex<Learnt>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Nat {
    /// One with room for `capacity` connections, which opens `rate` per second at most. It goes by the times that packets
    /// were to leave at, so that no machine is too slow for it.
    pub fn start(capacity: usize, full: Full, rate: Option<u64>) -> Self {
        let (learnt, stop) = (Arc::<Mutex<Learnt>>::default(), Arc::new(AtomicBool::new(false)));
        let (shared, stopped) = (Arc::clone(&learnt), Arc::clone(&stop));
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            let options = Options { ring: 16_384, ..Options::default() };
            let open = |device: &str| {
                let mut program = Sink::attach(device, Action::Receive, Match::All).unwrap();
                let queues = [0, 1].map(|queue| Duplex::open(&mut program, queue, &options).unwrap());
                (program, queues)
            };
            let (_left, mut left) = open("vb");
            let (_right, mut right) = open("vc");
            ready.send(()).unwrap();
            while !stopped.load(Ordering::Relaxed) {
                let mut count = 0;
                for queue in 0..2 {
                    count += pass(&mut left[queue], &mut right[0], |packet| {
                        shared.lock().unwrap().out(packet, capacity, full, rate)
                    });
                    count +=
                        pass(&mut right[queue], &mut left[0], |packet| shared.lock().unwrap().back(packet));
                }
                if count == 0 {
                    thread::sleep(Duration::from_micros(200));
                }
            }
            let missed: u64 = left.iter().chain(&right).map(Duplex::missed).sum();
            assert_eq!(missed, 0, "the device itself was too slow");
        });
        is_ready.recv().unwrap();
        Self { learnt, stop, thread: Some(thread) }
    }

    /// Ends it.
    pub fn end(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Drop for Nat {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Passes what came by one socket on by another one, as `amend` has it; how many came.
fn pass(from: &mut Duplex, to: &mut Duplex, mut amend: impl FnMut(&mut Vec<u8>) -> bool) -> usize {
    let mut out = Vec::new();
    let count = from
        .receive(|packet| {
            let mut packet = packet.to_vec();
            if amend(&mut packet) {
                out.push(packet);
            }
        })
        .unwrap();
    let mut next = out.iter();
    while next.len() > 0 {
        to.send(next.len(), |frame| {
            next.next().map_or(0, |packet| {
                frame[..packet.len()].copy_from_slice(packet);
                packet.len()
            })
        })
        .unwrap();
    }
    // All frames are free again then.
    to.drain(Duration::from_secs(1)).unwrap();
    count
}

/// Where the addresses begin, and where the UDP header does.
fn places(packet: &[u8]) -> (usize, usize) {
    if packet[12..14] == [0x08, 0x00] { (26, 34) } else { (22, 54) }
}

impl Learnt {
    fn out(&mut self, packet: &mut [u8], capacity: usize, full: Full, rate: Option<u64>) -> bool {
        let Class::Probe(probe) = classify(packet, clock::now()) else { return false };
        let (addresses, udp) = places(packet);
        let key = packet[addresses..udp + 4].to_vec();
        let port = match self.out.get(&key) {
            Some(port) => *port,
            None => {
                if let Some(rate) = rate {
                    if self.free_at > probe.intended + 2_000_000_000 / rate {
                        return false;
                    }
                    self.free_at = self.free_at.max(probe.intended) + 1_000_000_000 / rate;
                }
                if self.out.len() >= capacity {
                    if full == Full::Refuses {
                        return false;
                    }
                    let oldest = self.back.iter_mut().find_map(Option::take).unwrap();
                    self.out.remove(&oldest.0);
                }
                let port = FIRST + self.back.len() as u16;
                let source = u16::from_be_bytes([packet[udp], packet[udp + 1]]);
                self.back.push(Some((key.clone(), source)));
                self.out.insert(key, port);
                port
            }
        };
        UdpMut::parse(&mut packet[udp..]).unwrap().set_source_port(port);
        true
    }

    fn back(&mut self, packet: &mut [u8]) -> bool {
        let (addresses, udp) = places(packet);
        let Class::Probe(_) = classify(packet, clock::now()) else { return false };
        let port = u16::from_be_bytes([packet[udp + 2], packet[udp + 3]]);
        let known = self.back.get(usize::from(port.wrapping_sub(FIRST)));
        let Some((key, source)) = known.and_then(Option::as_ref) else { return false };
        // From whom the connection was opened to, and to whom it was opened from.
        let half = (udp - addresses) / 2;
        let (from, to) = (&packet[addresses..addresses + half], &packet[addresses + half..udp]);
        if *from != key[half..2 * half] || *to != key[..half] {
            return false;
        }
        if packet[udp..udp + 2] != key[2 * half + 2..2 * half + 4] {
            return false;
        }
        UdpMut::parse(&mut packet[udp..]).unwrap().set_destination_port(*source);
        true
    }
}
