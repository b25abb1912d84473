//! One end of a connection.

use super::{Arrival, Effects};
use crate::calls::Half;
use crate::driver::Operation;
use crate::sim::{Reply, Request};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::net::SocketAddr;

/// Bytes that may be under way, or wait to be read.
const WINDOW: usize = 65_536;

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    Connecting,
    Open,
    Failed(Errno),
}

pub(super) struct Stream {
    state: State,
    remote: Option<SocketAddr>,
    peer: Option<u32>,
    inbox: VecDeque<u8>,
    /// The other end is done.
    ended: bool,
    /// This end is.
    shut: bool,
    /// Bytes that the other end has room for.
    room: usize,
}

impl Stream {
    pub(super) fn new() -> Self {
        let inbox = VecDeque::new();
        let (state, remote, peer) = (State::New, None, None);
        Self { state, remote, peer, inbox, ended: false, shut: false, room: WINDOW }
    }

    /// The end that was connected to.
    pub(super) fn connected(remote: SocketAddr, peer: u32) -> Self {
        Self { state: State::Open, remote: Some(remote), peer: Some(peer), ..Self::new() }
    }

    pub(super) fn is_new(&self) -> bool {
        self.state == State::New
    }

    pub(super) fn remote(&self) -> Option<SocketAddr> {
        self.remote
    }

    pub(super) fn connect(&mut self, to: SocketAddr) -> Result<(), Errno> {
        match self.state {
            State::New => {}
            State::Connecting => return Err(Errno::ALREADY),
            _ => return Err(Errno::ISCONN),
        }
        (self.state, self.remote) = (State::Connecting, Some(to));
        Ok(())
    }

    /// To the other end, if there is one and this end is not done.
    fn last_word(&mut self, word: impl FnOnce(u32) -> Arrival) -> Effects {
        match self.peer {
            Some(peer) if !self.shut && self.state == State::Open => {
                self.shut = true;
                Effects::sends(word(peer))
            }
            _ => Effects::default(),
        }
    }

    pub(super) fn shut_down(&mut self, half: Half) -> Result<Effects, Errno> {
        if self.state != State::Open {
            return Err(Errno::NOTCONN);
        }
        if half != Half::Write {
            self.ended = true;
        }
        Ok(if half == Half::Read { Effects::default() } else { self.last_word(|to| Arrival::Fin { to }) })
    }

    /// What was not read is lost, and the other end is told so.
    pub(super) fn close(&mut self) -> Effects {
        let unread = !self.inbox.is_empty();
        match self.peer {
            Some(to) if unread && self.state == State::Open => Effects::sends(Arrival::Reset { to }),
            _ => self.last_word(|to| Arrival::Fin { to }),
        }
    }

    pub(super) fn answer(
        &mut self,
        number: u32,
        operation: Operation,
        request: &Request,
        effects: &mut Effects,
    ) -> Option<Reply> {
        let peer = match (self.state, operation) {
            (State::Connecting, _) => return None,
            (State::New, _) => return Some(Reply::Failed(Errno::NOTCONN)),
            (State::Open, Operation::Connect) => return Some(Reply::Done(0)),
            // What came before can still be read.
            (State::Failed(error), _) if self.inbox.is_empty() || operation != Operation::Receive => {
                return Some(Reply::Failed(error));
            }
            _ => self.peer?,
        };
        match operation {
            Operation::Receive if !self.inbox.is_empty() => {
                let bytes: Vec<u8> = self.inbox.drain(..request.room.min(self.inbox.len())).collect();
                effects.sent.push(Arrival::Room { to: peer, bytes: bytes.len() });
                Some(Reply::Bytes(bytes))
            }
            Operation::Receive => self.ended.then(|| Reply::Bytes(Vec::new())),
            Operation::Send(_) if self.shut => Some(Reply::Failed(Errno::PIPE)),
            Operation::Send(_) if request.bytes.is_empty() => Some(Reply::Done(0)),
            Operation::Send(_) if self.room > 0 => {
                let length = request.bytes.len().min(self.room);
                self.room -= length;
                let bytes = request.bytes[..length].to_vec();
                effects.sent.push(Arrival::Bytes { from: number, to: peer, bytes });
                Some(Reply::Done(length))
            }
            Operation::Send(_) => None,
            _ => Some(Reply::Failed(Errno::OPNOTSUPP)),
        }
    }

    pub(super) fn arrive(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::SynAck { peer, .. } if self.state == State::Connecting => {
                (self.state, self.peer) = (State::Open, Some(peer));
            }
            Arrival::Refused { .. } => self.state = State::Failed(Errno::CONNREFUSED),
            Arrival::Bytes { bytes, .. } => self.inbox.extend(bytes),
            Arrival::Room { bytes, .. } => self.room += bytes,
            Arrival::Fin { .. } => self.ended = true,
            Arrival::Reset { .. } => self.state = State::Failed(Errno::CONNRESET),
            _ => {}
        }
    }
}
