//! Drops answers that nobody here asked for: UDP from the ports of services that attackers let answer in their stead (DNS, NTP,
//! CLDAP, SSDP, memcached), when they are longer than `longest` bytes. IPv4 and IPv6; everything else goes on.
//!
//! ```text
//! [port.wan]
//! xdp = [ { object = "amplified", program = "amplified", params = { longest = 468 } } ]
//! ```
//!
//! It is built as zsync's own programs are: for `bpfel-unknown-none`, `core` along with it, by bpf-linker
//! (`ebpf/build/src/lib.rs` has the command). Its dependencies are aya-ebpf and zsync-xdp.
#![no_std]
#![no_main]

use aya_ebpf::{Global, bindings::xdp_action, macros::xdp, programs::XdpContext};
use zsync_xdp::pass_on;

/// The longest UDP datagram, header and all, that such a service may send. 468 is NTP's without its extensions, and more.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "the name is the parameter's in the configuration")]
static longest: Global<u16> = Global::new(468);

const REFLECTORS: [u16; 5] = [53, 123, 389, 1900, 11211];

#[xdp]
pub fn amplified(ctx: XdpContext) -> u32 {
    match datagram(&ctx) {
        Some((source, length)) if REFLECTORS.contains(&source) && length > longest.load() => {
            xdp_action::XDP_DROP
        }
        _ => pass_on(&ctx),
    }
}

/// Source port and length of a UDP datagram right behind an IP header without options.
#[inline(always)]
fn datagram(ctx: &XdpContext) -> Option<(u16, u16)> {
    let [.., high, low] = *field::<14>(ctx, 0)?;
    let at = match u16::from_be_bytes([high, low]) {
        0x0800 => {
            let header = field::<20>(ctx, 14)?;
            // A later fragment has no ports.
            let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x1fff;
            (header[0] == 0x45 && header[9] == 17 && fragment == 0).then_some(34)?
        }
        0x86dd => (field::<40>(ctx, 14)?[6] == 17).then_some(54)?,
        _ => return None,
    };
    let &[source_high, source_low, _, _, length_high, length_low] = field::<6>(ctx, at)?;
    Some((u16::from_be_bytes([source_high, source_low]), u16::from_be_bytes([length_high, length_low])))
}

/// `N` bytes of the frame at `offset`, when they are there.
#[inline(always)]
fn field<const N: usize>(ctx: &XdpContext, offset: usize) -> Option<&[u8; N]> {
    let start = ctx.data() + offset;
    if start + N > ctx.data_end() {
        return None;
    }
    // SAFETY: within the packet by the check above, and bytes have no alignment.
    Some(unsafe { &*(start as *const [u8; N]) })
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
