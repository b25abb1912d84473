//! The first frames of an AF_XDP fill ring.
//!
//! Owns: nothing for longer than a call. Control places frames in the fill ring before it binds the socket, because some
//! drivers (ice, i40e) leave queues dead or leak when the ring is empty at bind; the data plane, which owns the rings from
//! then on, does not exist yet. Refuses: rings with no room. Keeps true: an entry is written before the producer index
//! that covers it.
//!
//! Ring layout: include/uapi/linux/if_xdp.h; index discipline: net/xdp/xsk_queue.h in the kernel.

use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use rustix::net::sockopt::xdp_mmap_offsets;
use zsync_packet::region::PAGE;

use crate::shm::{Access, MemoryError, failed, map_span};

/// Offset at which a socket maps its fill ring (`XDP_UMEM_PGOFF_FILL_RING`).
const FILL_RING: u64 = 0x1_0000_0000;

/// Places `addresses` (bytes from the start of the UMEM) in the fill ring of `xsk`, whose size `entries` was set just
/// before with `XDP_UMEM_FILL_RING`; returns how many were placed. Only for a socket that is not bound yet.
///
/// # Errors
/// [`MemoryError::RingSize`] when `entries` is no power of two, [`MemoryError::RingFull`] when there are more addresses
/// than room (then none is placed), or what the kernel said.
pub fn prefill(
    xsk: BorrowedFd<'_>,
    entries: u32,
    addresses: impl IntoIterator<Item = u64>,
) -> Result<u32, MemoryError> {
    if !entries.is_power_of_two() {
        return Err(MemoryError::RingSize { entries });
    }
    let offsets =
        xdp_mmap_offsets(xsk).map_err(failed("getsockopt(XDP_MMAP_OFFSETS)", "an AF_XDP socket"))?.fr;
    let place = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX);
    let (producer, consumer, desc) = (place(offsets.producer), place(offsets.consumer), place(offsets.desc));
    let len = desc.saturating_add(entries as usize * size_of::<u64>());
    let ring = map_span(xsk, len, PAGE, FILL_RING, Access::ReadWrite)?;
    let outside = MemoryError::Length { len };
    let (Some([producer]), Some([consumer]), Some(slots)) =
        (ring.u32s(producer, 1), ring.u32s(consumer, 1), ring.u64s(desc, entries as usize))
    else {
        return Err(outside);
    };

    let first = producer.load(Relaxed);
    let used = first.wrapping_sub(consumer.load(Acquire));
    let mut placed = 0u32;
    for address in addresses {
        if used.saturating_add(placed) >= entries {
            return Err(MemoryError::RingFull { entries, used });
        }
        let index = first.wrapping_add(placed) & (entries - 1);
        if let Some(slot) = slots.get(index as usize) {
            slot.store(address, Relaxed);
        }
        placed += 1;
    }
    producer.store(first.wrapping_add(placed), Release);
    Ok(placed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shm::{Huge, Memory};
    use rustix::net::sockopt::{
        set_xdp_umem_completion_ring_size, set_xdp_umem_fill_ring_size, set_xdp_umem_reg,
    };
    use rustix::net::xdp::{XdpUmemReg, XdpUmemRegFlags};
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    use std::os::fd::{AsFd, OwnedFd};

    /// An AF_XDP socket over a UMEM in shared memory, or why there is none.
    fn socket(memory: &Memory, entries: u32) -> rustix::io::Result<OwnedFd> {
        let xsk = socket_with(AddressFamily::XDP, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        let umem = XdpUmemReg {
            addr: memory.region.base().as_ptr().addr() as u64,
            len: memory.region.len() as u64,
            chunk_size: 2048,
            headroom: 0,
            flags: XdpUmemRegFlags::empty(),
            tx_metadata_len: 0,
        };
        set_xdp_umem_reg(&xsk, umem)?;
        set_xdp_umem_fill_ring_size(&xsk, entries)?;
        set_xdp_umem_completion_ring_size(&xsk, entries)?;
        Ok(xsk)
    }

    #[test]
    fn the_kernel_sees_the_frames_that_were_placed() {
        let memory = Memory::create("zsync-test", 256 * 2048, Huge::Never).unwrap();
        let xsk = match socket(&memory, 64) {
            Ok(xsk) => xsk,
            Err(why) => {
                println!("SKIPPED: no AF_XDP socket ({why}): needs root and CONFIG_XDP_SOCKETS");
                assert!(std::env::var("CI").as_deref() != Ok("true"), "a skipped test fails in CI");
                return;
            }
        };
        assert_eq!(prefill(xsk.as_fd(), 64, (0..40).map(|i| i * 2048)).unwrap(), 40);
        let error = prefill(xsk.as_fd(), 64, (0..25).map(|i| i * 2048)).unwrap_err();
        assert!(matches!(error, MemoryError::RingFull { entries: 64, used: 40 }), "{error}");
        assert_eq!(prefill(xsk.as_fd(), 64, (40..64).map(|i| i * 2048)).unwrap(), 24);

        let offsets = xdp_mmap_offsets(&xsk).unwrap().fr;
        let len = offsets.desc as usize + 64 * 8;
        let ring = map_span(xsk.as_fd(), len, PAGE, FILL_RING, Access::Read).unwrap();
        assert_eq!(ring.u32s(offsets.producer as usize, 1).unwrap()[0].load(Relaxed), 64);
        let slots: Vec<u64> =
            ring.u64s(offsets.desc as usize, 64).unwrap().iter().map(|slot| slot.load(Relaxed)).collect();
        assert_eq!(slots, (0..64).map(|i| i * 2048).collect::<Vec<u64>>());
    }

    #[test]
    fn what_is_no_ring_is_refused() {
        let (pipe, _writer) = std::io::pipe().unwrap();
        assert!(matches!(prefill(pipe.as_fd(), 63, []), Err(MemoryError::RingSize { entries: 63 })));
        assert!(matches!(prefill(pipe.as_fd(), 64, []), Err(MemoryError::System { .. })));
    }
}
