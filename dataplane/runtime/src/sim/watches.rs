//! Who watches what on the disk, and what they have not read yet (fs/notify/inotify/inotify_fsnotify.c).
//!
//! Keeps true: events are read in the order in which things happened; one that is the same as the last one is that one; of what does not
//! fit any more only that something did not is told, once until that is read (fsnotify_insert_event, fs/notify/notification.c).

use super::disk::Happening;
use crate::watches::{WatchEvent, encode};
use rustix::fs::inotify::{ReadFlags, WatchFlags};
use rustix::io::Errno;
use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;

/// Events that wait (fs.inotify.max_queued_events).
const QUEUE: usize = 16_384;

/// What may be asked for, events and how they are watched; something has to be (ALL_INOTIFY_BITS, include/linux/inotify.h).
const KNOWN: u32 = WatchFlags::ALL_EVENTS.bits()
    | WatchFlags::DONT_FOLLOW.bits()
    | WatchFlags::EXCL_UNLINK.bits()
    | WatchFlags::MASK_ADD.bits()
    | WatchFlags::MASK_CREATE.bits()
    | WatchFlags::ONESHOT.bits()
    | WatchFlags::ONLYDIR.bits()
    | ReadFlags::IGNORED.bits()
    | ReadFlags::ISDIR.bits()
    | ReadFlags::QUEUE_OVERFLOW.bits()
    | ReadFlags::UNMOUNT.bits();

/// Whether that can be watched for, which is asked before whether anything is there (inotify_add_watch,
/// fs/notify/inotify/inotify_user.c).
pub(super) fn check(events: WatchFlags) -> Result<(), Errno> {
    let both = WatchFlags::MASK_ADD | WatchFlags::MASK_CREATE;
    let wrong = events.is_empty() || events.bits() & !KNOWN != 0 || events.contains(both);
    if wrong { Err(Errno::INVAL) } else { Ok(()) }
}

struct Watch {
    node: u32,
    events: WatchFlags,
}

/// See the module.
#[derive(Default)]
pub(super) struct Watches {
    watches: BTreeMap<i32, Watch>,
    made: i32,
    queue: VecDeque<WatchEvent>,
    /// That something did not fit is in the queue.
    overflowed: bool,
}

impl Watches {
    /// The events have been [checked](check).
    pub(super) fn add(&mut self, node: u32, events: WatchFlags) -> Result<i32, Errno> {
        let known = self.watches.iter_mut().find(|(_, watch)| watch.node == node);
        let [adds, fresh] = [WatchFlags::MASK_ADD, WatchFlags::MASK_CREATE].map(|flag| events.contains(flag));
        match known {
            Some(_) if fresh => Err(Errno::EXIST),
            Some((number, watch)) => {
                watch.events = if adds { watch.events | events } else { events };
                Ok(*number)
            }
            None => {
                self.made += 1;
                self.watches.insert(self.made, Watch { node, events });
                Ok(self.made)
            }
        }
    }

    pub(super) fn remove(&mut self, watch: i32) -> Result<(), Errno> {
        self.watches.remove(&watch).ok_or(Errno::INVAL)?;
        self.push(watch, ReadFlags::IGNORED, 0, OsString::new());
        Ok(())
    }

    /// Something has happened. Who watches the directory is told before who watches what it happened to.
    pub(super) fn tell(&mut self, happening: &Happening) {
        let Happening { what, node, place, cookie, unnamed } = happening;
        if let Some((directory, name)) = place {
            self.tell_one(*directory, *what, *cookie, name, *unnamed);
        }
        let Some(node) = *node else { return };
        let of_itself = ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF;
        let what = if what.intersects(of_itself) { *what - ReadFlags::ISDIR } else { *what };
        self.tell_one(node, what, 0, &OsString::new(), *unnamed);
        if what.contains(ReadFlags::DELETE_SELF)
            && let Some(watch) = self.of_node(node)
        {
            let _ = self.remove(watch);
        }
    }

    fn of_node(&self, node: u32) -> Option<i32> {
        self.watches.iter().find(|(_, watch)| watch.node == node).map(|(number, _)| *number)
    }

    fn tell_one(&mut self, node: u32, what: ReadFlags, cookie: u32, name: &OsString, unnamed: bool) {
        let Some(number) = self.of_node(node) else { return };
        let events = self.watches[&number].events;
        let asked = events.bits() & WatchFlags::ALL_EVENTS.bits() & what.bits() != 0;
        if !asked || unnamed && events.contains(WatchFlags::EXCL_UNLINK) {
            return;
        }
        self.push(number, what, cookie, name.clone());
        if events.contains(WatchFlags::ONESHOT) {
            let _ = self.remove(number);
        }
    }

    fn push(&mut self, watch: i32, what: ReadFlags, cookie: u32, name: OsString) {
        if self.queue.len() >= QUEUE {
            if !std::mem::replace(&mut self.overflowed, true) {
                let (what, name) = (ReadFlags::QUEUE_OVERFLOW, OsString::new());
                self.queue.push_back(WatchEvent { watch: -1, what, cookie: 0, name });
            }
            return;
        }
        let same = |last: &WatchEvent| (last.watch, last.what, &last.name) == (watch, what, &name);
        if what == ReadFlags::IGNORED || !self.queue.back().is_some_and(same) {
            self.queue.push_back(WatchEvent { watch, what, cookie, name });
        }
    }

    /// As many events as there is room for; None: there is none. EINVAL: no room for the first.
    pub(super) fn read(&mut self, room: usize) -> Option<Result<Vec<u8>, Errno>> {
        let mut bytes = Vec::new();
        while let Some(event) = self.queue.front() {
            let encoded = encode(event);
            if bytes.len() + encoded.len() > room {
                return Some(if bytes.is_empty() { Err(Errno::INVAL) } else { Ok(bytes) });
            }
            bytes.extend(encoded);
            self.overflowed &= event.what != ReadFlags::QUEUE_OVERFLOW;
            self.queue.pop_front();
        }
        (!bytes.is_empty()).then_some(Ok(bytes))
    }
}
