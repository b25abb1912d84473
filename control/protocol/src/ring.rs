//! An io_uring for one queue: made by control, used by one thread of the data plane.
//!
//! Owns nothing: the descriptor is the caller's. Refuses, for whoever uses the ring: every operation but those of the plan, every file
//! but the one of the plan, and every registration once it is enabled (`EACCES`, io_uring/io_uring.c `io_check_restriction`). A ring in
//! a sandbox would otherwise be a way around the filter of system calls. Keeps true: the ring is disabled until one thread enables it,
//! which is its only user from then on (`IORING_SETUP_SINGLE_ISSUER`), and the kernel works for it only within that thread's calls
//! (`IORING_SETUP_DEFER_TASKRUN`): so nothing is written for a thread that is dead, or dies between two of them.
//!
//! What it takes of memory is charged to control, which made it (io_uring/io_uring.c, `ctx->user`), not to the sandboxed process.

use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::io_uring::{
    IoringFeatureFlags, IoringOp, IoringRegisterOp, IoringRestrictionOp, IoringSetupFlags, IoringSqeFlags,
    io_uring_buf_reg, io_uring_params, io_uring_register, io_uring_restriction, io_uring_setup,
};
use serde::{Deserialize, Serialize};
use std::ffi::c_void;

/// Most entries of a ring's part: more than any queue has use for.
pub const MAX_ENTRIES: u32 = 1 << 15;

/// `IOU_PBUF_RING_MMAP` (include/uapi/linux/io_uring.h, Linux 6.4): the kernel makes the buffer ring's memory.
const KERNEL_MAKES_IT: u16 = 1;

/// What a ring is to be like. Numbers are powers of two, at most [`MAX_ENTRIES`].
#[derive(Clone, Copy, Debug)]
pub struct RingPlan<'a> {
    /// Requests that may wait for one call.
    pub submissions: u32,
    /// Completions that may wait.
    pub completions: u32,
    /// Entries of the ring of buffers to receive into, group 0.
    pub buffers: u32,
    /// What may be asked for.
    pub operations: &'a [IoringOp],
}

/// The ring of a UDP socket. It takes a burst's sends and one request that receives by one call; all of those, and a message in each
/// buffer, can be complete at once. A buffer has room for 64 KiB: more of them cost more where datagrams are joined, whose bytes then fall
/// out of the core's cache, and fewer cost more where they come alone (`cargo bench -p zsync-io --bench udp`).
pub const UDP: RingPlan<'_> = RingPlan {
    submissions: 128,
    completions: 256,
    buffers: 8,
    // The last one ends the request that receives.
    operations: &[IoringOp::Recvmsg, IoringOp::Sendmsg, IoringOp::AsyncCancel],
};

/// Where the parts of a ring lie in its memory, as the kernel said: byte offsets, and numbers of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RingLayout {
    /// Entries of the submission ring.
    pub submissions: u32,
    /// Entries of the completion ring.
    pub completions: u32,
    /// Entries of the ring of buffers.
    pub buffers: u32,
    /// Of the submission ring: consumer index, producer index, flags, entries.
    pub submission: [u32; 4],
    /// Of the completion ring: consumer index, producer index, flags, entries.
    pub completion: [u32; 4],
}

/// Why there is no ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} an io_uring: {errno}{}", remedy(*errno))]
pub struct RingError {
    /// What was tried.
    pub what: &'static str,
    /// The kernel's answer.
    pub errno: Errno,
}

fn remedy(errno: Errno) -> &'static str {
    match errno {
        Errno::PERM | Errno::ACCESS => {
            " (`sysctl kernel.io_uring_disabled` must be 0, or 1 with a group of control's in kernel.io_uring_group)"
        }
        Errno::NOSYS => " (this kernel was built without)",
        Errno::INVAL => " (Linux 6.4 or later is needed)",
        Errno::NOMEM => " (locked memory: CAP_IPC_LOCK is missing, or the cgroup's memory is used up)",
        _ => "",
    }
}

/// Makes a disabled ring for `file`, which requests name as file 0.
///
/// # Errors
/// What the kernel refused, with the remedy where one is known.
pub fn create(file: BorrowedFd<'_>, plan: RingPlan<'_>) -> Result<(OwnedFd, RingLayout), RingError> {
    let failed = |what| move |errno| RingError { what, errno };
    let mut params = io_uring_params::default();
    params.flags = IoringSetupFlags::R_DISABLED
        | IoringSetupFlags::SINGLE_ISSUER
        | IoringSetupFlags::DEFER_TASKRUN
        | IoringSetupFlags::TASKRUN_FLAG
        | IoringSetupFlags::SUBMIT_ALL
        | IoringSetupFlags::CQSIZE;
    params.cq_entries = plan.completions;
    // SAFETY: without `NO_MMAP` the kernel makes the ring's memory itself, and writes what it made into `params`.
    let ring = unsafe { io_uring_setup(plan.submissions, &mut params) }.map_err(failed("making"))?;
    if !params.features.contains(IoringFeatureFlags::SINGLE_MMAP | IoringFeatureFlags::NODROP) {
        return Err(RingError { what: "making", errno: Errno::INVAL });
    }
    register(&ring, IoringRegisterOp::RegisterFiles, &[file.as_raw_fd()])
        .map_err(failed("giving its file to"))?;
    let mut buffers = io_uring_buf_reg::default();
    (buffers.ring_entries, buffers.flags) = (plan.buffers, KERNEL_MAKES_IT);
    register(&ring, IoringRegisterOp::RegisterPbufRing, &[buffers])
        .map_err(failed("making the buffer ring of"))?;
    register(&ring, IoringRegisterOp::RegisterRestrictions, &restrictions(plan.operations))
        .map_err(failed("restricting"))?;
    let (from, to) = (&params.sq_off, &params.cq_off);
    let layout = RingLayout {
        submissions: params.sq_entries,
        completions: params.cq_entries,
        buffers: plan.buffers,
        submission: [from.head, from.tail, from.flags, from.array],
        completion: [to.head, to.tail, to.flags, to.cqes],
    };
    Ok((ring, layout))
}

/// What may be asked for, of file 0 alone.
fn restrictions(operations: &[IoringOp]) -> Vec<io_uring_restriction> {
    let restriction = |kind, fill: &dyn Fn(&mut io_uring_restriction)| {
        let mut restriction = io_uring_restriction::default();
        restriction.opcode = kind;
        fill(&mut restriction);
        restriction
    };
    let operation = |operation: &IoringOp| {
        restriction(IoringRestrictionOp::SqeOp, &|to| to.register_or_sqe_op_or_sqe_flags.sqe_op = *operation)
    };
    let flags = |kind, flags| restriction(kind, &|to| to.register_or_sqe_op_or_sqe_flags.sqe_flags = flags);
    let allowed = IoringSqeFlags::FIXED_FILE | IoringSqeFlags::BUFFER_SELECT;
    let mut all: Vec<_> = operations.iter().map(operation).collect();
    all.push(flags(IoringRestrictionOp::SqeFlagsAllowed, allowed));
    all.push(flags(IoringRestrictionOp::SqeFlagsRequired, IoringSqeFlags::FIXED_FILE));
    all
}

fn register<T>(ring: &OwnedFd, what: IoringRegisterOp, items: &[T]) -> Result<(), Errno> {
    // (The kernel takes one buffer ring, whose number of entries stands in it, as one item.)
    // SAFETY: each operation here reads as many items as it is told, of the type that it is called with, before it returns.
    unsafe {
        io_uring_register(ring.as_fd(), what, items.as_ptr().cast::<c_void>(), items.len() as u32)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{EventfdFlags, eventfd};

    #[test]
    fn a_ring_is_as_was_asked_for_or_it_is_said_what_was_refused() {
        let file = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        let (_ring, layout) = create(file.as_fd(), UDP).unwrap();
        let entries = [layout.submissions, layout.completions, layout.buffers];
        assert_eq!(entries, [UDP.submissions, UDP.completions, UDP.buffers]);
        assert!(entries.iter().all(|count| count.is_power_of_two() && *count <= MAX_ENTRIES));
        let refused = |plan| create(file.as_fd(), plan).unwrap_err().to_string();
        for (plan, part) in [
            (RingPlan { submissions: 0, ..UDP }, "making an io_uring: "),
            (RingPlan { completions: 1, ..UDP }, "making an io_uring: "),
            (RingPlan { buffers: 3, ..UDP }, "making the buffer ring of an io_uring: "),
        ] {
            let said = refused(plan);
            assert!(said.starts_with(part) && said.ends_with("(Linux 6.4 or later is needed)"), "{said}");
        }
    }
}
