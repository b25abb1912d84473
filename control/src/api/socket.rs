//! The socket in the file system: made for those who may use it, and never taken from somebody who listens.
//!
//! Invariant: at most one process listens at a path; a file there that is no socket is left alone.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, XattrFlags, chown, flock, setxattr};
use rustix::process::{Gid, getegid};

use super::access::Groups;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Its folder.
    #[error("socket {}: cannot use its folder: {error}", path.display())]
    Folder {
        /// The socket.
        path: PathBuf,
        /// What the kernel says.
        error: io::Error,
    },
    /// Somebody listens there.
    #[error(
        "socket {}: another process listens on it ({}); stop it, or use another path",
        path.display(),
        pid.map_or_else(|| "unknown".to_owned(), |pid| pid.to_string())
    )]
    InUse {
        /// The socket.
        path: PathBuf,
        /// Who listens.
        pid: Option<i32>,
    },
    /// Something else is there.
    #[error("socket {}: there is a file of another kind; remove it, or use another path", path.display())]
    NotASocket {
        /// The file.
        path: PathBuf,
    },
    /// The kernel refuses.
    #[error("socket {}: cannot {what}: {error}", path.display())]
    Refused {
        /// The socket.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the kernel says.
        error: io::Error,
    },
}

/// A socket that listens, and its file, which goes with it.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(super) path: PathBuf,
    identity: (u64, u64),
}

impl Bound {
    /// Listens at `path`, for root and the members of `groups`; the folder is made if it is missing (one level, mode 0755).
    pub(super) fn new(path: &Path, groups: &Groups) -> Result<(Self, UnixListener), BindError> {
        Self::listen(path, 0o755, |bound| bound.permit(groups))
    }

    /// Listens at `path`, for whoever runs this alone; the folder is made if it is missing (one level, mode 0700).
    pub(crate) fn private(path: &Path) -> Result<(Self, UnixListener), BindError> {
        Self::listen(path, 0o700, |bound| fs::set_permissions(&bound.path, Permissions::from_mode(0o600)))
    }

    fn listen(
        path: &Path,
        folder_mode: u32,
        permit: impl FnOnce(&Self) -> io::Result<()>,
    ) -> Result<(Self, UnixListener), BindError> {
        let refused = |what| move |error| BindError::Refused { path: path.to_owned(), what, error };
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // Two processes that both found nobody there would remove each other's sockets: one at a time.
        let _alone = alone_in(folder, folder_mode)
            .map_err(|error| BindError::Folder { path: path.to_owned(), error })?;
        remove_stale(path)?;
        let listener = UnixListener::bind(path).map_err(refused("bind it"))?;
        let file = fs::symlink_metadata(path).map_err(refused("look at it"))?;
        let bound = Self { path: path.to_owned(), identity: (file.dev(), file.ino()) };
        listener.set_nonblocking(true).map_err(refused("make it non-blocking"))?;
        permit(&bound).map_err(refused("set who may use it"))?;
        Ok((bound, listener))
    }

    /// Lets root and the members of both groups connect, of those that exist. What they may ask for is decided by who they
    /// are; this keeps others from knocking at all.
    pub(super) fn permit(&self, groups: &Groups) -> io::Result<()> {
        let (admin, read) = groups.ids();
        fs::set_permissions(&self.path, Permissions::from_mode(0o660))?;
        chown(&self.path, None, Some(admin.map_or_else(getegid, Gid::from_raw)))?;
        if let Some(read) = read.filter(|read| Some(*read) != admin) {
            // A file has one group; the second needs an access control list.
            let acl = acl(read);
            if let Err(error) = setxattr(&self.path, "system.posix_acl_access", &acl, XattrFlags::empty()) {
                let (path, group) = (self.path.display(), &groups.read);
                tracing::warn!(%path, group, %error, "the file system takes no access control list: this group cannot use the API");
            }
        }
        Ok(())
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        // A successor may have put its own there.
        let ours =
            fs::symlink_metadata(&self.path).is_ok_and(|file| (file.dev(), file.ino()) == self.identity);
        if ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// `rw` for the owner, the group and one group more. struct posix_acl_xattr_header and _entry of
/// include/uapi/linux/posix_acl_xattr.h, little-endian, sorted by tag.
fn acl(group: u32) -> Vec<u8> {
    const VERSION: u32 = 2;
    const UNDEFINED_ID: u32 = u32::MAX;
    const RW: u16 = 6;
    let entries: [(u16, u16, u32); 5] = [
        (0x01, RW, UNDEFINED_ID), // ACL_USER_OBJ
        (0x04, RW, UNDEFINED_ID), // ACL_GROUP_OBJ
        (0x08, RW, group),        // ACL_GROUP
        (0x10, RW, UNDEFINED_ID), // ACL_MASK
        (0x20, 0, UNDEFINED_ID),  // ACL_OTHER
    ];
    let mut bytes = VERSION.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

/// The folder, made if need be, and a lock on it that ends with the value. Held for some system calls alone.
fn alone_in(folder: &Path, mode: u32) -> io::Result<File> {
    match DirBuilder::new().mode(mode).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let lock = File::open(folder)?;
    for _ in 0..100 {
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(lock),
            Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(Duration::from_millis(10)),
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::Error::other("another process has held its lock for a second"))
}

/// Removes the socket of a process that is gone.
fn remove_stale(path: &Path) -> Result<(), BindError> {
    let refused = |what, error| Err(BindError::Refused { path: path.to_owned(), what, error });
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return refused("look at it", error),
        Ok(file) if !file.file_type().is_socket() => {
            return Err(BindError::NotASocket { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).or_else(|error| refused("remove the one of a process that is gone", error))
        }
        Err(error) => refused("find out whether somebody listens", error),
        Ok(stream) => {
            let credentials = rustix::net::sockopt::socket_peercred(&stream).ok();
            let pid = credentials.map(|who| who.pid.as_raw_pid());
            Err(BindError::InUse { path: path.to_owned(), pid })
        }
    }
}
