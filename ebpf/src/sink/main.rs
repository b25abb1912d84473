//! `zsync_sink`: the far end of a measurement. Counts the packets of a run, or hands them to AF_XDP sockets.
//!
//! Owns: what a run's packets are (eight bytes at one place, under a mask) and their count, by CPU. Leaves everything else
//! to the kernel, so that the device goes on working (ARP, neighbour discovery).
//!
//! A packet for a socket can be given its arrival time: the kernel's monotonic clock, in 8 bytes in front of the Ethernet
//! header. In front, not in the metadata area: a reader then needs nothing but the packet, and whether there is a time
//! cannot be in doubt (a driver without metadata leaves the frame's old bytes there).
//!
//! Invariant: each packet counts under exactly one of matched, load, foreign, lost.
#![no_std]
#![no_main]

use aya_ebpf::{
    bindings::xdp_action,
    helpers::{bpf_ktime_get_ns, bpf_xdp_adjust_head, generated::bpf_xdp_get_buff_len},
    macros::{map, xdp},
    maps::{Array, PerCpuArray, XskMap},
    programs::XdpContext,
};

/// What is done with the packets of a run: `Sink::action`.
const COUNT: u32 = 0;
const REDIRECT_STAMPED: u32 = 2;
/// Bytes of the arrival time.
const STAMP: usize = 8;
/// The eight bytes start below this: the verifier wants a bound.
const OFFSETS: u32 = 256;

/// What user space writes; `bench/xsk` has the same layout.
#[repr(C)]
#[derive(Clone, Copy)]
struct Sink {
    action: u32,
    /// Offset of the eight bytes; taken modulo 256.
    at: u32,
    /// The bits that count, in the packet's order of bytes. Zero: all packets are of the run.
    mask: u64,
    value: u64,
    /// Under the same mask: packets that are only load, which are counted and dropped, whatever is done with the others.
    /// Zero: there is none.
    load: u64,
}

/// What user space reads.
#[repr(C)]
#[derive(Clone, Copy)]
struct Count {
    matched: u64,
    /// Bytes of those, from the Ethernet header on.
    bytes: u64,
    /// Left to the kernel.
    foreign: u64,
    /// Of the run, but without a socket on their queue, or without room for the time: dropped.
    lost: u64,
    /// Load.
    load: u64,
}

#[map]
static SINK: Array<Sink> = Array::with_max_entries(1, 0);
#[map]
static COUNTS: PerCpuArray<Count> = PerCpuArray::with_max_entries(1, 0);
#[map]
static SOCKETS: XskMap = XskMap::with_max_entries(1024, 0);

#[xdp]
pub fn zsync_sink(ctx: XdpContext) -> u32 {
    let (Some(sink), Some(count)) = (SINK.get(0), COUNTS.get_ptr_mut(0)) else {
        return xdp_action::XDP_PASS;
    };
    // SAFETY: this CPU's own element; XDP runs with bottom halves off and does not nest, so nobody else writes it.
    let count = unsafe { &mut *count };
    match kind(&ctx, sink) {
        Kind::Run => {}
        Kind::Load => {
            count.load += 1;
            return xdp_action::XDP_DROP;
        }
        Kind::Foreign => {
            count.foreign += 1;
            return xdp_action::XDP_PASS;
        }
    }
    // By the helper: the difference of two packet pointers takes CAP_PERFMON.
    // SAFETY: the context is the one that the kernel handed in.
    let bytes = unsafe { bpf_xdp_get_buff_len(ctx.ctx) };
    let action = match sink.action {
        COUNT => xdp_action::XDP_DROP,
        REDIRECT_STAMPED if !stamp(&ctx) => xdp_action::XDP_ABORTED,
        // No socket: the lower bits of the flags are the verdict (net/core/filter.c, `bpf_redirect_map`).
        _ => SOCKETS
            .redirect(ctx.rx_queue_index(), u64::from(xdp_action::XDP_ABORTED))
            .unwrap_or(xdp_action::XDP_ABORTED),
    };
    if action == xdp_action::XDP_ABORTED {
        count.lost += 1;
        return xdp_action::XDP_DROP;
    }
    count.matched += 1;
    count.bytes += bytes;
    action
}

enum Kind {
    Run,
    Load,
    Foreign,
}

#[inline(always)]
fn kind(ctx: &XdpContext, sink: &Sink) -> Kind {
    if sink.mask == 0 {
        return Kind::Run;
    }
    let start = ctx.data() + (sink.at & (OFFSETS - 1)) as usize;
    if start + 8 > ctx.data_end() {
        return Kind::Foreign;
    }
    // SAFETY: within the packet by the check above.
    let word = unsafe { (start as *const u64).read_unaligned() } & sink.mask;
    if word == sink.value {
        Kind::Run
    } else if sink.load != 0 && word == sink.load {
        Kind::Load
    } else {
        Kind::Foreign
    }
}

/// Puts the time in front of the packet; false when there is no headroom.
#[inline(always)]
fn stamp(ctx: &XdpContext) -> bool {
    // SAFETY: a helper without pointers.
    let now = unsafe { bpf_ktime_get_ns() };
    // SAFETY: the context is the one that the kernel handed in.
    if unsafe { bpf_xdp_adjust_head(ctx.ctx, -(STAMP as i32)) } != 0 {
        return false;
    }
    let start = ctx.data();
    if start + STAMP > ctx.data_end() {
        return false;
    }
    // SAFETY: within the packet by the check above.
    unsafe { (start as *mut u64).write_unaligned(now) };
    true
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

// No helper used here is reserved for GPL programs.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 18] = *b"MIT OR Apache-2.0\0";
