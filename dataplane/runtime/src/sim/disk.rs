//! Files: what is written, and what of that a power failure leaves.
//!
//! Keeps true: after a power failure a file is as it was when it was synced the last time; one that never was is gone. Names and
//! directories are on the disk at once. A file that has lost its name is there as long as it is open. What is in no
//! directory that was made here needs none to be in.
//! What happens is noted ([`Happening`]), in the order in which the kernel tells of it, for those who watch.

mod names;

use super::{FILE, KINDS, Reply, Request};
use crate::calls::OpenOptions;
use crate::driver::Operation;
use rustix::fs::inotify::ReadFlags;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

#[derive(Default)]
struct Content {
    now: Vec<u8>,
    synced: Option<Vec<u8>>,
}

enum What {
    File(Content),
    Directory,
    /// A socket that was bound here, whether or not it is still open.
    Socket(u32),
}

struct Node {
    what: What,
    /// In which directory it has, or had last, which name.
    place: Option<(u32, OsString)>,
    /// Whether it has that still.
    named: bool,
}

/// Something that happened, for those who watch.
pub(super) struct Happening {
    pub(super) what: ReadFlags,
    /// To which node. None: it is its directory's affair alone.
    pub(super) node: Option<u32>,
    /// In which directory, by which name.
    pub(super) place: Option<(u32, OsString)>,
    pub(super) cookie: u32,
    /// It was done with something open that has no name any more.
    pub(super) unnamed: bool,
}

/// See the module.
#[derive(Default)]
pub(super) struct Disk {
    names: BTreeMap<PathBuf, u32>,
    nodes: BTreeMap<u32, Node>,
    /// Which node, by descriptor.
    open: BTreeMap<u32, (u32, OpenOptions)>,
    made: u32,
    cookie: u32,
    happened: Vec<Happening>,
}

impl Disk {
    pub(super) fn open_files(&self) -> usize {
        self.open.len()
    }

    /// What has happened since this was asked.
    pub(super) fn happened(&mut self) -> Vec<Happening> {
        std::mem::take(&mut self.happened)
    }

    /// It happened to this node, and its directory is told too.
    fn note(&mut self, what: ReadFlags, node: u32) {
        let Some(Node { place, named, .. }) = self.nodes.get(&node) else { return };
        let (place, unnamed) = (place.clone(), !named);
        self.happened.push(Happening { what, node: Some(node), place, cookie: 0, unnamed });
    }

    /// Its number is one of a file: see [`KINDS`].
    pub(super) fn open(&mut self, path: &Path, options: OpenOptions) -> Result<u32, Errno> {
        let mut fresh = false;
        let node = match self.find(path)? {
            Some(node) => {
                match self.nodes.get(&node).map(|node| &node.what) {
                    Some(What::File(_)) => {}
                    Some(What::Directory) if !(options.write || options.create || options.truncate) => {}
                    Some(What::Directory) => return Err(Errno::ISDIR),
                    _ => return Err(Errno::NXIO),
                }
                node
            }
            None if options.create => {
                fresh = true;
                self.make(path, What::File(Content::default()))
            }
            None => return Err(Errno::NOENT),
        };
        self.note(ReadFlags::OPEN | self.kind(node), node);
        if options.truncate && !fresh {
            self.content(node)?.now.clear();
            self.note(ReadFlags::MODIFY, node);
        }
        self.made += 1;
        let number = self.made * KINDS + FILE;
        self.open.insert(number, (node, options));
        Ok(number)
    }

    fn content(&mut self, node: u32) -> Result<&mut Content, Errno> {
        match self.nodes.get_mut(&node).map(|node| &mut node.what) {
            Some(What::File(content)) => Ok(content),
            _ => Err(Errno::IO),
        }
    }

    pub(super) fn close(&mut self, number: u32) {
        let Some((node, options)) = self.open.remove(&number) else { return };
        let what = if options.write { ReadFlags::CLOSE_WRITE } else { ReadFlags::CLOSE_NOWRITE };
        self.note(what | self.kind(node), node);
        self.forget(node);
    }

    /// A node that can be reached no more is gone. (A directory stays with what is open that was in it.)
    fn forget(&mut self, node: u32) {
        let within = |other: &Node| other.place.as_ref().is_some_and(|(directory, _)| *directory == node);
        let reached = self.open.values().any(|(open, _)| *open == node) || self.nodes.values().any(within);
        if reached || self.nodes.get(&node).is_none_or(|node| node.named) {
            return;
        }
        let what = ReadFlags::DELETE_SELF;
        self.happened.push(Happening { what, node: Some(node), place: None, cookie: 0, unnamed: false });
        if let Some(Node { place: Some((directory, _)), .. }) = self.nodes.remove(&node) {
            self.forget(directory);
        }
    }

    pub(super) fn len(&mut self, number: u32) -> Result<u64, Errno> {
        let (node, _) = *self.open.get(&number).ok_or(Errno::BADF)?;
        Ok(self.content(node).map_or(0, |content| content.now.len() as u64))
    }

    pub(super) fn truncate(&mut self, number: u32, length: u64) -> Result<(), Errno> {
        let (node, options) = *self.open.get(&number).ok_or(Errno::BADF)?;
        if !options.write {
            return Err(Errno::INVAL);
        }
        let length = usize::try_from(length).map_err(|_| Errno::FBIG)?;
        self.content(node)?.now.resize(length, 0);
        self.note(ReadFlags::MODIFY, node);
        // That is told whether or not it has a name (fsnotify_change, include/linux/fsnotify.h, says nothing of a path).
        self.happened.iter_mut().for_each(|happening| happening.unnamed = false);
        Ok(())
    }

    pub(super) fn answer(&mut self, number: u32, request: &Request) -> Reply {
        let Some((node, options)) = self.open.get(&number).copied() else {
            return Reply::Failed(Errno::BADF);
        };
        let Ok(content) = self.content(node) else {
            // Of a directory nothing has to be written, see the module.
            return match request.operation {
                Operation::Sync { .. } => Reply::Done(0),
                Operation::Read(_) | Operation::ReadVectored(_) => Reply::Failed(Errno::ISDIR),
                _ => Reply::Failed(Errno::BADF),
            };
        };
        match request.operation {
            Operation::Read(at) | Operation::ReadVectored(at) if options.read || !options.write => {
                let rest = usize::try_from(at).ok().and_then(|at| content.now.get(at..)).unwrap_or(&[]);
                let bytes = rest[..request.room.min(rest.len())].to_vec();
                if !bytes.is_empty() {
                    self.note(ReadFlags::ACCESS, node);
                }
                Reply::Bytes(bytes)
            }
            Operation::Write { at, .. } | Operation::WriteVectored(at) if options.write => {
                let Some(end) = usize::try_from(at).ok().and_then(|at| at.checked_add(request.bytes.len()))
                else {
                    return Reply::Failed(Errno::FBIG);
                };
                if request.bytes.is_empty() {
                    return Reply::Done(0);
                }
                if content.now.len() < end {
                    content.now.resize(end, 0);
                }
                content.now[end - request.bytes.len()..end].copy_from_slice(&request.bytes);
                self.note(ReadFlags::MODIFY, node);
                Reply::Done(request.bytes.len())
            }
            Operation::Sync { .. } => {
                content.synced = Some(content.now.clone());
                Reply::Done(0)
            }
            _ => Reply::Failed(Errno::BADF),
        }
    }

    /// See the module. (Nobody who watches sees it: in the real world they are gone, too.)
    pub(super) fn lose_power(&mut self) {
        let is_lost = |node: &Node| matches!(&node.what, What::File(content) if content.synced.is_none());
        self.nodes.retain(|_, node| !is_lost(node));
        self.names.retain(|_, node| self.nodes.contains_key(node));
        for node in self.nodes.values_mut() {
            if let What::File(content) = &mut node.what {
                content.now = content.synced.clone().unwrap_or_default();
            }
        }
    }
}
