//! `macswap`: source and destination of the Ethernet header change places, so that a packet can go back to who sent it.
//!
//! Where it goes is the next stage's to say: `macswap` ahead of a `patch` that sends a port's packets out of the same port
//! makes a reflector, the far end of a measurement. Looks at the two addresses and nothing else: tags, payload and length
//! stay as they are, whatever they are. Refuses: what is shorter than an Ethernet header.

use crate::stage::{Cx, Stage};
use zsync_packet::burst::Burst;
use zsync_packet::header::ethernet::HEADER_LEN;
use zsync_packet::verdict::{DropReason, Verdict};

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct MacSwap;

impl Stage for MacSwap {
    #[inline]
    fn process(&mut self, burst: &mut Burst, _: &mut Cx<'_>) {
        for i in burst.undecided() {
            match burst.bytes_mut(i).first_chunk_mut() {
                Some(header) => swap(header),
                None => burst.decide(i, Verdict::Drop(DropReason::EthernetTruncated)),
            }
        }
    }

    fn explain(&self, _: &Burst, _: usize, _: u64, out: &mut Vec<String>) {
        out.push("every frame: its two MAC addresses change places".to_owned());
    }
}

/// In registers: two loads, some shifts, two stores.
#[inline]
fn swap(header: &mut [u8; HEADER_LEN]) {
    // Little-endian, so the destination is in the low 48 bits and the source above it.
    let [low @ .., _, _, _, _, _, _] = *header;
    let [_, _, _, _, _, _, _, _, high @ .., _, _] = *header;
    let low = u64::from_le_bytes(low);
    let high = u32::from_le_bytes(high);
    let swapped_low = (low >> 48) | (u64::from(high) << 16) | (low << 48);
    let swapped_high = (low >> 16) as u32;
    header[..8].copy_from_slice(&swapped_low.to_le_bytes());
    header[8..12].copy_from_slice(&swapped_high.to_le_bytes());
}

#[cfg(test)]
mod tests;
