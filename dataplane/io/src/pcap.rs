//! Capture files: a port that receives what one file says and writes what it sends into another.
//!
//! Owns: a [`Reader`] or a [`Writer`] or both, over whatever reads and writes bytes. Refuses: files that are not classic pcap
//! of Ethernet packets, by an error that names the record and the byte ([`PcapError`]); packets longer than a frame, which
//! are counted and skipped. Keeps true: it never holds a frame (they come straight from the pool and go straight back), an
//! error stops its own direction only and stays to be [shown](Pcap::error), and the file that is written depends on the
//! packets and the clock that it was given alone.
//!
//! The parser is ours and not a crate's: it reads into frames without a buffer between, and its errors say where. The tests
//! hold it against the crate `pcap-file`.

#![forbid(unsafe_code)]

mod format;
mod reader;
mod writer;

pub use format::{LONGEST_RECORD, Resolution};
pub use reader::{Pace, Reader};
pub use writer::{Stamps, Writer};

use crate::device::{Arrived, Device, DeviceCounters};
use std::io::{self, Read, Write};
use std::os::fd::BorrowedFd;
use zsync_packet::burst::{Burst, Packet};
use zsync_packet::pool::Pool;
use zsync_packet::verdict::PortId;

/// Why a capture cannot be read on, or written on. Records count from 1, bytes from 0.
#[derive(Debug, thiserror::Error)]
pub enum PcapError {
    /// Not a capture file that is understood.
    #[error(
        "it starts with {magic:02x?}: that is no classic pcap (pcapng is not read; `editcap -F nsecpcap` converts it)"
    )]
    Magic {
        /// The first four bytes.
        magic: [u8; 4],
    },
    /// A version of the format that nobody writes.
    #[error("its format has version {major}.{minor}: only 2.4 is read")]
    Version {
        /// What the file says.
        major: u16,
        /// What the file says.
        minor: u16,
    },
    /// Packets that are not Ethernet's.
    #[error("its link type is {link}: only 1 (Ethernet) is read")]
    LinkType {
        /// What the file says (see the registry of LINKTYPE values of tcpdump.org).
        link: u32,
    },
    /// The file ends inside of its header or of a record.
    #[error(
        "it ends at byte {offset}, {missing} bytes short of what record {record} needs (0: the file header)"
    )]
    Truncated {
        /// The record, 0 for the file's header.
        record: u64,
        /// Where the file ends.
        offset: u64,
        /// Bytes that are missing.
        missing: usize,
    },
    /// A length that cannot be: the file is damaged from here on.
    #[error("record {record} at byte {offset} claims {len} bytes: records have at most {LONGEST_RECORD}")]
    TooLong {
        /// The record.
        record: u64,
        /// Where the record starts.
        offset: u64,
        /// What it claims.
        len: u32,
    },
    /// Reading failed.
    #[error("reading record {record} at byte {offset} failed (record 0: the file header)")]
    Read {
        /// The record, 0 for the file's header.
        record: u64,
        /// How far it was read.
        offset: u64,
        /// Why.
        source: io::Error,
    },
    /// Writing failed.
    #[error("writing record {record} failed, or one before it that had not been flushed")]
    Write {
        /// The record, 0 for the file's header.
        record: u64,
        /// Why.
        source: io::Error,
    },
}

/// A port of capture files. See the module.
///
/// Without a reader it receives nothing; without a writer it has no room to send.
#[derive(Debug)]
pub struct Pcap<R: Read, W: Write> {
    port: PortId,
    reader: Option<Reader<R>>,
    writer: Option<Writer<W>>,
    counters: DeviceCounters,
}

impl<R: Read, W: Write> Pcap<R, W> {
    /// A port whose packets come from `reader` and go to `writer`.
    pub fn new(port: PortId, reader: Option<Reader<R>>, writer: Option<Writer<W>>) -> Self {
        Self { port, reader, writer, counters: DeviceCounters::default() }
    }

    /// Whether nothing more will be received: the capture is at its end, or broken, or there is none.
    pub fn finished(&self) -> bool {
        self.reader.as_ref().is_none_or(Reader::finished)
    }

    /// What went wrong: the reader's error, else the writer's.
    pub fn error(&self) -> Option<&PcapError> {
        let reading = self.reader.as_ref().and_then(Reader::error);
        reading.or_else(|| self.writer.as_ref().and_then(Writer::error))
    }

    /// Takes the device apart, to read both errors or to [finish](Writer::finish) the file.
    pub fn into_parts(self) -> (Option<Reader<R>>, Option<Writer<W>>) {
        (self.reader, self.writer)
    }
}

impl<R: Read, W: Write> Device for Pcap<R, W> {
    fn complete(&mut self, _pool: &mut Pool) -> usize {
        0
    }

    fn rx_burst(&mut self, pool: &mut Pool, burst: &mut Burst) -> usize {
        self.reader.as_mut().map_or(0, |reader| reader.receive(self.port, pool, burst, &mut self.counters))
    }

    fn tx_burst(&mut self, pool: &mut Pool, packets: &mut Vec<Packet>) -> usize {
        self.writer.as_mut().map_or(0, |writer| writer.send(pool, packets))
    }

    fn flush(&mut self, now: u64, force: bool) {
        if let Some(reader) = &mut self.reader {
            reader.set_now(now);
        }
        if let Some(writer) = &mut self.writer {
            writer.flush(now, force);
        }
    }

    fn waitable(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn unflushed(&self) -> bool {
        self.writer.as_ref().is_some_and(Writer::unflushed)
    }

    fn arrived(&self) -> Arrived {
        Arrived::default()
    }

    fn counters(&self) -> &DeviceCounters {
        &self.counters
    }
}

#[cfg(test)]
mod tests;
