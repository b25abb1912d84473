//! A packet as the kernel's stack has it, from its Ethernet header on: that is where a packet socket's filter and a
//! classifier at ingress begin to count (net/packet/af_packet.c, `packet_rcv`; net/core/dev.c, `sch_handle_ingress`).
//! The outer VLAN tag has been taken off (`skb_vlan_untag`), so what is looked behind are the tags further in: one more than by XDP.

use aya_ebpf::{bindings::__sk_buff, helpers::generated::bpf_skb_load_bytes};
use core::ffi::c_void;

/// What the kernel hands to the program.
pub(crate) struct Context(pub(crate) *mut __sk_buff);

impl Context {
    /// Copies `length` bytes at `offset` to `to`, and says whether they were there.
    ///
    /// # Safety
    /// `to` is valid for writes of `length` bytes.
    #[inline(always)]
    pub(crate) unsafe fn load(&self, offset: u32, to: *mut c_void, length: u32) -> bool {
        // SAFETY: the context is the kernel's; the rest is the caller's promise. A helper that fails writes zeros
        // (net/core/filter.c, `bpf_skb_load_bytes`).
        unsafe { bpf_skb_load_bytes(self.0.cast(), offset, to, length) == 0 }
    }

    /// Bytes of the packet.
    #[inline(always)]
    pub(crate) fn length(&self) -> u64 {
        // SAFETY: the context is the one that the kernel handed in.
        u64::from(unsafe { (*self.0).len })
    }
}
