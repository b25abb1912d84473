//! One end of what has two on this host: sockets of streams and of datagrams (unix(7)), and pipes.
//!
//! Owns: what has come to it, with the descriptors that were passed. Keeps true: what is sent is there at once, whole and in order, and
//! none is lost; who sends waits for room. A read ends behind bytes that descriptors were passed with, as the kernel's does.

use crate::calls::Half;
use crate::driver::Operation;
use crate::sim::{Reply, Request};
use crate::uring::PASSED;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::collections::VecDeque;

/// Bytes of a stream that wait to be read: as many as a pipe has room for (pipe(7)).
const WINDOW: usize = 65_536;
/// Datagrams that wait before who sends the next one does (net.unix.max_dgram_qlen is 10, and one more is let in, net/unix/af_unix.c).
const DATAGRAMS: usize = 11;
/// Bytes of a datagram (net.core.wmem_default, less what the kernel keeps of it).
const LONGEST: usize = 212_960;
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

    /// Something is asked of it, whose other end is this one; None: it waits.
    pub(super) fn answer(&mut self, other: Option<&mut Self>, request: &mut Request) -> Option<Reply> {
        match request.operation {
            Operation::Receive
            | Operation::ReceivePassed
            | Operation::ReceiveMessage
            | Operation::ReadNext => self.take(request.room),
            Operation::Send(_) | Operation::WriteNext(_) => {
                self.send(other, request).map(|sent| sent.map_or_else(Reply::Failed, Reply::Done))
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
        while let Some(part) = self.inbox.front_mut() {
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
    fn send(&mut self, other: Option<&mut Self>, request: &mut Request) -> Option<Result<usize, Errno>> {
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
            // Told once, then it is connected to nobody.
            let gone = self.peer.take().is_some();
            return Some(Err(if gone { Errno::CONNREFUSED } else { Errno::NOTCONN }));
        };
        if self.kind == Kind::Datagrams {
            if request.bytes.len() > LONGEST {
                return Some(Err(Errno::MSGSIZE));
            }
            if other.inbox.len() >= DATAGRAMS {
                return None;
            }
            let (bytes, passed) = (request.bytes.iter().copied().collect(), std::mem::take(passed));
            other.inbox.push_back(Part { bytes, passed, whole: true });
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
                other.inbox.push_back(Part { bytes: bytes.iter().copied().collect(), passed, whole });
            }
        }
        Some(Ok(length))
    }
}
