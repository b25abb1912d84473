//! The walk through the operator's programs.
//!
//! Each is entered by a tail call out of a function, so its verdict comes back here (kernel commit e411901c0b77, Linux 5.10:
//! a tail call in a function ends that function alone) and is counted, whatever the program does: nothing depends on its
//! author's care. A program hands on by returning [`PASS_ON`].
//!
//! Invariant: a packet meets the programs of one [`ChainOrder`], in its order, each at most once.

use aya_ebpf::{
    EbpfContext,
    bindings::{xdp_action, xdp_md},
    macros::map,
    maps::{Array, PerCpuArray, ProgramArray},
    programs::XdpContext,
};
use zsync_ebpf_common::{
    CHAIN_CELLS, CHAIN_COUNTERS, CHAIN_SLOTS, ChainOrder, ChainVerdict, NO_PROGRAM, PASS_ON, chain_count,
};

#[map]
static CHAIN: ProgramArray = ProgramArray::with_max_entries(CHAIN_CELLS as u32, 0);
#[map]
static CHAIN_ORDER: Array<ChainOrder> = Array::with_max_entries(1, 0);
#[map]
static CHAIN_COUNTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(CHAIN_COUNTERS, 0);

/// The verdict of the program that gave one, or none when all passed the packet on.
#[inline(always)]
pub(crate) fn walk(ctx: &XdpContext) -> Option<u32> {
    let order = CHAIN_ORDER.get_ptr(0)?;
    // SAFETY: the map's one element; the word is read once, as the order may change while we walk.
    let cells = unsafe { (&raw const (*order).cells).read_volatile() };
    let chosen = ChainOrder { cells, no_program: NO_PROGRAM, zero: 0 };
    for slot in 0..CHAIN_SLOTS as u32 {
        if slot >= chosen.length() {
            break;
        }
        let cell = chosen.cell(slot);
        // SAFETY: as above.
        let action = enter(ctx.as_ptr().cast(), cell.into(), unsafe { &raw const (*order).no_program });
        match action {
            PASS_ON => count(cell, ChainVerdict::PassedOn),
            xdp_action::XDP_DROP => return verdict(cell, ChainVerdict::Dropped),
            xdp_action::XDP_PASS => return verdict(cell, ChainVerdict::ToKernel),
            xdp_action::XDP_TX => return verdict(cell, ChainVerdict::Transmitted),
            xdp_action::XDP_REDIRECT => return verdict(cell, ChainVerdict::Redirected),
            xdp_action::XDP_ABORTED => return verdict(cell, ChainVerdict::Aborted),
            NO_PROGRAM => return error(cell, ChainVerdict::NoProgram),
            _ => return error(cell, ChainVerdict::NoVerdict),
        }
    }
    None
}

/// The verdict of the program in `cell`. Not to be inlined: the tail call would end the whole walk.
#[inline(never)]
fn enter(ctx: *mut xdp_md, cell: u32, no_program: *const u32) -> u32 {
    // SAFETY: the context is the one that the kernel handed in, and nothing here has to be dropped.
    unsafe { CHAIN.tail_call(&XdpContext::new(ctx), cell) };
    // SAFETY: an element of a map. Volatile: to the compiler a tail call is a call that comes back, so that this would be
    // the only value that this function has.
    unsafe { no_program.read_volatile() }
}

/// Counts the first five, whose numbers are those of the actions.
#[inline(always)]
fn verdict(cell: u8, verdict: ChainVerdict) -> Option<u32> {
    count(cell, verdict);
    Some(verdict as u32)
}

#[inline(always)]
fn error(cell: u8, what: ChainVerdict) -> Option<u32> {
    count(cell, what);
    Some(xdp_action::XDP_ABORTED)
}

#[inline(always)]
fn count(cell: u8, verdict: ChainVerdict) {
    if let Some(count) = CHAIN_COUNTS.get_ptr_mut(chain_count(cell, verdict)) {
        // SAFETY: this CPU's own element; XDP runs with bottom halves off and does not nest, so nobody else writes it.
        unsafe { *count += 1 };
    }
}
