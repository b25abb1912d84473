//! What happens to files and directories (inotify(7)).

use crate::calls::Calls;
use crate::driver::{Driver, Operation};
use crate::error::Error;
use crate::file::File;
use crate::io::Io;
use rustix::fs::inotify::{ReadFlags, WatchFlags};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::panic::Location;
use std::path::Path;

/// Bytes of an event without its name: watch, mask, cookie, length of the name.
const HEADER: usize = 16;
/// Bytes that are read at a time: a few events with the longest names.
const ROOM: usize = 4096;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchEvent {
    /// What [`Watches::add`] gave; -1 with [`ReadFlags::QUEUE_OVERFLOW`]: others came too fast and were lost, so all has to be
    /// looked at anew.
    pub watch: i32,
    /// What happened. [`ReadFlags::IGNORED`]: it was the watch's last.
    pub what: ReadFlags,
    /// The same with both halves of a rename, which otherwise is 0.
    pub cookie: u32,
    /// Of what it happened to in a directory that is watched; else nothing.
    pub name: OsString,
}

/// See the module.
#[derive(Debug)]
pub struct Watches<D: Driver> {
    file: File<D>,
    read: RefCell<VecDeque<WatchEvent>>,
}

impl<D: Driver> Watches<D> {
    /// None yet.
    ///
    /// # Errors
    /// As inotify_init1(2). EMFILE: fs.inotify.max_user_instances of this user are there.
    pub fn new(io: &Io<D>) -> Result<Self, Error> {
        let made = io.driver().calls().watches();
        let descriptor = made.map_err(|error| Error::system("make", "watches", error))?;
        Ok(Self { file: File::around(io, "watches", descriptor), read: RefCell::default() })
    }

    /// Watches what is at a path for these events; a path that is watched has these from now on, and the same number.
    ///
    /// # Errors
    /// As inotify_add_watch(2). ENOSPC: fs.inotify.max_user_watches of this user are there.
    pub fn add(&self, path: &Path, events: WatchFlags) -> Result<i32, Error> {
        let watched = self.file.io().driver().calls().watch(self.file.source().descriptor(), path, events);
        watched.map_err(|error| Error::system("watch", path.display(), error))
    }

    /// Watches it no more; [`ReadFlags::IGNORED`] comes behind what happened before.
    ///
    /// # Errors
    /// As inotify_rm_watch(2).
    pub fn remove(&self, watch: i32) -> Result<(), Error> {
        let removed = self.file.io().driver().calls().unwatch(self.file.source().descriptor(), watch);
        removed.map_err(|error| Error::system("remove the watch", watch, error))
    }

    /// What happened next. None is lost by dropping this.
    ///
    /// # Errors
    /// It was cancelled; or as read(2).
    #[track_caller]
    pub fn next(&self) -> impl Future<Output = Result<WatchEvent, Error>> {
        let line = Location::caller();
        async move {
            loop {
                if let Some(event) = self.read.borrow_mut().pop_front() {
                    return Ok(event);
                }
                let (flight, _) =
                    self.file.operate(line, Operation::ReadNext, Vec::with_capacity(ROOM)).await?;
                self.read.borrow_mut().extend(events(&flight.buffer));
            }
        }
    }
}

/// The events in what was read.
fn events(mut rest: &[u8]) -> impl Iterator<Item = WatchEvent> {
    std::iter::from_fn(move || {
        let (header, behind) = rest.split_first_chunk::<HEADER>()?;
        let word =
            |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let (name, behind) = behind.split_at_checked(word(12) as usize)?;
        rest = behind;
        // Filled up with zeros.
        let name = name.split(|byte| *byte == 0).next().unwrap_or(&[]).to_vec();
        Some(WatchEvent {
            watch: word(0) as i32,
            what: ReadFlags::from_bits_retain(word(4)),
            cookie: word(8),
            name: OsString::from_vec(name),
        })
    })
}

/// An event's bytes, as the kernel writes them: a name is filled up to a header's multiple, with one zero at least.
pub(crate) fn encode(event: &WatchEvent) -> Vec<u8> {
    let name = event.name.as_bytes();
    let length = if name.is_empty() { 0 } else { (name.len() + 1).next_multiple_of(HEADER) };
    let words = [event.watch as u32, event.what.bits(), event.cookie, length as u32];
    let mut bytes: Vec<u8> = words.into_iter().flat_map(u32::to_ne_bytes).collect();
    bytes.extend(name);
    bytes.resize(HEADER + length, 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_is_not_read() {
        let word = |number: u32| number.to_ne_bytes();
        let whole =
            [word(1), word(256), word(0), word(8), *b"name", [0; 4], word(2), word(8), word(0), word(0)]
                .concat();
        let read: Vec<_> = events(&whole).collect();
        assert_eq!(read.len(), 2);
        assert_eq!((read[0].watch, read[0].what, &*read[0].name), (1, ReadFlags::CREATE, "name".as_ref()));
        assert_eq!((read[1].watch, read[1].what, &*read[1].name), (2, ReadFlags::CLOSE_WRITE, "".as_ref()));
        for length in 0..whole.len() {
            assert_eq!(events(&whole[..length]).count(), usize::from(length >= 24));
        }
    }
}
