//! Which packets of a port are ours: the same in all objects.
//!
//! Order: parse → block lists → the kernel's share (only where the pipeline routes) → steering. Every packet is counted
//! under one [`XdpReason`].
//!
//! Invariant: whatever is in the maps, also nothing at all, nothing is taken that the port's settings do not name.

use crate::context::Context;
use crate::maps::{BLOCK4, BLOCK6, COUNTERS, LOCAL4, LOCAL6, PORTS, STEER4, STEER6};
use crate::packet::{L3, Packet, Transport};
use aya_ebpf::maps::lpm_trie::Key;
use zsync_ebpf_common::{PortKey, XdpReason, flag};

/// What to do with a packet, before the socket was asked for.
pub(crate) enum Verdict {
    Ours,
    Kernel(XdpReason),
    Drop(XdpReason),
}

use Verdict::{Drop, Kernel, Ours};

/// The verdict on a packet by the port's flags.
#[inline(always)]
pub(crate) fn verdict(ctx: &Context, flags: u32) -> Verdict {
    let mut packet = Packet::new(ctx);
    packet.parse();
    judge(&packet, flags)
}

#[inline(always)]
fn judge(packet: &Packet<'_>, flags: u32) -> Verdict {
    if flags & flag::HAS_BLOCK != 0 && is_blocked(packet) {
        return Drop(XdpReason::DroppedBlocked);
    }
    if flags & flag::L3 != 0 {
        if packet.is_group_addressed {
            return Kernel(XdpReason::PassedMulticast);
        }
        if let Some(reason) = kernels_share(packet, flags) {
            return Kernel(reason);
        }
    }
    if flags & flag::STEER_ALL != 0 {
        // Malformed ones too: the data plane counts what is wrong with them.
        return Ours;
    }
    steer(packet, flags)
}

#[inline(always)]
fn is_blocked(packet: &Packet<'_>) -> bool {
    match packet.l3() {
        L3::V4(ip) => BLOCK4.get(Key::new(32, ip.source())).is_some(),
        L3::V6(ip) => BLOCK6.get(Key::new(128, ip.source())).is_some(),
        L3::Other | L3::Malformed => false,
    }
}

/// What a router's kernel must see itself.
#[inline(always)]
fn kernels_share(packet: &Packet<'_>, flags: u32) -> Option<XdpReason> {
    // Steered ports are named one by one, and mostly on a local address: there the ports decide.
    let check_local = flags & flag::HAS_LOCAL != 0 && flags & flag::STEER_PORTS == 0;
    match packet.l3() {
        L3::Other => Some(XdpReason::PassedNotIp),
        L3::Malformed => None,
        L3::V4(ip) if ip.is_multicast() => Some(XdpReason::PassedMulticast),
        L3::V4(ip) => {
            (check_local && LOCAL4.get_ptr(ip.destination()).is_some()).then_some(XdpReason::PassedLocal)
        }
        L3::V6(ip) if ip.is_multicast() => Some(XdpReason::PassedMulticast),
        L3::V6(ip) if ip.is_link_local() => Some(XdpReason::PassedLinkLocal),
        L3::V6(ip) if ip.is_neighbour_discovery() => Some(XdpReason::PassedNeighbour),
        L3::V6(ip) => {
            (check_local && LOCAL6.get_ptr(ip.destination()).is_some()).then_some(XdpReason::PassedLocal)
        }
    }
}

#[inline(always)]
fn steer(packet: &Packet<'_>, flags: u32) -> Verdict {
    let by_prefix = flags & flag::STEER_PREFIXES != 0;
    let by_port = flags & flag::STEER_PORTS != 0;
    let transport = match packet.l3() {
        L3::Other => return Kernel(XdpReason::PassedNotIp),
        L3::Malformed => return Kernel(XdpReason::PassedMalformed),
        L3::V4(ip) => {
            if by_prefix && STEER4.get(Key::new(32, ip.destination())).is_some() {
                return Ours;
            }
            if !by_port {
                return Kernel(XdpReason::PassedNotSteered);
            }
            ip.transport()
        }
        L3::V6(ip) => {
            if by_prefix && STEER6.get(Key::new(128, ip.destination())).is_some() {
                return Ours;
            }
            if !by_port {
                return Kernel(XdpReason::PassedNotSteered);
            }
            ip.transport()
        }
    };
    match transport {
        Transport::Port(protocol, port) if PORTS.get_ptr(PortKey { protocol, zero: 0, port }).is_some() => {
            Ours
        }
        Transport::Port(..) | Transport::NoPort => Kernel(XdpReason::PassedNotSteered),
        Transport::Fragment => Kernel(XdpReason::PassedFragment),
        Transport::Malformed => Kernel(XdpReason::PassedMalformed),
    }
}

#[inline(always)]
pub(crate) fn count(reason: XdpReason, ctx: &Context) {
    let bytes = ctx.length();
    if let Some(count) = COUNTERS.get_ptr_mut(reason as u32) {
        // SAFETY: this CPU's own element; packets are received with bottom halves off, one by one, so nobody else writes it.
        unsafe {
            (*count).packets += 1;
            (*count).bytes += bytes;
        }
    }
}

// bpf-linker removes it: nothing above can panic.
#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

// No helper used here is reserved for GPL programs.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 18] = *b"MIT OR Apache-2.0\0";
