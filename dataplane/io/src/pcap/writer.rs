//! Writing a capture: what is sent becomes records.
//!
//! Owns: the file's end. Refuses: packets after an error, which stay with the caller. Keeps true: the same packets with the
//! same stamps give the same bytes, whatever the sizes of bursts; every packet that was taken is in the file, or `error` or
//! [`Writer::finish`] says why not.

use super::PcapError;
use super::format::{file_header, record_header};
use std::io::{BufWriter, Write};
use zsync_packet::burst::Packet;
use zsync_packet::pool::Pool;

/// Nanoseconds that a written packet waits before it is passed on unless forced: a file need not be up to date sooner, and
/// each time costs a system call.
const PASS_ON_AFTER: u64 = 100_000_000;

/// What time a record gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stamps {
    /// The `now` of the last flush, in nanoseconds; 0 before the first.
    #[default]
    Now,
    /// Its place in the file, from 0, as nanoseconds: the same in every run.
    Count,
}

/// A capture that is written, with times in nanoseconds. See the module.
#[derive(Debug)]
pub struct Writer<W: Write> {
    sink: BufWriter<W>,
    stamps: Stamps,
    now: u64,
    /// Packets that were not passed on yet, and since when.
    waiting: u64,
    waiting_since: u64,
    written: u64,
    error: Option<PcapError>,
}

impl<W: Write> Writer<W> {
    /// Starts a capture with its header.
    ///
    /// # Errors
    /// The header cannot be written.
    pub fn new(sink: W, stamps: Stamps) -> Result<Self, PcapError> {
        let mut sink = BufWriter::with_capacity(1 << 16, sink);
        sink.write_all(&file_header()).map_err(|source| PcapError::Write { record: 0, source })?;
        Ok(Self { sink, stamps, now: 0, waiting: 0, waiting_since: 0, written: 0, error: None })
    }

    /// Packets that were taken.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Why writing stopped.
    pub fn error(&self) -> Option<&PcapError> {
        self.error.as_ref()
    }

    /// Passes everything on and gives the sink back.
    ///
    /// # Errors
    /// The error that stopped it before, or the one of passing on.
    pub fn finish(mut self) -> Result<W, PcapError> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        let record = self.written;
        self.sink.into_inner().map_err(|error| PcapError::Write { record, source: error.into_error() })
    }

    pub(super) fn unflushed(&self) -> bool {
        self.waiting != 0
    }

    pub(super) fn send(&mut self, pool: &mut Pool, packets: &mut Vec<Packet>) -> usize {
        let mut taken = 0;
        for packet in packets.iter() {
            if self.error.is_some() {
                break;
            }
            let time = match self.stamps {
                Stamps::Now => self.now,
                Stamps::Count => self.written,
            };
            let bytes = pool.arena().bytes(&packet.frame, packet.start, packet.len);
            let header = record_header(time, bytes.len() as u16);
            match self.sink.write_all(&header).and_then(|()| self.sink.write_all(bytes)) {
                Ok(()) => {
                    taken += 1;
                    self.written += 1;
                }
                Err(source) => self.error = Some(PcapError::Write { record: self.written + 1, source }),
            }
        }
        packets.drain(..taken).for_each(|packet| pool.free(packet.frame));
        self.waiting += taken as u64;
        taken
    }

    pub(super) fn flush(&mut self, now: u64, force: bool) {
        self.now = now;
        if self.waiting == 0 {
            self.waiting_since = now;
            return;
        }
        if !force && now.saturating_sub(self.waiting_since) < PASS_ON_AFTER {
            return;
        }
        if self.error.is_none()
            && let Err(source) = self.sink.flush()
        {
            self.error = Some(PcapError::Write { record: self.written, source });
        }
        self.waiting = 0;
        self.waiting_since = now;
    }
}
