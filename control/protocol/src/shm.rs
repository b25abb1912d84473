//! Memory that two processes map, and payloads too large for a message.
//!
//! Owns: memfds and their mappings. Refuses: to map a descriptor that is too short or that its other owners could still
//! shrink, and to read one that they could still write. Keeps true: a mapped [`Region`] stays valid to its last byte as
//! long as any clone of it lives, whatever a peer does with its copy of the descriptor: `F_SEAL_SHRINK` holds the size,
//! and `F_SEAL_SEAL` holds the seals (fcntl(2)), so touching the memory never raises SIGBUS.
//!
//! The one exception to that is the kernel running out of memory when it first hands out a page of base size.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, ftruncate, memfd_create};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};
use zsync_packet::region::{PAGE, Region};

/// Size of the huge pages that are asked for: the one that every x86-64 and most aarch64 kernels have.
pub const HUGE_PAGE: usize = 2 << 20;

/// What holds the size of shared memory: no resizing, and no change to the seals.
const SIZE_SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

/// Why memory could not be made, mapped or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// A length of zero, or one beyond the address space.
    #[error("{len} bytes is no length that memory can have")]
    Length {
        /// What was asked for, bytes.
        len: usize,
    },
    /// Huge pages are required and there are none.
    #[error(
        "memory '{name}' of {len} bytes needs {pages} huge pages of 2 MiB, and the kernel has too few free ({source}); \
             raise vm.nr_hugepages, or allow base pages"
    )]
    NoHugePages {
        /// The memory's name.
        name: String,
        /// What was asked for, bytes.
        len: usize,
        /// Huge pages that it takes.
        pages: usize,
        /// What the kernel said.
        source: io::Error,
    },
    /// The descriptor is shorter than what was to be mapped.
    #[error("the descriptor has {have} bytes where {want} were announced")]
    TooShort {
        /// Size of the descriptor, bytes.
        have: u64,
        /// What was to be mapped, bytes.
        want: usize,
    },
    /// The descriptor is longer than what the reader allows.
    #[error("the descriptor has {have} bytes, more than the {limit} that are allowed")]
    TooLong {
        /// Size of the descriptor, bytes.
        have: u64,
        /// The limit, bytes.
        limit: usize,
    },
    /// The descriptor is no memfd, or lacks a seal that keeps its other owners from changing it.
    #[error("the descriptor is not a memfd with the seals {missing}: whoever else has it could pull it away")]
    NotSealed {
        /// The seals that are missing.
        missing: String,
    },
    /// An AF_XDP fill ring has no room for what was to be placed.
    #[error("a fill ring of {entries} entries has {used} in use and cannot take another frame")]
    RingFull {
        /// Size of the ring.
        entries: u32,
        /// Entries in use.
        used: u32,
    },
    /// A ring size that the kernel does not have.
    #[error("{entries} is no ring size: it must be a power of two")]
    RingSize {
        /// What was given.
        entries: u32,
    },
    /// A system call failed.
    #[error("{call} failed for {what}: {source}")]
    System {
        /// Name of the system call.
        call: &'static str,
        /// On what.
        what: String,
        /// What the kernel said.
        source: io::Error,
    },
}

pub(crate) fn failed(call: &'static str, what: impl fmt::Display) -> impl FnOnce(Errno) -> MemoryError {
    let what = what.to_string();
    move |errno| MemoryError::System { call, what, source: errno.into() }
}

/// Whether memory shall lie on huge pages of 2 MiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Huge {
    /// Base pages.
    Never,
    /// Huge pages when enough are free; base pages, and the reason, otherwise.
    #[default]
    Auto,
    /// Huge pages or an error.
    Require,
}

/// What memory lies on.
#[derive(Debug)]
pub enum Pages {
    /// Base pages, as was asked.
    Base,
    /// Huge pages of 2 MiB.
    Huge,
    /// Base pages, because the kernel refused huge ones for this reason.
    BaseInstead(io::Error),
}

impl fmt::Display for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Base => f.write_str("base pages"),
            Self::Huge => f.write_str("huge pages of 2 MiB"),
            Self::BaseInstead(why) => write!(f, "base pages (no huge pages: {why}; see vm.nr_hugepages)"),
        }
    }
}

/// How a mapping may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Loads only: a store through the region faults.
    Read,
    /// Loads and stores.
    ReadWrite,
    /// Loads and stores; what is stored nobody else sees.
    Private,
}

/// Memory made here, to be shared by its descriptor.
#[derive(Debug)]
pub struct Memory {
    /// The sealed memfd, close-on-exec.
    pub fd: OwnedFd,
    /// The memory, zeroed, mapped for reading and writing; exactly as long as was asked.
    pub region: Region,
    /// What it lies on.
    pub pages: Pages,
}

impl Memory {
    /// Zeroed memory of `len` bytes; `name` is what /proc/PID/maps shows.
    ///
    /// # Errors
    /// [`MemoryError::Length`], [`MemoryError::NoHugePages`] with [`Huge::Require`], or what the kernel said.
    pub fn create(name: &str, len: usize, huge: Huge) -> Result<Self, MemoryError> {
        let why = match huge {
            Huge::Never => None,
            Huge::Auto | Huge::Require => match Self::on_huge_pages(name, len) {
                Ok(memory) => return Ok(memory),
                Err(MemoryError::System { source, .. }) if huge == Huge::Auto => Some(source),
                Err(MemoryError::System { source, .. }) => {
                    let pages = len.div_ceil(HUGE_PAGE);
                    return Err(MemoryError::NoHugePages { name: name.to_owned(), len, pages, source });
                }
                Err(other) => return Err(other),
            },
        };
        let fd = sealed_file(name, len, MemfdFlags::empty(), PAGE)?;
        let region = map(fd.as_fd(), len, Access::ReadWrite)?;
        Ok(Self { fd, region, pages: why.map_or(Pages::Base, Pages::BaseInstead) })
    }

    fn on_huge_pages(name: &str, len: usize) -> Result<Self, MemoryError> {
        let fd = sealed_file(name, len, MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB, HUGE_PAGE)?;
        // The mapping reserves the pages: it fails now, or touching them cannot.
        let region = map(fd.as_fd(), len, Access::ReadWrite)?;
        Ok(Self { fd, region, pages: Pages::Huge })
    }
}

/// A memfd of at least `len` bytes (a multiple of `page`) whose size can no longer change.
fn sealed_file(name: &str, len: usize, flags: MemfdFlags, page: usize) -> Result<OwnedFd, MemoryError> {
    let size = len.checked_next_multiple_of(page).filter(|s| *s > 0 && *s <= isize::MAX as usize);
    let size = size.ok_or(MemoryError::Length { len })?;
    let fd = memfd(name, flags)?;
    ftruncate(&fd, size as u64).map_err(failed("ftruncate", name))?;
    fcntl_add_seals(&fd, SIZE_SEALS).map_err(failed("fcntl(F_ADD_SEALS)", name))?;
    Ok(fd)
}

fn memfd(name: &str, flags: MemfdFlags) -> Result<OwnedFd, MemoryError> {
    let flags = flags | MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    match memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
        // Kernels before 6.3 do not know the flag; it only makes the file impossible to execute.
        Err(Errno::INVAL) => memfd_create(name, flags),
        other => other,
    }
    .map_err(failed("memfd_create", name))
}

/// Maps the first `len` bytes of a memfd that somebody else made and sealed, as [`Memory::create`] does.
///
/// # Errors
/// [`MemoryError::TooShort`] and [`MemoryError::NotSealed`] for a descriptor that cannot be trusted, [`MemoryError::Length`]
/// for no bytes at all, or what the kernel said.
pub fn map(fd: BorrowedFd<'_>, len: usize, access: Access) -> Result<Region, MemoryError> {
    require_seals(fd, SIZE_SEALS)?;
    let stat = fstat(fd).map_err(failed("fstat", "shared memory"))?;
    let have = u64::try_from(stat.st_size).unwrap_or(0);
    if (len as u64) > have {
        return Err(MemoryError::TooShort { have, want: len });
    }
    // A mapping of huge pages is a whole number of them (munmap insists), and the block size tells which pages they are.
    let page = usize::try_from(stat.st_blksize).unwrap_or(PAGE).max(PAGE);
    map_span(fd, len, page, 0, access)
}

/// Maps `len` bytes at `offset`, rounded up to whole pages of `page` bytes. The caller knows that the descriptor cannot
/// shrink: it is sealed, or it is a device's ring.
pub(crate) fn map_span(
    fd: BorrowedFd<'_>,
    len: usize,
    page: usize,
    offset: u64,
    access: Access,
) -> Result<Region, MemoryError> {
    let span = len.checked_next_multiple_of(page).filter(|s| *s > 0 && *s <= isize::MAX as usize);
    let span = span.ok_or(MemoryError::Length { len })?;
    let protection = match access {
        Access::Read => ProtFlags::READ,
        Access::ReadWrite | Access::Private => ProtFlags::READ | ProtFlags::WRITE,
    };
    let shared = if access == Access::Private { MapFlags::PRIVATE } else { MapFlags::SHARED };
    // SAFETY: the kernel chooses the place, so no memory of this process is replaced.
    let raw = unsafe { mmap(null_mut(), span, protection, shared, fd, offset) };
    let raw = raw.map_err(failed("mmap", format_args!("{span} bytes at offset {offset:#x}")))?;
    let base = NonNull::new(raw.cast::<u8>()).ok_or(MemoryError::Length { len })?;
    if access != Access::Private && span >= HUGE_PAGE {
        // SAFETY: the range was mapped just now, and its contents stay what they are. Heeded where the kernel gives huge pages to
        // shared memory that asks for them (/sys/kernel/mm/transparent_hugepage/shmem_enabled); refused, nothing is lost.
        let _ = unsafe { madvise(raw, span, Advice::LinuxHugepage) };
    }
    let mapping = Arc::new(Mapping { base, span });
    // SAFETY: `span >= len` bytes are mapped, at a page boundary, until the last region drops `mapping`; the file cannot
    // shrink (see above); and only regions reach the memory, which access it atomically.
    Ok(unsafe { Region::from_raw(base, len, mapping) })
}

/// A mapping, unmapped when dropped.
struct Mapping {
    base: NonNull<u8>,
    span: usize,
}

// SAFETY: an address range of the process, which any thread may unmap; there is no access through this value.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped in `map_span` with this very length, unmapped once, and no region refers to it any longer.
        // It can only fail for a range that is no mapping, which this is.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.span) };
    }
}

fn require_seals(fd: BorrowedFd<'_>, wanted: SealFlags) -> Result<(), MemoryError> {
    // EINVAL: not a memfd at all.
    let have = fcntl_get_seals(fd).unwrap_or(SealFlags::empty());
    if have.contains(wanted) {
        return Ok(());
    }
    let missing = wanted.difference(have).iter_names().map(|(name, _)| name).collect::<Vec<_>>().join(", ");
    Err(MemoryError::NotSealed { missing })
}

/// A memfd that holds `bytes` and can never change again: a payload of any size that one descriptor carries.
///
/// # Errors
/// What the kernel said.
pub fn sealed_bytes(name: &str, bytes: &[u8]) -> Result<OwnedFd, MemoryError> {
    let fd = memfd(name, MemfdFlags::empty())?;
    let mut rest = bytes;
    while !rest.is_empty() {
        match rustix::io::write(&fd, rest) {
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(failed("write", name)(errno)),
        }
    }
    fcntl_add_seals(&fd, SIZE_SEALS | SealFlags::WRITE).map_err(failed("fcntl(F_ADD_SEALS)", name))?;
    Ok(fd)
}

/// The content of a [`sealed_bytes`] descriptor of at most `max` bytes.
///
/// # Errors
/// [`MemoryError::NotSealed`], [`MemoryError::TooLong`], or what the kernel said.
pub fn read_sealed(fd: BorrowedFd<'_>, max: usize) -> Result<Vec<u8>, MemoryError> {
    require_seals(fd, SIZE_SEALS | SealFlags::WRITE)?;
    let have = fstat(fd).map_err(failed("fstat", "a sealed payload"))?.st_size;
    let have = u64::try_from(have).unwrap_or(0);
    let len = usize::try_from(have).ok().filter(|len| *len <= max);
    let len = len.ok_or(MemoryError::TooLong { have, limit: max })?;
    let mut bytes = vec![0; len];
    let mut done = 0;
    while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
        // The position is given, because the descriptor's own is shared with whoever sent it.
        match rustix::io::pread(fd, rest, done as u64) {
            Ok(0) => return Err(MemoryError::TooShort { have: done as u64, want: len }),
            Ok(read) => done += read,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(failed("pread", "a sealed payload")(errno)),
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
