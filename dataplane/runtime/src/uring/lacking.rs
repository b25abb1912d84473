//! Which operations of the ring there are, asked once; and what is done without those that there are not.
//!
//! Keeps true: what is lacking is polled in the ring and then tried by its system call; of a file, where there is nothing to be
//! polled, it is done when it is begun, on the calling thread.

use super::Uring;
use crate::driver::{Flight, Operation};
use io_uring::opcode;
use io_uring::register::Probe;

/// What is used, by number and name.
const USED: [(u8, &str); 12] = [
    (opcode::Accept::CODE, "accept"),
    (opcode::Connect::CODE, "connect"),
    (opcode::Recv::CODE, "recv"),
    (opcode::RecvMsg::CODE, "recvmsg"),
    (opcode::Send::CODE, "send"),
    (opcode::SendMsg::CODE, "sendmsg"),
    (opcode::Read::CODE, "read"),
    (opcode::Readv::CODE, "readv"),
    (opcode::Write::CODE, "write"),
    (opcode::Writev::CODE, "writev"),
    (opcode::Fsync::CODE, "fsync"),
    (opcode::Splice::CODE, "splice"),
];

/// Their names.
pub(super) const NAMES: [&str; USED.len()] = {
    let mut names = [""; USED.len()];
    let mut at = 0;
    while at < USED.len() {
        names[at] = USED[at].1;
        at += 1;
    }
    names
};

/// See the module.
#[derive(Debug)]
pub(super) struct Lacking(Vec<(u8, &'static str)>);

impl Lacking {
    /// What the kernel says, and what is to be done without.
    pub(super) fn new(probe: &Probe, without: &[&str]) -> Self {
        let lacks = |(code, name): &(u8, &'static str)| !probe.is_supported(*code) || without.contains(name);
        Self(USED.into_iter().filter(lacks).collect())
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|(_, name)| *name)
    }

    /// Whether the ring only says when it can be tried. Not all that has no positions waits in a ring, some of it gives EAGAIN;
    /// but all of it can be polled.
    pub(super) fn polls(&self, flight: &Flight<Uring>) -> bool {
        let code = match flight.operation {
            Operation::Accept => opcode::Accept::CODE,
            Operation::Connect => opcode::Connect::CODE,
            Operation::Receive => opcode::Recv::CODE,
            Operation::ReceiveFrom | Operation::ReceiveMessage | Operation::ReceivePassed => {
                opcode::RecvMsg::CODE
            }
            Operation::Send(_) if flight.is_plain() => opcode::Send::CODE,
            Operation::Send(_) => opcode::SendMsg::CODE,
            Operation::Read(_) => opcode::Read::CODE,
            Operation::ReadVectored(_) => opcode::Readv::CODE,
            Operation::Write { .. } => opcode::Write::CODE,
            Operation::WriteVectored(_) => opcode::Writev::CODE,
            Operation::Sync { .. } => opcode::Fsync::CODE,
            Operation::Splice { at: Some(_), .. } => opcode::Splice::CODE,
            Operation::ReadNext
            | Operation::WriteNext(_)
            | Operation::Readable
            | Operation::Splice { at: None, .. } => return true,
        };
        self.0.iter().any(|(lacking, _)| *lacking == code)
    }
}
