//! Contestants: who seals and opens the packets of a task, and how that is timed.
//!
//! Keeps true: nobody is timed whose packets are not sealed to the same bytes as `ring`'s, and opened again; a packet that is
//! not opened while it is timed is an error, and no figure. What is timed is a sweep over all packets, burst by burst, each
//! sweep over fresh texts; a sample is the least of its sweeps, for what else the machine does makes them longer and never shorter.

use crate::packets::{MOST, Packets};
use anyhow::{Result, ensure};
use std::time::{Duration, Instant};
use zsync_crypto::aead::{Algorithm, NONCE_LEN, TAG_LEN};

/// Sweeps of a sample, at least.
const RUNS: usize = 3;

/// To seal or to open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Text to ciphertext and tag.
    Seal,
    /// Back.
    Open,
}

impl Way {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Seal, Self::Open];

    /// As tables have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Seal => "seal",
            Self::Open => "open",
        }
    }
}

/// What is timed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Task {
    pub(crate) way: Way,
    /// Packets handed over at once.
    pub(crate) burst: usize,
    /// For so long, about.
    pub(crate) turn: Duration,
}

impl Task {
    /// Packets of a sweep: whole bursts.
    pub(crate) fn count(&self) -> usize {
        MOST / self.burst * self.burst
    }
}

/// Who seals and opens packets.
pub(crate) trait Contestant {
    /// As tables have it.
    fn name(&self) -> &'static str;

    /// Whether it can do this at all.
    fn does(&self, algorithm: Algorithm, way: Way) -> bool;

    /// Gets ready for these packets, keys and all, and shows that it does them right.
    ///
    /// # Errors
    /// It does not.
    fn prepare(&mut self, packets: &Packets) -> Result<()>;

    /// Nanoseconds a packet, of those that it is prepared for.
    ///
    /// # Errors
    /// A packet is not opened.
    fn sample(&mut self, packets: &Packets, task: Task) -> Result<f64>;
}

/// A packet in its place: what contestants of this process are given.
pub(crate) struct Slot<'a> {
    /// The number of its key.
    pub(crate) key: usize,
    pub(crate) nonce: [u8; NONCE_LEN],
    pub(crate) data: &'a mut [u8],
}

/// A library that is timed in this process, on frames that it shares with nobody.
pub(crate) trait Library {
    const NAME: &'static str;

    /// Whether it has the algorithm.
    fn has(&self, _algorithm: Algorithm) -> bool {
        true
    }

    /// Takes the keys of the packets to come.
    ///
    /// # Errors
    /// It does not take one.
    fn keys(&mut self, algorithm: Algorithm, keys: &[Vec<u8>]) -> Result<()>;

    /// Does all packets once, in bursts: how long that took, and how many were done, or authentic.
    fn sweep(&mut self, slots: &mut [Slot<'_>], way: Way, burst: usize) -> (Duration, usize);
}

/// A library, and its frames.
pub(crate) struct Inside<L> {
    library: L,
    memory: Vec<u8>,
}

impl<L: Library> Inside<L> {
    pub(crate) fn new(library: L) -> Self {
        Self { library, memory: Vec::new() }
    }

    /// One sweep over the first `count` packets, from texts or sealed ones.
    fn sweep(&mut self, packets: &Packets, way: Way, burst: usize, count: usize) -> Result<Duration> {
        let slots = &mut slots(&mut self.memory, packets, way, count);
        let (time, done) = self.library.sweep(slots, way, burst);
        ensure!(done == count, "{}: {done} packets of {count} are authentic", L::NAME);
        Ok(time)
    }
}

/// The first `count` packets in their places, as they are before `way`.
fn slots<'a>(memory: &'a mut [u8], packets: &Packets, way: Way, count: usize) -> Vec<Slot<'a>> {
    let first = memory.as_ptr().align_offset(64).min(64);
    let frames = memory[first..].chunks_exact_mut(packets.stride);
    packets
        .list
        .iter()
        .zip(frames)
        .take(count)
        .map(|(packet, frame)| {
            let from = if way == Way::Seal { &packet.text } else { &packet.sealed };
            let data = &mut frame[..from.len()];
            data.copy_from_slice(from);
            Slot { key: packet.key, nonce: packet.nonce, data }
        })
        .collect()
}

impl<L: Library> Contestant for Inside<L> {
    fn name(&self) -> &'static str {
        L::NAME
    }

    fn does(&self, algorithm: Algorithm, _way: Way) -> bool {
        self.library.has(algorithm)
    }

    fn prepare(&mut self, packets: &Packets) -> Result<()> {
        let need = packets.stride * packets.list.len() + 64;
        if self.memory.len() < need {
            self.memory = vec![0; need];
        }
        self.library.keys(packets.algorithm, &packets.keys)?;
        for way in Way::ALL {
            self.sweep(packets, way, MOST, MOST)?;
            let first = self.memory.as_ptr().align_offset(64).min(64);
            let frames = self.memory[first..].chunks_exact(packets.stride);
            let is_right = packets.list.iter().zip(frames).all(|(packet, frame)| match way {
                Way::Seal => frame[..packet.sealed.len()] == packet.sealed,
                // What is in the tag's place then is nobody's business.
                Way::Open => {
                    let text = packet.text.len() - TAG_LEN;
                    frame[..text] == packet.text[..text]
                }
            });
            ensure!(is_right, "{}: does not {} {:?} as ring does", L::NAME, way.name(), packets.algorithm);
        }
        Ok(())
    }

    fn sample(&mut self, packets: &Packets, task: Task) -> Result<f64> {
        least(task, || self.sweep(packets, task.way, task.burst, task.count()))
    }
}

/// Nanoseconds a packet of the shortest sweep, without those of looking at the clock.
pub(crate) fn least(task: Task, mut sweep: impl FnMut() -> Result<Duration>) -> Result<f64> {
    let (start, mut runs) = (Instant::now(), 0);
    let (mut least, mut nothing) = (Duration::MAX, Duration::MAX);
    while runs < RUNS || start.elapsed() < task.turn {
        least = least.min(sweep()?);
        nothing = nothing.min(Instant::now().elapsed());
        runs += 1;
    }
    Ok(least.saturating_sub(nothing).as_nanos() as f64 / task.count() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inside::Ring;
    use crate::packets::Shape;

    /// Does nothing, and says that all went well.
    struct Idle;

    impl Library for Idle {
        const NAME: &'static str = "idle";

        fn keys(&mut self, _algorithm: Algorithm, _keys: &[Vec<u8>]) -> Result<()> {
            Ok(())
        }

        fn sweep(&mut self, slots: &mut [Slot<'_>], _way: Way, _burst: usize) -> (Duration, usize) {
            (Duration::ZERO, slots.len())
        }
    }

    #[test]
    fn who_does_not_seal_as_ring_does_is_not_measured() {
        let packets = Packets::make(Algorithm::Aes256Gcm, Shape::equal(100)).unwrap();
        let error = Inside::new(Idle).prepare(&packets).unwrap_err().to_string();
        assert_eq!(error, "idle: does not seal Aes256Gcm as ring does");
    }

    #[test]
    fn a_packet_that_is_not_authentic_is_an_error_and_no_figure() {
        let mut packets = Packets::make(Algorithm::ChaCha20Poly1305, Shape::equal(100)).unwrap();
        let mut ring = Inside::new(Ring::default());
        ring.prepare(&packets).unwrap();
        let task = Task { way: Way::Open, burst: 3, turn: Duration::ZERO };
        assert!(ring.sample(&packets, task).unwrap() > 0.0);
        packets.list[5].sealed[7] ^= 1;
        let error = ring.sample(&packets, task).unwrap_err().to_string();
        assert_eq!(error, "ring: 62 packets of 63 are authentic");
    }
}
