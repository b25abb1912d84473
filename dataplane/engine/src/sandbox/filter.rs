//! The system calls that are left to a sandboxed process, and to a worker in it.
//!
//! Owns: the two allow-lists. Refuses, with EPERM and a line in the kernel's log: every other call. (EPERM and not death: a
//! library that tries something optional, as glibc does when it prints a panic, goes on without it, and a test can see
//! each refusal.) Keeps true: nothing here opens, creates or names anything: every object that can be used was passed in;
//! and no memory becomes executable. Calls of another architecture or ABI kill the process (`seccompiler` sees to it).

#![forbid(unsafe_code)]

use super::Needs;
use std::collections::BTreeMap;

use seccompiler::SeccompCmpArgLen::{Dword, Qword};
use seccompiler::SeccompCmpOp::{Eq, MaskedEq};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

/// What `clone` must be asked for, and what else makes the result something other than a thread of this process.
const THREAD: u64 = (libc::CLONE_THREAD | libc::CLONE_VM | libc::CLONE_SIGHAND) as u64;
const NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP) as u64;

/// Numbers of include/uapi/linux/io_uring.h.
const IORING_ENTER_GETEVENTS: u64 = 1;
const IORING_REGISTER_ENABLE_RINGS: u64 = 12;

/// `clone3` passes its flags in memory, which a filter cannot read: saying that it does not exist makes glibc use `clone`.
/// A filter of its own, because a filter has one answer.
pub(super) fn threads_by_clone() -> Result<BpfProgram, BackendError> {
    let rules = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let nosys = SeccompAction::Errno(libc::ENOSYS as u32);
    SeccompFilter::new(rules, SeccompAction::Allow, nosys, std::env::consts::ARCH.try_into()?)?.try_into()
}

/// What the main thread, and threads that it starts, may call.
pub(super) fn process() -> Result<BpfProgram, BackendError> {
    let mut list = AllowList::common()?;
    list.calls(&[
        // The channel to control: messages and descriptors, and the listener on which the next control knocks.
        libc::SYS_sendmsg,
        libc::SYS_recvmsg,
        // The same of packet sockets, many at once.
        libc::SYS_sendmmsg,
        libc::SYS_recvmmsg,
        libc::SYS_accept4,
        // Memory and payloads that were passed.
        libc::SYS_fstat,
        libc::SYS_lseek,
        libc::SYS_pread64,
        // Waking workers.
        libc::SYS_eventfd2,
        // Starting and pinning them. (`clone3` is answered by the other filter.)
        libc::SYS_clone3,
        libc::SYS_sched_setaffinity,
    ]);
    list.call_if(libc::SYS_clone, &[(0, Qword, MaskedEq(THREAD | NAMESPACES), THREAD)])?;
    list.call_if(libc::SYS_mmap, &[NOT_EXECUTABLE])?;
    list.rings()?;
    // The one request that sockets of the standard library need; no device's.
    list.call_if(libc::SYS_ioctl, &[(1, Dword, Eq, u64::from(libc::FIONBIO as u32))])?;
    let flags = libc::SECCOMP_FILTER_FLAG_LOG;
    let set_filter = u64::from(libc::SECCOMP_SET_MODE_FILTER);
    list.call_if(libc::SYS_seccomp, &[(0, Dword, Eq, set_filter), (1, Qword, Eq, flags)])?;
    for option in [libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_GET_NO_NEW_PRIVS, libc::PR_GET_SECCOMP] {
        list.call_if(libc::SYS_prctl, &[(0, Dword, Eq, option as u64)])?;
    }
    list.compile()
}

/// What a worker may call: on top of [`process`], which goes on to hold.
pub(super) fn worker(needs: Needs) -> Result<BpfProgram, BackendError> {
    let mut list = AllowList::common()?;
    if needs.messages {
        list.calls(&[libc::SYS_sendmmsg, libc::SYS_recvmsg]);
    }
    if needs.bursts {
        list.calls(&[libc::SYS_sendmmsg, libc::SYS_recvmmsg]);
    }
    if needs.rings {
        list.rings()?;
    }
    let anonymous = libc::MAP_ANONYMOUS as u64;
    list.call_if(libc::SYS_mmap, &[NOT_EXECUTABLE, (3, Dword, MaskedEq(anonymous), anonymous)])?;
    list.compile()
}

/// Argument, how wide it is, how it is compared, with what.
type Condition = (u8, SeccompCmpArgLen, SeccompCmpOp, u64);

/// For `mmap` and `mprotect`.
const NOT_EXECUTABLE: Condition = (2, Qword, MaskedEq(libc::PROT_EXEC as u64), 0);

/// Allowed calls: each with the rules of which one must hold, or with none to allow it always.
struct AllowList(BTreeMap<i64, Vec<SeccompRule>>);

impl AllowList {
    /// What every thread needs.
    fn common() -> Result<Self, BackendError> {
        let mut list = Self(BTreeMap::new());
        list.calls(&[
            // Descriptors that are there: eventfd, TUN, log.
            libc::SYS_read,
            libc::SYS_readv,
            libc::SYS_write,
            libc::SYS_writev,
            libc::SYS_close,
            // A worker with nothing to do blocks here.
            libc::SYS_ppoll,
            // AF_XDP: wake the kernel's receive side, read statistics. (Its send side is below.)
            libc::SYS_recvfrom,
            libc::SYS_getsockopt,
            // Memory. (`mmap` and `mprotect` have conditions.)
            libc::SYS_munmap,
            libc::SYS_mremap,
            libc::SYS_madvise,
            libc::SYS_brk,
            // Waiting and time.
            libc::SYS_futex,
            libc::SYS_sched_yield,
            libc::SYS_nanosleep,
            libc::SYS_clock_nanosleep,
            libc::SYS_clock_gettime,
            libc::SYS_clock_getres,
            libc::SYS_gettimeofday,
            libc::SYS_restart_syscall,
            // The life of a thread, and its signals.
            libc::SYS_set_robust_list,
            libc::SYS_rseq,
            libc::SYS_rt_sigaction,
            libc::SYS_rt_sigprocmask,
            libc::SYS_rt_sigreturn,
            libc::SYS_sigaltstack,
            libc::SYS_getpid,
            libc::SYS_gettid,
            libc::SYS_getcpu,
            libc::SYS_sched_getaffinity,
            libc::SYS_getrandom,
            libc::SYS_exit,
            libc::SYS_exit_group,
        ]);
        #[cfg(target_arch = "x86_64")]
        list.calls(&[libc::SYS_poll]);
        list.call_if(libc::SYS_mprotect, &[NOT_EXECUTABLE])?;
        // To where the socket is bound, that is: to its own queue. Any address would be somewhere else.
        list.call_if(libc::SYS_sendto, &[(4, Qword, Eq, 0)])?;
        // For abort(3).
        list.call_if(libc::SYS_tgkill, &[(0, Dword, Eq, u64::from(std::process::id()))])?;
        let commands = [
            libc::F_GETFD,
            libc::F_SETFD,
            libc::F_GETFL,
            libc::F_SETFL,
            libc::F_DUPFD_CLOEXEC,
            libc::F_GET_SEALS,
        ];
        for command in commands {
            list.call_if(libc::SYS_fcntl, &[(1, Dword, Eq, command as u64)])?;
        }
        Ok(list)
    }

    /// The use of rings that were passed, which say themselves what may be done with which file. None can be made or changed.
    fn rings(&mut self) -> Result<(), BackendError> {
        let nothing_more = (4, Qword, Eq, 0);
        self.call_if(libc::SYS_io_uring_enter, &[(3, Dword, Eq, IORING_ENTER_GETEVENTS), nothing_more])?;
        self.call_if(libc::SYS_io_uring_register, &[(1, Dword, Eq, IORING_REGISTER_ENABLE_RINGS)])
    }

    fn calls(&mut self, calls: &[i64]) {
        self.0.extend(calls.iter().map(|call| (*call, Vec::new())));
    }

    /// Allows `call` where all `conditions` hold, beside the conditions of earlier calls of this method.
    fn call_if(&mut self, call: i64, conditions: &[Condition]) -> Result<(), BackendError> {
        let conditions = conditions.iter().cloned();
        let conditions =
            conditions.map(|(index, width, op, value)| SeccompCondition::new(index, width, op, value));
        self.0.entry(call).or_default().push(SeccompRule::new(conditions.collect::<Result<_, _>>()?)?);
        Ok(())
    }

    fn compile(self) -> Result<BpfProgram, BackendError> {
        let refused = SeccompAction::Errno(libc::EPERM as u32);
        SeccompFilter::new(self.0, refused, SeccompAction::Allow, std::env::consts::ARCH.try_into()?)?
            .try_into()
    }
}
