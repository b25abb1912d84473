//! The programs of zsync, kept in memory.
//!
//! A kernel that needs memory forgets the pages of programs first, as the disk has them. What a data plane does only when it starts is
//! forgotten soonest; then its successor, and control on the way to start it, read it from the disk again, page by page, and packets wait.
//!
//! Owns: what it has locked, as long as this process lives. Refuses nothing: what cannot be locked is warned of. Keeps true: only what is
//! loaded of a program is locked, not what is there for debuggers.

use crate::raw::keep_in_memory;
use anyhow::{Context as _, Result};
use object::Endianness;
use object::elf::{FileHeader64, PT_LOAD};
use object::read::elf::{FileHeader as _, ProgramHeader as _};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Bytes in which a file says what is loaded of it: some dozen headers, which are behind the first one wherever a linker has made it.
const HEADERS: usize = 4096;

/// Locks the data plane's program, this one, and the libraries of both, by a thread of its own: some milliseconds, or as long as the disk takes.
pub(super) fn keep(dataplane: PathBuf) {
    let work = move || {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let mut programs = programs(&maps);
        programs.insert(&dataplane);
        let mut kept = 0;
        for program in programs {
            match keep_one(program) {
                Ok(length) => kept += length,
                Err(error) => tracing::warn!(
                    "{} is not kept in memory: {error:#}; where that is short, packets wait for the disk when the data plane is started anew",
                    program.display()
                ),
            }
        }
        tracing::debug!(bytes = kept, "programs are kept in memory");
    };
    if let Err(error) = std::thread::Builder::new().name("resident".into()).spawn(work) {
        tracing::warn!("programs are not kept in memory: no thread: {error}");
    }
}

/// The programs and libraries that a process runs, by its `maps` (proc_pid_maps(5)). Those that have been replaced since are no files any more.
fn programs(maps: &str) -> BTreeSet<&Path> {
    let of = |line| -> Option<&Path> {
        let (numbers, path) = str::split_once(line, '/')?;
        let runs = numbers.split_ascii_whitespace().nth(1)?.contains('x');
        let start = line.len() - path.len() - 1;
        (runs && !path.ends_with(" (deleted)")).then(|| Path::new(&line[start..]))
    };
    maps.lines().filter_map(of).collect()
}

/// So many bytes of it.
fn keep_one(program: &Path) -> Result<usize> {
    let file = File::open(program)?;
    let mut start = Vec::with_capacity(HEADERS);
    (&file).take(HEADERS as u64).read_to_end(&mut start)?;
    let length = loaded(&start).context("it is no ELF file of 64 bits")?;
    let length = length.min(usize::try_from(file.metadata()?.len())?);
    keep_in_memory(&file, length).context("mlock (CAP_IPC_LOCK, or a larger RLIMIT_MEMLOCK, lets it)")?;
    Ok(length)
}

/// Up to where a file is loaded that begins like this.
fn loaded(start: &[u8]) -> Option<usize> {
    let header = FileHeader64::<Endianness>::parse(start).ok()?;
    let endian = header.endian().ok()?;
    let parts = header.program_headers(endian, start).ok()?.iter();
    let loaded = parts.filter(|part| part.p_type(endian) == PT_LOAD).map(|part| part.file_range(endian));
    usize::try_from(loaded.map(|(from, length)| from.saturating_add(length)).max()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_of_a_process_is_found_and_nothing_else() {
        let maps = "\
5600-5700 r--p 00000000 fe:00 17 /usr/sbin/zsync-control
5700-5800 r-xp 00001000 fe:00 17 /usr/sbin/zsync-control
7f00-7f01 r-xp 00000000 fe:00 18 /usr/lib/a name/libc.so.6
7f01-7f02 rw-s 00000000 00:01 19 /memfd:zsync-arena (deleted)
7f02-7f03 r-xp 00000000 fe:00 20 /usr/lib/old.so (deleted)
7f03-7f04 rw-p 00000000 00:00 0 [heap]
7f04-7f05 r-xp 00000000 00:00 0 [vdso]
7f05-7f06 rw-p 00000000 00:00 0
";
        let found: Vec<_> = programs(maps).into_iter().collect();
        assert_eq!(found, ["/usr/lib/a name/libc.so.6", "/usr/sbin/zsync-control"].map(Path::new));
    }

    #[test]
    fn what_is_loaded_of_this_program_is_a_part_of_it_and_of_rubbish_nothing() {
        let bytes = std::fs::read("/proc/self/exe").unwrap();
        let loaded = loaded(&bytes[..HEADERS]).unwrap();
        assert!((100_000..=bytes.len()).contains(&loaded), "{loaded} of {}", bytes.len());
        assert_eq!(super::loaded(&bytes[..60]), None);
        assert_eq!(super::loaded(&b"#!/bin/sh"[..]), None);
    }
}
