//! The sandbox: what a data plane process gives up before it reads its first packet.
//!
//! ```text
//!  1 single thread   nobody else runs who would keep what this thread gives up
//!  2 descriptors     all but those of the plan are closed; 0 to 2 are the plan's or /dev/null
//!  3 limits          no core file, a bound on open files, umask 0777, no working directory
//!  4 no_new_privs    exec can no longer raise anything
//!  5 landlock        no file, no TCP port, no abstract socket or signal outside
//!  6 bounding set    no capability can come back
//!  7 identity        no supplementary groups; the plan's gid and uid, three times each
//!  8 capabilities    ambient, inheritable, effective and permitted are empty; not dumpable, so nobody unprivileged may trace it
//!  9 seccomp         only the system calls of `sandbox/filter.rs`
//! 10 verification    all of the above, asked back from the kernel
//! ```
//!
//! Owns: the order of the steps and what each means. Refuses: to go on after any step that failed: the caller exits. Keeps
//! true: after [`Sandbox::enter`] returned a report, this thread and all that it starts are root nowhere, hold no
//! capability, and can get at nothing but the descriptors that they have. The only `unsafe` here is system calls that rustix
//! does not wrap, each without effect on memory.
//!
//! Not done, on purpose: RLIMIT_FSIZE, because a log that is a regular file must go on growing, and no other file can be
//! opened; RLIMIT_NPROC, because it counts all threads of the user, and forking is refused already.

mod filter;
mod verify;

use std::fmt;
use std::io;
use std::os::fd::{IntoRawFd, RawFd};

use landlock::{ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetStatus, Scope};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use rustix::thread::CapabilitySet;

/// Most descriptors that the process may have open: its workers' queues (64 ports of 32 queues) and the FIBs, with room.
const OPEN_FILES: u64 = 4096;

/// Landlock rights up to this version of the kernel's interface are given up, as far as the kernel knows them.
const LANDLOCK: ABI = ABI::V9;

/// One step of the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// This thread is the only one.
    SingleThread,
    /// Only the plan's descriptors are open.
    Descriptors,
    /// Resource limits, umask, working directory.
    Limits,
    /// `PR_SET_NO_NEW_PRIVS`.
    NoNewPrivs,
    /// An empty Landlock rule set.
    Landlock,
    /// An empty capability bounding set.
    BoundingSet,
    /// Groups, gid and uid.
    Identity,
    /// Empty capability sets, and `PR_SET_DUMPABLE` 0.
    Capabilities,
    /// The system call filter.
    Seccomp,
    /// All of it, asked back.
    Verification,
}

impl Step {
    fn remedy(self) -> &'static str {
        match self {
            Self::SingleThread => "enter the sandbox at the start of main, before any thread is started",
            Self::Descriptors => {
                "Linux 5.9 or later is needed, /dev/null, and a plan that names open descriptors"
            }
            Self::Limits => "the process must be allowed to lower its own limits",
            Self::NoNewPrivs => "Linux 3.5 or later is needed",
            Self::Landlock => {
                "boot a kernel with CONFIG_SECURITY_LANDLOCK and 'landlock' in its lsm= list, or allow to go without"
            }
            Self::BoundingSet => {
                "control must start the data plane with CAP_SETPCAP, which the data plane then gives up"
            }
            Self::Identity => {
                "control must start the data plane with CAP_SETUID and CAP_SETGID, as root, and name a uid and a gid other than 0"
            }
            Self::Capabilities => "no security module may hold on to capabilities of the process",
            Self::Seccomp => "a kernel with CONFIG_SECCOMP_FILTER is needed",
            Self::Verification => {
                "the kernel granted a step and did not take it: do not run packets on it, and report it"
            }
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SingleThread => "single thread",
            Self::Descriptors => "descriptors",
            Self::Limits => "limits",
            Self::NoNewPrivs => "no_new_privs",
            Self::Landlock => "landlock",
            Self::BoundingSet => "bounding set",
            Self::Identity => "identity",
            Self::Capabilities => "capabilities",
            Self::Seccomp => "seccomp",
            Self::Verification => "verification",
        })
    }
}

/// A step that failed. The process is half way into the sandbox and must exit.
#[derive(Debug, thiserror::Error)]
#[error("sandbox step '{step}' failed: {what}: {source}; {}", step.remedy())]
pub struct SandboxError {
    /// The step.
    pub step: Step,
    /// What was tried.
    pub what: String,
    /// What the kernel said.
    pub source: io::Error,
}

impl SandboxError {
    fn new(step: Step, what: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self { step, what: what.into(), source: source.into() }
    }
}

/// Turns the error of a system call into that of a step.
fn at(step: Step, what: &'static str) -> impl FnOnce(Errno) -> SandboxError {
    move |errno| SandboxError::new(step, what, errno)
}

/// What to become.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    /// User id; not 0.
    pub uid: u32,
    /// Group id; not 0.
    pub gid: u32,
    /// Descriptors to keep. All others are closed, whoever owns them.
    pub keep_fds: &'a [RawFd],
    /// Go on, and say so in the report, where the kernel has no Landlock.
    pub without_landlock: bool,
}

/// What each step did, for the log.
#[derive(Debug)]
pub struct Report {
    /// The steps in order, and their outcome in words.
    pub steps: Vec<(Step, String)>,
    /// Landlock was not there, and the plan allowed to go without.
    pub degraded: bool,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.degraded { "sandboxed without landlock" } else { "sandboxed" })?;
        self.steps.iter().try_for_each(|(step, outcome)| write!(f, "; {step}: {outcome}"))
    }
}

/// The sandbox of this process.
#[derive(Debug)]
pub struct Sandbox;

impl Sandbox {
    /// Takes all steps, in order. To be called by the only thread of the process; threads that it starts later are inside.
    ///
    /// # Errors
    /// The first step that failed; the caller must exit, because the steps before it cannot be taken back.
    pub fn enter(plan: &Plan<'_>) -> Result<Report, SandboxError> {
        if plan.uid == 0 || plan.gid == 0 {
            return Err(at(Step::Identity, "the plan names root")(Errno::INVAL));
        }
        let mut steps = Vec::new();
        let mut took = |step, outcome: String| steps.push((step, outcome));

        took(Step::SingleThread, single_thread()?);
        took(Step::Descriptors, descriptors(plan.keep_fds)?);
        took(Step::Limits, limits()?);
        rustix::thread::set_no_new_privs(true).map_err(at(Step::NoNewPrivs, "PR_SET_NO_NEW_PRIVS"))?;
        took(Step::NoNewPrivs, "set".into());
        let (enforced, outcome) = landlock(plan.without_landlock)?;
        took(Step::Landlock, outcome);
        took(Step::BoundingSet, bounding_set()?);
        took(Step::Identity, identity(plan.uid, plan.gid)?);
        took(Step::Capabilities, capabilities()?);
        // The filter does not allow the calls that ask for these.
        verify::identity(plan.uid, plan.gid)?;
        verify::capabilities()?;
        took(Step::Seccomp, seccomp()?);
        took(Step::Verification, verify::refusals()?);
        Ok(Report { steps, degraded: !enforced })
    }
}

/// What a worker's queues take besides what all workers may call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Needs {
    /// It has UDP sockets to read and write.
    pub messages: bool,
    /// It has packet sockets, which read and write bursts of messages.
    pub bursts: bool,
    /// It has queues that go by io_uring.
    pub rings: bool,
}

/// Narrows the filter of the calling thread, for good, to what a worker needs in its loop: no threads, no sockets, no
/// mapping of descriptors. For a worker to call, in the sandbox, before its first
/// pass.
///
/// # Errors
/// The [`Step::Seccomp`] that failed; the thread must not run packets.
pub fn worker_filter(needs: Needs) -> Result<(), SandboxError> {
    install(&filter::worker(needs).map_err(filter_error)?)
}

/// `unshare(CLONE_THREAD)` does nothing in a process of one thread and fails in any other (unshare(2)).
fn single_thread() -> Result<String, SandboxError> {
    // SAFETY: this flag shares and unshares nothing; no memory is involved.
    match unsafe { libc::unshare(libc::CLONE_THREAD) } {
        0 => Ok("yes".into()),
        _ => Err(SandboxError::new(Step::SingleThread, "other threads exist", io::Error::last_os_error())),
    }
}

fn descriptors(keep: &[RawFd]) -> Result<String, SandboxError> {
    let failed = |what: String| SandboxError::new(Step::Descriptors, what, io::Error::last_os_error());
    let mut keep: Vec<RawFd> = keep.to_vec();
    keep.sort_unstable();
    keep.dedup();
    for fd in &keep {
        // SAFETY: asks for the flags of a number; no memory is involved.
        if unsafe { libc::fcntl(*fd, libc::F_GETFD) } < 0 {
            return Err(failed(format!("descriptor {fd} of the plan is not open")));
        }
    }
    // A later descriptor must not get one of these numbers, because whatever is printed would go there.
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| SandboxError::new(Step::Descriptors, "open of /dev/null", e))?
        .into_raw_fd();
    for fd in 0..=2 {
        if keep.contains(&fd) {
            continue;
        }
        // SAFETY: replaces a descriptor by another; the caller of `enter` gives up those that are not in the plan.
        if fd != null && unsafe { libc::dup2(null, fd) } < 0 {
            return Err(failed(format!("dup2 of /dev/null to {fd}")));
        }
        keep.push(fd);
    }
    keep.sort_unstable();
    let mut from: u32 = 0;
    let ends = keep.iter().filter_map(|fd| u32::try_from(*fd).ok()).map(Some).chain([None]);
    for kept in ends {
        let last = kept.map_or(u32::MAX, |kept| kept.wrapping_sub(1));
        // SAFETY: closes numbers; the caller of `enter` gives up those that are not in the plan.
        if kept != Some(from) && unsafe { libc::syscall(libc::SYS_close_range, from, last, 0) } < 0 {
            return Err(failed(format!("close_range of {from} to {last}")));
        }
        from = kept.map_or(from, |kept| kept + 1);
    }
    Ok(format!("{} open", keep.len()))
}

fn limits() -> Result<String, SandboxError> {
    let both = |value| Rlimit { current: Some(value), maximum: Some(value) };
    rustix::process::setrlimit(Resource::Core, both(0)).map_err(at(Step::Limits, "RLIMIT_CORE 0"))?;
    let files = rustix::process::getrlimit(Resource::Nofile).maximum.unwrap_or(OPEN_FILES).min(OPEN_FILES);
    rustix::process::setrlimit(Resource::Nofile, both(files)).map_err(at(Step::Limits, "RLIMIT_NOFILE"))?;
    rustix::process::umask(Mode::RWXU | Mode::RWXG | Mode::RWXO);
    rustix::process::chdir("/").map_err(at(Step::Limits, "chdir to /"))?;
    Ok(format!("no core file, {files} open files"))
}

/// Whether Landlock holds, and the outcome in words.
fn landlock(optional: bool) -> Result<(bool, String), SandboxError> {
    let restrict = || {
        Ruleset::default()
            .handle_access(AccessFs::from_all(LANDLOCK))?
            .handle_access(AccessNet::from_all(LANDLOCK))?
            .scope(Scope::from_all(LANDLOCK))?
            .create()?
            .restrict_self()
    };
    let status = restrict().map_err(|e| {
        SandboxError::new(Step::Landlock, "an empty rule set", io::Error::other(e.to_string()))
    })?;
    match status.ruleset {
        RulesetStatus::FullyEnforced => Ok((true, "files, TCP ports, sockets and signals".into())),
        // Files are in the first version of the interface, so they are part of any part.
        RulesetStatus::PartiallyEnforced => {
            Ok((true, format!("what this kernel knows of it ({:?})", status.landlock)))
        }
        RulesetStatus::NotEnforced if optional => {
            Ok((false, "not in this kernel; allowed by the plan".into()))
        }
        RulesetStatus::NotEnforced => Err(at(Step::Landlock, "the kernel does not have it")(Errno::NOSYS)),
    }
}

/// The capabilities that the running kernel knows, also those that are newer than this program.
fn known_capabilities() -> impl Iterator<Item = (CapabilitySet, bool)> {
    (0..u64::BITS).map(|bit| CapabilitySet::from_bits_retain(1 << bit)).map_while(|capability| {
        // EINVAL: beyond the last one.
        let held = rustix::thread::capability_is_in_bounding_set(capability).ok()?;
        Some((capability, held))
    })
}

/// Before the identity changes, because leaving uid 0 also gives up the capability to do this.
fn bounding_set() -> Result<String, SandboxError> {
    let mut dropped = 0;
    for (capability, _) in known_capabilities().filter(|(_, held)| *held) {
        rustix::thread::remove_capability_from_bounding_set(capability)
            .map_err(at(Step::BoundingSet, "PR_CAPBSET_DROP"))?;
        dropped += 1;
    }
    Ok(format!("{dropped} dropped"))
}

fn identity(uid: u32, gid: u32) -> Result<String, SandboxError> {
    let (user, group) = (rustix::process::Uid::from_raw(uid), rustix::process::Gid::from_raw(gid));
    // The calls of a thread are those of the process: it has one thread.
    let groups = rustix::process::getgroups().map_err(at(Step::Identity, "getgroups"))?;
    if !groups.is_empty() {
        rustix::thread::set_thread_groups(&[]).map_err(at(Step::Identity, "setgroups to none"))?;
    }
    rustix::thread::set_thread_res_gid(group, group, group).map_err(at(Step::Identity, "setresgid"))?;
    rustix::thread::set_thread_res_uid(user, user, user).map_err(at(Step::Identity, "setresuid"))?;
    Ok(format!("uid {uid}, gid {gid}, no groups"))
}

fn capabilities() -> Result<String, SandboxError> {
    use caps::CapSet;
    for set in [CapSet::Ambient, CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        caps::clear(None, set).map_err(|e| {
            SandboxError::new(
                Step::Capabilities,
                format!("clearing the {set:?} set"),
                io::Error::other(e.to_string()),
            )
        })?;
    }
    // Only here: a change of the identity sets it to what fs.suid_dumpable says.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(at(Step::Capabilities, "PR_SET_DUMPABLE 0"))?;
    Ok("none in any set, not dumpable".into())
}

fn filter_error(error: seccompiler::BackendError) -> SandboxError {
    SandboxError::new(Step::Seccomp, "compiling the filter", io::Error::other(error.to_string()))
}

fn seccomp() -> Result<String, SandboxError> {
    let refusals = filter::threads_by_clone().map_err(filter_error)?;
    let calls = filter::process().map_err(filter_error)?;
    install(&refusals)?;
    install(&calls)?;
    Ok(format!("a filter of {} instructions", refusals.len() + calls.len()))
}

/// Adds a filter to those of the calling thread. The kernel logs what it refuses.
fn install(program: seccompiler::BpfProgramRef<'_>) -> Result<(), SandboxError> {
    let failed = |source| SandboxError::new(Step::Seccomp, "SECCOMP_SET_MODE_FILTER", source);
    let len = u16::try_from(program.len()).map_err(|_| failed(io::Error::from(Errno::TOOBIG)))?;
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast::<libc::sock_filter>().cast_mut() };
    // SAFETY: the kernel copies `len` instructions, which outlive the call, and writes nothing; both types are the kernel's
    // `struct sock_filter`.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_LOG,
            &raw const program,
        )
    };
    if rc == 0 { Ok(()) } else { Err(failed(io::Error::last_os_error())) }
}
