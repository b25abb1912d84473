//! What becomes of a packet that `zsync_ingress` has: the same in both of its objects.
//!
//! Order: parse → block lists → the kernel's share (only where the pipeline routes) → steering → redirect. Everything
//! that is not ours goes to the kernel untouched, and every packet is counted under one [`XdpReason`].
//!
//! Invariant: whatever is in the maps, also nothing at all, the program passes to the kernel what it is not told to take.

use crate::maps::{BLOCK4, BLOCK6, COUNTERS, LOCAL4, LOCAL6, PORT, PORTS, STEER4, STEER6, XSKS};
use crate::packet::{L3, Packet, Transport};
use aya_ebpf::{
    bindings::xdp_action, helpers::generated::bpf_xdp_get_buff_len, maps::lpm_trie::Key, programs::XdpContext,
};
use zsync_ebpf_common::{FALLBACK_CLOSED, PortConfig, PortKey, XdpReason, flag};

/// What to do with a packet, before the socket was asked for.
enum Verdict {
    Ours,
    Kernel(XdpReason),
    Drop(XdpReason),
}

use Verdict::{Drop, Kernel, Ours};

/// What becomes of a packet; it is counted.
#[inline(always)]
pub(crate) fn ingress(ctx: &XdpContext) -> u32 {
    let Some(port) = PORT.get(0) else { return xdp_action::XDP_PASS };
    let port = *port;
    let mut packet = Packet::new(ctx);
    packet.parse();
    let (reason, action) = match judge(&packet, port.flags) {
        Ours => redirect(ctx, port),
        Kernel(reason) => (reason, xdp_action::XDP_PASS),
        Drop(reason) => (reason, xdp_action::XDP_DROP),
    };
    count(reason, ctx);
    action
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

/// To the socket of the packet's queue; the kernel answers with the fallback when there is none
/// (net/core/filter.c, `bpf_redirect_map`: the lower two bits of the flags).
#[inline(always)]
fn redirect(ctx: &XdpContext, port: PortConfig) -> (XdpReason, u32) {
    match XSKS.redirect(ctx.rx_queue_index(), u64::from(port.fallback & 3)) {
        Ok(action) => (XdpReason::Redirected, action),
        Err(action) if action == FALLBACK_CLOSED => (XdpReason::FallbackClosed, xdp_action::XDP_DROP),
        Err(_) => (XdpReason::FallbackOpen, xdp_action::XDP_PASS),
    }
}

#[inline(always)]
fn count(reason: XdpReason, ctx: &XdpContext) {
    // By the helper (Linux 5.18): the difference of two packet pointers takes CAP_PERFMON.
    // SAFETY: the context is the one that the kernel handed in.
    let bytes = unsafe { bpf_xdp_get_buff_len(ctx.ctx) };
    if let Some(count) = COUNTERS.get_ptr_mut(reason as u32) {
        // SAFETY: this CPU's own element; XDP runs with bottom halves off and does not nest, so nobody else writes it.
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
