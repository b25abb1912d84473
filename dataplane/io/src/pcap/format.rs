//! The classic pcap format: a header of 24 bytes, then records of 16 bytes and the packet.
//!
//! Described in draft-ietf-opsawg-pcap; the first four bytes say the byte order and what the second half of a time counts.
//! Pure: bytes in, values out.

use super::PcapError;

/// Longest record that is believed, in bytes: libpcap's `MAXIMUM_SNAPLEN` (pcap-int.h).
pub const LONGEST_RECORD: u32 = 262_144;

pub(super) const FILE_HEADER: usize = 24;
pub(super) const RECORD_HEADER: usize = 16;
const ETHERNET: u32 = 1;
const MAGIC_MICROSECONDS: u32 = 0xa1b2_c3d4;
const MAGIC_NANOSECONDS: u32 = 0xa1b2_3c4d;

/// What the second half of a record's time counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// Microseconds.
    Micro,
    /// Nanoseconds.
    Nano,
}

/// How the numbers of a file are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Format {
    pub(super) big_endian: bool,
    pub(super) resolution: Resolution,
}

/// A record's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Nanoseconds since 1970, or whatever the file's times are relative to.
    pub(super) time: u64,
    /// Bytes that follow.
    pub(super) len: u32,
}

impl Format {
    /// Reads a file's header.
    pub(super) fn parse(header: &[u8; FILE_HEADER]) -> Result<Self, PcapError> {
        let magic = word(header, 0);
        let known = [(MAGIC_MICROSECONDS, Resolution::Micro), (MAGIC_NANOSECONDS, Resolution::Nano)];
        let format = known.into_iter().find_map(|(number, resolution)| match magic {
            bytes if bytes == number.to_be_bytes() => Some(Self { big_endian: true, resolution }),
            bytes if bytes == number.to_le_bytes() => Some(Self { big_endian: false, resolution }),
            _ => None,
        });
        let format = format.ok_or(PcapError::Magic { magic })?;
        let version = format.number(word(header, 4));
        // Two halves of 16 bits: their order in the word follows the byte order.
        let (major, minor) = if format.big_endian {
            ((version >> 16) as u16, version as u16)
        } else {
            (version as u16, (version >> 16) as u16)
        };
        if (major, minor) != (2, 4) {
            return Err(PcapError::Version { major, minor });
        }
        // The upper bits say whether, and how long, a frame check sequence follows each packet: no Linux capture has one.
        let link = format.number(word(header, 20));
        if link != ETHERNET {
            return Err(PcapError::LinkType { link });
        }
        Ok(format)
    }

    /// Reads a record's header. The packet's length on the wire, its last word, is of no use here.
    pub(super) fn record(self, header: &[u8; RECORD_HEADER]) -> Record {
        let (seconds, fraction) = (self.number(word(header, 0)), self.number(word(header, 4)));
        let unit = match self.resolution {
            Resolution::Micro => 1000,
            Resolution::Nano => 1,
        };
        let time = u64::from(seconds) * 1_000_000_000 + u64::from(fraction) * unit;
        Record { time, len: self.number(word(header, 8)) }
    }

    fn number(self, bytes: [u8; 4]) -> u32 {
        if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    }
}

/// The header of the files that are written: little-endian, nanoseconds, version 2.4, Ethernet.
pub(super) fn file_header() -> [u8; FILE_HEADER] {
    let words = [MAGIC_NANOSECONDS, 4 << 16 | 2, 0, 0, LONGEST_RECORD, ETHERNET];
    let mut header = [0; FILE_HEADER];
    header.chunks_exact_mut(4).zip(words).for_each(|(at, word)| at.copy_from_slice(&word.to_le_bytes()));
    header
}

/// The header of a record that is written; `time` in nanoseconds, good for 136 years.
pub(super) fn record_header(time: u64, len: u16) -> [u8; RECORD_HEADER] {
    let len = u32::from(len);
    let words = [(time / 1_000_000_000) as u32, (time % 1_000_000_000) as u32, len, len];
    let mut header = [0; RECORD_HEADER];
    header.chunks_exact_mut(4).zip(words).for_each(|(at, word)| at.copy_from_slice(&word.to_le_bytes()));
    header
}

/// Four bytes of a header; zeros when they are not there.
fn word(header: &[u8], at: usize) -> [u8; 4] {
    header.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or_default()
}
