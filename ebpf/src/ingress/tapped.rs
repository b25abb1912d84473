//! Ports without AF_XDP: which packets a packet socket gets, and which ones the kernel then leaves alone.
//!
//! A packet socket gets a copy, and the kernel goes on with the packet. So there are two programs. `zsync_filter`, on the
//! sockets, decides as `zsync_ingress` does and lets in what is ours. `zsync_leave`, a classifier at ingress, comes next
//! on the same CPU for the same packet (net/core/dev.c: `sch_handle_ingress` first delivers to the last tap), and drops what
//! a socket was given. It does not decide that again: the filter leaves a note. So the kernel has a packet if and only if
//! no socket was given it, also while sockets come and go, and when their last descriptor is closed it gets all of them.
//!
//! Invariant: without a note, the classifier does what `zsync_ingress` does without a socket.
#![no_std]
#![no_main]

#[path = "skb.rs"]
mod context;
mod maps;
mod packet;
mod program;

use aya_ebpf::{
    bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC},
    macros::{classifier, map, socket_filter},
    maps::{Array, PerCpuArray},
    programs::{SkBuffContext, TcContext},
};
use context::Context;
use maps::PORT;
use program::{Verdict, count, verdict};
use zsync_ebpf_common::{FALLBACK_CLOSED, XdpReason};

/// Bytes of a packet that a filter keeps: all of it (net/core/filter.c, `sk_filter_trim_cap`), or nothing.
const WHOLE: i64 = u32::MAX as i64;
const NOTHING: i64 = 0;

/// What the filter did with the packet that this CPU is at.
const UNSEEN: u32 = 0;
const PASSED: u32 = 1;
const ENDED: u32 = 2;

/// Whether sockets take packets: 1, or 0.
#[map]
static TAKING: Array<u32> = Array::with_max_entries(1, 0);
/// The note.
#[map]
static SEEN: PerCpuArray<u32> = PerCpuArray::with_max_entries(1, 0);

#[socket_filter]
pub fn zsync_filter(ctx: SkBuffContext) -> i64 {
    let (seen, keep) = filter(&Context(ctx.skb.skb));
    note(seen);
    keep
}

#[inline(always)]
fn filter(packet: &Context) -> (u32, i64) {
    let (Some(1), Some(port)) = (TAKING.get(0), PORT.get(0)) else { return (UNSEEN, NOTHING) };
    let (reason, seen, keep) = match verdict(packet, port.flags) {
        Verdict::Ours => (XdpReason::Redirected, ENDED, WHOLE),
        Verdict::Kernel(reason) => (reason, PASSED, NOTHING),
        Verdict::Drop(reason) => (reason, ENDED, NOTHING),
    };
    count(reason, packet);
    (seen, keep)
}

#[classifier]
pub fn zsync_leave(ctx: TcContext) -> i32 {
    // The next one on the link decides, if there is any; then the stack.
    if leave(&Context(ctx.skb.skb)) { TC_ACT_SHOT } else { TC_ACT_UNSPEC }
}

/// Whether the kernel leaves this packet alone.
#[inline(always)]
fn leave(packet: &Context) -> bool {
    match note(UNSEEN) {
        UNSEEN => {}
        seen => return seen == ENDED,
    }
    let Some(port) = PORT.get(0) else { return false };
    let (reason, dropped) = match verdict(packet, port.flags) {
        Verdict::Ours if port.fallback == FALLBACK_CLOSED => (XdpReason::FallbackClosed, true),
        Verdict::Ours => (XdpReason::FallbackOpen, false),
        Verdict::Kernel(reason) => (reason, false),
        Verdict::Drop(reason) => (reason, true),
    };
    count(reason, packet);
    dropped
}

/// Leaves a note, and returns the one before.
#[inline(always)]
fn note(new: u32) -> u32 {
    let Some(seen) = SEEN.get_ptr_mut(0) else { return UNSEEN };
    // SAFETY: this CPU's own element; packets are received with bottom halves off, one by one, so nobody else writes it.
    unsafe { core::mem::replace(&mut *seen, new) }
}
