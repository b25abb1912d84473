//! What can go wrong between control and the kernel's XDP, with the limit and the remedy.

use std::{io, path::PathBuf};

use aya::{
    EbpfError,
    maps::MapError,
    pin::PinError,
    programs::{ProgramError, links::LinkError},
    sys::SyscallError,
};
use rustix::thread::{CapabilitySet, capabilities};

use super::{AttachedProgram, IpPrefix, Mode, ObjectError};

/// An error of [`Ingress`](super::Ingress). Devices are named as `ip link` does.
#[derive(Debug, thiserror::Error)]
pub enum XdpError {
    /// EPERM.
    #[error("not permitted to {what}: {reason}")]
    NotPermitted {
        /// What was tried.
        what: &'static str,
        /// The capability that is missing; or, when all are there, where else to look.
        reason: String,
    },
    /// The verifier refuses the program: a kernel that is too old for it, or a bug of ours.
    #[error("the kernel's verifier refuses zsync_ingress ({source}):\n{log}")]
    Verifier {
        /// The verifier's log, whole.
        log: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The object cannot be loaded for another reason.
    #[error("cannot load zsync_ingress")]
    Load(#[source] Box<EbpfError>),
    /// Another program is there.
    #[error("{device} already has an XDP program attached: {program}; remove it, or ask to replace it")]
    Occupied {
        /// The device.
        device: String,
        /// Who it is.
        program: AttachedProgram,
    },
    /// The MTU is above what the driver's XDP can do.
    #[error(
        "{device} refuses {mode} XDP ({source}) at an MTU of {mtu}; without multi-buffer support XDP needs a frame to fit \
         a page (an MTU up to about 3500; a veth counts its peer's MTU): lower it, or use generic mode"
    )]
    Mtu {
        /// The device.
        device: String,
        /// The mode that was tried.
        mode: Mode,
        /// Its MTU, bytes.
        mtu: u32,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The driver or the kernel refuses to attach.
    #[error("{device} refuses {mode} XDP: {source}")]
    Attach {
        /// The device.
        device: String,
        /// The mode that was tried.
        mode: Mode,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel refuses a classifier at the device's ingress.
    #[error(
        "{device} refuses a classifier at its ingress ({source}): packet sockets need Linux 6.6, for TCX links"
    )]
    Classifier {
        /// The device.
        device: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel has no links for XDP (before 5.9).
    #[error("the kernel attaches XDP to {device} only without a link; zsync needs Linux 5.9 or later")]
    NoLinks {
        /// The device.
        device: String,
    },
    /// The device is gone.
    #[error("there is no network device with index {ifindex} in this network namespace")]
    NoDevice {
        /// Its index.
        ifindex: u32,
    },
    /// Nothing, or not everything, is pinned there.
    #[error("{} holds no complete set of pins: {source}", path.display())]
    NotPinned {
        /// The pin that is missing or of another kind.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The pinned link is not what is attached to the device (it was recreated, or somebody replaced the program).
    #[error(
        "the link pinned in {} (program {pinned}) is not attached to {device}, which has {}; remove the pins and attach anew",
        dir.display(), attached.as_ref().map_or("no XDP program".into(), ToString::to_string)
    )]
    NotAttached {
        /// The pins.
        dir: PathBuf,
        /// The device.
        device: String,
        /// The program of the pinned link.
        pinned: u32,
        /// What is attached to the device.
        attached: Option<AttachedProgram>,
    },
    /// A call that needs an attached program came before `attach`, or one that needs it free came after.
    #[error("the program is {0}")]
    State(&'static str),
    /// The link cannot be read or given another program.
    #[error("cannot {what} the XDP link: {source}")]
    Link {
        /// Read or update.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A pin cannot be made or removed.
    #[error("cannot {what} {}: {source}", path.display())]
    Pin {
        /// Pin, remove, …
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A map refuses a read or a write.
    #[error("map {name}")]
    Map {
        /// Its name.
        name: &'static str,
        /// Why.
        source: Box<MapError>,
    },
    /// A list has more entries than its map.
    #[error("{count} entries for map {name}, which holds {limit}")]
    ListFull {
        /// The map.
        name: &'static str,
        /// How many were asked for (while a list changes, old and new ones together).
        count: usize,
        /// How many it holds.
        limit: u32,
    },
    /// A prefix is longer than its address.
    #[error("{0} is not a prefix: the length may be at most {max}", max = if .0.addr.is_ipv4() { 32 } else { 128 })]
    Prefix(IpPrefix),
    /// A program of the operator's cannot run.
    #[error(transparent)]
    Operator(Box<ObjectError>),
    /// The BPF file system cannot be mounted.
    #[error("cannot mount a BPF file system at {}: {source}", path.display())]
    Mount {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// rtnetlink does not answer as it should.
    #[error("rtnetlink, {what}: {source}")]
    Netlink {
        /// What was asked.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

impl XdpError {
    pub(super) fn map(name: &'static str) -> impl FnOnce(MapError) -> Self {
        move |source| Self::Map { name, source: Box::new(source) }
    }

    pub(super) fn pin(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Pin { what, path, source }
    }

    pub(super) fn link<E: IoError>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::Link { what, source: error.into_io() }
    }

    pub(super) fn not_permitted(what: &'static str, needed: &[(CapabilitySet, &str)]) -> Self {
        let effective = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
        let missing: Vec<_> =
            needed.iter().filter(|(set, _)| !effective.contains(*set)).map(|(_, name)| *name).collect();
        let reason = if missing.is_empty() {
            "the capabilities are there, so a security module, lockdown or a sandbox forbids it".into()
        } else {
            format!("this process lacks {}", missing.join(" and "))
        };
        Self::NotPermitted { what, reason }
    }
}

/// To create maps and to load programs.
pub(super) const TO_LOAD: &[(CapabilitySet, &str)] =
    &[(CapabilitySet::BPF, "CAP_BPF"), (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN")];
/// To attach XDP programs.
pub(super) const TO_ATTACH: &[(CapabilitySet, &str)] = &[(CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN")];
/// To mount.
pub(super) const TO_MOUNT: &[(CapabilitySet, &str)] = &[(CapabilitySet::SYS_ADMIN, "CAP_SYS_ADMIN")];

impl From<ObjectError> for XdpError {
    fn from(error: ObjectError) -> Self {
        Self::Operator(Box::new(error))
    }
}

impl From<EbpfError> for XdpError {
    fn from(error: EbpfError) -> Self {
        match error {
            EbpfError::ProgramError(error) => error.into(),
            EbpfError::MapError(MapError::CreateError { ref io_error, .. }) if is_eperm(io_error) => {
                Self::not_permitted("create BPF maps", TO_LOAD)
            }
            error => Self::Load(Box::new(error)),
        }
    }
}

impl From<ProgramError> for XdpError {
    fn from(error: ProgramError) -> Self {
        match error {
            // The verifier says EPERM too, and then why.
            ProgramError::LoadError { io_error, verifier_log }
                if is_eperm(&io_error) && verifier_log.to_string().is_empty() =>
            {
                Self::not_permitted("load an XDP program", TO_LOAD)
            }
            ProgramError::LoadError { io_error, verifier_log } => {
                Self::Verifier { log: verifier_log.to_string(), source: io_error }
            }
            error => Self::Load(Box::new(error.into())),
        }
    }
}

pub(super) fn is_eperm(error: &io::Error) -> bool {
    // Not the kind: that is EACCES too, the verifier's usual answer.
    error.raw_os_error() == Some(libc::EPERM)
}

/// The operating system's reason in aya's error, as far as there is one.
pub(super) trait IoError {
    fn into_io(self) -> io::Error;
}

impl IoError for SyscallError {
    fn into_io(self) -> io::Error {
        self.io_error
    }
}

impl IoError for PinError {
    fn into_io(self) -> io::Error {
        match self {
            Self::SyscallError(error) => error.io_error,
            error => io::Error::other(error),
        }
    }
}

impl IoError for LinkError {
    fn into_io(self) -> io::Error {
        match self {
            Self::SyscallError(error) => error.io_error,
            error => io::Error::other(error),
        }
    }
}

impl IoError for ProgramError {
    fn into_io(self) -> io::Error {
        use aya::programs::XdpError as Aya;
        match self {
            Self::SyscallError(error) => error.io_error,
            Self::XdpError(Aya::NetlinkError(error)) | Self::NetlinkError(error) => {
                match error.raw_os_error() {
                    Some(errno) => io::Error::from_raw_os_error(errno),
                    None => io::Error::other(error),
                }
            }
            error => io::Error::other(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_say_what_is_missing() {
        let error = XdpError::not_permitted("do nothing", &[]);
        assert!(error.to_string().contains("security module"), "{error}");
        let error = XdpError::Prefix(IpPrefix { addr: [10, 0, 0, 0].into(), len: 33 });
        assert_eq!(error.to_string(), "10.0.0.0/33 is not a prefix: the length may be at most 32");
    }
}
