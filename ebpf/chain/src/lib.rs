//! What an XDP program in Rust needs to run ahead of zsync on a port; `zsync_xdp.h` is the same for C.
//!
//! Such a program is any XDP program (section `xdp`). Each of its ways out is a verdict, which is final, or
//!
//! ```ignore
//! return pass_on(&ctx);
//! ```
//!
//! which hands the packet, as it is now, to the next program of the port's chain and, after the last one, to zsync.
//! `XDP_PASS` is a verdict too: it gives the packet to the kernel, past zsync.
//!
//! Numbers that the configuration sets (`params = { longest = 512 }`) are globals of the program:
//!
//! ```ignore
//! #[unsafe(no_mangle)]
//! static longest: Global<u16> = Global::new(468);   // aya_ebpf::Global
//! …
//! if length > longest.load() { … }
//! ```
//!
//! Maps that are pinned by name keep their entries when the program is replaced; all others begin empty.
#![no_std]
#![forbid(unsafe_code)]

use aya_ebpf::programs::XdpContext;

/// What [`pass_on`] returns: no XDP action.
pub const PASS_ON: u32 = 0x7a73;

/// Hands the packet to the next program of the chain, when the program returns this.
#[inline(always)]
#[must_use = "the packet is handed on only if the program returns this"]
pub fn pass_on(_ctx: &XdpContext) -> u32 {
    PASS_ON
}
