//! Sockets of this host among each other, and pipes: who is connected to whom.
//!
//! Owns: the ends, by their numbers. Refuses, with the kernel's errors, whom nobody listens for, and kinds that do not fit each other.

use super::{Effects, Kind, Net, Socket, Unix, What};
use crate::calls::{Half, SocketKind};
use rustix::io::Errno;

impl Net {
    /// Two that are connected: sockets, or a pipe's ends, of which the second is written to.
    pub(in crate::sim) fn pair(&mut self, kind: Option<SocketKind>) -> (u32, u32) {
        let kind = match kind {
            Some(SocketKind::UnixDatagram) => Kind::Datagrams,
            Some(_) => Kind::Stream,
            None => Kind::Pipe,
        };
        let one = self.add(What::Unix(Unix::new(kind, None)), false, None);
        let two = self.add(What::Unix(Unix::new(kind, Some(one))), false, None);
        if let Ok(unix) = self.unix(one) {
            let _ = unix.connect(two);
        }
        (one, two)
    }

    /// What leads nowhere.
    pub(in crate::sim) fn nowhere(&mut self) -> u32 {
        self.add(What::Unix(Unix::new(Kind::Nowhere, None)), false, None)
    }

    fn unix(&mut self, number: u32) -> Result<&mut Unix, Errno> {
        match &mut self.socket(number)?.what {
            What::Unix(unix) => Ok(unix),
            _ => Err(Errno::BADF),
        }
    }

    /// Connects to the socket that is bound where this one wants to go. ECONNREFUSED: that is closed, or does not listen. EAGAIN: as many
    /// wait there as may.
    pub(in crate::sim) fn connect_unix(&mut self, number: u32, to: u32) -> Result<Effects, Errno> {
        let mut effects = Effects::default();
        let of_datagrams = self.unix(number)?.is_of_datagrams();
        match &self.sockets.get(&to).ok_or(Errno::CONNREFUSED)?.what {
            What::Unix(other) if of_datagrams && other.is_of_datagrams() => {
                self.unix(number)?.connect(to)?;
            }
            // (One more than it says, as the kernel has it.)
            What::Listener { backlog, most, .. } if !of_datagrams && backlog.len() > *most => {
                return Err(Errno::AGAIN);
            }
            What::Listener { .. } if !of_datagrams => {
                if !self.unix(number)?.is_new() {
                    return Err(Errno::ISCONN);
                }
                let child = self.add(What::Unix(Unix::new(Kind::Stream, Some(number))), false, None);
                self.unix(number)?.connect(child)?;
                if let What::Listener { backlog, .. } = &mut self.socket(to)?.what {
                    backlog.push_back(child);
                }
                self.answer(to, &mut effects);
            }
            What::Unix(other) if other.is_of_datagrams() == of_datagrams => return Err(Errno::CONNREFUSED),
            _ => return Err(Errno::PROTOTYPE),
        }
        Ok(effects)
    }

    /// The other end of one that has been shut down is told.
    pub(super) fn shut_down_other(&mut self, number: u32, half: Half) -> Effects {
        let mut effects = Effects::default();
        let other = self.unix(number).ok().and_then(|unix| unix.peer());
        if let Some(other) = other {
            if let Ok(unix) = self.unix(other) {
                unix.other_shut_down(half);
            }
            self.answer(other, &mut effects);
        }
        effects
    }

    /// One that is closed; who is connected to it is told.
    pub(super) fn leave(&mut self, number: u32, unread: bool) -> Effects {
        let mut effects = Effects::default();
        for other in self.connected_to(number) {
            if let Ok(unix) = self.unix(other) {
                unix.other_closed(unread);
            }
            self.answer(other, &mut effects);
        }
        effects
    }

    /// One that was never accepted.
    pub(super) fn turn_away(&mut self, child: u32) -> Effects {
        self.sockets.remove(&child);
        self.leave(child, true)
    }

    /// What a socket has done may be what those wait for who are connected to it.
    pub(super) fn answer_others(&mut self, number: u32, effects: &mut Effects) {
        if self.unix(number).is_ok() {
            for other in self.connected_to(number) {
                self.answer(other, effects);
            }
        }
    }

    fn connected_to(&self, number: u32) -> Vec<u32> {
        let is_it = |socket: &Socket| matches!(&socket.what, What::Unix(unix) if unix.peer() == Some(number));
        self.sockets.iter().filter(|(_, socket)| is_it(socket)).map(|(number, _)| *number).collect()
    }
}
