//! `zsync_generator`: makes the kernel itself the traffic source.
//!
//! Run by BPF_PROG_TEST_RUN with BPF_F_TEST_XDP_LIVE_FRAMES (net/bpf/test_run.c): each repeat takes a page from a pool,
//! this program writes the headers, and the frame is transmitted by the device that the template names. The pages are
//! used again without being reset, so all headers are written each time: the receiver may have changed any of them.
//!
//! Invariant: a frame too short for the template is aborted, never sent half-written.
#![no_std]
#![no_main]

use aya_ebpf::{
    bindings::xdp_action,
    helpers::{bpf_ktime_get_ns, bpf_redirect},
    macros::{map, xdp},
    maps::{Array, PerCpuArray},
    programs::XdpContext,
};
use zsync_ebpf_common::{
    Pace, TEMPLATE_BYTES, Template,
    probe::{LOAD_MAGIC, Short},
};

const NO_PROBE: Short = Short { run: 0, flow: 0, sequence: 0, intended: 0, departed: 0 };
/// Looks at the clock before a packet goes in any case.
const WAIT: u32 = 1 << 15;

#[map]
static TEMPLATE: Array<Template> = Array::with_max_entries(1, 0);
/// When packets go, by CPU.
#[map]
static PACE: PerCpuArray<Pace> = PerCpuArray::with_max_entries(1, 0);
/// Packets made so far, by CPU.
#[map]
static SEQUENCE: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

#[xdp]
pub fn zsync_generator(ctx: XdpContext) -> u32 {
    generate(&ctx).unwrap_or(xdp_action::XDP_ABORTED)
}

#[inline(always)]
fn generate(ctx: &XdpContext) -> Option<u32> {
    let template = TEMPLATE.get(0)?;
    let n = next()?;
    let (has_probe, probe) = pace(template.flows.max(1))?;
    for i in 0..TEMPLATE_BYTES / 8 {
        if i * 8 >= template.length as usize {
            break;
        }
        let word = *template.bytes.as_chunks::<8>().0.get(i)?;
        *field::<8>(ctx, (i * 8) as u32)? = word;
    }
    if template.flows > 1 && template.source_port_at != 0 {
        let field = field::<2>(ctx, template.source_port_at)?;
        let old = u16::from_be_bytes(*field);
        let new = old.wrapping_add((n % template.flows) as u16);
        *field = new.to_be_bytes();
        amend(ctx, template.l4_checksum_at, old, new)?;
    }
    if template.destinations > 1 && template.destination_at != 0 {
        let field = field::<4>(ctx, template.destination_at)?;
        let old = u32::from_be_bytes(*field);
        let new = old.wrapping_add(n % template.destinations);
        *field = new.to_be_bytes();
        for at in [template.ip_checksum_at, template.l4_checksum_at] {
            amend(ctx, at, (old >> 16) as u16, (new >> 16) as u16)?;
            amend(ctx, at, old as u16, new as u16)?;
        }
    }
    if template.payload_at != 0 {
        if has_probe {
            let (head, front, back) = probe.words(u64::from(template.payload_bytes));
            let at = template.payload_at;
            *field::<4>(ctx, at)? = head.to_be_bytes();
            *field::<8>(ctx, at + 4)? = front.to_be_bytes();
            *field::<2>(ctx, at + 12)? = ((back >> 32) as u16).to_be_bytes();
            *field::<4>(ctx, at + 14)? = (back as u32).to_be_bytes();
        } else {
            *field::<2>(ctx, template.payload_at)? = LOAD_MAGIC;
        }
    }
    // SAFETY: a helper without pointers.
    Some(unsafe { bpf_redirect(template.ifindex, 0) } as u32)
}

/// Waits until the next packet is due, if this CPU has a pace; the packet's probe, if it is to have one.
///
/// Softirqs wait meanwhile, so whoever sets a pace below some 100,000 packets a second makes the runner's batches smaller.
#[inline(always)]
fn pace(flows: u32) -> Option<(bool, Short)> {
    let pace = PACE.get_ptr_mut(0)?;
    // SAFETY: this CPU's own element, and a test run does not nest.
    let pace = unsafe { &mut *pace };
    if pace.rate == 0 {
        return Some((false, NO_PROBE));
    }
    // SAFETY: a helper without pointers.
    let clock = || unsafe { bpf_ktime_get_ns() };
    let mut now = clock();
    if pace.next == 0 {
        pace.next = now;
        pace.first = now;
    }
    // The verifier wants an end; it is some 600 µs away, and a packet that is due later goes early.
    for _ in 0..WAIT {
        if now >= pace.next {
            break;
        }
        now = clock();
    }
    pace.last = now;
    let made = pace.made;
    pace.made += 1;
    // The program has all of it in any case: the verifier wants every word to have a value.
    let mut probe = (false, NO_PROBE);
    if pace.sample != 0 && made % pace.sample == 0 {
        let nth = made / pace.sample;
        let (flow, sequence) = ((nth % u64::from(flows)) as u32, (nth / u64::from(flows)) as u32);
        let (run, intended) = (pace.run as u16, pace.next);
        probe = (true, Short { run, flow, sequence, intended, departed: now });
    }
    if now > pace.next + pace.patience {
        pace.next = now;
    }
    pace.next += pace.whole;
    pace.rest += pace.part;
    if pace.rest >= pace.rate {
        pace.rest -= pace.rate;
        pace.next += 1;
    }
    Some(probe)
}

/// This CPU's next number.
#[inline(always)]
fn next() -> Option<u32> {
    let sequence = SEQUENCE.get_ptr_mut(0)?;
    // SAFETY: this CPU's own element, and a test run does not nest.
    unsafe {
        let n = *sequence;
        *sequence = n.wrapping_add(1);
        Some(n as u32)
    }
}

/// `N` bytes of the frame at `offset`, when they are there and within the template.
#[inline(always)]
fn field<const N: usize>(ctx: &XdpContext, offset: u32) -> Option<&mut [u8; N]> {
    let offset = offset as usize & (TEMPLATE_BYTES - 1);
    let start = ctx.data() + offset;
    if start + N > ctx.data_end() {
        return None;
    }
    // SAFETY: within the packet by the check above, and bytes have no alignment. The borrows that the callers hold at
    // the same time are of different fields.
    Some(unsafe { &mut *(start as *mut [u8; N]) })
}

/// RFC 1624, equation 3: HC' = ~(~HC + ~m + m').
#[inline(always)]
fn amend(ctx: &XdpContext, at: u32, old: u16, new: u16) -> Option<()> {
    if at == 0 || old == new {
        return Some(());
    }
    let checksum = field::<2>(ctx, at)?;
    let mut sum = u32::from(!u16::from_be_bytes(*checksum)) + u32::from(!old) + u32::from(new);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    *checksum = (!(sum as u16)).to_be_bytes();
    Some(())
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
