//! `zsync_ingress` with a chain of the operator's own programs ahead of it.
//!
//! An object of its own, so that a port without a chain pays nothing, and a kernel that cannot do this refuses the chain
//! alone. Both objects share all maps but those of the chain; control puts one in the other's place on the link.
#![no_std]
#![no_main]

mod chain;
#[path = "buff.rs"]
mod context;
mod maps;
mod packet;
mod program;
mod redirect;

use aya_ebpf::{macros::xdp, programs::XdpContext};

#[xdp]
pub fn zsync_ingress(ctx: XdpContext) -> u32 {
    match chain::walk(&ctx) {
        Some(action) => action,
        None => redirect::ingress(&ctx),
    }
}
