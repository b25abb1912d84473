//! Replay: the packets of a capture, again, at their own times, scaled ones, or an even rate.
//!
//! Reads pcap and pcapng of Ethernet from whatever the caller opened, all of it into memory before the first packet
//! leaves. Refuses other link types and damaged files, by the number of the packet (from 1). Keeps true: times never go
//! back, and each round of a loop takes as long as the last one.

use std::io::Read;

use pcap_file::PcapError;

use crate::pace::{Pace, PaceError, Shape};

mod loader;

use loader::{Entry, Loader};

/// The most rounds: as good as for ever.
pub const FOR_EVER: u64 = u64::MAX;

/// When the packets of a capture leave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Timing {
    /// As far apart as they were captured.
    Original,
    /// So many times as fast: 2 takes half of the time. Above 0.
    Scaled(f64),
    /// At an even rate, in packets/s.
    Rate(u64),
}

/// Why a capture cannot be replayed. Packets count from 1.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The file's head could not be read, or is of another format.
    #[error("the capture cannot be read: expected pcap or pcapng")]
    Head(#[source] PcapError),
    /// The file ends within, or is damaged.
    #[error("packet {packet} cannot be read: the capture is damaged or ends there")]
    Packet {
        /// Which.
        packet: u64,
        /// What is wrong with it.
        #[source]
        source: PcapError,
    },
    /// A packet of another link type than Ethernet.
    #[error("packet {packet} is of link type {link}: only Ethernet (1) is replayed")]
    Link {
        /// Which.
        packet: u64,
        /// Its type, in the registry of LINKTYPE values of tcpdump.org.
        link: u32,
    },
    /// A packet of which only the beginning was captured, or nothing.
    #[error(
        "packet {packet} was cut: {captured} of {original} bytes were captured; capture it whole (`tcpdump -s 0`)"
    )]
    Cut {
        /// Which.
        packet: u64,
        /// What there is.
        captured: usize,
        /// What there was.
        original: u32,
    },
    /// A packet in a block that has no time.
    #[error("packet {packet} has no time: it can be replayed at a fixed rate alone")]
    Timeless {
        /// Which.
        packet: u64,
    },
    /// Nothing to send.
    #[error("the capture has no packet")]
    Empty,
    /// More bytes than memory indices hold.
    #[error(
        "packet {packet} is beyond the first 4 GiB of packets, the most that is replayed: cut the capture"
    )]
    TooMuch {
        /// Which.
        packet: u64,
    },
    /// A factor that cannot be.
    #[error("times cannot be scaled by {0}: a number above 0 is expected")]
    Factor(f64),
    /// A rate that cannot be.
    #[error(transparent)]
    Rate(#[from] PaceError),
}

/// The packets of a capture and their times, one after the other.
#[derive(Debug)]
pub struct Replay {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    /// How long a round takes, in ns: to the last packet, and on by the mean gap.
    round: u64,
    at: usize,
    start: u64,
    left: u64,
    factor: f64,
    pace: Option<Pace>,
}

impl Replay {
    /// Reads a capture, to be sent `rounds` times ([`FOR_EVER`]).
    ///
    /// # Errors
    /// See [`ReplayError`].
    pub fn read(mut capture: impl Read, timing: Timing, rounds: u64) -> Result<Self, ReplayError> {
        let (factor, pace) = match timing {
            Timing::Original => (1.0, None),
            Timing::Scaled(factor) if factor > 0.0 && factor.is_finite() => (factor, None),
            Timing::Scaled(factor) => return Err(ReplayError::Factor(factor)),
            Timing::Rate(rate) => (1.0, Some(Pace::new(Shape::Constant, rate, 0)?)),
        };
        let mut magic = [0; 4];
        capture.read_exact(&mut magic).map_err(|error| ReplayError::Head(PcapError::IoError(error)))?;
        let whole = magic.chain(capture);
        let mut loader = Loader::new(pace.is_none());
        // The type of a section header block, the same in both byte orders.
        if magic == [0x0a, 0x0d, 0x0d, 0x0a] { loader.pcapng(whole) } else { loader.pcap(whole) }?;
        let Loader { bytes, entries, last, .. } = loader;
        if entries.is_empty() {
            return Err(ReplayError::Empty);
        }
        // A single packet has no gap: a second then.
        let gap = if last == 0 { 1_000_000_000 } else { last / (entries.len() as u64 - 1).max(1) };
        let round = scaled(last.saturating_add(gap), factor);
        Ok(Self { bytes, entries, round, at: 0, start: 0, left: rounds, factor, pace })
    }

    /// How many packets a round has.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Never: a capture without packets is refused.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The longest packet, in bytes without FCS.
    pub fn longest(&self) -> usize {
        self.entries.iter().map(|entry| entry.len as usize).max().unwrap_or(0)
    }

    /// The next packet and its departure in ns since the start; `None` after the last round.
    #[inline]
    pub fn next_packet(&mut self) -> Option<(u64, &[u8])> {
        if self.left == 0 {
            return None;
        }
        let entry = *self.entries.get(self.at)?;
        let time = match &mut self.pace {
            Some(pace) => pace.next(),
            None => self.start.saturating_add(scaled(entry.time, self.factor)),
        };
        self.at += 1;
        if self.at == self.entries.len() {
            self.at = 0;
            self.start = self.start.saturating_add(self.round);
            self.left -= u64::from(self.left != FOR_EVER);
        }
        let start = entry.start as usize;
        Some((time, self.bytes.get(start..start + entry.len as usize)?))
    }
}

/// Exact as long as nothing is to be scaled.
#[inline]
fn scaled(time: u64, factor: f64) -> u64 {
    if factor == 1.0 { time } else { (time as f64 / factor) as u64 }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
    use pcap_file::pcapng::PcapNgWriter;
    use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketBlock;
    use pcap_file::pcapng::blocks::interface_description::{
        InterfaceDescriptionBlock, InterfaceDescriptionOption,
    };
    use pcap_file::{DataLink, Endianness, TsResolution};
    use proptest::prelude::*;

    use super::loader::nanoseconds;
    use super::*;

    fn pcap(link: DataLink, packets: &[(u64, &[u8], u32)]) -> Vec<u8> {
        let header = PcapHeader {
            datalink: link,
            ts_resolution: TsResolution::NanoSecond,
            endianness: Endianness::Big,
            ..Default::default()
        };
        let mut writer = PcapWriter::with_header(Vec::new(), header).unwrap();
        for (time, data, original) in packets {
            writer.write_packet(&PcapPacket::new(Duration::from_nanos(*time), *original, data)).unwrap();
        }
        writer.into_writer()
    }

    fn pcapng(resolution: Option<u8>, times: &[u64]) -> Vec<u8> {
        let mut writer = PcapNgWriter::new(Vec::new()).unwrap();
        let mut interface = InterfaceDescriptionBlock::new(DataLink::ETHERNET, 0xffff);
        interface.options.extend(resolution.map(InterfaceDescriptionOption::IfTsResol));
        writer.write_pcapng_block(interface).unwrap();
        for units in times {
            let timestamp = Duration::from_nanos(*units);
            let data = b"packet"[..].into();
            let block =
                EnhancedPacketBlock { interface_id: 0, timestamp, original_len: 6, data, options: vec![] };
            writer.write_pcapng_block(block).unwrap();
        }
        writer.into_inner()
    }

    fn three() -> Vec<u8> {
        let at = 1_700_000_000_000_000_000;
        // The last one is out of order.
        pcap(DataLink::ETHERNET, &[(at, b"a", 1), (at + 3000, b"bb", 2), (at + 2000, b"ccc", 3)])
    }

    fn times(mut replay: Replay) -> Vec<(u64, usize)> {
        std::iter::from_fn(|| replay.next_packet().map(|(time, bytes)| (time, bytes.len())))
            .take(100)
            .collect()
    }

    #[test]
    fn packets_come_at_their_own_scaled_or_even_times_round_after_round() {
        let read = |timing, rounds| Replay::read(&three()[..], timing, rounds).unwrap();
        assert_eq!(times(read(Timing::Original, 1)), [(0, 1), (3000, 2), (3000, 3)]);
        let twice = [(0, 1), (3000, 2), (3000, 3), (4500, 1), (7500, 2), (7500, 3)];
        assert_eq!(times(read(Timing::Original, 2)), twice);
        let fast = [(0, 1), (1500, 2), (1500, 3), (2250, 1), (3750, 2), (3750, 3)];
        assert_eq!(times(read(Timing::Scaled(2.0), 2)), fast);
        assert_eq!(times(read(Timing::Rate(1_000_000), 2))[3..], [(3000, 1), (4000, 2), (5000, 3)]);
        assert_eq!(times(read(Timing::Original, FOR_EVER)).len(), 100);
        assert_eq!((read(Timing::Original, 1).len(), read(Timing::Original, 1).longest()), (3, 3));
        assert_eq!(times(read(Timing::Original, 0)), []);
    }

    #[test]
    fn pcapng_times_are_in_the_units_of_their_interface() {
        for (resolution, second) in
            [(None, 1_000_000), (Some(9), 1_000_000_000), (Some(3), 1000), (Some(0x80 | 10), 1024)]
        {
            let file = pcapng(resolution, &[5 * second, 6 * second]);
            let replay = Replay::read(&file[..], Timing::Original, 1).unwrap();
            assert_eq!(times(replay), [(0, 6), (1_000_000_000, 6)], "{resolution:?}");
        }
        assert_eq!((nanoseconds(u64::MAX.into(), 0xff), nanoseconds(u64::MAX.into(), 127)), (0, 0));
    }

    #[test]
    fn what_cannot_be_replayed_is_refused_by_its_number() {
        let read = |file: &[u8]| Replay::read(file, Timing::Original, 1).unwrap_err();
        assert!(matches!(read(b"no capture file at all...."), ReplayError::Head(_)));
        assert!(matches!(read(b""), ReplayError::Head(_)));
        assert!(matches!(read(&pcap(DataLink::ETHERNET, &[])), ReplayError::Empty));
        let wifi = pcap(DataLink::IEEE802_11, &[(0, b"a", 1)]);
        assert!(matches!(read(&wifi), ReplayError::Link { packet: 1, link: 105 }));
        let cut = pcap(DataLink::ETHERNET, &[(0, b"a", 1), (1, b"b", 60)]);
        assert!(matches!(read(&cut), ReplayError::Cut { packet: 2, captured: 1, original: 60 }));
        let file = three();
        assert!(matches!(read(&file[..file.len() - 1]), ReplayError::Packet { packet: 3, .. }));
        let factor = Replay::read(&file[..], Timing::Scaled(0.0), 1);
        assert!(matches!(factor, Err(ReplayError::Factor(_))));
        assert!(matches!(Replay::read(&file[..], Timing::Rate(0), 1), Err(ReplayError::Rate(_))));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn damaged_captures_are_errors_or_captures_and_never_panics(
            ng: bool, at in 0usize..200, byte: u8, cut in 0usize..250,
        ) {
            let mut file = if ng { pcapng(Some(9), &[1, 2, 3]) } else { three() };
            let len = file.len();
            file[at % len] = byte;
            file.truncate(cut.max(4));
            if let Ok(replay) = Replay::read(&file[..], Timing::Original, 2) {
                prop_assert!(times(replay).is_sorted_by_key(|(time, _)| *time));
            }
        }
    }
}
