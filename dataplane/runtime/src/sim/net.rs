//! A network of one host: all addresses are its own.
//!
//! Keeps true: what is asked of a socket is answered in its order, each way; a stream's bytes come once and in order; a sender has no
//! more under way than the receiver has room for. It plans nothing by itself: it says what is to be answered, and sent.

mod arrival;
mod host;
mod places;
mod stream;
mod udp;
mod unix;

use super::{KINDS, Reply, Request};
use crate::calls::{Half, SocketKind, SocketOption};
use crate::driver::Operation;
use crate::time::Instant;
pub(super) use arrival::{Arrival, Effects};
use rustix::io::Errno;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use stream::Stream;
use udp::Udp;
use unix::{Kind, Unix};

enum What {
    Udp(Udp),
    Listener { backlog: VecDeque<u32>, most: usize, local: bool },
    Stream(Stream),
    Unix(Unix),
}

struct Socket {
    what: What,
    ipv6: bool,
    local: Option<SocketAddr>,
    /// What is asked of it, oldest first.
    wants: VecDeque<(u32, Request)>,
}

#[derive(Default)]
pub(super) struct Net {
    sockets: BTreeMap<u32, Socket>,
    /// Who is where: datagrams (true), or listeners.
    bound: BTreeMap<(bool, SocketAddr), u32>,
    made: u32,
    port: u16,
    /// What waits for the end of a partition.
    blocked: Vec<Arrival>,
    /// When the last that was sent to each stream arrives.
    last: BTreeMap<u32, Instant>,
}

impl Net {
    pub(super) fn open(&self) -> usize {
        self.sockets.len()
    }

    fn add(&mut self, what: What, ipv6: bool, local: Option<SocketAddr>) -> u32 {
        self.made += KINDS;
        self.sockets.insert(self.made, Socket { what, ipv6, local, wants: VecDeque::new() });
        self.made
    }

    /// Its number is one of a socket: see [`KINDS`].
    pub(super) fn make(&mut self, kind: SocketKind, ipv6: bool) -> u32 {
        let what = match kind {
            SocketKind::Udp => What::Udp(Udp::default()),
            SocketKind::Tcp => What::Stream(Stream::new()),
            SocketKind::UnixDatagram => What::Unix(Unix::new(Kind::Datagrams, None)),
            SocketKind::UnixStream => What::Unix(Unix::new(Kind::Stream, None)),
        };
        self.add(what, ipv6, None)
    }

    fn socket(&mut self, number: u32) -> Result<&mut Socket, Errno> {
        self.sockets.get_mut(&number).ok_or(Errno::BADF)
    }

    pub(super) fn listen(&mut self, number: u32, most: usize) -> Result<(), Errno> {
        if let What::Unix(unix) = &self.socket(number)?.what {
            if !unix.is_new() {
                return Err(Errno::INVAL);
            }
            self.socket(number)?.what = What::Listener { backlog: VecDeque::new(), most, local: true };
            return Ok(());
        }
        let local = self.bind_any(number)?;
        if self.bound.contains_key(&(false, local)) {
            return Err(Errno::ADDRINUSE);
        }
        let socket = self.socket(number)?;
        if !matches!(&socket.what, What::Stream(stream) if stream.is_new()) {
            return Err(Errno::INVAL);
        }
        socket.what = What::Listener { backlog: VecDeque::new(), most, local: false };
        self.bound.insert((false, local), number);
        Ok(())
    }

    pub(super) fn set_option(&mut self, number: u32, option: SocketOption) -> Result<(), Errno> {
        match &mut self.socket(number)?.what {
            What::Udp(udp) => udp.set(option),
            _ => Ok(()),
        }
    }

    pub(super) fn shut_down(&mut self, number: u32, half: Half) -> Result<Effects, Errno> {
        let mut effects = match &mut self.socket(number)?.what {
            What::Stream(stream) => stream.shut_down(half)?,
            What::Unix(unix) => {
                unix.shut_down(half);
                self.shut_down_other(number, half)
            }
            _ => return Err(Errno::NOTCONN),
        };
        self.answer(number, &mut effects);
        Ok(effects)
    }

    pub(super) fn close(&mut self, number: u32) -> Effects {
        self.last.remove(&number);
        let Some(socket) = self.sockets.remove(&number) else { return Effects::default() };
        if let Some(local) = socket.local {
            self.bound.retain(|(_, address), who| *who != number || *address != local);
        }
        match socket.what {
            What::Udp(_) => Effects::default(),
            What::Stream(mut stream) => stream.close(),
            What::Unix(unix) => self.leave(number, unix.has_unread()),
            What::Listener { backlog, local, .. } => {
                let mut effects = Effects::default();
                for child in backlog {
                    effects.extend(if local { self.turn_away(child) } else { self.close(child) });
                }
                effects
            }
        }
    }

    /// Something is asked of a socket.
    pub(super) fn request(&mut self, number: u32, flight: u32, request: Request) -> Effects {
        let mut effects = Effects::default();
        let begun = match request.operation {
            Operation::Connect => self.connect(number, &request, &mut effects),
            Operation::Send(_) if request.address.is_some() => self.bind_any(number).map(|_| ()),
            _ => Ok(()),
        };
        match (begun, self.sockets.get_mut(&number)) {
            (Ok(()), Some(socket)) => socket.wants.push_back((flight, request)),
            (Err(error), _) => effects.answers.push((flight, Reply::Failed(error))),
            (Ok(()), None) => effects.answers.push((flight, Reply::Failed(Errno::BADF))),
        }
        self.answer(number, &mut effects);
        effects
    }

    fn connect(&mut self, number: u32, request: &Request, effects: &mut Effects) -> Result<(), Errno> {
        let to = request.address.ok_or(Errno::DESTADDRREQ)?;
        let address = self.bind_any(number)?;
        let What::Stream(stream) = &mut self.socket(number)?.what else { return Err(Errno::OPNOTSUPP) };
        stream.connect(to)?;
        effects.sent.push(Arrival::Syn { from: number, address, to });
        Ok(())
    }

    /// Takes back what was asked; false when it is answered already.
    pub(super) fn cancel(&mut self, flight: u32) -> bool {
        for socket in self.sockets.values_mut() {
            if let Some(place) = socket.wants.iter().position(|(want, _)| *want == flight) {
                socket.wants.remove(place);
                return true;
            }
        }
        false
    }

    /// Answers what can be answered of what a socket was asked.
    fn answer(&mut self, number: u32, effects: &mut Effects) {
        let Some(mut socket) = self.sockets.remove(&number) else { return };
        // Who cannot be answered keeps those behind it waiting that want the same.
        let (mut takes, mut gives, mut answered) = (true, true, false);
        let mut rest = VecDeque::new();
        while let Some((flight, mut request)) = socket.wants.pop_front() {
            let turn = if request.operation.takes() { &mut takes } else { &mut gives };
            let reply =
                if *turn { self.try_answer(number, &mut socket, &mut request, effects) } else { None };
            match reply {
                Some(reply) => {
                    answered = true;
                    effects.answers.push((flight, reply));
                }
                None => {
                    *turn = false;
                    rest.push_back((flight, request));
                }
            }
        }
        socket.wants = rest;
        self.sockets.insert(number, socket);
        if answered {
            self.answer_others(number, effects);
        }
    }

    fn try_answer(
        &mut self,
        number: u32,
        socket: &mut Socket,
        request: &mut Request,
        effects: &mut Effects,
    ) -> Option<Reply> {
        match (&mut socket.what, request.operation) {
            (What::Udp(udp), Operation::ReceiveFrom | Operation::ReceiveMessage) => udp.take(),
            (What::Udp(udp), Operation::Send(_)) => {
                let sent = socket.local.ok_or(Errno::INVAL).and_then(|local| udp.send(local, request));
                Some(sent.map_or_else(Reply::Failed, |sent| {
                    effects.sent.extend(sent);
                    Reply::Done(request.bytes.len())
                }))
            }
            (What::Listener { backlog, .. }, Operation::Accept) => {
                let child = backlog.pop_front()?;
                let from = match self.sockets.get(&child).map(|child| &child.what) {
                    Some(What::Stream(stream)) => stream.remote(),
                    _ => None,
                };
                Some(Reply::Accepted(child, from))
            }
            (What::Stream(stream), operation) => stream.answer(number, operation, request, effects),
            (What::Unix(unix), _) => {
                let other = unix.peer().and_then(|other| self.sockets.get_mut(&other));
                let other = other.and_then(|other| match &mut other.what {
                    What::Unix(other) => Some(other),
                    _ => None,
                });
                unix.answer(number, other, request)
            }
            _ => Some(Reply::Failed(Errno::OPNOTSUPP)),
        }
    }

    /// Something has come.
    pub(super) fn arrive(&mut self, arrival: Arrival) -> Effects {
        let mut effects = Effects::default();
        let number = match arrival {
            Arrival::Datagram { from, to, class, bytes } => {
                for number in self.hearers(to) {
                    if let Ok(Socket { what: What::Udp(udp), .. }) = self.socket(number) {
                        udp.arrive(from, to, class, bytes.clone());
                    }
                    self.answer(number, &mut effects);
                }
                return effects;
            }
            Arrival::Syn { from, address, to } => match self.accept(from, address, to) {
                Some((listener, child)) => {
                    effects.sent.push(Arrival::SynAck { to: from, peer: child });
                    listener
                }
                None => return Effects::sends(Arrival::Refused { to: from }),
            },
            ref other => {
                let Some(number) = other.stream() else { return effects };
                match self.sockets.get_mut(&number).map(|socket| &mut socket.what) {
                    Some(What::Stream(stream)) => stream.arrive(arrival),
                    // It is closed: whoever still sends to it is told.
                    _ => {
                        if let Arrival::Bytes { from, .. } = other {
                            effects.sent.push(Arrival::Reset { to: *from });
                        }
                    }
                }
                number
            }
        };
        self.answer(number, &mut effects);
        effects
    }

    /// A connection comes in: who listens there, and its end of it.
    fn accept(&mut self, from: u32, address: SocketAddr, to: SocketAddr) -> Option<(u32, u32)> {
        let listener = self.at(false, to)?;
        match &self.sockets.get(&listener)?.what {
            What::Listener { backlog, most, .. } if backlog.len() < *most => {}
            _ => return None,
        }
        let child = self.add(What::Stream(Stream::connected(address, from)), to.is_ipv6(), Some(to));
        if let What::Listener { backlog, .. } = &mut self.sockets.get_mut(&listener)?.what {
            backlog.push_back(child);
        }
        Some((listener, child))
    }

    /// A connection that could not be accepted is the next one again, for whoever waits for one.
    pub(super) fn put_back(&mut self, listener: u32, child: u32) -> Effects {
        let Some(What::Listener { backlog, .. }) = self.sockets.get_mut(&listener).map(|it| &mut it.what)
        else {
            return self.close(child);
        };
        backlog.push_front(child);
        let mut effects = Effects::default();
        self.answer(listener, &mut effects);
        effects
    }

    /// It does not go through for now.
    pub(super) fn block(&mut self, arrival: Arrival) {
        self.blocked.push(arrival);
    }

    /// What did not go through.
    pub(super) fn unblock(&mut self) -> Vec<Arrival> {
        std::mem::take(&mut self.blocked)
    }

    /// When something arrives that is sent to arrive then, but not ahead of what was sent before.
    pub(super) fn in_order(&mut self, arrival: &Arrival, at: Instant) -> Instant {
        let Some(stream) = arrival.stream() else { return at };
        let last = self.last.entry(stream).or_insert(at);
        *last = at.max(*last);
        *last
    }
}
