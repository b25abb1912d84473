//! The sandbox, asked back from the kernel.
//!
//! Owns: nothing. /proc is out of reach by then, so the kernel is asked by system calls, most of them before the filter that
//! does not allow them.

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::DumpableBehavior;
use rustix::thread::SecureComputingMode;

use super::{SandboxError, Step, at, known_capabilities};

fn mismatch(what: impl Into<String>) -> SandboxError {
    SandboxError::new(Step::Verification, what, Errno::PERM)
}

/// Three times the plan's ids, and no groups.
pub(super) fn identity(uid: u32, gid: u32) -> Result<(), SandboxError> {
    let (mut uids, mut gids) = ([0; 3], [0; 3]);
    let [real, effective, saved] = &mut uids;
    // SAFETY: the kernel writes three words, which outlive the call.
    let uids_known = unsafe { libc::getresuid(real, effective, saved) } == 0;
    let [real, effective, saved] = &mut gids;
    // SAFETY: as above.
    let gids_known = unsafe { libc::getresgid(real, effective, saved) } == 0;
    let groups = rustix::process::getgroups().map_err(at(Step::Verification, "getgroups"))?;
    if uids_known && gids_known && uids == [uid; 3] && gids == [gid; 3] && groups.is_empty() {
        Ok(())
    } else {
        Err(mismatch(format!("uids {uids:?}, gids {gids:?}, {} groups", groups.len())))
    }
}

/// None in any set, and not dumpable.
pub(super) fn capabilities() -> Result<(), SandboxError> {
    let sets = rustix::thread::capabilities(None).map_err(at(Step::Verification, "capget"))?;
    let (mut known, mut bounding, mut ambient) = (0, 0, 0);
    for (capability, held) in known_capabilities() {
        known += 1;
        bounding += usize::from(held);
        ambient += usize::from(rustix::thread::capability_is_in_ambient_set(capability).unwrap_or(true));
    }
    let none = (sets.effective | sets.permitted | sets.inheritable).is_empty();
    if !none || bounding > 0 || ambient > 0 || known == 0 {
        return Err(mismatch(format!("{sets:?}, {bounding} bounding and {ambient} ambient capabilities")));
    }
    let dumpable = rustix::process::dumpable_behavior().map_err(at(Step::Verification, "PR_GET_DUMPABLE"))?;
    if dumpable != DumpableBehavior::NotDumpable {
        return Err(mismatch("the process is dumpable"));
    }
    Ok(())
}

/// The filter and no_new_privs are there, and what they forbid is refused.
pub(super) fn refusals() -> Result<String, SandboxError> {
    if !rustix::thread::no_new_privs().map_err(at(Step::Verification, "PR_GET_NO_NEW_PRIVS"))? {
        return Err(mismatch("no_new_privs is not set"));
    }
    let mode = rustix::thread::secure_computing_mode().map_err(at(Step::Verification, "PR_GET_SECCOMP"))?;
    if mode != SecureComputingMode::Filter {
        return Err(mismatch(format!("seccomp is in mode {mode:?}")));
    }
    if rustix::fs::open("/", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).is_ok() {
        return Err(mismatch("/ can be opened"));
    }
    if rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None).is_ok() {
        return Err(mismatch("a socket can be made"));
    }
    Ok("identity, capabilities and refusals are as they should be".into())
}
