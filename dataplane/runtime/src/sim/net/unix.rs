//! One end of what has two on this host: sockets of streams and of datagrams (unix(7)), and pipes.
//!
//! Owns: what has come to it, with the descriptors that were passed. Keeps true: what is sent is there at once, whole and in order, and
//! none is lost as long as both ends are there; who sends waits for room. A read ends behind bytes that descriptors were passed with, as
//! the kernel's does. Room is: of a stream and of a pipe 64 KiB (a kernel's stream has the sender's buffer, some of it for the kernel's
//! own); of datagrams to a path 11, and of all datagrams what the sender's buffer holds.

use crate::calls::Half;
use crate::driver::Operation;
use crate::sim::{Reply, Request};
use crate::uring::PASSED;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::collections::VecDeque;

/// Bytes of a stream that wait to be read: as many as a pipe has room for (pipe(7)).
const WINDOW: usize = 65_536;
/// Datagrams that wait before who sends the next one does, unless the receiver sends to it, too (net.unix.max_dgram_qlen is 10, and one
/// more is let in, net/unix/af_unix.c).
const DATAGRAMS: usize = 11;
/// Bytes of datagrams that one sender has waiting: it waits once they are as many (net.core.wmem_default).
const BUFFER: usize = 212_992;
/// What the kernel has of that for a datagram besides its bytes, at least (the truesize of an skb of one byte).
const KEPT: usize = 768;
/// Bytes of a datagram (unix_dgram_sendmsg, net/unix/af_unix.c).
const LONGEST: usize = BUFFER - 32;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Stream,
    Datagrams,
    Pipe,
    /// What is written is gone, and nothing is to be read (null(4)).
    Nowhere,
}

/// What has come.
struct Part {
    from: u32,
    bytes: VecDeque<u8>,
    passed: Vec<OwnedFd>,
    /// Nothing is put behind its bytes: it is a datagram, or descriptors came with it.
    whole: bool,
}

/// See the module.
pub(super) struct Unix {
    kind: Kind,
    peer: Option<u32>,
    inbox: VecDeque<Part>,
    /// The other end says nothing more.
    ended: bool,
    /// This end says nothing more.
    shut: bool,
    /// The other end went without having read all; told once.
    reset: bool,
}

impl Unix {
    pub(super) fn new(kind: Kind, peer: Option<u32>) -> Self {
        Self { kind, peer, inbox: VecDeque::new(), ended: false, shut: false, reset: false }
    }

    /// A stream that neither listens nor is connected.
    pub(super) fn is_new(&self) -> bool {
        self.kind == Kind::Stream && self.peer.is_none()
    }

    pub(super) fn is_of_datagrams(&self) -> bool {
        self.kind == Kind::Datagrams
    }

    /// Where it sends to.
    pub(super) fn peer(&self) -> Option<u32> {
        self.peer
    }

    pub(super) fn connect(&mut self, peer: u32) -> Result<(), Errno> {
        match self.peer {
            Some(_) if self.kind == Kind::Stream => Err(Errno::ISCONN),
            _ => {
                self.peer = Some(peer);
                Ok(())
            }
        }
    }

    pub(super) fn shut_down(&mut self, half: Half) {
        self.ended |= half != Half::Write;
        self.shut |= half != Half::Read;
    }

    /// The other end has done that.
    pub(super) fn other_shut_down(&mut self, half: Half) {
        self.shut_down(match half {
            Half::Read => Half::Write,
            Half::Write => Half::Read,
            Half::Both => Half::Both,
        });
    }

    /// Whether who is connected to it is told when it goes that not all was read.
    pub(super) fn has_unread(&self) -> bool {
        self.kind == Kind::Stream && !self.inbox.is_empty()
    }

    /// Who it is connected to has gone.
    pub(super) fn other_closed(&mut self, unread: bool) {
        if self.kind != Kind::Datagrams {
            self.shut_down(Half::Both);
            self.reset = unread;
        }
    }

    /// Something is asked of it, which is this number and whose other end is this one; None: it waits.
    pub(super) fn answer(
        &mut self,
        number: u32,
        other: Option<&mut Self>,
        request: &mut Request,
    ) -> Option<Reply> {
        match request.operation {
            Operation::Receive
            | Operation::ReceivePassed
            | Operation::ReceiveMessage
            | Operation::ReadNext => self.take(request.room),
            Operation::Send(_) | Operation::WriteNext(_) => {
                self.send(number, other, request).map(|sent| sent.map_or_else(Reply::Failed, Reply::Done))
            }
            _ => Some(Reply::Failed(Errno::OPNOTSUPP)),
        }
    }

    fn take(&mut self, room: usize) -> Option<Reply> {
        if self.kind == Kind::Datagrams {
            let mut part = self.inbox.pop_front()?;
            part.bytes.truncate(room);
            return Some(Reply::Message(part.bytes.into(), part.passed));
        }
        if self.inbox.is_empty() {
            if std::mem::take(&mut self.reset) {
                return Some(Reply::Failed(Errno::CONNRESET));
            }
            return (self.ended || self.kind == Kind::Nowhere).then(|| Reply::Bytes(Vec::new()));
        }
        let mut bytes = Vec::new();
        // (What is behind the last byte that has room is not looked at: descriptors come with their bytes.)
        while bytes.len() < room
            && let Some(part) = self.inbox.front_mut()
        {
            let most = (room - bytes.len()).min(part.bytes.len());
            bytes.extend(part.bytes.drain(..most));
            let passed = std::mem::take(&mut part.passed);
            if !part.bytes.is_empty() {
                return Some(Reply::Message(bytes, passed));
            }
            self.inbox.pop_front();
            if !passed.is_empty() {
                return Some(Reply::Message(bytes, passed));
            }
        }
        Some(Reply::Bytes(bytes))
    }

    /// To the other end; None: that has no room.
    fn send(
        &mut self,
        number: u32,
        other: Option<&mut Self>,
        request: &mut Request,
    ) -> Option<Result<usize, Errno>> {
        let passed = &mut request.passed;
        if passed.len() > PASSED {
            return Some(Err(Errno::INVAL));
        }
        if self.kind == Kind::Nowhere {
            return Some(Ok(request.bytes.len()));
        }
        if self.shut {
            return Some(Err(Errno::PIPE));
        }
        let Some(other) = other else {
            // Told once, then it is connected to nobody, and what came from there is lost (unix_dgram_disconnected, net/unix/af_unix.c).
            let gone = self.peer.take().is_some();
            self.inbox.clear();
            return Some(Err(if gone { Errno::CONNREFUSED } else { Errno::NOTCONN }));
        };
        if self.kind == Kind::Datagrams {
            if request.bytes.len() > LONGEST {
                return Some(Err(Errno::MSGSIZE));
            }
            let mine = other.inbox.iter().filter(|part| part.from == number);
            let waiting: usize = mine.map(|part| part.bytes.len() + KEPT).sum();
            if waiting >= BUFFER || other.peer != Some(number) && other.inbox.len() >= DATAGRAMS {
                return None;
            }
            let (bytes, passed) = (request.bytes.iter().copied().collect(), std::mem::take(passed));
            other.inbox.push_back(Part { from: number, bytes, passed, whole: true });
            return Some(Ok(request.bytes.len()));
        }
        let waiting: usize = other.inbox.iter().map(|part| part.bytes.len()).sum();
        let length = request.bytes.len().min(WINDOW.saturating_sub(waiting));
        let Some(bytes) = request.bytes.get(..length).filter(|bytes| !bytes.is_empty()) else {
            return request.bytes.is_empty().then_some(Ok(0));
        };
        match other.inbox.back_mut() {
            Some(last) if !last.whole && passed.is_empty() => last.bytes.extend(bytes),
            _ => {
                let (whole, passed) = (!passed.is_empty(), std::mem::take(passed));
                let bytes = bytes.iter().copied().collect();
                other.inbox.push_back(Part { from: number, bytes, passed, whole });
            }
        }
        Some(Ok(length))
    }
}
