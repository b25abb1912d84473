//! Files: what is written, and what of that a power failure leaves.
//!
//! Keeps true: after a power failure a file is as it was when it was synced the last time; one that never was is gone.

use super::{Reply, Request};
use crate::calls::OpenOptions;
use crate::driver::Operation;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[derive(Default)]
struct Content {
    now: Vec<u8>,
    synced: Option<Vec<u8>>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Disk {
    files: BTreeMap<PathBuf, Content>,
    open: BTreeMap<u32, (PathBuf, OpenOptions)>,
    made: u32,
}

impl Disk {
    pub(super) fn open_files(&self) -> usize {
        self.open.len()
    }

    /// Its number is odd.
    pub(super) fn open(&mut self, path: &Path, options: OpenOptions) -> Result<u32, Errno> {
        if options.create {
            self.files.entry(path.into()).or_default();
        }
        let content = self.files.get_mut(path).ok_or(Errno::NOENT)?;
        if options.truncate {
            content.now.clear();
        }
        let number = self.made * 2 + 1;
        self.made += 1;
        self.open.insert(number, (path.into(), options));
        Ok(number)
    }

    pub(super) fn close(&mut self, number: u32) {
        self.open.remove(&number);
    }

    pub(super) fn len(&self, number: u32) -> Result<u64, Errno> {
        let (path, _) = self.open.get(&number).ok_or(Errno::BADF)?;
        Ok(self.files.get(path).ok_or(Errno::IO)?.now.len() as u64)
    }

    pub(super) fn answer(&mut self, number: u32, request: &Request) -> Reply {
        let Some((path, options)) = self.open.get(&number) else { return Reply::Failed(Errno::BADF) };
        let Some(content) = self.files.get_mut(path) else { return Reply::Failed(Errno::IO) };
        match request.operation {
            Operation::Read(at) if options.read || !options.write => {
                let rest = usize::try_from(at).ok().and_then(|at| content.now.get(at..)).unwrap_or(&[]);
                Reply::Bytes(rest[..request.room.min(rest.len())].to_vec())
            }
            Operation::Write { at, .. } if options.write => {
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
        for content in self.files.values_mut() {
            content.now = content.synced.clone().unwrap_or_default();
        }
    }
}
