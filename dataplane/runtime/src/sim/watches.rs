//! Who watches what on the disk, and what they have not read yet (fs/notify/inotify/inotify_fsnotify.c).
//!
//! Keeps true: events are read in the order in which things happened; one that is the same as the last one is that one; of what does not
//! fit any more only that something did not is told.

use super::disk::Happening;
use crate::watches::{WatchEvent, encode};
use rustix::fs::inotify::{ReadFlags, WatchFlags};
use rustix::io::Errno;
use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;

/// Events that wait (fs.inotify.max_queued_events).
const QUEUE: usize = 16_384;

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
}

impl Watches {
    pub(super) fn add(&mut self, node: u32, events: WatchFlags) -> Result<i32, Errno> {
        let known = self.watches.iter_mut().find(|(_, watch)| watch.node == node);
        let [adds, fresh] = [WatchFlags::MASK_ADD, WatchFlags::MASK_CREATE].map(|flag| events.contains(flag));
        if !events.intersects(WatchFlags::ALL_EVENTS) || adds && fresh {
            return Err(Errno::INVAL);
        }
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
        let event = WatchEvent { watch, what, cookie, name };
        let same = |last: &WatchEvent| (last.watch, last.what, &last.name) == (watch, what, &event.name);
        match self.queue.len() {
            _ if what != ReadFlags::IGNORED && self.queue.back().is_some_and(same) => {}
            ..QUEUE => self.queue.push_back(event),
            QUEUE => {
                let (what, name) = (ReadFlags::QUEUE_OVERFLOW, OsString::new());
                self.queue.push_back(WatchEvent { watch: -1, what, cookie: 0, name });
            }
            _ => {}
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
            self.queue.pop_front();
        }
        (!bytes.is_empty()).then_some(Ok(bytes))
    }
}
