//! What is at which path: files, directories, and the sockets that were bound there.
//!
//! Owns: the names, and which of them a loss of power would leave. Refuses names below what is no directory, and paths that are not there.

use super::{Content, Disk, Happening, KINDS, Node, What};
use crate::calls::Metadata;
use crate::sim::FILE;
use rustix::fs::inotify::ReadFlags;
use rustix::io::Errno;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

impl Disk {
    /// Something new at a path where nothing is. The directory it is in is told.
    pub(super) fn make(&mut self, path: &Path, what: What) -> u32 {
        self.made += 1;
        let node = self.made * KINDS + FILE;
        let place = self.place(path);
        self.names.insert(path.into(), node);
        self.nodes.insert(node, Node { what, place: place.clone(), named: true });
        self.happen(ReadFlags::CREATE | self.kind(node), place, 0);
        node
    }

    /// What is at a path, if anything is. ENOENT, ENOTDIR: nothing can be, for a directory above it is missing, or is none.
    pub(super) fn find(&self, path: &Path) -> Result<Option<u32>, Errno> {
        if let Some(node) = self.names.get(path) {
            return Ok(Some(*node));
        }
        let above = path.ancestors().skip(1);
        let nearest = above.enumerate().find_map(|(at, path)| Some((at, *self.names.get(path)?)));
        match nearest {
            Some((_, node)) if !self.is_directory(node) => Err(Errno::NOTDIR),
            Some((1.., _)) => Err(Errno::NOENT),
            _ => Ok(None),
        }
    }

    /// Its directory, if it has one, and its name there.
    fn place(&self, path: &Path) -> Option<(u32, OsString)> {
        Some((*self.names.get(path.parent()?)?, path.file_name()?.into()))
    }

    /// Only a directory is told.
    fn happen(&mut self, what: ReadFlags, place: Option<(u32, OsString)>, cookie: u32) {
        self.happened.push(Happening { what, node: None, place, cookie, unnamed: false });
    }

    /// Only who watches the node itself is told.
    fn happen_to(&mut self, what: ReadFlags, node: u32) {
        let what = what | self.kind(node);
        self.happened.push(Happening { what, node: Some(node), place: None, cookie: 0, unnamed: false });
    }

    /// What an event says of a node's kind.
    pub(super) fn kind(&self, node: u32) -> ReadFlags {
        if self.is_directory(node) { ReadFlags::ISDIR } else { ReadFlags::empty() }
    }

    fn is_directory(&self, node: u32) -> bool {
        matches!(self.nodes.get(&node), Some(Node { what: What::Directory, .. }))
    }

    /// The socket that was bound to a path.
    pub(in crate::sim) fn socket(&self, path: &Path) -> Result<u32, Errno> {
        let node = self.find(path)?.ok_or(Errno::NOENT)?;
        match self.nodes.get(&node) {
            Some(Node { what: What::Socket(socket), .. }) => Ok(*socket),
            _ => Err(Errno::CONNREFUSED),
        }
    }

    /// A socket is bound to a path.
    pub(in crate::sim) fn put_socket(&mut self, path: &Path, socket: u32) -> Result<(), Errno> {
        if self.find(path)?.is_some() {
            return Err(Errno::ADDRINUSE);
        }
        self.make(path, What::Socket(socket));
        Ok(())
    }

    /// What is at a path, by its number.
    pub(in crate::sim) fn node(&self, path: &Path, only_directories: bool) -> Result<u32, Errno> {
        let node = self.find(path)?.ok_or(Errno::NOENT)?;
        if only_directories && !self.is_directory(node) { Err(Errno::NOTDIR) } else { Ok(node) }
    }

    pub(in crate::sim) fn metadata(&self, path: &Path) -> Result<Metadata, Errno> {
        let node = self.find(path)?.and_then(|node| self.nodes.get(&node)).ok_or(Errno::NOENT)?;
        let (length, permissions) = match &node.what {
            What::File(Content { now, .. }) => (now.len() as u64, 0o600),
            What::Directory | What::Socket(_) => (0, 0o700),
        };
        let directory = matches!(node.what, What::Directory);
        Ok(Metadata { length, directory, permissions, modified: Duration::ZERO })
    }

    pub(in crate::sim) fn rename(&mut self, from: &Path, to: &Path) -> Result<(), Errno> {
        let (node, replaced) = (self.find(from)?, self.find(to)?);
        let node = node.ok_or(Errno::NOENT)?;
        let directory = self.is_directory(node);
        match replaced.map(|node| self.is_directory(node)) {
            _ if from == to => return Ok(()),
            _ if directory && to.starts_with(from) => return Err(Errno::INVAL),
            _ if from.starts_with(to) => return Err(Errno::NOTEMPTY),
            Some(true) if !directory => return Err(Errno::ISDIR),
            Some(false) if directory => return Err(Errno::NOTDIR),
            Some(true) if !self.names(to)?.is_empty() => return Err(Errno::NOTEMPTY),
            _ => {}
        }
        let moved: Vec<_> = self.names.keys().filter(|path| path.starts_with(from)).cloned().collect();
        for path in moved {
            let inner = path.strip_prefix(from).unwrap_or(Path::new(""));
            let new = if inner.as_os_str().is_empty() { to.into() } else { to.join(inner) };
            if let Some(node) = self.names.remove(&path) {
                self.names.insert(new, node);
            }
        }
        self.cookie += 1;
        let kind = self.kind(node);
        let (place, cookie) = (self.place(to), self.cookie);
        let old =
            self.nodes.get_mut(&node).and_then(|node| std::mem::replace(&mut node.place, place.clone()));
        self.happen(ReadFlags::MOVED_FROM | kind, old, cookie);
        self.happen(ReadFlags::MOVED_TO | kind, place, cookie);
        if let Some(replaced) = replaced {
            self.happen_to(ReadFlags::ATTRIB, replaced);
        }
        self.happen_to(ReadFlags::MOVE_SELF, node);
        self.lose_name(replaced);
        Ok(())
    }

    fn lose_name(&mut self, node: Option<u32>) {
        let Some(number) = node else { return };
        if let Some(node) = self.nodes.get_mut(&number) {
            node.named = false;
        }
        self.forget(number);
    }

    pub(in crate::sim) fn remove(&mut self, path: &Path, directory: bool) -> Result<(), Errno> {
        let node = self.find(path)?.ok_or(Errno::NOENT)?;
        match (directory, self.is_directory(node)) {
            (true, false) => return Err(Errno::NOTDIR),
            (false, true) => return Err(Errno::ISDIR),
            (true, true) if !self.names(path)?.is_empty() => return Err(Errno::NOTEMPTY),
            _ => {}
        }
        self.names.remove(path);
        if !directory {
            self.happen_to(ReadFlags::ATTRIB, node);
        }
        let place = self.nodes.get(&node).and_then(|node| node.place.clone());
        let kind = self.kind(node);
        self.lose_name(Some(node));
        self.happen(ReadFlags::DELETE | kind, place, 0);
        Ok(())
    }

    pub(in crate::sim) fn make_directory(&mut self, path: &Path) -> Result<(), Errno> {
        if self.find(path)?.is_some() {
            return Err(Errno::EXIST);
        }
        self.make(path, What::Directory);
        Ok(())
    }

    pub(in crate::sim) fn names(&self, directory: &Path) -> Result<Vec<OsString>, Errno> {
        self.node(directory, true)?;
        let inside = self.names.keys().filter(|path| path.parent() == Some(directory));
        let mut names: Vec<OsString> =
            inside.filter_map(|path| path.file_name()).map(OsString::from).collect();
        names.sort();
        Ok(names)
    }

    /// As [`Disk::names`]; who watches the directory sees that it is read.
    pub(in crate::sim) fn list(&mut self, directory: &Path) -> Result<Vec<OsString>, Errno> {
        let (names, node) = (self.names(directory)?, self.node(directory, true)?);
        // It is read until nothing comes any more.
        for what in [ReadFlags::OPEN, ReadFlags::ACCESS, ReadFlags::ACCESS, ReadFlags::CLOSE_NOWRITE] {
            self.note(what | ReadFlags::ISDIR, node);
        }
        Ok(names)
    }
}
