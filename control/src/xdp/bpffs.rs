//! The BPF file system that the pins live in, and what kind of file system a folder is on.

use std::{fs, io, path::Path};

use rustix::{
    fs::statfs,
    io::Errno,
    mount::{MountFlags, mount},
};

use super::XdpError;
use super::error::TO_MOUNT;

/// include/uapi/linux/magic.h
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;
/// tmpfs and ramfs (as above).
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];

/// Whether `path` is on a BPF file system.
#[must_use]
pub fn is_bpffs(path: &Path) -> bool {
    kind(path) == Some(BPF_FS_MAGIC)
}

/// Whether what is written there never waits for a disk.
#[must_use]
pub fn is_in_memory(path: &Path) -> bool {
    kind(path).is_some_and(|kind| IN_MEMORY.contains(&kind))
}

fn kind(path: &Path) -> Option<u64> {
    // `f_type` is signed on some architectures and 32 bits on others.
    statfs(path).ok().map(|stat| stat.f_type as u64 & 0xffff_ffff)
}

/// Makes sure that `path` (`/sys/fs/bpf`, as a rule) is a BPF file system. Returns whether it had to be mounted.
///
/// A mount belongs to the mount namespace that it was made in, and the pins go with the last mount. `ip netns exec` makes
/// a mount namespace of its own for each command, so what is to outlive the process must be pinned in a BPF file system
/// that was mounted outside, and not below `/sys`, which `ip netns exec` covers with a fresh one.
///
/// # Errors
/// When the folder cannot be made or the mount is refused; for EPERM the missing capability is named.
pub fn mount_bpffs_if_missing(path: &Path) -> Result<bool, XdpError> {
    let mount_error = |source| XdpError::Mount { path: path.to_owned(), source };
    fs::create_dir_all(path).map_err(mount_error)?;
    if is_bpffs(path) {
        return Ok(false);
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    match mount("bpffs", path, "bpf", flags, Some(c"mode=0700")) {
        Ok(()) => Ok(true),
        Err(Errno::PERM) => Err(XdpError::not_permitted("mount a BPF file system", TO_MOUNT)),
        Err(errno) => Err(mount_error(io::Error::from(errno))),
    }
}
