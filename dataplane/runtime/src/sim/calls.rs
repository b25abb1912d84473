//! What never waits, in a simulation.
//!
//! Owns nothing: it asks the [world](super::world) and gives out numbers of what is open there. Refuses what the kernel would, with its
//! error, and by the world's limits of descriptors. What it does otherwise stands where the call is documented ([`Calls`]).

use super::notices::What;
use super::{Sim, SimDescriptor};
use crate::calls::{Advice, Calls, Half, Metadata, OpenOptions, SocketKind, SocketOption, Started, Streams};
use crate::sim::watches::{self, Watches};
use crate::time::Instant;
use rustix::fs::inotify::WatchFlags;
use rustix::io::Errno;
use rustix::process::Signal;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus};

/// Bytes of a socket's path, at most (sockaddr_un, unix(7); the kernel needs no zero behind it).
const PATH: usize = 108;

/// Whether it can be a socket's.
fn check(path: &Path) -> Result<(), Errno> {
    if path.as_os_str().as_bytes().len() <= PATH { Ok(()) } else { Err(Errno::NAMETOOLONG) }
}

impl Calls<SimDescriptor> for Sim {
    fn clock(&self) -> Instant {
        self.world.state().now()
    }

    fn socket(&self, kind: SocketKind, ipv6: bool) -> Result<SimDescriptor, Errno> {
        self.world.has_room(1)?;
        let number = self.world.state().net().make(kind, ipv6);
        Ok(self.descriptor(number))
    }

    fn bind_unix(&self, socket: &SimDescriptor, path: &Path) -> Result<(), Errno> {
        check(path)?;
        self.world.state().on_disk(|disk| disk.put_socket(path, socket.number))
    }

    fn connect_unix(&self, socket: &SimDescriptor, path: &Path) -> Result<(), Errno> {
        check(path)?;
        self.world.state().connect_unix(socket.number, path)
    }

    fn pair(&self, kind: SocketKind) -> Result<(SimDescriptor, SimDescriptor), Errno> {
        self.two(Some(kind))
    }

    fn pipe(&self) -> Result<(SimDescriptor, SimDescriptor), Errno> {
        self.two(None)
    }

    fn bind(&self, socket: &SimDescriptor, address: SocketAddr) -> Result<(), Errno> {
        self.world.state().net().bind(socket.number, address)
    }

    fn listen(&self, socket: &SimDescriptor, backlog: u32) -> Result<(), Errno> {
        self.world.state().net().listen(socket.number, backlog as usize)
    }

    fn local_address(&self, socket: &SimDescriptor) -> Result<SocketAddr, Errno> {
        self.world.state().net().local_address(socket.number)
    }

    fn set_option(&self, socket: &SimDescriptor, option: SocketOption) -> Result<(), Errno> {
        self.world.state().net().set_option(socket.number, option)
    }

    fn shutdown(&self, socket: &SimDescriptor, half: Half) -> Result<(), Errno> {
        self.world.state().shut_down(socket.number, half)
    }

    fn open(&self, path: &Path, options: OpenOptions) -> Result<SimDescriptor, Errno> {
        self.world.has_room(1)?;
        let number = self.world.state().on_disk(|disk| disk.open(path, options))?;
        Ok(self.descriptor(number))
    }

    fn len(&self, file: &SimDescriptor) -> Result<u64, Errno> {
        self.world.state().disk.len(file.number)
    }

    fn truncate(&self, file: &SimDescriptor, length: u64) -> Result<(), Errno> {
        self.world.state().on_disk(|disk| disk.truncate(file.number, length))
    }

    fn advise(&self, file: &SimDescriptor, _: u64, _: u64, _: Advice) -> Result<(), Errno> {
        self.len(file).map(|_| ())
    }

    fn metadata(&self, path: &Path) -> Result<Metadata, Errno> {
        self.world.state().disk.metadata(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), Errno> {
        self.world.state().on_disk(|disk| disk.rename(from, to))
    }

    fn remove(&self, path: &Path, directory: bool) -> Result<(), Errno> {
        self.world.state().on_disk(|disk| disk.remove(path, directory))
    }

    fn make_directory(&self, path: &Path) -> Result<(), Errno> {
        self.world.state().on_disk(|disk| disk.make_directory(path))
    }

    fn names(&self, directory: &Path) -> Result<Vec<OsString>, Errno> {
        self.world.state().on_disk(|disk| disk.list(directory))
    }

    fn watches(&self) -> Result<SimDescriptor, Errno> {
        self.other(What::Watches(Watches::default()))
    }

    fn watch(&self, watches: &SimDescriptor, path: &Path, events: WatchFlags) -> Result<i32, Errno> {
        watches::check(events)?;
        let mut state = self.world.state();
        let node = state.disk.node(path, events.contains(WatchFlags::ONLYDIR))?;
        state.notices.watches(watches.number)?.add(node, events)
    }

    fn unwatch(&self, watches: &SimDescriptor, watch: i32) -> Result<(), Errno> {
        let mut state = self.world.state();
        state.notices.watches(watches.number)?.remove(watch)?;
        state.tell();
        Ok(())
    }

    fn signals(&self, signals: &[Signal]) -> Result<SimDescriptor, Errno> {
        if signals.iter().any(|signal| Signal::from_named_raw(signal.as_raw()).is_none()) {
            return Err(Errno::INVAL);
        }
        self.other(What::Signals(self.process, signals.to_vec()))
    }

    fn raise(&self, signal: Signal) -> Result<(), Errno> {
        self.world.signal(self.process, self.process, signal)
    }

    fn start(&self, command: &mut Command, streams: Streams) -> Result<Started<SimDescriptor>, Errno> {
        self.start_program(command, streams)
    }

    fn ended(&self, child: &SimDescriptor) -> Result<Option<ExitStatus>, Errno> {
        let mut state = self.world.state();
        let process = state.notices.child(child.number)?;
        Ok(state.processes.wait(process)?.map(ExitStatus::from_raw))
    }

    fn signal(&self, child: &SimDescriptor, signal: Signal) -> Result<(), Errno> {
        let process = self.world.state().notices.child(child.number)?;
        self.world.signal(self.process, process, signal)
    }

    fn end(&self, child: &SimDescriptor) {
        let _ = self.signal(child, Signal::KILL);
        let _ = self.ended(child);
    }
}

impl Sim {
    /// Two sockets of this kind, or a pipe's ends.
    fn two(&self, kind: Option<SocketKind>) -> Result<(SimDescriptor, SimDescriptor), Errno> {
        self.world.has_room(2)?;
        let (one, two) = self.world.state().net().pair(kind);
        Ok((self.descriptor(one), self.descriptor(two)))
    }

    pub(super) fn other(&self, what: What) -> Result<SimDescriptor, Errno> {
        self.world.has_room(1)?;
        let number = self.world.state().notices.add(what);
        Ok(self.descriptor(number))
    }
}
