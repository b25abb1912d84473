//! What the control process and the data plane say to each other.
//!
//! Control holds every privilege, the data plane holds none; this crate is the whole of what passes between them:
//!
//! * [`fd`]: a socket that keeps message bounds and carries descriptors;
//! * [`shm`]: memory that both map, sealed so that neither can pull it away from under the other;
//! * [`fill`]: the first frames of an AF_XDP fill ring, which control places before it binds the socket;
//! * [`ring`]: an io_uring for one queue, which control makes and the data plane uses;
//! * [`message`]: the messages, each checked when it is decoded;
//! * [`stats`]: the counters, published so that a crash at any instruction leaves them whole.
//!
//! Either side may be hostile to the other as far as this crate goes: nothing that a peer sends or writes makes the
//! reader panic, spin for ever, allocate without bound or fault.

#![deny(unsafe_code)]

#[allow(unsafe_code)]
pub mod fd;
pub mod fill;
pub mod message;
#[allow(unsafe_code)]
pub mod ring;
#[allow(unsafe_code)]
pub mod shm;
pub mod stats;
