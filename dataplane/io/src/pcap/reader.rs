//! Reading a capture: records become packets, at once or when their time has come.
//!
//! Owns: the place in the file. Refuses: what [`PcapError`] says; it reads no further then. Keeps true: packets come in the
//! file's order, each byte for byte, none twice; a frame that was allocated for a record that turns out to be cut short is
//! back in the pool.

use super::PcapError;
use super::format::{FILE_HEADER, Format, LONGEST_RECORD, RECORD_HEADER, Record, Resolution};
use crate::device::DeviceCounters;
use std::io::{BufReader, ErrorKind, Read};
use zsync_packet::burst::{Burst, Packet};
use zsync_packet::frame::HEADROOM;
use zsync_packet::pool::Pool;
use zsync_packet::verdict::PortId;

/// When packets are received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pace {
    /// As fast as they are asked for.
    #[default]
    AsFast,
    /// As long after the first as their times say. The clock is the `now` of the last flush, and starts at the first one:
    /// before it, no packet comes. A packet that is older than the one before it comes right behind it.
    AsTimed,
}

/// A capture that is read. See the module.
#[derive(Debug)]
pub struct Reader<R: Read> {
    source: BufReader<R>,
    format: Format,
    pace: Pace,
    /// Records begun, and bytes read.
    record: u64,
    offset: u64,
    /// A record whose header was read and whose packet was not.
    next: Option<Record>,
    /// Time of the first record and of the first flush: they are the same moment.
    first: Option<u64>,
    started: Option<u64>,
    now: u64,
    ended: bool,
    error: Option<PcapError>,
}

impl<R: Read> Reader<R> {
    /// Reads the header of the capture.
    ///
    /// # Errors
    /// It is none, or not one of Ethernet packets, or cannot be read.
    pub fn new(source: R, pace: Pace) -> Result<Self, PcapError> {
        let mut reader = Self {
            source: BufReader::with_capacity(1 << 16, source),
            format: Format { big_endian: false, resolution: Resolution::Nano },
            pace,
            record: 0,
            offset: 0,
            next: None,
            first: None,
            started: None,
            now: 0,
            ended: false,
            error: None,
        };
        let mut header = [0; FILE_HEADER];
        let came = reader.read(&mut header)?;
        if came < FILE_HEADER {
            return Err(reader.truncated(FILE_HEADER - came));
        }
        reader.format = Format::parse(&header)?;
        Ok(reader)
    }

    /// What the file's times count.
    pub fn resolution(&self) -> Resolution {
        self.format.resolution
    }

    /// Whether no more packets will come: the file is at its end, or broken.
    pub fn finished(&self) -> bool {
        self.ended || self.error.is_some()
    }

    /// Why reading stopped before the end.
    pub fn error(&self) -> Option<&PcapError> {
        self.error.as_ref()
    }

    /// Records begun so far.
    pub fn records(&self) -> u64 {
        self.record
    }

    pub(super) fn set_now(&mut self, now: u64) {
        self.started.get_or_insert(now);
        self.now = now;
    }

    pub(super) fn receive(
        &mut self,
        port: PortId,
        pool: &mut Pool,
        burst: &mut Burst,
        counters: &mut DeviceCounters,
    ) -> usize {
        let mut came = 0;
        while burst.room() != 0 && !self.finished() {
            match self.receive_one(port, pool, burst, counters) {
                Ok(true) => came += 1,
                Ok(false) => break,
                Err(error) => self.error = Some(error),
            }
        }
        came
    }

    /// Receives the next packet that fits into a frame; false when there is none now.
    fn receive_one(
        &mut self,
        port: PortId,
        pool: &mut Pool,
        burst: &mut Burst,
        counters: &mut DeviceCounters,
    ) -> Result<bool, PcapError> {
        let longest = pool.arena().frame_size().longest_packet();
        loop {
            let Some(record) = self.peek()? else { return Ok(false) };
            if !self.due(record) {
                return Ok(false);
            }
            let Some(len) = u16::try_from(record.len).ok().filter(|&len| usize::from(len) <= longest) else {
                counters.rx_refused += 1;
                self.skip(record.len as usize)?;
                continue;
            };
            let Some(mut frame) = pool.alloc() else {
                counters.fill_starved += 1;
                return Ok(false);
            };
            let room = pool.arena().bytes_mut(&mut frame, HEADROOM as u16, len);
            let filled = self.fill(room);
            if filled.is_err() {
                pool.free(frame);
                return filled.map(|()| false);
            }
            if let Err(packet) = burst.push(Packet { frame, start: HEADROOM as u16, len, port }) {
                counters.rx_refused += 1;
                pool.free(packet.frame);
                continue;
            }
            return Ok(true);
        }
    }

    /// The header of the next record; it stays the next until its packet is read.
    fn peek(&mut self) -> Result<Option<Record>, PcapError> {
        if self.next.is_some() || self.ended {
            return Ok(self.next);
        }
        let start = self.offset;
        self.record += 1;
        let mut header = [0; RECORD_HEADER];
        let came = self.read(&mut header)?;
        if came == 0 {
            self.record -= 1;
            self.ended = true;
            return Ok(None);
        }
        if came < RECORD_HEADER {
            return Err(self.truncated(RECORD_HEADER - came));
        }
        let record = self.format.record(&header);
        if record.len > LONGEST_RECORD {
            return Err(PcapError::TooLong { record: self.record, offset: start, len: record.len });
        }
        self.first.get_or_insert(record.time);
        self.next = Some(record);
        Ok(self.next)
    }

    fn due(&self, record: Record) -> bool {
        match (self.pace, self.started, self.first) {
            (Pace::AsFast, ..) => true,
            (Pace::AsTimed, Some(started), Some(first)) => {
                self.now.saturating_sub(started) >= record.time.saturating_sub(first)
            }
            (Pace::AsTimed, ..) => false,
        }
    }

    /// Reads the packet of the next record.
    fn fill(&mut self, room: &mut [u8]) -> Result<(), PcapError> {
        self.next = None;
        let came = self.read(room)?;
        if came < room.len() { Err(self.truncated(room.len() - came)) } else { Ok(()) }
    }

    /// Passes over the packet of the next record.
    fn skip(&mut self, mut len: usize) -> Result<(), PcapError> {
        let mut scrap = [0; 1024];
        while len > 0 {
            let part = &mut scrap[..len.min(1024)];
            len -= part.len();
            self.fill(part).map_err(|error| match error {
                PcapError::Truncated { record, offset, missing } => {
                    PcapError::Truncated { record, offset, missing: missing + len }
                }
                other => other,
            })?;
        }
        self.next = None;
        Ok(())
    }

    /// Reads until `room` is full or the file ends.
    fn read(&mut self, room: &mut [u8]) -> Result<usize, PcapError> {
        let mut came = 0;
        while let Some(rest) = room.get_mut(came..)
            && !rest.is_empty()
        {
            match self.source.read(rest) {
                Ok(0) => break,
                Ok(count) => {
                    came += count;
                    self.offset += count as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(PcapError::Read { record: self.record, offset: self.offset, source });
                }
            }
        }
        Ok(came)
    }

    fn truncated(&self, missing: usize) -> PcapError {
        PcapError::Truncated { record: self.record, offset: self.offset, missing }
    }
}
