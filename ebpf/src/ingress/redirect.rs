//! What XDP does with a packet that is ours: on to the AF_XDP socket of its queue.
//!
//! Invariant: whatever is in the maps, also nothing at all, the program passes to the kernel what it is not told to take.

use crate::context::Context;
use crate::maps::PORT;
use crate::program::{Verdict, count, verdict};
use aya_ebpf::{bindings::xdp_action, macros::map, maps::XskMap, programs::XdpContext};
use zsync_ebpf_common::{FALLBACK_CLOSED, MAX_QUEUES, PortConfig, XdpReason};

#[map]
static XSKS: XskMap = XskMap::with_max_entries(MAX_QUEUES, 0);

/// What becomes of a packet; it is counted.
#[inline(always)]
pub(crate) fn ingress(ctx: &XdpContext) -> u32 {
    let Some(port) = PORT.get(0) else { return xdp_action::XDP_PASS };
    let port = *port;
    let packet = Context(ctx.ctx);
    let (reason, action) = match verdict(&packet, port.flags) {
        Verdict::Ours => redirect(ctx, port),
        Verdict::Kernel(reason) => (reason, xdp_action::XDP_PASS),
        Verdict::Drop(reason) => (reason, xdp_action::XDP_DROP),
    };
    count(reason, &packet);
    action
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
