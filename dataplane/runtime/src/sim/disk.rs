//! Files and directories: what is written, and what of that a power failure leaves.
//!
//! Keeps true: after a power failure a file is as it was when it was synced the last time; one that never was is gone. Names and
//! directories are on the disk at once. A file that has lost its name is there as long as it is open. A directory needs no other to be in.

use super::{Reply, Request};
use crate::calls::{Metadata, OpenOptions};
use crate::driver::Operation;
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Default)]
struct Content {
    now: Vec<u8>,
    synced: Option<Vec<u8>>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Disk {
    names: BTreeMap<PathBuf, u32>,
    directories: BTreeSet<PathBuf>,
    files: BTreeMap<u32, Content>,
    /// Which file, by descriptor.
    open: BTreeMap<u32, (u32, OpenOptions)>,
    made: u32,
}

impl Disk {
    pub(super) fn open_files(&self) -> usize {
        self.open.len()
    }

    /// Its number is odd.
    pub(super) fn open(&mut self, path: &Path, options: OpenOptions) -> Result<u32, Errno> {
        if self.directories.contains(path) {
            return Err(Errno::ISDIR);
        }
        self.made += 1;
        let number = self.made * 2 + 1;
        let file = match self.names.get(path) {
            Some(file) => *file,
            None if options.create => {
                self.names.insert(path.into(), number);
                self.files.insert(number, Content::default());
                number
            }
            None => return Err(Errno::NOENT),
        };
        if options.truncate {
            self.content(file)?.now.clear();
        }
        self.open.insert(number, (file, options));
        Ok(number)
    }

    fn content(&mut self, file: u32) -> Result<&mut Content, Errno> {
        self.files.get_mut(&file).ok_or(Errno::IO)
    }

    pub(super) fn close(&mut self, number: u32) {
        self.open.remove(&number);
        self.forget();
    }

    /// Files that can be reached no more.
    fn forget(&mut self) {
        let Self { names, open, files, .. } = self;
        let reached: BTreeSet<u32> =
            names.values().copied().chain(open.values().map(|(file, _)| *file)).collect();
        files.retain(|file, _| reached.contains(file));
    }

    pub(super) fn len(&mut self, number: u32) -> Result<u64, Errno> {
        let (file, _) = *self.open.get(&number).ok_or(Errno::BADF)?;
        Ok(self.content(file)?.now.len() as u64)
    }

    pub(super) fn truncate(&mut self, number: u32, length: u64) -> Result<(), Errno> {
        let (file, options) = *self.open.get(&number).ok_or(Errno::BADF)?;
        if !options.write {
            return Err(Errno::INVAL);
        }
        let length = usize::try_from(length).map_err(|_| Errno::FBIG)?;
        self.content(file)?.now.resize(length, 0);
        Ok(())
    }

    pub(super) fn metadata(&self, path: &Path) -> Result<Metadata, Errno> {
        let content = self.names.get(path).and_then(|file| self.files.get(file));
        let directory = self.directories.contains(path);
        let (length, permissions) = match content {
            Some(content) => (content.now.len() as u64, 0o600),
            None if directory => (0, 0o700),
            None => return Err(Errno::NOENT),
        };
        Ok(Metadata { length, directory, permissions, modified: Duration::ZERO })
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> Result<(), Errno> {
        if self.directories.contains(to) {
            return Err(Errno::ISDIR);
        }
        let file = self.names.remove(from).ok_or(Errno::NOENT)?;
        self.names.insert(to.into(), file);
        self.forget();
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path, directory: bool) -> Result<(), Errno> {
        if directory {
            if !self.names(path)?.is_empty() {
                return Err(Errno::NOTEMPTY);
            }
            self.directories.remove(path);
        } else {
            self.names.remove(path).ok_or(Errno::NOENT)?;
            self.forget();
        }
        Ok(())
    }

    pub(super) fn make_directory(&mut self, path: &Path) -> Result<(), Errno> {
        let fresh = !self.names.contains_key(path) && self.directories.insert(path.into());
        if fresh { Ok(()) } else { Err(Errno::EXIST) }
    }

    pub(super) fn names(&self, directory: &Path) -> Result<Vec<OsString>, Errno> {
        if !self.directories.contains(directory) {
            return Err(Errno::NOENT);
        }
        let inside = self.names.keys().chain(&self.directories);
        let inside = inside.filter(|path| path.parent() == Some(directory));
        let mut names: Vec<OsString> =
            inside.filter_map(|path| path.file_name()).map(OsString::from).collect();
        names.sort();
        Ok(names)
    }

    pub(super) fn answer(&mut self, number: u32, request: &Request) -> Reply {
        let Some((file, options)) = self.open.get(&number).copied() else {
            return Reply::Failed(Errno::BADF);
        };
        let Some(content) = self.files.get_mut(&file) else { return Reply::Failed(Errno::IO) };
        match request.operation {
            Operation::Read(at) | Operation::ReadVectored(at) if options.read || !options.write => {
                let rest = usize::try_from(at).ok().and_then(|at| content.now.get(at..)).unwrap_or(&[]);
                Reply::Bytes(rest[..request.room.min(rest.len())].to_vec())
            }
            Operation::Write { at, .. } | Operation::WriteVectored(at) if options.write => {
                let Some(end) = usize::try_from(at).ok().and_then(|at| at.checked_add(request.bytes.len()))
                else {
                    return Reply::Failed(Errno::FBIG);
                };
                if content.now.len() < end {
                    content.now.resize(end, 0);
                }
                content.now[end - request.bytes.len()..end].copy_from_slice(&request.bytes);
                Reply::Done(request.bytes.len())
            }
            Operation::Sync { .. } => {
                content.synced = Some(content.now.clone());
                Reply::Done(0)
            }
            _ => Reply::Failed(Errno::BADF),
        }
    }

    /// See the module.
    pub(super) fn lose_power(&mut self) {
        self.files.retain(|_, content| content.synced.is_some());
        self.names.retain(|_, file| self.files.contains_key(file));
        for content in self.files.values_mut() {
            content.now = content.synced.clone().unwrap_or_default();
        }
    }
}
