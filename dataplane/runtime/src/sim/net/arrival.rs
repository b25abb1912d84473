//! What is under way to sockets, and what one thing that happens leads to.

use crate::sim::Reply;
use std::net::SocketAddr;

/// What comes to a socket.
#[derive(Clone, Debug)]
pub(in crate::sim) enum Arrival {
    Datagram {
        from: SocketAddr,
        to: SocketAddr,
        class: u8,
        bytes: Vec<u8>,
    },
    /// Somebody wants to connect.
    Syn {
        from: u32,
        address: SocketAddr,
        to: SocketAddr,
    },
    /// They are connected.
    SynAck {
        to: u32,
        peer: u32,
    },
    Refused {
        to: u32,
    },
    Bytes {
        from: u32,
        to: u32,
        bytes: Vec<u8>,
    },
    /// So many bytes more have room.
    Room {
        to: u32,
        bytes: usize,
    },
    Fin {
        to: u32,
    },
    Reset {
        to: u32,
    },
}

impl Arrival {
    /// The stream it goes to.
    pub(super) fn stream(&self) -> Option<u32> {
        match self {
            Self::Datagram { .. } | Self::Syn { .. } => None,
            Self::SynAck { to, .. } | Self::Refused { to } | Self::Bytes { to, .. } => Some(*to),
            Self::Room { to, .. } | Self::Fin { to } | Self::Reset { to } => Some(*to),
        }
    }
}

/// What is to be answered, by flight, and to be sent.
#[derive(Default)]
pub(in crate::sim) struct Effects {
    pub(in crate::sim) answers: Vec<(u32, Reply)>,
    pub(in crate::sim) sent: Vec<Arrival>,
}

impl Effects {
    pub(super) fn extend(&mut self, more: Self) {
        self.answers.extend(more.answers);
        self.sent.extend(more.sent);
    }

    pub(super) fn sends(arrival: Arrival) -> Self {
        Self { answers: Vec::new(), sent: vec![arrival] }
    }
}
