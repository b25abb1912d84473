//! `zsync_redirect`: the least that an XDP program can do to forward, for benchmarks to compare with.
//!
//! New MAC addresses, TTL (and the checksum with it) or hop limit, and out by the device map: no routes, no neighbours.
//! Invariant: a packet that it does not forward whole goes to the kernel untouched.
#![no_std]
#![no_main]

use aya_ebpf::{
    bindings::xdp_action,
    macros::{map, xdp},
    maps::{Array, DevMap},
    programs::XdpContext,
};

/// The destination and the source address that packets leave with.
#[map]
static MACS: Array<[u8; 12]> = Array::with_max_entries(1, 0);
/// The device that they leave by.
#[map]
static OUT: DevMap = DevMap::with_max_entries(1, 0);

#[xdp]
pub fn zsync_redirect(ctx: XdpContext) -> u32 {
    forward(&ctx).unwrap_or(xdp_action::XDP_PASS)
}

#[inline(always)]
fn forward(ctx: &XdpContext) -> Option<u32> {
    let macs = *MACS.get(0)?;
    // First, as without a device nothing may be changed. It is only noted: another verdict than this one forgets it.
    let out = OUT.redirect(0, 0).ok()?;
    match u16::from_be_bytes(*field::<2>(ctx, 12)?) {
        0x0800 => {
            let header = field::<20>(ctx, 14)?;
            if header[8] <= 1 {
                return None;
            }
            header[8] -= 1;
            // RFC 1141: one less in the high byte of a word is 0x100 more in the checksum, and the carry comes around.
            let sum = u32::from(u16::from_be_bytes([header[10], header[11]])) + 0x100;
            let sum = (sum + (sum >> 16)) as u16;
            [header[10], header[11]] = sum.to_be_bytes();
        }
        0x86dd => {
            let header = field::<40>(ctx, 14)?;
            if header[7] <= 1 {
                return None;
            }
            header[7] -= 1;
        }
        _ => return None,
    }
    *field::<12>(ctx, 0)? = macs;
    Some(out)
}

/// `N` bytes of the frame at `offset`, when they are there.
#[inline(always)]
fn field<const N: usize>(ctx: &XdpContext, offset: usize) -> Option<&mut [u8; N]> {
    let start = ctx.data() + offset;
    if start + N > ctx.data_end() {
        return None;
    }
    // SAFETY: within the packet by the check above, and bytes have no alignment. The borrows that the caller holds at the
    // same time are of different fields.
    Some(unsafe { &mut *(start as *mut [u8; N]) })
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
