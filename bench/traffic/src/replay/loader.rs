//! The loader: a capture's packets, of either format, as bytes and times in memory.

use std::io::Read;

use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::{Block, PcapNgReader};
use pcap_file::{DataLink, PcapError};

use super::ReplayError;

/// Where a packet lies in the bytes of all, and when it leaves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// Since the first packet, in ns of the capture.
    pub(super) time: u64,
    pub(super) start: u32,
    pub(super) len: u32,
}

/// Reads packets into memory, whatever the format.
#[derive(Debug)]
pub(super) struct Loader {
    pub(super) bytes: Vec<u8>,
    pub(super) entries: Vec<Entry>,
    first: Option<u128>,
    /// When the last packet leaves.
    pub(super) last: u64,
    timed: bool,
}

impl Loader {
    /// Whether every packet must be `timed`.
    pub(super) fn new(timed: bool) -> Self {
        Self { bytes: Vec::new(), entries: Vec::new(), first: None, last: 0, timed }
    }

    fn number(&self) -> u64 {
        self.entries.len() as u64 + 1
    }

    fn add(
        &mut self,
        link: DataLink,
        time: Option<u128>,
        original: u32,
        data: &[u8],
    ) -> Result<(), ReplayError> {
        let packet = self.number();
        if link != DataLink::ETHERNET {
            return Err(ReplayError::Link { packet, link: link.into() });
        }
        if data.is_empty() || data.len() < original as usize {
            return Err(ReplayError::Cut { packet, captured: data.len(), original });
        }
        if time.is_none() && self.timed {
            return Err(ReplayError::Timeless { packet });
        }
        let time = time.unwrap_or(0);
        // Captures of several queues can be a little out of order: a packet leaves no earlier than the one before.
        let since = time.saturating_sub(*self.first.get_or_insert(time));
        self.last = u64::try_from(since).unwrap_or(u64::MAX).max(self.last);
        let (Ok(start), Ok(len)) = (u32::try_from(self.bytes.len()), u32::try_from(data.len())) else {
            return Err(ReplayError::TooMuch { packet });
        };
        self.bytes.extend_from_slice(data);
        self.entries.push(Entry { time: self.last, start, len });
        Ok(())
    }

    /// All packets of a pcap file.
    pub(super) fn pcap(&mut self, reader: impl Read) -> Result<(), ReplayError> {
        let mut reader = PcapReader::new(reader).map_err(ReplayError::Head)?;
        let link = reader.header().datalink;
        while let Some(packet) = reader.next_packet() {
            let packet = packet.map_err(|source| ReplayError::Packet { packet: self.number(), source })?;
            self.add(link, Some(packet.timestamp.as_nanos()), packet.orig_len, &packet.data)?;
        }
        Ok(())
    }

    /// All packets of a pcapng file.
    pub(super) fn pcapng(&mut self, reader: impl Read) -> Result<(), ReplayError> {
        let mut reader = PcapNgReader::new(reader).map_err(ReplayError::Head)?;
        // The reader's own list cannot be looked at while a block of it is held.
        let mut interfaces: Vec<(DataLink, u8)> = Vec::new();
        while let Some(block) = reader.next_block() {
            let block = block.map_err(|source| ReplayError::Packet { packet: self.number(), source })?;
            let packet = self.number();
            let interface = |interfaces: &[(DataLink, u8)], id: u32| {
                let source = PcapError::InvalidInterfaceId(id);
                interfaces.get(id as usize).copied().ok_or(ReplayError::Packet { packet, source })
            };
            match block {
                Block::SectionHeader(_) => interfaces.clear(),
                Block::InterfaceDescription(found) => interfaces.push((found.linktype, resolution(&found))),
                Block::EnhancedPacket(found) => {
                    let (link, resolution) = interface(&interfaces, found.interface_id)?;
                    // The crate hands on the file's units as if they were nanoseconds.
                    let time = nanoseconds(found.timestamp.as_nanos(), resolution);
                    self.add(link, Some(time), found.original_len, &found.data)?;
                }
                Block::SimplePacket(found) => {
                    let (link, _) = interface(&interfaces, 0)?;
                    self.add(link, None, found.original_len, &found.data)?;
                }
                Block::Packet(found) => {
                    let (link, resolution) = interface(&interfaces, found.interface_id.into())?;
                    let time = nanoseconds(found.timestamp.into(), resolution);
                    self.add(link, Some(time), found.original_len, &found.data)?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// What an interface counts its times in (`if_tsresol`): microseconds if it does not say.
fn resolution(interface: &InterfaceDescriptionBlock<'_>) -> u8 {
    let said = interface.options.iter().find_map(|option| match option {
        InterfaceDescriptionOption::IfTsResol(resolution) => Some(*resolution),
        _ => None,
    });
    said.unwrap_or(6)
}

/// Units of 10^-r s, or with the high bit of 2^-r s, as nanoseconds. Times are 64 bits wide, so nothing overflows.
pub(super) fn nanoseconds(units: u128, resolution: u8) -> u128 {
    const SECOND: u128 = 1_000_000_000;
    match resolution {
        binary @ 128.. => (units * SECOND).checked_shr(u32::from(binary & 127)).unwrap_or(0),
        decimal => 10u128.checked_pow(decimal.into()).map_or(0, |unit| units * SECOND / unit),
    }
}
