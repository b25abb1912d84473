//! A source: packets one after the other with the times that they are to leave at, from a profile or a capture.
//!
//! Times are nanoseconds since the start of the phase, of a capture since that of the order.

use crate::order::Rate;
use anyhow::{Context, Result, ensure};
use std::path::PathBuf;
use std::sync::Arc;
use zsync_traffic::pace::{BURST, Pace};
use zsync_traffic::replay::{Replay, Timing};
use zsync_traffic::size::in_memory;
use zsync_traffic::stream::{Content, Stream};

/// What is sent.
#[derive(Clone, Debug)]
pub enum What {
    /// Packets with probes, which a reader knows.
    Stream {
        /// What they are made from. Its run is the order's.
        content: Arc<Content>,
        /// Where all that looks random comes from.
        seed: u64,
    },
    /// A capture, byte for byte. It has no probes, so the far end can only count.
    Capture {
        /// Its file, pcap or pcapng.
        path: PathBuf,
        /// When its packets leave; a phase's rate does not count.
        timing: Timing,
        /// How often.
        rounds: u64,
    },
}

impl What {
    /// Flows that a reader is to expect.
    pub fn flows(&self) -> u32 {
        if let Self::Stream { content, .. } = self { content.flows } else { 0 }
    }

    /// Bytes of the longest packet from its Ethernet header on, where that is known beforehand.
    pub fn longest(&self) -> usize {
        if let Self::Stream { content, .. } = self { in_memory(content.sizes.most()) } else { 0 }
    }
}

/// What one sender sends: part `part` of `of`.
pub(crate) enum Source {
    Stream { stream: Box<Stream>, pace: Option<Box<Pace>>, seed: u64 },
    Capture { replay: Box<Replay>, next: Option<u64>, packet: Vec<u8> },
}

impl Source {
    /// # Errors
    /// What cannot be made, or read.
    pub fn new(what: &What, run: u32, (part, of): (u32, u32)) -> Result<Self> {
        match what {
            What::Stream { content, seed } => {
                let content = Content { run, ..Content::clone(content) };
                let stream = Box::new(Stream::share(&content, *seed, part, of)?);
                Ok(Self::Stream { stream, pace: None, seed: *seed })
            }
            What::Capture { path, timing, rounds } => {
                ensure!(of == 1, "a capture leaves by one queue of one device, and {of} were given");
                let name = || path.display().to_string();
                let file = std::fs::File::open(path).with_context(name)?;
                let replay =
                    Replay::read(std::io::BufReader::new(file), *timing, *rounds).with_context(name)?;
                let mut source = Self::Capture { replay: Box::new(replay), next: None, packet: Vec::new() };
                source.draw();
                Ok(source)
            }
        }
    }

    /// From here on packets leave at that rate, the first one at 0.
    pub fn phase(&mut self, rate: Rate) -> Result<()> {
        if let Self::Stream { stream, pace, seed } = self {
            *pace = match rate {
                Rate::Full => None,
                Rate::Shaped(rate, shape) => Some(Box::new(stream.pace(shape, rate, *seed)?)),
            };
        }
        Ok(())
    }

    /// Whether packets leave as fast as they go.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Stream { pace: None, .. })
    }

    /// Packets that are due, up to a burst.
    pub fn due(&mut self, now: u64) -> usize {
        match self {
            Self::Stream { pace: Some(pace), .. } => pace.due(now),
            Self::Stream { .. } => BURST,
            // One at a time: a capture's next time is known once its packet is at hand.
            Self::Capture { next, .. } => next.map_or(0, |next| if next <= now { BURST } else { 0 }),
        }
    }

    /// When the next packet is to leave; `None` when there is none any more.
    pub fn next(&mut self) -> Option<u64> {
        match self {
            Self::Stream { pace, .. } => Some(pace.as_mut().map_or(0, |pace| pace.peek())),
            Self::Capture { next, .. } => *next,
        }
    }

    /// Leaves the next packet out.
    pub fn skip(&mut self) {
        match self {
            Self::Stream { pace: Some(pace), .. } => drop(pace.next()),
            Self::Stream { .. } => {}
            Self::Capture { .. } => self.draw(),
        }
    }

    /// Writes the next packet into `frame`, as leaving `now`, if it is due; its length, or 0. `start` is the phase's, of the
    /// same clock as `now`.
    pub fn write(&mut self, start: u64, now: u64, frame: &mut [u8]) -> usize {
        match self {
            Self::Stream { stream, pace, .. } => {
                let departure = pace.as_mut().map_or(now, |pace| start + pace.peek());
                let Ok(length) = stream.write(now, departure, frame) else { return 0 };
                if let Some(pace) = pace {
                    pace.next();
                }
                length
            }
            Self::Capture { next, packet, .. } => {
                let due = next.is_some_and(|next| start.saturating_add(next) <= now);
                let Some(room) = frame.get_mut(..packet.len()).filter(|_| due) else { return 0 };
                room.copy_from_slice(packet);
                let length = packet.len();
                self.draw();
                length
            }
        }
    }

    /// Bytes of the longest packet, as far as it is known without sending all of them.
    pub fn longest(&self) -> usize {
        match self {
            Self::Stream { stream, .. } => stream.next_len(),
            Self::Capture { replay, .. } => replay.longest(),
        }
    }

    /// Packets that were written of each of `flows` flows.
    pub fn written(&self, flows: u32) -> Vec<u64> {
        match self {
            Self::Stream { stream, .. } => (0..flows).map(|flow| stream.written(flow).unwrap_or(0)).collect(),
            Self::Capture { .. } => Vec::new(),
        }
    }

    fn draw(&mut self) {
        if let Self::Capture { replay, next, packet } = self {
            packet.clear();
            *next = replay.next_packet().map(|(time, bytes)| {
                packet.extend_from_slice(bytes);
                time
            });
        }
    }
}
