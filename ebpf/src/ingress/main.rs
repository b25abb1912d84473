//! `zsync_ingress`: which packets of a port are ours, and on to the AF_XDP socket of their queue.
//!
//! Order: parse → block lists → the kernel's share (only where the pipeline routes) → steering → redirect. Everything
//! that is not ours goes to the kernel untouched, and every packet is counted under one [`XdpReason`].
//!
//! Invariant: whatever is in the maps, also nothing at all, the program passes to the kernel what it is not told to take.
#![no_std]
#![no_main]

#[path = "buff.rs"]
mod context;
mod maps;
mod packet;
mod program;
mod redirect;

use aya_ebpf::{macros::xdp, programs::XdpContext};

#[xdp]
pub fn zsync_ingress(ctx: XdpContext) -> u32 {
    redirect::ingress(&ctx)
}
