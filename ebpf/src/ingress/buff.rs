//! A packet as XDP has it.

use aya_ebpf::{
    bindings::xdp_md,
    helpers::generated::{bpf_xdp_get_buff_len, bpf_xdp_load_bytes},
};
use core::ffi::c_void;

/// What the kernel hands to the program.
pub(crate) struct Context(pub(crate) *mut xdp_md);

impl Context {
    /// Copies `length` bytes at `offset` to `to`, and says whether they were there (Linux 5.18).
    ///
    /// # Safety
    /// `to` is valid for writes of `length` bytes.
    #[inline(always)]
    pub(crate) unsafe fn load(&self, offset: u32, to: *mut c_void, length: u32) -> bool {
        // SAFETY: the context is the kernel's; the rest is the caller's promise. The helper writes all or fails
        // (net/core/filter.c, `__bpf_xdp_load_bytes`).
        unsafe { bpf_xdp_load_bytes(self.0, offset, to, length) == 0 }
    }

    /// Bytes of the packet. By the helper (Linux 5.18): the difference of two packet pointers takes CAP_PERFMON.
    #[inline(always)]
    pub(crate) fn length(&self) -> u64 {
        // SAFETY: the context is the one that the kernel handed in.
        unsafe { bpf_xdp_get_buff_len(self.0) }
    }
}
